/* SPDX-License-Identifier: Apache-2.0 */
#include "model/head_errors.h"

#include <math.h>
#include <string.h>

#include "base/random.h"
#include "base/size.h"
#include "model/layer.h"

/* ---- memory ------------------------------------------------------------------------------------------------------ */

bool fur_head_errors_apply(const fur_model_config *c, int64_t rows)
{
    return rows > 0 && c->far_degree > 0 && c->head_dim <= FUR_FAR_MOST_DIM;
}

static int64_t constants_of_head(const fur_model_config *c)
{
    return 2 * c->head_dim + 2 * c->far_degree + 4;
}

void fur_head_errors_reserve(const fur_model_config *c, int64_t rows, int64_t block, fur_arena *arena,
                             fur_head_errors *out)
{
    fur_attention_shape shape = {.heads = c->heads, .kv_heads = c->kv_heads, .head_dim = c->head_dim};
    shape.far.degree = c->far_degree;
    shape.fine.degree = c->far_fine_gradient ? c->far_degree + 1 : 0;
    memset(out, 0, sizeof *out);
    out->layer = -1;
    fur_far_sample_reserve(&shape, rows, block, arena, &out->sample);
    out->result_LH = fur_arena_push(arena, c->layers * c->heads * (int64_t)sizeof *out->result_LH);
    out->constants = fur_arena_push_f32(arena, c->layers * c->kv_heads * constants_of_head(c));
}

/* Of a layer: qbar [K, D], kbar [K, D], c [K, degree + 1], that of one degree more, range [K]. */
typedef struct layer_constants {
    float *query_mean_KD, *key_mean_KD, *coefficient_KP, *fine_KP, *range_K;
} layer_constants;

static layer_constants constants_of(const fur_run *run, int64_t layer)
{
    const fur_model_config *c = &run->model->config;
    int64_t D = c->head_dim, K = c->kv_heads;
    float *at = run->memory.errors.constants + layer * K * constants_of_head(c);
    float *coefficient = at + 2 * K * D, *fine = coefficient + K * (c->far_degree + 1);
    return (layer_constants){at, at + K * D, coefficient, fine, fine + K * (c->far_degree + 2)};
}

static bool is_measurable(const fur_run *run)
{
    return run->memory.errors.result_LH != NULL;
}

static void forget_results(fur_run *run)
{
    const fur_model_config *c = &run->model->config;
    for (int64_t i = 0; i < c->layers * c->heads; i++)
        run->memory.errors.result_LH[i] = (fur_head_error){.layer = -1};
}

void fur_head_errors_clear(fur_run *run)
{
    const fur_model_config *c = &run->model->config;
    if (!is_measurable(run))
        return;
    memset(run->memory.errors.constants, 0, (size_t)(c->layers * c->kv_heads * constants_of_head(c)) * sizeof(float));
    forget_results(run);
}

bool fur_head_errors_fitted(const fur_run *run, int64_t layer, int64_t kv_head)
{
    return constants_of(run, layer).range_K[kv_head] > 0;
}

/* ---- asking ------------------------------------------------------------------------------------------------------ */

fur_status fur_run_measure_errors(fur_run *run, uint64_t seed, bool assume)
{
    fur_head_errors *e = &run->memory.errors;
    if (!is_measurable(run))
        return fur_error_set(run->exec.error, FUR_E_ARGUMENT, "this run was planned without measured errors");
    if (assume && run->shape.key_groups > 0) /* their samples want all heads of a block at once */
        return fur_error_set(run->exec.error, FUR_E_ARGUMENT,
                             "exact layers whose heads come in groups are not measured");
    if (assume) /* what the row before gave is what is measured */
        forget_results(run);
    else
        fur_head_errors_clear(run);
    e->wanted = 1;
    e->fits = 1;
    e->assume = assume;
    e->seed = seed;
    return FUR_OK;
}

int64_t fur_run_head_errors(const fur_run *run, fur_head_error *out)
{
    const fur_model_config *c = &run->model->config;
    int64_t count = 0;
    for (int64_t i = 0; is_measurable(run) && i < c->layers * c->heads; i++)
        if (run->memory.errors.result_LH[i].layer >= 0)
            out[count++] = run->memory.errors.result_LH[i];
    return count;
}

/* Constants of one layer, where they were fitted, become those of `to`, a model of the same heads. */
static void install_layer(const fur_run *run, int64_t layer, fur_model *to)
{
    const fur_model_config *c = &run->model->config;
    const fur_layer_offsets *at = &to->table.layers[layer];
    size_t width = (size_t)c->head_dim, terms = (size_t)c->far_degree + 1;
    layer_constants from = constants_of(run, layer);
    for (size_t h = 0; at->far_coefficients >= 0 && h < (size_t)c->kv_heads; h++) {
        if (from.range_K[h] <= 0)
            continue;
        memcpy(to->data + at->far_query_mean + h * width, from.query_mean_KD + h * width, width * sizeof(float));
        memcpy(to->data + at->far_key_mean + h * width, from.key_mean_KD + h * width, width * sizeof(float));
        memcpy(to->data + at->far_coefficients + h * terms, from.coefficient_KP + h * terms, terms * sizeof(float));
        if (at->far_fine >= 0)
            memcpy(to->data + at->far_fine + h * (terms + 1), from.fine_KP + h * (terms + 1),
                   (terms + 1) * sizeof(float));
        to->data[at->far_fitted + 2 * (int64_t)h + 1] = from.range_K[h];
        from.range_K[h] = 0;
    }
}

static void set_exact(const fur_run *run, fur_head_error *e)
{
    const fur_model_config *c = &run->model->config;
    int64_t at = e->layer < 0 ? -1 : run->model->table.layers[e->layer].far_exact;
    e->exact = at >= 0 && run->model->data[at + e->head * c->kv_heads / c->heads] > 0;
}

/* Heads that err by more than the model allows are exact from now on, each said. */
static void name_exact(fur_run *run)
{
    const fur_model_config *c = &run->model->config;
    for (int64_t i = 0; i < c->layers * c->heads; i++) {
        fur_head_error *e = &run->memory.errors.result_LH[i];
        int64_t at = e->layer < 0 ? -1 : run->model->table.layers[e->layer].far_exact;
        if (at < 0)
            continue;
        float *exact = run->model->data + at + e->head * c->kv_heads / c->heads;
        if (!e->exact && e->fitted && e->o.value > c->far_max_error) {
            fur_log(run->context, FUR_LOG_WARNING,
                    "layer %lld, head %lld: its output is off by %.2g, the limit is %.2g: its far keys are seen one by "
                    "one from here on",
                    (long long)e->layer, (long long)e->head, e->o.value, c->far_max_error);
            *exact = 1;
        }
    }
    for (int64_t i = 0; i < c->layers * c->heads; i++)
        set_exact(run, &run->memory.errors.result_LH[i]);
}

void fur_run_install_fits(fur_run *run)
{
    if (!is_measurable(run))
        return;
    for (int64_t layer = 0; layer < run->model->config.layers; layer++)
        install_layer(run, layer, run->model);
    name_exact(run);
}

void fur_head_errors_install(const fur_run *run, fur_model *to)
{
    for (int64_t layer = 0; layer < to->config.layers; layer++)
        install_layer(run, layer, to);
}

/* e^t cut off after its degree, where nothing was fitted yet. */
static void set_assumed(const fur_run *run, int64_t layer, fur_far *far)
{
    layer_constants at = constants_of(run, layer);
    far->query_mean_KD = at.query_mean_KD;
    far->key_mean_KD = at.key_mean_KD;
    far->coefficient_KP = at.coefficient_KP;
    for (int64_t h = 0; h < far->kv_heads; h++) {
        if (at.range_K[h] > 0)
            continue;
        float *c = at.coefficient_KP + h * (far->degree + 1);
        c[0] = 1;
        for (int64_t l = 1; l <= far->degree; l++)
            c[l] = c[l - 1] / (float)l;
    }
}

/* ---- the sweep --------------------------------------------------------------------------------------------------- */

void fur_head_errors_begin(fur_run *run, fur_layer *layer)
{
    fur_head_errors *e = &run->memory.errors;
    const fur_model_config *c = &run->model->config;
    e->layer = -1;
    if (!e->wanted)
        return;
    e->assumed = !fur_config_is_almost_linear(c, layer->index);
    if (e->assumed && (!e->assume || c->window[layer->index]))
        return;
    e->layer = layer->index;
    e->shape = layer->shape;
    if (!e->assumed)
        layer->shape.moment_THP = e->sample.moment_BHP;
    if (e->assumed) {
        fur_config_assume_far(c, &e->shape);
        set_assumed(run, layer->index, &e->shape.far);
    }
    fur_far_sample_begin(&e->sample, &e->shape, &run->documents, fur_random_u64(e->seed, 0xe44, (uint64_t)layer->index),
                         e->assumed);
}

void fur_head_errors_keys(fur_run *run, const fur_layer *layer, int64_t first, int64_t count)
{
    fur_head_errors *e = &run->memory.errors;
    if (e->layer == layer->index)
        fur_far_sample_keys(&e->sample, &layer->state, first, count);
}

void fur_head_errors_queries(fur_run *run, int64_t first, int64_t count, const float *q_BQ, const float *o_BQ,
                             const float *lse_BH, const float *do_BQ, const float *dq_BQ)
{
    fur_head_errors *e = &run->memory.errors;
    if (e->layer >= 0)
        fur_far_sample_queries(&run->exec, &e->sample, first, count, q_BQ, o_BQ, lse_BH, do_BQ, dq_BQ);
}

void fur_head_errors_gradients(fur_run *run, const fur_layer *layer, int64_t first, int64_t count, const float *dk_BK,
                               const float *dv_BK)
{
    fur_head_errors *e = &run->memory.errors;
    if (e->layer == layer->index)
        fur_far_sample_gradients(&run->exec, &e->sample, &layer->state, first, count, dk_BK, dv_BK);
}

/* Whether the layer was measured with a polynomial that was fitted to logits seen: that of a new model is for a range
 * of the bound itself, a fitted one for more. */
static bool was_fitted(const fur_run *run, int64_t layer, int64_t kv_head)
{
    int64_t at = run->model->table.layers[layer].far_fitted;
    const float *fitted = run->model->data + at + 2 * kv_head;
    return at < 0 || fitted[1] > fitted[0];
}

void fur_head_errors_end(fur_run *run)
{
    fur_head_errors *e = &run->memory.errors;
    const fur_model_config *c = &run->model->config;
    if (e->layer < 0)
        return;
    fur_head_error *result = e->result_LH + e->layer * c->heads;
    fur_far_sample_end(&e->sample, result);
    for (int64_t head = 0; head < c->heads; head++) {
        result[head].layer = e->layer;
        set_exact(run, &result[head]);
        result[head].fitted = was_fitted(run, e->layer, head * c->kv_heads / c->heads);
    }
    layer_constants to = constants_of(run, e->layer);
    for (int64_t h = 0; h < c->kv_heads && e->fits; h++) {
        fur_far_constants fitted = {.query_mean_D = to.query_mean_KD + h * c->head_dim,
                                    .key_mean_D = to.key_mean_KD + h * c->head_dim,
                                    .coefficient_P = to.coefficient_KP + h * (c->far_degree + 1),
                                    .fine_P = c->far_fine_gradient ? to.fine_KP + h * (c->far_degree + 2) : NULL};
        if (fur_far_sample_fit(&e->sample, h, &fitted) == 0)
            to.range_K[h] = fitted.range;
    }
    e->layer = -1;
}
