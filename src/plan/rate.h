/* SPDX-License-Identifier: Apache-2.0 */
/* What the plan's seconds rest on. */
#ifndef FUR_PLAN_RATE_H
#define FUR_PLAN_RATE_H

#include "base/context.h"

/* Matrix product rate of this context, in its type, in GFLOP/s: measured once (about 0.1 s), then remembered. */
fur_status fur_rate_measure(fur_context *context, double *out_gflops);
/* What a machine with this instruction set and so many threads reaches about, in GFLOP/s: nothing is measured, so that
 * what rests on it is the same in every run. */
double fur_rate_nominal(const fur_context *context);

/* How much faster products of bf16 are than those of f32, on whose rate the speed of memory is scaled; 1 in f32. */
double fur_rate_gain(const fur_exec *exec);

#endif
