/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FUR_OP_PEAK_KERNEL_H
#define FUR_OP_PEAK_KERNEL_H

#include <stdint.h>

typedef struct fur_peak_kernel {
    /* Runs `rounds` rounds; the return value only keeps the work alive. */
    float (*run)(int64_t rounds);
    double flops_per_round;
} fur_peak_kernel;

extern const fur_peak_kernel fur_peak_ref, fur_peak_avx2, fur_peak_avx512, fur_peak_avx512bf16, fur_peak_amx;

#endif
