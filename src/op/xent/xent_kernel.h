/* SPDX-License-Identifier: Apache-2.0 */
/* What a variant of xent provides: one row, no checks. */
#ifndef FUR_OP_XENT_KERNEL_H
#define FUR_OP_XENT_KERNEL_H

#include <stdint.h>

typedef struct fur_xent_kernel {
    void (*statistics)(int64_t V, const float *logits_V, float *max, float *sum);
    /* without the target's -1; inverse_cap 0: no cap */
    void (*gradient)(int64_t V, float *logits_V, float lse, float weight, float inverse_cap);
} fur_xent_kernel;

extern const fur_xent_kernel fur_xent_ref, fur_xent_avx2, fur_xent_avx512;

#endif
