/* SPDX-License-Identifier: Apache-2.0 */
#include "attention/far_exact.h"

#include <math.h>
#include <string.h>

#include "attention/far_field.h"
#include "attention/keys.h"
#include "base/bf16.h"

/* Key heads [first, last) that follow one another. */
typedef struct head_run {
    int64_t first, last;
} head_run;

/* The first run at or behind key head `from`; empty at the end. */
static head_run next_run(const fur_attention_shape *shape, int64_t from)
{
    const float *exact = shape->far.exact_K;
    while (from < shape->kv_heads && !(exact[from] > 0))
        from++;
    head_run run = {from, from};
    while (run.last < shape->kv_heads && exact[run.last] > 0)
        run.last++;
    return run;
}

/* ---- unit rows --------------------------------------------------------------------------------------------------- */

/* out = row / |row|, or the row itself without a bound. */
static void unit_row(const fur_attention_shape *shape, const float *row, float *out)
{
    float factor = fur_far_is_bounded(shape) ? fur_far_unit_factor(row, shape->head_dim) : 1;
    for (int64_t d = 0; d < shape->head_dim; d++)
        out[d] = factor * row[d];
}

/* out += the gradient by a row, from that by its unit row. */
static void through_unit(const fur_attention_shape *shape, const float *row, const float *gradient, float *out)
{
    float factor = 1, along = 0;
    if (fur_far_is_bounded(shape)) {
        factor = fur_far_unit_factor(row, shape->head_dim);
        for (int64_t d = 0; d < shape->head_dim; d++)
            along += factor * row[d] * gradient[d];
    }
    for (int64_t d = 0; d < shape->head_dim; d++)
        out[d] += factor * (gradient[d] - along * factor * row[d]);
}

static const float *key_row(const fur_attention_shape *shape, const fur_attention_state *state, int64_t row, int64_t h,
                            float *wide)
{
    int64_t at = fur_keys_offset(shape, state, row) + h * shape->head_dim;
    return fur_bf16_row(state->k_SKD, state->k_bf16_SKD, at, shape->head_dim, wide);
}

void fur_far_exact_reserve(const fur_attention_shape *shape, int64_t rows, int backward, fur_arena *arena,
                           fur_attention_state *out)
{
    int64_t count = rows * fur_keys_width(shape);
    if (!fur_far_is_bounded(shape))
        return;
    if (shape->compute == FUR_COMPUTE_BF16)
        out->unit_bf16_SKD = fur_arena_push(arena, count * (int64_t)sizeof(uint16_t));
    else
        out->unit_SKD = fur_arena_push_f32(arena, count);
    if (backward)
        out->dunit_SKD = fur_arena_push_f32(arena, count);
}

void fur_far_exact_absorb(const fur_exec *exec, const fur_attention_shape *shape, fur_attention_state *state,
                          int64_t first, int64_t count)
{
    int64_t D = shape->head_dim, K = shape->kv_heads;
    if (!fur_far_is_bounded(shape))
        return;
#pragma omp parallel for schedule(static) num_threads(exec->threads) if (count > 64)
    for (int64_t t = first; t < first + count; t++)
        for (int64_t h = 0; h < K; h++) {
            float wide[FUR_FAR_MOST_DIM], unit[FUR_FAR_MOST_DIM];
            int64_t at = fur_keys_offset(shape, state, t) + h * D;
            if (!(shape->far.exact_K[h] > 0))
                continue;
            unit_row(shape, key_row(shape, state, t, h, wide), unit);
            for (int64_t d = 0; d < D && state->unit_bf16_SKD; d++)
                state->unit_bf16_SKD[at + d] = fur_bf16_of(unit[d]);
            if (state->unit_SKD)
                memcpy(state->unit_SKD + at, unit, (size_t)D * sizeof *unit);
        }
}

void fur_far_exact_begin_backward(const fur_attention_shape *shape, fur_attention_state *state, int64_t first,
                                  int64_t count)
{
    if (state->dunit_SKD)
        memset(state->dunit_SKD + fur_keys_offset(shape, state, first), 0,
               (size_t)(count * fur_keys_width(shape)) * sizeof(float));
}

void fur_far_exact_key_gradients(const fur_exec *exec, const fur_attention_shape *shape, fur_attention_state *state,
                                 int64_t first, int64_t count)
{
    if (!state->dunit_SKD)
        return;
#pragma omp parallel for schedule(static) num_threads(exec->threads) if (count > 64)
    for (int64_t t = first; t < first + count; t++)
        for (int64_t h = 0; h < shape->kv_heads; h++) {
            float wide[FUR_FAR_MOST_DIM];
            int64_t at = fur_keys_offset(shape, state, t) + h * shape->head_dim;
            if (shape->far.exact_K[h] > 0)
                through_unit(shape, key_row(shape, state, t, h, wide), state->dunit_SKD + at, state->dk_SKD + at);
        }
}

/* ---- calls ------------------------------------------------------------------------------------------------------- */

/* Arrays of the heads of one run, contiguous, for the rows of a block. */
typedef struct block_rows {
    head_run run;
    int64_t width; /* of a row: query heads x D */
    float *unit_THD, *out_THD, *lse_TH;
    fur_query_piece *pieces;
    fur_key_span *spans;
    int64_t piece_count;
} block_rows;

enum { MOST_SPANS = 2 };

static int push(const fur_attention_shape *shape, int64_t rows, int64_t documents, fur_arena *arena, block_rows *out)
{
    int64_t pieces = fur_far_most_pieces(shape, rows, documents), width = shape->heads * shape->head_dim;
    out->unit_THD = fur_arena_push_f32(arena, rows * width);
    out->out_THD = fur_arena_push_f32(arena, rows * width);
    out->lse_TH = fur_arena_push_f32(arena, 2 * rows * shape->heads);
    out->pieces = fur_arena_push(arena, pieces * (int64_t)sizeof *out->pieces);
    out->spans = fur_arena_push(arena, MOST_SPANS * pieces * (int64_t)sizeof *out->spans);
    return out->unit_THD && out->out_THD && out->lse_TH && out->pieces && out->spans;
}

int64_t fur_far_exact_workspace(const fur_exec *exec, const fur_attention_shape *shape, int64_t rows, int64_t documents,
                                int backward)
{
    fur_arena arena = fur_arena_counting();
    block_rows unused;
    push(shape, rows, documents, &arena, &unused);
    int64_t most = 0; /* backward runs forward too, for the bias */
    for (int direction = 0; direction <= backward; direction++)
        for (int64_t heads = 1; heads <= shape->kv_heads; heads++) /* of a run */
            most = fur_max_i64(most, fur_attention_workspace(exec, heads * fur_far_group(shape), heads, shape->head_dim,
                                                             rows, direction));
    return arena.peak + most;
}

/* Keys [from, to) of a document under the heads of a run. */
static void add_span(const fur_attention_shape *shape, const fur_attention_state *state, int64_t start, int64_t from,
                     int64_t to, head_run run, fur_query_piece *piece, fur_key_span *spans)
{
    if (from >= to)
        return;
    fur_key_span *span = &spans[piece->span_count++];
    int64_t at = fur_keys_offset(shape, state, start + from) + run.first * shape->head_dim;
    fur_keys_spans(shape, state, start, from, to, span); /* all rows are there: one span */
    int64_t head = run.first * shape->head_dim;
    span->v_SKD = span->v_SKD ? span->v_SKD + head : NULL;
    span->v_bf16_SKD = span->v_bf16_SKD ? span->v_bf16_SKD + head : NULL;
    span->dv_SKD = span->dv_SKD ? span->dv_SKD + head : NULL;
    if (fur_far_is_bounded(shape)) {
        span->k_SKD = state->unit_SKD ? state->unit_SKD + at : NULL;
        span->k_bf16_SKD = state->unit_bf16_SKD ? state->unit_bf16_SKD + at : NULL;
        span->dk_SKD = state->dunit_SKD ? state->dunit_SKD + at : NULL;
        return;
    }
    span->k_SKD = span->k_SKD ? span->k_SKD + head : NULL;
    span->k_bf16_SKD = span->k_bf16_SKD ? span->k_bf16_SKD + head : NULL;
    span->dk_SKD = span->dk_SKD ? span->dk_SKD + head : NULL;
}

/* One piece for each chunk of the block that has far keys. */
static void make_pieces(const fur_attention_shape *shape, const fur_attention_state *state,
                        const fur_documents *documents, int64_t first, int64_t count, block_rows *b)
{
    int64_t from, to;
    b->piece_count = 0;
    fur_documents_touched(documents, first, count, &from, &to);
    for (int64_t d = from; d <= to; d++) {
        fur_document_part part = fur_document_part_of(documents, d, first, count);
        for (int64_t c = part.first / shape->chunk; c <= part.last / shape->chunk; c++) {
            if (!fur_far_any(shape, part.length, c))
                continue;
            int64_t begin = fur_max_i64(part.first, c * shape->chunk);
            int64_t end = fur_min_i64(part.last + 1, (c + 1) * shape->chunk);
            fur_query_piece *piece = &b->pieces[b->piece_count];
            fur_key_span *spans = &b->spans[MOST_SPANS * b->piece_count++];
            *piece = (fur_query_piece){
                .first_row = part.start + begin - first, .count = end - begin, .first_position = begin, .spans = spans};
            add_span(shape, state, part.start, fur_far_sinks(shape), fur_far_before(shape, c), b->run, piece, spans);
            add_span(shape, state, part.start, fur_far_behind(shape, part.length, c), part.length, b->run, piece,
                     spans);
        }
    }
}

static fur_attention_args args_of(const fur_attention_shape *shape, const block_rows *b)
{
    int64_t heads = (b->run.last - b->run.first) * fur_far_group(shape);
    return (fur_attention_args){.heads = heads,
                                .kv_heads = b->run.last - b->run.first,
                                .head_dim = shape->head_dim,
                                .scale = fur_far_is_bounded(shape) ? shape->far.bound : shape->scale,
                                .q_THD = b->unit_THD,
                                .ldq = b->width,
                                .ldk = fur_keys_width(shape),
                                .o_THD = b->out_THD,
                                .ldo = b->width,
                                .lse_TH = b->lse_TH,
                                .ldlse = heads,
                                .lddk = fur_keys_width(shape)};
}

/* Workspace of a block, for one run after the other; the caller releases. */
static fur_status begin_block(const fur_exec *exec, const fur_attention_shape *shape, const fur_documents *documents,
                              int64_t first, int64_t count, block_rows *out)
{
    int64_t from, to;
    fur_documents_touched(documents, first, count, &from, &to);
    if (push(shape, count, to - from + 1, exec->workspace, out))
        return FUR_OK;
    return fur_error_set(exec->error, FUR_E_MEMORY, "attention: workspace too small for exact heads of %lld rows",
                         (long long)count);
}

/* Pieces, and unit rows of the block's queries under the run. */
static void begin_run(const fur_exec *exec, const fur_attention_shape *shape, const fur_attention_state *state,
                      const fur_documents *documents, int64_t first, int64_t count, const float *q_THD, head_run run,
                      block_rows *b)
{
    int64_t D = shape->head_dim, heads = (run.last - run.first) * fur_far_group(shape), H = shape->heads;
    b->run = run;
    b->width = heads * D;
    make_pieces(shape, state, documents, first, count, b);
#pragma omp parallel for schedule(static) num_threads(exec->threads) if (count > 64)
    for (int64_t i = 0; i < count * heads; i++)
        unit_row(shape, q_THD + (i / heads * H + run.first * fur_far_group(shape) + i % heads) * D,
                 b->unit_THD + i * D);
}

/* o and lse of the far keys alone; lse -infinity where there are none. */
static fur_status far_alone(const fur_exec *exec, const fur_attention_shape *shape, const block_rows *b, int64_t count)
{
    int64_t heads = b->width / shape->head_dim;
    for (int64_t i = 0; i < count * heads; i++)
        b->lse_TH[i] = -INFINITY;
    fur_attention_args args = args_of(shape, b);
    args.pieces = b->pieces;
    args.piece_count = b->piece_count;
    return b->piece_count ? fur_attention_forward(exec, &args) : FUR_OK;
}

static void merge(const fur_exec *exec, const fur_attention_shape *shape, const block_rows *b, int64_t count,
                  float *o_THD, float *lse_TH)
{
    int64_t D = shape->head_dim, heads = b->width / D, H = shape->heads, begin = b->run.first * fur_far_group(shape);
#pragma omp parallel for schedule(static) num_threads(exec->threads) if (count > 64)
    for (int64_t i = 0; i < count * heads; i++) {
        int64_t head = begin + i % heads, at = i / heads * H + head;
        float far = b->lse_TH[i] + fur_far_bias(shape, head), near = lse_TH[at], most = fmaxf(far, near);
        if (!(b->lse_TH[i] > -INFINITY))
            continue;
        float lse = most + logf(expf(near - most) + expf(far - most)), near_share = expf(near - lse),
              far_share = expf(far - lse);
        lse_TH[at] = lse;
        for (int64_t d = 0; d < D; d++)
            o_THD[at * D + d] = near_share * o_THD[at * D + d] + far_share * b->out_THD[i * D + d];
    }
}

fur_status fur_far_exact_query(const fur_exec *exec, const fur_attention_shape *shape, const fur_attention_state *state,
                               const fur_documents *documents, int64_t first, int64_t count, const float *q_THD,
                               float *o_THD, float *lse_TH)
{
    int64_t mark = fur_arena_mark(exec->workspace);
    block_rows b;
    fur_status status = begin_block(exec, shape, documents, first, count, &b);
    for (head_run run = next_run(shape, 0); status == FUR_OK && run.first < run.last; run = next_run(shape, run.last)) {
        begin_run(exec, shape, state, documents, first, count, q_THD, run, &b);
        status = far_alone(exec, shape, &b, count);
        if (status == FUR_OK)
            merge(exec, shape, &b, count, o_THD, lse_TH);
    }
    fur_arena_release(exec->workspace, mark);
    return status;
}

/* db_h = sum over rows of the far dS: the far share times (do . o of far keys alone - do . o). */
static fur_status bias_backward(const fur_exec *exec, const fur_attention_shape *shape, const block_rows *b,
                                int64_t count, const float *o_THD, const float *lse_TH, const float *do_THD)
{
    int64_t D = shape->head_dim, heads = b->width / D, begin = b->run.first * fur_far_group(shape);
    FUR_TRY(far_alone(exec, shape, b, count));
    for (int64_t h = 0; h < heads; h++) {
        double sum = 0;
        for (int64_t t = 0; t < count; t++) {
            int64_t i = t * heads + h, at = t * shape->heads + begin + h;
            double inner = 0,
                   share = exp((double)b->lse_TH[i] + (double)fur_far_bias(shape, begin + h) - (double)lse_TH[at]);
            for (int64_t d = 0; d < D && share > 0; d++)
                inner += (double)do_THD[at * D + d] * ((double)b->out_THD[i * D + d] - (double)o_THD[at * D + d]);
            sum += share * inner;
        }
        shape->dbias_H[begin + h] += (float)sum;
    }
    return FUR_OK;
}

/* dq, dk and dv through the far keys. A call's spans must not overlap: one for each chunk. */
static fur_status run_backward(const fur_exec *exec, const fur_attention_shape *shape, const block_rows *b,
                               int64_t count, const float *q_THD, const float *o_THD, const float *lse_TH,
                               const float *do_THD, float *dq_THD)
{
    int64_t D = shape->head_dim, heads = b->width / D, H = shape->heads, begin = b->run.first * fur_far_group(shape);
    for (int64_t i = 0; i < count * heads; i++)
        b->lse_TH[i] = lse_TH[i / heads * H + begin + i % heads] - fur_far_bias(shape, begin + i % heads);
    memset(b->out_THD, 0, (size_t)(count * b->width) * sizeof(float));
    fur_attention_args args = args_of(shape, b);
    args.o_THD = (float *)(uintptr_t)o_THD + begin * D; /* read only */
    args.ldo = H * D;
    args.do_THD = do_THD + begin * D;
    args.lddo = H * D;
    args.dq_THD = b->out_THD;
    args.lddq = b->width;
    args.piece_count = 1;
    for (int64_t p = 0; p < b->piece_count; p++) {
        args.pieces = &b->pieces[p];
        FUR_TRY(fur_attention_backward(exec, &args));
    }
#pragma omp parallel for schedule(static) num_threads(exec->threads) if (count > 64)
    for (int64_t i = 0; i < count * heads; i++) {
        int64_t at = (i / heads * H + begin + i % heads) * D;
        through_unit(shape, q_THD + at, b->out_THD + i * D, dq_THD + at);
    }
    return FUR_OK;
}

fur_status fur_far_exact_query_backward(const fur_exec *exec, const fur_attention_shape *shape,
                                        const fur_attention_state *state, const fur_documents *documents, int64_t first,
                                        int64_t count, const float *q_THD, const float *o_THD, const float *lse_TH,
                                        const float *do_THD, float *dq_THD)
{
    int64_t mark = fur_arena_mark(exec->workspace);
    block_rows b;
    fur_status status = begin_block(exec, shape, documents, first, count, &b);
    for (head_run run = next_run(shape, 0); status == FUR_OK && run.first < run.last; run = next_run(shape, run.last)) {
        begin_run(exec, shape, state, documents, first, count, q_THD, run, &b);
        if (shape->dbias_H)
            status = bias_backward(exec, shape, &b, count, o_THD, lse_TH, do_THD);
        if (status == FUR_OK)
            status = run_backward(exec, shape, &b, count, q_THD, o_THD, lse_TH, do_THD, dq_THD);
    }
    fur_arena_release(exec->workspace, mark);
    return status;
}
