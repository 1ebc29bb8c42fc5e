/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers in blocks of small integers that share a scale, one block to f32; what the blocks are is in io/blocks.h. In a
 * header, so that a variant of an operator compiles them for its own instruction set. Arithmetic is f32 in the order
 * written. */
#ifndef FUR_BASE_BLOCKS_H
#define FUR_BASE_BLOCKS_H

#include <stddef.h>
#include <stdint.h>

#include "base/f16.h"

enum { FUR_BLOCK_SMALL = 32, FUR_BLOCK_LARGE = 256 };

static inline float fur_block_half(const unsigned char *at)
{
    return fur_f16_value((uint16_t)(at[0] | at[1] << 8));
}

static inline void fur_block_q4_0(const unsigned char *from, float *to)
{
    float d = fur_block_half(from);
    for (int i = 0; i < 16; i++) {
        to[i] = d * (float)((from[2 + i] & 15) - 8);
        to[16 + i] = d * (float)((from[2 + i] >> 4) - 8);
    }
}

static inline void fur_block_q4_1(const unsigned char *from, float *to)
{
    float d = fur_block_half(from), m = fur_block_half(from + 2);
    for (int i = 0; i < 16; i++) {
        float low = d * (float)(from[4 + i] & 15), high = d * (float)(from[4 + i] >> 4);
        to[i] = low + m;
        to[16 + i] = high + m;
    }
}

/* The fifth bits of a block, one of 32 each. */
static inline uint32_t fur_block_word(const unsigned char *at)
{
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static inline void fur_block_q5_0(const unsigned char *from, float *to)
{
    float d = fur_block_half(from);
    uint32_t fifth = fur_block_word(from + 2);
    for (int i = 0; i < 16; i++) {
        to[i] = d * (float)((int)((from[6 + i] & 15u) | (fifth >> i & 1u) << 4) - 16);
        to[16 + i] = d * (float)((int)((from[6 + i] >> 4) | (fifth >> (16 + i) & 1u) << 4) - 16);
    }
}

static inline void fur_block_q5_1(const unsigned char *from, float *to)
{
    float d = fur_block_half(from), m = fur_block_half(from + 2);
    uint32_t fifth = fur_block_word(from + 4);
    for (int i = 0; i < 16; i++) {
        float low = d * (float)((from[8 + i] & 15u) | (fifth >> i & 1u) << 4);
        float high = d * (float)((uint32_t)(from[8 + i] >> 4) | (fifth >> (16 + i) & 1u) << 4);
        to[i] = low + m;
        to[16 + i] = high + m;
    }
}

static inline void fur_block_q8_0(const unsigned char *from, float *to)
{
    float d = fur_block_half(from);
    for (int i = 0; i < FUR_BLOCK_SMALL; i++)
        to[i] = (float)(int8_t)from[2 + i] * d;
}

/* Scale and minimum of part j of 8. Bytes 0 to 3 and 4 to 7 hold those of parts 0 to 3 in six bits; 8 to 11 the low
 * four bits of parts 4 to 7, whose upper two are the upper two of bytes 0 to 7. */
static inline void fur_block_part_scales(const unsigned char *packed, int j, float *scale, float *minimum)
{
    int k = j - 4;
    int s = j < 4 ? packed[j] & 63 : (packed[8 + k] & 15) | packed[k] >> 6 << 4;
    int t = j < 4 ? packed[4 + j] & 63 : packed[8 + k] >> 4 | packed[4 + k] >> 6 << 4;
    *scale = (float)s;
    *minimum = (float)t;
}

/* Parts lie in pairs: byte i of a pair's 32 holds element i of the first in its low bits, of the second in its high
 * ones. */
static inline void fur_block_q4_k(const unsigned char *from, float *to)
{
    float d = fur_block_half(from), m = fur_block_half(from + 2);
    for (int j = 0; j < 8; j++) {
        const unsigned char *pair = from + 16 + (ptrdiff_t)(j / 2) * 32;
        float scale, minimum;
        fur_block_part_scales(from + 4, j, &scale, &minimum);
        scale = d * scale;
        minimum = m * minimum;
        for (int i = 0; i < 32; i++) {
            float part = scale * (float)(pair[i] >> j % 2 * 4 & 15);
            to[j * 32 + i] = part - minimum;
        }
    }
}

/* The same; bit j of byte i of the 32 before is the fifth of element i of part j. */
static inline void fur_block_q5_k(const unsigned char *from, float *to)
{
    float d = fur_block_half(from), m = fur_block_half(from + 2);
    for (int j = 0; j < 8; j++) {
        const unsigned char *pair = from + 48 + (ptrdiff_t)(j / 2) * 32, *fifth = from + 16;
        float scale, minimum;
        fur_block_part_scales(from + 4, j, &scale, &minimum);
        scale = d * scale;
        minimum = m * minimum;
        for (int i = 0; i < 32; i++) {
            float part = scale * (float)((pair[i] >> j % 2 * 4 & 15) | (fifth[i] >> j & 1) << 4);
            to[j * 32 + i] = part - minimum;
        }
    }
}

/* By halves of 128 elements, each four rows of 32: rows 0 and 1 are the low bits of the half's 64 bytes q, rows 2 and 3
 * their high ones; row r has bits 2 r and 2 r + 1 of its 32 bytes above. A scale is that of 16 elements. */
static inline void fur_block_q6_k(const unsigned char *from, float *to)
{
    const unsigned char *upper = from + 128, *scales = from + 192;
    float d = fur_block_half(from + 208);
    for (int part = 0; part < 16; part++) {
        int half = part / 8, row = part / 2 % 4, first = part % 2 * 16;
        const unsigned char *low = from + (ptrdiff_t)half * 64 + (ptrdiff_t)(row % 2) * 32 + first,
                            *high = upper + (ptrdiff_t)half * 32 + first;
        float scale = d * (float)(int8_t)scales[part];
        for (int i = 0; i < 16; i++)
            to[part * 16 + i] = scale * (float)(((low[i] >> row / 2 * 4 & 15) | (high[i] >> row * 2 & 3) << 4) - 32);
    }
}

#endif
