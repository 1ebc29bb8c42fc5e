/* SPDX-License-Identifier: Apache-2.0 */
/* What the plan's seconds rest on. */
#ifndef FUR_PLAN_RATE_H
#define FUR_PLAN_RATE_H

#include "base/context.h"

/* f32 matrix product rate of this context in GFLOP/s: measured once (about 0.1 s), then remembered. */
fur_status fur_rate_measure(fur_context *context, double *out_gflops);
/* What a machine with this instruction set and so many threads reaches about, in GFLOP/s: nothing is measured, so that
 * what rests on it is the same in every run. */
double fur_rate_nominal(const fur_context *context);

#endif
