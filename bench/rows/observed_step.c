/* SPDX-License-Identifier: Apache-2.0 */
/* observed_step OUT TEXT PRESET LAYERS TOKENS MEMORY SEED: one whole optimizer step over one document, of which every
 * layer's input, incoming gradient, attention output, statistics and gradients by q, k, v go to files under OUT, for a
 * check of single rows in double precision (step_rows.py). The initial weights go to OUT/model. Prints one JSON object.
 *
 * Files are written past the process: what they take is not resident. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "furlong/furlong.h"
#include "model/run.h"
#include "op/adamw/adamw.h"
#include "op/sumsq/sumsq.h"

typedef struct dump {
    const char *folder;
    fur_context *context;
    int64_t width, query_width, key_width, heads;
    double started;
    int percent;
} dump;

static void check(fur_context *context, fur_status status)
{
    if (status == FUR_OK)
        return;
    (void)fprintf(stderr, "observed_step: %s\n", context ? fur_context_error(context) : fur_status_name(status));
    exit(status == FUR_E_DOES_NOT_FIT ? 4 : 1);
}

/* Rows first.. of OUT/LAYER-NAME.f32, `columns` wide. */
static fur_status put(const dump *d, int64_t layer, const char *name, int64_t first, int64_t count, int64_t columns,
                      const float *rows)
{
    char path[4096];
    (void)snprintf(path, sizeof path, "%s/%" PRId64 "-%s.f32", d->folder, layer, name);
    int file = open(path, O_WRONLY | O_CREAT, 0666);
    const char *at = (const char *)rows;
    int64_t offset = first * columns * (int64_t)sizeof(float), left = count * columns * (int64_t)sizeof(float);
    while (file >= 0 && left > 0) {
        ssize_t done = pwrite(file, at, (size_t)left, offset);
        if (done <= 0)
            break;
        at += done;
        offset += done;
        left -= done;
    }
    if (file < 0 || close(file) != 0 || left > 0)
        return fur_error_set(&d->context->error, FUR_E_IO, "%s: %s", path, strerror(errno));
    return FUR_OK;
}

static fur_status see_layer(void *user, int64_t layer, int64_t tokens, const float *dy_TC)
{
    const dump *d = user;
    return put(d, layer, "dy", 0, tokens, d->width, dy_TC);
}

static fur_status see_queries(void *user, const fur_observed_queries *q)
{
    const dump *d = user;
    FUR_TRY(put(d, q->layer, "x", q->first, q->count, d->width, q->x_BC));
    FUR_TRY(put(d, q->layer, "o", q->first, q->count, d->query_width, q->o_BQ));
    FUR_TRY(put(d, q->layer, "lse", q->first, q->count, d->heads, q->lse_BH));
    return put(d, q->layer, "dq", q->first, q->count, d->query_width, q->dq_BQ);
}

static fur_status see_keys(void *user, const fur_observed_keys *k)
{
    const dump *d = user;
    FUR_TRY(put(d, k->layer, "dk", k->first, k->count, d->key_width, k->dk_BK));
    return put(d, k->layer, "dv", k->first, k->count, d->key_width, k->dv_BK);
}

static void on_progress(void *user, double done)
{
    dump *d = user;
    int percent = (int)(100 * done);
    if (percent == d->percent)
        return;
    d->percent = percent;
    double seconds = fur_clock_seconds() - d->started;
    (void)fprintf(stderr, "%d %%, %.0f s, %.0f s left, peak memory %.0f MiB\n", percent, seconds,
                  seconds * (1 - done) / done, (double)fur_process_peak_rss_bytes() / (1 << 20));
}

/* The first `tokens` bytes of the text, over again where it is shorter; the last has no target. */
static void read_row(const char *path, int64_t tokens, fur_run_memory *m)
{
    FILE *file = fopen(path, "rb");
    for (int64_t t = 0; file && t <= tokens; t++) {
        int c = getc(file);
        if (c == EOF) {
            rewind(file);
            c = getc(file);
        }
        if (c == EOF)
            break;
        if (t < tokens)
            m->row_ids_T[t] = c;
        if (t > 0)
            m->row_targets_T[t - 1] = t < tokens ? c : -1;
    }
    if (!file || ferror(file) || feof(file)) {
        (void)fprintf(stderr, "observed_step: %s cannot be read or is empty\n", path);
        exit(3);
    }
    (void)fclose(file);
}

static fur_status optimizer_step(fur_run *run, double *norm)
{
    fur_model *model = run->model;
    size_t bytes = (size_t)model->table.elements * sizeof(float);
    memset(run->memory.moments.m_P, 0, bytes);
    memset(run->memory.moments.v_P, 0, bytes);
    FUR_TRY(fur_sum_squares(&run->exec, model->table.elements, model->gradient, norm));
    fur_adamw_args args = {
        .lr = 1e-4, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .weight_decay = 0.1, .step = 1, .grad_scale = 1.0f};
    return fur_adamw_step(&run->exec, model->table.elements, model->data, model->gradient, run->memory.moments.m_P,
                          run->memory.moments.v_P, &args);
}

int main(int count, char **words)
{
    if (count != 8) {
        (void)fprintf(stderr, "observed_step OUT TEXT PRESET LAYERS TOKENS MEMORY-BYTES SEED\n");
        return 2;
    }
    int64_t tokens = strtoll(words[5], NULL, 10);
    char text[512], folder[4096];
    fur_context_settings settings;
    fur_context_settings_defaults(&settings);
    fur_context *context;
    if (fur_context_create(&settings, &context, text, sizeof text) != FUR_OK) {
        (void)fprintf(stderr, "observed_step: %s\n", text);
        return 1;
    }
    fur_model_config config;
    check(context, fur_config_preset(context, words[3], tokens, &config));
    config.layers = strtoll(words[4], NULL, 10);
    fur_plan_request request;
    fur_plan_request_defaults(&request);
    request.row_tokens = tokens;
    request.memory_bytes = strtoll(words[6], NULL, 10);
    fur_plan plan;
    check(context, fur_plan_make(context, &config, &request, &plan));
    (void)fprintf(stderr, "planned: %.0f MiB, %.0f s, %.3g flops\n", (double)plan.peak_bytes / (1 << 20), plan.seconds,
                  plan.flops);
    fur_model *model;
    fur_run *run;
    check(context, fur_model_create(context, &config, strtoull(words[7], NULL, 10), &model));
    (void)snprintf(folder, sizeof folder, "%s/model", words[1]);
    if ((mkdir(words[1], 0777) != 0 && errno != EEXIST) || (mkdir(folder, 0777) != 0 && errno != EEXIST)) {
        (void)fprintf(stderr, "observed_step: %s: %s\n", folder, strerror(errno));
        return 1;
    }
    check(context, fur_model_save(context, model, folder));
    check(context, fur_run_create(context, model, &plan, &request, &run));
    dump d = {.folder = words[1],
              .context = context,
              .width = config.width,
              .query_width = config.heads * config.head_dim,
              .key_width = config.kv_heads * config.head_dim,
              .heads = config.heads,
              .started = fur_clock_seconds()};
    fur_observer observer = {&d, see_layer, see_queries, see_keys};
    run->observer = &observer;
    run->on_progress = on_progress;
    run->progress_user = &d;
    read_row(words[2], tokens, &run->memory);
    const int64_t offsets[2] = {0, tokens};
    fur_row row = {
        .documents = 1, .offsets = offsets, .ids_T = run->memory.row_ids_T, .target_T = run->memory.row_targets_T};
    double loss, norm;
    fur_model_zero_gradients(model);
    check(context, fur_model_loss_and_gradient(run, &row, NULL, 1.0, &loss, NULL));
    check(context, optimizer_step(run, &norm));
    printf("{\"tokens\":%" PRId64 ",\"layers\":%" PRId64 ",\"loss\":%.17g,\"grad_norm_squared\":%.17g,"
           "\"seconds\":%.1f,\"planned_seconds\":%.1f,\"flops\":%.6g,\"peak_rss_bytes\":%" PRId64
           ",\"planned_peak_bytes\":%" PRId64 ",\"isa\":\"%s\",\"threads\":%d}\n",
           tokens, config.layers, loss, norm, fur_clock_seconds() - d.started, plan.seconds, plan.flops,
           fur_process_peak_rss_bytes(), plan.peak_bytes, fur_context_isa(context), fur_context_threads(context));
    fur_run_destroy(run);
    fur_model_destroy(model);
    fur_context_destroy(context);
    return 0;
}
