/* SPDX-License-Identifier: Apache-2.0 */
#include "op/peak/peak_kernel.h"

static float run(int64_t rounds)
{
    float a = 0.5f, b = 0.25f, c = 0.125f, d = 0.75f;
    for (int64_t i = 0; i < rounds; i++) {
        a = a * 0.999f + 0.001f;
        b = b * 0.999f + 0.001f;
        c = c * 0.999f + 0.001f;
        d = d * 0.999f + 0.001f;
    }
    return a + b + c + d;
}

const fur_peak_kernel fur_peak_ref = {run, 8};
