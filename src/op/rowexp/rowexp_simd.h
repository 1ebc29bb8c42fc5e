/* SPDX-License-Identifier: Apache-2.0 */
/* Plain loops that the compiler makes vectors of, once per instruction set. exp(x) = 2^k exp(r), k the nearest integer
 * to x / ln 2, found by adding 1.5 times a power of two, which leaves it in the low bits; ln 2 in two parts, so that r
 * is exact to its last place; exp(r) by its Taylor polynomial, |r| <= 0.3466: the first term left out is 4e-18 (f64,
 * degree 13) and 5e-9 (f32, degree 7). */
#include <math.h>
#include <string.h>

#include "op/rowexp/rowexp_kernel.h"

enum { LANES_F64 = 8, LANES_F32 = 16 };

static inline double exp_of_f64(double x)
{
    const double magic = 0x1.8p52;
    x = x < -708.0 ? -708.0 : x;
    double shifted = x * 1.4426950408889634074 + magic;
    double k = shifted - magic;
    double r = (x - k * 0x1.62e42fee00000p-1) - k * 0x1.a39ef35793c76p-33;
    double p = 1.0 / 6227020800.0;
    p = p * r + 1.0 / 479001600.0;
    p = p * r + 1.0 / 39916800.0;
    p = p * r + 1.0 / 3628800.0;
    p = p * r + 1.0 / 362880.0;
    p = p * r + 1.0 / 40320.0;
    p = p * r + 1.0 / 5040.0;
    p = p * r + 1.0 / 720.0;
    p = p * r + 1.0 / 120.0;
    p = p * r + 1.0 / 24.0;
    p = p * r + 1.0 / 6.0;
    p = p * r + 0.5;
    p = p * r + 1.0;
    p = p * r + 1.0;
    uint64_t bits;
    memcpy(&bits, &shifted, sizeof bits);
    bits = (bits + 1023u) << 52;
    double scale;
    memcpy(&scale, &bits, sizeof scale);
    return p * scale;
}

static inline float exp_of_f32(float x)
{
    const float magic = 0x1.8p23f;
    x = x < -87.0f ? -87.0f : x;
    float shifted = x * 1.44269504f + magic;
    float k = shifted - magic;
    float r = (x - k * 0x1.62e400p-1f) - k * 0x1.7f7d1cp-20f;
    float p = 1.0f / 5040.0f;
    p = p * r + 1.0f / 720.0f;
    p = p * r + 1.0f / 120.0f;
    p = p * r + 1.0f / 24.0f;
    p = p * r + 1.0f / 6.0f;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    uint32_t bits;
    memcpy(&bits, &shifted, sizeof bits);
    bits = (bits + 127u) << 23;
    float scale;
    memcpy(&scale, &bits, sizeof scale);
    return p * scale;
}

#define KERNELS(TYPE, SUFFIX, LANES)                                                                                   \
    static TYPE max_##SUFFIX(int64_t n, const TYPE *s)                                                                 \
    {                                                                                                                  \
        TYPE lane[LANES], most = (TYPE)(-INFINITY);                                                                    \
        int64_t i = 0;                                                                                                 \
        for (int j = 0; j < (LANES); j++)                                                                              \
            lane[j] = most;                                                                                            \
        for (; i + (LANES) <= n; i += (LANES))                                                                         \
            for (int j = 0; j < (LANES); j++)                                                                          \
                lane[j] = s[i + j] > lane[j] ? s[i + j] : lane[j];                                                     \
        for (; i < n; i++)                                                                                             \
            most = s[i] > most ? s[i] : most;                                                                          \
        for (int j = 0; j < (LANES); j++)                                                                              \
            most = lane[j] > most ? lane[j] : most;                                                                    \
        return most;                                                                                                   \
    }                                                                                                                  \
    static TYPE sum_##SUFFIX(const TYPE lane[LANES], TYPE rest)                                                        \
    {                                                                                                                  \
        for (int j = 0; j < (LANES); j++)                                                                              \
            rest += lane[j];                                                                                           \
        return rest;                                                                                                   \
    }                                                                                                                  \
    static TYPE exp_##SUFFIX(int64_t n, TYPE s[], TYPE shift)                                                          \
    {                                                                                                                  \
        TYPE lane[LANES] = {0}, rest = 0;                                                                              \
        int64_t i = 0;                                                                                                 \
        for (; i + (LANES) <= n; i += (LANES))                                                                         \
            for (int j = 0; j < (LANES); j++) {                                                                        \
                TYPE e = exp_of_##SUFFIX(s[i + j] - shift);                                                            \
                s[i + j] = e;                                                                                          \
                lane[j] += e;                                                                                          \
            }                                                                                                          \
        for (; i < n; i++)                                                                                             \
            rest += s[i] = exp_of_##SUFFIX(s[i] - shift);                                                              \
        return sum_##SUFFIX(lane, rest);                                                                               \
    }                                                                                                                  \
    static TYPE exp_mul_##SUFFIX(int64_t n, TYPE s[restrict], TYPE shift, const TYPE *restrict x, TYPE c)              \
    {                                                                                                                  \
        TYPE lane[LANES] = {0}, rest = 0;                                                                              \
        int64_t i = 0;                                                                                                 \
        for (; i + (LANES) <= n; i += (LANES))                                                                         \
            for (int j = 0; j < (LANES); j++) {                                                                        \
                TYPE e = exp_of_##SUFFIX(s[i + j] - shift) * (x[i + j] - c);                                           \
                s[i + j] = e;                                                                                          \
                lane[j] += e;                                                                                          \
            }                                                                                                          \
        for (; i < n; i++)                                                                                             \
            rest += s[i] = exp_of_##SUFFIX(s[i] - shift) * (x[i] - c);                                                 \
        return sum_##SUFFIX(lane, rest);                                                                               \
    }

KERNELS(double, f64, LANES_F64)
KERNELS(float, f32, LANES_F32)
