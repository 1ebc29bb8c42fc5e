/* SPDX-License-Identifier: Apache-2.0 */
/* The body of gemv's vector variants, over the vocabulary of op/simd and, of each variant,
 *   V load_bf16(const uint16_t *p)                          VL elements
 *   V load_int8(const unsigned char *p)                     VL of them, signed
 *   V load_bits(const unsigned char *p, int at, int bits)   bits at, at + 1, ... of VL bytes each, as numbers
 *   V load_flags(uint32_t flags, float value)               `value` in the lanes whose flag is set, 0 in the others
 *   float load_half(const unsigned char *p)                 an f16, exact
 * Blocks are decoded in registers, 32 elements at a time, to the bits of base/blocks.h: by its operations in their
 * order, or by one fma where the product is exact, as that of an f16 and five bits is. */
#include <string.h>

#include "base/bf16.h"
#include "base/blocks.h"
#include "base/compiler.h"
#include "op/gemv/gemv_kernel.h"

enum { SUMS = 4, Q8_0_BYTES = 34, PART = FUR_BLOCK_SMALL, VECTORS = FUR_BLOCK_SMALL / VL };

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
    }                                                                                                                  \
    static void NAME##_decode(const void *rows, int64_t elements, float *to)                                           \
    {                                                                                                                  \
        const TYPE *w = rows;                                                                                          \
        int64_t i = 0;                                                                                                 \
        for (; i + VL <= elements; i += VL)                                                                            \
            vstore(to + i, LOAD(w + i));                                                                               \
        for (; i < elements; i++)                                                                                      \
            to[i] = WORD(w[i]);                                                                                        \
    }

#define SAME(x) (x)
PLAIN_ROWS(f32, float, load_f32, SAME)
PLAIN_ROWS(bf16, uint16_t, load_bf16, fur_bf16_value)

/* ---- 32 elements of a block -------------------------------------------------------------------------------------- */

/* Elements [32 part, 32 part + 32) of the block. */
typedef void (*read_fn)(const unsigned char *block, int64_t part, V w[VECTORS]);

/* Bytes 0 to 15 hold elements 0 to 15 in their low bits, 16 to 31 in their high ones. */
FUR_ALWAYS_INLINE void read_nibbles(const unsigned char *at, V w[VECTORS])
{
    FUR_UNROLL
    for (int j = 0; j < VECTORS; j++)
        w[j] = load_bits(at + j * VL % 16, j * VL < 16 ? 0 : 4, 4);
}

FUR_ALWAYS_INLINE void read_q8_0(const unsigned char *block, int64_t part, V w[VECTORS])
{
    (void)part;
    V d = vset(load_half(block));
    FUR_UNROLL
    for (int j = 0; j < VECTORS; j++)
        w[j] = vmul(load_int8(block + 2 + j * VL), d);
}

FUR_ALWAYS_INLINE void read_q4_0(const unsigned char *block, int64_t part, V w[VECTORS])
{
    (void)part;
    V d = vset(load_half(block));
    read_nibbles(block + 2, w);
    FUR_UNROLL
    for (int j = 0; j < VECTORS; j++)
        w[j] = vfma(d, w[j], vmul(d, vset(-8)));
}

FUR_ALWAYS_INLINE void read_q4_1(const unsigned char *block, int64_t part, V w[VECTORS])
{
    (void)part;
    V d = vset(load_half(block)), m = vset(load_half(block + 2));
    read_nibbles(block + 4, w);
    FUR_UNROLL
    for (int j = 0; j < VECTORS; j++)
        w[j] = vfma(d, w[j], m);
}

FUR_ALWAYS_INLINE void read_q5_0(const unsigned char *block, int64_t part, V w[VECTORS])
{
    (void)part;
    V d = vset(load_half(block));
    uint32_t fifth = fur_block_word(block + 2);
    read_nibbles(block + 6, w);
    FUR_UNROLL
    for (int j = 0; j < VECTORS; j++)
        w[j] = vmul(d, vsub(w[j], load_flags(~fifth >> j * VL, 16)));
}

FUR_ALWAYS_INLINE void read_q5_1(const unsigned char *block, int64_t part, V w[VECTORS])
{
    (void)part;
    V d = vset(load_half(block)), m = vset(load_half(block + 2));
    uint32_t fifth = fur_block_word(block + 4);
    read_nibbles(block + 8, w);
    FUR_UNROLL
    for (int j = 0; j < VECTORS; j++)
        w[j] = vfma(d, vadd(w[j], load_flags(fifth >> j * VL, 16)), m);
}

/* Scale and minimum of a part of Q4_K and Q5_K. */
FUR_ALWAYS_INLINE void read_part_scales(const unsigned char *block, int64_t part, V *scale, V *minimum)
{
    float s, m;
    fur_block_part_scales(block + 4, (int)part, &s, &m);
    *scale = vset(load_half(block) * s);
    *minimum = vset(load_half(block + 2) * m);
}

FUR_ALWAYS_INLINE void read_q4_k(const unsigned char *block, int64_t part, V w[VECTORS])
{
    const unsigned char *pair = block + 16 + part / 2 * 32;
    V scale, minimum;
    read_part_scales(block, part, &scale, &minimum);
    FUR_UNROLL
    for (int j = 0; j < VECTORS; j++)
        w[j] = vsub(vmul(scale, load_bits(pair + j * VL, (int)(part % 2 * 4), 4)), minimum);
}

FUR_ALWAYS_INLINE void read_q5_k(const unsigned char *block, int64_t part, V w[VECTORS])
{
    const unsigned char *pair = block + 48 + part / 2 * 32, *fifth = block + 16;
    V scale, minimum;
    read_part_scales(block, part, &scale, &minimum);
    FUR_UNROLL
    for (int j = 0; j < VECTORS; j++) {
        V low = load_bits(pair + j * VL, (int)(part % 2 * 4), 4), high = load_bits(fifth + j * VL, (int)part, 1);
        w[j] = vsub(vmul(scale, vfma(high, vset(16), low)), minimum);
    }
}

FUR_ALWAYS_INLINE void read_q6_k(const unsigned char *block, int64_t part, V w[VECTORS])
{
    int64_t row = part % 4;
    const unsigned char *low = block + part / 4 * 64 + row % 2 * 32, *high = block + 128 + part / 4 * 32;
    const int8_t *scales = (const int8_t *)block + 192 + 2 * part; /* one for 16 elements */
    float d = load_half(block + 208);
    FUR_UNROLL
    for (int64_t j = 0; j < PART; j += VL) {
        V q = vfma(load_bits(high + j, (int)(2 * row), 2), vset(16), load_bits(low + j, (int)(row / 2 * 4), 4));
        int64_t scale = j / 16;
        w[j / VL] = vmul(vset(d * (float)scales[scale]), vsub(q, vset(32)));
    }
}

/* ---- rows of blocks ---------------------------------------------------------------------------------------------- */

/* Outputs o, o + 1, ... of every vector. Each has two sums, so that the bits do not depend on how many there are. */
FUR_ALWAYS_INLINE void block_outputs(const fur_gemv_args *a, read_fn read, int64_t parts, int64_t bytes, int outputs,
                                     int tokens, int64_t o)
{
    int64_t blocks = a->in / (parts * PART);
    const unsigned char *rows = (const unsigned char *)a->w_OI + o * blocks * bytes;
    V sum[2][FUR_GEMV_MOST][2];
    for (int i = 0; i < outputs; i++)
        for (int t = 0; t < tokens; t++)
            sum[i][t][0] = sum[i][t][1] = vset(0);
    for (int64_t b = 0; b < blocks; b++)
        for (int64_t part = 0; part < parts; part++) {
            const float *x = a->x_TI + (b * parts + part) * PART;
            FUR_UNROLL
            for (int i = 0; i < outputs; i++) {
                V w[VECTORS];
                read(rows + (i * blocks + b) * bytes, part, w);
                FUR_UNROLL
                for (int t = 0; t < tokens; t++) {
                    FUR_UNROLL
                    for (int j = 0; j < VECTORS; j++)
                        sum[i][t][j % 2] = vfma(w[j], vload(x + t * a->ldx + j * VL), sum[i][t][j % 2]);
                }
            }
        }
    for (int i = 0; i < outputs; i++)
        for (int t = 0; t < tokens; t++)
            fur_gemv_put(a, t, o + i, vsum(vadd(sum[i][t][0], sum[i][t][1])));
}

FUR_ALWAYS_INLINE void block_rows(const fur_gemv_args *a, read_fn read, int64_t parts, int64_t bytes, int64_t from,
                                  int64_t to)
{
    int64_t o = from;
    for (; a->tokens == 1 && o + 2 <= to; o += 2)
        block_outputs(a, read, parts, bytes, 2, 1, o);
    for (; o < to; o++)
        switch (a->tokens) {
        case 0: break;
        case 1: block_outputs(a, read, parts, bytes, 1, 1, o); break;
        case 2: block_outputs(a, read, parts, bytes, 1, 2, o); break;
        case 3: block_outputs(a, read, parts, bytes, 1, 3, o); break;
        default: block_outputs(a, read, parts, bytes, 1, FUR_GEMV_MOST, o);
        }
}

FUR_ALWAYS_INLINE void block_decode(const unsigned char *block, read_fn read, int64_t parts, int64_t bytes,
                                    int64_t elements, float *to)
{
    for (int64_t b = 0; b < elements / (parts * PART); b++, block += bytes)
        for (int64_t part = 0; part < parts; part++, to += PART) {
            V w[VECTORS];
            read(block, part, w);
            FUR_UNROLL
            for (int j = 0; j < VECTORS; j++)
                vstore(to + j * VL, w[j]);
        }
}

/* A block's 32 products, times its scale: one product with it where decoding would have four. */
FUR_ALWAYS_INLINE V add_q8_0(const unsigned char *block, const float *x, V sum)
{
    V part = vmul(load_int8(block + 2), vload(x));
    for (int64_t i = VL; i < FUR_BLOCK_SMALL; i += VL)
        part = vfma(load_int8(block + 2 + i), vload(x + i), part);
    return vfma(vset(load_half(block)), part, sum);
}

static inline float q8_0_dot(const unsigned char *row, const float *x, int64_t blocks)
{
    V sum[SUMS] = {vset(0), vset(0), vset(0), vset(0)};
    int64_t b = 0;
    for (; b + SUMS <= blocks; b += SUMS)
        for (int64_t j = 0; j < SUMS; j++)
            sum[j] = add_q8_0(row + (b + j) * Q8_0_BYTES, x + (b + j) * FUR_BLOCK_SMALL, sum[j]);
    for (; b < blocks; b++)
        sum[0] = add_q8_0(row + b * Q8_0_BYTES, x + b * FUR_BLOCK_SMALL, sum[0]);
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

#define BLOCK_DECODE(NAME, PARTS, BYTES)                                                                               \
    static void NAME##_decode(const void *rows, int64_t elements, float *to)                                           \
    {                                                                                                                  \
        block_decode(rows, read_##NAME, PARTS, BYTES, elements, to);                                                   \
    }

#define BLOCK_ROWS(NAME, PARTS, BYTES)                                                                                 \
    static void NAME##_rows(const fur_gemv_args *a, int64_t from, int64_t to)                                          \
    {                                                                                                                  \
        block_rows(a, read_##NAME, PARTS, BYTES, from, to);                                                            \
    }                                                                                                                  \
    BLOCK_DECODE(NAME, PARTS, BYTES)

BLOCK_DECODE(q8_0, 1, Q8_0_BYTES)
BLOCK_ROWS(q4_0, 1, 18)
BLOCK_ROWS(q4_1, 1, 20)
BLOCK_ROWS(q5_0, 1, 22)
BLOCK_ROWS(q5_1, 1, 24)
BLOCK_ROWS(q4_k, 8, 144)
BLOCK_ROWS(q5_k, 8, 176)
BLOCK_ROWS(q6_k, 8, 210)

#define GEMV_KERNEL                                                                                                    \
    {                                                                                                                  \
        .rows = {f32_rows,  bf16_rows, q8_0_rows, q4_0_rows, q4_1_rows,                                                \
                 q5_0_rows, q5_1_rows, q4_k_rows, q5_k_rows, q6_k_rows},                                               \
        .decode = {f32_decode,  bf16_decode, q8_0_decode, q4_0_decode, q4_1_decode,                                    \
                   q5_0_decode, q5_1_decode, q4_k_decode, q5_k_decode, q6_k_decode},                                   \
    }
