/* SPDX-License-Identifier: Apache-2.0 */
/* bf16: the upper half of an f32. One at a time; pairs_<isa>.h has vectors of them. */
#ifndef FUR_BASE_BF16_H
#define FUR_BASE_BF16_H

#include <stdint.h>
#include <string.h>

/* Nearest, ties to even; NaN stays NaN, quiet. */
static inline uint16_t fur_bf16_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    if ((bits & 0x7fffffffu) > 0x7f800000u)
        return (uint16_t)(bits >> 16 | 0x40u);
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

static inline float fur_bf16_value(uint16_t x)
{
    uint32_t bits = (uint32_t)x << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* The nearest f32 that a bf16 holds. */
static inline float fur_bf16_round(float x)
{
    return fur_bf16_value(fur_bf16_of(x));
}

/* Row at `offset` of an array that is in f32 or, where that is NULL, in bf16: where it lies, or widened into `wide`
 * [count]. */
static inline const float *fur_bf16_row(const float *f32, const uint16_t *bf16, int64_t offset, int64_t count,
                                        float *wide)
{
    if (f32)
        return f32 + offset;
    for (int64_t d = 0; d < count; d++)
        wide[d] = fur_bf16_value(bf16[offset + d]);
    return wide;
}

#endif
