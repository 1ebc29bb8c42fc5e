/* SPDX-License-Identifier: Apache-2.0 */
/* block_product of attention_bf16.h from tiles of 16 x 16; include a tile vocabulary first. */
#include "base/size.h"

/* 32 x 32 of C where `wide` and `tall`, else 16 of a side */
FUR_ALWAYS_INLINE void tile_square(int tall, int wide, float *c, int64_t ldc, const uint32_t *a, int64_t lda,
                                   const uint32_t *b, int64_t ldb, int64_t depth, int add)
{
    if (add) {
        tiles_load(0, c, ldc * 4);
        if (wide)
            tiles_load(1, c + 16, ldc * 4);
        if (tall)
            tiles_load(2, c + 16 * ldc, ldc * 4);
        if (tall && wide)
            tiles_load(3, c + 16 * ldc + 16, ldc * 4);
    } else {
        tiles_zero(0);
        tiles_zero(1);
        tiles_zero(2);
        tiles_zero(3);
    }
    for (int64_t p = 0; p < depth; p += 16) {
        tiles_load(4, a + p, lda * 4);
        tiles_load(6, b + p * ldb, ldb * 4);
        tiles_multiply(0, 4, 6);
        if (wide) {
            tiles_load(7, b + p * ldb + 16, ldb * 4);
            tiles_multiply(1, 4, 7);
        }
        if (tall) {
            tiles_load(5, a + 16 * lda + p, lda * 4);
            tiles_multiply(2, 5, 6);
        }
        if (tall && wide)
            tiles_multiply(3, 5, 7);
    }
    tiles_store(0, c, ldc * 4);
    if (wide)
        tiles_store(1, c + 16, ldc * 4);
    if (tall)
        tiles_store(2, c + 16 * ldc, ldc * 4);
    if (tall && wide)
        tiles_store(3, c + 16 * ldc + 16, ldc * 4);
}

/* As in attention_pairs.h; rows up to 15 past m may be read and written, depth is a multiple of 16. */
static void block_product(int64_t m, int64_t lanes, float *c, int64_t ldc, const uint32_t *a, int64_t lda,
                          const uint32_t *b, int64_t ldb, int64_t depth, int add)
{
    tiles_begin(); /* not held across calls: libraries may clear it */
    for (int64_t n = 0; n < lanes; n += 32)
        for (int64_t i = 0; i < m; i += 32) {
            float *to = c + i * ldc + n;
            const uint32_t *rows = a + i * lda, *columns = b + n;
            if (m - i > 16 && lanes - n > 16)
                tile_square(1, 1, to, ldc, rows, lda, columns, ldb, depth, add);
            else if (m - i > 16)
                tile_square(1, 0, to, ldc, rows, lda, columns, ldb, depth, add);
            else if (lanes - n > 16)
                tile_square(0, 1, to, ldc, rows, lda, columns, ldb, depth, add);
            else
                tile_square(0, 0, to, ldc, rows, lda, columns, ldb, depth, add);
        }
    tiles_end();
}
