/* SPDX-License-Identifier: Apache-2.0 */
/* The embedding: rows of a table by token id, and the gradient, which adds rows up.
 *
 *   forward:   x_tc = w_{id(t), c}
 *   backward:  dw_{id(t), c} += dx_tc       token after token
 *
 * Ids lie in [0, V). Backward splits columns over threads and takes tokens in order: the same bits for any thread
 * count. Error bound of dw: n u (|dw| + sum of |dx|), n the number of tokens with that id. */
#ifndef FUR_OP_EMBED_H
#define FUR_OP_EMBED_H

#include "base/exec.h"

/* What both below refuse, for one who takes the rows by himself. */
fur_status fur_embed_check(const fur_exec *exec, int64_t T, int64_t C, int64_t V, const int32_t *ids_T);

/* Errors: FUR_E_SHAPE (negative size), FUR_E_ARGUMENT (an id out of range, named with its position); then nothing is
 * written. */
fur_status fur_embed_forward(const fur_exec *exec, int64_t T, int64_t C, int64_t V, const int32_t *ids_T,
                             const float *w_VC, float *x_TC);

fur_status fur_embed_backward(const fur_exec *exec, int64_t T, int64_t C, int64_t V, const int32_t *ids_T,
                              const float *dx_TC, float *dw_VC);

#endif
