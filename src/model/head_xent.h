/* SPDX-License-Identifier: Apache-2.0 */
/* Cross-entropy of a head's outputs over a vocabulary, for a tile of rows, so that rows x vocabulary never exists: of a
 * model's row (loss.c), or of arrays of a caller (api/operators_cross_entropy.c). */
#ifndef FUR_MODEL_HEAD_XENT_H
#define FUR_MODEL_HEAD_XENT_H

#include "model/run.h"

typedef struct fur_head_xent {
    fur_projection head;             /* its output width is the vocabulary */
    fur_gradient_sink sink;          /* of the head's weights, added to; weight NULL: not wanted */
    int64_t tile;                    /* columns of logits at once */
    float softcap;                   /* of logits; 0: none */
    const fur_loss_scratch *scratch; /* logits_tV and the rows' statistics */
} fur_head_xent;

/* *sum gains the losses of rows whose target is not negative; scratch->nll_t has each, NaN where it is. dh_tC, unless
 * NULL, is `weight` times the gradient of their sum, overwritten; the sink gains that of the weights. */
fur_status fur_head_xent_rows(const fur_exec *exec, const fur_head_xent *x, int64_t count, const float *h_tC,
                              const int32_t *target_t, float weight, float *dh_tC, double *sum);

#endif
