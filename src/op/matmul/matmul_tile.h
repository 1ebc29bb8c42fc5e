/* SPDX-License-Identifier: Apache-2.0 */
/* Block products from tiles: 32 rows by 32 columns of C in four of them. Include a tile vocabulary first. */
#include <string.h>

#include "base/compiler.h"
#include "op/matmul/matmul_kernel.h"

enum { SIDE = 32 };

/* c[SIDE][SIDE] += a[SIDE][.] b[.][SIDE] over `depth` pairs, a multiple of 16 */
static void square(const uint32_t *a, int64_t lda, const uint32_t *b, int64_t depth, float *c, int64_t ldc)
{
    const int64_t a_bytes = lda * 4, b_bytes = (int64_t)FUR_MATMUL_PANEL * 4, c_bytes = ldc * 4;
    tiles_load(0, c, c_bytes);
    tiles_load(1, c + 16, c_bytes);
    tiles_load(2, c + 16 * ldc, c_bytes);
    tiles_load(3, c + 16 * ldc + 16, c_bytes);
    for (int64_t p = 0; p < depth; p += 16) {
        tiles_load(4, a + p, a_bytes);
        tiles_load(6, b + p * FUR_MATMUL_PANEL, b_bytes);
        tiles_multiply(0, 4, 6);
        tiles_load(7, b + p * FUR_MATMUL_PANEL + 16, b_bytes);
        tiles_multiply(1, 4, 7);
        tiles_load(5, a + 16 * lda + p, a_bytes);
        tiles_multiply(2, 5, 6);
        tiles_multiply(3, 5, 7);
    }
    tiles_store(0, c, c_bytes);
    tiles_store(1, c + 16, c_bytes);
    tiles_store(2, c + 16 * ldc, c_bytes);
    tiles_store(3, c + 16 * ldc + 16, c_bytes);
}

/* Where the sums start, and where C does not hold a square as a whole: a copy. */
static void square_of(const fur_matmul_block *x, int64_t i, int64_t j)
{
    int64_t rows = fur_min_i64(SIDE, x->rows - i), columns = fur_min_i64(SIDE, x->columns - j);
    float copy[SIDE * SIDE] FUR_ALIGNED(64) = {0}, *to = x->c + i * x->ldc + j;
    for (int64_t r = 0; r < rows; r++) {
        if (x->accumulate)
            memcpy(copy + r * SIDE, to + r * x->ldc, (size_t)columns * sizeof *copy);
        else if (x->bias)
            memcpy(copy + r * SIDE, x->bias + j, (size_t)columns * sizeof *copy);
    }
    square(x->a + i * x->lda, x->lda, x->b + j, x->depth, copy, SIDE);
    for (int64_t r = 0; r < rows; r++)
        memcpy(to + r * x->ldc, copy + r * SIDE, (size_t)columns * sizeof *copy);
}

/* The tile configuration does not outlive the call: a library called between two may clear it. */
static void multiply(const fur_matmul_block *x)
{
    tiles_begin();
    for (int64_t j = 0; j < x->columns; j += SIDE)
        for (int64_t i = 0; i < x->rows; i += SIDE)
            square_of(x, i, j);
    tiles_end();
}
