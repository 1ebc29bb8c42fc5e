/* SPDX-License-Identifier: Apache-2.0 */
/* What the plan's seconds rest on. */
#ifndef FUR_PLAN_RATE_H
#define FUR_PLAN_RATE_H

#include "base/context.h"

/* Matrix product rate of this context, in its type, in GFLOP/s: measured once (about 0.1 s), then remembered. */
fur_status fur_rate_measure(fur_context *context, double *out_gflops);

#endif
