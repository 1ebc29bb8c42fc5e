/* SPDX-License-Identifier: Apache-2.0 */
/* theory TEXT LAYERS EXACT-UP-TO N...: the setting of arXiv 2408.13233. For each length n the head width is log2 n (to
 * the next even number) and the degree log2 n / 5, both rounded up; the bound is 1, heads are 4, the loss is that of
 * the next byte; nothing is near but the own chunk. One line a length: n, width, degree, features, seconds of loss and
 * whole gradient, seconds with exact attention of the same bounded model (0: not run), worst entry error of the
 * gradient over its largest entry, its error in the Euclidean norm. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "furlong/furlong.h"
#include "model/run.h"

static fur_context *context;

static void check(fur_status status)
{
    if (status == FUR_OK)
        return;
    (void)fprintf(stderr, "theory: %s\n", context ? fur_context_error(context) : fur_status_name(status));
    exit(1);
}

/* The first `tokens` bytes of the text, over again where it is shorter, each with the next as its target. */
static void read_row(const char *path, int64_t tokens, fur_run_memory *m)
{
    FILE *file = fopen(path, "rb");
    int c = file ? getc(file) : EOF;
    for (int64_t t = 0; t < tokens && c != EOF; t++) {
        m->row_ids_T[t] = c;
        c = getc(file);
        if (c == EOF) {
            rewind(file);
            c = getc(file);
        }
        m->row_targets_T[t] = c;
    }
    if (!file || c == EOF) {
        (void)fprintf(stderr, "theory: %s cannot be read or is empty\n", path);
        exit(3);
    }
    (void)fclose(file);
}

static fur_model_config config_of(int64_t n, int64_t layers)
{
    fur_model_config c;
    int64_t log2n = 0;
    while ((int64_t)1 << log2n < n)
        log2n++;
    check(fur_config_preset(context, "bytes-1m", n, &c));
    c.context = n;
    c.layers = layers;
    c.head_dim = (log2n + 1) / 2 * 2;
    c.width = c.heads * c.head_dim;
    c.hidden = 3 * c.width;
    c.far_degree = (log2n + 4) / 5;
    c.far_max_error = 1e5; /* so that the same model can be exact; nothing errs that much */
    check(fur_config_set_attention(context, &c, "almost-linear"));
    check(fur_config_set_window(context, &c, "0"));
    return c;
}

/* Seconds of one loss and gradient; the first time polynomials are fitted on the way, which is not timed. */
static double gradient(fur_run *run, const fur_row *row, int fits)
{
    double loss;
    if (fits) {
        check(fur_run_measure_errors(run, 1, false));
        fur_model_zero_gradients(run->model);
        check(fur_model_loss_and_gradient(run, row, NULL, 1.0, &loss, NULL));
        fur_run_install_fits(run);
    }
    fur_model_zero_gradients(run->model);
    double start = fur_clock_seconds();
    check(fur_model_loss_and_gradient(run, row, NULL, 1.0, &loss, NULL));
    return fur_clock_seconds() - start;
}

static void set_exact(fur_model *model)
{
    for (int64_t layer = 0; layer < model->config.layers; layer++)
        for (int64_t h = 0; h < model->config.kv_heads; h++)
            model->data[model->table.layers[layer].far_exact + h] = 1;
}

static void run_length(const char *path, int64_t n, int64_t layers, int64_t exact_up_to)
{
    fur_model_config config = config_of(n, layers);
    fur_plan_request request;
    fur_plan plan;
    fur_model *model;
    fur_run *run;
    fur_plan_request_defaults(&request);
    request.row_tokens = n;
    request.error_rows = FUR_ERROR_ROWS;
    check(fur_plan_make(context, &config, &request, &plan));
    check(fur_model_create(context, &config, 1, &model));
    check(fur_run_create(context, model, &plan, &request, &run));
    const int64_t offsets[2] = {0, n};
    read_row(path, n, &run->memory);
    fur_row row = {
        .documents = 1, .offsets = offsets, .ids_T = run->memory.row_ids_T, .target_T = run->memory.row_targets_T};
    double seconds = gradient(run, &row, 1), exact_seconds = 0, worst = 0, largest = 0, off = 0, size = 0;
    if (n <= exact_up_to) {
        size_t bytes = (size_t)model->table.elements * sizeof(float);
        float *almost = malloc(bytes);
        if (!almost)
            check(FUR_E_MEMORY);
        memcpy(almost, model->gradient, bytes);
        set_exact(model);
        exact_seconds = gradient(run, &row, 0);
        for (int64_t i = 0; i < model->table.elements; i++) {
            double want = (double)model->gradient[i], difference = (double)almost[i] - want;
            worst = fmax(worst, fabs(difference));
            largest = fmax(largest, fabs(want));
            off += difference * difference;
            size += want * want;
        }
        free(almost);
    }
    printf("%" PRId64 " %" PRId64 " %" PRId64 " %" PRId64 " %.4f %.4f %.3e %.3e\n", n, config.head_dim,
           config.far_degree, fur_config_far_features(&config), seconds, exact_seconds,
           largest > 0 ? worst / largest : 0, size > 0 ? sqrt(off / size) : 0);
    (void)fflush(stdout);
    fur_run_destroy(run);
    fur_model_destroy(model);
}

int main(int count, char **words)
{
    if (count < 5) {
        (void)fprintf(stderr, "theory TEXT LAYERS EXACT-UP-TO N...\n");
        return 2;
    }
    char text[512];
    fur_context_settings settings;
    fur_context_settings_defaults(&settings);
    if (fur_context_create(&settings, &context, text, sizeof text) != FUR_OK) {
        (void)fprintf(stderr, "theory: %s\n", text);
        return 1;
    }
    for (int i = 4; i < count; i++)
        run_length(words[1], strtoll(words[i], NULL, 10), strtoll(words[2], NULL, 10), strtoll(words[3], NULL, 10));
    fur_context_destroy(context);
    return 0;
}
