/* SPDX-License-Identifier: Apache-2.0 */
/* What a variant of sumsq provides: a chunk of one thread, no checks. */
#ifndef FUR_OP_SUMSQ_KERNEL_H
#define FUR_OP_SUMSQ_KERNEL_H

#include <stdint.h>

typedef struct fur_sumsq_kernel {
    double (*sum)(int64_t count, const float *x);
} fur_sumsq_kernel;

extern const fur_sumsq_kernel fur_sumsq_ref, fur_sumsq_avx2, fur_sumsq_avx512;

#endif
