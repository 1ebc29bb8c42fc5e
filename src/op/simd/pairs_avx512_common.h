/* SPDX-License-Identifier: Apache-2.0 */
/* What pairs_avx512.h and pairs_avx512bf16.h share. */
#ifndef FUR_OP_PAIRS_AVX512_COMMON_H
#define FUR_OP_PAIRS_AVX512_COMMON_H

typedef __m512i W;

static inline W wset(uint32_t pair)
{
    return _mm512_set1_epi32((int)pair);
}
static inline W wload(const uint32_t *p)
{
    return _mm512_loadu_si512(p);
}
static inline void wstore(uint32_t *p, W a)
{
    _mm512_storeu_si512(p, a);
}
static inline V wfirst(W a)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(a, 16));
}
static inline V wsecond(W a)
{
    return _mm512_castsi512_ps(_mm512_and_si512(a, _mm512_set1_epi32((int)0xffff0000)));
}
static inline V wload_row(const uint16_t *p)
{
    __m256i half = _mm256_loadu_si256((const __m256i *)(const void *)p);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}
static inline int vfinite(V a)
{
    V zero = vsub(a, a);
    return _mm512_cmp_ps_mask(zero, zero, _CMP_UNORD_Q) == 0;
}

#endif
