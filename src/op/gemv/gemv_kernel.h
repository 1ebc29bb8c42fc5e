/* SPDX-License-Identifier: Apache-2.0 */
/* What a variant of gemv provides: outputs from .. to-1 of all vectors, in one thread, no checks. */
#ifndef FUR_OP_GEMV_KERNEL_H
#define FUR_OP_GEMV_KERNEL_H

#include "op/gemv/gemv.h"

typedef struct fur_gemv_kernel {
    /* by type */
    void (*rows[FUR_GEMV_TYPES])(const fur_gemv_args *args, int64_t from, int64_t to);
    void (*decode[FUR_GEMV_TYPES])(const void *rows, int64_t elements, float *to);
} fur_gemv_kernel;

/* Elements and bytes of a type's block. */
typedef struct fur_gemv_block {
    int64_t elements, bytes;
} fur_gemv_block;
static inline fur_gemv_block fur_gemv_block_of(fur_gemv_type type)
{
    static const fur_gemv_block blocks[FUR_GEMV_TYPES] = {{1, 4},   {1, 2},   {32, 34},   {32, 18},   {32, 20},
                                                          {32, 22}, {32, 24}, {256, 144}, {256, 176}, {256, 210}};
    return blocks[type];
}

static inline void fur_gemv_put(const fur_gemv_args *a, int64_t t, int64_t o, float sum)
{
    float *y = a->y_TO + t * a->ldy + o;
    if (a->bias_O)
        sum += a->bias_O[o];
    *y = a->add ? *y + sum : sum;
}

extern const fur_gemv_kernel fur_gemv_ref, fur_gemv_avx2, fur_gemv_avx512;

#endif
