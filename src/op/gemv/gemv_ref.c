/* SPDX-License-Identifier: Apache-2.0 */
/* The definition of gemv: double accumulators. */
#include "base/bf16.h"
#include "base/blocks.h"
#include "op/gemv/gemv_kernel.h"

/* A block as f32. */
static void decode_block(fur_gemv_type type, const unsigned char *block, float *to)
{
    switch (type) {
    case FUR_GEMV_F32: *to = *(const float *)(const void *)block; break;
    case FUR_GEMV_BF16: *to = fur_bf16_value(*(const uint16_t *)(const void *)block); break;
    case FUR_GEMV_Q8_0: fur_block_q8_0(block, to); break;
    case FUR_GEMV_Q4_0: fur_block_q4_0(block, to); break;
    case FUR_GEMV_Q4_1: fur_block_q4_1(block, to); break;
    case FUR_GEMV_Q5_0: fur_block_q5_0(block, to); break;
    case FUR_GEMV_Q5_1: fur_block_q5_1(block, to); break;
    case FUR_GEMV_Q4_K: fur_block_q4_k(block, to); break;
    case FUR_GEMV_Q5_K: fur_block_q5_k(block, to); break;
    case FUR_GEMV_Q6_K: fur_block_q6_k(block, to); break;
    case FUR_GEMV_TYPES: break;
    }
}

static double dot(const fur_gemv_args *a, const unsigned char *row, const float *x)
{
    fur_gemv_block block = fur_gemv_block_of(a->type);
    float w[FUR_BLOCK_LARGE] = {0};
    double sum = 0;
    for (int64_t i = 0; i < a->in; i += block.elements) {
        decode_block(a->type, row + i / block.elements * block.bytes, w);
        for (int64_t j = 0; j < block.elements; j++)
            sum += (double)w[j] * (double)x[i + j];
    }
    return sum;
}

static void rows(const fur_gemv_args *a, int64_t from, int64_t to)
{
    int64_t bytes = fur_gemv_row_bytes(a->type, a->in);
    for (int64_t o = from; o < to; o++)
        for (int64_t t = 0; t < a->tokens; t++)
            fur_gemv_put(a, t, o, (float)dot(a, (const unsigned char *)a->w_OI + o * bytes, a->x_TI + t * a->ldx));
}

#define DECODE(NAME, TYPE)                                                                                             \
    static void NAME##_decode(const void *rows, int64_t elements, float *to)                                           \
    {                                                                                                                  \
        fur_gemv_block block = fur_gemv_block_of(TYPE);                                                                \
        for (int64_t i = 0; i < elements; i += block.elements)                                                         \
            decode_block(TYPE, (const unsigned char *)rows + i / block.elements * block.bytes, to + i);                \
    }
DECODE(f32, FUR_GEMV_F32)
DECODE(bf16, FUR_GEMV_BF16)
DECODE(q8_0, FUR_GEMV_Q8_0)
DECODE(q4_0, FUR_GEMV_Q4_0)
DECODE(q4_1, FUR_GEMV_Q4_1)
DECODE(q5_0, FUR_GEMV_Q5_0)
DECODE(q5_1, FUR_GEMV_Q5_1)
DECODE(q4_k, FUR_GEMV_Q4_K)
DECODE(q5_k, FUR_GEMV_Q5_K)
DECODE(q6_k, FUR_GEMV_Q6_K)

const fur_gemv_kernel fur_gemv_ref = {.rows = {rows, rows, rows, rows, rows, rows, rows, rows, rows, rows},
                                      .decode = {f32_decode, bf16_decode, q8_0_decode, q4_0_decode, q4_1_decode,
                                                 q5_0_decode, q5_1_decode, q4_k_decode, q5_k_decode, q6_k_decode}};
