/* SPDX-License-Identifier: Apache-2.0 */
/* Features of the highest degree in pairs of bf16: what far_simd.h asks for beside far_panel.h, over a vocabulary of
 * pairs. Pairs are of neighbours along what a product sums over: tokens, features, or columns of a state, which is
 * packed once for all rows of a step. */
#include "op/simd/pairs_pack.h"

/* ---- packed states ----------------------------------------------------------------------------------------------- */

/* Words of a row of columns in pairs. */
static int64_t row_words(const fur_far_layout *l)
{
    return fur_div_up(l->columns, 2);
}

/* Pairs of features, [pairs][E], to be read; then pairs of columns, [feature][row_words], for gradients. */
static int64_t pair_words(const fur_far_layout *l)
{
    return fur_div_up(l->features - l->lower, 2) * l->columns;
}

static int64_t packed_words(const fur_far_layout *l)
{
    return pair_words(l) + (l->features - l->lower) * row_words(l);
}

static void pack(const fur_far_layout *l, fur_far_step_type type, int64_t from, int64_t to, const float *state_RE,
                 uint32_t *packed)
{
    int64_t E = l->columns;
    for (int64_t m = from; m < to && type != FUR_FAR_QUERY_BACKWARD; m += 2)
        round_pairs(state_RE + m * E, m + 1 < l->features ? state_RE + (m + 1) * E : NULL, E,
                    packed + (m - l->lower) / 2 * E);
    for (int64_t m = from; m < to && type != FUR_FAR_QUERY; m++)
        round_row(state_RE + m * E, E, packed + pair_words(l) + (m - l->lower) * row_words(l));
}

#define FAR_PACKING .packed_words = packed_words, .pack = pack

/* ---- products ---------------------------------------------------------------------------------------------------- */

/* c += A[.][k] B[k][.] over `depth` pairs; A[i][k] = a[i * a_row + k * a_k] */
FUR_ALWAYS_INLINE void pairs_multiply(int rows, int vectors, tile c, const uint32_t *a, int64_t a_row, int64_t a_k,
                                      const uint32_t *b, int64_t ldb, int64_t depth)
{
    for (int64_t k = 0; k < depth; k++) {
        W x[TILE_VECTORS];
        FUR_UNROLL
        for (int j = 0; j < vectors; j++)
            x[j] = wload(b + k * ldb + j * VL);
        FUR_UNROLL
        for (int i = 0; i < rows; i++) {
            W y = wset(a[i * a_row + k * a_k]);
            FUR_UNROLL
            for (int j = 0; j < vectors; j++)
                c[i][j] = wdot(y, x[j], c[i][j]);
        }
    }
}

FUR_ALWAYS_INLINE void pairs_tile(int rows, int add, const uint32_t *a, int64_t a_row, int64_t a_k, const uint32_t *b,
                                  int64_t depth, float *c)
{
    tile t;
    if (add)
        tile_load(rows, TILE_VECTORS, t, c, PANEL);
    else
        tile_zero(rows, TILE_VECTORS, t);
    pairs_multiply(rows, TILE_VECTORS, t, a, a_row, a_k, b, PANEL, depth);
    tile_store(rows, TILE_VECTORS, t, c, PANEL);
}

/* As `product`, over pairs */
static void pairs_product(int add, int64_t count, const uint32_t *a, int64_t a_row, int64_t a_k, const uint32_t *b,
                          int64_t depth, float *c)
{
    int64_t height = tile_height(count);
    for (int64_t i = 0; i < count; i += height) {
#define CASE(n)                                                                                                        \
    case n:                                                                                                            \
        if (add)                                                                                                       \
            pairs_tile(n, 1, a + i * a_row, a_row, a_k, b, depth, c + i * PANEL);                                      \
        else                                                                                                           \
            pairs_tile(n, 0, a + i * a_row, a_row, a_k, b, depth, c + i * PANEL);                                      \
        break;
        switch (fur_min_i64(height, count - i)) {
            EACH_ROWS(CASE)
        default: break;
        }
#undef CASE
    }
}

/* ---- sums -------------------------------------------------------------------------------------------------------- */

static int64_t sum_words(const fur_far_layout *l, int64_t tokens)
{
    return tokens / 2 * (l->columns + 1) + FUR_FAR_SPARE;
}

static void sum_pack(const fur_far_layout *l, token_sum *s, uint32_t *words)
{
    int64_t E = l->columns;
    s->y_pairs = words + s->ld / 2;
    s->last_pairs = words;
    for (int64_t t = 0; t < s->tokens; t += 2)
        round_pairs(s->y_TE + t * E, t + 1 < s->tokens ? s->y_TE + (t + 1) * E : NULL, E,
                    words + s->ld / 2 + t / 2 * E);
    round_row(s->last_T, s->ld, words);
}

/* As `form`, in bf16 along the tokens */
static void form_rounded(const fur_far_layout *l, int64_t slice, int64_t from, int64_t to, const float *x,
                         const float *lower, uint16_t *out, int64_t ld)
{
    for (int64_t m = from; m < to; slice++) {
        const fur_far_slice *s = &l->slices[slice];
        int64_t end = fur_min_i64(s->start + s->length, to);
        V factor[TILE_VECTORS];
        FUR_UNROLL
        for (int j = 0; j < TILE_VECTORS; j++)
            factor[j] = vload(x + s->variable * PANEL + j * VL);
        const float *source = lower + (s->source + m - s->start) * ld;
        for (; m < end; m++, source += ld) {
            FUR_UNROLL
            for (int j = 0; j < TILE_VECTORS; j++)
                wstore_row(out + (m - from) * ld + j * VL, vmul(factor[j], vload(source + j * VL)));
        }
    }
}

FUR_ALWAYS_INLINE void sum_pairs_tile(int rows, int vectors, const token_sum *s, int64_t first, int64_t column,
                                      int64_t columns, const uint32_t *phi)
{
    tile t;
    tile_zero(rows, vectors, t);
    pairs_multiply(rows, vectors, t, phi, s->ld / 2, 1, s->y_pairs + column, s->columns, fur_div_up(s->tokens, 2));
    sum_store(rows, vectors, s, first, column, columns, t);
}

static void sum_top(const fur_far_layout *l, const token_sum *s, int64_t first, int64_t count, const float *x_TD,
                    const float *lower, float *top)
{
    int64_t slice = slice_of(l, first), all = vector_columns(s->columns), height = tile_height(count);
    uint32_t *phi = (uint32_t *)(void *)top;
    for (int64_t t = 0; t < s->tokens; t += PANEL)
        form_rounded(l, slice, first, first + count, x_TD + t * l->dim, lower + t, (uint16_t *)(void *)top + t, s->ld);
    for (int64_t column = 0; column < all; column += PANEL)
        for (int64_t i = 0; i < count; i += height) {
            int64_t columns = fur_min_i64(PANEL, all - column);
#define CASE(n)                                                                                                        \
    case n:                                                                                                            \
        if (columns > PANEL - VL)                                                                                      \
            sum_pairs_tile(n, TILE_VECTORS, s, first + i, column, columns, phi + i * s->ld / 2);                       \
        else                                                                                                           \
            sum_pairs_tile(n, 1, s, first + i, column, columns, phi + i * s->ld / 2);                                  \
        break;
            switch (fur_min_i64(height, count - i)) {
                EACH_ROWS(CASE)
            default: break;
            }
#undef CASE
        }
    for (int64_t i = 0; i < count && all < s->columns; i++) {
        V x = vset(0.0f);
        for (int64_t t = 0; t < fur_div_up(s->tokens, 2); t += VL)
            x = wdot(wload(phi + i * s->ld / 2 + t), wload(s->last_pairs + t), x);
        sum_last(s, first + i, vsum(x));
    }
}

/* ---- a panel ----------------------------------------------------------------------------------------------------- */

/* As `form`, in pairs of features. */
static void form_pairs(const fur_far_layout *l, int64_t *slice, int64_t from, int64_t to, const float *x,
                       const float *lower, uint32_t *out)
{
    V held[TILE_VECTORS] = {vset(0.0f)};
    int holds = 0;
    for (int64_t m = from; m < to;) {
        const fur_far_slice *s = &l->slices[*slice];
        int64_t end = fur_min_i64(s->start + s->length, to);
        const float *source = lower + (s->source + m - s->start) * PANEL, *by = x + s->variable * PANEL;
        V factor[TILE_VECTORS];
        FUR_UNROLL
        for (int j = 0; j < TILE_VECTORS; j++)
            factor[j] = vload(by + j * VL);
        if (holds) {
            FUR_UNROLL
            for (int j = 0; j < TILE_VECTORS; j++)
                wstore(out + j * VL, wround(held[j], vmul(factor[j], vload(source + j * VL))));
            m++, source += PANEL, out += PANEL;
        }
        for (; m + 1 < end; m += 2, source += (ptrdiff_t)2 * PANEL, out += PANEL) {
            FUR_UNROLL
            for (int j = 0; j < TILE_VECTORS; j++)
                wstore(out + j * VL, wround(vmul(factor[j], vload(source + j * VL)),
                                            vmul(factor[j], vload(source + PANEL + j * VL))));
        }
        holds = m < end;
        FUR_UNROLL
        for (int j = 0; j < TILE_VECTORS && holds; j++)
            held[j] = vmul(factor[j], vload(source + j * VL));
        m += holds;
        *slice += m == s->start + s->length;
    }
    FUR_UNROLL
    for (int j = 0; j < TILE_VECTORS && holds; j++)
        wstore(out + j * VL, wround(held[j], vset(0.0f)));
}

static void read_top(const fur_far_call *call, const float *state_RE, const panel *p)
{
    const fur_far_layout *l = &call->layout;
    uint32_t *top = (uint32_t *)(void *)p->top;
    int64_t slice = l->top_slice;
    (void)state_RE;
    for (int64_t m = l->lower; m < l->features; m += BLOCK) {
        int64_t count = fur_min_i64(BLOCK, l->features - m);
        form_pairs(l, &slice, m, m + count, p->x, p->lower, top);
        pairs_product(1, l->columns, call->packed + (m - l->lower) / 2 * l->columns, 1, l->columns, top,
                      fur_div_up(count, 2), p->u);
    }
}

static void gradient_pack(const fur_far_layout *l, const panel *p)
{
    for (int64_t e = 0; e < l->columns; e += 2)
        round_pairs(p->y + e * PANEL, e + 1 < l->columns ? p->y + (e + 1) * PANEL : NULL, PANEL,
                    p->pairs + e / 2 * PANEL);
}

static void gradient_top(const fur_far_call *call, const float *state_RE, const panel *p, int64_t first, int64_t count)
{
    const fur_far_layout *l = &call->layout;
    int64_t words = row_words(l);
    (void)state_RE;
    pairs_product(0, count, call->packed + pair_words(l) + (first - l->lower) * words, words, 1, p->pairs, words,
                  p->top);
}
