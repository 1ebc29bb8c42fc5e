/* SPDX-License-Identifier: Apache-2.0 */
/* What the feedforward in f32 and in double share: checks. */
#ifndef FUR_API_OPERATORS_FEEDFORWARD_H
#define FUR_API_OPERATORS_FEEDFORWARD_H

#include "api/operators.h"
#include "furlong/config.h"

typedef struct fur_operator_feedforward_job {
    fur_operator_feedforward s;
    int gated, inner, rms;
    int gelu; /* the gate's function; else gate / (1 + e^-gate) */
    char what[FUR_OPERATOR_TEXT];
} fur_operator_feedforward_job;

/* Weights or gradients of either type: whether they are there. */
typedef struct fur_operator_feedforward_parts {
    const void *norm, *norm_bias, *gate, *gate_bias, *up, *up_bias, *inner, *inner_bias, *down, *down_bias;
} fur_operator_feedforward_parts;

fur_status fur_operator_feedforward_check(fur_context *context, const fur_operator_feedforward *settings,
                                          const fur_operator_feedforward_parts *have,
                                          const fur_operator_feedforward_parts *wanted,
                                          fur_operator_feedforward_job *job);

#endif
