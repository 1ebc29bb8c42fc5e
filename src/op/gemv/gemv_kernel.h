/* SPDX-License-Identifier: Apache-2.0 */
/* What a variant of gemv provides: outputs from .. to-1 of all vectors, in one thread, no checks. */
#ifndef FUR_OP_GEMV_KERNEL_H
#define FUR_OP_GEMV_KERNEL_H

#include "op/gemv/gemv.h"

typedef struct fur_gemv_kernel {
    void (*rows[3])(const fur_gemv_args *args, int64_t from, int64_t to); /* by type */
} fur_gemv_kernel;

static inline void fur_gemv_put(const fur_gemv_args *a, int64_t t, int64_t o, float sum)
{
    float *y = a->y_TO + t * a->ldy + o;
    if (a->bias_O)
        sum += a->bias_O[o];
    *y = a->add ? *y + sum : sum;
}

extern const fur_gemv_kernel fur_gemv_ref, fur_gemv_avx2, fur_gemv_avx512;

#endif
