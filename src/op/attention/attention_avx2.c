/* SPDX-License-Identifier: Apache-2.0 */
/* Attention for AVX2 and FMA: what attention_simd.h needs beside the common vocabulary. 16 registers hold tiles of 12
 * accumulators. */
#include "op/simd/simd_avx2.h"

#include "base/compiler.h"

#define TILE_VECTORS       2
#define TILE_ROWS(vectors) ((vectors) == 2 ? 6 : 12)

/* Lanes with lane >= first: a; the others: b */
static inline V vfrom(V lane, V first, V a, V b)
{
    return _mm256_blendv_ps(b, a, _mm256_cmp_ps(lane, first, _CMP_GE_OQ));
}
/* Lanes with lane >= first: a b + c; the others: c */
static inline V vfma_from(V lane, V first, V a, V b, V c)
{
    return vfrom(lane, first, vfma(a, b, c), c);
}
/* Lanes with first <= lane < after: a; the others: b */
static inline V vbetween(V lane, V first, V after, V a, V b)
{
    V from = _mm256_cmp_ps(lane, first, _CMP_GE_OQ);
    return _mm256_blendv_ps(b, a, _mm256_and_ps(from, _mm256_cmp_ps(lane, after, _CMP_LT_OQ)));
}
/* Where t < least: 0; elsewhere, and where t is NaN: a 2^n. n > -127, so 2^n is a normal float made by its exponent. */
static inline V vscale_above(V t, V least, V a, V n)
{
    __m256i power = _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23);
    return _mm256_and_ps(_mm256_mul_ps(a, _mm256_castsi256_ps(power)), _mm256_cmp_ps(t, least, _CMP_NLT_UQ));
}

#include "op/attention/attention_simd.h"

const fur_attention_kernel fur_attention_avx2 = ATTENTION_KERNEL;
