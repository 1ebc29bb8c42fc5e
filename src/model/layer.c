/* SPDX-License-Identifier: Apache-2.0 */
#include "model/layer.h"

#include <math.h>

#include "op/activation/activation.h"
#include "op/norm/norm.h"
#include "op/rope/rope.h"

fur_layer fur_layer_begin(fur_run *run, int64_t index, int backward)
{
    const fur_model_config *c = &run->model->config;
    fur_layer layer = {.index = index,
                       .at = &run->model->table.layers[index],
                       .kind = fur_attention_kind_at(c->attention[index]),
                       .shape = fur_config_attention_shape(c)};
    layer.shape.compute = run->exec.compute;
    fur_arena_release(&run->memory.state_region,
                      run->shape.purpose == FUR_FOR_GENERATE ? index * run->memory.state_bytes : 0);
    layer.kind->reserve(&layer.shape, run->shape.tokens, backward, &run->memory.state_region, &layer.state);
    return layer;
}

fur_status fur_norm_rows(const fur_exec *exec, const fur_model *model, int64_t w, int64_t b, int64_t tokens,
                         const float *x_TC, float *y_TC)
{
    const fur_model_config *c = &model->config;
    return fur_norm_forward(exec, c->norm == FUR_NORM_RMSNORM, tokens, c->width, (float)c->norm_eps, x_TC,
                            model->data + w, b < 0 ? NULL : model->data + b, y_TC, NULL);
}

fur_status fur_norm_rows_backward(const fur_exec *exec, const fur_model *model, int64_t w, int64_t b, int64_t tokens,
                                  const float *x_TC, const float *dy_TC, float *dx_TC, int add)
{
    const fur_model_config *c = &model->config;
    return fur_norm_backward(exec, c->norm == FUR_NORM_RMSNORM, tokens, c->width, (float)c->norm_eps, x_TC,
                             model->data + w, NULL, dy_TC, dx_TC, add, model->gradient + w,
                             b < 0 ? NULL : model->gradient + b);
}

fur_status fur_map_forward(const fur_run *run, const fur_map_offsets *map, int64_t tokens, const float *x_TI, int add,
                           float *y_TO)
{
    fur_projection p = fur_map_at(map, run->model->data);
    fur_projection_input input;
    FUR_TRY(p.kind->prepare(&run->exec, &p, tokens, x_TI, p.in, &input));
    return p.kind->forward(&run->exec, &p, &input, add, y_TO, p.out);
}

fur_status fur_map_backward(fur_run *run, const fur_map_offsets *map, int64_t tokens, const float *x_TI,
                            const float *dy_TO, int add, float *dx_TI)
{
    fur_projection p = fur_map_at(map, run->model->data);
    fur_gradient_sink sink = fur_sink_at(map, run->model->gradient);
    fur_projection_input input;
    FUR_TRY(p.kind->prepare(&run->exec, &p, tokens, x_TI, p.in, &input));
    return p.kind->backward(&run->exec, &p, &input, dy_TO, p.out, add, dx_TI, p.in, &sink);
}

/* Rotates q or k rows in place; nothing with learned positions. Positions are those of fur_row_positions. */
static fur_status rotate(const fur_run *run, const fur_scratch *s, int64_t count, int64_t heads, int inverse, float *x)
{
    const fur_model_config *c = &run->model->config;
    if (c->position != FUR_POSITION_ROPE)
        return FUR_OK;
    return fur_rope_apply(&run->exec, count, heads, c->head_dim, c->rope_theta, s->position_B, inverse, x,
                          heads * c->head_dim);
}

fur_status fur_layer_rotate_back(const fur_run *run, const fur_scratch *s, int64_t count, int64_t heads, float *x)
{
    return rotate(run, s, count, heads, 1, x);
}

fur_status fur_layer_absorb(fur_run *run, fur_layer *layer, const fur_scratch *s, int64_t first, int64_t count,
                            const float *x_TC)
{
    FUR_TRY(fur_norm_rows(&run->exec, run->model, layer->at->norm1_w, layer->at->norm1_b, count, x_TC, s->h_BC));
    fur_row_positions(run, s, first, count);
    float *k = s->q_BQ, *v = s->o_BQ;
    layer->kind->key_rows(&layer->shape, &layer->state, first, &k, &v);
    FUR_TRY(fur_map_forward(run, &layer->at->k, count, s->h_BC, 0, k));
    FUR_TRY(fur_map_forward(run, &layer->at->v, count, s->h_BC, 0, v));
    FUR_TRY(rotate(run, s, count, layer->shape.kv_heads, 0, k));
    return layer->kind->absorb(&run->exec, &layer->shape, &layer->state, &run->documents, first, count, k, v);
}

fur_status fur_layer_query(fur_run *run, const fur_layer *layer, const fur_scratch *s, int64_t first, int64_t count,
                           float *o_TQ, float *lse_TH, int attention_is_kept)
{
    FUR_TRY(fur_map_forward(run, &layer->at->q, count, s->h_BC, 0, s->q_BQ));
    FUR_TRY(rotate(run, s, count, layer->shape.heads, 0, s->q_BQ));
    if (attention_is_kept)
        return FUR_OK;
    return layer->kind->query(&run->exec, &layer->shape, &layer->state, &run->documents, first, count, s->q_BQ, o_TQ,
                              lse_TH);
}

fur_status fur_layer_activate(const fur_run *run, int64_t tokens, const float *u_TU, float *g_TF)
{
    const fur_model_config *c = &run->model->config;
    if (c->activation == FUR_ACTIVATION_SWIGLU)
        return fur_swiglu_forward(&run->exec, tokens, c->hidden, u_TU, u_TU + c->hidden, 2 * c->hidden, g_TF);
    return fur_gelu_forward(&run->exec, tokens * c->hidden, u_TU, g_TF);
}

float *fur_layer_o(const fur_run *run, const fur_layer *layer, const fur_scratch *s, int64_t first)
{
    const fur_run_memory *m = &run->memory;
    if (!m->kept_o_LTQ)
        return s->o_BQ;
    return m->kept_o_LTQ + (layer->index * run->shape.tokens + first) * fur_config_query_width(&run->model->config);
}

float *fur_layer_lse(const fur_run *run, const fur_layer *layer, const fur_scratch *s, int64_t first)
{
    const fur_run_memory *m = &run->memory;
    if (!m->kept_lse_LTH)
        return s->lse_BH;
    return m->kept_lse_LTH + (layer->index * run->shape.tokens + first) * run->model->config.heads;
}

float *fur_layer_u(const fur_run *run, const fur_layer *layer, const fur_scratch *s, int64_t first)
{
    const fur_run_memory *m = &run->memory;
    if (!m->kept_u_LTU)
        return s->u_tU;
    return m->kept_u_LTU + (layer->index * run->shape.tokens + first) * fur_config_inner_width(&run->model->config);
}

/* Flops of a superblock of one layer: maps, and the keys its rows see. Backward counts what is recomputed too. */
static double block_work(const fur_run *run, int64_t first, int64_t count, int backward)
{
    const fur_model_config *c = &run->model->config;
    double q = (double)fur_config_query_width(c), k = (double)fur_config_key_width(c);
    double maps = 2 * (double)c->width * (2 * q + 2 * k + (double)fur_config_inner_width(c) + (double)c->hidden);
    double keys = c->causal ? (double)first + 0.5 * (double)count : (double)run->tokens;
    double seen = run->documents.count > 1 ? (double)run->tokens / (double)run->documents.count : keys;
    double attention = 4 * q * (seen < keys ? seen : keys);
    return (double)count * (backward ? 2.7 * maps + 3.5 * attention : maps + attention);
}

fur_status fur_run_advance(fur_run *run, int64_t first, int64_t count, int backward)
{
    run->work_done += block_work(run, first, count, backward);
    if (run->on_progress && run->work_total > 0)
        run->on_progress(run->progress_user, fmin(1.0, run->work_done / run->work_total));
    if (atomic_load(&run->context->stop))
        return fur_error_set(run->exec.error, FUR_E_INTERRUPTED, "stopped inside a row of %lld tokens",
                             (long long)run->tokens);
    return FUR_OK;
}

void fur_run_begin_work(fur_run *run, int training)
{
    double total = 0;
    for (int64_t first = 0; first < run->tokens; first += run->shape.superblock)
        for (int backward = 0; backward <= training; backward++)
            total += block_work(run, first, fur_superblock_rows(run, first), backward);
    run->work_done = 0;
    run->work_total = total * (double)run->model->config.layers;
}
