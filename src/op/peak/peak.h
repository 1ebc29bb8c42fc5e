/* SPDX-License-Identifier: Apache-2.0 */
/* The f32 rate of this machine with everything in registers: independent chains of fused multiply-adds (multiply and add
 * in the reference), all threads at once. What kernels are measured against. */
#ifndef FUR_OP_PEAK_H
#define FUR_OP_PEAK_H

#include "base/exec.h"

/* GFLOP/s over all threads; the best of 20 slices of about 2 ms. */
fur_status fur_peak_f32(const fur_exec *exec, double *out_gflops);

#endif
