/* SPDX-License-Identifier: Apache-2.0 */
/* metrics.jsonl: one line per step and evaluation. The keys are a contract (DESIGN.md). */
#ifndef FUR_TRAIN_METRICS_H
#define FUR_TRAIN_METRICS_H

#include <stdio.h>

#include "furlong/train.h"

typedef struct fur_metrics {
    FILE *file;
    char *path;
} fur_metrics;

/* Lines that are there stay, up to step `last_step`: those after it tell of steps that a resumed run takes again, and a
 * line that a full disk cut short would spoil the one after it. */
fur_status fur_metrics_open(fur_context *context, const char *run_dir, int64_t last_step, fur_metrics *out);
void fur_metrics_close(fur_metrics *metrics);
/* A step (eval NULL) or an evaluation. */
fur_status fur_metrics_write(fur_context *context, fur_metrics *metrics, const fur_train_event *event,
                             const fur_eval_result *eval);

#endif
