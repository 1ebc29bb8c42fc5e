/* SPDX-License-Identifier: Apache-2.0 */
/* A bias over rows, and its gradient.
 *
 *   add:       y_tf += b_f
 *   backward:  db_f += sum over t of dy_tf
 *
 * T rows, F columns, contiguous. The sum is taken in chunks of rows that depend on T alone, then in order: the same
 * bits for any thread count. Error bounds: add u |y + b|; backward (T + 2) u (|db| + sum |dy|), u = 2^-24. */
#ifndef FUR_OP_BIAS_H
#define FUR_OP_BIAS_H

#include "base/exec.h"

/* Errors: FUR_E_SHAPE (T < 0 or F < 1). */
fur_status fur_bias_add(const fur_exec *exec, int64_t T, int64_t F, const float *b_F, float *y_TF);

/* Errors: FUR_E_SHAPE, FUR_E_MEMORY (workspace too small). */
fur_status fur_bias_backward(const fur_exec *exec, int64_t T, int64_t F, const float *dy_TF, float *db_F);

/* Bytes that backward pushes on exec->workspace; no more for fewer rows. Add needs none. */
int64_t fur_bias_workspace(const fur_exec *exec, int64_t T, int64_t F);

#endif
