/* SPDX-License-Identifier: Apache-2.0 */
/* What a variant of bias provides: rows of one thread, no checks. */
#ifndef FUR_OP_BIAS_KERNEL_H
#define FUR_OP_BIAS_KERNEL_H

#include <stdint.h>

typedef struct fur_bias_kernel {
    void (*add)(int64_t T, int64_t F, const float *b_F, float *y_TF);
    void (*sum_rows)(int64_t T, int64_t F, const float *dy_TF, float *sum_F); /* overwrites sum_F; T >= 1 */
} fur_bias_kernel;

extern const fur_bias_kernel fur_bias_ref, fur_bias_avx2, fur_bias_avx512;

#endif
