/* SPDX-License-Identifier: Apache-2.0 */
/* The body of gemv's vector variants, over the vocabulary of op/simd and, of each variant,
 *   V load_bf16(const uint16_t *p)    VL elements
 *   V load_int8(const int8_t *p)      VL elements */
#include <string.h>

#include "base/bf16.h"
#include "base/blocks.h"
#include "op/gemv/gemv_kernel.h"

enum { SUMS = 4, Q8_0_BYTES = 34 };

static inline V load_f32(const float *p)
{
    return vload(p);
}

/* Rows of numbers that need no scale. LOAD: VL of them as f32; WORD: one. */
#define PLAIN_ROWS(NAME, TYPE, LOAD, WORD)                                                                             \
    static inline float NAME##_dot(const TYPE *w, const float *x, int64_t count)                                       \
    {                                                                                                                  \
        V sum[SUMS] = {vset(0), vset(0), vset(0), vset(0)};                                                            \
        int64_t i = 0;                                                                                                 \
        for (; i + SUMS * VL <= count; i += SUMS * VL)                                                                 \
            for (int64_t j = 0; j < SUMS; j++)                                                                         \
                sum[j] = vfma(LOAD(w + i + j * VL), vload(x + i + j * VL), sum[j]);                                    \
        for (; i + VL <= count; i += VL)                                                                               \
            sum[0] = vfma(LOAD(w + i), vload(x + i), sum[0]);                                                          \
        float all = vsum(vadd(vadd(sum[0], sum[1]), vadd(sum[2], sum[3])));                                            \
        for (; i < count; i++)                                                                                         \
            all += WORD(w[i]) * x[i];                                                                                  \
        return all;                                                                                                    \
    }                                                                                                                  \
    static void NAME##_rows(const fur_gemv_args *a, int64_t from, int64_t to)                                          \
    {                                                                                                                  \
        const TYPE *w = (const TYPE *)a->w_OI + from * a->in;                                                          \
        for (int64_t o = from; o < to; o++, w += a->in)                                                                \
            for (int64_t t = 0; t < a->tokens; t++)                                                                    \
                fur_gemv_put(a, t, o, NAME##_dot(w, a->x_TI + t * a->ldx, a->in));                                     \
    }

#define SAME(x) (x)
PLAIN_ROWS(f32, float, load_f32, SAME)
PLAIN_ROWS(bf16, uint16_t, load_bf16, fur_bf16_value)

/* A block's 32 products, times its scale. */
static inline V add_block(const unsigned char *block, const float *x, V sum)
{
    uint16_t half;
    memcpy(&half, block, sizeof half);
    const int8_t *q = (const int8_t *)block + 2;
    V part = vmul(load_int8(q), vload(x));
    for (int64_t i = VL; i < FUR_BLOCK_SMALL; i += VL)
        part = vfma(load_int8(q + i), vload(x + i), part);
    return vfma(vset(fur_f16_value(half)), part, sum);
}

static inline float q8_0_dot(const unsigned char *row, const float *x, int64_t blocks)
{
    V sum[SUMS] = {vset(0), vset(0), vset(0), vset(0)};
    int64_t b = 0;
    for (; b + SUMS <= blocks; b += SUMS)
        for (int64_t j = 0; j < SUMS; j++)
            sum[j] = add_block(row + (b + j) * Q8_0_BYTES, x + (b + j) * FUR_BLOCK_SMALL, sum[j]);
    for (; b < blocks; b++)
        sum[0] = add_block(row + b * Q8_0_BYTES, x + b * FUR_BLOCK_SMALL, sum[0]);
    return vsum(vadd(vadd(sum[0], sum[1]), vadd(sum[2], sum[3])));
}

static void q8_0_rows(const fur_gemv_args *a, int64_t from, int64_t to)
{
    int64_t blocks = a->in / FUR_BLOCK_SMALL;
    const unsigned char *row = (const unsigned char *)a->w_OI + from * blocks * Q8_0_BYTES;
    for (int64_t o = from; o < to; o++, row += blocks * Q8_0_BYTES)
        for (int64_t t = 0; t < a->tokens; t++)
            fur_gemv_put(a, t, o, q8_0_dot(row, a->x_TI + t * a->ldx, blocks));
}

/* Rows of blocks, each decoded once for all vectors. */
#define BLOCK_ROWS(NAME, ELEMENTS, BYTES)                                                                              \
    static void NAME##_rows(const fur_gemv_args *a, int64_t from, int64_t to)                                          \
    {                                                                                                                  \
        int64_t blocks = a->in / (ELEMENTS);                                                                           \
        const unsigned char *block = (const unsigned char *)a->w_OI + from * blocks * (BYTES);                         \
        for (int64_t o = from; o < to; o++) {                                                                          \
            V sum[FUR_GEMV_MOST][2];                                                                                   \
            for (int64_t t = 0; t < a->tokens; t++)                                                                    \
                sum[t][0] = sum[t][1] = vset(0);                                                                       \
            for (int64_t b = 0; b < blocks; b++, block += (BYTES)) {                                                   \
                float w[ELEMENTS];                                                                                     \
                fur_block_##NAME(block, w);                                                                            \
                for (int64_t t = 0; t < a->tokens; t++) {                                                              \
                    const float *x = a->x_TI + t * a->ldx + b * (ELEMENTS);                                            \
                    for (int64_t i = 0; i < (ELEMENTS); i += 2 * VL) {                                                 \
                        sum[t][0] = vfma(vload(w + i), vload(x + i), sum[t][0]);                                       \
                        sum[t][1] = vfma(vload(w + i + VL), vload(x + i + VL), sum[t][1]);                             \
                    }                                                                                                  \
                }                                                                                                      \
            }                                                                                                          \
            for (int64_t t = 0; t < a->tokens; t++)                                                                    \
                fur_gemv_put(a, t, o, vsum(vadd(sum[t][0], sum[t][1])));                                               \
        }                                                                                                              \
    }

BLOCK_ROWS(q4_0, FUR_BLOCK_SMALL, 18)
BLOCK_ROWS(q4_1, FUR_BLOCK_SMALL, 20)
BLOCK_ROWS(q5_0, FUR_BLOCK_SMALL, 22)
BLOCK_ROWS(q5_1, FUR_BLOCK_SMALL, 24)
BLOCK_ROWS(q4_k, FUR_BLOCK_LARGE, 144)
BLOCK_ROWS(q5_k, FUR_BLOCK_LARGE, 176)
BLOCK_ROWS(q6_k, FUR_BLOCK_LARGE, 210)

#define ALL_ROWS                                                                                                       \
    {                                                                                                                  \
        f32_rows, bf16_rows, q8_0_rows, q4_0_rows, q4_1_rows, q5_0_rows, q5_1_rows, q4_k_rows, q5_k_rows, q6_k_rows    \
    }
