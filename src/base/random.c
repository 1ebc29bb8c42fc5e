/* SPDX-License-Identifier: Apache-2.0 */
#include "base/random.h"

#include <math.h>

void fur_random_words(uint64_t seed, uint64_t stream, uint64_t counter, uint32_t out[4])
{
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    out[0] = (uint32_t)counter;
    out[1] = (uint32_t)(counter >> 32);
    out[2] = (uint32_t)stream;
    out[3] = (uint32_t)(stream >> 32);
    for (int round = 0; round < FUR_PHILOX_ROUNDS; round++) {
        fur_philox_round(out, k0, k1);
        k0 += FUR_PHILOX_KEY_0;
        k1 += FUR_PHILOX_KEY_1;
    }
}

uint64_t fur_random_u64(uint64_t seed, uint64_t stream, uint64_t counter)
{
    uint32_t w[4];
    fur_random_words(seed, stream, counter, w);
    return (uint64_t)w[0] << 32 | w[1];
}

double fur_random_uniform(uint64_t seed, uint64_t stream, uint64_t counter)
{
    return (double)(fur_random_u64(seed, stream, counter) >> 11) * 0x1p-53;
}

void fur_random_normal(uint64_t seed, uint64_t stream, double std, float *out, int64_t count)
{
    for (int64_t i = 0; i < count; i += 2) {
        uint32_t w[4];
        fur_random_words(seed, stream, (uint64_t)i, w);
        /* Box-Muller; u1 in (0, 1] */
        double u1 = ((double)(((uint64_t)w[0] << 32 | w[1]) >> 11) + 1.0) * 0x1p-53;
        double u2 = (double)(((uint64_t)w[2] << 32 | w[3]) >> 11) * 0x1p-53;
        double radius = std * sqrt(-2.0 * log(u1));
        double angle = 6.283185307179586476925 * u2;
        out[i] = (float)(radius * cos(angle));
        if (i + 1 < count)
            out[i + 1] = (float)(radius * sin(angle));
    }
}
