/* SPDX-License-Identifier: Apache-2.0 */
#include "op/simd/simd_avx2.h"

static inline V load_bf16(const uint16_t *p)
{
    __m128i half = _mm_loadu_si128((const void *)p);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16));
}

static inline V load_int8(const int8_t *p)
{
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const void *)p)));
}

#include "op/gemv/gemv_simd.h"

const fur_gemv_kernel fur_gemv_avx2 = {.rows = ALL_ROWS};
