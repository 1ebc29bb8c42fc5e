/* SPDX-License-Identifier: Apache-2.0 */
/* block_product of attention_bf16.h in register tiles of rows x vectors. */
#include "base/size.h"

/* C[rows][vectors] (+)= A B, A broadcast word by word */
FUR_ALWAYS_INLINE void pair_tile(int rows, int vectors, float *c, int64_t ldc, const uint32_t *a, int64_t lda,
                                 const uint32_t *b, int64_t ldb, int64_t depth, int add)
{
    V sum[12][4];
    FUR_UNROLL
    for (int i = 0; i < rows; i++) {
        FUR_UNROLL
        for (int n = 0; n < vectors; n++)
            sum[i][n] = add ? vload(c + i * ldc + n * VL) : vset(0.0f);
    }
    for (int64_t p = 0; p < depth; p++) {
        W x[4];
        FUR_UNROLL
        for (int n = 0; n < vectors; n++)
            x[n] = wload(b + p * ldb + n * VL);
        FUR_UNROLL
        for (int i = 0; i < rows; i++) {
            W y = wset(a[i * lda + p]);
            FUR_UNROLL
            for (int n = 0; n < vectors; n++)
                sum[i][n] = wdot(y, x[n], sum[i][n]);
        }
    }
    FUR_UNROLL
    for (int i = 0; i < rows; i++) {
        FUR_UNROLL
        for (int n = 0; n < vectors; n++)
            vstore(c + i * ldc + n * VL, sum[i][n]);
    }
}

/* All rows of up to four vectors; the last tile may run past m. */
FUR_ALWAYS_INLINE void pair_columns(int rows, int vectors, int64_t m, float *c, int64_t ldc, const uint32_t *a,
                                    int64_t lda, const uint32_t *b, int64_t ldb, int64_t depth, int add)
{
    int64_t i = 0;
    for (; m - i > 4; i += rows)
        pair_tile(rows, vectors, c + i * ldc, ldc, a + i * lda, lda, b, ldb, depth, add);
    if (i < m)
        pair_tile(4, vectors, c + i * ldc, ldc, a + i * lda, lda, b, ldb, depth, add);
}

#define PAIR_COLUMNS(rows, vectors)                                                                                    \
    static FUR_NOINLINE void pair_columns_##vectors(int64_t m, float *c, int64_t ldc, const uint32_t *a, int64_t lda,  \
                                                    const uint32_t *b, int64_t ldb, int64_t depth, int add)            \
    {                                                                                                                  \
        if (add)                                                                                                       \
            pair_columns(rows, vectors, m, c, ldc, a, lda, b, ldb, depth, 1);                                          \
        else                                                                                                           \
            pair_columns(rows, vectors, m, c, ldc, a, lda, b, ldb, depth, 0);                                          \
    }
PAIR_COLUMNS(12, 1)
PAIR_COLUMNS(12, 2)
PAIR_COLUMNS(8, 3)
PAIR_COLUMNS(6, 4)

/* C[m][lanes] = (add ? C : 0) + A[m][depth] B[depth][lanes]; lanes a multiple of 16, depth in pairs; strides in
 * elements and words. Rows up to 8 past m may be read and written. */
static void block_product(int64_t m, int64_t lanes, float *c, int64_t ldc, const uint32_t *a, int64_t lda,
                          const uint32_t *b, int64_t ldb, int64_t depth, int add)
{
    static void (*const columns[])(int64_t, float *, int64_t, const uint32_t *, int64_t, const uint32_t *, int64_t,
                                   int64_t,
                                   int) = {NULL, pair_columns_1, pair_columns_2, pair_columns_3, pair_columns_4};
    int64_t vectors = lanes / VL;
    for (int64_t parts = fur_div_up(vectors, 4), at = 0; parts > 0; parts--) {
        int64_t part = fur_div_up(vectors, parts);
        columns[part](m, c + at, ldc, a, lda, b + at, ldb, depth, add);
        at += part * VL;
        vectors -= part;
    }
}
