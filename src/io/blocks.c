/* SPDX-License-Identifier: Apache-2.0 */
#include "io/blocks.h"

#include <float.h>
#include <math.h>

#include "base/f16.h"

enum { SMALL = 32, LARGE = 256 };

static float half_at(const unsigned char *at)
{
    return fur_f16_value((uint16_t)(at[0] | at[1] << 8));
}

/* Four low bits of element i of a block of 32. */
static int nibble(const unsigned char *q, int i)
{
    return i < 16 ? q[i] & 15 : q[i - 16] >> 4;
}

/* Element i of five bits, the fifth from a row of 32 bits. */
static int five_bits(const unsigned char *fifth, const unsigned char *q, int i)
{
    return nibble(q, i) | (fifth[i / 8] >> i % 8 & 1) << 4;
}

void fur_q4_0_to_f32(const unsigned char *from, int64_t blocks, float *to)
{
    for (int64_t b = 0; b < blocks; b++, from += 18, to += SMALL) {
        float d = half_at(from);
        for (int i = 0; i < SMALL; i++)
            to[i] = d * (float)(nibble(from + 2, i) - 8);
    }
}

void fur_q4_1_to_f32(const unsigned char *from, int64_t blocks, float *to)
{
    for (int64_t b = 0; b < blocks; b++, from += 20, to += SMALL) {
        float d = half_at(from), m = half_at(from + 2);
        for (int i = 0; i < SMALL; i++)
            to[i] = d * (float)nibble(from + 4, i) + m;
    }
}

void fur_q5_0_to_f32(const unsigned char *from, int64_t blocks, float *to)
{
    for (int64_t b = 0; b < blocks; b++, from += 22, to += SMALL) {
        float d = half_at(from);
        for (int i = 0; i < SMALL; i++)
            to[i] = d * (float)(five_bits(from + 2, from + 6, i) - 16);
    }
}

void fur_q5_1_to_f32(const unsigned char *from, int64_t blocks, float *to)
{
    for (int64_t b = 0; b < blocks; b++, from += 24, to += SMALL) {
        float d = half_at(from), m = half_at(from + 2);
        for (int i = 0; i < SMALL; i++)
            to[i] = d * (float)five_bits(from + 4, from + 8, i) + m;
    }
}

void fur_q8_0_to_f32(const unsigned char *from, int64_t blocks, float *to)
{
    for (int64_t b = 0; b < blocks; b++, from += 34, to += SMALL) {
        float d = half_at(from);
        for (int i = 0; i < SMALL; i++)
            to[i] = (float)(int8_t)from[2 + i] * d;
    }
}

/* Scale and minimum of part j of 8. Bytes 0 to 3 and 4 to 7 hold those of parts 0 to 3 in six bits; 8 to 11 the low
 * four bits of parts 4 to 7, whose upper two are the upper two of bytes 0 to 7. */
static void part_scales(const unsigned char *packed, int j, float *scale, float *minimum)
{
    int k = j - 4;
    int s = j < 4 ? packed[j] & 63 : (packed[8 + k] & 15) | packed[k] >> 6 << 4;
    int t = j < 4 ? packed[4 + j] & 63 : packed[8 + k] >> 4 | packed[4 + k] >> 6 << 4;
    *scale = (float)s;
    *minimum = (float)t;
}

/* fifth NULL: four bits. Parts lie in pairs: byte i of a pair's 32 holds element i of the first in its low bits, of the
 * second in its high ones; bit j of byte i is the fifth of element i of part j. */
static void large_to_f32(const unsigned char *head, const unsigned char *fifth, const unsigned char *q, float *to)
{
    float d = half_at(head), m = half_at(head + 2);
    for (int j = 0; j < LARGE / 32; j++) {
        const unsigned char *pair = q + j / 2 * 32;
        float scale, minimum;
        part_scales(head + 4, j, &scale, &minimum);
        scale = d * scale;
        minimum = m * minimum;
        for (int i = 0; i < 32; i++) {
            int x = pair[i] >> j % 2 * 4 & 15;
            if (fifth)
                x |= (fifth[i] >> j & 1) << 4;
            to[j * 32 + i] = scale * (float)x - minimum;
        }
    }
}

void fur_q4_k_to_f32(const unsigned char *from, int64_t blocks, float *to)
{
    for (int64_t b = 0; b < blocks; b++, from += 144, to += LARGE)
        large_to_f32(from, NULL, from + 16, to);
}

void fur_q5_k_to_f32(const unsigned char *from, int64_t blocks, float *to)
{
    for (int64_t b = 0; b < blocks; b++, from += 176, to += LARGE)
        large_to_f32(from, from + 16, from + 48, to);
}

/* By halves of 128 elements, each four rows of 32: rows 0 and 1 are the low bits of the half's 64 bytes q, rows 2 and 3
 * their high ones; row r has bits 2 r and 2 r + 1 of its 32 bytes above. */
void fur_q6_k_to_f32(const unsigned char *from, int64_t blocks, float *to)
{
    for (int64_t b = 0; b < blocks; b++, from += 210, to += LARGE) {
        const unsigned char *upper = from + 128, *scales = from + 192;
        float d = half_at(from + 208);
        for (int e = 0; e < LARGE; e++) {
            int half = e / 128, row = e / 32 % 4, i = e % 32;
            int low = from[half * 64 + row % 2 * 32 + i] >> row / 2 * 4 & 15;
            int high = upper[half * 32 + i] >> row * 2 & 3;
            float scale = d * (float)(int8_t)scales[e / 16];
            to[e] = scale * (float)((low | high << 4) - 32);
        }
    }
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
