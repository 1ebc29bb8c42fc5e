/* SPDX-License-Identifier: Apache-2.0 */
/* What a variant of rope provides: one token, no checks. */
#ifndef FUR_OP_ROPE_KERNEL_H
#define FUR_OP_ROPE_KERNEL_H

#include <stdint.h>

typedef struct fur_rope_kernel {
    /* turns all heads by the angles of cos_sin: `half` cosines, then `half` sines */
    void (*turn)(int64_t heads, int64_t half, const float *cos_sin, float *x_HD);
} fur_rope_kernel;

extern const fur_rope_kernel fur_rope_ref, fur_rope_avx2, fur_rope_avx512;

#endif
