/* SPDX-License-Identifier: Apache-2.0 */
/* The vector vocabulary of the shared operator bodies (X_simd.h), for AVX2 and FMA: V is VL floats, VD is VL / 2
 * doubles. simd_avx512.h has the same words. All of it is static inline, so that nothing of a variant can leak into the
 * baseline. */
#ifndef FUR_OP_SIMD_AVX2_H
#define FUR_OP_SIMD_AVX2_H

#include <immintrin.h>
#include <stdint.h>

#define VL ((int64_t)8)
typedef __m256 V;
typedef __m256d VD;

static inline V vset(float a)
{
    return _mm256_set1_ps(a);
}
static inline V vload(const float *p)
{
    return _mm256_loadu_ps(p);
}
static inline void vstore(float *p, V a)
{
    _mm256_storeu_ps(p, a);
}
static inline V vadd(V a, V b)
{
    return _mm256_add_ps(a, b);
}
static inline V vsub(V a, V b)
{
    return _mm256_sub_ps(a, b);
}
static inline V vmul(V a, V b)
{
    return _mm256_mul_ps(a, b);
}
static inline V vdiv(V a, V b)
{
    return _mm256_div_ps(a, b);
}
static inline V vsqrt(V a)
{
    return _mm256_sqrt_ps(a);
}
/* a b + c and c - a b, rounded once */
static inline V vfma(V a, V b, V c)
{
    return _mm256_fmadd_ps(a, b, c);
}
static inline V vfnma(V a, V b, V c)
{
    return _mm256_fnmadd_ps(a, b, c);
}
/* b where either is NaN: put the value whose NaN must survive second */
static inline V vmax(V a, V b)
{
    return _mm256_max_ps(a, b);
}
static inline V vmin(V a, V b)
{
    return _mm256_min_ps(a, b);
}
static inline V vround(V a)
{
    return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

static inline __m256i vmask(int64_t n)
{
    static const int32_t ones[16] = {-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0};
    return _mm256_loadu_si256((const __m256i *)(const void *)(ones + 8 - n));
}
/* The first n lanes, 0 <= n <= VL; the others read as 0 and are not written. */
static inline V vload_part(const float *p, int64_t n)
{
    return _mm256_maskload_ps(p, vmask(n));
}
static inline void vstore_part(float *p, int64_t n, V a)
{
    _mm256_maskstore_ps(p, vmask(n), a);
}
static inline V vkeep_part(V a, int64_t n)
{
    return _mm256_and_ps(a, _mm256_castsi256_ps(vmask(n)));
}
/* a in the first n lanes, b in the others */
static inline V vjoin_part(V a, V b, int64_t n)
{
    return _mm256_blendv_ps(b, a, _mm256_castsi256_ps(vmask(n)));
}

/* a 2^n for integral n in [-152, 130]; in two steps, so that 2^n itself may lie outside the range of floats */
static inline V vscale(V a, V n)
{
    __m256i e = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(e, 1), bias = _mm256_set1_epi32(127);
    __m256i first = _mm256_slli_epi32(_mm256_add_epi32(half, bias), 23);
    __m256i second = _mm256_slli_epi32(_mm256_add_epi32(_mm256_sub_epi32(e, half), bias), 23);
    return vmul(vmul(a, _mm256_castsi256_ps(first)), _mm256_castsi256_ps(second));
}

static inline float vsum(V a)
{
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
static inline float vgreatest(V a)
{
    __m128 s = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    s = _mm_max_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}

static inline VD vdzero(void)
{
    return _mm256_setzero_pd();
}
static inline VD vdload(const double *p)
{
    return _mm256_loadu_pd(p);
}
static inline void vdstore(double *p, VD a)
{
    _mm256_storeu_pd(p, a);
}
static inline VD vdlow(V a)
{
    return _mm256_cvtps_pd(_mm256_castps256_ps128(a));
}
static inline VD vdhigh(V a)
{
    return _mm256_cvtps_pd(_mm256_extractf128_ps(a, 1));
}
static inline VD vdadd(VD a, VD b)
{
    return _mm256_add_pd(a, b);
}
static inline VD vdfma(VD a, VD b, VD c)
{
    return _mm256_fmadd_pd(a, b, c);
}
static inline double vdsum(VD a)
{
    __m128d s = _mm_add_pd(_mm256_castpd256_pd128(a), _mm256_extractf128_pd(a, 1));
    return _mm_cvtsd_f64(_mm_add_sd(s, _mm_unpackhi_pd(s, s)));
}

#endif
