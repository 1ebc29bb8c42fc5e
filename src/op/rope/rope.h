/* SPDX-License-Identifier: Apache-2.0 */
/* Rotary position embedding, in place: the half-split ("rotate half") pairing of Llama in Hugging Face form.
 *
 *   angle_i = position * theta^(-2 i / D),  i in [0, D / 2)
 *   (x_i, x_{i + D/2}) <- (x_i cos - x_{i + D/2} sin, x_{i + D/2} cos + x_i sin)       of every head
 * inverse turns back (sin -> -sin), which is the gradient.
 *
 * Angles are computed and reduced in double and are off by at most 2^-52 position, which float cannot see below
 * position 2^28 (an angle in float is off by 0.03 at 10^6); cos and sin are rounded to float once. An element's bits
 * depend on its value, position, i, D and theta alone: not on T, on the other tokens, or on threads. Error bound per
 * element: (3 u + 2^-50 position) (|x_i| + |x_{i + D/2}|), u = 2^-24. */
#ifndef FUR_OP_ROPE_H
#define FUR_OP_ROPE_H

#include "base/exec.h"

/* x_THD: element (t, h, d) at t * ldx + h * head_dim + d. theta > 0. 3 D flops and 8 D bytes a head.
 * Errors: FUR_E_SHAPE (head_dim odd or below 2, ldx below heads * head_dim), FUR_E_ARGUMENT (theta, a position below 0
 * or from 2^40 on, named with its token), FUR_E_MEMORY (workspace too small). */
fur_status fur_rope_apply(const fur_exec *exec, int64_t T, int64_t heads, int64_t head_dim, double theta,
                          const int64_t *position_T, int inverse, float *x_THD, int64_t ldx);

/* Bytes pushed on exec->workspace, which grow with exec->threads; no more for fewer tokens. */
int64_t fur_rope_workspace(const fur_exec *exec, int64_t T, int64_t head_dim);

#endif
