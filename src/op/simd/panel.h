/* SPDX-License-Identifier: Apache-2.0 */
/* Register tiles, and panels: PANEL rows turned so that each stands in a lane, [depth][PANEL]. Over the vocabulary of
 * simd_<isa>.h and the includer's TILE_VECTORS, the vectors of a panel's row. */
#ifndef FUR_OP_SIMD_PANEL_H
#define FUR_OP_SIMD_PANEL_H

#include "base/compiler.h"
#include "base/size.h"
#include "op/simd/transpose.h"

enum {
    PANEL = TILE_VECTORS * VL, /* lanes of a tile */
    LONGEST_TILE = 12
};

/* ---- register tiles ---------------------------------------------------------------------------------------------- */

typedef V tile[LONGEST_TILE][TILE_VECTORS];

FUR_ALWAYS_INLINE void tile_zero(int rows, int vectors, tile c)
{
    FUR_UNROLL
    for (int i = 0; i < rows; i++) {
        FUR_UNROLL
        for (int j = 0; j < vectors; j++)
            c[i][j] = vset(0.0f);
    }
}

FUR_ALWAYS_INLINE void tile_load(int rows, int vectors, tile c, const float *from, int64_t ld)
{
    FUR_UNROLL
    for (int i = 0; i < rows; i++) {
        FUR_UNROLL
        for (int j = 0; j < vectors; j++)
            c[i][j] = vload(from + i * ld + j * VL);
    }
}

FUR_ALWAYS_INLINE void tile_store(int rows, int vectors, tile c, float *to, int64_t ld)
{
    FUR_UNROLL
    for (int i = 0; i < rows; i++) {
        FUR_UNROLL
        for (int j = 0; j < vectors; j++)
            vstore(to + i * ld + j * VL, c[i][j]);
    }
}

/* c += A[.][k] B[k][.] for k in [from, to); A[i][k] = a[i * a_row + k * a_k] */
FUR_ALWAYS_INLINE void tile_multiply(int rows, int vectors, tile c, const float *a, int64_t a_row, int64_t a_k,
                                     const float *b, int64_t ldb, int64_t from, int64_t to)
{
    for (int64_t k = from; k < to; k++) {
        V x[TILE_VECTORS];
        FUR_UNROLL
        for (int j = 0; j < vectors; j++)
            x[j] = vload(b + k * ldb + j * VL);
        FUR_UNROLL
        for (int i = 0; i < rows; i++) {
            V y = vset(a[i * a_row + k * a_k]);
            FUR_UNROLL
            for (int j = 0; j < vectors; j++)
                c[i][j] = vfma(y, x[j], c[i][j]);
        }
    }
}

/* ---- panels ------------------------------------------------------------------------------------------------------ */

/* to[d][lane] = scale * rows[lane][d], `lanes` <= PANEL of them; the lanes up to the vector's end become 0 */
static void pack_panel(const float *const *rows, int64_t lanes, int64_t depth, float scale, float *to)
{
    int64_t lane = 0;
    for (; lane + 8 <= lanes; lane += 8) {
        int64_t d = 0;
        for (; d + 8 <= depth; d += 8) {
            __m256 r[8];
            FUR_UNROLL
            for (int i = 0; i < 8; i++)
                r[i] = _mm256_mul_ps(_mm256_set1_ps(scale), _mm256_loadu_ps(rows[lane + i] + d));
            transpose_8(r);
            FUR_UNROLL
            for (int i = 0; i < 8; i++)
                _mm256_storeu_ps(to + (d + i) * PANEL + lane, r[i]);
        }
        for (; d < depth; d++)
            for (int i = 0; i < 8; i++)
                to[d * PANEL + lane + i] = scale * rows[lane + i][d];
    }
    int64_t end = fur_round_up(lanes, VL);
    for (; lane < end; lane++)
        for (int64_t d = 0; d < depth; d++)
            to[d * PANEL + lane] = lane < lanes ? scale * rows[lane][d] : 0.0f;
}

/* rows[lane][d] = scale[lane] * from[d][lane] */
static void unpack_panel(const float *from, const float *scale, int64_t lanes, int64_t depth, float *const *rows)
{
    int64_t lane = 0;
    for (; lane + 8 <= lanes; lane += 8) {
        __m256 factor = _mm256_loadu_ps(scale + lane);
        int64_t d = 0;
        for (; d + 8 <= depth; d += 8) {
            __m256 r[8];
            FUR_UNROLL
            for (int i = 0; i < 8; i++)
                r[i] = _mm256_mul_ps(factor, _mm256_loadu_ps(from + (d + i) * PANEL + lane));
            transpose_8(r);
            FUR_UNROLL
            for (int i = 0; i < 8; i++)
                _mm256_storeu_ps(rows[lane + i] + d, r[i]);
        }
        for (; d < depth; d++)
            for (int i = 0; i < 8; i++)
                rows[lane + i][d] = scale[lane + i] * from[d * PANEL + lane + i];
    }
    for (; lane < lanes; lane++)
        for (int64_t d = 0; d < depth; d++)
            rows[lane][d] = scale[lane] * from[d * PANEL + lane];
}

#endif
