/* SPDX-License-Identifier: Apache-2.0 */
/* The backward sweep, in place: x [T, C] enters a layer as dy and leaves it as dx.
 *
 * Blocks run last to first. In causal order every query that sees the keys of block i has been done once block i itself
 * is: dk_i, dv_i are complete, norm1's backward can run, and dx_i takes dy_i's place in the same buffer. One sweep, no
 * dq for the whole row, no atomics. Keys and values are computed again before: all of them, or, where a block's queries
 * see only so many rows behind it, each block just before the first queries that see it. Bidirectional rows gather all
 * of dk, dv first and add norm1's part afterwards, which is exact because a norm's backward is linear in its gradient.
 * Where heads come in groups, the one sweep is cut before and after attention (head_groups.h).
 * Derivation: docs/ARCHITECTURE.md, "The one-sweep backward". */
#include <string.h>

#include "base/size.h"
#include "model/head_groups.h"
#include "model/layer.h"
#include "op/activation/activation.h"
#include "op/norm/norm.h"

/* d(inner) from dg, in place over u; of a norm over dg. *out: where it is. */
static fur_status activate_backward(const fur_run *run, const fur_layer *layer, int64_t tokens, float *u_TU,
                                    float *dg_TF, const float **out)
{
    const fur_model_config *c = &run->model->config;
    const fur_model *model = run->model;
    *out = u_TU;
    if (c->activation == FUR_ACTIVATION_NORM) {
        *out = dg_TF;
        return fur_norm_backward(&run->exec, 0, tokens, c->hidden, (float)c->norm_eps, u_TU,
                                 model->data + layer->at->inner_norm_w, NULL, dg_TF, dg_TF, 0,
                                 fur_model_gradient(model, layer->at->inner_norm_w),
                                 fur_model_gradient(model, layer->at->inner_norm_b));
    }
    if (c->activation == FUR_ACTIVATION_GEGLU)
        return fur_geglu_backward(&run->exec, tokens, c->hidden, u_TU, u_TU + c->hidden, 2 * c->hidden, dg_TF, u_TU,
                                  u_TU + c->hidden, 2 * c->hidden, NULL);
    if (c->activation == FUR_ACTIVATION_SWIGLU)
        return fur_swiglu_backward(&run->exec, tokens, c->hidden, u_TU, u_TU + c->hidden, 2 * c->hidden, dg_TF, u_TU,
                                   u_TU + c->hidden, 2 * c->hidden, NULL);
    return fur_gelu_backward(&run->exec, tokens * c->hidden, u_TU, dg_TF, u_TU, NULL);
}

/* The gradient by what `map` makes of `in` before dropout and norm: dy itself without these, else in `spare`. */
static fur_status added_backward(fur_run *run, const fur_layer *layer, const fur_map_offsets *map, fur_drop_place place,
                                 int64_t first, int64_t count, const float *in, const float *dy_BC, float *spare_BC,
                                 const float **out)
{
    *out = dy_BC;
    if (!(fur_run_drop_rate(run, place) > 0) && !fur_layer_has_post_norm(layer))
        return FUR_OK;
    memcpy(spare_BC, dy_BC, (size_t)(count * run->model->config.width) * sizeof(float));
    *out = spare_BC;
    FUR_TRY(fur_run_drop(run, layer->index, place, first, count, spare_BC));
    return fur_layer_post_norm_back(run, layer, map, place, &run->memory.backward, count, in, spare_BC);
}

/* dy of rows becomes d(mid) = dy + gradient through the feedforward. mid is the input of norm2. */
static fur_status feedforward_backward(fur_run *run, const fur_layer *layer, const fur_scratch *s, int64_t first,
                                       int64_t count, const float *mid_BC, float *dy_BC)
{
    int64_t width = run->model->config.width;
    int kept = run->memory.kept_u_LTU != NULL;
    for (int64_t t = 0; t < count; t += run->shape.token_tile) {
        int64_t tokens = fur_min_i64(run->shape.token_tile, count - t);
        const float *mid = mid_BC + t * width;
        float *dy = dy_BC + t * width, *u = fur_layer_u(run, layer, s, first + t);
        FUR_TRY(fur_norm_rows(&run->exec, run->model, layer->at->norm2_w, layer->at->norm2_b, tokens, mid, s->h_tC));
        if (!kept)
            FUR_TRY(fur_map_forward(run, &layer->at->up, tokens, s->h_tC, 0, u));
        FUR_TRY(fur_layer_activate(run, layer, tokens, u, s->g_tF));
        const float *added, *du;
        FUR_TRY(added_backward(run, layer, &layer->at->down, FUR_DROP_FEEDFORWARD, first + t, tokens, s->g_tF, dy,
                               s->dh_tC, &added));
        FUR_TRY(fur_map_backward(run, &layer->at->down, tokens, s->g_tF, added, 0, s->dg_tF));
        FUR_TRY(activate_backward(run, layer, tokens, u, s->dg_tF, &du));
        FUR_TRY(fur_map_backward(run, &layer->at->up, tokens, s->h_tC, du, 0, s->dh_tC));
        FUR_TRY(fur_norm_rows_backward(&run->exec, run->model, layer->at->norm2_w, layer->at->norm2_b, tokens, mid,
                                       s->dh_tC, dy, 1));
    }
    return FUR_OK;
}

static int64_t last_block(const fur_run *run)
{
    return (run->tokens - 1) / run->shape.superblock * run->shape.superblock;
}

/* dk and dv of rows, where they are complete: in the state, or as groups of heads left them. */
static fur_status key_gradients(fur_run *run, fur_layer *layer, const fur_scratch *s, int64_t first, int64_t count,
                                float **dk, float **dv)
{
    fur_head_groups *groups = &run->memory.groups;
    int64_t next = first > 0 ? first - run->shape.superblock : -1;
    if (layer->groups == 0)
        return layer->kind->key_gradients(&run->exec, &layer->shape, &layer->state, first, count, dk, dv);
    *dk = s->q_BQ;
    *dv = s->o_BQ;
    FUR_TRY(fur_head_groups_get(run, &groups->k, first, count, next, *dk));
    return fur_head_groups_get(run, &groups->v, first, count, next, *dv);
}

/* dh (+)= gradient by h through the k and v maps of rows whose dk, dv are complete. */
static fur_status keys_backward(fur_run *run, fur_layer *layer, const fur_scratch *s, int64_t first, int64_t count,
                                int add, float *dh_BC)
{
    float *dk, *dv;
    FUR_TRY(key_gradients(run, layer, s, first, count, &dk, &dv));
    fur_head_errors_gradients(run, layer, first, count, dk, dv);
    FUR_TRY(fur_layer_rotate_back(run, s, count, layer->shape.kv_heads, dk));
    if (run->observer) {
        fur_observed_keys seen = {layer->index, first, count, dk, dv};
        FUR_TRY(run->observer->keys(run->observer->user, &seen));
    }
    FUR_TRY(fur_layer_norm_back(run, layer->at->k_norm_w, &layer->at->k, s, count, layer->shape.kv_heads, dk));
    return fur_maps_backward(run, 2, (const fur_map_offsets *const[]){&layer->at->k, &layer->at->v}, count, s->h_BC,
                             (const float *const[]){dk, dv}, add, dh_BC);
}

/* A block of some layer's input; layer -1: none. */
typedef struct input_block {
    int64_t layer, first;
} input_block;

/* The layer's input of rows first..; the block `next` will be asked for next. */
static fur_status get_input(fur_run *run, int64_t layer, int64_t first, int64_t count, input_block next,
                            const float **x_BC)
{
    FUR_TRY(fur_store_get(&run->exec, &run->memory.inputs, layer, first, count, x_BC));
    fur_store_ahead(&run->memory.inputs, next.layer, next.first, fur_superblock_rows(run, next.first));
    return FUR_OK;
}

/* What backward of the layer below begins with. */
static input_block below(const fur_run *run, int64_t layer)
{
    const fur_model_config *c = &run->model->config;
    if (layer == 0)
        return (input_block){-1, 0};
    fur_attention_shape shape = fur_config_attention_shape(c, layer - 1);
    const fur_attention_kind *kind = fur_attention_kind_at(c->attention[layer - 1]);
    return (input_block){layer - 1, kind->rebuild || kind->reach(&shape) == INT64_MAX ? 0 : last_block(run)};
}

/* First row of the lowest block that queries of the block at `first` may see. */
static int64_t lowest_seen(const fur_run *run, int64_t reach, int64_t first)
{
    int64_t step = run->shape.superblock;
    return reach < first ? (first - reach) / step * step : 0;
}

/* What the descending sweep reads after the queries of the block at `first`; blocks from row `absorbed` on are
 * absorbed.
 */
static input_block after_queries(const fur_run *run, const fur_layer *layer, int64_t reach, int64_t first,
                                 int64_t absorbed, int keys_ready)
{
    int64_t step = run->shape.superblock;
    if (first == 0)
        return keys_ready ? below(run, layer->index) : (input_block){layer->index, last_block(run)};
    int absorbs = lowest_seen(run, reach, first - step) < absorbed;
    return (input_block){layer->index, absorbs ? absorbed - step : first - step};
}

/* Keys and values of a block again. */
static fur_status absorb_rows(fur_run *run, fur_layer *layer, int64_t first, int64_t next)
{
    int64_t count = fur_superblock_rows(run, first);
    const float *x;
    FUR_TRY(get_input(run, layer->index, first, count, (input_block){layer->index, next}, &x));
    return fur_layer_absorb(run, layer, &run->memory.backward, first, count, x);
}

/* And zero gradients of them. */
static fur_status absorb_again(fur_run *run, fur_layer *layer, int64_t first, int64_t next)
{
    FUR_TRY(absorb_rows(run, layer, first, next));
    layer->kind->begin_backward(&run->exec, &layer->shape, &layer->state, first, fur_superblock_rows(run, first));
    return FUR_OK;
}

/* Sums over keys, where the kind has them: in the state that holds all rows, or in one that holds those in sight, which
 * sees every block pass. */
static fur_status rebuild(fur_run *run, fur_layer *layer, int absorb)
{
    int64_t step = run->shape.superblock, last = last_block(run);
    for (int64_t first = 0; layer->kind->rebuild && first <= last; first += step) {
        if (absorb) {
            FUR_TRY(absorb_rows(run, layer, first, first < last ? first + step : first));
            fur_head_errors_keys(run, layer, first, fur_superblock_rows(run, first));
        }
        FUR_TRY(layer->kind->rebuild(&run->exec, &layer->shape, &layer->state, &run->documents, first,
                                     fur_superblock_rows(run, first)));
    }
    return FUR_OK;
}

/* What forward kept of attention, or q, o and lse computed again. */
static fur_status attention_again(fur_run *run, const fur_layer *layer, int64_t first, int64_t count, const float **o,
                                  const float **lse)
{
    const fur_scratch *s = &run->memory.backward;
    int64_t next = first > 0 ? first - run->shape.superblock : -1;
    int kept = fur_layer_attention_is_kept(run);
    *o = s->o_BQ;
    *lse = s->lse_BH;
    FUR_TRY(fur_layer_query(run, layer, s, first, count, kept ? NULL : s->o_BQ, s->lse_BH));
    return kept ? fur_layer_attention_get(run, layer, s, first, count, next, o, lse) : FUR_OK;
}

/* A block on its way back: its layer's input and attention. */
typedef struct back_block {
    int64_t first, count;
    const float *x_BC, *o_BQ, *lse_BH;
} back_block;

/* From dy to the gradient by attention's output, in do_BQ; dy becomes d(mid). */
static fur_status output_backward(fur_run *run, fur_layer *layer, const back_block *b)
{
    const fur_scratch *s = &run->memory.backward;
    const fur_model_config *c = &run->model->config;
    float *dy = run->memory.x_TC + b->first * c->width;
    FUR_TRY(fur_layer_middle(run, layer, b->first, b->count, b->o_BQ, b->x_BC, NULL, s->mid_BC));
    FUR_TRY(feedforward_backward(run, layer, s, b->first, b->count, s->mid_BC, dy));

    const float *added; /* mid is done */
    FUR_TRY(added_backward(run, layer, &layer->at->o, FUR_DROP_ATTENTION, b->first, b->count, b->o_BQ, dy, s->mid_BC,
                           &added));
    if (layer->at->o.in != 0)
        return fur_map_backward(run, &layer->at->o, b->count, b->o_BQ, added, 0, s->do_BQ);
    memcpy(s->do_BQ, added, (size_t)(b->count * c->width) * sizeof(float)); /* widths are equal */
    return FUR_OK;
}

/* From the gradient by rotated queries, in dq_BQ, and by keys where these are ready, to dx. h_BC and positions are the
 * block's. */
static fur_status input_backward(fur_run *run, fur_layer *layer, const back_block *b, int keys_ready)
{
    const fur_scratch *s = &run->memory.backward;
    FUR_TRY(fur_layer_rotate_back(run, s, b->count, layer->shape.heads, s->dq_BQ));
    if (run->observer) {
        fur_observed_queries seen = {layer->index, b->first, b->count, b->x_BC, b->o_BQ, b->lse_BH, s->dq_BQ};
        FUR_TRY(run->observer->queries(run->observer->user, &seen));
    }
    FUR_TRY(fur_layer_norm_back(run, layer->at->q_norm_w, &layer->at->q, s, b->count, layer->shape.heads, s->dq_BQ));
    float *dh = s->mid_BC;
    FUR_TRY(fur_map_backward(run, &layer->at->q, b->count, s->h_BC, s->dq_BQ, 0, dh));
    if (keys_ready)
        FUR_TRY(keys_backward(run, layer, s, b->first, b->count, 1, dh));
    return fur_norm_rows_backward(&run->exec, run->model, layer->at->norm1_w, layer->at->norm1_b, b->count, b->x_BC, dh,
                                  run->memory.x_TC + b->first * run->model->config.width, 1);
}

/* The layer's input of a block, norm1 of it in h_BC, and positions; the block `next` will be asked for next. */
static fur_status begin_block(fur_run *run, const fur_layer *layer, int64_t first, input_block next, back_block *out)
{
    const fur_scratch *s = &run->memory.backward;
    *out = (back_block){.first = first, .count = fur_superblock_rows(run, first)};
    FUR_TRY(get_input(run, layer->index, first, out->count, next, &out->x_BC));
    FUR_TRY(
        fur_norm_rows(&run->exec, run->model, layer->at->norm1_w, layer->at->norm1_b, out->count, out->x_BC, s->h_BC));
    fur_row_positions(run, s, first, out->count);
    return FUR_OK;
}

static fur_status query_block_backward(fur_run *run, fur_layer *layer, int64_t first, int keys_ready, input_block next)
{
    const fur_scratch *s = &run->memory.backward;
    back_block b;
    FUR_TRY(begin_block(run, layer, first, next, &b));
    FUR_TRY(attention_again(run, layer, first, b.count, &b.o_BQ, &b.lse_BH));
    FUR_TRY(output_backward(run, layer, &b));
    FUR_TRY(layer->kind->query_backward(&run->exec, &layer->shape, &layer->state, &run->documents, first, b.count,
                                        s->q_BQ, b.o_BQ, b.lse_BH, s->do_BQ, s->dq_BQ));
    fur_head_errors_queries(run, first, b.count, s->q_BQ, b.o_BQ, b.lse_BH, s->do_BQ, s->dq_BQ);
    FUR_TRY(input_backward(run, layer, &b, keys_ready));
    return fur_run_advance(run, first, b.count, (fur_work){1, 1, 1});
}

/* The part of norm1's gradient that comes through k and v, where it could not be had during the sweep. */
static fur_status key_block_backward(fur_run *run, fur_layer *layer, int64_t first)
{
    const fur_scratch *s = &run->memory.backward;
    int64_t step = run->shape.superblock;
    back_block b;
    FUR_TRY(begin_block(run, layer, first,
                        first > 0 ? (input_block){layer->index, first - step} : below(run, layer->index), &b));
    FUR_TRY(keys_backward(run, layer, s, first, b.count, 0, s->mid_BC));
    return fur_norm_rows_backward(&run->exec, run->model, layer->at->norm1_w, layer->at->norm1_b, b.count, b.x_BC,
                                  s->mid_BC, run->memory.x_TC + first * run->model->config.width, 1);
}

/* Keys, then queries from the last block to the first: one sweep of a layer whose heads are all in work. */
static fur_status queries_backward(fur_run *run, fur_layer *layer, int keys_ready)
{
    int64_t step = run->shape.superblock, last = last_block(run);
    int64_t reach = layer->kind->reach(&layer->shape), absorbed = last + step; /* blocks from there on are absorbed */
    if (reach == INT64_MAX) {
        for (int64_t first = 0; first <= last; first += step) {
            FUR_TRY(absorb_again(run, layer, first, first < last ? first + step : first));
            fur_head_errors_keys(run, layer, first, fur_superblock_rows(run, first));
        }
        if (!keys_ready) /* what forward exchanged is not kept from layer to layer */
            FUR_TRY(layer->kind->exchange(&run->exec, &layer->shape, &layer->state, &run->documents));
        FUR_TRY(rebuild(run, layer, 0));
        absorbed = 0;
    } else {
        FUR_TRY(rebuild(run, layer, 1));
    }
    for (int64_t first = last; first >= 0; first -= step) {
        for (int64_t lowest = lowest_seen(run, reach, first); absorbed > lowest;) {
            absorbed -= step;
            FUR_TRY(absorb_again(run, layer, absorbed, absorbed > lowest ? absorbed - step : first));
        }
        FUR_TRY(query_block_backward(run, layer, first, keys_ready,
                                     after_queries(run, layer, reach, first, absorbed, keys_ready)));
    }
    return keys_ready ? FUR_OK
                      : layer->kind->exchange_backward(&run->exec, &layer->shape, &layer->state, &run->documents);
}

/* The same where heads come in groups: maps of all heads on both sides of attention, each from the last block to the
 * first, as in one sweep. */
static fur_status groups_backward(fur_run *run, fur_layer *layer, int keys_ready)
{
    const fur_scratch *s = &run->memory.backward;
    fur_head_groups *groups = &run->memory.groups;
    int64_t step = run->shape.superblock, last = last_block(run);
    int kept = fur_layer_attention_is_kept(run);
    double again = kept ? 0 : 0.3; /* of the work of attention */
    for (int64_t first = 0; first <= last; first += step)
        FUR_TRY(absorb_rows(run, layer, first, first < last ? first + step : first));
    if (!kept)
        FUR_TRY(fur_head_groups_attend(run, layer, s, (fur_work){1, 0, again}));
    back_block b;
    for (int64_t first = last; first >= 0; first -= step) {
        int64_t next = first > 0 ? first - step : -1;
        b = (back_block){.first = first, .count = fur_superblock_rows(run, first)};
        FUR_TRY(
            get_input(run, layer->index, first, b.count, (input_block){layer->index, next < 0 ? last : next}, &b.x_BC));
        FUR_TRY(fur_layer_attention_get(run, layer, s, first, b.count, next, &b.o_BQ, NULL));
        FUR_TRY(output_backward(run, layer, &b));
        FUR_TRY(fur_store_put(&run->exec, &groups->output_gradient, 0, first, b.count, s->do_BQ));
        FUR_TRY(fur_run_advance(run, first, b.count, (fur_work){1, 0.5, 0}));
    }
    FUR_TRY(fur_head_groups_backward(run, layer, s, (fur_work){1, 0, 1 - again}));
    for (int64_t first = last; first >= 0; first -= step) {
        int64_t next = first > 0 ? first - step : -1;
        FUR_TRY(begin_block(run, layer, first, after_queries(run, layer, INT64_MAX, first, 0, keys_ready), &b));
        FUR_TRY(fur_head_groups_get(run, &groups->q, first, b.count, next, s->dq_BQ));
        if (run->observer)
            FUR_TRY(fur_layer_attention_get(run, layer, s, first, b.count, next, &b.o_BQ, &b.lse_BH));
        FUR_TRY(input_backward(run, layer, &b, keys_ready));
        FUR_TRY(fur_run_advance(run, first, b.count, (fur_work){1, 0.5, 0}));
    }
    return FUR_OK;
}

static fur_status layer_backward(fur_run *run, int64_t index)
{
    fur_layer layer = fur_layer_begin(run, index, 1);
    int keys_ready = layer.kind->keys_ready_at_once(&layer.shape);
    fur_head_errors_begin(run, &layer);
    if (run->observer)
        FUR_TRY(run->observer->layer(run->observer->user, index, run->tokens, run->memory.x_TC));
    FUR_TRY(layer.groups > 0 ? groups_backward(run, &layer, keys_ready) : queries_backward(run, &layer, keys_ready));
    for (int64_t first = last_block(run); !keys_ready && first >= 0; first -= run->shape.superblock)
        FUR_TRY(key_block_backward(run, &layer, first));
    fur_head_errors_end(run);
    fur_store_forget(&run->memory.inputs, index);
    fur_store_forget(&run->memory.o, index);
    fur_store_forget(&run->memory.lse, index);
    return FUR_OK;
}

fur_status fur_sweep_backward(fur_run *run)
{
    const fur_store *inputs = &run->memory.inputs;
    for (int64_t layer = run->model->config.layers - 1; layer >= 0; layer--) {
        /* the last layer of a segment whose other inputs forward did not keep */
        if (!fur_store_keeps(inputs, layer) && fur_store_keeps(inputs, layer + 1))
            FUR_TRY(fur_sweep_again(run, layer - layer % inputs->segment, layer));
        FUR_TRY(layer_backward(run, layer));
        if (run->on_layer_done && run->model->table.layers[layer].table_rows > 0) {
            run->updating = 1;
            FUR_TRY(run->on_layer_done(run->layer_done_user, layer));
        }
    }
    return FUR_OK;
}
