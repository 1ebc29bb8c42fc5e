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
static inline V vfrom(V lane, V first, V a, V b)
{
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(lane, first, _CMP_GE_OQ), b, a);
}
static inline V vscale_above(V t, V least, V a, V n)
{
    return _mm512_maskz_scalef_ps(_mm512_cmp_ps_mask(t, least, _CMP_NLT_UQ), a, n);
}
static inline int vany_greater(V a, V b)
{
    return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ) != 0;
}
static inline V vwhere_greater(V x, V y, V a, V b)
{
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(x, y, _CMP_GT_OQ), b, a);
}

static inline W wfirsts(W a, W b)
{
    return _mm512_mask_blend_epi16(0xaaaaaaaau, a, _mm512_slli_epi32(b, 16));
}
static inline W wseconds(W a, W b)
{
    return _mm512_mask_blend_epi16(0xaaaaaaaau, _mm512_srli_epi32(a, 16), b);
}
static inline void wstore_mixed(uint32_t *p, W a, W b)
{
    const W low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    const W high = _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
    wstore(p, _mm512_permutex2var_epi32(a, low, b));
    wstore(p + VL, _mm512_permutex2var_epi32(a, high, b));
}
static inline int wspecial(W a)
{
    const W exponent = _mm512_set1_epi16(0x7f80);
    return _mm512_cmpeq_epi16_mask(_mm512_and_si512(a, exponent), exponent) != 0;
}

#endif
