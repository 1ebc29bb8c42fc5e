/* SPDX-License-Identifier: Apache-2.0 */
/* Attention for AVX-512: what attention_simd.h needs beside the common vocabulary. 32 registers hold tiles of 24
 * accumulators. */
#include "op/simd/simd_avx512.h"

#include "base/compiler.h"

#define TILE_VECTORS       4
#define TILE_ROWS(vectors) ((vectors) == 4 ? 6 : (vectors) == 3 ? 8 : 12)

/* Lanes with lane >= first: a; the others: b */
static inline V vfrom(V lane, V first, V a, V b)
{
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(lane, first, _CMP_GE_OQ), b, a);
}
/* Lanes with lane >= first: a b + c; the others: c */
static inline V vfma_from(V lane, V first, V a, V b, V c)
{
    return _mm512_mask3_fmadd_ps(a, b, c, _mm512_cmp_ps_mask(lane, first, _CMP_GE_OQ));
}
/* Lanes with first <= lane < after: a; the others: b */
static inline V vbetween(V lane, V first, V after, V a, V b)
{
    __mmask16 from = _mm512_cmp_ps_mask(lane, first, _CMP_GE_OQ);
    return _mm512_mask_blend_ps(_mm512_mask_cmp_ps_mask(from, lane, after, _CMP_LT_OQ), b, a);
}
/* Where t < least: 0; elsewhere, and where t is NaN: a 2^n */
static inline V vscale_above(V t, V least, V a, V n)
{
    return _mm512_maskz_scalef_ps(_mm512_cmp_ps_mask(t, least, _CMP_NLT_UQ), a, n);
}

#include "op/attention/attention_simd.h"

const fur_attention_kernel fur_attention_avx512 = ATTENTION_KERNEL;
