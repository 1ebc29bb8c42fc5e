/* SPDX-License-Identifier: Apache-2.0 */
/* What a variant of round provides: a stretch of elements of one thread, no checks. */
#ifndef FUR_OP_ROUND_KERNEL_H
#define FUR_OP_ROUND_KERNEL_H

#include <stdint.h>

typedef struct fur_round_kernel {
    void (*round)(int64_t count, const float *x, uint16_t *y);
} fur_round_kernel;

extern const fur_round_kernel fur_round_ref, fur_round_avx2, fur_round_avx512;

#endif
