/* SPDX-License-Identifier: Apache-2.0 */
/* The tile vocabulary in plain C, for tests of kernels made of tiles on machines without them. Eight tiles of 16 rows
 * of 16 words; a word is an f32 of a sum or a pair of bf16. Per thread. Outside of begin and end nothing may be done
 * with tiles, as on the processor, and what they held is gone. */
#ifndef FUR_TESTS_TILE_PLAIN_H
#define FUR_TESTS_TILE_PLAIN_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/bf16.h"

static _Thread_local struct {
    int configured;
    uint32_t word[8][16][16];
} tile_state;

static inline void tiles_check(void)
{
    if (!tile_state.configured)
        abort();
}

static inline void tiles_begin(void)
{
    tile_state.configured = 1;
}

static inline void tiles_end(void)
{
    memset(&tile_state, 0xff, sizeof tile_state); /* NaN */
    tile_state.configured = 0;
}

static inline void tiles_zero(int t)
{
    tiles_check();
    memset(tile_state.word[t], 0, sizeof tile_state.word[t]);
}

/* Rows of 64 bytes, `row_bytes` apart. */
static inline void tiles_load(int t, const void *from, int64_t row_bytes)
{
    tiles_check();
    for (int i = 0; i < 16; i++)
        memcpy(tile_state.word[t][i], (const unsigned char *)from + i * row_bytes, 64);
}

static inline void tiles_store(int t, void *to, int64_t row_bytes)
{
    tiles_check();
    for (int i = 0; i < 16; i++)
        memcpy((unsigned char *)to + i * row_bytes, tile_state.word[t][i], 64);
}

/* c[i][n] += sum over k of a[i][k].first b[k][n].first + a[i][k].second b[k][n].second */
static inline void tiles_multiply(int c, int a, int b)
{
    tiles_check();
    for (int i = 0; i < 16; i++)
        for (int n = 0; n < 16; n++) {
            float sum;
            memcpy(&sum, &tile_state.word[c][i][n], sizeof sum);
            for (int k = 0; k < 16; k++) {
                uint32_t x = tile_state.word[a][i][k], y = tile_state.word[b][k][n];
                sum += fur_bf16_value((uint16_t)x) * fur_bf16_value((uint16_t)y);
                sum += fur_bf16_value((uint16_t)(x >> 16)) * fur_bf16_value((uint16_t)(y >> 16));
            }
            memcpy(&tile_state.word[c][i][n], &sum, sizeof sum);
        }
}

#endif
