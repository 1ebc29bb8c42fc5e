/* SPDX-License-Identifier: Apache-2.0 */
/* The definition of adamw: plain C, in double, state rounded to float. */
#include <math.h>

#include "op/adamw/adamw_kernel.h"

static void step(int64_t count, float *w, const float *g, float *m, float *v, const fur_adamw_factors *f)
{
    for (int64_t i = 0; i < count; i++) {
        double scaled = (double)g[i] * (double)f->grad_scale;
        m[i] = (float)((double)m[i] + (double)f->one_m * (scaled - (double)m[i]));
        v[i] = (float)((double)f->beta2 * (double)v[i] + (double)f->one_v * scaled * scaled);
        double below = sqrt((double)v[i]) * (double)f->correct + (double)f->eps;
        w[i] = (float)((double)w[i] * (double)f->keep - (double)f->step * (double)m[i] / below);
    }
}

const fur_adamw_kernel fur_adamw_ref = {.step = step};
