/* SPDX-License-Identifier: Apache-2.0 */
/* The body of far's vector variants, over far_panel.h and one of far_top_f32.h and far_top_bf16.h (no include guard:
 * each variant includes it once). */

static int64_t tokens_at_once(const fur_far_layout *l)
{
    int64_t fit = LOWER_FLOATS / l->lower / PANEL * PANEL;
    return fur_max_i64(PANEL, fur_min_i64(MOST_TOKENS, fit));
}

static int64_t scratch_floats(const fur_far_layout *l)
{
    int64_t tokens = tokens_at_once(l);
    return fur_max_i64(panel_floats(l), (l->lower + SUM_BLOCK + 1) * tokens + sum_words(l, tokens));
}

/* ---- states and features ----------------------------------------------------------------------------------------- */

/* u = S phi */
static void read_panel(const fur_far_call *call, const float *state_RE, const panel *p)
{
    const fur_far_layout *l = &call->layout;
    product(0, l->columns, state_RE, 1, l->columns, p->lower, l->lower, p->u);
    read_top(call, state_RE, p);
}

/* Through a slice's features m in [from, to), whose gradient is dphi: that by x_a is returned in by_x, that of the
 * features of one degree less is added to dlower. */
FUR_ALWAYS_INLINE void slice_backward(const fur_far_slice *s, int64_t from, int64_t to, const panel *p,
                                      const float *dphi, V by_x[TILE_VECTORS])
{
    const float *lower = p->lower + (s->source + from - s->start) * PANEL;
    float *dlower = p->dlower + (s->source + from - s->start) * PANEL, *dx = p->dx + s->variable * PANEL;
    V factor[TILE_VECTORS];
    FUR_UNROLL
    for (int j = 0; j < TILE_VECTORS; j++) {
        factor[j] = vload(p->x + s->variable * PANEL + j * VL);
        by_x[j] = vset(0.0f);
    }
    for (int64_t i = 0; i < (to - from) * PANEL; i += PANEL) {
        FUR_UNROLL
        for (int j = 0; j < TILE_VECTORS; j++) {
            V d = vload(dphi + i + j * VL);
            by_x[j] = vfma(d, vload(lower + i + j * VL), by_x[j]);
            vstore(dlower + i + j * VL, vfma(d, factor[j], vload(dlower + i + j * VL)));
        }
    }
    FUR_UNROLL
    for (int j = 0; j < TILE_VECTORS; j++)
        vstore(dx + j * VL, vadd(vload(dx + j * VL), by_x[j]));
}

/* dx = (d phi)^T S^T y, inner = phi . S^T y */
static void gradient_panel(const fur_far_call *call, const float *state_RE, panel *p)
{
    const fur_far_layout *l = &call->layout;
    V inner[TILE_VECTORS], by_x[TILE_VECTORS];
    memset(p->dx, 0, (size_t)(l->dim * PANEL) * sizeof(float));
    product(0, l->lower, state_RE, l->columns, 1, p->y, l->columns, p->dlower);
    FUR_UNROLL
    for (int j = 0; j < TILE_VECTORS; j++) {
        inner[j] = vset(0.0f);
        for (int64_t m = 0; m < l->lower; m++)
            inner[j] = vfma(vload(p->lower + m * PANEL + j * VL), vload(p->dlower + m * PANEL + j * VL), inner[j]);
    }
    gradient_pack(l, p);
    int64_t slice = l->top_slice;
    for (int64_t first = l->lower; first < l->features; first += BLOCK) {
        int64_t end = fur_min_i64(first + BLOCK, l->features);
        gradient_top(call, state_RE, p, first, end - first);
        for (int64_t m = first; m < end;) {
            const fur_far_slice *s = &l->slices[slice];
            int64_t to = fur_min_i64(s->start + s->length, end);
            slice_backward(s, m, to, p, p->top + (m - first) * PANEL, by_x);
            FUR_UNROLL
            for (int j = 0; j < TILE_VECTORS; j++)
                inner[j] = vfma(vload(p->x + s->variable * PANEL + j * VL), by_x[j], inner[j]);
            m = to;
            slice += m == s->start + s->length;
        }
    }
    for (slice = l->top_slice - 1; slice >= 0; slice--) {
        const fur_far_slice *s = &l->slices[slice];
        slice_backward(s, s->start, s->start + s->length, p, p->dlower + s->start * PANEL, by_x);
    }
    FUR_UNROLL
    for (int j = 0; j < TILE_VECTORS; j++)
        vstore(p->inner + j * VL, inner[j]);
}

/* x_TD: panel after panel */
static void add(const fur_far_layout *l, int64_t from, int64_t to, int64_t count, const float *x_TD, const float *y_TE,
                const float *w_R, float *state_RE, float *scratch)
{
    int64_t most = tokens_at_once(l);
    for (int64_t t = 0; t < count; t += most) {
        float *lower = scratch, *top = lower + l->lower * most, *last = top + SUM_BLOCK * most;
        const float *x = x_TD + t * l->dim;
        token_sum s = {.tokens = fur_min_i64(most, count - t),
                       .ld = most,
                       .y_TE = y_TE + t * l->columns,
                       .last_T = last,
                       .w_R = w_R,
                       .state_RE = state_RE,
                       .columns = l->columns,
                       .half = l->features * l->columns};
        for (int64_t i = 0; i < most; i++)
            last[i] = i < s.tokens ? s.y_TE[i * l->columns + l->value_dim] : 0.0f;
        sum_pack(l, &s, (uint32_t *)(void *)(last + most));
        for (int64_t i = 0; i < s.tokens; i += PANEL)
            form_lower(l, x + i * l->dim, lower + i, most);
        if (from < l->lower)
            sum_rows(&s, 0, l->lower, lower);
        for (int64_t m = fur_max_i64(from, l->lower); m < to; m += SUM_BLOCK)
            sum_top(l, &s, m, fur_min_i64(SUM_BLOCK, to - m), x, lower, top);
    }
}

/* ---- rows and panels --------------------------------------------------------------------------------------------- */

static void turn_in(const float *const *rows, int64_t lanes, int64_t depth, float *out)
{
    if (lanes < PANEL)
        memset(out, 0, (size_t)(depth * PANEL) * sizeof *out);
    pack_panel(rows, lanes, depth, 1.0f, out);
}

/* rows[lane][.] of `depth` floats at out + lane * depth, times scale[lane] */
static void turn_out(const float *from, const float *scale, int64_t lanes, int64_t depth, float *out)
{
    float *rows[ROWS];
    for (int64_t i = 0; i < lanes; i++)
        rows[i] = out + i * depth;
    unpack_panel(from, scale, lanes, depth, rows);
}

/* Asks memory for rows of `bytes` bytes, `ahead` rows behind those of the panel (0: the panel's own, to be added to),
 * so that they come while products run. No base: none. */
static void ask_for(const panel *p, const void *base, int64_t ahead, size_t bytes)
{
    for (int64_t i = 0; i < p->lanes && base; i++)
        for (size_t at = 0; at < bytes; at += 64)
            _mm_prefetch((const char *)base + (size_t)(p->row[i] + ahead) * bytes + at, _MM_HINT_T1);
}

/* to = keep to + from */
static void merge_row(float *to, const float *from, float keep, int64_t count)
{
    int64_t d = 0;
    for (; d + VL <= count; d += VL)
        vstore(to + d, vfma(vset(keep), vload(to + d), vload(from + d)));
    if (d < count)
        vstore_part(to + d, count - d,
                    vfma(vset(keep), vload_part(to + d, count - d), vload_part(from + d, count - d)));
}

/* Raw rows in p->unit become unit rows, and centred ones in p->x. `factor`: of rows that are not bounded. */
static void centre(const fur_far_call *call, float factor, const float *mean_D, panel *p)
{
    int64_t D = call->layout.dim;
    for (int j = 0; j < TILE_VECTORS; j++) {
        V squares = vset(FUR_FAR_SQUARE_EPS), r = vset(factor);
        for (int64_t d = 0; d < D; d++) {
            V a = vload(p->unit + d * PANEL + j * VL);
            squares = vfma(a, a, squares);
        }
        if (call->far->bound > 0)
            r = vdiv(vset(1.0f), vsqrt(squares));
        vstore(p->reciprocal + j * VL, r);
        for (int64_t d = 0; d < D; d++) {
            float *at = p->unit + d * PANEL + j * VL;
            V unit = vmul(r, vload(at));
            vstore(at, unit);
            vstore(p->x + d * PANEL + j * VL, vsub(unit, vset(mean_D[d])));
        }
    }
}

/* factor mean . rows, added to out [PANEL] */
static void add_along(const fur_far_call *call, const float *mean_D, const float *rows, float *out)
{
    float factor = fur_far_factor(call->far);
    for (int j = 0; j < TILE_VECTORS; j++) {
        V sum = vset(0.0f);
        for (int64_t d = 0; d < call->layout.dim; d++)
            sum = vfma(vset(mean_D[d]), vload(rows + d * PANEL + j * VL), sum);
        vstore(out + j * VL, vfma(vset(factor), sum, vload(out + j * VL)));
    }
}

/* dx by the centred row becomes that by the raw one. */
static void uncentre(const fur_far_call *call, const float *other_mean_D, const panel *p)
{
    int64_t D = call->layout.dim;
    float factor = fur_far_factor(call->far);
    for (int j = 0; j < TILE_VECTORS; j++) {
        V inner = vmul(vset(factor), vload(p->inner + j * VL)), r = vload(p->reciprocal + j * VL), along = vset(0.0f);
        for (int64_t d = 0; d < D; d++) {
            float *at = p->dx + d * PANEL + j * VL;
            V dx = vfma(vset(other_mean_D[d]), inner, vload(at));
            vstore(at, dx);
            along = vfma(dx, vload(p->unit + d * PANEL + j * VL), along);
        }
        if (!(call->far->bound > 0))
            along = vset(0.0f);
        for (int64_t d = 0; d < D; d++) {
            float *at = p->dx + d * PANEL + j * VL;
            vstore(at, vmul(r, vfnma(along, vload(p->unit + d * PANEL + j * VL), vload(at))));
        }
    }
}

static const float ones[ROWS] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
                                 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};

/* ---- keys -------------------------------------------------------------------------------------------------------- */

/* x = k~, y = a [v, 1] of a panel; a */
static void key_panel(const fur_far_call *call, int64_t kv_head, int64_t first, panel *p, float a[ROWS])
{
    int64_t D = call->layout.dim, DV = call->layout.value_dim;
    const fur_far_keys *keys = call->keys;
    const float *rows[ROWS];
    /* rows widened from bf16 lie in p->rows, until they are turned */
    for (int64_t i = 0; i < p->lanes; i++) {
        p->row[i] = fur_far_key_row(call, kv_head, first + i);
        rows[i] = fur_bf16_row(keys->k_SKD, keys->k_bf16_SKD, p->row[i] * D, D, p->rows + i * D);
    }
    turn_in(rows, p->lanes, D, p->unit);
    for (int64_t i = 0; i < p->lanes; i++)
        rows[i] = fur_bf16_row(keys->v_SKV, keys->v_bf16_SKV, p->row[i] * DV, DV, p->rows + i * DV);
    turn_in(rows, p->lanes, DV, p->y);
    if (first + (int64_t)2 * PANEL <= keys->count) {
        int64_t ahead = PANEL * call->far->kv_heads;
        ask_for(p, keys->k_SKD, ahead, (size_t)D * sizeof(float));
        ask_for(p, keys->v_SKV, ahead, (size_t)DV * sizeof(float));
        ask_for(p, keys->k_bf16_SKD, ahead, (size_t)D * sizeof(uint16_t));
        ask_for(p, keys->v_bf16_SKV, ahead, (size_t)DV * sizeof(uint16_t));
    }
    centre(call, 1.0f, call->far->key_mean_KD + kv_head * D, p);
    memset(a, 0, ROWS * sizeof *a);
    add_along(call, call->far->query_mean_KD + kv_head * D, p->x, a);
    for (int j = 0; j < TILE_VECTORS; j++) {
        V weight = vexp(vload(a + j * VL));
        vstore(a + j * VL, weight);
        for (int64_t d = 0; d < DV; d++) {
            float *at = p->y + d * PANEL + j * VL;
            vstore(at, vmul(weight, vload(at)));
        }
        vstore(p->y + DV * PANEL + j * VL, weight);
    }
}

static void keys(const fur_far_call *call, int64_t kv_head, int64_t first, int64_t count, float *x_TD, float *y_TE,
                 float *scratch)
{
    const fur_far_layout *l = &call->layout;
    for (int64_t t = 0; t < count; t += PANEL) {
        panel p;
        float a[ROWS] FUR_ALIGNED(64);
        panel_place(l, fur_min_i64(PANEL, count - t), scratch, &p);
        key_panel(call, kv_head, first + t, &p, a);
        memcpy(x_TD + t * l->dim, p.x, (size_t)(l->dim * PANEL) * sizeof *x_TD);
        turn_out(p.y, ones, p.lanes, l->columns, y_TE + t * l->columns);
    }
}

static void key_backward(const fur_far_call *call, int64_t kv_head, int64_t first, int64_t count, float *scratch)
{
    const fur_far_layout *l = &call->layout;
    const float *state = call->state_KRE + kv_head * fur_far_head_floats(l);
    for (int64_t t = 0; t < count; t += PANEL) {
        panel p;
        float a[ROWS] FUR_ALIGNED(64), sign[ROWS];
        panel_place(l, fur_min_i64(PANEL, count - t), scratch, &p);
        key_panel(call, kv_head, first + t, &p, a);
        ask_for(&p, call->keys->dk_SKD, 0, (size_t)l->dim * sizeof(float));
        ask_for(&p, call->keys->dv_SKV, 0, (size_t)l->value_dim * sizeof(float));
        form_lower(l, p.x, p.lower, PANEL);
        read_panel(call, state, &p);
        gradient_panel(call, state, &p);
        uncentre(call, call->far->query_mean_KD + kv_head * l->dim, &p);
        for (int64_t i = 0; i < p.lanes; i++) {
            sign[i] = call->sign;
            a[i] *= call->sign;
        }
        turn_out(p.u, a, p.lanes, l->value_dim, p.rows);
        for (int64_t i = 0; i < p.lanes; i++)
            merge_row(call->keys->dv_SKV + p.row[i] * l->value_dim, p.rows + i * l->value_dim, 1, l->value_dim);
        turn_out(p.dx, sign, p.lanes, l->dim, p.rows);
        for (int64_t i = 0; i < p.lanes; i++)
            merge_row(call->keys->dk_SKD + p.row[i] * l->dim, p.rows + i * l->dim, 1, l->dim);
    }
}

/* ---- queries ----------------------------------------------------------------------------------------------------- */

/* x = q~ of a panel; f */
static void query_panel(const fur_far_call *call, int64_t kv_head, int64_t begin, panel *p, float f[ROWS])
{
    int64_t D = call->layout.dim;
    const fur_far *far = call->far;
    const float *rows[ROWS];
    memset(f, 0, ROWS * sizeof *f);
    for (int64_t i = 0; i < p->lanes; i++) {
        p->row[i] = fur_far_query_row(call, kv_head, begin + i);
        rows[i] = call->queries->q_THD + p->row[i] * D;
        if (far->bias_H)
            f[i] = far->bias_H[kv_head * call->group + (begin + i) % call->group];
    }
    turn_in(rows, p->lanes, D, p->unit);
    if (PANEL % call->group == 0 && begin + (int64_t)2 * PANEL <= call->queries->count * call->group) {
        int64_t ahead = PANEL / call->group * far->heads, values = call->layout.value_dim;
        ask_for(p, call->queries->q_THD, ahead, (size_t)D * sizeof(float));
        ask_for(p, call->queries->o_THV, ahead, (size_t)values * sizeof(float));
        ask_for(p, call->queries->do_THV, ahead, (size_t)values * sizeof(float));
    }
    centre(call, far->scale, far->query_mean_KD + kv_head * D, p);
    add_along(call, far->key_mean_KD + kv_head * D, p->unit, f);
}

/* lse of the panel's rows */
static void get_statistics(const fur_far_call *call, const panel *p, float lse[ROWS])
{
    memset(lse, 0, ROWS * sizeof *lse);
    for (int64_t i = 0; i < p->lanes; i++)
        lse[i] = call->queries->lse_TH[p->row[i]];
}

static void query(const fur_far_call *call, int64_t kv_head, int64_t begin, int64_t end, float *scratch)
{
    const fur_far_layout *l = &call->layout;
    const float *state = call->state_KRE + kv_head * fur_far_head_floats(l);
    for (int64_t v = begin; v < end; v += PANEL) {
        panel p;
        float f[ROWS] FUR_ALIGNED(64), near[ROWS] FUR_ALIGNED(64), most[ROWS] FUR_ALIGNED(64), z[ROWS] FUR_ALIGNED(64);
        panel_place(l, fur_min_i64(PANEL, end - v), scratch, &p);
        query_panel(call, kv_head, v, &p, f);
        get_statistics(call, &p, near);
        form_lower(l, p.x, p.lower, PANEL);
        read_panel(call, state, &p);
        for (int j = 0; j < TILE_VECTORS; j++) {
            V a = vload(near + j * VL), b = vload(f + j * VL), m = vmax(a, b);
            V near_weight = vexp(vsub(a, m)), far_weight = vexp(vsub(b, m));
            V sum = vfma(far_weight, vload(p.u + l->value_dim * PANEL + j * VL), near_weight);
            vstore(most + j * VL, m);
            vstore(z + j * VL, sum);
            vstore(near + j * VL, vdiv(near_weight, sum));
            vstore(f + j * VL, vdiv(far_weight, sum));
        }
        turn_out(p.u, f, p.lanes, l->value_dim, p.rows);
        for (int64_t i = 0; i < p.lanes; i++) {
            merge_row(call->queries->o_THV + p.row[i] * l->value_dim, p.rows + i * l->value_dim, near[i], l->value_dim);
            call->queries->lse_TH[p.row[i]] = z[i] > 0 ? most[i] + logf(z[i]) : NAN;
        }
    }
}

/* x = q~, y = dU of a panel */
static void query_backward_panel(const fur_far_call *call, int64_t kv_head, int64_t begin, panel *p)
{
    int64_t DV = call->layout.value_dim;
    float f[ROWS] FUR_ALIGNED(64), lse[ROWS] FUR_ALIGNED(64);
    const float *rows[ROWS];
    query_panel(call, kv_head, begin, p, f);
    get_statistics(call, p, lse);
    for (int64_t i = 0; i < p->lanes; i++)
        rows[i] = call->queries->do_THV + p->row[i] * DV;
    turn_in(rows, p->lanes, DV, p->y);
    for (int64_t i = 0; i < p->lanes; i++)
        rows[i] = call->queries->o_THV + p->row[i] * DV;
    turn_in(rows, p->lanes, DV, p->u);
    for (int j = 0; j < TILE_VECTORS; j++) {
        V beta = vexp(vsub(vload(f + j * VL), vload(lse + j * VL))), delta = vset(0.0f);
        for (int64_t d = 0; d < DV; d++) {
            float *at = p->y + d * PANEL + j * VL;
            V d_o = vload(at);
            delta = vfma(d_o, vload(p->u + d * PANEL + j * VL), delta);
            vstore(at, vmul(beta, d_o));
        }
        vstore(p->y + DV * PANEL + j * VL, vsub(vset(0.0f), vmul(beta, delta)));
    }
}

static void queries(const fur_far_call *call, int64_t kv_head, int64_t begin, int64_t end, float *x_TD, float *y_TE,
                    float *scratch)
{
    const fur_far_layout *l = &call->layout;
    for (int64_t v = begin; v < end; v += PANEL) {
        panel p;
        panel_place(l, fur_min_i64(PANEL, end - v), scratch, &p);
        query_backward_panel(call, kv_head, v, &p);
        memcpy(x_TD + (v - begin) * l->dim, p.x, (size_t)(l->dim * PANEL) * sizeof *x_TD);
        turn_out(p.y, ones, p.lanes, l->columns, y_TE + (v - begin) * l->columns);
    }
}

static void query_backward(const fur_far_call *call, int64_t kv_head, int64_t begin, int64_t end, float *df_T,
                           float *scratch)
{
    const fur_far_layout *l = &call->layout;
    for (int64_t v = begin; v < end; v += PANEL) {
        panel p;
        panel_place(l, fur_min_i64(PANEL, end - v), scratch, &p);
        query_backward_panel(call, kv_head, v, &p);
        ask_for(&p, call->queries->dq_THD, 0, (size_t)l->dim * sizeof(float));
        form_lower(l, p.x, p.lower, PANEL);
        gradient_panel(call, call->state_KRE + kv_head * fur_far_head_floats(l), &p);
        uncentre(call, call->far->key_mean_KD + kv_head * l->dim, &p);
        turn_out(p.dx, ones, p.lanes, l->dim, p.rows);
        for (int64_t i = 0; i < p.lanes; i++) {
            merge_row(call->queries->dq_THD + p.row[i] * l->dim, p.rows + i * l->dim, 1, l->dim);
            df_T[v - begin + i] = p.inner[i];
        }
    }
}

#define FAR_KERNEL                                                                                                     \
    {                                                                                                                  \
        .scratch_floats = scratch_floats, .keys = keys, .add = add, .query = query, .queries = queries,                \
        .query_backward = query_backward, .key_backward = key_backward, FAR_PACKING                                    \
    }
