/* SPDX-License-Identifier: Apache-2.0 */
/* What a variant of adamw provides: a stretch of elements of one thread, no checks. */
#ifndef FUR_OP_ADAMW_KERNEL_H
#define FUR_OP_ADAMW_KERNEL_H

#include <stdint.h>

typedef struct fur_adamw_factors {
    float grad_scale;
    float keep;  /* 1 - lr weight_decay */
    float one_m; /* 1 - beta1 */
    float beta2;
    float one_v;   /* 1 - beta2 */
    float step;    /* lr / (1 - beta1^step) */
    float correct; /* 1 / sqrt(1 - beta2^step) */
    float eps;
} fur_adamw_factors;

typedef struct fur_adamw_kernel {
    void (*step)(int64_t count, float *w, const float *g, float *m, float *v, const fur_adamw_factors *f);
} fur_adamw_kernel;

extern const fur_adamw_kernel fur_adamw_ref, fur_adamw_avx2, fur_adamw_avx512;

#endif
