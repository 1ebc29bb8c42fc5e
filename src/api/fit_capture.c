/* SPDX-License-Identifier: Apache-2.0 */
/* A head of a model as data of a fit, and a fitted head back in the model. */
#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/size.h"
#include "fit/data.h"
#include "io/file.h"
#include "model/config.h"
#include "plan/plan.h"
#include "train/cutter.h"
#include "train/evaluate.h"

void fur_fit_capture_defaults(fur_fit_capture_settings *settings)
{
    memset(settings, 0, sizeof *settings);
    settings->struct_size = sizeof *settings;
    settings->context_tokens = 256;
    settings->sequences = 16;
}

typedef struct capture {
    fur_context *context;
    fur_model *model;
    const fur_fit_capture_settings *settings;
    fur_run *run;
    const fur_layer_offsets *at;
    fit_data *data;
    bool rotary, ones;
    int64_t row;        /* rows of the data before the row in work */
    float *h, *q;       /* [superblock, C], [superblock, D] */
    int64_t *positions; /* [superblock] */
} capture;

/* ---- what can be captured ------------------------------------------------------------------------------------------
 */

static fur_status check_head(fur_context *context, const fur_model *model, int64_t layer, int64_t head)
{
    const fur_model_config *c = &model->config;
    fur_error *error = &context->error;
    if (layer < 0 || layer >= c->layers || head < 0 || head >= c->heads)
        return fur_error_set(error, FUR_E_ARGUMENT, "layer %lld, head %lld of a model of %lld layers of %lld heads",
                             (long long)layer, (long long)head, (long long)c->layers, (long long)c->heads);
    const char *what = fur_config_is_almost_linear(c, layer)  ? "almost-linear attention"
                       : c->window[layer] > 0                 ? "a window"
                       : c->position == FUR_POSITION_ALIBI    ? "ALiBi"
                       : c->softcap > 0                       ? "a softcap"
                       : c->lora_rank > 0                     ? "adapters"
                       : c->sink_logits || c->sink_tokens > 0 ? "sinks"
                       : c->qk_norm                           ? "norms of q and k"
                       : c->query_scalar > 0                  ? "a scale of its own"
                                                              : NULL;
    if (what)
        return fur_error_set(error, FUR_E_UNSUPPORTED, "layer %lld has %s: its heads are no plain softmax of products",
                             (long long)layer, what);
    return FUR_OK;
}

/* ---- rows ---------------------------------------------------------------------------------------------------------
 */

static float *row_of(const fit_array *array, int64_t row)
{
    return (float *)array->data + row * array->width;
}

/* out [count, D] = h times rows head * D .. of a map [out, in], with its bias */
static void map_head(const capture *k, const fur_map_offsets *map, int64_t head, int64_t count, float *out)
{
    const fur_model_config *c = &k->model->config;
    int64_t C = c->width, D = c->head_dim;
    const float *w = k->model->data + map->weight + head * D * C;
    for (int64_t i = 0; i < count; i++)
        for (int64_t d = 0; d < D; d++) {
            double sum = map->bias >= 0 ? (double)k->model->data[map->bias + head * D + d] : 0;
            for (int64_t e = 0; e < C; e++)
                sum += (double)k->h[i * C + e] * (double)w[d * C + e];
            out[i * D + d] = (float)sum;
        }
}

static fur_status rotated(const capture *k, const fur_map_offsets *map, int64_t head, int64_t first, int64_t count,
                          fit_array *to)
{
    const fur_model_config *c = &k->model->config;
    fur_rope rope = fur_config_rope(c, k->settings->layer);
    map_head(k, map, head, count, k->q);
    for (int64_t i = 0; i < count; i++)
        k->positions[i] = first + i;
    FUR_TRY(fur_rope_apply(&k->run->exec, count, 1, c->head_dim, &rope, k->positions, 0, k->q, c->head_dim));
    memcpy(row_of(to, k->row + first), k->q, (size_t)(count * c->head_dim) * sizeof(float));
    return FUR_OK;
}

static void normed(const capture *k, int64_t first, int64_t count, fit_array *to)
{
    int64_t C = k->model->config.width;
    for (int64_t i = 0; i < count; i++) {
        float *row = row_of(to, k->row + first + i);
        memcpy(row, k->h + i * C, (size_t)C * sizeof *row);
        if (to->width > C)
            row[C] = 1;
    }
}

static fur_status see_queries(void *user, const fur_observed_queries *seen)
{
    capture *k = user;
    const fur_model_config *c = &k->model->config;
    int64_t head = k->settings->head, key_head = head * c->kv_heads / c->heads, D = c->head_dim;
    if (seen->layer != k->settings->layer)
        return FUR_OK;
    FUR_TRY(fur_norm_rows(&k->run->exec, k->model, k->at->norm1_w, k->at->norm1_b, seen->count, seen->x_BC, k->h));
    normed(k, seen->first, seen->count, &k->data->a3);
    if (k->rotary) {
        FUR_TRY(rotated(k, &k->at->q, head, seen->first, seen->count, &k->data->a1));
        FUR_TRY(rotated(k, &k->at->k, key_head, seen->first, seen->count, &k->data->a2));
    } else if (!k->data->a2.shared) {
        normed(k, seen->first, seen->count, &k->data->a2);
    }
    for (int64_t i = 0; i < seen->count; i++)
        memcpy(row_of(&k->data->b, k->row + seen->first + i), seen->o_BQ + i * fur_config_query_width(c) + head * D,
               (size_t)D * sizeof(float));
    return FUR_OK;
}

static fur_status see_keys(void *user, const fur_observed_keys *seen)
{
    (void)user;
    (void)seen;
    return FUR_OK;
}

static fur_status see_layer(void *user, int64_t layer, int64_t tokens, const float *dy_TC)
{
    (void)user;
    (void)layer;
    (void)tokens;
    (void)dy_TC;
    return FUR_OK;
}

/* ---- arrays --------------------------------------------------------------------------------------------------------
 */

static fur_status make_array(fur_error *error, int64_t rows, int64_t width, fit_array *out)
{
    *out = (fit_array){.f32 = true, .rows = rows, .width = width};
    out->data = fur_malloc((size_t)(rows * width) * sizeof(float));
    return out->data ? FUR_OK : fur_memory_error(error, rows * width * 4, "a captured head");
}

static fur_status make_arrays(capture *k, int64_t sequences, int64_t rows, int64_t superblock)
{
    const fur_model_config *c = &k->model->config;
    fur_error *error = &k->context->error;
    fit_data *data = k->data;
    int64_t C = c->width, wide = C + k->ones;
    data->epsilon = 0x1p-24;
    data->stored_type = "F32";
    data->queries = fur_calloc((size_t)sequences + 1, sizeof *data->queries);
    data->keys = fur_calloc((size_t)sequences + 1, sizeof *data->keys);
    k->h = fur_malloc((size_t)(superblock * C) * sizeof *k->h);
    k->q = fur_malloc((size_t)(superblock * c->head_dim) * sizeof *k->q);
    k->positions = fur_malloc((size_t)superblock * sizeof *k->positions);
    if (!data->queries || !data->keys || !k->h || !k->q || !k->positions)
        return fur_memory_error(error, superblock * C * 4, "a captured head");
    FUR_TRY(make_array(error, rows, k->rotary ? c->head_dim : wide, &data->a1));
    if (k->rotary || k->ones) {
        FUR_TRY(make_array(error, rows, k->rotary ? c->head_dim : C, &data->a2));
    } else {
        data->a2 = data->a1;
        data->a2.shared = true;
    }
    if (k->rotary) {
        FUR_TRY(make_array(error, rows, wide, &data->a3));
    } else {
        data->a3 = data->a1;
        data->a3.shared = true;
    }
    return make_array(error, rows, c->head_dim, &data->b);
}

/* ---- the whole -----------------------------------------------------------------------------------------------------
 */

static fur_status run_rows(capture *k, fur_cutter *cutter, int64_t context)
{
    const fur_observer observer = {.user = k, .layer = see_layer, .queries = see_queries, .keys = see_keys};
    int64_t most = k->settings->sequences > 0 ? k->settings->sequences : INT64_MAX;
    fur_cursor cursor = {0};
    fit_data *data = k->data;
    k->run->observer = &observer;
    for (data->sequences = 0; data->sequences < most; data->sequences++) {
        fur_row row;
        double loss;
        FUR_TRY(fur_cutter_row(cutter, context, context, &cursor, &k->run->memory, &row));
        if (row.documents == 0 || k->row + row.offsets[row.documents] > data->b.rows)
            break;
        if (row.documents > 1) /* short ones share a row */
            return fur_error_set(&k->context->error, FUR_E_UNSUPPORTED,
                                 "the text has documents shorter than the context of %lld: take a shorter one",
                                 (long long)context);
        fur_model_zero_gradients(k->model);
        FUR_TRY(fur_model_loss_and_gradient(k->run, &row, NULL, 1.0, &loss, NULL));
        k->row += row.offsets[1];
        data->queries[data->sequences + 1] = data->keys[data->sequences + 1] = k->row;
    }
    k->run->observer = NULL;
    fit_array *arrays[] = {&data->a1, &data->a2, &data->a3, &data->b};
    for (int i = 0; i < 4; i++)
        arrays[i]->rows = k->row;
    return data->sequences > 0 ? fit_data_check(&k->context->error, data, "the captured head")
                               : fur_error_set(&k->context->error, FUR_E_SHAPE, "the text has no row of %lld tokens",
                                               (long long)context);
}

static fur_status plan_and_run(capture *k, fur_cutter *cutter)
{
    fur_plan_request request;
    fur_plan plan;
    fur_error *error = &k->context->error;
    int64_t context = fur_min_i64(k->settings->context_tokens, fur_cutter_longest(cutter)), rows;
    int64_t there = fur_div_up(fur_cutter_tokens(cutter), context);
    int64_t sequences = k->settings->sequences > 0 ? fur_min_i64(k->settings->sequences, there) : there;
    if (!fur_mul_ok(sequences, context, &rows))
        return fur_error_set(error, FUR_E_ARGUMENT, "too many rows to capture");
    fur_plan_request_defaults(&request);
    request.purpose = FUR_FOR_TRAIN;
    request.gradients_only = true;
    request.row_tokens = context;
    request.memory_bytes = k->settings->memory_bytes;
    request.data_bytes = cutter->info.bytes_held + rows * (2 * k->model->config.width + 64) * 4;
    FUR_TRY(fur_plan_make(k->context, &k->model->config, &request, &plan));
    if (!plan.fits)
        return fur_plan_refuse(k->context, &k->model->config, &request, &plan);
    FUR_TRY(make_arrays(k, sequences, rows, context));
    FUR_TRY(fur_run_create(k->context, k->model, &plan, &request, &k->run));
    return run_rows(k, cutter, context);
}

fur_status fur_fit_capture(fur_context *context, fur_model *model, const fur_corpus *corpus,
                           const fur_fit_capture_settings *settings, fur_fit_data **out)
{
    fur_cutter cutter;
    *out = NULL;
    if (settings->struct_size != sizeof *settings)
        return fur_error_set(&context->error, FUR_E_ARGUMENT,
                             "fur_fit_capture_settings has %zu bytes, this library expects %zu", settings->struct_size,
                             sizeof *settings);
    if (settings->context_tokens < 1 || settings->context_tokens > model->config.context || settings->sequences < 0)
        return fur_error_set(&context->error, FUR_E_ARGUMENT, "rows of %lld tokens, expected 1 to %lld",
                             (long long)settings->context_tokens, (long long)model->config.context);
    FUR_TRY(check_head(context, model, settings->layer, settings->head));
    FUR_TRY(fur_data_check(context, &model->config, corpus));
    const fur_layer_offsets *at = &model->table.layers[settings->layer];
    capture k = {.context = context,
                 .model = model,
                 .settings = settings,
                 .at = at,
                 .rotary = model->config.position == FUR_POSITION_ROPE,
                 .ones = at->v.bias >= 0};
    FUR_TRY(fur_cutter_create(context, corpus, FUR_PART_ALL, 0, 0, false, &cutter));
    k.data = fit_data_new(&context->error);
    fur_status status = k.data ? plan_and_run(&k, &cutter) : FUR_E_MEMORY;
    if (k.run)
        fur_run_destroy(k.run);
    fur_cutter_destroy(&cutter);
    fur_free(k.h);
    fur_free(k.q);
    fur_free(k.positions);
    if (status == FUR_OK)
        *out = k.data;
    else
        fur_fit_data_close(k.data);
    return status;
}

/* ---- back into the model
 * --------------------------------------------------------------------------------------------- */

/* Rows head * D .. of a map [out, in] from factor [in (+ 1), columns], times scale; the last row of a factor that has
 * one more is the bias. */
static void put_map(fur_model *model, const fur_map_offsets *map, int64_t head, const double *factor, int64_t in,
                    int64_t columns, double scale)
{
    int64_t C = model->config.width, D = model->config.head_dim;
    float *w = model->data + map->weight + head * D * C,
          *bias = map->bias >= 0 ? model->data + map->bias + head * D : NULL;
    for (int64_t d = 0; d < D; d++) {
        for (int64_t e = 0; e < C; e++)
            w[d * C + e] = d < columns ? (float)(scale * factor[e * columns + d]) : 0;
        if (bias)
            bias[d] = d < columns && in > C ? (float)(scale * factor[C * columns + d]) : 0;
    }
}

fur_status fur_fit_install(fur_context *context, fur_model *model, int64_t layer, int64_t head, const fur_fit_result *r)
{
    const fur_model_config *c = &model->config;
    fur_error *error = &context->error;
    FUR_TRY(check_head(context, model, layer, head));
    const fur_layer_offsets *at = &model->table.layers[layer];
    int64_t wide = c->width + (at->v.bias >= 0);
    if (c->position != FUR_POSITION_LEARNED)
        return fur_error_set(
            error, FUR_E_UNSUPPORTED,
            "a fit after rotation has no place in the maps before it: install wants learned positions");
    if (c->kv_heads != c->heads)
        return fur_error_set(error, FUR_E_UNSUPPORTED,
                             "keys and values are shared by %lld heads: install wants one each",
                             (long long)(c->heads / c->kv_heads));
    if (r->heads != 1 || r->linear || r->d1 != wide || r->d2 != c->width || r->d3 != wide || r->dv != c->head_dim)
        return fur_error_set(error, FUR_E_SHAPE,
                             "a fit of %lld heads, %lld x %lld, values %lld x %lld; the layer's heads are %lld x %lld, "
                             "values %lld x %lld",
                             (long long)r->heads, (long long)r->d1, (long long)r->d2, (long long)r->d3,
                             (long long)r->dv, (long long)wide, (long long)c->width, (long long)wide,
                             (long long)c->head_dim);
    if (r->rank > c->head_dim)
        return fur_error_set(error, FUR_E_SHAPE, "a fit of rank %lld for heads of width %lld: fit it with that rank",
                             (long long)r->rank, (long long)c->head_dim);
    double scale = sqrt(sqrt((double)c->head_dim)); /* the model divides logits by sqrt(D) */
    put_map(model, &at->q, head, r->q, r->d1, r->rank, scale);
    put_map(model, &at->k, head, r->k, r->d2, r->rank, scale);
    put_map(model, &at->v, head, r->y, r->d3, r->dv, 1);
    return FUR_OK;
}
