/* SPDX-License-Identifier: Apache-2.0 */
/* recall ATTENTION WINDOW CHUNK BOUND BIAS STEPS SEED THREADS: associative recall beyond the window, by a model of two
 * layers. A document names 8 pairs of a key and a value; noise follows, in which keys are asked, each followed by its
 * value, which is all that is learnt: half of the keys, four times each, within 160 tokens after the pairs; the other
 * half, and these alone are scored, once each, 160 to 256 tokens after them. WINDOW as for --window; BOUND 0: the
 * default. Prints one JSON object; chance is 1/16. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/random.h"
#include "furlong/furlong.h"
#include "model/run.h"
#include "op/adamw/adamw.h"
#include "op/sumsq/sumsq.h"

enum {
    KEYS = 16,
    VALUES = 16,
    NOISE = 16,
    VOCABULARY = KEYS + VALUES + NOISE,
    PAIRS = 8,
    ASKED = PAIRS / 2, /* keys near, and as many others far */
    NEAR_ASKS = 4 * ASKED,
    NEAR_SLOTS = 80, /* of two tokens: noise, or a key and its value */
    SLOTS = 128,
    LENGTH = 2 * PAIRS + 2 * SLOTS,
    DOCUMENTS = 16,
    REFIT_STEPS = 100,
    SCORED_ROWS = 32
};

static fur_context *context;

static void check(fur_status status)
{
    if (status == FUR_OK)
        return;
    (void)fprintf(stderr, "recall: %s\n", context ? fur_context_error(context) : fur_status_name(status));
    exit(1);
}

static uint32_t draw(uint64_t seed, uint64_t row, uint64_t what, uint32_t below)
{
    return (uint32_t)(fur_random_u64(seed, row, what) % below);
}

static void shuffle(uint64_t seed, uint64_t row, uint64_t what, int32_t *list, int count)
{
    for (int i = 0; i < count; i++)
        list[i] = i;
    for (int i = count - 1; i > 0; i--) {
        int j = (int)draw(seed, row, what + (uint64_t)i, (uint32_t)i + 1);
        int32_t other = list[j];
        list[j] = list[i];
        list[i] = other;
    }
}

/* Asks count times, each in a slot of its own from first to before end, for the ASKED keys of asked in turn. */
static void ask(uint64_t seed, uint64_t document, uint64_t what, int first, int end, int count, const int32_t *asked,
                const int32_t *value, int32_t *ids, int32_t *targets)
{
    int32_t slots[SLOTS];
    shuffle(seed, document, what, slots, end - first);
    for (int i = 0; i < count; i++) {
        int at = 2 * PAIRS + 2 * (first + slots[i]);
        ids[at] = asked[i % ASKED];
        ids[at + 1] = targets[at] = value[ids[at]];
    }
}

static void make_document(uint64_t seed, uint64_t document, bool scored, int32_t *ids, int32_t *targets)
{
    int32_t keys[KEYS];
    int32_t value[KEYS] = {0};
    shuffle(seed, document, 1000, keys, KEYS);
    for (int t = 0; t < LENGTH; t++) {
        ids[t] = KEYS + VALUES + (int32_t)draw(seed, document, 3000 + (uint64_t)t, NOISE);
        targets[t] = -1;
    }
    for (int i = 0; i < PAIRS; i++) {
        value[keys[i]] = KEYS + (int32_t)draw(seed, document, 4000 + (uint64_t)i, VALUES);
        ids[2 * i] = keys[i];
        ids[2 * i + 1] = value[keys[i]];
    }
    int32_t order[PAIRS], asked[PAIRS];
    shuffle(seed, document, 2000, order, PAIRS);
    for (int i = 0; i < PAIRS; i++)
        asked[i] = keys[order[i]];
    ask(seed, document, 5000, 0, NEAR_SLOTS, NEAR_ASKS, asked, value, ids, targets);
    for (int t = 0; scored && t < LENGTH; t++)
        targets[t] = -1;
    ask(seed, document, 6000, NEAR_SLOTS, SLOTS, ASKED, asked + ASKED, value, ids, targets);
}

static void make_row(uint64_t seed, uint64_t row, bool scored, fur_run_memory *m, int64_t *offsets)
{
    for (int64_t d = 0; d < DOCUMENTS; d++) {
        make_document(seed, row * DOCUMENTS + (uint64_t)d, scored, m->row_ids_T + d * LENGTH,
                      m->row_targets_T + d * LENGTH);
        offsets[d + 1] = (d + 1) * LENGTH;
    }
    offsets[0] = 0;
}

typedef struct update {
    fur_run *run;
    fur_adamw_args args;
} update;

static fur_status update_part(void *user, int64_t first, int64_t count, float *m, float *v)
{
    update *u = user;
    fur_model *model = u->run->model;
    return fur_adamw_step(&u->run->exec, count, model->data + first, model->gradient + first, m, v, &u->args);
}

/* One step; every REFIT_STEPS polynomials are refitted, as training does. */
static double step(fur_run *run, const fur_row *row, int64_t number, int64_t steps, bool far)
{
    fur_model *model = run->model;
    double loss, norm, progress = (double)number / (double)steps;
    bool measures = far && number % REFIT_STEPS == 0;
    fur_model_zero_gradients(model);
    if (measures)
        check(fur_run_measure_errors(run, (uint64_t)number, false));
    check(fur_model_loss_and_gradient(run, row, NULL, 1.0, &loss, NULL));
    check(fur_sum_squares(&run->exec, model->table.elements, model->gradient, &norm));
    double lr = 3e-3 * fmin(1, (double)(number + 1) / 100) * (0.55 + 0.45 * cos(3.14159265358979323846 * progress));
    update u = {run,
                {.lr = lr,
                 .beta1 = 0.9,
                 .beta2 = 0.98,
                 .eps = 1e-8,
                 .weight_decay = 0.01,
                 .step = number + 1,
                 .grad_scale = (float)fmin(1, 1 / sqrt(norm))}};
    check(fur_moments_each(&run->exec, &run->memory.moments, true, update_part, &u));
    if (measures)
        fur_run_install_fits(run);
    return loss;
}

/* Share of asked keys whose likeliest next token is their value, in rows that were not trained on. */
static double score(fur_run *run, uint64_t seed, int64_t *offsets)
{
    float *y = malloc((size_t)(DOCUMENTS * LENGTH) * VOCABULARY * sizeof *y);
    int64_t right = 0, asked = 0;
    fur_run_memory *m = &run->memory;
    for (uint64_t r = 0; y && r < SCORED_ROWS; r++) {
        make_row(seed + 1000003, r, true, m, offsets);
        fur_row row = {.documents = DOCUMENTS, .offsets = offsets, .ids_T = m->row_ids_T};
        check(fur_model_outputs(run, &row, y));
        for (int64_t t = 0; t < DOCUMENTS * LENGTH; t++) {
            int best = 0;
            if (m->row_targets_T[t] < 0)
                continue;
            for (int i = 1; i < VOCABULARY; i++)
                best = y[t * VOCABULARY + i] > y[t * VOCABULARY + best] ? i : best;
            right += best == m->row_targets_T[t];
            asked++;
        }
    }
    free(y);
    return asked ? (double)right / (double)asked : (double)NAN;
}

int main(int count, char **words)
{
    if (count != 9) {
        (void)fprintf(stderr, "recall ATTENTION WINDOW CHUNK BOUND BIAS STEPS SEED THREADS\n");
        return 2;
    }
    char text[512];
    int64_t steps = strtoll(words[6], NULL, 10), offsets[DOCUMENTS + 1];
    uint64_t seed = strtoull(words[7], NULL, 10);
    fur_context_settings settings;
    fur_context_settings_defaults(&settings);
    settings.threads = (int)strtol(words[8], NULL, 10);
    if (fur_context_create(&settings, &context, text, sizeof text) != FUR_OK) {
        (void)fprintf(stderr, "recall: %s\n", text);
        return 1;
    }
    fur_model_config config;
    check(fur_config_preset(context, "bytes-1m", LENGTH, &config));
    config.context = LENGTH;
    config.vocabulary = VOCABULARY;
    config.width = 64;
    config.layers = 2;
    config.heads = config.kv_heads = 2;
    config.hidden = 192;
    config.init_std = 0.1;
    check(fur_config_set_attention(context, &config, words[1]));
    if (strcmp(words[2], "none") != 0)
        check(fur_config_set_window(context, &config, words[2]));
    bool far = strstr(words[1], "almost-linear") != NULL;
    config.far_chunk = far ? strtoll(words[3], NULL, 10) : 0;
    if (far && strtod(words[4], NULL) > 0)
        config.far_bound = strtod(words[4], NULL);
    config.far_bias = far && strcmp(words[5], "bias") == 0;
    fur_plan_request request;
    fur_plan_request_defaults(&request);
    request.row_tokens = DOCUMENTS * LENGTH;
    request.document_tokens = LENGTH;
    request.error_rows = FUR_ERROR_ROWS;
    fur_plan plan;
    fur_model *model;
    fur_run *run;
    check(fur_plan_make(context, &config, &request, &plan));
    check(fur_model_create(context, &config, seed, &model));
    check(fur_run_create(context, model, &plan, &request, &run));
    check(fur_moments_zero(&run->exec, &run->memory.moments));
    double start = fur_clock_seconds(), loss = 0;
    for (int64_t s = 0; s < steps; s++) {
        make_row(seed, (uint64_t)s, false, &run->memory, offsets);
        fur_row row = {.documents = DOCUMENTS,
                       .offsets = offsets,
                       .ids_T = run->memory.row_ids_T,
                       .target_T = run->memory.row_targets_T};
        loss = step(run, &row, s, steps, far);
        if (s % 200 == 199)
            (void)fprintf(stderr, "step %" PRId64 ": loss %.3f\n", s + 1, loss);
    }
    printf("{\"accuracy\":%.4f,\"loss\":%.4f,\"steps\":%" PRId64 ",\"seconds\":%.1f}\n", score(run, seed, offsets),
           loss, steps, fur_clock_seconds() - start);
    fur_run_destroy(run);
    fur_model_destroy(model);
    fur_context_destroy(context);
    return 0;
}
