/* SPDX-License-Identifier: Apache-2.0 */
/* Kind `almost-linear`: keys near a query are seen one by one, all others through a sum of polynomial features of fixed
 * size; one softmax over both. Sources: arXiv 2302.13214, 2402.04497, 2408.13233; op/far/far.h has the equations.
 *
 * Positions of a document, chunk c = [cT, (c+1)T), near = w, causal:
 *
 *     | sinks |        far: in the sum          | w before |   chunk c   |
 *     0       s0                             cT - w       cT         (c+1)T
 *
 * so the sum S that chunk c reads holds [s0, cT - w). It grows as the walk ascends; backward walks twice within a
 * block of the sweep: ascending with S, for dq; then descending with G, the gradient of S, which gathers queries, for
 * dk and dv. Keys [cT - w, (c+1)T - w) are far from the chunks behind c and from no other, so that G is theirs when all
 * of these are in it and c is not. Bidirectional rows have a second far part behind the near one, [(c+1)T + w, end): S
 * loses keys as the walk ascends, and a key's dk and dv take G as it is (chunks behind), less G when the near chunks
 * are in it too, plus G of the whole document.
 *
 * The state is keys and values of the rows in sight (keys.h) and S before each block: of fixed size in generation; in
 * backward one S for each block, of the layer in work. */
#include <math.h>
#include <string.h>

#include "attention/far_exact.h"
#include "attention/far_field.h"
#include "attention/far_ranks.h"
#include "attention/keys.h"
#include "base/size.h"

/* Queries of one chunk within a part of a document. */
typedef struct chunk_part {
    int64_t chunk, first, last; /* positions */
} chunk_part;

static chunk_part chunk_part_of(const fur_attention_shape *shape, const fur_document_part *part, int64_t chunk)
{
    return (chunk_part){chunk, fur_max_i64(part->first, chunk * shape->chunk),
                        fur_min_i64(part->last, (chunk + 1) * shape->chunk - 1)};
}

/* A polynomial, and the sums over far keys before each block by it. */
typedef struct far_field {
    const fur_far *far;
    float *sums;
    int64_t floats; /* of one */
} far_field;

static far_field forward_field(const fur_attention_shape *shape, const fur_attention_state *state)
{
    return (far_field){&shape->far, state->far_sums, state->far_floats};
}

static far_field gradient_field(const fur_attention_shape *shape, const fur_attention_state *state)
{
    if (shape->fine.degree)
        return (far_field){&shape->fine, state->fine_sums, state->fine_floats};
    return forward_field(shape, state);
}

/* ---- memory and cost --------------------------------------------------------------------------------------------- */

static int64_t almost_linear_reach(const fur_attention_shape *shape)
{
    return shape->causal && !fur_far_sinks(shape) && !shape->hold_all && !fur_far_spread(shape)
               ? shape->near + shape->chunk
               : INT64_MAX;
}

static void almost_linear_reserve(const fur_attention_shape *shape, int64_t rows, int64_t block, int backward,
                                  fur_arena *arena, fur_attention_state *out)
{
    fur_keys_reserve(shape, almost_linear_reach(shape), rows, block, backward, arena, out);
    out->block = block;
    out->slots = backward ? fur_div_up(rows, block) + 1 : 1;
    out->far_floats = fur_far_state_floats(shape->kv_heads, shape->head_dim, shape->head_dim, shape->far.degree);
    out->far_sums = fur_arena_push_f32(arena, out->slots * out->far_floats);
    int64_t gradient_floats = out->far_floats;
    if (shape->fine.degree) {
        gradient_floats = fur_far_state_floats(shape->kv_heads, shape->head_dim, shape->head_dim, shape->fine.degree);
        out->fine_floats = gradient_floats;
    }
    if (backward && shape->fine.degree)
        out->fine_sums = fur_arena_push_f32(arena, out->slots * out->fine_floats);
    if (backward)
        out->far_gradient = fur_arena_push_f32(arena, gradient_floats);
    if (fur_far_spread(shape)) {
        out->far_carry = fur_arena_push_f32(arena, out->far_floats);
        out->far_gradient_carry = fur_arena_push_f32(arena, out->far_floats);
        out->far_passed = fur_arena_push_f32(arena, out->far_floats / shape->kv_heads);
    }
    if (shape->hold_all)
        fur_far_exact_reserve(shape, rows, backward, arena, out);
}

/* Of a piece: sink tokens and near keys, or near keys around the ring's end, which there is without sink tokens only.
 */
#define MOST_SPANS 2

static int64_t almost_linear_workspace(const fur_exec *exec, const fur_attention_shape *shape, int64_t rows,
                                       int64_t documents, int backward)
{
    int64_t pieces = fur_far_most_pieces(shape, rows, documents);
    int64_t near = fur_attention_workspace(exec, shape->heads, shape->kv_heads, shape->head_dim, rows, backward);
    /* a block shorter than a chunk may still be where a whole one becomes far */
    fur_far function = shape->far;
    if (backward && shape->fine.degree)
        function.degree = shape->fine.degree;
    int64_t far = fur_far_workspace(exec, &function, shape->chunk);
    int64_t exact = shape->hold_all ? fur_far_exact_workspace(exec, shape, rows, documents, backward) : 0;
    return fur_round_up(MOST_SPANS * pieces * (int64_t)sizeof(fur_key_span), FUR_ARENA_ALIGN) +
           /* twice: those of one call of the operator are picked from all */
           2 * fur_round_up(pieces * (int64_t)sizeof(fur_query_piece), FUR_ARENA_ALIGN) +
           fur_max_i64(exact, fur_max_i64(near, far));
}

static void almost_linear_cost(const fur_attention_shape *shape, int64_t rows, int64_t document_rows,
                               fur_attention_cost *out)
{
    double n = (double)document_rows, chunk = (double)shape->chunk, near = (double)shape->near;
    double D = (double)shape->head_dim, H = (double)shape->heads, K = (double)shape->kv_heads;
    double seen = fmin(n, (shape->causal ? chunk / 2 + near : chunk + 2 * near) + (double)fur_far_sinks(shape));
    double sum = 2 * (double)fur_far_features(shape->head_dim, shape->far.degree) * (D + 1);
    double fine = 2 * (double)fur_far_features(shape->head_dim, shape->fine.degree) * (D + 1);
    double far = n > chunk + near ? sum : 0, gradient = far > 0 && shape->fine.degree ? fine : far,
           adds = shape->causal ? 1 : 3, key_visits = shape->causal ? 1 : 3;
    double exact = 4 * D * H * seen;
    out->flops_forward = (double)rows * (exact + far * (adds * K + H));
    out->flops_backward =
        (double)rows * (2.5 * exact + far * adds * K + gradient * (adds * K + 2 * key_visits * K + 2 * H));
    out->flops_last = exact + far * (K + H);
}

/* ---- the sum ----------------------------------------------------------------------------------------------------- */

/* Steps of a block that wait to be done together: so a key head's sum stays in cache. */
enum { MOST_STEPS = 64 };
typedef struct step_list {
    const fur_exec *exec;
    const fur_far *far;
    int64_t count;
    fur_far_step steps[MOST_STEPS];
} step_list;

static fur_status run_steps(step_list *list)
{
    int64_t count = list->count;
    list->count = 0;
    return fur_far_run(list->exec, list->far, list->steps, count);
}

static fur_status add_step(step_list *list, const fur_far_step *step)
{
    if (list->count == MOST_STEPS)
        FUR_TRY(run_steps(list));
    list->steps[list->count++] = *step;
    return FUR_OK;
}

/* Keys [from, to) of a document: S +- them, or their dk and dv +- by G, in runs that the workspace and the ring hold.
 */
static fur_status visit_keys(step_list *list, const fur_attention_shape *shape, const fur_attention_state *state,
                             int64_t start, int64_t from, int64_t to, fur_far_step_type type, float sign, float *sums)
{
    for (int64_t at = from; at < to;) {
        int64_t count = fur_min_i64(to - at, fur_min_i64(shape->chunk, fur_keys_until_end(state, start + at)));
        fur_key_span span;
        fur_keys_spans(shape, state, start, at, at + count, &span);
        const fur_far_step step = {.type = type,
                                   .state_KRE = sums,
                                   .keys = {.k_SKD = span.k_SKD,
                                            .v_SKV = span.v_SKD,
                                            .k_bf16_SKD = span.k_bf16_SKD,
                                            .v_bf16_SKV = span.v_bf16_SKD,
                                            .dk_SKD = span.dk_SKD,
                                            .dv_SKV = span.dv_SKD,
                                            .count = count},
                                   .sign = sign};
        FUR_TRY(add_step(list, &step));
        at += count;
    }
    return FUR_OK;
}

/* All keys of a row of one document, at once. */
static fur_status visit_all(const fur_exec *exec, const fur_attention_shape *shape, const fur_attention_state *state,
                            const fur_documents *documents, fur_far_step_type type, float *sums)
{
    step_list list = {.exec = exec, .far = &shape->far};
    FUR_TRY(visit_keys(&list, shape, state, 0, 0, documents->offsets[documents->count], type, 1, sums));
    return run_steps(&list);
}

/* S of one chunk becomes that of a later one; -1: S is zero. */
static fur_status move_sum(step_list *list, const fur_attention_shape *shape, const fur_attention_state *state,
                           const fur_document_part *part, int64_t from, int64_t to, float *sums)
{
    FUR_TRY(visit_keys(list, shape, state, part->start, fur_far_before(shape, from), fur_far_before(shape, to),
                       FUR_FAR_ADD_KEYS, 1, sums));
    int64_t end = fur_far_behind(shape, part->length, to);
    if (from < 0)
        return visit_keys(list, shape, state, part->start, end, part->length, FUR_FAR_ADD_KEYS, 1, sums);
    return visit_keys(list, shape, state, part->start, fur_far_behind(shape, part->length, from), end, FUR_FAR_ADD_KEYS,
                      -1, sums);
}

/* Queries of a block, and what is wanted of them. */
typedef enum walk_for { WALK_FORWARD, WALK_REBUILD, WALK_GRADIENT } walk_for;

static fur_far_queries queries_of(const fur_attention_shape *shape, const fur_far_queries *block, int64_t row,
                                  int64_t count)
{
    int64_t at = row * shape->heads * shape->head_dim;
    fur_far_queries q = *block;
    q.count = count;
    q.q_THD += at;
    q.o_THV += at;
    q.lse_TH += row * shape->heads;
    q.do_THV = q.do_THV ? q.do_THV + at : NULL;
    q.dq_THD = q.dq_THD ? q.dq_THD + at : NULL;
    return q;
}

/* Chunks of a block ascending, S with them: from that before the block, in its slot, to that before the next, in the
 * next one's. */
static fur_status walk_ascending(const fur_exec *exec, const fur_attention_shape *shape,
                                 const fur_attention_state *state, const far_field *field,
                                 const fur_documents *documents, int64_t first, int64_t count, walk_for what,
                                 const fur_far_queries *block)
{
    int64_t slot = first / state->block, from, to;
    const float *was = field->sums + slot % state->slots * field->floats;
    float *sums = field->sums + (slot + 1) % state->slots * field->floats;
    size_t bytes = (size_t)field->floats * sizeof *sums;
    step_list list = {.exec = exec, .far = field->far};
    fur_documents_touched(documents, first, count, &from, &to);
    for (int64_t d = from; d <= to; d++) {
        fur_document_part part = fur_document_part_of(documents, d, first, count);
        int64_t done = part.first ? (part.first - 1) / shape->chunk : -1;
        FUR_TRY(run_steps(&list)); /* the sum begins anew */
        if (done < 0 && state->far_carry)
            memcpy(sums, state->far_carry, bytes);
        else if (done < 0)
            memset(sums, 0, bytes);
        else if (sums != was)
            memcpy(sums, was, bytes);
        for (int64_t c = part.first / shape->chunk; c <= part.last / shape->chunk; done = c++) {
            chunk_part p = chunk_part_of(shape, &part, c);
            FUR_TRY(move_sum(&list, shape, state, &part, done, c, sums));
            if (what == WALK_REBUILD || !(state->far_carry || fur_far_any(shape, part.length, c)))
                continue;
            int64_t row = part.start + p.first - first;
            fur_far_step step = {.type = what == WALK_FORWARD ? FUR_FAR_QUERY : FUR_FAR_QUERY_BACKWARD,
                                 .state_KRE = sums,
                                 .queries = queries_of(shape, block, row, p.last - p.first + 1)};
            FUR_TRY(add_step(&list, &step));
            if (what != WALK_GRADIENT || !shape->moment_THP)
                continue;
            step.type = FUR_FAR_MOMENTS;
            step.moment_THP = shape->moment_THP + row * shape->heads * (field->far->degree + 1);
            FUR_TRY(add_step(&list, &step));
        }
    }
    return run_steps(&list);
}

static fur_status almost_linear_rebuild(const fur_exec *exec, const fur_attention_shape *shape,
                                        fur_attention_state *state, const fur_documents *documents, int64_t first,
                                        int64_t count)
{
    far_field forward = forward_field(shape, state), gradient = gradient_field(shape, state);
    FUR_TRY(walk_ascending(exec, shape, state, &forward, documents, first, count, WALK_REBUILD, NULL));
    if (!shape->fine.degree)
        return FUR_OK;
    return walk_ascending(exec, shape, state, &gradient, documents, first, count, WALK_REBUILD, NULL);
}

/* Chunks of a block descending, G with them. */
static fur_status walk_descending(const fur_exec *exec, const fur_attention_shape *shape,
                                  const fur_attention_state *state, const far_field *field,
                                  const fur_documents *documents, int64_t first, int64_t count,
                                  const fur_far_queries *block)
{
    float *G = state->far_gradient;
    step_list list = {.exec = exec, .far = field->far};
    int64_t from, to;
    fur_documents_touched(documents, first, count, &from, &to);
    for (int64_t d = to; d >= from; d--) {
        fur_document_part part = fur_document_part_of(documents, d, first, count);
        int64_t last_chunk = (part.length - 1) / shape->chunk;
        FUR_TRY(run_steps(&list));
        if (part.last == part.length - 1)
            memset(G, 0, (size_t)field->floats * sizeof *G);
        for (int64_t c = part.last / shape->chunk; c >= part.first / shape->chunk; c--) {
            chunk_part p = chunk_part_of(shape, &part, c);
            int64_t chunk_end = fur_min_i64((c + 1) * shape->chunk, part.length);
            if (c < last_chunk && p.last == chunk_end - 1) { /* all chunks behind c are in G, and nothing of c */
                FUR_TRY(visit_keys(&list, shape, state, part.start, fur_far_before(shape, c),
                                   fur_far_before(shape, c + 1), FUR_FAR_KEY_BACKWARD, 1, G));
                FUR_TRY(visit_keys(&list, shape, state, part.start, fur_far_behind(shape, part.length, c),
                                   fur_far_behind(shape, part.length, c + 1), FUR_FAR_KEY_BACKWARD, -1, G));
            }
            if (!(state->far_carry || fur_far_any(shape, part.length, c)))
                continue;
            int64_t row = part.start + p.first - first;
            const fur_far_step step = {.type = FUR_FAR_ADD_QUERIES,
                                       .state_KRE = G,
                                       .queries = queries_of(shape, block, row, p.last - p.first + 1)};
            FUR_TRY(add_step(&list, &step));
        }
        if (part.first == 0)
            FUR_TRY(visit_keys(&list, shape, state, part.start, fur_far_behind(shape, part.length, 0), part.length,
                               FUR_FAR_KEY_BACKWARD, 1, G));
    }
    return run_steps(&list);
}

/* ---- near keys --------------------------------------------------------------------------------------------------- */

typedef struct near_pieces {
    fur_query_piece *pieces, *picked;
    int64_t count;
} near_pieces;

static void make_piece(const fur_attention_shape *shape, const fur_attention_state *state,
                       const fur_document_part *part, chunk_part p, int64_t first_row, fur_key_span *spans,
                       fur_query_piece *out)
{
    int64_t from = fur_max_i64(0, p.chunk * shape->chunk - shape->near), spans_made = 0;
    int64_t sinks = fur_far_sinks(shape);
    int64_t to = shape->causal
                     ? p.last + 1
                     : fur_min_i64(part->length, fur_max_i64(sinks, (p.chunk + 1) * shape->chunk + shape->near));
    sinks = fur_min_i64(sinks, to);
    if (sinks >= from)
        from = 0;
    else if (sinks)
        spans_made = fur_keys_spans(shape, state, part->start, 0, sinks, spans);
    spans_made += fur_keys_spans(shape, state, part->start, from, to, spans + spans_made);
    *out = (fur_query_piece){.first_row = first_row,
                             .count = p.last - p.first + 1,
                             .first_position = p.first,
                             .first_token = part->start + p.first,
                             .spans = spans,
                             .span_count = spans_made};
}

static fur_status make_pieces(const fur_exec *exec, const fur_attention_shape *shape, const fur_attention_state *state,
                              const fur_documents *documents, int64_t first, int64_t count, near_pieces *out)
{
    int64_t from, to;
    fur_documents_touched(documents, first, count, &from, &to);
    int64_t most = fur_far_most_pieces(shape, count, to - from + 1);
    fur_key_span *spans = fur_arena_push(exec->workspace, MOST_SPANS * most * (int64_t)sizeof *spans);
    out->pieces = fur_arena_push(exec->workspace, most * (int64_t)sizeof *out->pieces);
    out->picked = fur_arena_push(exec->workspace, most * (int64_t)sizeof *out->picked);
    out->count = 0;
    if (!spans || !out->pieces || !out->picked)
        return fur_error_set(exec->error, FUR_E_MEMORY, "attention: workspace too small for %lld pieces",
                             (long long)most);
    for (int64_t d = from; d <= to; d++) {
        fur_document_part part = fur_document_part_of(documents, d, first, count);
        for (int64_t c = part.first / shape->chunk; c <= part.last / shape->chunk; c++) {
            chunk_part p = chunk_part_of(shape, &part, c);
            make_piece(shape, state, &part, p, part.start + p.first - first, &spans[MOST_SPANS * out->count],
                       &out->pieces[out->count]);
            out->count++;
        }
    }
    return FUR_OK;
}

static fur_attention_args near_args(const fur_attention_shape *shape)
{
    fur_attention_args args = fur_keys_args(shape);
    args.features.sink_tokens = 0; /* pieces have spans for them */
    return args;
}

/* dq, dk, dv through near keys. A call's spans must not overlap: pieces so far apart that theirs do not, one call for
 * each remainder. */
static fur_status near_backward(const fur_exec *exec, const fur_attention_shape *shape, const near_pieces *near,
                                fur_attention_args *args)
{
    int64_t reach = shape->causal ? shape->near : 2 * shape->near;
    int64_t apart = fur_far_sinks(shape) ? near->count : fur_min_i64(near->count, fur_div_up(reach, shape->chunk) + 1);
    for (int64_t remainder = 0; remainder < apart; remainder++) {
        int64_t picked = 0;
        for (int64_t i = remainder; i < near->count; i += apart)
            near->picked[picked++] = near->pieces[i];
        args->pieces = near->picked;
        args->piece_count = picked;
        FUR_TRY(fur_attention_backward(exec, args));
    }
    return FUR_OK;
}

/* ---- the kind ---------------------------------------------------------------------------------------------------- */

/* Key heads with a normaliser that is not positive are exact from now on. */
static void name_exact(const fur_attention_shape *shape, int64_t count, const float *lse_TH)
{
    for (int64_t i = 0; i < count * shape->heads; i++)
        if (isnan(lse_TH[i]))
            shape->exact_K[i % shape->heads * shape->kv_heads / shape->heads] = 1;
}

static fur_status almost_linear_absorb(const fur_exec *exec, const fur_attention_shape *shape,
                                       fur_attention_state *state, const fur_documents *documents, int64_t first,
                                       int64_t count, float *k_TKD, float *v_TKD)
{
    FUR_TRY(fur_keys_absorb(exec, shape, state, documents, first, count, k_TKD, v_TKD));
    if (fur_far_exact_any(shape))
        fur_far_exact_absorb(exec, shape, state, first, count);
    return FUR_OK;
}

static fur_status almost_linear_query(const fur_exec *exec, const fur_attention_shape *shape,
                                      const fur_attention_state *state, const fur_documents *documents, int64_t first,
                                      int64_t count, const float *q_THD, float *o_THD, float *lse_TH)
{
    if (count == 0)
        return FUR_OK;
    int64_t mark = fur_arena_mark(exec->workspace);
    near_pieces near;
    fur_status status = make_pieces(exec, shape, state, documents, first, count, &near);
    if (status == FUR_OK) {
        fur_attention_args args = near_args(shape);
        args.pieces = near.pieces;
        args.piece_count = near.count;
        args.q_THD = q_THD;
        args.o_THD = o_THD;
        args.lse_TH = lse_TH;
        status = fur_attention_forward(exec, &args);
    }
    fur_arena_release(exec->workspace, mark);
    FUR_TRY(status);
    if (fur_far_exact_any(shape))
        FUR_TRY(fur_far_exact_query(exec, shape, state, documents, first, count, q_THD, o_THD, lse_TH));
    const fur_far_queries block = {.q_THD = q_THD, .o_THV = o_THD, .lse_TH = lse_TH};
    far_field field = forward_field(shape, state);
    status = walk_ascending(exec, shape, state, &field, documents, first, count, WALK_FORWARD, &block);
    if (status == FUR_E_NONFINITE && shape->exact_K)
        name_exact(shape, count, lse_TH);
    return status;
}

static fur_status almost_linear_query_backward(const fur_exec *exec, const fur_attention_shape *shape,
                                               fur_attention_state *state, const fur_documents *documents,
                                               int64_t first, int64_t count, const float *q_THD, const float *o_THD,
                                               const float *lse_TH, const float *do_THD, float *dq_THD)
{
    if (count == 0)
        return FUR_OK;
    /* backward only reads o and lse; the operators' argument blocks serve both directions */
    float *o = (float *)(uintptr_t)o_THD, *lse = (float *)(uintptr_t)lse_TH;
    int64_t mark = fur_arena_mark(exec->workspace);
    near_pieces near;
    fur_status status = make_pieces(exec, shape, state, documents, first, count, &near);
    if (status == FUR_OK) {
        fur_attention_args args = near_args(shape);
        args.q_THD = q_THD;
        args.o_THD = o;
        args.lse_TH = lse;
        args.do_THD = do_THD;
        args.dq_THD = dq_THD;
        status = near_backward(exec, shape, &near, &args);
    }
    fur_arena_release(exec->workspace, mark);
    FUR_TRY(status);
    if (fur_far_exact_any(shape))
        FUR_TRY(
            fur_far_exact_query_backward(exec, shape, state, documents, first, count, q_THD, o, lse, do_THD, dq_THD));
    const fur_far_queries block = {
        .q_THD = q_THD, .o_THV = o, .lse_TH = lse, .do_THV = do_THD, .dq_THD = dq_THD, .dbias_H = shape->dbias_H};
    far_field gradient = gradient_field(shape, state);
    if (shape->moment_THP)
        memset(shape->moment_THP, 0, (size_t)(count * shape->heads * (gradient.far->degree + 1)) * sizeof(float));
    FUR_TRY(walk_ascending(exec, shape, state, &gradient, documents, first, count, WALK_GRADIENT, &block));
    return walk_descending(exec, shape, state, &gradient, documents, first, count, &block);
}

static void almost_linear_begin_backward(const fur_exec *exec, const fur_attention_shape *shape,
                                         fur_attention_state *state, int64_t first, int64_t count)
{
    fur_keys_begin_backward(exec, shape, state, first, count);
    if (fur_far_exact_any(shape))
        fur_far_exact_begin_backward(shape, state, first, count);
}

static fur_status almost_linear_key_gradients(const fur_exec *exec, const fur_attention_shape *shape,
                                              fur_attention_state *state, int64_t first, int64_t count, float **dk_TKD,
                                              float **dv_TKD)
{
    if (fur_far_exact_any(shape))
        fur_far_exact_key_gradients(exec, shape, state, first, count);
    return fur_keys_gradients(exec, shape, state, first, count, dk_TKD, dv_TKD);
}

/* Every rank's keys are absorbed: their sum goes on to the ranks behind. One document goes through all of them. */
static fur_status almost_linear_exchange(const fur_exec *exec, const fur_attention_shape *shape,
                                         fur_attention_state *state, const fur_documents *documents)
{
    if (!fur_far_spread(shape))
        return FUR_OK;
    float *own = state->far_gradient_carry; /* free until the way back */
    memset(own, 0, (size_t)state->far_floats * sizeof *own);
    FUR_TRY(visit_all(exec, shape, state, documents, FUR_FAR_ADD_KEYS, own));
    return fur_far_scan(exec, shape, 1, own, state->far_passed, state->far_carry, state->far_floats);
}

/* Every rank's queries are in its G: what those behind make of it is for all keys here, which are far from them. */
static fur_status almost_linear_exchange_backward(const fur_exec *exec, const fur_attention_shape *shape,
                                                  fur_attention_state *state, const fur_documents *documents)
{
    if (!fur_far_spread(shape))
        return FUR_OK;
    FUR_TRY(fur_far_scan(exec, shape, -1, state->far_gradient, state->far_passed, state->far_gradient_carry,
                         state->far_floats));
    return visit_all(exec, shape, state, documents, FUR_FAR_KEY_BACKWARD, state->far_gradient_carry);
}

static int almost_linear_keys_ready_at_once(const fur_attention_shape *shape)
{
    return shape->causal && !fur_far_spread(shape);
}

const fur_attention_kind fur_attention_almost_linear = {
    .name = "almost-linear",
    .reserve = almost_linear_reserve,
    .reach = almost_linear_reach,
    .workspace = almost_linear_workspace,
    .cost = almost_linear_cost,
    .key_rows = fur_keys_rows,
    .absorb = almost_linear_absorb,
    .exchange = almost_linear_exchange,
    .rebuild = almost_linear_rebuild,
    .query = almost_linear_query,
    .begin_backward = almost_linear_begin_backward,
    .exchange_backward = almost_linear_exchange_backward,
    .query_backward = almost_linear_query_backward,
    .keys_ready_at_once = almost_linear_keys_ready_at_once,
    .key_gradients = almost_linear_key_gradients,
};
