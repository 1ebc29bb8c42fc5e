/* SPDX-License-Identifier: Apache-2.0 */
/* The definition of bias: plain C, double accumulators. */
#include "op/bias/bias_kernel.h"

static void add(int64_t T, int64_t F, const float *b_F, float *y_TF)
{
    for (int64_t t = 0; t < T; t++)
        for (int64_t f = 0; f < F; f++)
            y_TF[t * F + f] += b_F[f];
}

static void sum_rows(int64_t T, int64_t F, const float *dy_TF, float *sum_F)
{
    for (int64_t f = 0; f < F; f++) {
        double sum = 0;
        for (int64_t t = 0; t < T; t++)
            sum += (double)dy_TF[t * F + f];
        sum_F[f] = (float)sum;
    }
}

const fur_bias_kernel fur_bias_ref = {.add = add, .sum_rows = sum_rows};
