/* SPDX-License-Identifier: Apache-2.0 */
/* The memory of a run, piece by piece: the single source of every size that the plan prints and the run uses. */
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "base/size.h"
#include "model/config.h"
#include "model/head_groups.h"
#include "model/run.h"
#include "op/bias/bias.h"
#include "op/matmul/matmul.h"
#include "op/norm/norm.h"
#include "op/rope/rope.h"

/* All of almost-linear layers but window and sink tokens. */
static void set_far(const fur_model_config *c, fur_attention_shape *shape)
{
    shape->chunk = c->far_chunk;
    shape->far = (fur_far){.heads = c->heads,
                           .kv_heads = c->kv_heads,
                           .head_dim = c->head_dim,
                           .value_dim = c->head_dim,
                           .degree = c->far_degree,
                           .bound = c->far_unbounded ? 0 : (float)c->far_bound,
                           .scale = shape->scale};
    if (c->far_fine_gradient) {
        shape->fine = shape->far;
        shape->fine.degree++;
    }
}

void fur_config_assume_far(const fur_model_config *c, fur_attention_shape *shape)
{
    set_far(c, shape);
    shape->near = fur_min_i64(FUR_FAR_DEFAULT_WINDOW, c->context);
    shape->features.sink_tokens = c->sink_tokens;
}

fur_attention_shape fur_config_attention_shape(const fur_model_config *c, int64_t layer)
{
    fur_attention_shape shape = {.heads = c->heads,
                                 .kv_heads = c->kv_heads,
                                 .head_dim = c->head_dim,
                                 .scale =
                                     (float)(1.0 / sqrt(c->query_scalar > 0 ? c->query_scalar : (double)c->head_dim)),
                                 .causal = c->causal};
    if (fur_config_is_almost_linear(c, layer)) {
        set_far(c, &shape);
        shape.near = fur_min_i64(c->window[layer], c->context);
        shape.features.sink_tokens = c->sink_tokens;
        shape.hold_all = c->far_max_error > 0;
    } else if (c->window[layer] < c->context) {
        shape.features.window = c->window[layer];
        shape.features.sink_tokens = c->sink_tokens;
    }
    shape.features.softcap = (float)c->softcap;
    shape.features.alibi = c->position == FUR_POSITION_ALIBI;
    return shape;
}

bool fur_config_heads_part(const fur_model_config *c, int64_t layer)
{
    fur_attention_shape shape = fur_config_attention_shape(c, layer);
    const fur_attention_kind *kind = fur_attention_kind_at(c->attention[layer]);
    return kind->part && kind->reach(&shape) == INT64_MAX;
}

int64_t fur_run_layer_groups(const fur_model_config *c, const fur_run_shape *shape, int64_t layer)
{
    return shape->key_groups > 0 && fur_config_heads_part(c, layer) ? shape->key_groups : 0;
}

/* What the layer's kind is called with: all heads, or one group of them. */
static fur_attention_shape shape_in_work(const fur_exec *exec, const fur_model_config *c, const fur_run_shape *shape,
                                         int64_t layer)
{
    fur_attention_shape all = fur_config_attention_shape(c, layer), group;
    int64_t groups = fur_run_layer_groups(c, shape, layer);
    all.compute = exec->compute;
    if (groups == 0)
        return all;
    fur_attention_kind_at(c->attention[layer])->part(&all, 0, c->kv_heads / groups, &group);
    return group;
}

fur_rope fur_config_rope(const fur_model_config *c, int64_t layer)
{
    if (c->rope_local[layer])
        return (fur_rope){.theta = c->local_rope_theta};
    fur_rope rope = {.theta = c->rope_theta, .scaling = c->rope_scaling};
    if (rope.scaling.type == FUR_ROPE_DYNAMIC) {
        double factor = c->rope_scaling.factor;
        double longer = (double)c->context / (double)c->rope_scaling.original_context;
        rope.scaling.type = longer > 1 ? FUR_ROPE_NTK : FUR_ROPE_PLAIN;
        rope.scaling.factor = factor * longer - (factor - 1);
    }
    return rope;
}

static void layout_positions(const fur_model_config *c, int64_t rows, fur_arena *arena, fur_scratch *s)
{
    s->position_B = fur_arena_push(arena, rows * (int64_t)sizeof(int64_t));
    if (c->position == FUR_POSITION_LEARNED)
        s->position_id_B = fur_arena_push(arena, rows * (int64_t)sizeof(int32_t));
}

/* Attention output and statistics live in scratch only where the row's are not kept, or kept in parts. */
static void layout_scratch(const fur_model_config *c, const fur_run_shape *shape, int backward, int kept_o, int kept_u,
                           fur_arena *arena, fur_scratch *s)
{
    int64_t rows = fur_min_i64(shape->superblock, shape->tokens), tile = fur_min_i64(shape->token_tile, rows);
    int64_t q = fur_config_query_width(c);
    memset(s, 0, sizeof *s);
    layout_positions(c, rows, arena, s);
    s->h_BC = fur_arena_push_f32(arena, rows * c->width);
    s->q_BQ = fur_arena_push_f32(arena, rows * q);
    if (!kept_o) {
        s->o_BQ = fur_arena_push_f32(arena, rows * q);
        s->lse_BH = fur_arena_push_f32(arena, rows * c->heads);
    }
    if (backward) {
        s->mid_BC = fur_arena_push_f32(arena, rows * c->width);
        s->do_BQ = fur_arena_push_f32(arena, rows * q);
        s->dq_BQ = fur_arena_push_f32(arena, rows * q);
    }
    s->h_tC = fur_arena_push_f32(arena, tile * c->width);
    if (!kept_u)
        s->u_tU = fur_arena_push_f32(arena, tile * fur_config_inner_width(c));
    s->g_tF = fur_arena_push_f32(arena, tile * c->hidden);
    if (backward) {
        s->dg_tF = fur_arena_push_f32(arena, tile * c->hidden);
        s->dh_tC = fur_arena_push_f32(arena, tile * c->width);
        if (c->post_norms)
            s->post_tC = fur_arena_push_f32(arena, tile * c->width);
    }
}

static void layout_loss(const fur_model_config *c, const fur_run_shape *shape, int gradient, fur_arena *arena,
                        fur_loss_scratch *s)
{
    int64_t tile = fur_min_i64(shape->loss_tile, shape->tokens);
    memset(s, 0, sizeof *s);
    s->h_tC = fur_arena_push_f32(arena, tile * c->width);
    if (gradient)
        s->dh_tC = fur_arena_push_f32(arena, tile * c->width);
    int64_t head = fur_config_head_width(c); /* squared errors want whole rows of outputs */
    s->logits_tV = fur_arena_push_f32(arena, tile * (c->features ? head : fur_min_i64(shape->vocabulary_tile, head)));
    s->maximum_t = fur_arena_push_f32(arena, tile);
    s->sum_t = fur_arena_push_f32(arena, tile);
    s->target_logit_t = fur_arena_push_f32(arena, tile);
    s->nll_t = fur_arena_push_f32(arena, tile);
}

/* Most that any operator of the sweep pushes at once. */
static int64_t workspace_bytes(const fur_exec *exec, const fur_model_config *c, const fur_parameter_table *table,
                               const fur_run_shape *shape)
{
    int backward = shape->purpose == FUR_FOR_TRAIN;
    int64_t rows = fur_min_i64(shape->superblock, shape->tokens);
    int64_t loss_rows = fur_min_i64(shape->loss_tile, shape->tokens);
    int64_t bytes = fur_matmul_workspace(exec);
    for (int i = 0; i < FUR_LAYER_MAPS; i++) { /* of all layers the same */
        const fur_map_offsets *map = fur_layer_map(&table->layers[0], i);
        fur_projection p = fur_map_at(map, NULL);
        p.coded_parts = shape->coded;
        if (map->in)
            bytes = fur_max_i64(bytes, p.kind->workspace(exec, &p, rows, backward));
    }
    if (shape->coded) {
        fur_projection head = fur_map_at(&table->head, NULL);
        head.coded_parts = 1;
        bytes = fur_max_i64(bytes, head.kind->workspace(exec, &head, loss_rows, backward));
    }
    if (c->activation == FUR_ACTIVATION_NORM)
        bytes = fur_max_i64(bytes, fur_norm_workspace(exec, rows, c->hidden));
    bytes = fur_max_i64(bytes, fur_norm_workspace(exec, fur_max_i64(rows, loss_rows), c->width));
    bool bias = fur_config_has_bias(c, FUR_BIAS_QKV) || fur_config_has_bias(c, FUR_BIAS_O) ||
                fur_config_has_bias(c, FUR_BIAS_FFN);
    if (bias || c->features) {
        int64_t widest = fur_max_i64(fur_max_i64(fur_config_inner_width(c), c->width), fur_config_query_width(c));
        bytes = fur_max_i64(bytes, fur_bias_workspace(exec, rows, widest));
    }
    if (c->position == FUR_POSITION_ROPE)
        bytes = fur_max_i64(bytes, fur_rope_workspace(exec, rows, c->head_dim));
    if (c->qk_norm)
        bytes = fur_max_i64(bytes, fur_norm_workspace(exec, rows * c->heads, c->head_dim));
    for (int64_t layer = 0; layer < c->layers; layer++) {
        fur_attention_shape attention = shape_in_work(exec, c, shape, layer);
        const fur_attention_kind *kind = fur_attention_kind_at(c->attention[layer]);
        for (int direction = 0; direction <= backward; direction++)
            bytes = fur_max_i64(bytes, kind->workspace(exec, &attention, rows, rows, direction));
    }
    return fur_round_up(bytes, FUR_ARENA_ALIGN) + FUR_ARENA_ALIGN;
}

/* One layer at a time holds a state, the largest one's bytes serve all; in generation every layer keeps its own. */
static int64_t largest_state_bytes(const fur_exec *exec, const fur_model_config *c, const fur_run_shape *shape,
                                   int training)
{
    int64_t bytes = 0;
    for (int64_t layer = 0; layer < c->layers; layer++) {
        fur_attention_shape attention = shape_in_work(exec, c, shape, layer);
        fur_arena counting = fur_arena_counting();
        fur_attention_state unused;
        fur_attention_kind_at(c->attention[layer])
            ->reserve(&attention, shape->tokens, shape->superblock, training, &counting, &unused);
        bytes = fur_max_i64(bytes, counting.used);
    }
    return fur_round_up(bytes, FUR_ARENA_ALIGN) + FUR_ARENA_ALIGN;
}

typedef struct item_reporter {
    fur_layout_item_fn fn;
    void *user;
    fur_arena *arena;
    int64_t last;
} item_reporter;

static void report(item_reporter *r, const char *name)
{
    if (r->fn && r->arena->used > r->last)
        r->fn(r->user, name, r->arena->used - r->last);
    r->last = r->arena->used;
}

/* Forward, loss and backward scratch are never alive together: they share the largest one's bytes. */
static void layout_overlaid_scratch(const fur_model_config *c, const fur_run_shape *shape, fur_arena *arena,
                                    fur_run_memory *m)
{
    int training = shape->purpose == FUR_FOR_TRAIN;
    int64_t start = fur_arena_mark(arena), end = start;
    int kept_o = training && fur_run_keeps_attention(shape) && shape->key_groups == 0;
    layout_scratch(c, shape, 0, kept_o, training && shape->keep_hidden, arena, &m->forward);
    end = fur_max_i64(end, arena->used);
    fur_arena_release(arena, start);
    layout_loss(c, shape, training, arena, &m->loss);
    end = fur_max_i64(end, arena->used);
    fur_arena_release(arena, start);
    if (training) {
        layout_scratch(c, shape, 1, kept_o, shape->keep_hidden, arena, &m->backward);
        end = fur_max_i64(end, arena->used);
        fur_arena_release(arena, start);
    }
    fur_arena_push(arena, end - start);
}

static void layout_row(const fur_model_config *c, int64_t tokens, fur_arena *arena, fur_run_memory *m)
{
    m->row_nll_T = fur_arena_push_f32(arena, tokens);
    m->row_offsets = fur_arena_push(arena, (tokens + 1) * (int64_t)sizeof(int64_t));
    if (c->features) {
        m->row_x_TI = fur_arena_push_f32(arena, tokens * c->features);
        m->row_target_TO = fur_arena_push_f32(arena, tokens * c->outputs);
    } else {
        m->row_ids_T = fur_arena_push(arena, tokens * (int64_t)sizeof(int32_t));
        m->row_targets_T = fur_arena_push(arena, tokens * (int64_t)sizeof(int32_t));
    }
}

bool fur_run_keeps_attention(const fur_run_shape *shape)
{
    return shape->attention == FUR_STORE_MEMORY || shape->attention == FUR_STORE_DISK;
}

static void layout_inputs(const fur_model_config *c, const fur_run_shape *shape, fur_arena *arena, item_reporter *items,
                          fur_run_memory *m)
{
    fur_store_shape inputs = {.place = shape->inputs,
                              .type = shape->stored,
                              .layers = c->layers,
                              .tokens = shape->tokens,
                              .width = c->width,
                              .block = shape->superblock,
                              .segment = shape->inputs == FUR_STORE_AGAIN ? fur_max_i64(1, shape->segment) : 1};
    fur_store_reserve(arena, &inputs, &m->disk_bytes, &m->inputs);
    report(items, shape->inputs == FUR_STORE_DISK    ? "layer inputs (on disk: blocks in work)"
                  : shape->inputs == FUR_STORE_AGAIN ? "layer inputs of a segment and of the first ones"
                                                     : "layer inputs");
}

static void layout_attention(const fur_model_config *c, const fur_run_shape *shape, fur_arena *arena,
                             item_reporter *items, fur_run_memory *m)
{
    fur_store_shape o = {.place = shape->attention,
                         .layers = c->layers,
                         .tokens = shape->tokens,
                         .width = fur_config_query_width(c),
                         .block = shape->superblock,
                         .segment = 1,
                         .parts = shape->key_groups};
    fur_store_shape lse = o;
    lse.width = c->heads;
    fur_store_reserve(arena, &o, &m->disk_bytes, &m->o);
    fur_store_reserve(arena, &lse, &m->disk_bytes, &m->lse);
    report(items, shape->attention == FUR_STORE_DISK ? "attention outputs (on disk: blocks in work)"
                                                     : "kept attention outputs");
}

/* Gradients of tables stand behind the others, or, where each layer's are used up before the next one's begin, in a
 * place of one layer's. */
static void layout_gradients(const fur_parameter_table *table, const fur_run_shape *shape, fur_arena *arena,
                             fur_run_memory *m)
{
    int64_t elements = shape->row_updates ? table->most_table_elements : table->table_elements;
    int64_t rows = shape->row_updates ? table->most_table_rows : table->table_rows;
    m->gradient = fur_arena_push_f32(arena, table->first_table - table->first_trained + elements);
    if (rows == 0)
        return;
    m->table_gradient = m->gradient ? m->gradient + table->first_table : NULL;
    m->touched_R = fur_arena_push(arena, rows);
    if (shape->row_updates)
        m->square_R = fur_arena_push_f32(arena, rows), m->even_O = fur_arena_push_f32(arena, table->most_table_columns);
}

static void layout_row_moments(const fur_parameter_table *table, const fur_run_shape *shape, fur_arena *arena,
                               fur_row_moments *out)
{
    if (!shape->row_updates || table->table_rows == 0)
        return;
    if (shape->row_adam) {
        out->m = fur_arena_push_f32(arena, table->table_elements);
        out->v = fur_arena_push_f32(arena, table->table_elements);
        return;
    }
    out->m_bf16 = fur_arena_push(arena, table->table_elements * (int64_t)sizeof *out->m_bf16);
    out->v_R = fur_arena_push_f32(arena, table->table_rows);
    out->step_R = fur_arena_push(arena, table->table_rows * (int64_t)sizeof *out->step_R);
}

bool fur_run_shape_is_sane(const fur_model_config *c, const fur_parameter_table *table, const fur_run_shape *shape)
{
    double T = (double)shape->tokens, rows = fmin((double)shape->superblock, T);
    double widest = (double)c->width + (double)fur_config_query_width(c) + (double)fur_config_key_width(c) +
                    (double)fur_config_inner_width(c) + (double)c->hidden + (double)c->heads + (double)c->features +
                    (double)fur_config_head_width(c) + 8;
    double of_row = T * (double)(c->layers + 2) * 8 * widest, of_block = rows * 64 * widest;
    if (fur_config_has_far(c)) /* a sum before each block, and its gradient */
        of_row += (T / rows + 3) * (double)fur_far_state_floats(c->kv_heads, c->head_dim, c->head_dim, c->far_degree);
    if (fur_config_has_far(c) && c->far_fine_gradient)
        of_row +=
            (T / rows + 3) * (double)fur_far_state_floats(c->kv_heads, c->head_dim, c->head_dim, c->far_degree + 1);
    return shape->tokens > 0 && shape->superblock > 0 && shape->token_tile > 0 && shape->loss_tile > 0 &&
           shape->vocabulary_tile > 0 &&
           (of_row + of_block + 3 * (double)(table->elements + table->table_elements)) * (double)sizeof(float) <
               (double)FUR_RUN_MOST_BYTES;
}

void fur_run_layout(const fur_exec *exec, const fur_model_config *c, const fur_parameter_table *table,
                    const fur_run_shape *shape, fur_arena *arena, fur_layout_item_fn on_item, void *user,
                    fur_run_memory *m)
{
    int training = shape->purpose == FUR_FOR_TRAIN;
    int64_t T = shape->tokens;
    item_reporter items = {on_item, user, arena, arena->used};
    memset(m, 0, sizeof *m);
    if (training) {
        layout_gradients(table, shape, arena, m);
        report(&items, "gradients");
    }
    if (shape->optimizer) {
        fur_moments_reserve(arena, shape->moments, fur_trained_elements(table), &m->disk_bytes, &m->moments);
        report(&items, shape->moments == FUR_STORE_DISK ? "optimizer state (on disk: parts in work)"
                                                        : "optimizer state (Adam m, v)");
        layout_row_moments(table, shape, arena, &m->row_moments);
        report(&items,
               shape->row_adam ? "optimizer state of tables (m, v)" : "optimizer state of tables (bf16 m, a v a row)");
    }
    if (shape->purpose != FUR_FOR_GENERATE)
        layout_row(c, T, arena, m);
    report(&items, "row of tokens");
    int64_t x_rows = shape->purpose == FUR_FOR_GENERATE ? fur_min_i64(shape->superblock, T) : T;
    m->x_TC = fur_arena_push_f32(arena, x_rows * c->width);
    report(&items, training ? "hidden state (becomes its gradient)" : "hidden state");
    if (training)
        layout_inputs(c, shape, arena, &items, m);
    m->state_bytes = largest_state_bytes(exec, c, shape, training);
    int64_t states = shape->purpose == FUR_FOR_GENERATE ? c->layers : 1;
    unsigned char *state = fur_arena_push(arena, states * m->state_bytes);
    m->state_region = (fur_arena){.base = state, .capacity = states * m->state_bytes};
    report(&items, shape->key_groups > 0 ? "keys, values, gradients of a group of heads"
                   : training            ? "keys, values and their gradients"
                                         : "keys and values");
    if (shape->key_groups > 0) {
        fur_head_groups_reserve(c, shape, arena, &m->disk_bytes, &m->groups);
        report(&items, "other heads' rows (on disk: blocks in work)");
    }
    if (training && fur_run_keeps_attention(shape))
        layout_attention(c, shape, arena, &items, m);
    if (training && shape->keep_hidden) {
        m->kept_u_LTU = fur_arena_push_f32(arena, c->layers * T * fur_config_inner_width(c));
        report(&items, "kept feedforward inner values");
    }
    layout_overlaid_scratch(c, shape, arena, m);
    report(&items, "blocks in work");
    if (training && fur_head_errors_apply(c, shape->error_rows)) {
        fur_head_errors_reserve(c, shape->error_rows, fur_min_i64(shape->superblock, T), arena, &m->errors);
        report(&items, "samples of attention's error");
    }
    int64_t bytes = workspace_bytes(exec, c, table, shape);
    unsigned char *base = fur_arena_push(arena, bytes);
    m->workspace = (fur_arena){.base = base, .capacity = bytes};
    report(&items, "workspace of the operators");
}
