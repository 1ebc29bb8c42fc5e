/* SPDX-License-Identifier: Apache-2.0 */
/* Kind `exact`: the state is the keys and values themselves. A piece of queries is given the span of keys that its
 * document and window let it see, and one of sink tokens where these lie before. Source: arXiv 2305.19370.
 *
 * A causal layer with a window and no sink tokens holds keys of the blocks only that one block's queries see, in a
 * ring; what a piece sees may be two spans, before and after the ring's end. The operator's blocks of keys lie by
 * position, not by span, so that this changes no bit. */
#include <math.h>

#include "attention/keys.h"
#include "base/size.h"

/* Sink tokens stay in sight for the whole document, and what lies ahead is seen in both directions: no ring for these.
 */
static int64_t exact_reach(const fur_attention_shape *shape)
{
    const fur_attention_features *f = &shape->features;
    return shape->causal && f->window && !f->sink_tokens ? f->window - 1 : INT64_MAX;
}

static void exact_reserve(const fur_attention_shape *shape, int64_t rows, int64_t block, int backward, fur_arena *arena,
                          fur_attention_state *out)
{
    fur_keys_reserve(shape, exact_reach(shape), rows, block, backward, arena, out);
}

/* Of a piece. Two are enough: either there are no sink tokens, or the state has no end to cross. */
#define MOST_SPANS 2

/* Spans and a piece for each document that the rows touch. */
static int64_t piece_bytes(int64_t documents)
{
    return fur_round_up(MOST_SPANS * documents * (int64_t)sizeof(fur_key_span), FUR_ARENA_ALIGN) +
           fur_round_up(documents * (int64_t)sizeof(fur_query_piece), FUR_ARENA_ALIGN);
}

static int64_t exact_workspace(const fur_exec *exec, const fur_attention_shape *shape, int64_t rows, int64_t documents,
                               int backward)
{
    return piece_bytes(fur_min_i64(rows, documents)) +
           fur_attention_workspace(exec, shape->heads, shape->kv_heads, shape->head_dim, rows, backward);
}

static void exact_cost(const fur_attention_shape *shape, int64_t rows, int64_t document_rows, fur_attention_cost *out)
{
    double n = (double)document_rows, a_pair = 4.0 * (double)(shape->heads * shape->head_dim);
    double window = n, sinks = 0;
    if (shape->features.window && shape->features.window < document_rows) {
        window = (double)shape->features.window;
        sinks = fmin((double)shape->features.sink_tokens, n - window);
    }
    /* of a document: the triangle of the first `window` rows (both ends, if not causal), then `window` keys a row */
    double pairs = window * (window + 1) / 2 + (n - window) * window;
    if (!shape->causal)
        pairs = 2 * pairs - n;
    pairs += sinks * (n - window) - sinks * (sinks - 1) / 2; /* seen from behind the window */
    double ahead = fmin((double)shape->features.sink_tokens, n) - window;
    if (!shape->causal && window < n && ahead > 0)
        pairs += ahead * (ahead + 1) / 2;
    out->flops_forward = a_pair * pairs * (double)rows / n;
    out->flops_backward = 2.5 * out->flops_forward;
    out->flops_last = a_pair * (window + sinks);
    int64_t group = shape->heads / shape->kv_heads, all = shape->all_heads ? shape->all_heads : shape->heads;
    out->tasks = (double)fur_attention_tasks(shape->kv_heads, all / group);
}

/* What queries at positions [first, last] of a document of `length` tokens may see. Returns the number of spans. */
static int64_t make_spans(const fur_attention_shape *shape, const fur_attention_state *state, int64_t start,
                          int64_t length, int64_t first, int64_t last, fur_key_span *spans)
{
    int64_t from = 0, to = shape->causal ? last + 1 : length, window = shape->features.window;
    int64_t sinks = window ? fur_min_i64(shape->features.sink_tokens, to) : 0;
    if (window) {
        from = fur_max_i64(0, first - window + 1);
        to = fur_max_i64(sinks, fur_min_i64(to, last + window));
    }
    if (sinks >= from)
        sinks = from = 0;
    int64_t count = sinks ? fur_keys_spans(shape, state, start, 0, sinks, spans) : 0;
    return count + fur_keys_spans(shape, state, start, from, to, spans + count);
}

/* Cuts rows [first, first+count) at document borders. */
static fur_status make_pieces(const fur_exec *exec, const fur_attention_shape *shape, const fur_attention_state *state,
                              const fur_documents *documents, int64_t first, int64_t count, fur_attention_args *args)
{
    int64_t from, to;
    fur_documents_touched(documents, first, count, &from, &to);
    fur_key_span *spans = fur_arena_push(exec->workspace, MOST_SPANS * (to - from + 1) * (int64_t)sizeof *spans);
    fur_query_piece *pieces = fur_arena_push(exec->workspace, (to - from + 1) * (int64_t)sizeof *pieces);
    if (!spans || !pieces)
        return fur_error_set(exec->error, FUR_E_MEMORY, "attention: workspace too small for %lld documents",
                             (long long)(to - from + 1));
    for (int64_t d = from; d <= to; d++) {
        fur_document_part part = fur_document_part_of(documents, d, first, count);
        fur_key_span *own = &spans[MOST_SPANS * (d - from)];
        pieces[d - from] = (fur_query_piece){
            .first_row = part.start + part.first - first,
            .count = part.last - part.first + 1,
            .first_position = part.first,
            .first_token = part.start + part.first,
            .spans = own,
            .span_count = make_spans(shape, state, part.start, part.length, part.first, part.last, own)};
    }
    *args = fur_keys_args(shape);
    args->pieces = pieces;
    args->piece_count = to - from + 1;
    return FUR_OK;
}

static fur_status exact_query(const fur_exec *exec, const fur_attention_shape *shape, const fur_attention_state *state,
                              const fur_documents *documents, int64_t first, int64_t count, const float *q_THD,
                              float *o_THD, float *lse_TH)
{
    if (count == 0)
        return FUR_OK;
    int64_t mark = fur_arena_mark(exec->workspace);
    fur_attention_args args;
    fur_status status = make_pieces(exec, shape, state, documents, first, count, &args);
    if (status == FUR_OK) {
        args.q_THD = q_THD;
        args.o_THD = o_THD;
        args.lse_TH = lse_TH;
        status = fur_attention_forward(exec, &args);
    }
    fur_arena_release(exec->workspace, mark);
    return status;
}

static fur_status exact_query_backward(const fur_exec *exec, const fur_attention_shape *shape,
                                       fur_attention_state *state, const fur_documents *documents, int64_t first,
                                       int64_t count, const float *q_THD, const float *o_THD, const float *lse_TH,
                                       const float *do_THD, float *dq_THD)
{
    if (count == 0)
        return FUR_OK;
    int64_t mark = fur_arena_mark(exec->workspace);
    fur_attention_args args;
    fur_status status = make_pieces(exec, shape, state, documents, first, count, &args);
    if (status == FUR_OK) {
        args.q_THD = q_THD;
        /* backward only reads o and lse; the operator's argument block serves both directions */
        args.o_THD = (float *)(uintptr_t)o_THD;
        args.lse_TH = (float *)(uintptr_t)lse_TH;
        args.do_THD = do_THD;
        args.dq_THD = dq_THD;
        status = fur_attention_backward(exec, &args);
    }
    fur_arena_release(exec->workspace, mark);
    return status;
}

static int exact_keys_ready_at_once(const fur_attention_shape *shape)
{
    return shape->causal;
}

/* Heads do not know of each other. */
static void exact_part(const fur_attention_shape *shape, int64_t first, int64_t count, fur_attention_shape *out)
{
    int64_t group = shape->heads / shape->kv_heads, before = first * group;
    *out = *shape;
    out->heads = count * group;
    out->kv_heads = count;
    out->first_head = shape->first_head + before;
    out->all_heads = shape->all_heads ? shape->all_heads : shape->heads;
    if (shape->features.sink_H)
        out->features.sink_H = shape->features.sink_H + before;
    if (shape->dsink_H)
        out->dsink_H = shape->dsink_H + before;
}

const fur_attention_kind fur_attention_exact = {
    .name = "exact",
    .reserve = exact_reserve,
    .reach = exact_reach,
    .workspace = exact_workspace,
    .cost = exact_cost,
    .key_rows = fur_keys_rows,
    .absorb = fur_keys_absorb,
    .exchange = fur_keys_exchange,
    .query = exact_query,
    .begin_backward = fur_keys_begin_backward,
    .exchange_backward = fur_keys_exchange,
    .query_backward = exact_query_backward,
    .keys_ready_at_once = exact_keys_ready_at_once,
    .key_gradients = fur_keys_gradients,
    .part = exact_part,
};
