/* SPDX-License-Identifier: Apache-2.0 */
#include <immintrin.h>

#include "base/compiler.h"
#include "op/peak/peak_kernel.h"

#define CHAINS 12 /* enough to hide the latency of two multiply-adds a cycle, few enough for the registers */

static float run(int64_t rounds)
{
    __m256 chain[CHAINS];
    const __m256 factor = _mm256_set1_ps(0.999f), term = _mm256_set1_ps(0.001f);
    FUR_UNROLL
    for (int c = 0; c < CHAINS; c++)
        chain[c] = _mm256_set1_ps((float)c / CHAINS);
    for (int64_t i = 0; i < rounds; i++) {
        FUR_UNROLL
        for (int c = 0; c < CHAINS; c++)
            chain[c] = _mm256_fmadd_ps(chain[c], factor, term);
    }
    __m256 sum = _mm256_setzero_ps();
    FUR_UNROLL
    for (int c = 0; c < CHAINS; c++)
        sum = _mm256_add_ps(sum, chain[c]);
    float lanes[8];
    _mm256_storeu_ps(lanes, sum);
    return lanes[0];
}

const fur_peak_kernel fur_peak_avx2 = {run, 2.0 * 8 * CHAINS};
