/* SPDX-License-Identifier: Apache-2.0 */
#include "model/layer.h"

#include <math.h>
#include <string.h>

#include "base/random.h"
#include "base/size.h"
#include "model/head_groups.h"
#include "op/activation/activation.h"
#include "op/add/add.h"
#include "op/dropout/dropout.h"
#include "op/norm/norm.h"
#include "op/rope/rope.h"

static void set_far_constants(const fur_model *model, const fur_layer_offsets *at, int backward,
                              fur_attention_shape *shape)
{
    shape->far.query_mean_KD = model->data + at->far_query_mean;
    shape->far.key_mean_KD = model->data + at->far_key_mean;
    shape->far.coefficient_KP = model->data + at->far_coefficients;
    if (at->far_exact >= 0) {
        shape->exact_K = model->data + at->far_exact;
        shape->far.exact_K = shape->exact_K;
    }
    if (at->far_fine >= 0)
        shape->fine.coefficient_KP = model->data + at->far_fine;
    if (at->far_bias >= 0) {
        shape->far.bias_H = model->data + at->far_bias;
        shape->dbias_H = backward ? fur_model_gradient(model, at->far_bias) : NULL;
    }
    const float *fine = shape->fine.coefficient_KP;
    int64_t degree = shape->fine.degree;
    if (degree) { /* all but degree and coefficients */
        shape->fine = shape->far;
        shape->fine.degree = degree;
        shape->fine.coefficient_KP = fine;
    }
}

fur_layer fur_layer_begin(fur_run *run, int64_t index, int backward)
{
    const fur_model_config *c = &run->model->config;
    fur_layer layer = {.index = index,
                       .at = &run->model->table.layers[index],
                       .kind = fur_attention_kind_at(c->attention[index]),
                       .shape = fur_config_attention_shape(c, index)};
    layer.shape.compute = run->exec.compute;
    if (layer.at->sinks >= 0) {
        layer.shape.features.sink_H = run->model->data + layer.at->sinks;
        layer.shape.dsink_H = backward ? fur_model_gradient(run->model, layer.at->sinks) : NULL;
    }
    if (layer.at->far_query_mean >= 0)
        set_far_constants(run->model, layer.at, backward, &layer.shape);
    layer.shape.features.dropout = (float)fur_run_drop_rate(run, FUR_DROP_WEIGHTS);
    if (layer.shape.features.dropout > 0)
        layer.shape.features.dropout_key = fur_run_drop_key(run, index, FUR_DROP_WEIGHTS);
    layer.groups = fur_run_layer_groups(c, &run->shape, index);
    run->layer = index;
    if (backward)
        fur_run_begin_tables(run, layer.at);
    if (layer.groups > 0)
        return layer;
    fur_arena_release(&run->memory.state_region,
                      run->shape.purpose == FUR_FOR_GENERATE ? index * run->memory.state_bytes : 0);
    layer.kind->reserve(&layer.shape, run->shape.tokens, run->shape.superblock, backward, &run->memory.state_region,
                        &layer.state);
    return layer;
}

/* For fur_norm_forward. */
static int norm_kind(const fur_model_config *c)
{
    return c->norm != FUR_NORM_RMSNORM ? FUR_NORM_MEAN : c->norm_offset ? FUR_NORM_RMS_OFFSET : FUR_NORM_RMS;
}

/* Of heads it is always RMSNorm. */
static int head_norm_kind(const fur_model_config *c)
{
    return c->norm_offset ? FUR_NORM_RMS_OFFSET : FUR_NORM_RMS;
}

fur_status fur_norm_rows(const fur_exec *exec, const fur_model *model, int64_t w, int64_t b, int64_t tokens,
                         const float *x_TC, float *y_TC)
{
    const fur_model_config *c = &model->config;
    return fur_norm_forward(exec, norm_kind(c), tokens, c->width, (float)c->norm_eps, x_TC, model->data + w,
                            b < 0 ? NULL : model->data + b, y_TC, NULL);
}

fur_status fur_norm_rows_backward(const fur_exec *exec, const fur_model *model, int64_t w, int64_t b, int64_t tokens,
                                  const float *x_TC, const float *dy_TC, float *dx_TC, int add)
{
    const fur_model_config *c = &model->config;
    return fur_norm_backward(exec, norm_kind(c), tokens, c->width, (float)c->norm_eps, x_TC, model->data + w, NULL,
                             dy_TC, dx_TC, add, fur_model_gradient(model, w), fur_model_gradient(model, b));
}

/* A map whose input is not finite says of which layer it is. */
static fur_status named(const fur_run *run, fur_status status)
{
    if (status == FUR_E_NONFINITE)
        fur_error_prefix(run->exec.error, "layer %lld", (long long)run->layer);
    return status;
}

fur_status fur_map_forward(const fur_run *run, const fur_map_offsets *map, int64_t tokens, const float *x_TI, int add,
                           float *y_TO)
{
    return fur_maps_forward(run, 1, &map, tokens, x_TI, add, &y_TO);
}

fur_status fur_maps_forward(const fur_run *run, int count, const fur_map_offsets *const *maps, int64_t tokens,
                            const float *x_TI, int add, float *const *y_TO)
{
    fur_projection_input input;
    fur_projection p = fur_model_map(run->model, maps[0]);
    int64_t mark = fur_arena_mark(run->exec.workspace);
    fur_status status = p.kind->prepare(&run->exec, &p, tokens, x_TI, p.in, &input);
    for (int i = 0; status == FUR_OK && i < count; i++) {
        p = fur_model_map(run->model, maps[i]);
        if (run->behind && maps[i]->first_row >= 0)
            status = fur_run_catch_up(run, maps[i], &input);
        if (status == FUR_OK && run->use_R && maps[i]->first_row >= 0)
            status = p.kind->count_use(&run->exec, &p, &input, run->use_R + maps[i]->first_row);
        bool generates = run->shape.purpose == FUR_FOR_GENERATE;
        if (status == FUR_OK)
            status =
                (generates ? fur_projection_generate : p.kind->forward)(&run->exec, &p, &input, add, y_TO[i], p.out);
    }
    fur_arena_release(run->exec.workspace, mark);
    return named(run, status);
}

fur_status fur_map_backward(fur_run *run, const fur_map_offsets *map, int64_t tokens, const float *x_TI,
                            const float *dy_TO, int add, float *dx_TI)
{
    return fur_maps_backward(run, 1, &map, tokens, x_TI, &dy_TO, add, dx_TI);
}

fur_status fur_maps_backward(fur_run *run, int count, const fur_map_offsets *const *maps, int64_t tokens,
                             const float *x_TI, const float *const *dy_TO, int add, float *dx_TI)
{
    fur_projection_input input;
    fur_projection p = fur_model_map(run->model, maps[0]);
    int64_t mark = fur_arena_mark(run->exec.workspace);
    fur_status status = p.kind->prepare(&run->exec, &p, tokens, x_TI, p.in, &input);
    for (int i = 0; status == FUR_OK && i < count; i++) {
        fur_gradient_sink sink = fur_run_sink(run, maps[i]);
        p = fur_model_map(run->model, maps[i]);
        status = p.kind->backward(&run->exec, &p, &input, dy_TO[i], p.out, add || i > 0, dx_TI, p.in, &sink);
    }
    fur_arena_release(run->exec.workspace, mark);
    return named(run, status);
}

/* RMSNorm of every head of q or k rows, in place; w < 0: nothing. */
static fur_status norm_heads(const fur_run *run, int64_t w, int64_t count, int64_t heads, float *x)
{
    const fur_model_config *c = &run->model->config;
    if (w < 0)
        return FUR_OK;
    return fur_norm_forward(&run->exec, head_norm_kind(c), count * heads, c->head_dim, (float)c->norm_eps, x,
                            run->model->data + w, NULL, x, NULL);
}

fur_status fur_layer_norm_back(fur_run *run, int64_t w, const fur_map_offsets *map, const fur_scratch *s, int64_t count,
                               int64_t heads, float *dx)
{
    const fur_model_config *c = &run->model->config;
    if (w < 0)
        return FUR_OK;
    FUR_TRY(fur_map_forward(run, map, count, s->h_BC, 0, s->do_BQ));
    return fur_norm_backward(&run->exec, head_norm_kind(c), count * heads, c->head_dim, (float)c->norm_eps, s->do_BQ,
                             run->model->data + w, NULL, dx, dx, 0, fur_model_gradient(run->model, w), NULL);
}

double fur_run_drop_rate(const fur_run *run, fur_drop_place place)
{
    const fur_model_config *c = &run->model->config;
    if (!run->dropping)
        return 0;
    return place == FUR_DROP_WEIGHTS     ? c->attention_dropout
           : place == FUR_DROP_EMBEDDING ? c->embedding_dropout
                                         : c->dropout;
}

uint64_t fur_run_drop_key(const fur_run *run, int64_t layer, fur_drop_place place)
{
    return fur_random_u64(run->random_seed, run->random_step, (uint64_t)layer << 2 | (uint64_t)place);
}

fur_status fur_run_drop(const fur_run *run, int64_t layer, fur_drop_place place, int64_t first, int64_t count,
                        float *x_BC)
{
    double rate = fur_run_drop_rate(run, place);
    if (!(rate > 0))
        return FUR_OK;
    return fur_dropout(&run->exec, count, run->model->config.width, rate, fur_run_drop_key(run, layer, place), first,
                       x_BC);
}

/* The norm of what a map adds; w -1: none. */
typedef struct post_norm {
    int64_t w, b;
} post_norm;

static post_norm post_norm_of(const fur_layer *layer, fur_drop_place place)
{
    const fur_layer_offsets *at = layer->at;
    return place == FUR_DROP_ATTENTION ? (post_norm){at->post1_w, at->post1_b} : (post_norm){at->post2_w, at->post2_b};
}

bool fur_layer_has_post_norm(const fur_layer *layer)
{
    return layer->at->post1_w >= 0;
}

fur_status fur_layer_post_norm_back(fur_run *run, const fur_layer *layer, const fur_map_offsets *map,
                                    fur_drop_place place, const fur_scratch *s, int64_t count, const float *in,
                                    float *dy_BC)
{
    post_norm norm = post_norm_of(layer, place);
    int64_t width = run->model->config.width, in_width = map->in == 0 ? width : map->in;
    for (int64_t t = 0; norm.w >= 0 && t < count; t += run->shape.token_tile) {
        int64_t tokens = fur_min_i64(run->shape.token_tile, count - t);
        const float *added = in + t * in_width;
        if (map->in != 0) {
            FUR_TRY(fur_map_forward(run, map, tokens, added, 0, s->post_tC));
            added = s->post_tC;
        }
        float *dy = dy_BC + t * width;
        FUR_TRY(fur_norm_rows_backward(&run->exec, run->model, norm.w, norm.b, tokens, added, dy, dy, 0));
    }
    return FUR_OK;
}

fur_status fur_layer_add_map(fur_run *run, const fur_layer *layer, const fur_map_offsets *map, fur_drop_place place,
                             int64_t first, int64_t count, const float *in, const float *x_BC, float *spare_BC,
                             float *out_BC)
{
    int64_t floats = count * run->model->config.width;
    post_norm norm = post_norm_of(layer, place);
    if (!(fur_run_drop_rate(run, place) > 0) && norm.w < 0) {
        if (out_BC != x_BC)
            memcpy(out_BC, x_BC, (size_t)floats * sizeof(float));
        if (map->in == 0)
            return fur_add(&run->exec, floats, in, out_BC);
        return fur_map_forward(run, map, count, in, 1, out_BC);
    }
    float *added = out_BC == x_BC ? spare_BC : out_BC;
    if (map->in == 0)
        memcpy(added, in, (size_t)floats * sizeof(float));
    else
        FUR_TRY(fur_map_forward(run, map, count, in, 0, added));
    if (norm.w >= 0)
        FUR_TRY(fur_norm_rows(&run->exec, run->model, norm.w, norm.b, count, added, added));
    FUR_TRY(fur_run_drop(run, layer->index, place, first, count, added));
    return fur_add(&run->exec, floats, added == out_BC ? x_BC : added, out_BC);
}

/* Rotates q or k rows in place; nothing with learned positions. Positions are those of fur_row_positions. */
static fur_status rotate(const fur_run *run, const fur_scratch *s, int64_t count, int64_t heads, int inverse, float *x)
{
    const fur_model_config *c = &run->model->config;
    if (c->position != FUR_POSITION_ROPE)
        return FUR_OK;
    fur_rope rope = fur_config_rope(c, run->layer);
    return fur_rope_apply(&run->exec, count, heads, c->head_dim, &rope, s->position_B, inverse, x, heads * c->head_dim);
}

fur_status fur_layer_rotate_back(const fur_run *run, const fur_scratch *s, int64_t count, int64_t heads, float *x)
{
    return rotate(run, s, count, heads, 1, x);
}

/* q of rows first.., normed and rotated, from h_BC to q_BQ. */
static fur_status project_queries(fur_run *run, const fur_layer *layer, const fur_scratch *s, int64_t count)
{
    FUR_TRY(fur_map_forward(run, &layer->at->q, count, s->h_BC, 0, s->q_BQ));
    FUR_TRY(norm_heads(run, layer->at->q_norm_w, count, layer->shape.heads, s->q_BQ));
    return rotate(run, s, count, layer->shape.heads, 0, s->q_BQ);
}

fur_status fur_layer_absorb(fur_run *run, fur_layer *layer, const fur_scratch *s, int64_t first, int64_t count,
                            const float *x_TC)
{
    FUR_TRY(fur_norm_rows(&run->exec, run->model, layer->at->norm1_w, layer->at->norm1_b, count, x_TC, s->h_BC));
    fur_row_positions(run, s, first, count);
    float *k = s->q_BQ, *v = s->o_BQ;
    if (layer->groups == 0)
        layer->kind->key_rows(&layer->shape, &layer->state, first, &k, &v);
    FUR_TRY(fur_maps_forward(run, 2, (const fur_map_offsets *const[]){&layer->at->k, &layer->at->v}, count, s->h_BC, 0,
                             (float *const[]){k, v}));
    FUR_TRY(norm_heads(run, layer->at->k_norm_w, count, layer->shape.kv_heads, k));
    FUR_TRY(rotate(run, s, count, layer->shape.kv_heads, 0, k));
    if (layer->groups > 0) {
        fur_head_groups *groups = &run->memory.groups;
        FUR_TRY(fur_store_put(&run->exec, &groups->k, 0, first, count, k));
        FUR_TRY(fur_store_put(&run->exec, &groups->v, 0, first, count, v));
        FUR_TRY(project_queries(run, layer, s, count));
        return fur_store_put(&run->exec, &groups->q, 0, first, count, s->q_BQ);
    }
    return layer->kind->absorb(&run->exec, &layer->shape, &layer->state, &run->documents, first, count, k, v);
}

fur_status fur_layer_query(fur_run *run, const fur_layer *layer, const fur_scratch *s, int64_t first, int64_t count,
                           float *o_TQ, float *lse_TH)
{
    FUR_TRY(project_queries(run, layer, s, count));
    if (!o_TQ)
        return FUR_OK;
    fur_status status = layer->kind->query(&run->exec, &layer->shape, &layer->state, &run->documents, first, count,
                                           s->q_BQ, o_TQ, lse_TH);
    if (status == FUR_E_NONFINITE)
        fur_error_prefix(run->exec.error, "layer %lld, tokens %lld to %lld", (long long)layer->index, (long long)first,
                         (long long)(first + count - 1));
    return status;
}

fur_status fur_layer_activate(const fur_run *run, const fur_layer *layer, int64_t tokens, const float *u_TU,
                              float *g_TF)
{
    const fur_model_config *c = &run->model->config;
    const float *data = run->model->data;
    if (c->activation == FUR_ACTIVATION_NORM)
        return fur_norm_forward(&run->exec, 0, tokens, c->hidden, (float)c->norm_eps, u_TU,
                                data + layer->at->inner_norm_w, data + layer->at->inner_norm_b, g_TF, NULL);
    if (c->activation == FUR_ACTIVATION_GEGLU)
        return fur_geglu_forward(&run->exec, tokens, c->hidden, u_TU, u_TU + c->hidden, 2 * c->hidden, g_TF);
    if (c->activation == FUR_ACTIVATION_SWIGLU)
        return fur_swiglu_forward(&run->exec, tokens, c->hidden, u_TU, u_TU + c->hidden, 2 * c->hidden, g_TF);
    return fur_gelu_forward(&run->exec, tokens * c->hidden, u_TU, g_TF);
}

void fur_layer_attention_stores(fur_run *run, const fur_layer *layer, fur_store **o, fur_store **lse, int64_t *at)
{
    fur_run_memory *m = &run->memory;
    int kept = fur_layer_attention_is_kept(run);
    *o = kept ? &m->o : &m->groups.output;
    *lse = kept ? &m->lse : &m->groups.lse;
    *at = kept ? layer->index : 0;
}

fur_status fur_layer_attention_place(fur_run *run, const fur_layer *layer, const fur_scratch *s, int64_t first,
                                     int64_t count, float **o_TQ, float **lse_TH)
{
    fur_run_memory *m = &run->memory;
    *o_TQ = s->o_BQ;
    *lse_TH = s->lse_BH;
    if (s->o_BQ)
        return FUR_OK;
    FUR_TRY(fur_store_place_rows(&run->exec, &m->o, layer->index, first, count, o_TQ));
    return fur_store_place_rows(&run->exec, &m->lse, layer->index, first, count, lse_TH);
}

fur_status fur_layer_attention_written(fur_run *run, const fur_layer *layer, const fur_scratch *s, int64_t first,
                                       int64_t count)
{
    fur_run_memory *m = &run->memory;
    if (!fur_layer_attention_is_kept(run))
        return FUR_OK;
    if (s->o_BQ) {
        FUR_TRY(fur_store_put(&run->exec, &m->o, layer->index, first, count, s->o_BQ));
        return fur_store_put(&run->exec, &m->lse, layer->index, first, count, s->lse_BH);
    }
    FUR_TRY(fur_store_written(&run->exec, &m->o, layer->index, first, count));
    return fur_store_written(&run->exec, &m->lse, layer->index, first, count);
}

/* A block where it lies, or where it is in parts, copied to `rows`. */
static fur_status get_block(const fur_run *run, fur_store *store, int64_t at, int64_t first, int64_t count,
                            int64_t next, float *rows, const float **out)
{
    *out = rows;
    FUR_TRY(rows ? fur_store_get_rows(&run->exec, store, at, first, count, rows)
                 : fur_store_get(&run->exec, store, at, first, count, out));
    if (next >= 0)
        fur_store_ahead(store, at, next, fur_superblock_rows(run, next));
    return FUR_OK;
}

fur_status fur_layer_attention_get(fur_run *run, const fur_layer *layer, const fur_scratch *s, int64_t first,
                                   int64_t count, int64_t next, const float **o_TQ, const float **lse_TH)
{
    fur_store *o, *lse;
    int64_t at;
    fur_layer_attention_stores(run, layer, &o, &lse, &at);
    FUR_TRY(get_block(run, o, at, first, count, next, s->o_BQ, o_TQ));
    return lse_TH ? get_block(run, lse, at, first, count, next, s->lse_BH, lse_TH) : FUR_OK;
}

float *fur_layer_u(const fur_run *run, const fur_layer *layer, const fur_scratch *s, int64_t first)
{
    const fur_run_memory *m = &run->memory;
    if (!m->kept_u_LTU)
        return s->u_tU;
    return m->kept_u_LTU + (layer->index * run->shape.tokens + first) * fur_config_inner_width(&run->model->config);
}

/* Flops of what is done of a superblock of one layer: maps, and the keys its rows see. Backward counts what is
 * recomputed too. */
static double block_work(const fur_run *run, int64_t first, int64_t count, fur_work done)
{
    const fur_model_config *c = &run->model->config;
    double q = (double)fur_config_query_width(c), maps = run->map_work;
    double keys = c->causal ? (double)first + 0.5 * (double)count : (double)run->tokens;
    double seen = run->documents.count > 1 ? (double)run->tokens / (double)run->documents.count : keys;
    seen = fmin(seen, keys);
    double attention = 0; /* mean of the layers */
    for (int64_t layer = 0; layer < c->layers; layer++) {
        const fur_attention_kind *kind = fur_attention_kind_at(c->attention[layer]);
        if (kind->rebuild) { /* costs the same wherever a token stands */
            fur_attention_shape shape = fur_config_attention_shape(c, layer);
            fur_attention_cost cost;
            kind->cost(&shape, run->tokens, run->tokens / run->documents.count, &cost);
            attention += cost.flops_forward / (double)run->tokens / (double)c->layers;
            continue;
        }
        attention += 4 * q * (c->window[layer] ? fmin(seen, (double)c->window[layer]) : seen) / (double)c->layers;
    }
    maps *= done.maps;
    attention *= done.attention;
    return (double)count * (done.backward ? 2.7 * maps + 3.5 * attention : maps + attention);
}

fur_status fur_run_advance(fur_run *run, int64_t first, int64_t count, fur_work done)
{
    run->work_done += block_work(run, first, count, done);
    if (run->on_progress && run->work_total > 0)
        run->on_progress(run->progress_user, fmin(1.0, run->work_done / run->work_total));
    if (!run->updating && atomic_load(&run->context->stop))
        return fur_error_set(run->exec.error, FUR_E_INTERRUPTED, "stopped inside a row of %lld tokens",
                             (long long)run->tokens);
    return FUR_OK;
}

/* Seconds of a layer's maps for one token, in flops of dense products. */
static double map_work(const fur_model *model)
{
    double sum = 0;
    for (int i = 0; i < FUR_LAYER_MAPS; i++) {
        const fur_map_offsets *map = fur_layer_map(&model->table.layers[0], i);
        fur_projection p = fur_map_at(map, NULL);
        sum += map->in ? p.kind->slowness * p.kind->flops(&p) : 0;
    }
    return sum;
}

void fur_run_begin_work(fur_run *run, int training)
{
    run->map_work = map_work(run->model);
    double forward = 0, backward = 0, layers = (double)run->model->config.layers, again = 0;
    for (int64_t first = 0; first < run->tokens; first += run->shape.superblock) {
        forward += block_work(run, first, fur_superblock_rows(run, first), (fur_work){0, 1, 1});
        backward += block_work(run, first, fur_superblock_rows(run, first), (fur_work){1, 1, 1});
    }
    if (training)
        again = (double)fur_store_layers_again(run->memory.inputs.layers, run->memory.inputs.segment);
    run->work_done = 0;
    run->work_total = (layers + again) * forward + (training ? layers * backward : 0);
}
