/* SPDX-License-Identifier: Apache-2.0 */
/* Rows into pairs and pairs turned, over the vocabularies of vectors and pairs; include those first. A word is a pair
 * of bf16, the first in its lower half. */
#ifndef FUR_OP_PAIRS_PACK_H
#define FUR_OP_PAIRS_PACK_H

#include <string.h>

#include "base/bf16.h"
#include "base/compiler.h"
#include "op/simd/transpose.h"

static inline uint32_t pair_of(float first, float second)
{
    return (uint32_t)fur_bf16_of(second) << 16 | fur_bf16_of(first);
}

/* `count` f32 in a row, as ceil(count / 2) words, the last half of an odd count 0 */
static inline void round_row(const float *from, int64_t count, uint32_t *to)
{
    int64_t k = 0;
    for (; k + VL <= count; k += VL)
        wstore_row((uint16_t *)(void *)to + k, vload(from + k));
    for (; k < count; k += 2)
        to[k / 2] = pair_of(from[k], k + 1 < count ? from[k + 1] : 0.0f);
}

/* Pairs along the rows: to[j] = (first[j], second[j]); `second` NULL: zeroes. */
static inline void round_pairs(const float *first, const float *second, int64_t count, uint32_t *to)
{
    int64_t j = 0;
    for (; j + VL <= count; j += VL)
        wstore(to + j, wround(vload(first + j), second ? vload(second + j) : vset(0.0f)));
    if (j < count) {
        V a = vload_part(first + j, count - j), b = second ? vload_part(second + j, count - j) : vset(0.0f);
        uint32_t rest[VL];
        wstore(rest, wround(a, b));
        memcpy(to + j, rest, (size_t)(count - j) * sizeof *to);
    }
}

/* to[j][i] = from[i][j], 8 x 8 words */
FUR_ALWAYS_INLINE void turn_words_8(const uint32_t *from, int64_t ld_from, uint32_t *to, int64_t ld_to)
{
    __m256 r[8];
    FUR_UNROLL
    for (int i = 0; i < 8; i++)
        r[i] = _mm256_loadu_ps((const float *)(const void *)(from + i * ld_from));
    transpose_8(r);
    FUR_UNROLL
    for (int i = 0; i < 8; i++)
        _mm256_storeu_ps((float *)(void *)(to + i * ld_to), r[i]);
}

enum { TURN = 64 }; /* words of a side: source and result lie in the innermost cache */

/* to[j][i] = from[i][j] for rows x columns words; both sides hold multiples of 8. */
static inline void turn_words(const uint32_t *from, int64_t ld_from, int64_t rows, int64_t columns, uint32_t *to,
                              int64_t ld_to)
{
    for (int64_t i = 0; i < rows; i += 8)
        for (int64_t j = 0; j < columns; j += 8)
            turn_words_8(from + i * ld_from + j, ld_from, to + j * ld_to + i, ld_to);
}

#endif
