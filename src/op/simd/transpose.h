/* SPDX-License-Identifier: Apache-2.0 */
/* The transpose of 8 x 8 words in registers; for AVX2 and above. */
#ifndef FUR_OP_SIMD_TRANSPOSE_H
#define FUR_OP_SIMD_TRANSPOSE_H

#include <immintrin.h>

#include "base/compiler.h"

/* r[j][i] = r[i][j] */
FUR_ALWAYS_INLINE void transpose_8(__m256 r[8])
{
    __m256 t[8], u[8];
    FUR_UNROLL
    for (int i = 0; i < 8; i += 2) {
        t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
    }
    FUR_UNROLL
    for (int i = 0; i < 8; i += 4) {
        u[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
        u[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xee);
        u[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
        u[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xee);
    }
    FUR_UNROLL
    for (int i = 0; i < 4; i++) {
        r[i] = _mm256_permute2f128_ps(u[i], u[i + 4], 0x20);
        r[i + 4] = _mm256_permute2f128_ps(u[i], u[i + 4], 0x31);
    }
}

#endif
