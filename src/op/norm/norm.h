/* SPDX-License-Identifier: Apache-2.0 */
/* LayerNorm and RMSNorm over rows, forward and backward.
 *
 *   m = mean(x) (0 for rms),  r = 1 / sqrt(mean((x - m)^2) + eps),  xh = (x - m) r,  y = xh w + b   (no b for rms)
 * backward, with g = dy w, a = mean(g) (0 for rms), c = mean(g xh):
 *   dx = r (g - a - xh c),   dw += sum over rows of dy xh,   db += sum over rows of dy
 * With FUR_NORM_RMS_OFFSET w + 1 takes w's place: what is stored is less 1 (Gemma).
 *
 * T rows, C columns, contiguous. Backward reads x, w, dy and, if given, the statistics of forward; without them it
 * computes the same bits anew. dw and db are summed in chunks of rows that depend on T alone, then in order: the same
 * bits for any thread count. Error bound per element: norm_test.c. */
#ifndef FUR_OP_NORM_H
#define FUR_OP_NORM_H

#include "base/exec.h"

/* What `rms` says: true is RMSNorm. */
enum { FUR_NORM_MEAN = 0, FUR_NORM_RMS = 1, FUR_NORM_RMS_OFFSET = 2 };

/* y_TC may be x_TC. b_C: NULL for rms. stat_T2: (m, r) of each row, or NULL. 4 C flops and 8 C bytes a row.
 * Errors: FUR_E_SHAPE (T < 0, C < 1, b_C missing). */
fur_status fur_norm_forward(const fur_exec *exec, int rms, int64_t T, int64_t C, float eps, const float *x_TC,
                            const float *w_C, const float *b_C, float *y_TC, float *stat_T2);

/* dx_TC may be dy_TC. stat_T2: NULL to recompute. add: dx += instead of dx =. dw_C and db_C are added to; NULL: not
 * wanted (db_C is not read for rms). Errors: FUR_E_SHAPE, FUR_E_MEMORY (workspace too small). */
fur_status fur_norm_backward(const fur_exec *exec, int rms, int64_t T, int64_t C, float eps, const float *x_TC,
                             const float *w_C, const float *stat_T2, const float *dy_TC, float *dx_TC, int add,
                             float *dw_C, float *db_C);

/* Bytes that backward pushes on exec->workspace; no more for fewer rows. Forward needs none. */
int64_t fur_norm_workspace(const fur_exec *exec, int64_t T, int64_t C);

#endif
