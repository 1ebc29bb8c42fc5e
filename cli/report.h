/* SPDX-License-Identifier: Apache-2.0 */
/* A run as one self-contained page: no scripts, no fonts, nothing loaded. What is not there (NULL, 0) is left out, so
 * that train and demo share it. */
#ifndef FUR_CLI_REPORT_H
#define FUR_CLI_REPORT_H

#include "metrics.h"
#include "plan_view.h"

/* One optimizer step over one document in a process of its own. */
typedef struct cli_long_step {
    int64_t tokens;
    double seconds, planned_seconds;
    int64_t measured_peak_bytes, planned_peak_bytes, limit_bytes;
    int64_t least_bytes, plain_bytes, checkpointed_bytes; /* as in cli_plan_row */
    double loss;
} cli_long_step;

/* Resident memory of a process over time. */
typedef struct cli_trace {
    double *seconds, *bytes;
    int64_t count, capacity;
} cli_trace;
void cli_trace_add(cli_trace *trace, double seconds, double bytes);
void cli_trace_clear(cli_trace *trace);

typedef struct cli_sample {
    const char *prompt, *text;
} cli_sample;

typedef struct cli_report {
    const char *title, *subtitle;
    const char *model; /* one line */
    const fur_machine *machine;
    double gflops; /* measured, 0: unknown */
    bool bytes;    /* tokens are bytes: losses are shown in bits per byte */
    const cli_metrics *metrics;
    const cli_plan_row *rows;
    int row_count;
    int64_t row_limit_bytes;    /* memory limit of the table of rows */
    const cli_long_step *steps; /* rising tokens; the last is the headline */
    int step_count;
    const cli_trace *trace; /* of the headline's process */
    const fur_eval_result *positions;
    const cli_sample *samples;
    int sample_count;
    const char *commands; /* shown as they are typed, one a line */
} cli_report;

/* True where a later position bucket has a higher loss than an earlier one; *bucket is the first such. */
bool cli_loss_rises(const fur_eval_result *result, int *bucket);
/* "below 1K", "1K-2K", ... */
void cli_bucket_name(char out[CLI_TWO_UNITS], const fur_eval_result *result, int bucket);

void cli_report_write(cli_string *out, const cli_report *report);

#endif
