/* SPDX-License-Identifier: Apache-2.0 */
/* What a variant of dropout provides: one row, no checks. */
#ifndef FUR_OP_DROPOUT_KERNEL_H
#define FUR_OP_DROPOUT_KERNEL_H

#include <stdint.h>

typedef struct fur_dropout_kernel {
    void (*row)(int64_t C, uint32_t below, float scale, uint64_t key, uint64_t token, float *x_C);
} fur_dropout_kernel;

extern const fur_dropout_kernel fur_dropout_ref;

#endif
