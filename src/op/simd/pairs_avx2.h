/* SPDX-License-Identifier: Apache-2.0 */
/* Pairs of bf16 beside the vector vocabulary: W is VL words of 32 bits, each two bf16, the first in the lower half.
 * Here products are f32 multiply-adds on widened halves ("bf16 storage, f32 products"); pairs_avx512.h and
 * pairs_avx512bf16.h have the same words. Include simd_<isa>.h first. */
#ifndef FUR_OP_PAIRS_AVX2_H
#define FUR_OP_PAIRS_AVX2_H

typedef __m256i W;

static inline W wset(uint32_t pair)
{
    return _mm256_set1_epi32((int)pair);
}
static inline W wload(const uint32_t *p)
{
    return _mm256_loadu_si256((const __m256i *)(const void *)p);
}
static inline void wstore(uint32_t *p, W a)
{
    _mm256_storeu_si256((__m256i *)(void *)p, a);
}
/* The halves as f32 */
static inline V wfirst(W a)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(a, 16));
}
static inline V wsecond(W a)
{
    return _mm256_castsi256_ps(_mm256_and_si256(a, _mm256_set1_epi32((int)0xffff0000)));
}
/* c + a.first b.first + a.second b.second */
static inline V wdot(W a, W b, V c)
{
    return vfma(wsecond(a), wsecond(b), vfma(wfirst(a), wfirst(b), c));
}
/* Bits of the nearest bf16 in the upper half, anything in the lower one; ties to even, NaN stays NaN */
static inline W wnearest(V a)
{
    W bits = _mm256_castps_si256(a), odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    W up = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    W quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
    return _mm256_blendv_epi8(up, quiet, _mm256_castps_si256(_mm256_cmp_ps(a, a, _CMP_UNORD_Q)));
}
/* Pairs (first, second) of each lane */
static inline W wround(V first, V second)
{
    return _mm256_blend_epi16(_mm256_srli_epi32(wnearest(first), 16), wnearest(second), 0xaa);
}
/* VL values in a row, as bf16 */
static inline void wstore_row(uint16_t *p, V a)
{
    W words = _mm256_srli_epi32(wnearest(a), 16);
    W both = _mm256_permute4x64_epi64(_mm256_packus_epi32(words, words), 0x08);
    _mm_storeu_si128((__m128i *)(void *)p, _mm256_castsi256_si128(both));
}
static inline V wload_row(const uint16_t *p)
{
    __m128i half = _mm_loadu_si128((const __m128i *)(const void *)p);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16));
}
/* Lanes with lane >= first: a; the others: b */
static inline V vfrom(V lane, V first, V a, V b)
{
    return _mm256_blendv_ps(b, a, _mm256_cmp_ps(lane, first, _CMP_GE_OQ));
}
/* Where t < least: 0; elsewhere, and where t is NaN: a 2^n */
static inline V vscale_above(V t, V least, V a, V n)
{
    return _mm256_and_ps(vscale(a, vmax(vset(-126.0f), n)), _mm256_cmp_ps(t, least, _CMP_NLT_UQ));
}
/* 1 where a > b in some lane */
static inline int vany_greater(V a, V b)
{
    return _mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_GT_OQ)) != 0;
}
/* a where x > y, else b */
static inline V vwhere_greater(V x, V y, V a, V b)
{
    return _mm256_blendv_ps(b, a, _mm256_cmp_ps(x, y, _CMP_GT_OQ));
}

/* Pairs of the first halves of a and b; of the second halves */
static inline W wfirsts(W a, W b)
{
    return _mm256_blend_epi16(a, _mm256_slli_epi32(b, 16), 0xaa);
}
static inline W wseconds(W a, W b)
{
    return _mm256_blend_epi16(_mm256_srli_epi32(a, 16), b, 0xaa);
}
/* a[0], b[0], a[1], b[1], ... as 2 VL words */
static inline void wstore_mixed(uint32_t *p, W a, W b)
{
    W low = _mm256_unpacklo_epi32(a, b), high = _mm256_unpackhi_epi32(a, b);
    wstore(p, _mm256_permute2x128_si256(low, high, 0x20));
    wstore(p + VL, _mm256_permute2x128_si256(low, high, 0x31));
}
/* 1 where some half is NaN or infinite */
static inline int wspecial(W a)
{
    const W exponent = _mm256_set1_epi16(0x7f80);
    return _mm256_movemask_epi8(_mm256_cmpeq_epi16(_mm256_and_si256(a, exponent), exponent)) != 0;
}

#endif
