/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "op/simd/simd_avx2.h"

static inline V load_bf16(const uint16_t *p)
{
    __m128i half = _mm_loadu_si128((const void *)p);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16));
}

static inline V load_int8(const unsigned char *p)
{
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const void *)p)));
}

static inline V load_bits(const unsigned char *p, int at, int bits)
{
    __m256i bytes = _mm256_srli_epi32(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const void *)p)), at);
    return _mm256_cvtepi32_ps(_mm256_and_si256(bytes, _mm256_set1_epi32((1 << bits) - 1)));
}

static inline V load_flags(uint32_t flags, float value)
{
    __m256i lane = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    __m256i set = _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32((int)flags), lane), lane);
    return _mm256_and_ps(_mm256_castsi256_ps(set), vset(value));
}

static inline float load_half(const unsigned char *p)
{
    uint16_t half;
    memcpy(&half, p, sizeof half);
    return _cvtsh_ss(half);
}

#include "op/gemv/gemv_simd.h"

const fur_gemv_kernel fur_gemv_avx2 = GEMV_KERNEL;
