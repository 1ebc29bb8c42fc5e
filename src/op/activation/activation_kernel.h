/* SPDX-License-Identifier: Apache-2.0 */
/* What a variant of activation provides: a stretch of elements of one thread, no checks. */
#ifndef FUR_OP_ACTIVATION_KERNEL_H
#define FUR_OP_ACTIVATION_KERNEL_H

#include <stdint.h>

/* A row of a gated function. */
typedef void fur_gated_forward(int64_t count, const float *gate, const float *up, float *g);
typedef void fur_gated_backward(int64_t count, const float *gate, const float *up, const float *dg, float *dgate,
                                float *dup, float *g_out);

typedef struct fur_activation_kernel {
    void (*gelu_forward)(int64_t count, const float *u, float *g);
    void (*gelu_backward)(int64_t count, const float *u, const float *dg, float *du, float *g_out);
    fur_gated_forward *swiglu_forward, *geglu_forward;
    fur_gated_backward *swiglu_backward, *geglu_backward;
} fur_activation_kernel;

extern const fur_activation_kernel fur_activation_ref, fur_activation_avx2, fur_activation_avx512;

#endif
