/* SPDX-License-Identifier: Apache-2.0 */
#include "base/compiler.h"
#include "op/peak/peak_kernel.h"
#include "op/simd/tile_amx.h"

/* Products of zeros: the rate does not depend on the numbers. */
static float run(int64_t rounds)
{
    float c[16 * 16] FUR_ALIGNED(64) = {0};
    tiles_begin();
    tiles_load(4, c, 64);
    tiles_load(5, c, 64);
    tiles_load(6, c, 64);
    tiles_load(7, c, 64);
    tiles_zero(0);
    tiles_zero(1);
    tiles_zero(2);
    tiles_zero(3);
    for (int64_t i = 0; i < rounds; i++) {
        tiles_multiply(0, 4, 6);
        tiles_multiply(1, 4, 7);
        tiles_multiply(2, 5, 6);
        tiles_multiply(3, 5, 7);
    }
    tiles_store(0, c, 64);
    tiles_end();
    return c[0];
}

const fur_peak_kernel fur_peak_amx = {run, 4.0 * 2 * 16 * 16 * 32};
