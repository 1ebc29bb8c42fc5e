/* SPDX-License-Identifier: Apache-2.0 */
/* Words of lookup's bodies beyond op/simd, for AVX2; lookup_words_avx512.h has the same. */
#ifndef FUR_OP_LOOKUP_WORDS_AVX2_H
#define FUR_OP_LOOKUP_WORDS_AVX2_H

#include "base/compiler.h"
#include "op/simd/simd_avx2.h"

#include "op/simd/pairs_avx2.h"

/* VL int8 */
static inline V vload_i8(const int8_t *p)
{
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)p)));
}
/* of 32-bit integers */
static inline V vint(W a)
{
    return _mm256_cvtepi32_ps(a);
}
static inline W wzero(void)
{
    return _mm256_setzero_si256();
}

FUR_ALWAYS_INLINE V sums_of_four(const V a[4])
{
    V ab = vadd(_mm256_unpacklo_ps(a[0], a[1]), _mm256_unpackhi_ps(a[0], a[1]));
    V cd = vadd(_mm256_unpacklo_ps(a[2], a[3]), _mm256_unpackhi_ps(a[2], a[3]));
    return vadd(_mm256_shuffle_ps(ab, cd, 0x44), _mm256_shuffle_ps(ab, cd, 0xee));
}
/* Lane i: the sum of the lanes of a[i], i < VL. */
FUR_ALWAYS_INLINE V vsums(const V a[8])
{
    V low = sums_of_four(a), high = sums_of_four(a + 4);
    return vadd(_mm256_permute2f128_ps(low, high, 0x20), _mm256_permute2f128_ps(low, high, 0x31));
}

#endif
