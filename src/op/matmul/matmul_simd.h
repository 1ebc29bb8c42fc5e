/* SPDX-License-Identifier: Apache-2.0 */
/* Block products for the vector variants: C strips of STRIP rows by PART_VECTORS vectors in registers. Define both
 * and include the vocabularies first. */
#include "op/matmul/matmul_pack_simd.h"

enum {
    PARTS = FUR_MATMUL_PANEL / (PART_VECTORS * VL),
    DEPTH_BLOCK = 160 /* pairs: that much of a panel lies in the innermost cache */
};

/* c[STRIP][PART_VECTORS] over pairs [0, depth) */
FUR_ALWAYS_INLINE void strip(const uint32_t *a, int64_t lda, const uint32_t *b, int64_t depth, V c[STRIP][PART_VECTORS])
{
    for (int64_t p = 0; p < depth; p++) {
        W x[PART_VECTORS];
        FUR_UNROLL
        for (int n = 0; n < PART_VECTORS; n++)
            x[n] = wload(b + p * FUR_MATMUL_PANEL + n * VL);
        FUR_UNROLL
        for (int i = 0; i < STRIP; i++) {
            W y = wset(a[i * lda + p]);
            FUR_UNROLL
            for (int n = 0; n < PART_VECTORS; n++)
                c[i][n] = wdot(y, x[n], c[i][n]);
        }
    }
}

static void strip_onto(const uint32_t *a, int64_t lda, const uint32_t *b, int64_t depth, float *to, int64_t ld)
{
    V c[STRIP][PART_VECTORS];
    FUR_UNROLL
    for (int i = 0; i < STRIP; i++) {
        FUR_UNROLL
        for (int n = 0; n < PART_VECTORS; n++)
            c[i][n] = vload(to + i * ld + n * VL);
    }
    strip(a, lda, b, depth, c);
    FUR_UNROLL
    for (int i = 0; i < STRIP; i++) {
        FUR_UNROLL
        for (int n = 0; n < PART_VECTORS; n++)
            vstore(to + i * ld + n * VL, c[i][n]);
    }
}

/* What the sums of a strip start from. */
static void begin_strip(const fur_matmul_block *x, int64_t i0, int64_t rows, float *to, int64_t ld)
{
    for (int64_t i = 0; i < STRIP; i++) {
        float *row = to + i * ld;
        if (i < rows && x->accumulate && to != x->c + i0 * x->ldc)
            memcpy(row, x->c + (i0 + i) * x->ldc, (size_t)x->columns * sizeof *row);
        else if (i < rows && !x->accumulate && x->bias)
            memcpy(row, x->bias, (size_t)x->columns * sizeof *row);
        else if (!(i < rows && x->accumulate))
            memset(row, 0, (size_t)x->columns * sizeof *row);
    }
}

/* Strips that C does not hold as a whole go through a copy. Every element sums its pairs in order, in one register, so
 * its bits do not depend on its place. */
static void multiply(const fur_matmul_block *x)
{
    float edge[STRIP * FUR_MATMUL_PANEL] = {0};
    for (int64_t k = 0; k < x->depth || k == 0; k += DEPTH_BLOCK) {
        int64_t depth = fur_min_i64(DEPTH_BLOCK, x->depth - k);
        for (int64_t i = 0; i < x->rows; i += STRIP) {
            int64_t rows = fur_min_i64(STRIP, x->rows - i);
            int whole = rows == STRIP && x->columns == FUR_MATMUL_PANEL;
            float *to = whole ? x->c + i * x->ldc : edge;
            int64_t ld = whole ? x->ldc : FUR_MATMUL_PANEL;
            if (k == 0) {
                begin_strip(x, i, rows, to, ld);
            } else if (!whole) {
                for (int64_t r = 0; r < rows; r++)
                    memcpy(edge + r * ld, x->c + (i + r) * x->ldc, (size_t)x->columns * sizeof *edge);
            }
            for (int64_t n = 0; n < PARTS; n++)
                strip_onto(x->a + i * x->lda + k, x->lda, x->b + k * FUR_MATMUL_PANEL + n * PART_VECTORS * VL, depth,
                           to + n * PART_VECTORS * VL, ld);
            for (int64_t r = 0; r < rows && !whole; r++)
                memcpy(x->c + (i + r) * x->ldc, edge + r * ld, (size_t)x->columns * sizeof *edge);
        }
    }
}
