/* SPDX-License-Identifier: Apache-2.0 */
/* What a variant of embed provides: adding columns up, in one thread, no checks. */
#ifndef FUR_OP_EMBED_KERNEL_H
#define FUR_OP_EMBED_KERNEL_H

#include <stdint.h>

typedef struct fur_embed_kernel {
    /* dw[ids[t] * C + c] += dx[t * C + c] for t in order, c in [0, columns): both begin at the first such column */
    void (*add_rows)(int64_t T, int64_t C, int64_t columns, const int32_t *ids_T, const float *dx, float *dw);
} fur_embed_kernel;

extern const fur_embed_kernel fur_embed_ref, fur_embed_avx2, fur_embed_avx512;

#endif
