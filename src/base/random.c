/* SPDX-License-Identifier: Apache-2.0 */
#include "base/random.h"

#include <math.h>

void fur_random_words(uint64_t seed, uint64_t stream, uint64_t counter, uint32_t out[4])
{
    uint32_t c0 = (uint32_t)counter, c1 = (uint32_t)(counter >> 32);
    uint32_t c2 = (uint32_t)stream, c3 = (uint32_t)(stream >> 32);
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0;
        uint64_t p1 = (uint64_t)0xCD9E8D57u * c2;
        uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        uint32_t n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)p1;
        c3 = (uint32_t)p0;
        c0 = n0;
        c2 = n2;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
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
