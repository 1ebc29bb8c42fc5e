/* SPDX-License-Identifier: Apache-2.0 */
/* The definition of sumsq: plain C, in double. */
#include "op/sumsq/sumsq_kernel.h"

static double sum(int64_t count, const float *x)
{
    double total = 0;
    for (int64_t i = 0; i < count; i++)
        total += (double)x[i] * (double)x[i];
    return total;
}

const fur_sumsq_kernel fur_sumsq_ref = {.sum = sum};
