/* SPDX-License-Identifier: Apache-2.0 */
/* History of a training run. */
#include "metrics.h"

#include <string.h>

#include "text.h"

static void add(cli_point **points, int64_t *count, int64_t *capacity, const cli_point *point)
{
    if (*count == *capacity) {
        *capacity = *capacity > 0 ? *capacity * 2 : 256;
        *points = cli_resize(*points, (size_t)*capacity, sizeof **points);
    }
    (*points)[(*count)++] = *point;
}

void cli_metrics_add(cli_metrics *metrics, const fur_train_event *event)
{
    cli_point point = {.step = event->step,
                       .tokens = event->tokens,
                       .context = event->context,
                       .seconds = event->seconds,
                       .loss = event->loss,
                       .lr = event->lr,
                       .grad_norm = event->grad_norm,
                       .tokens_per_second = event->tokens_per_second,
                       .step_seconds = event->step_seconds,
                       .rss_bytes = event->rss_bytes,
                       .planned_peak_bytes = event->planned_peak_bytes};
    if (event->type == FUR_EVENT_STEP)
        add(&metrics->steps, &metrics->step_count, &metrics->step_capacity, &point);
    else if (event->type == FUR_EVENT_EVAL)
        add(&metrics->evals, &metrics->eval_count, &metrics->eval_capacity, &point);
    if (event->type != FUR_EVENT_ERRORS || event->error_count == 0)
        return;
    metrics->errors = cli_resize(metrics->errors, (size_t)event->error_count, sizeof *metrics->errors);
    memcpy(metrics->errors, event->errors, (size_t)event->error_count * sizeof *metrics->errors);
    metrics->error_count = event->error_count;
    metrics->error_step = event->step;
}

void cli_metrics_clear(cli_metrics *metrics)
{
    cli_free(metrics->steps);
    cli_free(metrics->evals);
    cli_free(metrics->errors);
    memset(metrics, 0, sizeof *metrics);
}

void cli_metrics_smooth(const cli_metrics *metrics, int64_t reach, double *out)
{
    int64_t count = metrics->step_count;
    for (int64_t i = 0; i < count; i++) {
        int64_t side = reach < i ? reach : i;
        side = side < count - 1 - i ? side : count - 1 - i;
        double sum = 0.0;
        for (int64_t j = i - side; j <= i + side; j++)
            sum += metrics->steps[j].loss;
        out[i] = sum / (double)(2 * side + 1);
    }
}

double cli_metrics_fastest(const cli_metrics *metrics, int64_t context)
{
    double best = 0.0;
    for (int64_t i = 0; i < metrics->step_count; i++) {
        const cli_point *point = &metrics->steps[i];
        if (point->context == context && point->step_seconds > 0.0 && (best == 0.0 || point->step_seconds < best))
            best = point->step_seconds;
    }
    return best;
}
