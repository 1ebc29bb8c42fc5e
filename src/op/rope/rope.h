/* SPDX-License-Identifier: Apache-2.0 */
/* Rotary position embedding, in place: the half-split ("rotate half") pairing of Llama in Hugging Face form.
 *
 *   angle_i = position * f_i,  i in [0, D / 2);  f_i = theta^(-2 i / D), or scaled (fur_rope_scaling)
 *   (x_i, x_{i + D/2}) <- g (x_i cos - x_{i + D/2} sin, x_{i + D/2} cos + x_i sin)       of every head
 * g = 1, but for YaRN. inverse turns back (sin -> -sin), which is the gradient.
 *
 * Angles are computed and reduced in double and are off by at most 2^-52 position, which float cannot see below
 * position 2^28 (an angle in float is off by 0.03 at 10^6); cos and sin are rounded to float once. An element's bits
 * depend on its value, position, i, D and the frequencies alone: not on T, on the other tokens, or on threads. Error
 * bound per element: g (3 u + 2^-50 position) (|x_i| + |x_{i + D/2}|), u = 2^-24. */
#ifndef FUR_OP_ROPE_H
#define FUR_OP_ROPE_H

#include "base/exec.h"
#include "furlong/config.h"

/* What angles are made of. scaling.type is not FUR_ROPE_DYNAMIC here: the context turns that into FUR_ROPE_NTK. */
typedef struct fur_rope {
    double theta;
    fur_rope_scaling scaling;
} fur_rope;

/* Frequencies of the head_dim / 2 pairs, and what cos and sin are multiplied by (1, but for YaRN): fur_rope_scaling. */
void fur_rope_frequencies(const fur_rope *rope, int64_t head_dim, double *frequency, double *magnitude);

/* x_THD: element (t, h, d) at t * ldx + h * head_dim + d. theta > 0. 3 D flops and 8 D bytes a head.
 * Errors: FUR_E_SHAPE (head_dim odd or below 2, ldx below heads * head_dim), FUR_E_ARGUMENT (theta, scaling, a position
 * below 0 or from 2^40 on, named with its token), FUR_E_MEMORY (workspace too small). */
fur_status fur_rope_apply(const fur_exec *exec, int64_t T, int64_t heads, int64_t head_dim, const fur_rope *rope,
                          const int64_t *position_T, int inverse, float *x_THD, int64_t ldx);

/* Bytes pushed on exec->workspace, which grow with exec->threads; no more for fewer tokens. */
int64_t fur_rope_workspace(const fur_exec *exec, int64_t T, int64_t head_dim);

#endif
