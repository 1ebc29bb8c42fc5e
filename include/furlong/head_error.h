/* SPDX-License-Identifier: Apache-2.0 */
/* What almost-linear attention errs by, head by head, against exact attention over the same logits. */
#ifndef FURLONG_HEAD_ERROR_H
#define FURLONG_HEAD_ERROR_H

#include <stdbool.h>

#include "furlong/context.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A share of the exact value in the Euclidean norm over sampled tokens (infinite where a normaliser is not positive),
 * and an interval that holds that of all tokens with 95 % confidence (of a ratio of means, by the jackknife, on a
 * logarithmic scale). With products of bf16 the rounding of the near field, about 3e-3, is in what is measured, and not
 * in the certificate. */
typedef struct fur_sampled_error {
    double value, low, high;
} fur_sampled_error;

/* One query head of a layer, of one row. NaN: not measured. */
typedef struct fur_head_error {
    int64_t layer, head;
    int64_t tokens;           /* sampled, of the row's */
    fur_sampled_error o;      /* attention output */
    fur_sampled_error dq;     /* gradient by queries, against exact rows with the run's gradient by the output */
    fur_sampled_error dk, dv; /* gradients by keys and values, of the whole group that shares them; semi-exact: later
                                 rows' normalisers and outputs are the run's own */
    double certificate;       /* o's error is at most this share of the output computed, whatever was sampled: from the
                                 polynomial's coefficients, the longest centred query and key of the row, and how much
                                 attention far keys have in all and under t^2 or t^4. At 1 or
                                 more it says nothing; always finite. 0 where exact */
    double weight_error;      /* and each far weight's at most this share of it, from the same */
    double far_share;         /* mean share of attention that goes to far keys */
    double deviation;         /* standard deviation of centred far logits, as attention weighs them */
    double largest;           /* no centred far logit of the row is larger in size */
    bool exact;               /* this head's far keys are seen one by one */
    bool fitted;              /* its polynomial was fitted to logits seen before, not that of a new model */
} fur_head_error;

#ifdef __cplusplus
}
#endif
#endif
