/* SPDX-License-Identifier: Apache-2.0 */
/* The definition of xent's rows: plain C, in double. */
#include <math.h>

#include "op/xent/xent_kernel.h"

static void statistics(int64_t V, const float *logits_V, float *max, float *sum)
{
    double greatest = (double)*max;
    for (int64_t v = 0; v < V; v++)
        greatest = (double)logits_V[v] > greatest ? (double)logits_V[v] : greatest;
    /* all -infinity: any finite shift gives the sum 0, and lets a NaN through */
    double shift = isinf(greatest) && greatest < 0 ? 0.0 : greatest;
    double total = (double)*sum * exp((double)*max - shift);
    for (int64_t v = 0; v < V; v++)
        total += exp((double)logits_V[v] - shift);
    *max = (float)greatest;
    *sum = (float)total;
}

static void gradient(int64_t V, float *logits_V, float lse, float weight, float inverse_cap)
{
    for (int64_t v = 0; v < V; v++) {
        double t = inverse_cap > 0 ? (double)logits_V[v] * (double)inverse_cap : 0; /* it may be infinite without */
        logits_V[v] = (float)((double)weight * exp((double)logits_V[v] - (double)lse) * (1 - t * t));
    }
}

const fur_xent_kernel fur_xent_ref = {.statistics = statistics, .gradient = gradient};
