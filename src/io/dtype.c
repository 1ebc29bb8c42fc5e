/* SPDX-License-Identifier: Apache-2.0 */
#include "io/dtype.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/bf16.h"
#include "base/f16.h"
#include "base/size.h"
#include "io/blocks.h"

static const struct {
    const char *name;
    int64_t bytes, block;                                                 /* block 0: elements by themselves */
    void (*to_f32)(const unsigned char *from, int64_t blocks, float *to); /* of blocks */
} types[FUR_DTYPE_COUNT] = {
    [FUR_DTYPE_BOOL] = {.name = "BOOL", .bytes = 1},
    [FUR_DTYPE_U8] = {.name = "U8", .bytes = 1},
    [FUR_DTYPE_I8] = {.name = "I8", .bytes = 1},
    [FUR_DTYPE_F8_E4M3] = {.name = "F8_E4M3", .bytes = 1},
    [FUR_DTYPE_F8_E5M2] = {.name = "F8_E5M2", .bytes = 1},
    [FUR_DTYPE_F8_E8M0] = {.name = "F8_E8M0", .bytes = 1},
    [FUR_DTYPE_I16] = {.name = "I16", .bytes = 2},
    [FUR_DTYPE_U16] = {.name = "U16", .bytes = 2},
    [FUR_DTYPE_F16] = {.name = "F16", .bytes = 2},
    [FUR_DTYPE_BF16] = {.name = "BF16", .bytes = 2},
    [FUR_DTYPE_I32] = {.name = "I32", .bytes = 4},
    [FUR_DTYPE_U32] = {.name = "U32", .bytes = 4},
    [FUR_DTYPE_F32] = {.name = "F32", .bytes = 4},
    [FUR_DTYPE_F64] = {.name = "F64", .bytes = 8},
    [FUR_DTYPE_I64] = {.name = "I64", .bytes = 8},
    [FUR_DTYPE_U64] = {.name = "U64", .bytes = 8},
    [FUR_DTYPE_C64] = {.name = "C64", .bytes = 8},
    [FUR_DTYPE_Q4_0] = {"Q4_0", 18, 32, fur_q4_0_to_f32},
    [FUR_DTYPE_Q4_1] = {"Q4_1", 20, 32, fur_q4_1_to_f32},
    [FUR_DTYPE_Q5_0] = {"Q5_0", 22, 32, fur_q5_0_to_f32},
    [FUR_DTYPE_Q5_1] = {"Q5_1", 24, 32, fur_q5_1_to_f32},
    [FUR_DTYPE_Q8_0] = {"Q8_0", 34, 32, fur_q8_0_to_f32},
    [FUR_DTYPE_Q4_K] = {"Q4_K", 144, 256, fur_q4_k_to_f32},
    [FUR_DTYPE_Q5_K] = {"Q5_K", 176, 256, fur_q5_k_to_f32},
    [FUR_DTYPE_Q6_K] = {"Q6_K", 210, 256, fur_q6_k_to_f32},
};

const char *fur_dtype_name(fur_dtype dtype)
{
    return types[dtype].name;
}

int64_t fur_dtype_bytes(fur_dtype dtype)
{
    return types[dtype].bytes;
}

int64_t fur_dtype_block(fur_dtype dtype)
{
    return types[dtype].block ? types[dtype].block : 1;
}

bool fur_dtype_parse(const char *name, fur_dtype *out)
{
    for (int i = 0; i < FUR_DTYPE_Q4_0; i++)
        if (strcmp(name, types[i].name) == 0) {
            *out = (fur_dtype)i;
            return true;
        }
    return false;
}

bool fur_dtype_is_float(fur_dtype dtype)
{
    return dtype == FUR_DTYPE_F32 || dtype == FUR_DTYPE_F16 || dtype == FUR_DTYPE_BF16 || dtype == FUR_DTYPE_F64 ||
           types[dtype].to_f32;
}

void fur_dtype_from_f32(fur_dtype dtype, const float *from, int64_t count, void *to)
{
    uint16_t *half = to;
    if (dtype == FUR_DTYPE_F32)
        memcpy(to, from, (size_t)count * sizeof *from);
    else if (dtype == FUR_DTYPE_Q8_0)
        fur_q8_0_of_f32(from, count / types[dtype].block, to);
    else
        for (int64_t i = 0; i < count; i++)
            half[i] = dtype == FUR_DTYPE_BF16 ? fur_bf16_of(from[i]) : fur_f16_of(from[i]);
}

void fur_dtype_to_f32(fur_dtype dtype, const void *from, int64_t count, float *to)
{
    const unsigned char *bytes = from;
    if (types[dtype].to_f32) {
        types[dtype].to_f32(bytes, count / types[dtype].block, to);
    } else if (dtype == FUR_DTYPE_F32) {
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
            to[i] = dtype == FUR_DTYPE_F16 ? fur_f16_value(x) : fur_bf16_value(x);
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
