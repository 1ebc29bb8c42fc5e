/* SPDX-License-Identifier: Apache-2.0 */
/* The definition of rope: plain C, in double. */
#include "op/rope/rope_kernel.h"

static void turn(int64_t heads, int64_t half, const float *cos_sin, float *x_HD)
{
    for (int64_t h = 0; h < heads; h++, x_HD += 2 * half) {
        for (int64_t i = 0; i < half; i++) {
            double c = (double)cos_sin[i], s = (double)cos_sin[half + i];
            double a = (double)x_HD[i], b = (double)x_HD[half + i];
            x_HD[i] = (float)(a * c - b * s);
            x_HD[half + i] = (float)(b * c + a * s);
        }
    }
}

const fur_rope_kernel fur_rope_ref = {.turn = turn};
