/* SPDX-License-Identifier: Apache-2.0 */
/* The pieces of softmax cross-entropy over a vocabulary that is visited in tiles, so that T x vocabulary never exists.
 * A tile is V columns that begin at token first_v; row stride ld. Per row:
 *
 *   statistics, tile after tile:  max' = max(max, logits),  sum' = sum e^(max - max') + sum over v of e^(logit_v -
 * max') the caller, after the last:   lse = max + log(sum),  loss = weight (lse - target_logit) gradient, tile after
 * tile:    dlogit_v = weight (e^(logit_v - lse) - [v is the target])      in the logits' place
 *
 * Logits that a softcap made (op/softcap/softcap.h) are read as they are; the gradient's cap, if above 0, makes it that
 * by what went into the softcap: dlogit_v times 1 - (logit_v / cap)^2.
 *
 * A row whose target is negative is not read at all: its statistics stay, its gradient is zeros. A NaN or +infinity
 * among the logits of a row makes its sum NaN. Rows do not depend on each other: the same bits for any thread count.
 * Error bounds, u = 2^-24: lse as the caller gets it, in exact arithmetic from max and sum, is within
 * u (V / 8 + 16 per tile + mean over the softmax of |logit - max|); dlogit within
 * u |weight| (p (|logit - lse| + 3) + 2 |p - [target]|), and 6 u |weight| |p - [target]| more with a cap. */
#ifndef FUR_OP_XENT_H
#define FUR_OP_XENT_H

#include "base/exec.h"

/* max_T, sum_T: running, initially -infinity and 0. target_T: the targets, negative for rows to skip; NULL: all rows,
 * and no target logit. target_logit_T: written for rows whose target lies in this tile. Errors: FUR_E_SHAPE (negative
 * size, ld below V). */
fur_status fur_xent_statistics(const fur_exec *exec, int64_t T, int64_t V, const float *logits_TV, int64_t ld,
                               float *max_T, float *sum_T, int64_t first_v, const int32_t *target_T,
                               float *target_logit_T);

/* cap 0: none. Errors: FUR_E_SHAPE. */
fur_status fur_xent_gradient(const fur_exec *exec, int64_t T, int64_t V, float *logits_TV, int64_t ld,
                             const float *lse_T, int64_t first_v, const int32_t *target_T, float weight, float cap);

#endif
