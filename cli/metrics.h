/* SPDX-License-Identifier: Apache-2.0 */
/* What a training run said about itself, kept for the report. metrics.jsonl itself is the library's. */
#ifndef FUR_CLI_METRICS_H
#define FUR_CLI_METRICS_H

#include "furlong/furlong.h"

typedef struct cli_point {
    int64_t step, tokens, context;
    double seconds, loss, lr, grad_norm, tokens_per_second, step_seconds;
    int64_t rss_bytes, planned_peak_bytes;
} cli_point;

typedef struct cli_metrics {
    cli_point *steps;
    int64_t step_count, step_capacity;
    cli_point *evals;
    int64_t eval_count, eval_capacity;
    fur_head_error *errors; /* of the last measurement */
    int64_t error_count, error_step;
} cli_metrics;

void cli_metrics_add(cli_metrics *metrics,
                     const fur_train_event *event); /* STEP and EVAL are kept, and the last ERRORS */
void cli_metrics_clear(cli_metrics *metrics);

/* Mean loss of the steps up to `reach` before and after each one, fewer at both ends: no lag. */
void cli_metrics_smooth(const cli_metrics *metrics, int64_t reach, double *out);
/* Least step_seconds among steps at this context; 0 where there is none. */
double cli_metrics_fastest(const cli_metrics *metrics, int64_t context);

#endif
