/* SPDX-License-Identifier: Apache-2.0 */
#include "op/simd/simd_avx512.h"

static inline V load_bf16(const uint16_t *p)
{
    __m256i half = _mm256_loadu_si256((const void *)p);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}

static inline V load_int8(const int8_t *p)
{
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const void *)p)));
}

#include "op/gemv/gemv_simd.h"

const fur_gemv_kernel fur_gemv_avx512 = {.rows = ALL_ROWS};
