/* SPDX-License-Identifier: Apache-2.0 */
/* A loaded model with another view of its tokens: what no weight depends on may change. Where that makes it a model of
 * another family, weights move to that family's places. */
#include <string.h>

#include "model/coded.h"
#include "model/config.h"
#include "model/run.h"

typedef struct move {
    const fur_model *model;
    const float *from;
    float *to;
} move;

/* What either has not is not moved. */
static void move_part(const move *m, int64_t from, int64_t to, int64_t count)
{
    if (from >= 0 && to >= 0)
        memcpy(m->to + to, m->from + from, (size_t)count * sizeof(float));
}

static void move_map(const move *m, const fur_map_offsets *from, const fur_map_offsets *to)
{
    if (from->in == 0)
        return;
    fur_projection shape = fur_map_at(from, NULL);
    int64_t first = 0;
    fur_coded_map(m->model, from, &shape);
    for (int i = 0; i < shape.coded_parts; first += shape.coded[i++].count)
        fur_coded_read(&shape.coded[i], shape.in, 0, shape.coded[i].count, m->to + to->weight + first * shape.in);
    if (shape.coded_parts == 0)
        move_part(m, from->weight, to->weight, shape.kind->weight_elements(&shape));
    move_part(m, from->bias, to->bias, from->out);
    for (int i = 0; i < from->adapters && i < to->adapters; i++) {
        move_part(m, from->adapter[i].a, to->adapter[i].a, from->rank * from->in);
        move_part(m, from->adapter[i].b, to->adapter[i].b, from->adapter[i].count * from->rank);
    }
}

static void move_layer(const move *m, const fur_model_config *c, const fur_layer_offsets *from,
                       const fur_layer_offsets *to)
{
    move_part(m, from->norm1_w, to->norm1_w, c->width);
    move_part(m, from->norm1_b, to->norm1_b, c->width);
    move_part(m, from->norm2_w, to->norm2_w, c->width);
    move_part(m, from->norm2_b, to->norm2_b, c->width);
    move_part(m, from->post1_w, to->post1_w, c->width);
    move_part(m, from->post1_b, to->post1_b, c->width);
    move_part(m, from->post2_w, to->post2_w, c->width);
    move_part(m, from->post2_b, to->post2_b, c->width);
    move_part(m, from->q_norm_w, to->q_norm_w, c->head_dim);
    move_part(m, from->k_norm_w, to->k_norm_w, c->head_dim);
    move_part(m, from->sinks, to->sinks, c->heads);
    move_part(m, from->inner_norm_w, to->inner_norm_w, c->hidden);
    move_part(m, from->inner_norm_b, to->inner_norm_b, c->hidden);
    move_part(m, from->far_query_mean, to->far_query_mean, c->kv_heads * c->head_dim);
    move_part(m, from->far_key_mean, to->far_key_mean, c->kv_heads * c->head_dim);
    move_part(m, from->far_coefficients, to->far_coefficients, c->kv_heads * (c->far_degree + 1));
    move_part(m, from->far_fitted, to->far_fitted, c->kv_heads * 2);
    move_part(m, from->far_exact, to->far_exact, c->kv_heads);
    move_part(m, from->far_fine, to->far_fine, c->kv_heads * (c->far_degree + 2));
    move_part(m, from->far_bias, to->far_bias, c->heads);
    move_map(m, &from->q, &to->q);
    move_map(m, &from->k, &to->k);
    move_map(m, &from->v, &to->v);
    move_map(m, &from->o, &to->o);
    move_map(m, &from->up, &to->up);
    move_map(m, &from->down, &to->down);
}

/* As a map without a bias. */
static fur_map_offsets embedding_of(const fur_model_config *c, const fur_parameter_table *table)
{
    return (fur_map_offsets){
        .in = c->width, .out = c->vocabulary, .weight = table->embedding, .bias = -1, .kind = &fur_projection_dense};
}

void fur_model_move(const fur_model *from, fur_model *to)
{
    const fur_model_config *c = &from->config;
    const fur_parameter_table *a = &from->table, *b = &to->table;
    move m = {from, from->data, to->data};
    if (a->embedding >= 0) {
        fur_map_offsets before = embedding_of(c, a), after = embedding_of(c, b);
        move_map(&m, &before, &after);
    }
    move_part(&m, a->positions, b->positions, c->context * c->width);
    move_map(&m, &a->input, &b->input);
    for (int64_t layer = 0; layer < c->layers; layer++)
        move_layer(&m, c, &a->layers[layer], &b->layers[layer]);
    move_part(&m, a->final_norm_w, b->final_norm_w, c->width);
    move_part(&m, a->final_norm_b, b->final_norm_b, c->width);
    move_map(&m, &a->head, &b->head);
}

fur_status fur_model_reshape(fur_context *context, const fur_model_config *wanted, fur_model **model)
{
    fur_model *old = *model, *other;
    fur_model_config c = old->config;
    memcpy(c.window, wanted->window, sizeof c.window);
    c.sink_tokens = wanted->sink_tokens;
    c.rope_scaling = wanted->rope_scaling;
    if (!fur_rope_scaling_same(&c.rope_scaling, &old->config.rope_scaling))
        c.family[0] = 0; /* its file did not say that */
    c.softcap = wanted->softcap;
    c.dropout = wanted->dropout;
    c.embedding_dropout = wanted->embedding_dropout;
    c.attention_dropout = wanted->attention_dropout;
    if (c.position != FUR_POSITION_LEARNED)
        c.context = wanted->context;
    c.far_max_error = wanted->far_max_error;
    if (c.projection_qkvo != wanted->projection_qkvo || c.projection_ffn != wanted->projection_ffn)
        return fur_error_set(&context->error, FUR_E_ARGUMENT, "a model keeps the kinds of maps it was made with");
    if (memcmp(c.attention, wanted->attention, (size_t)c.layers) != 0)
        return fur_error_set(&context->error, FUR_E_ARGUMENT, "a model keeps the kinds of attention it was made with");
    if (old->gradient)
        return fur_error_set(&context->error, FUR_E_BUSY, "a run holds this model's gradients");
    FUR_TRY(fur_config_check(context, &c));
    bool same_tensors = (c.far_max_error > 0) == (old->config.far_max_error > 0);
    if (same_tensors && strcmp(fur_config_family(&c), fur_config_family(&old->config)) == 0) {
        old->config = c;
        return FUR_OK;
    }
    if (old->rows)
        return fur_error_set(&context->error, FUR_E_UNSUPPORTED,
                             "a model whose tables are mapped from a file keeps its tensors");
    FUR_TRY(fur_model_allocate(context, &c, &other));
    fur_model_move(old, other);
    other->base = old->base;
    old->base = NULL;
    fur_model_destroy(old);
    *model = other;
    return FUR_OK;
}
