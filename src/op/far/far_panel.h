/* SPDX-License-Identifier: Apache-2.0 */
/* What far's vector variants are made of, over the vocabulary of op/simd (no include guard: each variant includes it
 * once): panels of tokens, products in register tiles, features.
 *
 * Tokens are in the lanes when features are formed, [feature][token]: a slice is then its variable's row times rows of
 * lower features. A product that reads a state sums over features, with those rows as its lanes and the columns of the
 * state broadcast. A product that sums tokens broadcasts the features, which lie as rows along the tokens, and has the
 * columns of the state as its lanes; the one column that would begin a vector of its own is summed by itself. */
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
    SUM_BLOCK = 24,         /* features of all tokens that are formed at a time where tokens are summed */
    MOST_TOKENS = 128,      /* summed at a time: so many share a pass over the state */
    LOWER_FLOATS = 3 << 15, /* of lower features of all of them, for the second cache */
};

/* One panel of tokens: [.][PANEL] each. */
typedef struct panel {
    int64_t lanes;
    float *unit, *x, *dx;        /* [D] row / |row|; centred; its gradient */
    float *lower, *dlower, *top; /* features below the highest degree, their gradient; a block of the highest */
    float *u, *y;                /* [E] what a state gives; what it is multiplied by */
    uint32_t *pairs;             /* [E / 2] y in bf16 */
    float *rows;                 /* [PANEL][D or E] */
    int64_t row[ROWS];           /* index of each lane's row */
    float reciprocal[ROWS] FUR_ALIGNED(64), inner[ROWS] FUR_ALIGNED(64); /* 1 / |row|; phi . S^T y */
} panel;

static int64_t widest(const fur_far_layout *l)
{
    return fur_max_i64(l->dim, l->columns);
}

static int64_t panel_floats(const fur_far_layout *l)
{
    int64_t pairs = fur_div_up(l->columns, 2);
    return (3 * l->dim + 2 * l->lower + BLOCK + 2 * l->columns + pairs + widest(l)) * PANEL;
}

static void panel_place(const fur_far_layout *l, int64_t lanes, float *scratch, panel *p)
{
    p->lanes = lanes;
    p->unit = scratch;
    p->x = p->unit + l->dim * PANEL;
    p->dx = p->x + l->dim * PANEL;
    p->lower = p->dx + l->dim * PANEL;
    p->dlower = p->lower + l->lower * PANEL;
    p->top = p->dlower + l->lower * PANEL;
    p->u = p->top + (ptrdiff_t)BLOCK * PANEL;
    p->y = p->u + l->columns * PANEL;
    p->rows = p->y + l->columns * PANEL;
    p->pairs = (uint32_t *)(void *)(p->rows + widest(l) * PANEL);
}

/* ---- products ---------------------------------------------------------------------------------------------------- */

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

/* ---- sums -------------------------------------------------------------------------------------------------------- */

/* What tokens are summed with, and into. */
typedef struct token_sum {
    int64_t tokens, ld;                   /* their number; from row to row of features, a multiple of PANEL */
    const float *y_TE;                    /* rows */
    const float *last_T;                  /* its last column, zero up to whole vectors */
    const uint32_t *y_pairs, *last_pairs; /* both in pairs of tokens */
    const float *w_R;
    float *state_RE;
    int64_t columns, half; /* E; floats of half the state */
} token_sum;

/* Columns that are summed by vectors: all, unless the last one would need a vector for itself. */
static int64_t vector_columns(int64_t columns)
{
    return columns % VL == 1 ? columns - 1 : columns;
}

/* at += x, what rounding leaves at rest: Knuth's exact sum of two */
FUR_ALWAYS_INLINE V exact_sum(V at, V rest, V weight, V x, V *rest_out)
{
    V add = vfma(weight, x, rest), next = vadd(at, add), part = vsub(next, at);
    *rest_out = vadd(vsub(at, vsub(next, part)), vsub(add, part));
    return next;
}

/* state[i][.] += w[i] t[i][.] for features from `first` on, `columns` columns from `column` on */
FUR_ALWAYS_INLINE void sum_store(int rows, int vectors, const token_sum *s, int64_t first, int64_t column,
                                 int64_t columns, tile t)
{
    int whole = columns >= vectors * VL;
    FUR_UNROLL
    for (int i = 0; i < rows; i++) {
        float *at = s->state_RE + (first + i) * s->columns + column, *rest = at + s->half;
        V weight = vset(s->w_R[first + i]), left;
        FUR_UNROLL
        for (int j = 0; j < vectors; j++) {
            int64_t part = j < vectors - 1 ? VL : columns - j * VL;
            if (whole || j < vectors - 1) {
                vstore(at + j * VL, exact_sum(vload(at + j * VL), vload(rest + j * VL), weight, t[i][j], &left));
                vstore(rest + j * VL, left);
            } else {
                V next =
                    exact_sum(vload_part(at + j * VL, part), vload_part(rest + j * VL, part), weight, t[i][j], &left);
                vstore_part(at + j * VL, part, next);
                vstore_part(rest + j * VL, part, left);
            }
        }
    }
}

/* The same of the last column alone. */
static void sum_last(const token_sum *s, int64_t feature, float x)
{
    float *at = s->state_RE + feature * s->columns + s->columns - 1, *rest = at + s->half;
    float add = s->w_R[feature] * x + *rest, next = *at + add, part = next - *at;
    *rest = (*at - (next - part)) + (add - part);
    *at = next;
}

FUR_ALWAYS_INLINE void sum_tile(int rows, int vectors, const token_sum *s, int64_t first, int64_t column,
                                int64_t columns, const float *phi)
{
    tile t;
    tile_zero(rows, vectors, t);
    tile_multiply(rows, vectors, t, phi, s->ld, 1, s->y_TE + column, s->columns, 0, s->tokens);
    sum_store(rows, vectors, s, first, column, columns, t);
}

/* Features first .. first+count-1, whose rows are phi: f32. */
static void sum_rows(const token_sum *s, int64_t first, int64_t count, const float *phi)
{
    int64_t all = vector_columns(s->columns), height = tile_height(count);
    for (int64_t column = 0; column < all; column += PANEL)
        for (int64_t i = 0; i < count; i += height) {
            int64_t columns = fur_min_i64(PANEL, all - column);
#define CASE(n)                                                                                                        \
    case n:                                                                                                            \
        if (columns > PANEL - VL)                                                                                      \
            sum_tile(n, TILE_VECTORS, s, first + i, column, columns, phi + i * s->ld);                                 \
        else                                                                                                           \
            sum_tile(n, 1, s, first + i, column, columns, phi + i * s->ld);                                            \
        break;
            switch (fur_min_i64(height, count - i)) {
                EACH_ROWS(CASE)
            default: break;
            }
#undef CASE
        }
    for (int64_t i = 0; i < count && all < s->columns; i++) {
        V x = vset(0.0f);
        for (int64_t t = 0; t < s->tokens; t += VL)
            x = vfma(vload(phi + i * s->ld + t), vload(s->last_T + t), x);
        sum_last(s, first + i, vsum(x));
    }
}

/* ---- features ---------------------------------------------------------------------------------------------------- */

/* A panel's features [from, to) into out; *slice is that of `from`, and becomes that of `to`. */
static void form(const fur_far_layout *l, int64_t *slice, int64_t from, int64_t to, const float *x, const float *lower,
                 float *out, int64_t ld)
{
    for (int64_t m = from; m < to;) {
        const fur_far_slice *s = &l->slices[*slice];
        int64_t end = fur_min_i64(s->start + s->length, to);
        V factor[TILE_VECTORS];
        FUR_UNROLL
        for (int j = 0; j < TILE_VECTORS; j++)
            factor[j] = vload(x + s->variable * PANEL + j * VL);
        const float *source = lower + (s->source + m - s->start) * ld;
        for (; m < end; m++, source += ld) {
            FUR_UNROLL
            for (int j = 0; j < TILE_VECTORS; j++)
                vstore(out + (m - from) * ld + j * VL, vmul(factor[j], vload(source + j * VL)));
        }
        *slice += m == s->start + s->length;
    }
}

/* Rows of `lower` and x are ld, and PANEL, apart. */
static void form_lower(const fur_far_layout *l, const float *x, float *lower, int64_t ld)
{
    int64_t slice = 0;
    FUR_UNROLL
    for (int j = 0; j < TILE_VECTORS; j++)
        vstore(lower + j * VL, vset(1.0f));
    form(l, &slice, 1, l->lower, x, lower, lower + ld, ld);
}

/* The slice of the highest degree that feature m belongs to. */
static int64_t slice_of(const fur_far_layout *l, int64_t m)
{
    int64_t low = l->top_slice, high = l->slice_count - 1;
    while (low < high) {
        int64_t middle = low + (high - low + 1) / 2;
        if (l->slices[middle].start <= m)
            low = middle;
        else
            high = middle - 1;
    }
    return low;
}
