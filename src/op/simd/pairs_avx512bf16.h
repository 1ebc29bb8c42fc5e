/* SPDX-License-Identifier: Apache-2.0 */
/* Pairs of bf16 for AVX512-BF16; the words are those of pairs_avx2.h. The product of pairs rounds to nearest and takes
 * and gives subnormal numbers as zero. */
#ifndef FUR_OP_PAIRS_AVX512BF16_H
#define FUR_OP_PAIRS_AVX512BF16_H

#include "op/simd/pairs_avx512_common.h"

static inline V wdot(W a, W b, V c)
{
    return _mm512_dpbf16_ps(c, (__m512bh)a, (__m512bh)b);
}
static inline W wround(V first, V second)
{
    const W turn = _mm512_set_epi32(0x001f000f, 0x001e000e, 0x001d000d, 0x001c000c, 0x001b000b, 0x001a000a, 0x00190009,
                                    0x00180008, 0x00170007, 0x00160006, 0x00150005, 0x00140004, 0x00130003, 0x00120002,
                                    0x00110001, 0x00100000);
    return _mm512_permutexvar_epi16(turn, (W)_mm512_cvtne2ps_pbh(second, first));
}
static inline void wstore_row(uint16_t *p, V a)
{
    _mm256_storeu_si256((__m256i *)(void *)p, (__m256i)_mm512_cvtneps_pbh(a));
}

#endif
