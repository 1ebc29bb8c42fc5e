/* SPDX-License-Identifier: Apache-2.0 */
/* Forward of one query; part of attention_simd.h. The stages are those of fur_attention_one. Operations on one score,
 * one weight, one element of o come in the order of panel_attend (keys of a block in turn, blocks in turn), so that the
 * bits are those of a query among others. */

enum {
    SLICE = 2 * VL, /* columns of v that one task of `values` sums */
    ONE_ROWS = 4,   /* query heads that share a loaded key or value */
    ONE_AHEAD = 16, /* rows fetched ahead */
    ONE_COPY_LD = VL * 2
};

/* A packed panel of keys, rows of keys or values widened from bf16 (or whose last vector would reach past them). */
static int64_t one_scratch_floats(int64_t head_dim)
{
    return head_dim * 2 * PANEL + (int64_t)KEYS * ONE_COPY_LD;
}

static void one_begin(fur_attention_one *x)
{
    const fur_attention_args *a = x->call->args;
    const fur_query_piece *piece = x->call->runs[0].piece;
    for (int64_t head = 0; head < a->heads; head++) {
        const float *q = a->q_THD + piece->first_row * a->ldq + head * a->head_dim;
        float sink = a->features.sink_H ? a->features.sink_H[head] * LOG2_E : -INFINITY;
        for (int64_t d = 0; d < a->head_dim; d++)
            x->q_HD[head * a->head_dim + d] = a->scale * LOG2_E * q[d];
        memset(x->o_HD + head * x->ldo, 0, (size_t)x->ldo * sizeof(float));
        x->m_H[head] = sink;
        x->l_H[head] = sink == -INFINITY ? 0.0f : 1.0f;
    }
    x->cursor = (fur_key_cursor){.piece = piece};
}

static int64_t one_block(const fur_attention_one *x, fur_key_cursor *cursor, key_block *out)
{
    fur_attention_range range = fur_attention_range_of(x->call, cursor->piece, 0, x->call->group);
    return next_block(cursor, &range, sinks_of(x->call), out);
}

static void one_next_round(fur_attention_one *x)
{
    key_block block;
    for (x->blocks = 0; x->blocks < FUR_ATTENTION_ROUND; x->blocks++) {
        x->block[x->blocks] = x->cursor;
        if (one_block(x, &x->cursor, &block) == 0)
            break;
    }
}

/* ---- scores ------------------------------------------------------------------------------------------------------ */

FUR_ALWAYS_INLINE void one_products(int rows, const float *q, int64_t depth, const float *panel_k, float *s,
                                    int64_t lds)
{
    tile c;
    tile_zero(rows, TILE_VECTORS, c);
    tile_multiply(rows, TILE_VECTORS, c, q, depth, 1, panel_k, PANEL, 0, depth);
    tile_store(rows, TILE_VECTORS, c, s, lds);
}

/* Softcap and ALiBi of the block's scores under a head, as transform_scores has them. */
static void one_transform(const fur_attention_one *x, const key_block *block, int64_t kv_head, int64_t head, float *s)
{
    const fur_attention_args *a = x->call->args;
    fur_attention_rows rows = fur_attention_rows_of(x->call, &x->call->runs[0], kv_head);
    float cap = a->features.softcap * LOG2_E, slope = 0, at = 0, key_at[KEYS] = {0};
    if (a->features.alibi) {
        slope = (float)(fur_attention_slope_of(x->call, &rows, head - kv_head * x->call->group) / LN_2);
        at = (float)(rows.piece->first_position - block->position[0]);
        for (int64_t j = 0; j < block->count; j++)
            key_at[j] = (float)(block->position[j] - block->position[0]);
    }
    for (int64_t j = 0; j < block->count; j += VL) {
        V c = vload(s + j);
        if (cap > 0)
            c = vmul(vset(cap), vtanh(vdiv(c, vset(cap))));
        if (a->features.alibi)
            c = vfnma(vset(slope), vabsolute(vsub(vset(at), vload(key_at + j))), c);
        vstore(s + j, c);
    }
}

/* The largest of the block's scores; those after the last key, to the vector's end, become -infinity. */
static float one_top(float *s, int64_t count)
{
    int64_t end = fur_round_up(count, VL);
    for (int64_t j = count; j < end; j++)
        s[j] = -INFINITY;
    V top = vload(s);
    for (int64_t j = VL; j < end; j += VL)
        top = vmax(top, vload(s + j));
    return vgreatest(top);
}

static void one_scores(const fur_attention_one *x, int64_t kv_head, int64_t number, float *scratch)
{
    const fur_attention_args *a = x->call->args;
    int64_t depth = a->head_dim, first = kv_head * x->call->group, after = first + x->call->group;
    float *panel_k = scratch, *wide = scratch + depth * PANEL;
    fur_key_cursor cursor = x->block[number];
    key_block block;
    one_block(x, &cursor, &block);
    for (int64_t j = 0; j < block.count; j += PANEL) {
        int64_t lanes = fur_min_i64(PANEL, block.count - j);
        const float *rows[PANEL];
        for (int64_t i = 0; i < lanes; i++)
            rows[i] = key_row(&block, j + i, a->ldk, kv_head * depth, depth, wide + i * depth);
        pack_panel(rows, lanes, depth, 1.0f, panel_k);
        for (int64_t head = first; head < after; head += ONE_ROWS) {
            const float *q = x->q_HD + head * depth;
            float *s = x->s_HS + head * x->lds + number * KEYS + j;
            switch (fur_min_i64(ONE_ROWS, after - head)) {
            case 1: one_products(1, q, depth, panel_k, s, x->lds); break;
            case 2: one_products(2, q, depth, panel_k, s, x->lds); break;
            case 3: one_products(3, q, depth, panel_k, s, x->lds); break;
            default: one_products(ONE_ROWS, q, depth, panel_k, s, x->lds);
            }
        }
    }
    for (int64_t head = first; head < after; head++) {
        float *s = x->s_HS + head * x->lds + number * KEYS;
        if (!x->call->plain)
            one_transform(x, &block, kv_head, head, s);
        x->top_HB[head * FUR_ATTENTION_ROUND + number] = one_top(s, block.count);
    }
}

/* ---- weights ----------------------------------------------------------------------------------------------------- */

static float one_exp2(float t)
{
    float lanes[VL];
    vstore(lanes, vexp2(vset(t)));
    return lanes[0];
}

/* p = 2^(s - m) of `rows` heads' blocks, and their sums, key by key: chains that the processor runs beside one another
 */
FUR_ALWAYS_INLINE void one_block_weights(int rows, float *s, int64_t lds, int64_t count, const float *m, float *sum)
{
    for (int i = 0; i < rows; i++) {
        for (int64_t j = 0; j < count; j += VL)
            vstore(s + i * lds + j, vexp2(vsub(vload(s + i * lds + j), vset(m[i]))));
        sum[i] = 0;
    }
    for (int64_t j = 0; j < count; j++) {
        FUR_UNROLL
        for (int i = 0; i < rows; i++)
            sum[i] += s[i * lds + j];
    }
}

static void one_head_weights(const fur_attention_one *x, int64_t head, int64_t heads, int64_t number, int64_t count)
{
    float *s = x->s_HS + head * x->lds + number * KEYS, m[ONE_ROWS], sum[ONE_ROWS];
    for (int64_t i = 0; i < heads; i++) {
        float before = x->m_H[head + i], top = x->top_HB[(head + i) * FUR_ATTENTION_ROUND + number];
        x->m_H[head + i] = before > top ? before : top;
        m[i] = x->m_H[head + i] > -FLT_MAX ? x->m_H[head + i] : -FLT_MAX;
        x->factor_HB[(head + i) * FUR_ATTENTION_ROUND + number] = one_exp2(before - m[i]);
    }
    switch (heads) {
    case 1: one_block_weights(1, s, x->lds, count, m, sum); break;
    case 2: one_block_weights(2, s, x->lds, count, m, sum); break;
    case 3: one_block_weights(3, s, x->lds, count, m, sum); break;
    default: one_block_weights(ONE_ROWS, s, x->lds, count, m, sum);
    }
    for (int64_t i = 0; i < heads; i++) {
        float *l = &x->l_H[head + i];
        *l = fmaf(*l, x->factor_HB[(head + i) * FUR_ATTENTION_ROUND + number], sum[i]);
    }
}

static void one_weights(const fur_attention_one *x, int64_t kv_head)
{
    int64_t first = kv_head * x->call->group, after = first + x->call->group;
    for (int64_t number = 0; number < x->blocks; number++) {
        fur_key_cursor cursor = x->block[number];
        key_block block;
        one_block(x, &cursor, &block);
        for (int64_t head = first; head < after; head += ONE_ROWS)
            one_head_weights(x, head, fur_min_i64(ONE_ROWS, after - head), number, block.count);
    }
}

/* ---- values ------------------------------------------------------------------------------------------------------ */

/* Rows [0, count) of values, `ldv` apart, into o of `rows` heads. */
FUR_ALWAYS_INLINE void one_sums(int rows, const float *p, int64_t lds, const float *v, int64_t ldv, int64_t count,
                                float *o, int64_t ldo)
{
    tile c;
    tile_load(rows, 2, c, o, ldo);
    for (int64_t j = 0; j < count; j += ONE_AHEAD) {
        int64_t end = fur_min_i64(count, j + ONE_AHEAD);
        for (int64_t i = j + ONE_AHEAD; i < end + ONE_AHEAD;
             i++) { /* past the last row too: the next block's begin there */
            uintptr_t ahead = (uintptr_t)v + (uintptr_t)(i * ldv) * sizeof(float);
            _mm_prefetch((const char *)ahead, _MM_HINT_T0);
            _mm_prefetch((const char *)(ahead + (SLICE - 1) * sizeof(float)), _MM_HINT_T0);
        }
        tile_multiply(rows, 2, c, p, lds, 1, v, ldv, j, end);
    }
    tile_store(rows, 2, c, o, ldo);
}

/* The rows [j, out) of the block that lie one after another in their span. */
static int64_t one_run_end(const key_block *block, int64_t j)
{
    int64_t end = j + 1;
    while (end < block->count && block->span[end] == block->span[j] && block->row[end] == block->row[end - 1] + 1)
        end++;
    return end;
}

static void one_block_values(const fur_attention_one *x, const key_block *block, int64_t kv_head, int64_t number,
                             int64_t column, float *copy)
{
    const fur_attention_args *a = x->call->args;
    int64_t first = kv_head * x->call->group, after = first + x->call->group, at = kv_head * a->head_dim + column;
    int64_t columns = fur_min_i64(SLICE, a->head_dim - column);
    for (int64_t j = 0, end; j < block->count; j = end) {
        const fur_key_span *span = block->span[j];
        const float *v = span->v_SKD ? span->v_SKD + block->row[j] * a->ldk + at : NULL;
        int64_t ldv = a->ldk;
        end = one_run_end(block, j);
        if (!v || columns < SLICE) {
            for (int64_t i = j; i < end; i++) {
                float *to = copy + (i - j) * ONE_COPY_LD;
                const float *row = value_row(block, i, a->ldk, at, columns, to);
                for (int64_t d = 0; d < SLICE; d++)
                    to[d] = d < columns ? row[d] : 0.0f;
            }
            v = copy;
            ldv = ONE_COPY_LD;
        }
        for (int64_t head = first; head < after; head += ONE_ROWS) {
            const float *p = x->s_HS + head * x->lds + number * KEYS + j;
            float *o = x->o_HD + head * x->ldo + column;
            switch (fur_min_i64(ONE_ROWS, after - head)) {
            case 1: one_sums(1, p, x->lds, v, ldv, end - j, o, x->ldo); break;
            case 2: one_sums(2, p, x->lds, v, ldv, end - j, o, x->ldo); break;
            case 3: one_sums(3, p, x->lds, v, ldv, end - j, o, x->ldo); break;
            default: one_sums(ONE_ROWS, p, x->lds, v, ldv, end - j, o, x->ldo);
            }
        }
    }
}

static void one_values(const fur_attention_one *x, int64_t kv_head, int64_t slice, float *scratch)
{
    int64_t first = kv_head * x->call->group, column = slice * SLICE;
    for (int64_t number = 0; number < x->blocks; number++) {
        fur_key_cursor cursor = x->block[number];
        key_block block;
        one_block(x, &cursor, &block);
        for (int64_t head = first; head < first + x->call->group; head++) {
            float *o = x->o_HD + head * x->ldo + column;
            V factor = vset(x->factor_HB[head * FUR_ATTENTION_ROUND + number]);
            vstore(o, vmul(vload(o), factor));
            vstore(o + VL, vmul(vload(o + VL), factor));
        }
        one_block_values(x, &block, kv_head, number, column, scratch);
    }
}

static void one_end(const fur_attention_one *x, int64_t kv_head)
{
    const fur_attention_args *a = x->call->args;
    fur_attention_rows rows = fur_attention_rows_of(x->call, &x->call->runs[0], kv_head);
    for (int64_t v = 0; v < x->call->group; v++) {
        int64_t head = kv_head * x->call->group + v;
        float m = x->m_H[head], l = x->l_H[head], inverse = m == -INFINITY ? 0.0f : 1.0f / l;
        float *o = a->o_THD + fur_attention_offset(x->call, &rows, v, a->ldo);
        for (int64_t d = 0; d < a->head_dim; d++)
            o[d] = inverse * x->o_HD[head * x->ldo + d];
        *fur_attention_lse(x->call, &rows, v) =
            m == -INFINITY ? -INFINITY : (float)((double)m * LN_2 + (double)logf(l));
    }
}

static const fur_attention_one_kernel one_kernel = {
    .slice = SLICE,
    .scratch_floats = one_scratch_floats,
    .begin = one_begin,
    .next_round = one_next_round,
    .scores = one_scores,
    .weights = one_weights,
    .values = one_values,
    .end = one_end,
};
