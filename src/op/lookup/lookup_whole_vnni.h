/* SPDX-License-Identifier: Apache-2.0 */
/* The same by VNNI: rows of four tables with their bytes interleaved, times the high 7 and the low 8 bits of the
 * weights. Lane l of register v holds columns 16 l + 4 v .. + 3. */
#ifndef FUR_OP_LOOKUP_WHOLE_VNNI_H
#define FUR_OP_LOOKUP_WHOLE_VNNI_H

#include <string.h>

#define FOUR(v, l) (16 * (l) + 4 * (v))

static inline void whole_place(const uint32_t w[4], uint16_t out[4])
{
    uint32_t low = 0, high = 0;
    for (int i = 0; i < 4; i++) {
        low |= (w[i] & 255) << 8 * i;
        high |= (w[i] >> 8) << 8 * i;
    }
    memcpy(out, &low, sizeof low);
    memcpy(out + 2, &high, sizeof high);
}

typedef struct whole_sum {
    W low[4], high[4];
} whole_sum;

FUR_ALWAYS_INLINE void whole_add(whole_sum *sum, const int8_t *const row[4], const uint16_t weights[4])
{
    uint32_t part[2];
    memcpy(part, weights, sizeof part);
    W a = _mm512_loadu_si512(row[0]), b = _mm512_loadu_si512(row[1]);
    W c = _mm512_loadu_si512(row[2]), d = _mm512_loadu_si512(row[3]);
    W ab = _mm512_unpacklo_epi8(a, b), cd = _mm512_unpacklo_epi8(c, d);
    W ab_high = _mm512_unpackhi_epi8(a, b), cd_high = _mm512_unpackhi_epi8(c, d);
    W four[4] = {_mm512_unpacklo_epi16(ab, cd), _mm512_unpackhi_epi16(ab, cd), _mm512_unpacklo_epi16(ab_high, cd_high),
                 _mm512_unpackhi_epi16(ab_high, cd_high)};
    W low = wset(part[0]), high = wset(part[1]);
    FUR_UNROLL
    for (int v = 0; v < 4; v++) {
        sum->low[v] = _mm512_dpbusd_epi32(sum->low[v], low, four[v]);
        sum->high[v] = _mm512_dpbusd_epi32(sum->high[v], high, four[v]);
    }
}

FUR_ALWAYS_INLINE V whole_part(const whole_sum *sum, int64_t v)
{
    return vint(_mm512_add_epi32(sum->low[v], _mm512_slli_epi32(sum->high[v], 8)));
}

#endif
