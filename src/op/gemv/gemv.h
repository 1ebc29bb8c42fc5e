/* SPDX-License-Identifier: Apache-2.0 */
/* Products of a few vectors with a matrix that is read once, as it is stored: what decoding is made of.
 *
 *   y_to = (add ? y_to : 0) + sum_i w_oi x_ti + bias_o,   t below FUR_GEMV_MOST
 *
 * Rows of w lie end to end: f32; bf16; or blocks of 32 or 256 elements that share scales, as GGUF has them
 * (base/blocks.h). x and all sums are f32, so that what is stored is used exactly. A row's products are summed in four
 * partial sums of a vector's width, in two where blocks are decoded for it, whatever the threads: each output belongs
 * to one. Error bound: (I / 4 VL + 8) u sum |w x|, I / 2 VL of decoded blocks, and for the reference, which sums in
 * double, 2 u |y|.
 *
 * Cost: the bytes of w, at the rate of memory; 2 T flops a weight. */
#ifndef FUR_OP_GEMV_H
#define FUR_OP_GEMV_H

#include <stdbool.h>

#include "base/exec.h"

#define FUR_GEMV_MOST 4 /* vectors */

typedef enum fur_gemv_type {
    FUR_GEMV_F32 = 0,
    FUR_GEMV_BF16,
    FUR_GEMV_Q8_0,
    FUR_GEMV_Q4_0, /* from here on decoded block by block */
    FUR_GEMV_Q4_1,
    FUR_GEMV_Q5_0,
    FUR_GEMV_Q5_1,
    FUR_GEMV_Q4_K,
    FUR_GEMV_Q5_K,
    FUR_GEMV_Q6_K,
    FUR_GEMV_TYPES
} fur_gemv_type;

typedef struct fur_gemv_args {
    fur_gemv_type type;
    int64_t tokens, in, out; /* blocks: in is a multiple of theirs */
    const void *w_OI;        /* f32, bf16: aligned to an element */
    const float *x_TI;
    int64_t ldx;
    const float *bias_O; /* or NULL */
    int add;
    float *y_TO; /* overlaps neither */
    int64_t ldy;
} fur_gemv_args;

/* Bytes of a row of `in` elements. */
int64_t fur_gemv_row_bytes(fur_gemv_type type, int64_t in);

/* Errors: FUR_E_SHAPE. Needs no workspace. */
fur_status fur_gemv(const fur_exec *exec, const fur_gemv_args *args);

/* w_OI as f32, to_OI, by all threads: the bits of base/blocks.h in every variant. For products of more vectors than
 * gemv takes. Cost: the bytes read and written. Errors: FUR_E_SHAPE (a row is not whole blocks). */
fur_status fur_gemv_decode(const fur_exec *exec, fur_gemv_type type, int64_t in, int64_t out, const void *w_OI,
                           float *to_OI);

#endif
