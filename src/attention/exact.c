/* SPDX-License-Identifier: Apache-2.0 */
/* Kind `exact`: the state is the keys and values themselves, in f32, or in bf16 when products are of that. A piece of
 * queries is given the span of keys that its document and window let it see, and one of sink tokens where these lie
 * before. Source: arXiv 2305.19370.
 *
 * A causal layer with a window and no sink tokens holds keys of the blocks only that one block's queries see, in a
 * ring: row t stands at t modulo the capacity. The capacity is whole blocks, so that a block is contiguous; what a
 * piece sees may be two spans, before and after the ring's end. The operator's blocks of keys lie by position, not by
 * span, so that this changes no bit. */
#include <math.h>
#include <string.h>

#include "attention/kind.h"
#include "base/size.h"
#include "op/attention/attention.h"
#include "op/round/round.h"

static int64_t key_width(const fur_attention_shape *shape)
{
    return shape->kv_heads * shape->head_dim;
}

/* Sink tokens stay in sight for the whole document, and what lies ahead is seen in both directions: no ring for these.
 */
static int64_t exact_reach(const fur_attention_shape *shape)
{
    const fur_attention_features *f = &shape->features;
    return shape->causal && f->window && !f->sink_tokens ? f->window - 1 : INT64_MAX;
}

/* Rows held: a block of queries and the whole blocks before it that it may see, at most the row. */
static int64_t capacity_for(const fur_attention_shape *shape, int64_t rows, int64_t block)
{
    int64_t reach = exact_reach(shape);
    if (reach >= rows || block >= rows)
        return rows;
    return fur_min_i64(rows, (fur_div_up(reach, block) + 1) * block);
}

static void exact_reserve(const fur_attention_shape *shape, int64_t rows, int64_t block, int backward, fur_arena *arena,
                          fur_attention_state *out)
{
    memset(out, 0, sizeof *out);
    out->capacity = capacity_for(shape, rows, block);
    int64_t count = out->capacity * key_width(shape);
    if (shape->compute == FUR_COMPUTE_BF16) {
        out->k_bf16_SKD = fur_arena_push(arena, count * (int64_t)sizeof(uint16_t));
        out->v_bf16_SKD = fur_arena_push(arena, count * (int64_t)sizeof(uint16_t));
    } else {
        out->k_SKD = fur_arena_push_f32(arena, count);
        out->v_SKD = fur_arena_push_f32(arena, count);
    }
    if (backward) {
        out->dk_SKD = fur_arena_push_f32(arena, count);
        out->dv_SKD = fur_arena_push_f32(arena, count);
    }
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
}

/* Offset of a row of keys in the state's arrays. */
static int64_t row_offset(const fur_attention_shape *shape, const fur_attention_state *state, int64_t row)
{
    return row % state->capacity * key_width(shape);
}

static void exact_key_rows(const fur_attention_shape *shape, const fur_attention_state *state, int64_t first,
                           float **k_TKD, float **v_TKD)
{
    int64_t at = row_offset(shape, state, first);
    if (state->k_SKD) {
        *k_TKD = state->k_SKD + at;
        *v_TKD = state->v_SKD + at;
    } else if (state->dk_SKD) { /* their gradients are not gathered yet: f32 rows on their way to bf16 */
        *k_TKD = state->dk_SKD + at;
        *v_TKD = state->dv_SKD + at;
    }
}

static fur_status exact_absorb(const fur_exec *exec, const fur_attention_shape *shape, fur_attention_state *state,
                               const fur_documents *documents, int64_t first, int64_t count, float *k_TKD, float *v_TKD)
{
    (void)documents;
    if (state->k_SKD) /* key_rows already pointed into the state */
        return FUR_OK;
    int64_t at = row_offset(shape, state, first), elements = count * key_width(shape);
    FUR_TRY(fur_round_bf16(exec, elements, k_TKD, state->k_bf16_SKD + at));
    return fur_round_bf16(exec, elements, v_TKD, state->v_bf16_SKD + at);
}

static fur_status exact_exchange(const fur_exec *exec, fur_attention_state *state)
{
    (void)exec, (void)state;
    return FUR_OK;
}

/* Index of the document that holds `row`. */
static int64_t document_of(const fur_documents *documents, int64_t row)
{
    int64_t low = 0, high = documents->count - 1;
    while (low < high) {
        int64_t middle = low + (high - low + 1) / 2;
        if (documents->offsets[middle] <= row)
            low = middle;
        else
            high = middle - 1;
    }
    return low;
}

/* Keys [from, to) of the document that starts at row `start`, contiguous in the state. */
static fur_key_span span_of(const fur_attention_shape *shape, const fur_attention_state *state, int64_t start,
                            int64_t from, int64_t to)
{
    int64_t at = row_offset(shape, state, start + from);
    return (fur_key_span){.k_SKD = state->k_SKD ? state->k_SKD + at : NULL,
                          .v_SKD = state->v_SKD ? state->v_SKD + at : NULL,
                          .k_bf16_SKD = state->k_bf16_SKD ? state->k_bf16_SKD + at : NULL,
                          .v_bf16_SKD = state->v_bf16_SKD ? state->v_bf16_SKD + at : NULL,
                          .dk_SKD = state->dk_SKD ? state->dk_SKD + at : NULL,
                          .dv_SKD = state->dv_SKD ? state->dv_SKD + at : NULL,
                          .first_position = from,
                          .count = to - from};
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
    int64_t count = 0;
    if (sinks)
        spans[count++] = span_of(shape, state, start, 0, sinks);
    int64_t cut = from + state->capacity - (start + from) % state->capacity; /* the ring's end */
    if (cut < to) {
        spans[count++] = span_of(shape, state, start, from, cut);
        from = cut;
    }
    spans[count++] = span_of(shape, state, start, from, to);
    return count;
}

/* Cuts rows [first, first+count) at document borders. */
static fur_status make_pieces(const fur_exec *exec, const fur_attention_shape *shape, const fur_attention_state *state,
                              const fur_documents *documents, int64_t first, int64_t count, fur_attention_args *args)
{
    int64_t from = document_of(documents, first), to = document_of(documents, first + count - 1);
    fur_key_span *spans = fur_arena_push(exec->workspace, MOST_SPANS * (to - from + 1) * (int64_t)sizeof *spans);
    fur_query_piece *pieces = fur_arena_push(exec->workspace, (to - from + 1) * (int64_t)sizeof *pieces);
    if (!spans || !pieces)
        return fur_error_set(exec->error, FUR_E_MEMORY, "attention: workspace too small for %lld documents",
                             (long long)(to - from + 1));
    int64_t width = key_width(shape);
    for (int64_t d = from; d <= to; d++) {
        int64_t start = documents->offsets[d], end = documents->offsets[d + 1];
        int64_t q0 = fur_max_i64(start, first), q1 = fur_min_i64(end, first + count);
        fur_query_piece *piece = &pieces[d - from];
        *piece = (fur_query_piece){.first_row = q0 - first,
                                   .count = q1 - q0,
                                   .first_position = q0 - start,
                                   .first_token = q0,
                                   .spans = &spans[MOST_SPANS * (d - from)]};
        piece->span_count =
            make_spans(shape, state, start, end - start, q0 - start, q1 - 1 - start, &spans[MOST_SPANS * (d - from)]);
    }
    int64_t query_width = shape->heads * shape->head_dim;
    *args = (fur_attention_args){.heads = shape->heads,
                                 .kv_heads = shape->kv_heads,
                                 .head_dim = shape->head_dim,
                                 .scale = shape->scale,
                                 .causal = shape->causal,
                                 .features = shape->features,
                                 .pieces = pieces,
                                 .piece_count = to - from + 1,
                                 .ldq = query_width,
                                 .ldk = width,
                                 .ldo = query_width,
                                 .ldlse = shape->heads,
                                 .lddo = query_width,
                                 .lddq = query_width,
                                 .lddk = width,
                                 .dsink_H = shape->dsink_H};
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

static void exact_begin_backward(const fur_exec *exec, const fur_attention_shape *shape, fur_attention_state *state,
                                 int64_t first, int64_t count)
{
    int64_t at = row_offset(shape, state, first);
    size_t bytes = (size_t)(count * key_width(shape)) * sizeof(float);
    (void)exec;
    memset(state->dk_SKD + at, 0, bytes);
    memset(state->dv_SKD + at, 0, bytes);
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

static fur_status exact_key_gradients(const fur_exec *exec, const fur_attention_shape *shape,
                                      fur_attention_state *state, int64_t first, int64_t count, float **dk_TKD,
                                      float **dv_TKD)
{
    (void)exec, (void)count;
    *dk_TKD = state->dk_SKD + row_offset(shape, state, first);
    *dv_TKD = state->dv_SKD + row_offset(shape, state, first);
    return FUR_OK;
}

const fur_attention_kind fur_attention_exact = {
    .name = "exact",
    .reserve = exact_reserve,
    .reach = exact_reach,
    .workspace = exact_workspace,
    .cost = exact_cost,
    .key_rows = exact_key_rows,
    .absorb = exact_absorb,
    .exchange = exact_exchange,
    .query = exact_query,
    .begin_backward = exact_begin_backward,
    .exchange_backward = exact_exchange,
    .query_backward = exact_query_backward,
    .keys_ready_at_once = exact_keys_ready_at_once,
    .key_gradients = exact_key_gradients,
};
