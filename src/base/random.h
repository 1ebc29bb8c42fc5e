/* SPDX-License-Identifier: Apache-2.0 */
/* Counter-based random numbers: a value is a function of (seed, stream, counter), so that any thread, block or resumed
 * run draws the same. Philox 4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011). */
#ifndef FUR_BASE_RANDOM_H
#define FUR_BASE_RANDOM_H

#include <stdint.h>

/* One round of Philox on a counter and key; 10 make the words. Inline, so that loops over counters become vectors. */
static inline void fur_philox_round(uint32_t c[4], uint32_t k0, uint32_t k1)
{
    uint64_t p0 = (uint64_t)0xD2511F53u * c[0], p1 = (uint64_t)0xCD9E8D57u * c[2];
    c[0] = (uint32_t)(p1 >> 32) ^ c[1] ^ k0;
    c[2] = (uint32_t)(p0 >> 32) ^ c[3] ^ k1;
    c[1] = (uint32_t)p1;
    c[3] = (uint32_t)p0;
}
#define FUR_PHILOX_ROUNDS 10
#define FUR_PHILOX_KEY_0  0x9E3779B9u /* what a round adds to the key's halves */
#define FUR_PHILOX_KEY_1  0xBB67AE85u

/* Four independent 32-bit words. */
void fur_random_words(uint64_t seed, uint64_t stream, uint64_t counter, uint32_t out[4]);
/* One 64-bit word. */
uint64_t fur_random_u64(uint64_t seed, uint64_t stream, uint64_t counter);
/* Uniform in [0, 1), 53 bits. */
double fur_random_uniform(uint64_t seed, uint64_t stream, uint64_t counter);
/* out[i] ~ N(0, std^2), i in [0, count); the same for any split of the range. */
void fur_random_normal(uint64_t seed, uint64_t stream, double std, float *out, int64_t count);

#endif
