/* SPDX-License-Identifier: Apache-2.0 */
/* Words of lookup's bodies beyond op/simd, for AVX-512; lookup_words_avx2.h has the same and the remarks. */
#ifndef FUR_OP_LOOKUP_WORDS_AVX512_H
#define FUR_OP_LOOKUP_WORDS_AVX512_H

#include "base/compiler.h"
#include "op/simd/simd_avx512.h"

#include "op/simd/pairs_avx512.h"

static inline V vload_i8(const int8_t *p)
{
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(const void *)p)));
}
static inline V vint(W a)
{
    return _mm512_cvtepi32_ps(a);
}
static inline W wzero(void)
{
    return _mm512_setzero_si512();
}

/* Sums of lanes of four vectors, of each 128 bits: | a b c d | a b c d | ... */
FUR_ALWAYS_INLINE V sums_of_four(const V a[4])
{
    V ab = vadd(_mm512_unpacklo_ps(a[0], a[1]), _mm512_unpackhi_ps(a[0], a[1]));
    V cd = vadd(_mm512_unpacklo_ps(a[2], a[3]), _mm512_unpackhi_ps(a[2], a[3]));
    return vadd(_mm512_shuffle_ps(ab, cd, 0x44), _mm512_shuffle_ps(ab, cd, 0xee));
}
FUR_ALWAYS_INLINE V vsums(const V a[16])
{
    V q[4];
    FUR_UNROLL
    for (int64_t i = 0; i < 4; i++)
        q[i] = sums_of_four(a + 4 * i);
    V low = vadd(_mm512_shuffle_f32x4(q[0], q[1], 0x44), _mm512_shuffle_f32x4(q[0], q[1], 0xee));
    V high = vadd(_mm512_shuffle_f32x4(q[2], q[3], 0x44), _mm512_shuffle_f32x4(q[2], q[3], 0xee));
    return vadd(_mm512_shuffle_f32x4(low, high, 0x88), _mm512_shuffle_f32x4(low, high, 0xdd));
}

#endif
