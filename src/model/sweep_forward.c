/* SPDX-License-Identifier: Apache-2.0 */
/* The forward sweep. x [T, C] is overwritten in place, superblock by superblock; inside a superblock the attention
 * output goes straight on to the feedforward, tile by tile (arXiv 2305.19370, algorithm 1: the feedforward inside the
 * loop over query blocks), so that neither T x 4C nor a whole attention output need exist. */
#include <math.h>
#include <string.h>

#include "base/size.h"
#include "model/head_groups.h"
#include "model/layer.h"
#include "op/sumsq/sumsq.h"

/* Feedforward of rows x, in place: x += down(activation(up(norm2(x)))). */
static fur_status feedforward(fur_run *run, const fur_layer *layer, const fur_scratch *s, int64_t first, int64_t count,
                              float *x_BC)
{
    int64_t width = run->model->config.width;
    for (int64_t t = 0; t < count; t += run->shape.token_tile) {
        int64_t tokens = fur_min_i64(run->shape.token_tile, count - t);
        float *x = x_BC + t * width, *u = fur_layer_u(run, layer, s, first + t);
        FUR_TRY(fur_norm_rows(&run->exec, run->model, layer->at->norm2_w, layer->at->norm2_b, tokens, x, s->h_tC));
        FUR_TRY(fur_map_forward(run, &layer->at->up, tokens, s->h_tC, 0, u));
        FUR_TRY(fur_layer_activate(run, layer, tokens, u, s->g_tF));
        FUR_TRY(fur_layer_add_map(run, layer, &layer->at->down, FUR_DROP_FEEDFORWARD, first + t, tokens, s->g_tF, x,
                                  s->h_tC, x));
    }
    return FUR_OK;
}

/* Names the layer whose output is the first that is not finite. One pass over rows that are still in cache. */
static fur_status check_finite(fur_run *run, int64_t layer, int64_t first, int64_t count, const float *x_BC)
{
    double sum;
    FUR_TRY(fur_sum_squares(&run->exec, count * run->model->config.width, x_BC, &sum));
    if (isfinite(sum))
        return FUR_OK;
    return fur_error_set(run->exec.error, FUR_E_NONFINITE,
                         "layer %lld: output is not finite within tokens %lld to %lld", (long long)layer,
                         (long long)first, (long long)(first + count - 1));
}

/* Why a layer runs forward. */
typedef enum pass {
    PASS_EVALUATE, /* for its output alone */
    PASS_TRAIN,    /* backward follows: what is kept is kept */
    PASS_AGAIN     /* within backward, for the next layer's input: nothing is kept */
} pass;

/* o, residual, feedforward, residual of rows whose attention is done. */
static fur_status after_attention(fur_run *run, const fur_layer *layer, const fur_scratch *s, int64_t first,
                                  int64_t count, const float *o_BQ, float *x_BC)
{
    FUR_TRY(fur_layer_middle(run, layer, first, count, o_BQ, x_BC, s->h_BC, x_BC));
    return feedforward(run, layer, s, first, count, x_BC);
}

/* After keys and values of all rows that these may see: q, attention, and what comes after it. */
static fur_status query_block(fur_run *run, fur_layer *layer, const fur_scratch *s, int64_t first, int64_t count,
                              pass why, float *x_BC)
{
    float *o, *lse;
    FUR_TRY(fur_layer_attention_place(run, layer, s, first, count, &o, &lse));
    FUR_TRY(fur_layer_query(run, layer, s, first, count, o, lse));
    FUR_TRY(after_attention(run, layer, s, first, count, o, x_BC));
    if (why == PASS_TRAIN)
        FUR_TRY(fur_layer_attention_written(run, layer, s, first, count));
    FUR_TRY(check_finite(run, layer->index, first, count, x_BC));
    return fur_run_advance(run, first, count, (fur_work){0, 1, 1});
}

/* From attention outputs that are there already: of all heads, by groups, or kept. */
static fur_status output_blocks(fur_run *run, const fur_layer *layer, const fur_scratch *s, fur_work done, float *x_TC)
{
    for (int64_t first = 0; first < run->tokens; first += run->shape.superblock) {
        int64_t count = fur_superblock_rows(run, first), next = first + count < run->tokens ? first + count : -1;
        float *x = x_TC + first * run->model->config.width;
        const float *o;
        FUR_TRY(fur_layer_attention_get(run, layer, s, first, count, next, &o, NULL));
        FUR_TRY(after_attention(run, layer, s, first, count, o, x));
        FUR_TRY(check_finite(run, layer->index, first, count, x));
        FUR_TRY(fur_run_advance(run, first, count, done));
    }
    return FUR_OK;
}

/* The row's x at x_TC becomes the layer's output. */
static fur_status layer_forward(fur_run *run, int64_t index, pass why, float *x_TC)
{
    const fur_scratch *s = &run->memory.forward;
    int64_t width = run->model->config.width;
    fur_layer layer = fur_layer_begin(run, index, run->shape.purpose == FUR_FOR_TRAIN);
    int keep_input = why == PASS_TRAIN && fur_store_keeps(&run->memory.inputs, index);
    /* Causal rows need only the keys before them: one pass. Otherwise all keys first, then all queries; and so where
     * heads come in groups. */
    int one_pass = layer.groups == 0 && layer.kind->keys_ready_at_once(&layer.shape);
    for (int64_t first = 0; first < run->tokens; first += run->shape.superblock) {
        int64_t count = fur_superblock_rows(run, first);
        float *x = x_TC + first * width;
        if (keep_input)
            FUR_TRY(fur_store_put(&run->exec, &run->memory.inputs, index, first, count, x));
        FUR_TRY(fur_layer_absorb(run, &layer, s, first, count, x));
        if (one_pass)
            FUR_TRY(query_block(run, &layer, s, first, count, why, x));
    }
    if (layer.groups > 0) {
        FUR_TRY(fur_head_groups_attend(run, &layer, s, (fur_work){0, 0, 1}));
        return output_blocks(run, &layer, s, (fur_work){0, 1, 0}, x_TC);
    }
    FUR_TRY(layer.kind->exchange(&run->exec, &layer.shape, &layer.state, &run->documents));
    for (int64_t first = 0; !one_pass && first < run->tokens; first += run->shape.superblock) {
        int64_t count = fur_superblock_rows(run, first);
        float *x = x_TC + first * width;
        FUR_TRY(fur_norm_rows(&run->exec, run->model, layer.at->norm1_w, layer.at->norm1_b, count, x, s->h_BC));
        fur_row_positions(run, s, first, count);
        FUR_TRY(query_block(run, &layer, s, first, count, why, x));
    }
    return FUR_OK;
}

/* The same from attention outputs that forward kept: no keys, no values, no attention. */
static fur_status layer_from_attention(fur_run *run, int64_t index, float *x_TC)
{
    fur_layer layer = fur_layer_begin(run, index, 1);
    return output_blocks(run, &layer, &run->memory.forward, (fur_work){0, 1, 1}, x_TC);
}

fur_status fur_sweep_forward(fur_run *run, int training)
{
    for (int64_t layer = 0; layer < run->model->config.layers; layer++)
        FUR_TRY(layer_forward(run, layer, training ? PASS_TRAIN : PASS_EVALUATE, run->memory.x_TC));
    return FUR_OK;
}

/* Each input is copied to where the next one belongs and becomes it there. */
fur_status fur_sweep_again(fur_run *run, int64_t first, int64_t last)
{
    fur_store *inputs = &run->memory.inputs;
    for (int64_t layer = first; layer < last; layer++) {
        const float *x;
        float *next;
        FUR_TRY(fur_store_get(&run->exec, inputs, layer, 0, run->tokens, &x));
        FUR_TRY(fur_store_place_rows(&run->exec, inputs, layer + 1, 0, run->tokens, &next));
        memcpy(next, x, (size_t)(run->tokens * run->model->config.width) * sizeof(float));
        if (fur_layer_attention_is_kept(run))
            FUR_TRY(layer_from_attention(run, layer, next));
        else
            FUR_TRY(layer_forward(run, layer, PASS_AGAIN, next));
    }
    return FUR_OK;
}

fur_status fur_sweep_rows(fur_run *run, int64_t first, int64_t count)
{
    for (int64_t index = 0; index < run->model->config.layers; index++) {
        fur_layer layer = fur_layer_begin(run, index, 0);
        FUR_TRY(fur_layer_absorb(run, &layer, &run->memory.forward, first, count, run->memory.x_TC));
        FUR_TRY(query_block(run, &layer, &run->memory.forward, first, count, PASS_EVALUATE, run->memory.x_TC));
    }
    return FUR_OK;
}
