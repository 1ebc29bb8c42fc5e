/* SPDX-License-Identifier: Apache-2.0 */
#include <immintrin.h>

#include "base/compiler.h"
#include "op/peak/peak_kernel.h"

#define CHAINS 24

static float run(int64_t rounds)
{
    __m512 chain[CHAINS];
    const __m512 factor = _mm512_set1_ps(0.001f);
    const __m512bh pairs = _mm512_cvtne2ps_pbh(factor, factor);
    FUR_UNROLL
    for (int c = 0; c < CHAINS; c++)
        chain[c] = _mm512_set1_ps((float)c / CHAINS);
    for (int64_t i = 0; i < rounds; i++) {
        FUR_UNROLL
        for (int c = 0; c < CHAINS; c++)
            chain[c] = _mm512_dpbf16_ps(chain[c], pairs, pairs);
    }
    __m512 sum = _mm512_setzero_ps();
    FUR_UNROLL
    for (int c = 0; c < CHAINS; c++)
        sum = _mm512_add_ps(sum, chain[c]);
    float lanes[16];
    _mm512_storeu_ps(lanes, sum);
    return lanes[0];
}

const fur_peak_kernel fur_peak_avx512bf16 = {run, 4.0 * 16 * CHAINS};
