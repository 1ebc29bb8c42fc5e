/* SPDX-License-Identifier: Apache-2.0 */
/* f16, IEEE 754 binary16: 1 bit sign, 5 exponent, 10 fraction. One at a time. */
#ifndef FUR_BASE_F16_H
#define FUR_BASE_F16_H

#include <stdint.h>
#include <string.h>

/* Exact. */
static inline float fur_f16_value(uint16_t half)
{
    uint32_t sign = (uint32_t)(half & 0x8000u) << 16;
    uint32_t exponent = (half >> 10) & 31u, fraction = half & 0x3ffu, bits;
    float x;
    if (exponent == 0) { /* zero and denormals: fraction * 2^-24 */
        x = (float)fraction * 0x1p-24f;
        return sign ? -x : x;
    }
    bits = sign | (exponent == 31 ? 0x7f800000u : (exponent + 112) << 23) | fraction << 13; /* 31: infinity, NaN */
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* Nearest, ties to even; beyond 65504 by half a step or more: infinity; NaN stays NaN, quiet. */
static inline uint16_t fur_f16_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    uint32_t sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u)
        return (uint16_t)(sign | 0x7e00u | (magnitude >> 13 & 0x3ffu));
    if (magnitude >= 0x477ff000u) /* 65520, half way to where the next one would be */
        return (uint16_t)(sign | 0x7c00u);
    if (magnitude < 0x38800000u) { /* below 2^-14: multiples of 2^-24, rounded by adding 0.5, of which they are ulps */
        float sum;
        memcpy(&sum, &magnitude, sizeof sum);
        sum += 0.5f;
        memcpy(&bits, &sum, sizeof bits);
        return (uint16_t)(sign | (bits - 0x3f000000u));
    }
    return (uint16_t)(sign | (((magnitude + 0xfffu + (magnitude >> 13 & 1u)) >> 13) - (112u << 10)));
}

#endif
