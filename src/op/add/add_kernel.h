/* SPDX-License-Identifier: Apache-2.0 */
/* What a variant of add provides: a stretch of elements of one thread, no checks. */
#ifndef FUR_OP_ADD_KERNEL_H
#define FUR_OP_ADD_KERNEL_H

#include <stdint.h>

typedef struct fur_add_kernel {
    void (*add)(int64_t count, const float *x, float *y);
} fur_add_kernel;

extern const fur_add_kernel fur_add_ref, fur_add_avx2, fur_add_avx512;

#endif
