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
    const float *first_lane; /* of each key that not all lanes see: the first lane that sees it */
    int64_t full, visible;   /* all lanes see keys [full_from, full), some lane keys [begin, visible) */
    /* with features only, before: zero */
    int64_t begin, full_from;
    const float *after_lane;        /* the first lane that no longer sees the key */
    float cap;                      /* softcap log2 e, 0: none */
    const float *slope;             /* [PANEL] ALiBi's, times log2 e; NULL: none */
    const float *lane_at, *key_at;  /* [PANEL], [KEYS] positions, counted from the block's first */
    const fur_attention_call *call; /* of dropout; NULL: none */
    const int64_t *position;        /* of the block's keys */
    draws *draws;                   /* streams of the lanes set */
} panel;

static int64_t ld_block(int64_t depth)
{
    return fur_round_up(depth, 16) + PAD;
}

/* Softcap and ALiBi of key j's scores. */
FUR_ALWAYS_INLINE void transform_scores(int vectors, const panel *x, int64_t j, V c[TILE_VECTORS])
{
    FUR_UNROLL
    for (int n = 0; n < vectors; n++) {
        if (x->cap > 0)
            c[n] = vmul(vset(x->cap), vtanh(vdiv(c[n], vset(x->cap))));
        if (x->slope) {
            V distance = vabsolute(vsub(vload(x->lane_at + n * VL), vset(x->key_at[j])));
            c[n] = vfnma(vload(x->slope + n * VL), distance, c[n]);
        }
    }
}

/* S^T, masked, and its maximum into m */
FUR_ALWAYS_INLINE void panel_scores(int rows, int vectors, int features, const panel *x)
{
    int64_t ld = ld_block(x->depth);
    for (int64_t j = features ? x->begin / rows * rows : 0; j < x->visible; j += rows) {
        tile c;
        tile_zero(rows, vectors, c);
        tile_multiply(rows, vectors, c, x->k + j * ld, ld, 1, x->q, PANEL, 0, x->depth);
        if (features && (x->cap > 0 || x->slope)) {
            FUR_UNROLL
            for (int i = 0; i < rows; i++)
                transform_scores(vectors, x, j + i, c[i]);
        }
        if (features && (j < x->full_from || j + rows > x->full)) {
            FUR_UNROLL
            for (int i = 0; i < rows; i++) {
                FUR_UNROLL
                for (int n = 0; n < vectors; n++)
                    c[i][n] = vbetween(vload(lane_numbers + n * VL), vset(x->first_lane[j + i]),
                                       vset(x->after_lane[j + i]), c[i][n], vset(-INFINITY));
            }
        }
        if (!features && j + rows > x->full) {
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

/* Factors of the lanes for four positions. */
static FUR_NOINLINE void draw_lanes(const panel *x, int64_t group)
{
    for (int i = 0; i < PANEL; i++) {
        x->draws->group_low[i] = (uint32_t)group;
        x->draws->group_high[i] = (uint32_t)((uint64_t)group >> 32);
    }
    draw_factors(x->call, PANEL, x->draws);
}

/* P^T = 2^(S^T - m), l and the factor of what was summed under the maximum before */
FUR_ALWAYS_INLINE void panel_exponentials(int vectors, int features, const panel *x, const V *before)
{
    V m[TILE_VECTORS], sum[TILE_VECTORS];
    FUR_UNROLL
    for (int n = 0; n < vectors; n++) {
        /* a lane that has seen nothing has m = -infinity: -infinity - (-FLT_MAX) gives P = 0 where plain m gave NaN */
        m[n] = vmax(vset(-FLT_MAX), vload(x->m + n * VL));
        sum[n] = vset(0.0f);
    }
    int64_t drawn = -1;
    for (int64_t j = features ? x->begin : 0; j < x->visible; j++) {
        if (features && x->call && x->position[j] >> 2 != drawn) {
            drawn = x->position[j] >> 2;
            draw_lanes(x, drawn);
        }
        FUR_UNROLL
        for (int n = 0; n < vectors; n++) {
            float *at = x->p + j * PANEL + n * VL;
            V p = vexp2(vsub(vload(at), m[n]));
            sum[n] = vadd(sum[n], p);
            if (features && x->call)
                p = vmul(p, vload(x->draws->factor[x->position[j] & 3] + n * VL));
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
FUR_ALWAYS_INLINE void panel_output(int rows, int vectors, int features, const panel *x, int64_t d)
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
    if (features) {
        tile_multiply_between(rows, vectors, c, x->v + d, 1, ld, x->p, PANEL, x->begin, x->full_from, x->first_lane,
                              x->after_lane);
        tile_multiply(rows, vectors, c, x->v + d, 1, ld, x->p, PANEL, x->full_from, x->full);
        tile_multiply_between(rows, vectors, c, x->v + d, 1, ld, x->p, PANEL, x->full, x->visible, x->first_lane,
                              x->after_lane);
    } else {
        tile_multiply(rows, vectors, c, x->v + d, 1, ld, x->p, PANEL, 0, x->full);
        tile_multiply_lanes(rows, vectors, c, x->v + d, 1, ld, x->p, PANEL, x->full, x->visible, x->first_lane);
    }
    tile_store(rows, vectors, c, x->o + d * PANEL, PANEL);
}

FUR_ALWAYS_INLINE void panel_attend(int rows, int vectors, int features, const panel *x)
{
    V before[TILE_VECTORS];
    FUR_UNROLL
    for (int n = 0; n < vectors; n++)
        before[n] = vload(x->m + n * VL);
    panel_scores(rows, vectors, features, x);
    panel_exponentials(vectors, features, x, before);
    int64_t d = 0;
    for (; x->depth - d > 4; d += rows)
        panel_output(rows, vectors, features, x, d);
    if (d < x->depth)
        panel_output(4, vectors, features, x, d);
}

#define PANEL_ATTEND(vectors)                                                                                          \
    static FUR_NOINLINE void panel_attend_##vectors(const panel *x)                                                    \
    {                                                                                                                  \
        panel_attend(TILE_ROWS(vectors), vectors, 0, x);                                                               \
    }                                                                                                                  \
    static FUR_NOINLINE void panel_attend_features_##vectors(const panel *x)                                           \
    {                                                                                                                  \
        panel_attend(TILE_ROWS(vectors), vectors, 1, x);                                                               \
    }
PANEL_ATTEND(1)
PANEL_ATTEND(2)
#if TILE_VECTORS == 4
PANEL_ATTEND(3)
PANEL_ATTEND(4)
#endif

/* by whether the call is plain, and by vectors */
static void (*const panel_attend_of[2][TILE_VECTORS + 1])(const panel *) = {
#if TILE_VECTORS == 4
    {NULL, panel_attend_features_1, panel_attend_features_2, panel_attend_features_3, panel_attend_features_4},
    {NULL, panel_attend_1, panel_attend_2, panel_attend_3, panel_attend_4},
#else
    {NULL, panel_attend_features_1, panel_attend_features_2},
    {NULL, panel_attend_1, panel_attend_2},
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

/* The same with windows: first and after are both bounds. Keys of a block see the lanes in their own order, so what a
 * lane sees is an interval. */
static void set_between(const fur_attention_call *call, const fur_query_piece *piece, const key_block *block, int64_t v,
                        int64_t lanes, float *first_lane, float *after_lane, panel *x)
{
    const int64_t *at = block->position;
    x->visible = block->count;
    while (x->visible > 0 && fur_attention_first_seeing(call, piece, at[x->visible - 1]) >= v + lanes)
        x->visible--;
    x->full = x->visible;
    while (x->full > 0 && fur_attention_first_seeing(call, piece, at[x->full - 1]) > v)
        x->full--;
    x->begin = 0;
    while (x->begin < x->visible && fur_attention_after_seeing(call, piece, at[x->begin]) <= v)
        x->begin++;
    x->full_from = x->begin;
    while (x->full_from < x->visible && fur_attention_after_seeing(call, piece, at[x->full_from]) < v + lanes)
        x->full_from++;
    x->full = fur_max_i64(x->full, x->full_from);
    int64_t end = fur_min_i64(KEYS, x->visible + LONGEST_TILE);
    for (int64_t j = fur_max_i64(0, x->begin - LONGEST_TILE); j < end; j++) {
        int64_t first = PANEL, after = PANEL;
        if (j >= x->begin && j < x->visible) {
            first = fur_max_i64(0, fur_attention_first_seeing(call, piece, at[j]) - v);
            after = fur_min_i64(PANEL, fur_attention_after_seeing(call, piece, at[j]) - v);
        }
        first_lane[j] = (float)first;
        after_lane[j] = (float)after;
    }
}

/* What features need in a task. */
typedef struct feature_scratch {
    float after_lane[KEYS], key_at[KEYS], lane_at[PANEL];
    float slope[FUR_ATTENTION_ROWS]; /* of the task's rows, times log2 e; with ALiBi only */
    draws draws;
} feature_scratch;

/* What a panel of lanes [v, v + lanes) needs for the block. */
static void set_features(const fur_attention_call *call, const fur_attention_rows *rows, const key_block *block,
                         int64_t v, int64_t lanes, feature_scratch *f, panel *x)
{
    const fur_attention_args *a = call->args;
    x->cap = a->features.softcap * LOG2_E;
    if (a->features.alibi) {
        for (int64_t j = 0; j < KEYS; j++)
            f->key_at[j] = j < block->count ? (float)(block->position[j] - block->position[0]) : 0;
        for (int64_t i = 0; i < PANEL; i++) {
            int64_t at = v + fur_min_i64(i, lanes - 1);
            f->lane_at[i] = (float)(fur_attention_position(call, rows->piece, at) - block->position[0]);
        }
        x->key_at = f->key_at;
        x->lane_at = f->lane_at;
        x->slope = f->slope + (v - rows->begin);
    }
    if (a->features.dropout > 0) {
        f->draws.key = a->features.dropout_key;
        for (int64_t i = 0; i < PANEL; i++) {
            uint64_t stream = fur_attention_stream(call, rows, v + fur_min_i64(i, lanes - 1));
            f->draws.stream_low[i] = (uint32_t)stream;
            f->draws.stream_high[i] = (uint32_t)(stream >> 32);
        }
        x->call = call;
        x->position = block->position;
        x->draws = &f->draws;
    }
}

/* m and l of the lanes before any key: with sink logits, what these alone give. */
static void begin_statistics(const fur_attention_call *call, const fur_attention_rows *rows, float *m, float *l)
{
    const float *sink_H = call->args->features.sink_H;
    for (int64_t i = 0; i < FUR_ATTENTION_ROWS; i++) {
        m[i] = -INFINITY;
        l[i] = 0;
    }
    for (int64_t v = rows->begin; sink_H && v < rows->end; v++) {
        float sink = sink_H[rows->kv_head * call->group + v % call->group] * LOG2_E;
        m[v - rows->begin] = sink;
        l[v - rows->begin] = sink == -INFINITY ? 0.0f : 1.0f;
    }
}

static void set_slopes(const fur_attention_call *call, const fur_attention_rows *rows, feature_scratch *f)
{
    for (int64_t i = 0; call->args->features.alibi && i < FUR_ATTENTION_ROWS; i++)
        f->slope[i] = (float)(fur_attention_slope_of(call, rows, rows->begin + i) / LN_2);
}

static void forward(const fur_attention_call *call, const fur_attention_rows *rows, void *scratch)
{
    const fur_attention_args *a = call->args;
    int64_t depth = a->head_dim, ld = ld_block(depth), at = rows->kv_head * depth;
    int64_t panels = fur_div_up(rows->end - rows->begin, PANEL);
    float m[FUR_ATTENTION_ROWS], l[FUR_ATTENTION_ROWS], factor[PANEL], first_lane[KEYS];
    float *k = scratch, *v = k + KEYS * ld, *p = v + KEYS * ld, *q = p + (int64_t)KEYS * PANEL;
    float *o = q + PANELS * panel_floats(depth);
    feature_scratch features;

    begin_statistics(call, rows, m, l);
    set_slopes(call, rows, &features);
    for (int64_t n = 0; n < panels; n++) {
        int64_t first = rows->begin + n * PANEL;
        pack_queries(call, rows, first, fur_min_i64(PANEL, rows->end - first), q + n * panel_floats(depth));
        memset(o + n * panel_floats(depth), 0, (size_t)panel_floats(depth) * sizeof(float));
    }
    fur_key_cursor cursor = {.piece = rows->piece};
    key_block block;
    fur_attention_range range = fur_attention_range_of(call, rows->piece, rows->begin, rows->end);
    while (next_block(&cursor, &range, sinks_of(call), &block) > 0) {
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
                       .first_lane = first_lane,
                       .after_lane = features.after_lane};
            if (call->plain) {
                set_visible(call, rows->piece, &block, first, lanes, first_lane, &x);
            } else {
                set_between(call, rows->piece, &block, first, lanes, first_lane, features.after_lane, &x);
                set_features(call, rows, &block, first, lanes, &features, &x);
            }
            if (x.visible > x.begin)
                panel_attend_of[call->plain][fur_div_up(lanes, VL)](&x);
        }
    }
    for (int64_t n = 0; n < panels; n++) {
        int64_t first = rows->begin + n * PANEL;
        write_panel(call, rows, first, fur_min_i64(PANEL, rows->end - first), o + n * panel_floats(depth),
                    m + n * PANEL, l + n * PANEL);
    }
}
