/* SPDX-License-Identifier: Apache-2.0 */
/* The body of far's vector variants, over the vocabulary of op/simd (no include guard: each variant includes it once).
 *
 * Two layouts of features. Where a state is read or its gradient taken, tokens are in the lanes, [feature][PANEL]: the
 * product's rows are the D + 1 rows of the state (or, for the gradient, its columns), so that no lane is wasted on the
 * one column that the normaliser is. Where tokens are summed, features are in the lanes, [token][feature], for the same
 * reason. In both, features below the highest degree are formed once and those of the highest a block at a time, into
 * the innermost cache, just before the product that consumes them. */
#include <math.h>
#include <stddef.h>
#include <string.h>

#include "op/far/far_kernel.h"
#include "op/simd/panel.h"
#include "op/simd/simd_math.h"

enum {
    BLOCK = FUR_FAR_BLOCK,
    ROWS = FUR_FAR_ROWS,
    MOST_ROWS = TILE_MOST_ROWS,
    LD_TOP = BLOCK + 16, /* of features in lanes: the last vector of a slice may overrun */
    MOST_TOKENS = 128,   /* summed at a time: so many share a pass over the state */
    LEAST_TOKENS = 16,
    LOWER_FLOATS = 3 << 15, /* of lower features of all of them, for the second cache */
};

/* One panel of tokens: [.][PANEL] each. */
typedef struct panel {
    int64_t lanes;
    float *unit, *x;             /* [D] row / |row|, and centred */
    float *lower, *dlower, *top; /* features below the highest degree, their gradient; a block of the highest */
    float *u, *y, *dx;           /* [D + 1] what a state gives; what it is multiplied by; [D] */
    float *rows;                 /* [PANEL][D + 1] */
    float reciprocal[ROWS] FUR_ALIGNED(64), inner[ROWS] FUR_ALIGNED(64); /* 1 / |row|; phi . S^T y */
} panel;

static int64_t ld_lower(const fur_far_layout *l)
{
    return l->top_column + 16;
}

static int64_t tokens_at_once(const fur_far_layout *l)
{
    int64_t fit = LOWER_FLOATS / ld_lower(l) / LEAST_TOKENS * LEAST_TOKENS;
    return fur_max_i64(LEAST_TOKENS, fur_min_i64(MOST_TOKENS, fit));
}

static int64_t scratch_floats(const fur_far_layout *l)
{
    int64_t lanes = (5 * l->dim + 2 + 2 * l->lower + BLOCK + l->rows) * PANEL;
    return fur_max_i64(lanes, tokens_at_once(l) * (ld_lower(l) + LD_TOP));
}

static void panel_place(const fur_far_layout *l, int64_t lanes, float *scratch, panel *p)
{
    p->lanes = lanes;
    p->unit = scratch;
    p->x = p->unit + l->dim * PANEL;
    p->lower = p->x + l->dim * PANEL;
    p->dlower = p->lower + l->lower * PANEL;
    p->top = p->dlower + l->lower * PANEL;
    p->u = p->top + (ptrdiff_t)BLOCK * PANEL;
    p->y = p->u + l->rows * PANEL;
    p->dx = p->y + l->rows * PANEL;
    p->rows = p->dx + l->dim * PANEL;
}

/* ---- products ---------------------------------------------------------------------------------------------------- */

/* c[i][.] = or += sum over k of a[i a_row + k a_k] b[k][.], one panel wide */
FUR_ALWAYS_INLINE void product_tile(int rows, int add, const float *a, int64_t a_row, int64_t a_k, const float *b,
                                    int64_t depth, float *c)
{
    tile t;
    if (add)
        tile_load(rows, TILE_VECTORS, t, c, PANEL);
    else
        tile_zero(rows, TILE_VECTORS, t);
    tile_multiply(rows, TILE_VECTORS, t, a, a_row, a_k, b, PANEL, 0, depth);
    tile_store(rows, TILE_VECTORS, t, c, PANEL);
}

/* state[i][.] += w[.] sum over t of y[t][i] phi[t][.], what rounding leaves in the state's second half */
FUR_ALWAYS_INLINE void sum_tile(int rows, const float *y, int64_t ldy, const float *phi, int64_t ld_phi, int64_t depth,
                                const float *w, float *state, int64_t stride, int64_t second_half)
{
    tile t;
    tile_zero(rows, TILE_VECTORS, t);
    tile_multiply(rows, TILE_VECTORS, t, y, 1, ldy, phi, ld_phi, 0, depth);
    FUR_UNROLL
    for (int i = 0; i < rows; i++) {
        FUR_UNROLL
        for (int j = 0; j < TILE_VECTORS; j++) {
            float *at = state + i * stride + j * VL, *rest = at + second_half;
            V sum = vload(at), x = vfma(vload(w + j * VL), t[i][j], vload(rest));
            V next = vadd(sum, x), part = vsub(next, sum); /* Knuth's exact sum of two */
            vstore(at, next);
            vstore(rest, vadd(vsub(sum, vsub(next, part)), vsub(x, part)));
        }
    }
}

/* A case for each number of rows that a tile may have; AVX2 has registers for six. */
#if TILE_MOST_ROWS > 6
#    define EACH_ROWS(CASE)                                                                                            \
        CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) CASE(8) CASE(9) CASE(10) CASE(11) CASE(12)
#else
#    define EACH_ROWS(CASE) CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6)
#endif

/* Rows of a tile, so that `count` rows make tiles of about the same height. */
static int64_t tile_height(int64_t count)
{
    return fur_div_up(count, fur_div_up(count, MOST_ROWS));
}

static void product(int add, int64_t count, const float *a, int64_t a_row, int64_t a_k, const float *b, int64_t depth,
                    float *c)
{
    int64_t height = tile_height(count);
    for (int64_t i = 0; i < count; i += height) {
#define CASE(n)                                                                                                        \
    case n:                                                                                                            \
        if (add)                                                                                                       \
            product_tile(n, 1, a + i * a_row, a_row, a_k, b, depth, c + i * PANEL);                                    \
        else                                                                                                           \
            product_tile(n, 0, a + i * a_row, a_row, a_k, b, depth, c + i * PANEL);                                    \
        break;
        switch (fur_min_i64(height, count - i)) {
            EACH_ROWS(CASE)
        default: break;
        }
#undef CASE
    }
}

static void sum_panel(int64_t count, const float *y, int64_t ldy, const float *phi, int64_t ld_phi, int64_t depth,
                      const float *w, float *state, int64_t stride, int64_t second_half)
{
    int64_t height = tile_height(count);
    for (int64_t i = 0; i < count; i += height) {
#define CASE(n)                                                                                                        \
    case n: sum_tile(n, y + i, ldy, phi, ld_phi, depth, w, state + i * stride, stride, second_half); break;
        switch (fur_min_i64(height, count - i)) {
            EACH_ROWS(CASE)
        default: break;
        }
#undef CASE
    }
}

/* ---- features, tokens in the lanes ------------------------------------------------------------------------------- */

/* Features [from, to) into out; *slice is that of `from`, and becomes that of `to`. */
static void form(const fur_far_layout *l, int64_t *slice, int64_t from, int64_t to, const float *x, const float *lower,
                 float *out)
{
    for (int64_t m = from; m < to;) {
        const fur_far_slice *s = &l->slices[*slice];
        int64_t end = fur_min_i64(s->start + s->length, to);
        V factor[TILE_VECTORS];
        FUR_UNROLL
        for (int j = 0; j < TILE_VECTORS; j++)
            factor[j] = vload(x + s->variable * PANEL + j * VL);
        for (; m < end; m++) {
            const float *source = lower + (s->source + m - s->start) * PANEL;
            FUR_UNROLL
            for (int j = 0; j < TILE_VECTORS; j++)
                vstore(out + (m - from) * PANEL + j * VL, vmul(factor[j], vload(source + j * VL)));
        }
        *slice += m == s->start + s->length;
    }
}

static void form_lower(const fur_far_layout *l, const panel *p)
{
    int64_t slice = 0;
    FUR_UNROLL
    for (int j = 0; j < TILE_VECTORS; j++)
        vstore(p->lower + j * VL, vset(1.0f));
    form(l, &slice, 1, l->lower, p->x, p->lower, p->lower + PANEL);
}

/* u = S phi */
static void read_panel(const fur_far_layout *l, const float *state_ER, const panel *p)
{
    product(0, l->rows, state_ER, l->stride, 1, p->lower, l->lower, p->u);
    int64_t slice = l->top_slice;
    for (int64_t m = l->lower; m < l->features; m += BLOCK) {
        int64_t count = fur_min_i64(BLOCK, l->features - m);
        form(l, &slice, m, m + count, p->x, p->lower, p->top);
        product(1, l->rows, state_ER + fur_far_column(l, m), l->stride, 1, p->top, count, p->u);
    }
}

/* Through a slice's features m in [from, to), whose gradient is dphi: that by x_a is returned in sum, that of the
 * features of one degree less is added to dlower. */
FUR_ALWAYS_INLINE void slice_backward(const fur_far_slice *s, int64_t from, int64_t to, const panel *p,
                                      const float *dphi, V sum[TILE_VECTORS])
{
    V factor[TILE_VECTORS];
    FUR_UNROLL
    for (int j = 0; j < TILE_VECTORS; j++) {
        factor[j] = vload(p->x + s->variable * PANEL + j * VL);
        sum[j] = vset(0.0f);
    }
    for (int64_t m = from; m < to; m++) {
        int64_t at = (s->source + m - s->start) * PANEL;
        FUR_UNROLL
        for (int j = 0; j < TILE_VECTORS; j++) {
            V d = vload(dphi + (m - from) * PANEL + j * VL);
            sum[j] = vfma(d, vload(p->lower + at + j * VL), sum[j]);
            vstore(p->dlower + at + j * VL, vfma(d, factor[j], vload(p->dlower + at + j * VL)));
        }
    }
    FUR_UNROLL
    for (int j = 0; j < TILE_VECTORS; j++) {
        float *dx = p->dx + s->variable * PANEL + j * VL;
        vstore(dx, vadd(vload(dx), sum[j]));
    }
}

/* dx = (d phi)^T S^T y, inner = phi . S^T y */
static void gradient_panel(const fur_far_layout *l, const float *state_ER, panel *p)
{
    V inner[TILE_VECTORS], sum[TILE_VECTORS];
    memset(p->dx, 0, (size_t)(l->dim * PANEL) * sizeof(float));
    product(0, l->lower, state_ER, 1, l->stride, p->y, l->rows, p->dlower);
    FUR_UNROLL
    for (int j = 0; j < TILE_VECTORS; j++) {
        inner[j] = vset(0.0f);
        for (int64_t m = 0; m < l->lower; m++)
            inner[j] = vfma(vload(p->lower + m * PANEL + j * VL), vload(p->dlower + m * PANEL + j * VL), inner[j]);
    }
    int64_t slice = l->top_slice;
    for (int64_t first = l->lower; first < l->features; first += BLOCK) {
        int64_t end = fur_min_i64(first + BLOCK, l->features);
        product(0, end - first, state_ER + fur_far_column(l, first), 1, l->stride, p->y, l->rows, p->top);
        for (int64_t m = first; m < end;) {
            const fur_far_slice *s = &l->slices[slice];
            int64_t to = fur_min_i64(s->start + s->length, end);
            slice_backward(s, m, to, p, p->top + (m - first) * PANEL, sum);
            FUR_UNROLL
            for (int j = 0; j < TILE_VECTORS; j++)
                inner[j] = vfma(vload(p->x + s->variable * PANEL + j * VL), sum[j], inner[j]);
            m = to;
            slice += m == s->start + s->length;
        }
    }
    for (slice = l->top_slice - 1; slice >= 0; slice--) {
        const fur_far_slice *s = &l->slices[slice];
        slice_backward(s, s->start, s->start + s->length, p, p->dlower + s->start * PANEL, sum);
    }
    FUR_UNROLL
    for (int j = 0; j < TILE_VECTORS; j++)
        vstore(p->inner + j * VL, inner[j]);
}

/* ---- features in the lanes --------------------------------------------------------------------------------------- */

/* to[i] = factor from[i]; whole vectors, so that up to VL - 1 more are read and written. */
FUR_ALWAYS_INLINE void scaled_copy(float *to, const float *from, int64_t count, float factor)
{
    V f = vset(factor);
    for (int64_t i = 0; i < count; i += VL)
        vstore(to + i, vmul(f, vload(from + i)));
}

static void form_lower_row(const fur_far_layout *l, const float *x_D, float *out)
{
    out[0] = 1;
    if (l->degree > 1) /* degree 1 is the row itself */
        memcpy(out + 1, x_D, (size_t)l->dim * sizeof *out);
    for (int64_t n = l->dim; n < l->top_slice; n++) {
        const fur_far_slice *s = &l->slices[n];
        scaled_copy(out + s->start, out + s->source, s->length, x_D[s->variable]);
    }
    memset(out + l->lower, 0, (size_t)(ld_lower(l) - l->lower) * sizeof *out);
}

/* Where the pieces of slices within a block come from. */
typedef struct piece {
    int64_t to, from, count, variable;
} piece;

static int64_t cut_block(const fur_far_layout *l, int64_t first, int64_t end, piece pieces[BLOCK])
{
    int64_t low = l->top_slice, high = l->slice_count - 1, count = 0;
    while (low < high) { /* the slice of `first` */
        int64_t middle = low + (high - low + 1) / 2;
        if (l->slices[middle].start <= first)
            low = middle;
        else
            high = middle - 1;
    }
    for (int64_t m = first; m < end; low++) {
        const fur_far_slice *s = &l->slices[low];
        int64_t to = fur_min_i64(s->start + s->length, end);
        pieces[count++] = (piece){m - first, s->source + m - s->start, to - m, s->variable};
        m = to;
    }
    return count;
}

/* One piece of the rows of all tokens: of a width known when compiled, or any (0). */
FUR_ALWAYS_INLINE void form_piece(int vectors, const fur_far_layout *l, const piece *p, int64_t tokens,
                                  const float *x_TD, const float *lower, float *top)
{
    int64_t ld = ld_lower(l), count = vectors ? vectors * VL : p->count;
    for (int64_t t = 0; t < tokens; t++)
        scaled_copy(top + t * LD_TOP + p->to, lower + t * ld + p->from, count, x_TD[t * l->dim + p->variable]);
}

/* Pieces ascend, so that the next one lies over what the last vector of one overran. */
static void form_block(const fur_far_layout *l, const piece *pieces, int64_t count, int64_t tokens, const float *x_TD,
                       const float *lower, float *top)
{
    for (int64_t i = 0; i < count; i++)
        switch (fur_div_up(pieces[i].count, VL)) {
        case 1: form_piece(1, l, &pieces[i], tokens, x_TD, lower, top); break;
        case 2: form_piece(2, l, &pieces[i], tokens, x_TD, lower, top); break;
        case 3: form_piece(3, l, &pieces[i], tokens, x_TD, lower, top); break;
        case 4: form_piece(4, l, &pieces[i], tokens, x_TD, lower, top); break;
        default: form_piece(0, l, &pieces[i], tokens, x_TD, lower, top); break;
        }
}

static void sum_block(const fur_far_layout *l, int64_t first, int64_t tokens, const float *x_TD, const float *y_TE,
                      const float *lower, const float *w_R, float *state_ER, float *top)
{
    piece pieces[BLOCK];
    int64_t end = fur_min_i64(first + BLOCK, l->features), width = fur_round_up(end - first, PANEL);
    int64_t count = cut_block(l, first, end, pieces), column = fur_far_column(l, first);
    form_block(l, pieces, count, tokens, x_TD, lower, top);
    for (int64_t t = 0; t < tokens && width > end - first; t++)
        memset(top + t * LD_TOP + (end - first), 0, (size_t)(width - (end - first)) * sizeof *top);
    for (int64_t m = 0; m < width; m += PANEL)
        sum_panel(l->rows, y_TE, l->rows, top + m, LD_TOP, tokens, w_R + column + m, state_ER + column + m, l->stride,
                  l->rows * l->stride);
}

static void add(const fur_far_layout *l, int64_t from, int64_t to, int64_t count, const float *x_TD, const float *y_TE,
                const float *w_R, float *state_ER, float *scratch)
{
    int64_t most = tokens_at_once(l), ld = ld_lower(l);
    float *lower = scratch, *top = scratch + most * ld;
    for (int64_t t = 0; t < count; t += most) {
        int64_t tokens = fur_min_i64(most, count - t);
        const float *x = x_TD + t * l->dim, *y = y_TE + t * l->rows;
        for (int64_t i = 0; i < tokens; i++)
            form_lower_row(l, x + i * l->dim, lower + i * ld);
        for (int64_t m = from; m < fur_min_i64(to, l->top_column); m += PANEL)
            sum_panel(l->rows, y, l->rows, lower + m, ld, tokens, w_R + m, state_ER + m, l->stride,
                      l->rows * l->stride);
        int64_t end = fur_min_i64(to, l->top_column + l->features - l->lower);
        for (int64_t m = fur_max_i64(from, l->top_column); m < end; m += BLOCK)
            sum_block(l, m - l->top_column + l->lower, tokens, x, y, lower, w_R, state_ER, top);
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
    int64_t D = call->layout.dim;
    const fur_far_keys *keys = call->keys;
    const float *rows[ROWS];
    /* rows widened from bf16 lie in p->rows, until they are turned */
    for (int64_t i = 0; i < p->lanes; i++)
        rows[i] = fur_bf16_row(keys->k_SKD, keys->k_bf16_SKD, fur_far_key_offset(call, kv_head, first + i), D,
                               p->rows + i * D);
    turn_in(rows, p->lanes, D, p->unit);
    for (int64_t i = 0; i < p->lanes; i++)
        rows[i] = fur_bf16_row(keys->v_SKD, keys->v_bf16_SKD, fur_far_key_offset(call, kv_head, first + i), D,
                               p->rows + i * D);
    turn_in(rows, p->lanes, D, p->y);
    centre(call, 1.0f, call->far->key_mean_KD + kv_head * D, p);
    memset(a, 0, ROWS * sizeof *a);
    add_along(call, call->far->query_mean_KD + kv_head * D, p->x, a);
    for (int j = 0; j < TILE_VECTORS; j++) {
        V weight = vexp(vload(a + j * VL));
        vstore(a + j * VL, weight);
        for (int64_t d = 0; d < D; d++) {
            float *at = p->y + d * PANEL + j * VL;
            vstore(at, vmul(weight, vload(at)));
        }
        vstore(p->y + D * PANEL + j * VL, weight);
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
        turn_out(p.x, ones, p.lanes, l->dim, x_TD + t * l->dim);
        turn_out(p.y, ones, p.lanes, l->rows, y_TE + t * l->rows);
    }
}

static void key_backward(const fur_far_call *call, int64_t kv_head, int64_t first, int64_t count, float *scratch)
{
    const fur_far_layout *l = &call->layout;
    const float *state = call->state_KER + kv_head * 2 * l->rows * l->stride;
    for (int64_t t = 0; t < count; t += PANEL) {
        panel p;
        float a[ROWS] FUR_ALIGNED(64), sign[ROWS];
        panel_place(l, fur_min_i64(PANEL, count - t), scratch, &p);
        key_panel(call, kv_head, first + t, &p, a);
        form_lower(l, &p);
        read_panel(l, state, &p);
        gradient_panel(l, state, &p);
        uncentre(call, call->far->query_mean_KD + kv_head * l->dim, &p);
        for (int64_t i = 0; i < p.lanes; i++) {
            sign[i] = call->sign;
            a[i] *= call->sign;
        }
        turn_out(p.u, a, p.lanes, l->dim, p.rows);
        for (int64_t i = 0; i < p.lanes; i++)
            merge_row(call->keys->dv_SKD + fur_far_key_offset(call, kv_head, first + t + i), p.rows + i * l->dim, 1,
                      l->dim);
        turn_out(p.dx, sign, p.lanes, l->dim, p.rows);
        for (int64_t i = 0; i < p.lanes; i++)
            merge_row(call->keys->dk_SKD + fur_far_key_offset(call, kv_head, first + t + i), p.rows + i * l->dim, 1,
                      l->dim);
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
        rows[i] = call->queries->q_THD + fur_far_query_offset(call, kv_head, begin + i);
        if (far->bias_H)
            f[i] = far->bias_H[kv_head * call->group + (begin + i) % call->group];
    }
    turn_in(rows, p->lanes, D, p->unit);
    centre(call, far->scale, far->query_mean_KD + kv_head * D, p);
    add_along(call, far->key_mean_KD + kv_head * D, p->unit, f);
}

/* lse of the panel's rows */
static void get_statistics(const fur_far_call *call, int64_t kv_head, int64_t begin, const panel *p, float lse[ROWS])
{
    memset(lse, 0, ROWS * sizeof *lse);
    for (int64_t i = 0; i < p->lanes; i++)
        lse[i] = call->queries->lse_TH[fur_far_query_offset(call, kv_head, begin + i) / call->layout.dim];
}

static void query(const fur_far_call *call, int64_t kv_head, int64_t begin, int64_t end, float *scratch)
{
    const fur_far_layout *l = &call->layout;
    const float *state = call->state_KER + kv_head * 2 * l->rows * l->stride;
    for (int64_t v = begin; v < end; v += PANEL) {
        panel p;
        float f[ROWS] FUR_ALIGNED(64), near[ROWS] FUR_ALIGNED(64), most[ROWS] FUR_ALIGNED(64), z[ROWS] FUR_ALIGNED(64);
        panel_place(l, fur_min_i64(PANEL, end - v), scratch, &p);
        query_panel(call, kv_head, v, &p, f);
        get_statistics(call, kv_head, v, &p, near);
        form_lower(l, &p);
        read_panel(l, state, &p);
        for (int j = 0; j < TILE_VECTORS; j++) {
            V a = vload(near + j * VL), b = vload(f + j * VL), m = vmax(a, b);
            V near_weight = vexp(vsub(a, m)), far_weight = vexp(vsub(b, m));
            V sum = vfma(far_weight, vload(p.u + l->dim * PANEL + j * VL), near_weight);
            vstore(most + j * VL, m);
            vstore(z + j * VL, sum);
            vstore(near + j * VL, vdiv(near_weight, sum));
            vstore(f + j * VL, vdiv(far_weight, sum));
        }
        turn_out(p.u, f, p.lanes, l->dim, p.rows);
        for (int64_t i = 0; i < p.lanes; i++) {
            int64_t at = fur_far_query_offset(call, kv_head, v + i);
            merge_row(call->queries->o_THD + at, p.rows + i * l->dim, near[i], l->dim);
            call->queries->lse_TH[at / l->dim] = z[i] > 0 ? most[i] + logf(z[i]) : NAN;
        }
    }
}

/* x = q~, y = dU of a panel */
static void query_backward_panel(const fur_far_call *call, int64_t kv_head, int64_t begin, panel *p)
{
    int64_t D = call->layout.dim;
    float f[ROWS] FUR_ALIGNED(64), lse[ROWS] FUR_ALIGNED(64);
    const float *rows[ROWS];
    query_panel(call, kv_head, begin, p, f);
    get_statistics(call, kv_head, begin, p, lse);
    for (int64_t i = 0; i < p->lanes; i++)
        rows[i] = call->queries->do_THD + fur_far_query_offset(call, kv_head, begin + i);
    turn_in(rows, p->lanes, D, p->y);
    for (int64_t i = 0; i < p->lanes; i++)
        rows[i] = call->queries->o_THD + fur_far_query_offset(call, kv_head, begin + i);
    turn_in(rows, p->lanes, D, p->u);
    for (int j = 0; j < TILE_VECTORS; j++) {
        V beta = vexp(vsub(vload(f + j * VL), vload(lse + j * VL))), delta = vset(0.0f);
        for (int64_t d = 0; d < D; d++) {
            float *at = p->y + d * PANEL + j * VL;
            V d_o = vload(at);
            delta = vfma(d_o, vload(p->u + d * PANEL + j * VL), delta);
            vstore(at, vmul(beta, d_o));
        }
        vstore(p->y + D * PANEL + j * VL, vsub(vset(0.0f), vmul(beta, delta)));
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
        turn_out(p.x, ones, p.lanes, l->dim, x_TD + (v - begin) * l->dim);
        turn_out(p.y, ones, p.lanes, l->rows, y_TE + (v - begin) * l->rows);
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
        form_lower(l, &p);
        gradient_panel(l, call->state_KER + kv_head * 2 * l->rows * l->stride, &p);
        uncentre(call, call->far->key_mean_KD + kv_head * l->dim, &p);
        turn_out(p.dx, ones, p.lanes, l->dim, p.rows);
        for (int64_t i = 0; i < p.lanes; i++) {
            merge_row(call->queries->dq_THD + fur_far_query_offset(call, kv_head, v + i), p.rows + i * l->dim, 1,
                      l->dim);
            df_T[v - begin + i] = p.inner[i];
        }
    }
}

#define FAR_KERNEL                                                                                                     \
    {                                                                                                                  \
        .scratch_floats = scratch_floats, .keys = keys, .add = add, .query = query, .queries = queries,                \
        .query_backward = query_backward, .key_backward = key_backward,                                                \
    }
