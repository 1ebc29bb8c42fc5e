/* SPDX-License-Identifier: Apache-2.0 */
/* What almost-linear attention would cost a model: two rows with gradients, then both models' losses. */
#include "furlong/audit.h"

#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/random.h"
#include "base/size.h"
#include "plan/plan.h"
#include "train/evaluate.h"

void fur_audit_settings_defaults(fur_audit_settings *s)
{
    memset(s, 0, sizeof *s);
    s->struct_size = sizeof *s;
    s->context_tokens = 2048;
    s->max_error = 1e-3;
    s->degree = 2;
    s->chunk = 128;
    s->max_features = 65536;
    s->seed = 1;
}

void fur_audit_result_clear(fur_audit_result *result)
{
    fur_free(result->errors);
    memset(result, 0, sizeof *result);
}

typedef struct audit {
    fur_context *context;
    fur_model *model;
    const fur_audit_settings *settings;
    fur_model_config given; /* the model's own */
    bool assume;            /* it has exact layers only */
    fur_audit_result *result;
} audit;

static bool may_become(const fur_model_config *c, int64_t layer)
{
    return !fur_config_is_almost_linear(c, layer) && !c->window[layer];
}

/* The shape that the model would have: what may become almost-linear is. */
static fur_model_config mixed_config(const audit *a)
{
    fur_model_config c = a->given;
    for (int64_t layer = 0; layer < c.layers; layer++)
        if (may_become(&c, layer)) {
            c.attention[layer] = FUR_ATTENTION_ALMOST_LINEAR;
            c.window[layer] = FUR_FAR_DEFAULT_WINDOW;
        }
    c.far_degree = a->settings->degree;
    c.far_chunk = a->settings->chunk;
    c.far_max_features = a->settings->max_features;
    c.far_bound = 0;
    c.far_unbounded = true;
    c.far_max_error = a->settings->max_error;
    c.far_bias = false;
    c.attention_dropout = 0; /* of training, which almost-linear layers have not */
    return c;
}

/* Almost-linear layers are measured as they are; exact ones for what they might become, of which the measurement reads
 * the model's far_ members. */
static fur_status begin(audit *a)
{
    const fur_audit_settings *s = a->settings;
    fur_error *error = &a->context->error;
    int64_t candidates = 0;
    if (s->struct_size != sizeof *s)
        return fur_error_set(error, FUR_E_ARGUMENT, "fur_audit_settings has %zu bytes, this library expects %zu",
                             s->struct_size, sizeof *s);
    if (!(s->max_error > 0 && s->max_error < 1e6))
        return fur_error_set(error, FUR_E_ARGUMENT, "largest error %g, expected above 0, below 1e6", s->max_error);
    a->assume = !fur_config_has_far(&a->given);
    for (int64_t layer = 0; layer < a->given.layers; layer++)
        candidates += may_become(&a->given, layer);
    if (!a->assume)
        return FUR_OK;
    if (candidates == 0)
        return fur_error_set(error, FUR_E_ARGUMENT, "every layer has a window: there are no far keys to approximate");
    fur_model_config mixed = mixed_config(a);
    FUR_TRY(fur_config_check(a->context, &mixed));
    if (s->context_tokens <= s->chunk + FUR_FAR_DEFAULT_WINDOW)
        return fur_error_set(error, FUR_E_ARGUMENT,
                             "of %lld tokens none is far from another: expected more than a chunk of %lld and a window "
                             "of %d",
                             (long long)s->context_tokens, (long long)s->chunk, FUR_FAR_DEFAULT_WINDOW);
    fur_model_config *c = &a->model->config;
    c->far_degree = mixed.far_degree;
    c->far_chunk = mixed.far_chunk;
    c->far_bound = 0;
    c->far_unbounded = true;
    return FUR_OK;
}

/* ---- measuring --------------------------------------------------------------------------------------------------- */

static fur_status measure_row(audit *a, fur_run *run, fur_cutter *cutter, int64_t context, int fits, fur_cursor *cursor)
{
    fur_row row;
    double loss;
    FUR_TRY(fur_cutter_row(cutter, context, context, cursor, &run->memory, &row));
    if (row.documents == 0) { /* the text has one row: the same again */
        *cursor = (fur_cursor){0};
        a->result->same_row = true;
        FUR_TRY(fur_cutter_row(cutter, context, context, cursor, &run->memory, &row));
    }
    FUR_TRY(fur_run_measure_errors(run, fur_random_u64(a->settings->seed, 0xa0d, (uint64_t)cursor->index), a->assume));
    run->memory.errors.fits = fits;
    fur_model_zero_gradients(a->model);
    return fur_model_loss_and_gradient(run, &row, NULL, 1.0, &loss, NULL);
}

/* A head stays exact where it, or one that shares its keys, errs too much, or saw too little to be fitted. */
static void decide(const audit *a, const fur_run *run)
{
    const fur_model_config *c = &a->given;
    fur_head_error *e = a->result->errors;
    int64_t group = c->heads / c->kv_heads;
    for (int64_t i = 0; i < a->result->error_count; i++)
        for (int64_t j = 0; j < a->result->error_count && a->assume; j++)
            if (e[i].layer == e[j].layer && e[i].head / group == e[j].head / group &&
                (!(e[j].o.value <= a->settings->max_error) ||
                 !fur_head_errors_fitted(run, e[j].layer, e[j].head / group)))
                e[i].exact = true;
}

static bool layer_changes(const audit *a, int64_t layer)
{
    for (int64_t i = 0; i < a->result->error_count; i++)
        if (a->result->errors[i].layer == layer && !a->result->errors[i].exact)
            return true;
    return false;
}

/* The model whose heads are almost-linear where they may be; NULL where none may. */
static fur_status make_mixed(audit *a, const fur_run *run, fur_model **out)
{
    fur_model_config c = mixed_config(a);
    for (int64_t layer = 0; layer < c.layers; layer++)
        if (may_become(&a->given, layer) && !layer_changes(a, layer)) {
            c.attention[layer] = a->given.attention[layer];
            c.window[layer] = a->given.window[layer];
        }
    if (!a->assume || !fur_config_has_far(&c))
        return FUR_OK;
    FUR_TRY(fur_model_allocate(a->context, &c, out));
    fur_model_move(a->model, *out);
    fur_head_errors_install(run, *out);
    for (int64_t i = 0; i < a->result->error_count; i++) {
        const fur_head_error *e = &a->result->errors[i];
        int64_t at = (*out)->table.layers[e->layer].far_exact;
        if (at >= 0)
            (*out)->data[at + e->head * c.kv_heads / c.heads] = e->exact;
    }
    return FUR_OK;
}

static fur_status measure(audit *a, fur_cutter *cutter, fur_model **mixed)
{
    fur_plan_request request;
    fur_plan plan;
    fur_run *run = NULL;
    fur_plan_request_defaults(&request);
    request.purpose = FUR_FOR_TRAIN;
    request.gradients_only = request.row_updates = true; /* nobody waits for those of tables: one layer's at a time */
    request.row_tokens = fur_min_i64(a->settings->context_tokens, fur_cutter_longest(cutter));
    request.memory_bytes = a->settings->memory_bytes;
    request.data_bytes = cutter->info.bytes_held;
    request.weight_bytes = fur_model_weight_bytes(a->model);
    request.error_rows = FUR_ERROR_ROWS;
    FUR_TRY(fur_plan_make(a->context, &a->model->config, &request, &plan));
    if (!plan.fits)
        return fur_plan_refuse(a->context, &a->model->config, &request, &plan);
    a->result->planned_peak_bytes = plan.peak_bytes;
    FUR_TRY(fur_run_create(a->context, a->model, &plan, &request, &run));
    fur_cursor cursor = {0};
    fur_status status = FUR_OK;
    for (int pass = a->assume ? 0 : 1; status == FUR_OK && pass < 2; pass++) /* fit, then measure */
        status = measure_row(a, run, cutter, request.row_tokens, pass == 0, &cursor);
    if (status == FUR_OK) {
        const fur_model_config *c = &a->given;
        a->result->errors = fur_calloc((size_t)(c->layers * c->heads), sizeof *a->result->errors);
        if (!a->result->errors)
            status = fur_error_set(&a->context->error, FUR_E_MEMORY, "no memory for the errors of heads");
    }
    if (status == FUR_OK) {
        a->result->error_count = fur_run_head_errors(run, a->result->errors);
        decide(a, run);
        status = make_mixed(a, run, mixed);
    }
    fur_run_destroy(run);
    return status;
}

/* ---- the whole --------------------------------------------------------------------------------------------------- */

static fur_status evaluate(audit *a, const fur_corpus *corpus, fur_model *model, double *loss)
{
    fur_eval_result result;
    fur_eval_settings settings;
    fur_eval_settings_defaults(&settings);
    settings.context_tokens = a->settings->context_tokens;
    settings.max_tokens = a->settings->max_tokens;
    settings.memory_bytes = a->settings->memory_bytes;
    FUR_TRY(fur_evaluate(a->context, model, corpus, &settings, &result));
    *loss = result.loss;
    a->result->tokens = result.tokens;
    return FUR_OK;
}

fur_status fur_audit(fur_context *context, fur_model *model, const fur_corpus *corpus,
                     const fur_audit_settings *settings, fur_audit_result *result, fur_model **mixed)
{
    audit a = {.context = context, .model = model, .settings = settings, .given = model->config, .result = result};
    double start = fur_clock_seconds();
    fur_cutter cutter;
    memset(result, 0, sizeof *result);
    *mixed = NULL;
    result->exact_loss = result->mixed_loss = (double)NAN;
    FUR_TRY(fur_data_check(context, &model->config, corpus));
    FUR_TRY(fur_cutter_create(context, corpus, FUR_PART_ALL, 0, 0, false, &cutter));
    fur_status status = begin(&a);
    if (status == FUR_OK)
        status = measure(&a, &cutter, mixed);
    fur_cutter_destroy(&cutter);
    model->config = a.given;
    if (status == FUR_OK)
        status = evaluate(&a, corpus, model, &result->exact_loss);
    if (status == FUR_OK && *mixed)
        status = evaluate(&a, corpus, *mixed, &result->mixed_loss);
    for (int64_t i = 0; status == FUR_OK && *mixed && i < result->error_count; i++) {
        fur_head_error *e = &result->errors[i]; /* a head whose normaliser failed there is exact in it now */
        int64_t at = (*mixed)->table.layers[e->layer].far_exact;
        if (at >= 0)
            e->exact = (*mixed)->data[at + e->head * a.given.kv_heads / a.given.heads] > 0;
    }
    result->seconds = fur_clock_seconds() - start;
    result->peak_rss_bytes = fur_process_peak_rss_bytes();
    if (status != FUR_OK) {
        fur_audit_result_clear(result);
        fur_model_destroy(*mixed);
        *mixed = NULL;
    }
    return status;
}
