/* SPDX-License-Identifier: Apache-2.0 */
/* Forward with products of bf16; part of attention_bf16.h. One task: up to FUR_ATTENTION_ROWS virtual rows, in panels,
 * against the blocks of their keys in order, with running maximum m (in units of log 2) and sum l. */

enum { PANELS = FUR_ATTENTION_ROWS / PANEL };

typedef struct forward_scratch {
    uint32_t *k;                 /* rows of keys [FORWARD_KEYS + SPARE][stride_of(D)] */
    uint32_t *v, *v_T;           /* rows of values; their transpose [D + SPARE][stride_of(FORWARD_KEYS)] */
    uint32_t *v_safe, *v_T_safe; /* of values, without those that are not finite */
    uint32_t *part, *rows;       /* of transposing; of packing */
    uint32_t *p;                 /* [FORWARD_KEYS / 2][PANEL] */
    float *s;                    /* [FORWARD_KEYS + SPARE][PANEL] */
    uint32_t *q[PANELS];         /* [pairs_of(D)][PANEL] */
    float *o[PANELS];            /* [D + SPARE][PANEL] */
    float m[FUR_ATTENTION_ROWS], l[FUR_ATTENTION_ROWS];
    int finite; /* values of the block */
    key_block block;
    visibility seen;
} forward_scratch;

/* Words of it all. */
static int64_t place_forward(int64_t depth, void *scratch, forward_scratch *x)
{
    room space = {.base = scratch};
    int64_t rows = fur_round_up(depth, (int64_t)2 * DEPTH) + SPARE;
    x->k = take(&space, (FORWARD_KEYS + SPARE) * stride_of(depth));
    x->v = take(&space, FORWARD_KEYS * stride_of(depth));
    x->v_T = take(&space, rows * stride_of(FORWARD_KEYS));
    x->v_safe = take(&space, FORWARD_KEYS * stride_of(depth));
    x->v_T_safe = take(&space, rows * stride_of(FORWARD_KEYS));
    x->part = take(&space, (int64_t)DEPTH * 2 * pairs_of(depth));
    x->rows = take(&space, PANEL * stride_of(depth));
    x->p = take(&space, (int64_t)FORWARD_KEYS / 2 * PANEL);
    x->s = take_floats(&space, (int64_t)(FORWARD_KEYS + SPARE) * PANEL);
    for (int n = 0; n < PANELS; n++) {
        x->q[n] = take(&space, pairs_of(depth) * PANEL);
        x->o[n] = take_floats(&space, rows * PANEL);
    }
    return space.used;
}

static int64_t forward_floats(int64_t head_dim)
{
    forward_scratch unused;
    return place_forward(head_dim, NULL, &unused);
}

/* Score of key j in the lanes of one vector; -infinity where it is not seen */
FUR_ALWAYS_INLINE V score_at(const forward_scratch *x, int64_t j, int64_t n)
{
    V s = vload(x->s + j * PANEL + n);
    if (j < x->seen.full)
        return s;
    return vfrom(vload(lane_numbers + n), vset(x->seen.first_lane[j]), s, vset(-INFINITY));
}

/* P of the visible keys, rounded, in pairs; m, l and o of the panel brought up to date. */
static void softmax_panel(forward_scratch *x, int64_t panel, int64_t lanes, int64_t depth, float scale)
{
    float *m = x->m + panel * PANEL, *l = x->l + panel * PANEL, *o = x->o[panel];
    int64_t whole = fur_round_up(x->seen.visible, (int64_t)2 * DEPTH);
    const W ones = wset(0x3f803f80u);
    V zero = vset(0.0f);
    for (int64_t n = 0; n < lanes; n += VL) {
        V top = vset(-INFINITY), other = top;
        int64_t j = 0;
        for (; j + 2 <= x->seen.full; j += 2) {
            top = vmax(top, vload(x->s + j * PANEL + n));
            other = vmax(other, vload(x->s + (j + 1) * PANEL + n));
        }
        for (; j < x->seen.visible; j++)
            top = vmax(top, score_at(x, j, n));
        top = vmul(vmax(top, other), vset(scale));
        V before = vload(m + n), now = vwhere_greater(top, vadd(before, vset(LAZY)), top, before);
        /* a lane that has seen nothing has m = -infinity: with -FLT_MAX differences are numbers */
        V base = vmax(vset(-FLT_MAX), now), sum = zero;
        if (vany_greater(now, before)) {
            V factor = exp2_of(vsub(before, base));
            factor = vwhere_greater(now, before, factor, vset(1.0f));
            vstore(l + n, vmul(vload(l + n), factor));
            for (int64_t d = 0; d < depth; d++)
                vstore(o + d * PANEL + n, vmul(vload(o + d * PANEL + n), factor));
            vstore(m + n, now);
        }
        V shift = vsub(zero, base);
        for (j = 0; j + 2 <= x->seen.full; j += 2) {
            V first = exp2_of(vfma(vload(x->s + j * PANEL + n), vset(scale), shift));
            V second = exp2_of(vfma(vload(x->s + (j + 1) * PANEL + n), vset(scale), shift));
            W p = wround(first, second);
            sum = wdot(p, ones, sum);
            wstore(x->p + j / 2 * PANEL + n, p);
        }
        for (; j < whole; j += 2) {
            V pair[2];
            for (int64_t i = 0; i < 2; i++) {
                pair[i] = zero;
                if (j + i < x->seen.visible)
                    pair[i] = vfrom(vload(lane_numbers + n), vset(j + i < x->seen.full ? 0 : x->seen.first_lane[j + i]),
                                    exp2_of(vfma(vload(x->s + (j + i) * PANEL + n), vset(scale), shift)), zero);
            }
            W p = wround(pair[0], pair[1]);
            sum = wdot(p, ones, sum);
            wstore(x->p + j / 2 * PANEL + n, p);
        }
        vstore(l + n, vadd(vload(l + n), sum));
    }
}

/* o += V^T P^T where an invisible value may not be finite. */
static void output_guarded(const fur_attention_call *call, forward_scratch *x, int64_t panel, int64_t lanes,
                           int64_t count)
{
    int64_t depth = call->args->head_dim, ld = stride_of(depth), pairs = pairs_of(depth);
    unsigned char special[FORWARD_KEYS];
    copy_finite(x->v, ld, x->block.count, pairs, x->v_safe, special);
    transpose_rows(x->v_safe, ld, x->block.count, pairs, x->part, x->v_T_safe, stride_of(FORWARD_KEYS));
    block_product(depth, lanes, x->o[panel], PANEL, x->v_T_safe, stride_of(FORWARD_KEYS), x->p, PANEL,
                  pairs_of(x->seen.visible), 1);
    for (int64_t j = 0; j < x->seen.visible; j++)
        for (int64_t lane = special[j] ? first_lane_of(&x->seen, j) : count; lane < count; lane++)
            for (int64_t d = 0; d < depth; d++)
                x->o[panel][d * PANEL + lane] +=
                    half_of(x->p + j / 2 * PANEL + lane, j % 2) * half_of(x->v + j * ld, d);
}

static void attend(const fur_attention_call *call, const fur_attention_rows *rows, forward_scratch *x, int64_t panel)
{
    const fur_attention_args *a = call->args;
    int64_t first = rows->begin + panel * PANEL, count = fur_min_i64(PANEL, rows->end - first);
    int64_t lanes = fur_round_up(count, 16), depth = a->head_dim;
    set_visible(call, rows->piece, &x->block, first, count, &x->seen);
    if (x->seen.visible == 0)
        return;
    block_product(x->seen.visible, lanes, x->s, PANEL, x->k, stride_of(depth), x->q[panel], PANEL, pairs_of(depth), 0);
    softmax_panel(x, panel, lanes, depth, fabsf(a->scale) * LOG2_E);
    if (!x->finite && x->seen.full < x->seen.visible)
        output_guarded(call, x, panel, lanes, count);
    else
        block_product(depth, lanes, x->o[panel], PANEL, x->v_T, stride_of(FORWARD_KEYS), x->p, PANEL,
                      pairs_of(x->seen.visible), 1);
}

static void begin_panel(const fur_attention_call *call, const fur_attention_rows *rows, forward_scratch *x,
                        int64_t panel)
{
    const fur_attention_args *a = call->args;
    int64_t first = rows->begin + panel * PANEL, count = fur_min_i64(PANEL, rows->end - first);
    const float *from[PANEL];
    for (int64_t i = 0; i < count; i++)
        from[i] = a->q_THD + fur_attention_offset(call, rows, first + i, a->ldq);
    pack_panel(from, count, a->head_dim, a->scale < 0 ? -1 : 1, x->rows, x->q[panel]);
    memset(x->o[panel], 0, (size_t)(fur_round_up(a->head_dim, (int64_t)2 * DEPTH) + SPARE) * PANEL * sizeof(float));
    for (int64_t i = panel * PANEL; i < (panel + 1) * PANEL; i++) {
        x->m[i] = -INFINITY;
        x->l[i] = 0;
    }
}

static void write_panel(const fur_attention_call *call, const fur_attention_rows *rows, forward_scratch *x,
                        int64_t panel)
{
    const fur_attention_args *a = call->args;
    int64_t first = rows->begin + panel * PANEL, count = fur_min_i64(PANEL, rows->end - first);
    int64_t depth = a->head_dim, ld = stride_of(2 * depth);
    /* rows of o in the place of the block's keys and values, which are done */
    uint32_t *turned = x->k;
    turn_words((const uint32_t *)(const void *)x->o[panel], PANEL, fur_round_up(depth, 8), PANEL, turned, ld);
    for (int64_t i = 0; i < count; i++) {
        float m = x->m[panel * PANEL + i], l = x->l[panel * PANEL + i];
        int blind = l == 0.0f; /* not by m, which no NaN moves */
        float inverse = blind ? 0.0f : 1.0f / l, *o = a->o_THD + fur_attention_offset(call, rows, first + i, a->ldo);
        const float *from = (const float *)(const void *)(turned + i * ld);
        for (int64_t d = 0; d < depth; d++)
            o[d] = from[d] * inverse;
        *fur_attention_lse(call, rows, first + i) = blind ? -INFINITY : (float)((double)m * LN_2 + (double)logf(l));
    }
}

static void forward(const fur_attention_call *call, const fur_attention_rows *rows, void *scratch)
{
    const fur_attention_args *a = call->args;
    int64_t depth = a->head_dim, panels = fur_div_up(rows->end - rows->begin, PANEL);
    forward_scratch x;
    place_forward(depth, scratch, &x);
    for (int64_t n = 0; n < panels; n++)
        begin_panel(call, rows, &x, n);
    fur_key_cursor cursor = {.piece = rows->piece};
    int64_t last = a->causal ? fur_attention_position(call, rows->piece, rows->end - 1) : INT64_MAX;
    while (next_block(&cursor, FORWARD_KEYS, last, &x.block) > 0) {
        gather_rows(call, &x.block, rows->kv_head, 0, x.k);
        x.finite = gather_rows(call, &x.block, rows->kv_head, 1, x.v);
        transpose_rows(x.v, stride_of(depth), x.block.count, pairs_of(depth), x.part, x.v_T, stride_of(FORWARD_KEYS));
        for (int64_t n = 0; n < panels; n++)
            attend(call, rows, &x, n);
    }
    for (int64_t n = 0; n < panels; n++)
        write_panel(call, rows, &x, n);
}
