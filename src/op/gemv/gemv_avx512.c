/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "op/simd/simd_avx512.h"

static inline V load_bf16(const uint16_t *p)
{
    __m256i half = _mm256_loadu_si256((const void *)p);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}

static inline V load_int8(const unsigned char *p)
{
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const void *)p)));
}

static inline V load_bits(const unsigned char *p, int at, int bits)
{
    __m512i bytes = _mm512_srli_epi32(_mm512_cvtepu8_epi32(_mm_loadu_si128((const void *)p)), (unsigned)at);
    return _mm512_cvtepi32_ps(_mm512_and_si512(bytes, _mm512_set1_epi32((1 << bits) - 1)));
}

static inline V load_flags(uint32_t flags, float value)
{
    return _mm512_maskz_mov_ps((__mmask16)flags, vset(value));
}

static inline float load_half(const unsigned char *p)
{
    uint16_t half;
    memcpy(&half, p, sizeof half);
    return _cvtsh_ss(half);
}

#include "op/gemv/gemv_simd.h"

const fur_gemv_kernel fur_gemv_avx512 = GEMV_KERNEL;
