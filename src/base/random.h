/* SPDX-License-Identifier: Apache-2.0 */
/* Counter-based random numbers: a value is a function of (seed, stream, counter), so that any thread, block or resumed
 * run draws the same. Philox 4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011). */
#ifndef FUR_BASE_RANDOM_H
#define FUR_BASE_RANDOM_H

#include <stdint.h>

/* Four independent 32-bit words. */
void fur_random_words(uint64_t seed, uint64_t stream, uint64_t counter, uint32_t out[4]);
/* One 64-bit word. */
uint64_t fur_random_u64(uint64_t seed, uint64_t stream, uint64_t counter);
/* Uniform in [0, 1), 53 bits. */
double fur_random_uniform(uint64_t seed, uint64_t stream, uint64_t counter);
/* out[i] ~ N(0, std^2), i in [0, count); the same for any split of the range. */
void fur_random_normal(uint64_t seed, uint64_t stream, double std, float *out, int64_t count);

#endif
