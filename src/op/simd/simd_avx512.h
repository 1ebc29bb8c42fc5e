/* SPDX-License-Identifier: Apache-2.0 */
/* The vector vocabulary of the shared operator bodies (X_simd.h), for AVX-512 (F, VL, BW, DQ): V is VL floats, VD is
 * VL / 2 doubles. simd_avx2.h has the same words and the remarks. */
#ifndef FUR_OP_SIMD_AVX512_H
#define FUR_OP_SIMD_AVX512_H

#include <immintrin.h>
#include <stdint.h>

#define VL ((int64_t)16)
typedef __m512 V;
typedef __m512d VD;

static inline V vset(float a)
{
    return _mm512_set1_ps(a);
}
static inline V vload(const float *p)
{
    return _mm512_loadu_ps(p);
}
static inline void vstore(float *p, V a)
{
    _mm512_storeu_ps(p, a);
}
static inline V vadd(V a, V b)
{
    return _mm512_add_ps(a, b);
}
static inline V vsub(V a, V b)
{
    return _mm512_sub_ps(a, b);
}
static inline V vmul(V a, V b)
{
    return _mm512_mul_ps(a, b);
}
static inline V vdiv(V a, V b)
{
    return _mm512_div_ps(a, b);
}
static inline V vsqrt(V a)
{
    return _mm512_sqrt_ps(a);
}
static inline V vfma(V a, V b, V c)
{
    return _mm512_fmadd_ps(a, b, c);
}
static inline V vfnma(V a, V b, V c)
{
    return _mm512_fnmadd_ps(a, b, c);
}
static inline V vmax(V a, V b)
{
    return _mm512_max_ps(a, b);
}
static inline V vmin(V a, V b)
{
    return _mm512_min_ps(a, b);
}
static inline V vround(V a)
{
    return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

static inline __mmask16 vmask(int64_t n)
{
    return (__mmask16)((1u << n) - 1u);
}
static inline V vload_part(const float *p, int64_t n)
{
    return _mm512_maskz_loadu_ps(vmask(n), p);
}
static inline void vstore_part(float *p, int64_t n, V a)
{
    _mm512_mask_storeu_ps(p, vmask(n), a);
}
static inline V vkeep_part(V a, int64_t n)
{
    return _mm512_maskz_mov_ps(vmask(n), a);
}
static inline V vjoin_part(V a, V b, int64_t n)
{
    return _mm512_mask_mov_ps(b, vmask(n), a);
}

static inline V vscale(V a, V n)
{
    return _mm512_scalef_ps(a, n);
}

static inline float vsum(V a)
{
    __m256 h = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
static inline float vgreatest(V a)
{
    __m256 h = _mm256_max_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    __m128 s = _mm_max_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
    s = _mm_max_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}

static inline VD vdzero(void)
{
    return _mm512_setzero_pd();
}
static inline VD vdload(const double *p)
{
    return _mm512_loadu_pd(p);
}
static inline void vdstore(double *p, VD a)
{
    _mm512_storeu_pd(p, a);
}
static inline VD vdlow(V a)
{
    return _mm512_cvtps_pd(_mm512_castps512_ps256(a));
}
static inline VD vdhigh(V a)
{
    return _mm512_cvtps_pd(_mm512_extractf32x8_ps(a, 1));
}
static inline VD vdadd(VD a, VD b)
{
    return _mm512_add_pd(a, b);
}
static inline VD vdfma(VD a, VD b, VD c)
{
    return _mm512_fmadd_pd(a, b, c);
}
static inline double vdsum(VD a)
{
    __m256d h = _mm256_add_pd(_mm512_castpd512_pd256(a), _mm512_extractf64x4_pd(a, 1));
    __m128d s = _mm_add_pd(_mm256_castpd256_pd128(h), _mm256_extractf128_pd(h, 1));
    return _mm_cvtsd_f64(_mm_add_sd(s, _mm_unpackhi_pd(s, s)));
}

#endif
