/* SPDX-License-Identifier: Apache-2.0 */
#include "io/dtype.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/bf16.h"
#include "base/size.h"

static const struct {
    const char *name;
    int64_t bytes;
} types[FUR_DTYPE_COUNT] = {
    [FUR_DTYPE_BOOL] = {"BOOL", 1},       [FUR_DTYPE_U8] = {"U8", 1},           [FUR_DTYPE_I8] = {"I8", 1},
    [FUR_DTYPE_F8_E4M3] = {"F8_E4M3", 1}, [FUR_DTYPE_F8_E5M2] = {"F8_E5M2", 1}, [FUR_DTYPE_F8_E8M0] = {"F8_E8M0", 1},
    [FUR_DTYPE_I16] = {"I16", 2},         [FUR_DTYPE_U16] = {"U16", 2},         [FUR_DTYPE_F16] = {"F16", 2},
    [FUR_DTYPE_BF16] = {"BF16", 2},       [FUR_DTYPE_I32] = {"I32", 4},         [FUR_DTYPE_U32] = {"U32", 4},
    [FUR_DTYPE_F32] = {"F32", 4},         [FUR_DTYPE_F64] = {"F64", 8},         [FUR_DTYPE_I64] = {"I64", 8},
    [FUR_DTYPE_U64] = {"U64", 8},         [FUR_DTYPE_C64] = {"C64", 8},
};

const char *fur_dtype_name(fur_dtype dtype)
{
    return types[dtype].name;
}

int64_t fur_dtype_bytes(fur_dtype dtype)
{
    return types[dtype].bytes;
}

bool fur_dtype_parse(const char *name, fur_dtype *out)
{
    for (int i = 0; i < FUR_DTYPE_COUNT; i++)
        if (strcmp(name, types[i].name) == 0) {
            *out = (fur_dtype)i;
            return true;
        }
    return false;
}

bool fur_dtype_is_float(fur_dtype dtype)
{
    return dtype == FUR_DTYPE_F32 || dtype == FUR_DTYPE_F16 || dtype == FUR_DTYPE_BF16 || dtype == FUR_DTYPE_F64;
}

static float f32_of_bits(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static uint32_t bits_of_f32(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static float f32_of_f16(uint16_t half)
{
    uint32_t sign = (uint32_t)(half & 0x8000u) << 16;
    uint32_t exponent = (half >> 10) & 31u, fraction = half & 0x3ffu;
    if (exponent == 31) /* infinity, NaN */
        return f32_of_bits(sign | 0x7f800000u | fraction << 13);
    if (exponent == 0) { /* zero and denormals: fraction * 2^-24, exact */
        float magnitude = (float)fraction * 0x1p-24f;
        return sign ? -magnitude : magnitude;
    }
    return f32_of_bits(sign | (exponent + 112) << 23 | fraction << 13);
}

/* Nearest, ties to even; NaN stays NaN, quiet. */
static uint16_t f16_of_f32(float x)
{
    uint32_t bits = bits_of_f32(x);
    uint32_t sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u)
        return (uint16_t)(sign | 0x7e00u | (magnitude >> 13 & 0x3ffu));
    if (magnitude >= 0x477ff000u) /* 65520, half way to where the next one would be */
        return (uint16_t)(sign | 0x7c00u);
    if (magnitude < 0x38800000u) /* below 2^-14: multiples of 2^-24, rounded by adding 0.5, of which they are ulps */
        return (uint16_t)(sign | (bits_of_f32(f32_of_bits(magnitude) + 0.5f) - bits_of_f32(0.5f)));
    uint32_t rounded = magnitude + 0xfffu + (magnitude >> 13 & 1u);
    return (uint16_t)(sign | ((rounded >> 13) - (112u << 10)));
}

void fur_dtype_from_f32(fur_dtype dtype, const float *from, int64_t count, void *to)
{
    uint16_t *half = to;
    if (dtype == FUR_DTYPE_F32)
        memcpy(to, from, (size_t)count * sizeof *from);
    else
        for (int64_t i = 0; i < count; i++)
            half[i] = dtype == FUR_DTYPE_BF16 ? fur_bf16_of(from[i]) : f16_of_f32(from[i]);
}

void fur_dtype_to_f32(fur_dtype dtype, const void *from, int64_t count, float *to)
{
    const unsigned char *bytes = from;
    if (dtype == FUR_DTYPE_F32) {
        memcpy(to, bytes, (size_t)count * sizeof *to);
    } else if (dtype == FUR_DTYPE_F64) {
        for (int64_t i = 0; i < count; i++) {
            double x;
            memcpy(&x, bytes + 8 * i, 8);
            to[i] = (float)x;
        }
    } else {
        for (int64_t i = 0; i < count; i++) {
            uint16_t x;
            memcpy(&x, bytes + 2 * i, 2);
            to[i] = dtype == FUR_DTYPE_F16 ? f32_of_f16(x) : f32_of_bits((uint32_t)x << 16);
        }
    }
}

int64_t fur_first_nonfinite(const float *x, int64_t count)
{
    enum { STRETCH = 1024 }; /* looked at without a branch, which compilers do many at a time */
    for (int64_t first = 0; first < count; first += STRETCH) {
        int64_t end = first + STRETCH < count ? first + STRETCH : count;
        int bad = 0;
        for (int64_t i = first; i < end; i++)
            bad |= !(fabsf(x[i]) <= FLT_MAX);
        for (int64_t i = first; bad && i < end; i++)
            if (!isfinite(x[i]))
                return i;
    }
    return -1;
}

void fur_shape_text(int rank, const int64_t *shape, char *text, int64_t size)
{
    int64_t at = snprintf(text, (size_t)size, "[");
    for (int i = 0; i < rank && at < size; i++)
        at += snprintf(text + at, (size_t)(size - at), "%s%lld", i ? ", " : "", (long long)shape[i]);
    if (at < size)
        snprintf(text + at, (size_t)(size - at), "]");
}

bool fur_shape_count(int rank, const int64_t *shape, int64_t *count)
{
    int64_t product = 1;
    for (int i = 0; i < rank; i++)
        if (!fur_mul_ok(product, shape[i], &product))
            return false;
    *count = product;
    return true;
}
