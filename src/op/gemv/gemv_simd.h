/* SPDX-License-Identifier: Apache-2.0 */
/* The body of gemv's vector variants, over the vocabulary of op/simd and, of each variant,
 *   V load_bf16(const uint16_t *p)    VL elements
 *   V load_int8(const int8_t *p)      VL elements */
#include <string.h>

#include "base/bf16.h"
#include "base/f16.h"
#include "op/gemv/gemv_kernel.h"

enum { SUMS = 4 };

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
    for (int64_t i = VL; i < FUR_Q8_0_BLOCK; i += VL)
        part = vfma(load_int8(q + i), vload(x + i), part);
    return vfma(vset(fur_f16_value(half)), part, sum);
}

static inline float q8_0_dot(const unsigned char *row, const float *x, int64_t blocks)
{
    V sum[SUMS] = {vset(0), vset(0), vset(0), vset(0)};
    int64_t b = 0;
    for (; b + SUMS <= blocks; b += SUMS)
        for (int64_t j = 0; j < SUMS; j++)
            sum[j] = add_block(row + (b + j) * FUR_Q8_0_BYTES, x + (b + j) * FUR_Q8_0_BLOCK, sum[j]);
    for (; b < blocks; b++)
        sum[0] = add_block(row + b * FUR_Q8_0_BYTES, x + b * FUR_Q8_0_BLOCK, sum[0]);
    return vsum(vadd(vadd(sum[0], sum[1]), vadd(sum[2], sum[3])));
}

static void q8_0_rows(const fur_gemv_args *a, int64_t from, int64_t to)
{
    int64_t blocks = a->in / FUR_Q8_0_BLOCK;
    const unsigned char *row = (const unsigned char *)a->w_OI + from * blocks * FUR_Q8_0_BYTES;
    for (int64_t o = from; o < to; o++, row += blocks * FUR_Q8_0_BYTES)
        for (int64_t t = 0; t < a->tokens; t++)
            fur_gemv_put(a, t, o, q8_0_dot(row, a->x_TI + t * a->ldx, blocks));
}
