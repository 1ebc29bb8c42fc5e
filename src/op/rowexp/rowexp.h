/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of scores s become rows of weights exp(s - shift), in f32 and f64: what softmax and everything derived from it
 * does to a tile between two matrix products. No threads and no checks: callers are loops over tiles that have both.
 *
 *   max       the largest of n values, -inf where n is 0
 *   exp       s[i] = exp(s[i] - shift); returns their sum
 *   exp_mul   s[i] = exp(s[i] - shift) (x[i] - c); returns their sum
 *
 * Differences below -708 (f64) or -87 (f32) count as that, which gives a weight no sum notices; above 0 they may be up
 * to 700 and 80. A NaN stays one. exp is off by at most 2 units in the last place; sums are taken over 8 (f64) or 16
 * (f32) partial sums, in order: the same bits for every instruction set but the reference, which has one. */
#ifndef FUR_OP_ROWEXP_H
#define FUR_OP_ROWEXP_H

#include <stdint.h>

#include "base/exec.h"

typedef struct fur_rowexp {
    double (*max_f64)(int64_t n, const double *s);
    double (*exp_f64)(int64_t n, double *s, double shift);
    double (*exp_mul_f64)(int64_t n, double *s, double shift, const double *x, double c);
    float (*max_f32)(int64_t n, const float *s);
    float (*exp_f32)(int64_t n, float *s, float shift);
    float (*exp_mul_f32)(int64_t n, float *s, float shift, const float *x, float c);
} fur_rowexp;

/* The kernels for an instruction set; constant. */
const fur_rowexp *fur_rowexp_of(fur_isa isa);

#endif
