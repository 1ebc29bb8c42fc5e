/* SPDX-License-Identifier: Apache-2.0 */
/* Sums of int8 rows with 15-bit weights by products of 16-bit pairs, for AVX2 and AVX-512 without VNNI.
 *
 * Rows of two tables are widened to 16 bits and interleaved; a register of the product holds, in its 128-bit lane l,
 * columns 8 l + 4 h .. + 3 of 2 VL, h = 0 or 1: FOUR says which four columns lane l of register v holds. */
#ifndef FUR_OP_LOOKUP_WHOLE_WORDS_H
#define FUR_OP_LOOKUP_WHOLE_WORDS_H

#include <string.h>

#define FOUR(v, l) ((v) / 2 * 2 * VL + 8 * (l) + 4 * ((v) % 2))

#ifdef __AVX512BW__
static inline W wload_i8(const int8_t *p)
{
    return _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)(const void *)p));
}
#    define wlow(a, b)  _mm512_unpacklo_epi16(a, b)
#    define whigh(a, b) _mm512_unpackhi_epi16(a, b)
#    define wmadd(a, b) _mm512_madd_epi16(a, b)
#    define wadd(a, b)  _mm512_add_epi32(a, b)
#else
static inline W wload_i8(const int8_t *p)
{
    return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)p));
}
#    define wlow(a, b)  _mm256_unpacklo_epi16(a, b)
#    define whigh(a, b) _mm256_unpackhi_epi16(a, b)
#    define wmadd(a, b) _mm256_madd_epi16(a, b)
#    define wadd(a, b)  _mm256_add_epi32(a, b)
#endif

/* Weights of four slots as whole_add reads them. */
static inline void whole_place(const uint32_t w[4], uint16_t out[4])
{
    for (int i = 0; i < 4; i++)
        out[i] = (uint16_t)w[i];
}

typedef struct whole_sum {
    W part[FUR_LOOKUP_TILE / VL];
} whole_sum;

/* sum += weights times four rows */
FUR_ALWAYS_INLINE void whole_add(whole_sum *sum, const int8_t *const row[4], const uint16_t weights[4])
{
    uint32_t pair[2];
    memcpy(pair, weights, sizeof pair);
    FUR_UNROLL
    for (int64_t n = 0; n < 2; n++) {
        W w = wset(pair[n]);
        FUR_UNROLL
        for (int64_t v = 0; v < FUR_LOOKUP_TILE / VL; v += 2) {
            W a = wload_i8(row[2 * n] + v * VL), b = wload_i8(row[2 * n + 1] + v * VL);
            sum->part[v] = wadd(sum->part[v], wmadd(wlow(a, b), w));
            sum->part[v + 1] = wadd(sum->part[v + 1], wmadd(whigh(a, b), w));
        }
    }
}

FUR_ALWAYS_INLINE V whole_part(const whole_sum *sum, int64_t v)
{
    return vint(sum->part[v]);
}

#endif
