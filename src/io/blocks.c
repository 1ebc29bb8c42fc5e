/* SPDX-License-Identifier: Apache-2.0 */
#include "io/blocks.h"

#include <float.h>
#include <math.h>

#include "base/blocks.h"

enum { SMALL = FUR_BLOCK_SMALL };

void fur_q4_0_to_f32(const unsigned char *from, int64_t blocks, float *to)
{
    for (int64_t b = 0; b < blocks; b++)
        fur_block_q4_0(from + b * 18, to + b * FUR_BLOCK_SMALL);
}

void fur_q4_1_to_f32(const unsigned char *from, int64_t blocks, float *to)
{
    for (int64_t b = 0; b < blocks; b++)
        fur_block_q4_1(from + b * 20, to + b * FUR_BLOCK_SMALL);
}

void fur_q5_0_to_f32(const unsigned char *from, int64_t blocks, float *to)
{
    for (int64_t b = 0; b < blocks; b++)
        fur_block_q5_0(from + b * 22, to + b * FUR_BLOCK_SMALL);
}

void fur_q5_1_to_f32(const unsigned char *from, int64_t blocks, float *to)
{
    for (int64_t b = 0; b < blocks; b++)
        fur_block_q5_1(from + b * 24, to + b * FUR_BLOCK_SMALL);
}

void fur_q8_0_to_f32(const unsigned char *from, int64_t blocks, float *to)
{
    for (int64_t b = 0; b < blocks; b++)
        fur_block_q8_0(from + b * 34, to + b * FUR_BLOCK_SMALL);
}

void fur_q4_k_to_f32(const unsigned char *from, int64_t blocks, float *to)
{
    for (int64_t b = 0; b < blocks; b++)
        fur_block_q4_k(from + b * 144, to + b * FUR_BLOCK_LARGE);
}

void fur_q5_k_to_f32(const unsigned char *from, int64_t blocks, float *to)
{
    for (int64_t b = 0; b < blocks; b++)
        fur_block_q5_k(from + b * 176, to + b * FUR_BLOCK_LARGE);
}

void fur_q6_k_to_f32(const unsigned char *from, int64_t blocks, float *to)
{
    for (int64_t b = 0; b < blocks; b++)
        fur_block_q6_k(from + b * 210, to + b * FUR_BLOCK_LARGE);
}

void fur_q8_0_of_f32(const float *from, int64_t blocks, unsigned char *to)
{
    for (int64_t b = 0; b < blocks; b++, from += SMALL, to += 34) {
        float most = 0;
        for (int i = 0; i < SMALL; i++)
            most = fmaxf(most, fabsf(from[i]));
        float d = most / 127;
        float inverse = d > 0 ? 1 / d : 0;
        if (!(inverse <= FLT_MAX)) /* below 3e-39: 0 in f16 */
            inverse = 0;
        uint16_t half = fur_f16_of(d);
        to[0] = (unsigned char)half;
        to[1] = (unsigned char)(half >> 8);
        for (int i = 0; i < SMALL; i++)
            to[2 + i] = (unsigned char)(int8_t)roundf(from[i] * inverse);
    }
}
