/* SPDX-License-Identifier: Apache-2.0 */
/* Pairs of bf16 for AVX-512 without products of them; the words are those of pairs_avx2.h. */
#ifndef FUR_OP_PAIRS_AVX512_H
#define FUR_OP_PAIRS_AVX512_H

#include "op/simd/pairs_avx512_common.h"

static inline V wdot(W a, W b, V c)
{
    return vfma(wsecond(a), wsecond(b), vfma(wfirst(a), wfirst(b), c));
}
static inline W wnearest(V a)
{
    W bits = _mm512_castps_si512(a), odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    W up = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    return _mm512_mask_or_epi32(up, _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q), bits, _mm512_set1_epi32(0x400000));
}
static inline W wround(V first, V second)
{
    return _mm512_mask_blend_epi16(0xaaaaaaaau, _mm512_srli_epi32(wnearest(first), 16), wnearest(second));
}
static inline void wstore_row(uint16_t *p, V a)
{
    _mm256_storeu_si256((__m256i *)(void *)p, _mm512_cvtepi32_epi16(_mm512_srli_epi32(wnearest(a), 16)));
}

#endif
