/* SPDX-License-Identifier: Apache-2.0 */
/* Forward of the vector variants; part of attention_simd.h. One task: up to FUR_ATTENTION_ROWS virtual rows, in panels
 * of PANEL lanes, against the blocks of its keys in order, with running maximum m (in units of log 2) and sum l. */

/* One panel against one key block. */
typedef struct panel {
    const float *k, *v;      /* block copies, rows of ld_block floats */
    int64_t depth;           /* head_dim */
    const float *q;          /* [depth][PANEL], times scale * log2 e */
    float *o;                /* [depth][PANEL] */
    float *m, *l;            /* [PANEL] */
    float *p;                /* [KEYS][PANEL]: scores, then probabilities */
    float *factor;           /* [PANEL]: what o and l are multiplied by when m grows */
    const float *first_lane; /* of each key from `full` on: the first lane that sees it */
    int64_t full, visible;   /* keys that all lanes see; that some lane sees */
} panel;

static int64_t ld_block(int64_t depth)
{
    return fur_round_up(depth, 16) + PAD;
}

/* S^T, masked, and its maximum into m */
FUR_ALWAYS_INLINE void panel_scores(int rows, int vectors, const panel *x)
{
    int64_t ld = ld_block(x->depth);
    for (int64_t j = 0; j < x->visible; j += rows) {
        tile c;
        tile_zero(rows, vectors, c);
        tile_multiply(rows, vectors, c, x->k + j * ld, ld, 1, x->q, PANEL, 0, x->depth);
        if (j + rows > x->full) {
            FUR_UNROLL
            for (int i = 0; i < rows; i++) {
                FUR_UNROLL
                for (int n = 0; n < vectors; n++)
                    c[i][n] = vfrom(vload(lane_numbers + n * VL), vset(x->first_lane[j + i]), c[i][n], vset(-INFINITY));
            }
        }
        FUR_UNROLL
        for (int n = 0; n < vectors; n++) {
            V top = vload(x->m + n * VL);
            FUR_UNROLL
            for (int i = 0; i < rows; i++)
                top = vmax(top, c[i][n]);
            vstore(x->m + n * VL, top);
        }
        tile_store(rows, vectors, c, x->p + j * PANEL, PANEL);
    }
}

/* P^T = 2^(S^T - m), l and the factor of what was summed under the maximum before */
FUR_ALWAYS_INLINE void panel_exponentials(int vectors, const panel *x, const V *before)
{
    V m[TILE_VECTORS], sum[TILE_VECTORS];
    FUR_UNROLL
    for (int n = 0; n < vectors; n++) {
        /* a lane that has seen nothing has m = -infinity: -infinity - (-FLT_MAX) gives P = 0 where plain m gave NaN */
        m[n] = vmax(vset(-FLT_MAX), vload(x->m + n * VL));
        sum[n] = vset(0.0f);
    }
    for (int64_t j = 0; j < x->visible; j++) {
        FUR_UNROLL
        for (int n = 0; n < vectors; n++) {
            float *at = x->p + j * PANEL + n * VL;
            V p = vexp2(vsub(vload(at), m[n]));
            sum[n] = vadd(sum[n], p);
            vstore(at, p);
        }
    }
    FUR_UNROLL
    for (int n = 0; n < vectors; n++) {
        V factor = vexp2(vsub(before[n], m[n]));
        vstore(x->factor + n * VL, factor);
        vstore(x->l + n * VL, vfma(vload(x->l + n * VL), factor, sum[n]));
    }
}

/* O^T = O^T factor + V^T P^T, rows [d, d + rows) */
FUR_ALWAYS_INLINE void panel_output(int rows, int vectors, const panel *x, int64_t d)
{
    int64_t ld = ld_block(x->depth);
    tile c;
    tile_load(rows, vectors, c, x->o + d * PANEL, PANEL);
    FUR_UNROLL
    for (int n = 0; n < vectors; n++) {
        V factor = vload(x->factor + n * VL);
        FUR_UNROLL
        for (int i = 0; i < rows; i++)
            c[i][n] = vmul(c[i][n], factor);
    }
    tile_multiply(rows, vectors, c, x->v + d, 1, ld, x->p, PANEL, 0, x->full);
    tile_multiply_lanes(rows, vectors, c, x->v + d, 1, ld, x->p, PANEL, x->full, x->visible, x->first_lane);
    tile_store(rows, vectors, c, x->o + d * PANEL, PANEL);
}

FUR_ALWAYS_INLINE void panel_attend(int rows, int vectors, const panel *x)
{
    V before[TILE_VECTORS];
    FUR_UNROLL
    for (int n = 0; n < vectors; n++)
        before[n] = vload(x->m + n * VL);
    panel_scores(rows, vectors, x);
    panel_exponentials(vectors, x, before);
    int64_t d = 0;
    for (; x->depth - d > 4; d += rows)
        panel_output(rows, vectors, x, d);
    if (d < x->depth)
        panel_output(4, vectors, x, d);
}

static FUR_NOINLINE void panel_attend_1(const panel *x)
{
    panel_attend(TILE_ROWS(1), 1, x);
}
static FUR_NOINLINE void panel_attend_2(const panel *x)
{
    panel_attend(TILE_ROWS(2), 2, x);
}
#if TILE_VECTORS == 4
static FUR_NOINLINE void panel_attend_3(const panel *x)
{
    panel_attend(TILE_ROWS(3), 3, x);
}
static FUR_NOINLINE void panel_attend_4(const panel *x)
{
    panel_attend(TILE_ROWS(4), 4, x);
}
#endif

static void (*const panel_attend_of[])(const panel *) = {NULL, panel_attend_1, panel_attend_2,
#if TILE_VECTORS == 4
                                                         panel_attend_3, panel_attend_4
#endif
};

/* ---- one task ---------------------------------------------------------------------------------------------------- */

enum { PANELS = FUR_ATTENTION_ROWS / PANEL };

/* q, o of each panel; then what the panels share */
static int64_t panel_floats(int64_t depth)
{
    return (depth + LONGEST_TILE) * PANEL;
}

static int64_t forward_floats(int64_t head_dim)
{
    return panel_floats(head_dim) * 2 * PANELS + ld_block(head_dim) * 2 * KEYS + (int64_t)KEYS * PANEL;
}

static void pack_queries(const fur_attention_call *call, const fur_attention_rows *rows, int64_t v, int64_t lanes,
                         float *to)
{
    const fur_attention_args *a = call->args;
    const float *from[PANEL];
    for (int64_t i = 0; i < lanes; i++)
        from[i] = a->q_THD + fur_attention_offset(call, rows, v + i, a->ldq);
    pack_panel(from, lanes, a->head_dim, a->scale * LOG2_E, to);
}

static void write_panel(const fur_attention_call *call, const fur_attention_rows *rows, int64_t v, int64_t lanes,
                        const float *o, const float *m, const float *l)
{
    const fur_attention_args *a = call->args;
    float inverse[PANEL], *to[PANEL];
    for (int64_t i = 0; i < lanes; i++) {
        int blind = m[i] == -INFINITY;
        inverse[i] = blind ? 0.0f : 1.0f / l[i];
        to[i] = a->o_THD + fur_attention_offset(call, rows, v + i, a->ldo);
        *fur_attention_lse(call, rows, v + i) = blind ? -INFINITY : (float)((double)m[i] * LN_2 + (double)logf(l[i]));
    }
    unpack_panel(o, inverse, lanes, a->head_dim, to);
}

/* Which keys of the block the lanes [v, v + lanes) see. */
static void set_visible(const fur_attention_call *call, const fur_query_piece *piece, const key_block *block, int64_t v,
                        int64_t lanes, float *first_lane, panel *x)
{
    x->full = x->visible = block->count;
    while (x->visible > 0 && fur_attention_first_seeing(call, piece, block->position[x->visible - 1]) >= v + lanes)
        x->visible--;
    x->full = x->visible;
    while (x->full > 0 && fur_attention_first_seeing(call, piece, block->position[x->full - 1]) > v)
        x->full--;
    /* the tile that holds key `full` is masked as a whole; its rows after the last visible key are no keys */
    int64_t end = fur_min_i64(KEYS, x->visible + LONGEST_TILE);
    for (int64_t j = fur_max_i64(0, x->full - LONGEST_TILE); j < end; j++) {
        int64_t first = j < x->full ? 0 : PANEL;
        if (j >= x->full && j < x->visible)
            first = fur_attention_first_seeing(call, piece, block->position[j]) - v;
        first_lane[j] = (float)first;
    }
}

static void forward(const fur_attention_call *call, const fur_attention_rows *rows, void *scratch)
{
    const fur_attention_args *a = call->args;
    int64_t depth = a->head_dim, ld = ld_block(depth), at = rows->kv_head * depth;
    int64_t panels = fur_div_up(rows->end - rows->begin, PANEL);
    float m[FUR_ATTENTION_ROWS], l[FUR_ATTENTION_ROWS], factor[PANEL], first_lane[KEYS];
    float *k = scratch, *v = k + KEYS * ld, *p = v + KEYS * ld, *q = p + (int64_t)KEYS * PANEL;
    float *o = q + PANELS * panel_floats(depth);

    for (int64_t n = 0; n < panels; n++) {
        int64_t first = rows->begin + n * PANEL;
        pack_queries(call, rows, first, fur_min_i64(PANEL, rows->end - first), q + n * panel_floats(depth));
        memset(o + n * panel_floats(depth), 0, (size_t)panel_floats(depth) * sizeof(float));
        for (int i = 0; i < PANEL; i++) {
            m[n * PANEL + i] = -INFINITY;
            l[n * PANEL + i] = 0;
        }
    }
    key_cursor cursor = {.piece = rows->piece};
    key_block block;
    int64_t last = a->causal ? fur_attention_position(call, rows->piece, rows->end - 1) : INT64_MAX;
    while (next_block(&cursor, last, &block) > 0) {
        for (int64_t j = 0; j < block.count; j++) {
            copy_row(k + j * ld, key_row(&block, j, a->ldk, at, depth, k + j * ld), depth);
            copy_row(v + j * ld, value_row(&block, j, a->ldk, at, depth, v + j * ld), depth);
        }
        for (int64_t n = 0; n < panels; n++) {
            int64_t first = rows->begin + n * PANEL, lanes = fur_min_i64(PANEL, rows->end - first);
            panel x = {.k = k,
                       .v = v,
                       .depth = depth,
                       .q = q + n * panel_floats(depth),
                       .o = o + n * panel_floats(depth),
                       .m = m + n * PANEL,
                       .l = l + n * PANEL,
                       .p = p,
                       .factor = factor,
                       .first_lane = first_lane};
            set_visible(call, rows->piece, &block, first, lanes, first_lane, &x);
            if (x.visible > 0)
                panel_attend_of[fur_div_up(lanes, VL)](&x);
        }
    }
    for (int64_t n = 0; n < panels; n++) {
        int64_t first = rows->begin + n * PANEL;
        write_panel(call, rows, first, fur_min_i64(PANEL, rows->end - first), o + n * panel_floats(depth),
                    m + n * PANEL, l + n * PANEL);
    }
}
