/* SPDX-License-Identifier: Apache-2.0 */
/* What a variant of norm provides: rows of one thread, no checks. */
#ifndef FUR_OP_NORM_KERNEL_H
#define FUR_OP_NORM_KERNEL_H

#include <stdint.h>

typedef struct fur_norm_kernel {
    void (*forward)(int rms, int64_t T, int64_t C, float eps, const float *x_TC, const float *w_C, const float *b_C,
                    float *y_TC, float *stat_T2);
    /* adds to dw_C and db_C, which the caller zeroed; db_C is not touched for rms */
    void (*backward)(int rms, int64_t T, int64_t C, float eps, const float *x_TC, const float *w_C,
                     const float *stat_T2, const float *dy_TC, float *dx_TC, int add, float *dw_C, float *db_C);
} fur_norm_kernel;

extern const fur_norm_kernel fur_norm_ref, fur_norm_avx2, fur_norm_avx512;

#endif
