/* SPDX-License-Identifier: Apache-2.0 */
/* Backward of the vector variants; part of attention_simd.h. A task owns key blocks; against each it takes tiles of up
 * to QUERIES virtual rows. Invisible pairs are left out of the products, so what P and dS hold there does not matter.
 */

/* 24 divides it, as for KEYS; P, dS, q and do of a tile stay in the inner caches. */
enum { QUERIES = 96, LD_P = KEYS + PAD };

/* C[i][.] += A[i][k] B[k][.] for i in [0, rows), k in [from[i], to[i]); either bound NULL: 0, depth. Bounds do not
 * decrease with i. Tiles may run past `rows`, to the next multiple of LONGEST_TILE. */
typedef struct product {
    const float *a;
    int64_t a_row, a_k;
    const float *b;
    float *c;
    int64_t width; /* of B and C: row stride, and columns, a multiple of VL */
    int64_t rows, depth;
    const int32_t *from, *to;
} product;

FUR_ALWAYS_INLINE void product_edge(int rows, int vectors, tile c, const product *x, int64_t i0, int64_t column,
                                    int64_t begin, int64_t end)
{
    for (int64_t k = begin; k < end; k++) {
        V b[TILE_VECTORS];
        FUR_UNROLL
        for (int j = 0; j < vectors; j++)
            b[j] = vload(x->b + k * x->width + column + j * VL);
        FUR_UNROLL
        for (int i = 0; i < rows; i++) {
            if ((x->from && k < x->from[i0 + i]) || (x->to && k >= x->to[i0 + i]))
                continue;
            V y = vset(x->a[(i0 + i) * x->a_row + k * x->a_k]);
            FUR_UNROLL
            for (int j = 0; j < vectors; j++)
                c[i][j] = vfma(y, b[j], c[i][j]);
        }
    }
}

FUR_ALWAYS_INLINE void product_columns(int rows, int vectors, const product *x, int64_t column)
{
    for (int64_t i = 0; i < x->rows; i += rows) {
        /* [begin, end): where some row takes part; [from, to): where all do */
        int64_t begin = x->from ? x->from[i] : 0, from = x->from ? x->from[i + rows - 1] : 0;
        int64_t end = x->to ? x->to[i + rows - 1] : x->depth, to = x->to ? x->to[i] : x->depth;
        from = fur_min_i64(from, end);
        to = fur_max_i64(to, from);
        if (begin >= end)
            continue;
        float *at = x->c + i * x->width + column;
        tile c;
        tile_load(rows, vectors, c, at, x->width);
        if (begin < from)
            product_edge(rows, vectors, c, x, i, column, begin, from);
        tile_multiply(rows, vectors, c, x->a + i * x->a_row, x->a_row, x->a_k, x->b + column, x->width, from, to);
        if (to < end)
            product_edge(rows, vectors, c, x, i, column, to, end);
        tile_store(rows, vectors, c, at, x->width);
    }
}

static FUR_NOINLINE void product_1(const product *x, int64_t column)
{
    product_columns(TILE_ROWS(1), 1, x, column);
}
static FUR_NOINLINE void product_2(const product *x, int64_t column)
{
    product_columns(TILE_ROWS(2), 2, x, column);
}
#if TILE_VECTORS == 4
static FUR_NOINLINE void product_3(const product *x, int64_t column)
{
    product_columns(TILE_ROWS(3), 3, x, column);
}
static FUR_NOINLINE void product_4(const product *x, int64_t column)
{
    product_columns(TILE_ROWS(4), 4, x, column);
}
#endif

static void (*const product_of[])(const product *, int64_t) = {NULL, product_1, product_2,
#if TILE_VECTORS == 4
                                                               product_3, product_4
#endif
};

/* Columns in parts of equal width as far as they go: 5 vectors as 3 + 2, not 4 + 1, which would leave the units idle.
 */
static void multiply(const product *x)
{
    int64_t vectors = x->width / VL, parts = fur_div_up(vectors, TILE_VECTORS);
    for (int64_t column = 0; parts > 0; parts--) {
        int64_t part = fur_div_up(vectors, parts);
        product_of[part](x, column);
        column += part * VL;
        vectors -= part;
    }
}

/* ---- S and dP ---------------------------------------------------------------------------------------------------- */

/* C[i][lanes] = A[i] B for i in [0, rows) with to[i] > first and start[i] < after: rows that see the panel */
typedef struct scores {
    const float *a; /* rows of `width` floats */
    const float *b; /* [depth][PANEL] */
    float *c;       /* rows of LD_P floats */
    int64_t width, depth, rows, first, after;
    const int32_t *start, *to; /* start NULL: 0 */
} scores;

FUR_ALWAYS_INLINE void scores_rows(int rows, int vectors, const scores *x)
{
    for (int64_t i = 0; i < x->rows; i += rows) {
        if (x->to[i + rows - 1] <= x->first || (x->start && x->start[i] >= x->after))
            continue;
        tile c;
        tile_zero(rows, vectors, c);
        tile_multiply(rows, vectors, c, x->a + i * x->width, x->width, 1, x->b, PANEL, 0, x->depth);
        tile_store(rows, vectors, c, x->c + i * LD_P, LD_P);
    }
}

static FUR_NOINLINE void scores_1(const scores *x)
{
    scores_rows(TILE_ROWS(1), 1, x);
}
static FUR_NOINLINE void scores_2(const scores *x)
{
    scores_rows(TILE_ROWS(2), 2, x);
}
#if TILE_VECTORS == 4
static FUR_NOINLINE void scores_3(const scores *x)
{
    scores_rows(TILE_ROWS(3), 3, x);
}
static FUR_NOINLINE void scores_4(const scores *x)
{
    scores_rows(TILE_ROWS(4), 4, x);
}
#endif

static void (*const scores_of[])(const scores *) = {NULL, scores_1, scores_2,
#if TILE_VECTORS == 4
                                                    scores_3, scores_4
#endif
};

/* ---- one key block ----------------------------------------------------------------------------------------------- */

/* Scratch of a task. W is head_dim rounded up to whole vectors. */
typedef struct backward_scratch {
    int64_t width;       /* W */
    float *k_T, *v_T;    /* [KEYS / PANEL][head_dim][PANEL] */
    float *k, *dk, *dv;  /* [KEYS][W] */
    float *q, *d_o, *dq; /* [QUERIES][W] */
    float *p, *ds;       /* [QUERIES][LD_P] */
    int32_t from[KEYS];  /* first row of the tile that sees the key */
    int32_t to[QUERIES]; /* first key of the block after those that the row sees */
    /* with windows, where a row's keys do not start with the block's first, nor a key's rows end with the tile's last
     */
    int32_t after[KEYS];    /* first row of the tile after those that see the key */
    int32_t start[QUERIES]; /* first key that the row sees */
    draws draws;
    float factor[KEYS], key_at[KEYS]; /* of dropout for one row; positions counted from the block's first */
    key_block block;
} backward_scratch;

static int64_t width_of(int64_t head_dim)
{
    return fur_round_up(head_dim, VL);
}

static int64_t backward_floats(int64_t head_dim)
{
    int64_t width = width_of(head_dim);
    return head_dim * 2 * KEYS + width * 3 * (KEYS + QUERIES) + (int64_t)LD_P * 2 * QUERIES;
}

static void place_scratch(int64_t head_dim, float *at, backward_scratch *out)
{
    int64_t width = out->width = width_of(head_dim);
    out->k_T = at;
    out->v_T = out->k_T + KEYS * head_dim;
    out->k = out->v_T + KEYS * head_dim;
    out->dk = out->k + KEYS * width;
    out->dv = out->dk + KEYS * width;
    out->q = out->dv + KEYS * width;
    out->d_o = out->q + QUERIES * width;
    out->dq = out->d_o + QUERIES * width;
    out->p = out->dq + QUERIES * width;
    out->ds = out->p + (int64_t)QUERIES * LD_P;
}

/* P = 2^(S scale log2 e - lse log2 e) and dS = P (dP - delta), in place. */
static void weights(const fur_attention_call *call, const fur_attention_rows *rows, int64_t v, int64_t count,
                    backward_scratch *x)
{
    int64_t at = (rows->kv_head * call->rows + rows->first_row) * call->group + v;
    V scale = vset(call->args->scale * LOG2_E);
    for (int64_t i = 0; i < count; i++) {
        float *p_row = x->p + i * LD_P, *ds_row = x->ds + i * LD_P;
        V lse = vset(call->lse2_KR[at + i]), delta = vset(call->delta_KR[at + i]), zero = vset(0.0f);
        for (int64_t j = 0; j < x->to[i]; j += VL) {
            /* P is at most 1; rounding of large scores must not make it explode */
            V p = vexp2(vmin(zero, vsub(vmul(vload(p_row + j), scale), lse)));
            vstore(p_row + j, p);
            vstore(ds_row + j, vmul(p, vsub(vload(ds_row + j), delta)));
        }
    }
}

/* What dropout makes of the block's keys under one virtual row. */
static void draw_keys(const fur_attention_call *call, const fur_attention_rows *rows, int64_t v, backward_scratch *x)
{
    uint64_t stream = fur_attention_stream(call, rows, v), first = (uint64_t)x->block.position[0] / KEYS * (KEYS / 4);
    x->draws.key = call->args->features.dropout_key;
    for (uint64_t n = 0; n < KEYS / 4; n++) {
        x->draws.stream_low[n] = (uint32_t)stream;
        x->draws.stream_high[n] = (uint32_t)(stream >> 32);
        x->draws.group_low[n] = (uint32_t)(first + n);
        x->draws.group_high[n] = (uint32_t)((first + n) >> 32);
    }
    draw_factors(call, KEYS / 4, &x->draws);
    for (int64_t j = 0; j < x->block.count; j++) {
        uint64_t position = (uint64_t)x->block.position[j];
        x->factor[j] = x->draws.factor[position & 3][position / 4 - first];
    }
}

/* The same with features; v's keys are [start, to). */
static void weights_with_features(const fur_attention_call *call, const fur_attention_rows *rows, int64_t v,
                                  int64_t count, backward_scratch *x)
{
    const fur_attention_args *a = call->args;
    int64_t at = (rows->kv_head * call->rows + rows->first_row) * call->group + v;
    V scale = vset(a->scale * LOG2_E), zero = vset(0.0f), one = vset(1.0f), cap = vset(a->features.softcap * LOG2_E);
    for (int64_t i = 0; i < count; i++) {
        float *p_row = x->p + i * LD_P, *ds_row = x->ds + i * LD_P;
        V lse = vset(call->lse2_KR[at + i]), delta = vset(call->delta_KR[at + i]);
        V slope = vset(a->features.alibi ? (float)(fur_attention_slope_of(call, rows, v + i) / LN_2) : 0.0f);
        V row_at = vset((float)(fur_attention_position(call, rows->piece, v + i) - x->block.position[0]));
        if (a->features.dropout > 0 && x->start[i] < x->to[i])
            draw_keys(call, rows, v + i, x);
        for (int64_t j = x->start[i] / VL * VL; j < x->to[i]; j += VL) {
            V s = vmul(vload(p_row + j), scale), derivative = one, dp = vload(ds_row + j);
            if (a->features.softcap > 0) {
                V t = vtanh(vdiv(s, cap));
                s = vmul(cap, t);
                derivative = vmul(vsub(one, t), vadd(one, t));
            }
            if (a->features.alibi)
                s = vfnma(slope, vabsolute(vsub(row_at, vload(x->key_at + j))), s);
            V p = vexp2(vmin(zero, vsub(s, lse))), kept = p;
            if (a->features.dropout > 0) {
                V factor = vload(x->factor + j);
                kept = vmul(p, factor);
                dp = vmul(dp, factor);
            }
            vstore(p_row + j, kept);
            vstore(ds_row + j, vmul(vmul(p, derivative), vsub(dp, delta)));
        }
    }
}

/* Rows [v, v + count) of the piece, from[] and to[] set, against the packed block. */
static void backward_tile(const fur_attention_call *call, const fur_attention_rows *rows, int64_t chunk, int64_t v,
                          int64_t count, backward_scratch *x)
{
    const fur_attention_args *a = call->args;
    int64_t depth = a->head_dim, width = x->width, keys = x->block.count;
    const int32_t *after = call->plain ? NULL : x->after, *start = call->plain ? NULL : x->start;
    for (int64_t i = 0; i < count; i++) {
        copy_row(x->q + i * width, a->q_THD + fur_attention_offset(call, rows, v + i, a->ldq), depth);
        copy_row(x->d_o + i * width, a->do_THD + fur_attention_offset(call, rows, v + i, a->lddo), depth);
    }
    for (int64_t first = 0; first < keys; first += PANEL) {
        int64_t vectors = fur_div_up(fur_min_i64(PANEL, keys - first), VL);
        scores s = {.a = x->q,
                    .b = x->k_T + first * depth,
                    .c = x->p + first,
                    .width = width,
                    .depth = depth,
                    .rows = count,
                    .first = first,
                    .after = first + PANEL,
                    .start = start,
                    .to = x->to};
        scores_of[vectors](&s);
        s.a = x->d_o;
        s.b = x->v_T + first * depth;
        s.c = x->ds + first;
        scores_of[vectors](&s);
    }
    if (call->plain)
        weights(call, rows, v, count, x);
    else
        weights_with_features(call, rows, v, count, x);
    product to_keys = {.a = x->p,
                       .a_row = 1,
                       .a_k = LD_P,
                       .b = x->d_o,
                       .c = x->dv,
                       .width = width,
                       .rows = keys,
                       .depth = count,
                       .from = x->from,
                       .to = after};
    multiply(&to_keys);
    to_keys.a = x->ds;
    to_keys.b = x->q;
    to_keys.c = x->dk;
    multiply(&to_keys);
    memset(x->dq, 0, (size_t)(count * width) * sizeof(float));
    product to_queries = {.a = x->ds,
                          .a_row = LD_P,
                          .a_k = 1,
                          .b = x->k,
                          .c = x->dq,
                          .width = width,
                          .rows = count,
                          .depth = keys,
                          .from = start,
                          .to = x->to};
    multiply(&to_queries);
    for (int64_t i = 0; i < count; i++)
        add_row(dq_of(call, rows, chunk, v + i), x->dq + i * width, a->scale, depth);
}

/* from[] and to[] of the rows [v, v + count). Entries past the end repeat the last one: tiles may run there. */
static void set_bounds(const fur_attention_call *call, const fur_query_piece *piece, int64_t v, int64_t count,
                       backward_scratch *x)
{
    int64_t keys = x->block.count, seen = 0;
    for (int64_t j = 0; j < keys; j++) {
        int64_t first = fur_attention_first_seeing(call, piece, x->block.position[j]) - v;
        x->from[j] = (int32_t)fur_max_i64(0, fur_min_i64(first, count));
    }
    for (int64_t i = 0; i < count; i++) {
        while (seen < keys && x->from[seen] <= i)
            seen++;
        x->to[i] = (int32_t)seen;
    }
    for (int64_t j = keys; j < KEYS; j++)
        x->from[j] = x->from[keys - 1];
    for (int64_t i = count; i < QUERIES; i++)
        x->to[i] = x->to[count - 1];
}

/* after[] and start[] of the same rows. */
static void set_ends(const fur_attention_call *call, const fur_query_piece *piece, int64_t v, int64_t count,
                     backward_scratch *x)
{
    int64_t keys = x->block.count, passed = 0;
    for (int64_t j = 0; j < keys; j++) {
        int64_t after = fur_attention_after_seeing(call, piece, x->block.position[j]) - v;
        x->after[j] = (int32_t)fur_max_i64(0, fur_min_i64(after, count));
    }
    for (int64_t i = 0; i < count; i++) {
        while (passed < keys && x->after[passed] <= i)
            passed++;
        x->start[i] = (int32_t)passed;
    }
    for (int64_t j = keys; j < KEYS; j++)
        x->after[j] = x->after[keys - 1];
    for (int64_t i = count; i < QUERIES; i++)
        x->start[i] = x->start[count - 1];
}

/* Virtual rows [begin, end) of the run that see a key of the block. */
static void rows_seeing(const fur_attention_call *call, const fur_attention_rows *rows, const key_block *block,
                        int64_t *begin, int64_t *end)
{
    int64_t last = block->position[block->count - 1];
    *begin = fur_max_i64(0, fur_attention_first_seeing(call, rows->piece, block->position[0]));
    *end = fur_min_i64(rows->end, fur_attention_after_seeing(call, rows->piece, last));
}

static int any_row_sees(const fur_attention_call *call, int64_t kv_head, int64_t first, int64_t last,
                        const key_block *block)
{
    for (int64_t r = first; r < last; r++) {
        int64_t begin, end;
        fur_attention_rows rows = fur_attention_rows_of(call, &call->runs[r], kv_head);
        rows_seeing(call, &rows, block, &begin, &end);
        if (begin < end)
            return 1;
    }
    return 0;
}

static void pack_block(const fur_attention_args *a, int64_t at, backward_scratch *x)
{
    const float *k[PANEL], *v[PANEL];
    for (int64_t first = 0; first < x->block.count; first += PANEL) {
        int64_t lanes = fur_min_i64(PANEL, x->block.count - first);
        for (int64_t i = 0; i < lanes; i++) {
            int64_t to = (first + i) * x->width; /* dv is not used yet */
            k[i] = key_row(&x->block, first + i, a->ldk, at, a->head_dim, x->k + to);
            v[i] = value_row(&x->block, first + i, a->ldk, at, a->head_dim, x->dv + to);
            copy_row(x->k + (first + i) * x->width, k[i], a->head_dim);
        }
        pack_panel(k, lanes, a->head_dim, 1.0f, x->k_T + first * a->head_dim);
        pack_panel(v, lanes, a->head_dim, 1.0f, x->v_T + first * a->head_dim);
    }
}

/* The block against all runs [first, last), which have its keys. */
static void backward_block(const fur_attention_call *call, int64_t kv_head, int64_t chunk, int64_t first, int64_t last,
                           backward_scratch *x)
{
    const fur_attention_args *a = call->args;
    int64_t at = kv_head * a->head_dim;
    size_t bytes = (size_t)(KEYS * x->width) * sizeof(float);
    if (!any_row_sees(call, kv_head, first, last, &x->block))
        return;
    for (int64_t j = 0; j < x->block.count; j++)
        x->key_at[j] = (float)(x->block.position[j] - x->block.position[0]);
    pack_block(a, at, x);
    memset(x->dk, 0, bytes);
    memset(x->dv, 0, bytes);
    for (int64_t r = first; r < last; r++) {
        fur_attention_rows rows = fur_attention_rows_of(call, &call->runs[r], kv_head);
        int64_t count, begin, end;
        rows_seeing(call, &rows, &x->block, &begin, &end);
        for (int64_t v = begin; v < end; v += count) {
            count = fur_min_i64(QUERIES, end - v);
            set_bounds(call, rows.piece, v, count, x);
            if (!call->plain)
                set_ends(call, rows.piece, v, count, x);
            backward_tile(call, &rows, chunk, v, count, x);
        }
    }
    for (int64_t j = 0; j < x->block.count; j++) {
        const fur_key_span *span = x->block.span[j];
        int64_t to = x->block.row[j] * a->lddk + at;
        add_row(span->dk_SKD + to, x->dk + j * x->width, a->scale, a->head_dim);
        add_row(span->dv_SKD + to, x->dv + j * x->width, 1.0f, a->head_dim);
    }
}

/* ---- the three stages -------------------------------------------------------------------------------------------- */

static float dot_rows(const float *a, const float *b, int64_t count)
{
    V sum = vset(0.0f);
    int64_t d = 0;
    for (; d + VL <= count; d += VL)
        sum = vfma(vload(a + d), vload(b + d), sum);
    if (d < count)
        sum = vfma(vload_part(a + d, count - d), vload_part(b + d, count - d), sum);
    return vsum(sum);
}

static void prepare(const fur_attention_call *call, const fur_attention_rows *rows)
{
    const fur_attention_args *a = call->args;
    int64_t at = (rows->kv_head * call->rows + rows->first_row) * call->group;
    for (int64_t v = rows->begin; v < rows->end; v++) {
        float lse = *fur_attention_lse(call, rows, v);
        call->lse2_KR[at + v] = lse == -INFINITY ? INFINITY : lse * LOG2_E;
        call->delta_KR[at + v] = dot_rows(a->do_THD + fur_attention_offset(call, rows, v, a->lddo),
                                          a->o_THD + fur_attention_offset(call, rows, v, a->ldo), a->head_dim);
    }
}

static void keys(const fur_attention_call *call, int64_t kv_head, int64_t chunk, void *scratch)
{
    backward_scratch x;
    place_scratch(call->args->head_dim, scratch, &x);
    memset(x.key_at, 0, sizeof x.key_at);
    memset(x.factor, 0, sizeof x.factor);
    clear_dq(call, kv_head, chunk);
    for (int64_t r = 0, next; r < call->run_count; r = next) {
        next = fur_attention_next_keys(call, r);
        fur_key_cursor cursor = {.piece = call->runs[r].piece};
        fur_attention_range all = {.end = INT64_MAX};
        while (next_block(&cursor, &all, sinks_of(call), &x.block) > 0)
            if (fur_attention_owns(call, &call->runs[r], x.block.position[0], chunk))
                backward_block(call, kv_head, chunk, r, next, &x);
    }
}

static void finish(const fur_attention_call *call, const fur_attention_rows *rows)
{
    for (int64_t v = rows->begin; v < rows->end && rows->owner == FUR_ATTENTION_SPREAD; v++)
        for (int64_t chunk = 1; chunk < call->chunks; chunk++)
            add_row(dq_of(call, rows, 0, v), dq_of(call, rows, chunk, v), 1.0f, call->args->head_dim);
}
