/* SPDX-License-Identifier: Apache-2.0 */
/* Almost-linear rows of one document spread over processes, each of which holds whole chunks: the sum of all keys of
 * the ranks before, and the gradient of the sum by all queries of the ranks behind, are each one message of fixed size
 * a key head, whatever the number of tokens. Causal, without a near window across ranks (near 0) and without sink
 * tokens. */
#ifndef FUR_ATTENTION_FAR_RANKS_H
#define FUR_ATTENTION_FAR_RANKS_H

#include "attention/kind.h"

static inline int fur_far_spread(const fur_attention_shape *shape)
{
    return shape->comm != NULL;
}

/* carry becomes the exclusive prefix sum (direction 1: over the ranks before) or suffix sum (-1: over those behind) of
 * `own`, in order of ranks; the last to add passes nothing on. own [K, 2, D + 1, stride] is left as it is. */
fur_status fur_far_scan(const fur_exec *exec, const fur_attention_shape *shape, int direction, const float *own,
                        float *passed, float *carry, int64_t floats);

#endif
