/* SPDX-License-Identifier: Apache-2.0 */
/* The rates of this machine with everything in registers: independent chains of fused multiply-adds (multiply and add
 * in the reference), of products of bf16 pairs or of tiles, all threads at once. What kernels are measured against. */
#ifndef FUR_OP_PEAK_H
#define FUR_OP_PEAK_H

#include "base/exec.h"

/* GFLOP/s over all threads; the best of 20 slices of about 2 ms. */
fur_status fur_peak_f32(const fur_exec *exec, double *out_gflops);
/* The same for products of bf16 summed in f32; below avx512bf16 they are products of f32. */
fur_status fur_peak_bf16(const fur_exec *exec, double *out_gflops);

#endif
