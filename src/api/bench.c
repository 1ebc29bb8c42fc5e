/* SPDX-License-Identifier: Apache-2.0 */
/* Timing of operators and whole steps: the same calls that training makes, best of several repetitions. */
#include <math.h>
#include <string.h>

#include "attention/far_fit.h"
#include "attention/kind.h"
#include "base/alloc.h"
#include "base/clock.h"
#include "base/context.h"
#include "base/random.h"
#include "base/size.h"
#include "furlong/furlong.h"
#include "model/run.h"
#include "op/peak/peak.h"
#include "plan/plan.h"
#include "plan/rate.h"
#include "projection/kind.h"

/* At least 3 repetitions, then until half a second has gone, at most 50. */
#define LEAST_REPETITIONS 3
#define MOST_REPETITIONS  50
#define BENCH_SECONDS     0.5
#define ENOUGH_SECONDS    20.0 /* what takes this long is not repeated */

/* Superblock in which the sweep would call attention. */
#define BENCH_SUPERBLOCK 4096

typedef fur_status (*timed_fn)(void *user);

static fur_status best_of(timed_fn fn, void *user, double *seconds, int *repetitions)
{
    double start = fur_clock_seconds();
    *seconds = (double)INFINITY;
    for (*repetitions = 0; *repetitions < MOST_REPETITIONS; ++*repetitions) {
        double spent = fur_clock_seconds() - start;
        if ((*repetitions >= LEAST_REPETITIONS && spent > BENCH_SECONDS) || spent > ENOUGH_SECONDS)
            break;
        double before = fur_clock_seconds();
        FUR_TRY(fn(user));
        *seconds = fmin(*seconds, fur_clock_seconds() - before);
    }
    return FUR_OK;
}

fur_status fur_bench_peak(fur_context *context, fur_bench_result *out)
{
    memset(out, 0, sizeof *out);
    context->gflops = 0; /* measure anew */
    FUR_TRY(fur_rate_measure(context, &out->product_gflops));
    if (context->exec.compute == FUR_COMPUTE_BF16)
        FUR_TRY(fur_peak_bf16(&context->exec, &out->register_gflops));
    else
        FUR_TRY(fur_peak_f32(&context->exec, &out->register_gflops));
    out->peak_gflops = fmax(out->product_gflops, out->register_gflops);
    return FUR_OK;
}

/* The peak is the larger of before and after: a neighbour's burst must not lower it. */
static fur_status add_peak(fur_context *context, fur_bench_result *out)
{
    fur_bench_result peak;
    FUR_TRY(fur_bench_peak(context, &peak));
    out->product_gflops = fmax(out->product_gflops, peak.product_gflops);
    out->register_gflops = fmax(out->register_gflops, peak.register_gflops);
    out->peak_gflops = fmax(out->peak_gflops, peak.peak_gflops);
    return FUR_OK;
}

/* ---- attention -------------------------------------------------------------------------------------------- */

typedef struct attention_bench {
    fur_exec exec;
    fur_arena arena;
    const fur_attention_kind *kind;
    fur_attention_shape shape;
    fur_attention_state state;
    fur_documents documents;
    int64_t offsets[2], tokens, width, key_width, block;
    float *q, *k, *v, *o, *lse, *do_, *dq; /* k and v: of one block, the same for all */
    float *mean, *coefficient;             /* almost-linear */
    fur_far_sample sample;                 /* likewise, and where backward shows it its rows */
    int sampling;
} attention_bench;

static int64_t block_rows(const attention_bench *b, int64_t first)
{
    return fur_min_i64(b->block, b->tokens - first);
}

/* As the sweep does: keys go to where the kind wants them, in backward with zero gradients. */
static fur_status bench_absorb(attention_bench *b, int64_t first, int backward)
{
    float *k = b->k, *v = b->v;
    size_t bytes = (size_t)(block_rows(b, first) * b->key_width) * sizeof(float);
    b->kind->key_rows(&b->shape, &b->state, first, &k, &v);
    if (k != b->k) {
        memcpy(k, b->k, bytes);
        memcpy(v, b->v, bytes);
    }
    FUR_TRY(b->kind->absorb(&b->exec, &b->shape, &b->state, &b->documents, first, block_rows(b, first), k, v));
    if (backward)
        b->kind->begin_backward(&b->exec, &b->shape, &b->state, first, block_rows(b, first));
    return FUR_OK;
}

static fur_status attention_forward(void *user)
{
    attention_bench *b = user;
    int64_t reach = b->kind->reach(&b->shape);
    for (int64_t first = 0; first < b->tokens; first += b->block) {
        if (reach != INT64_MAX)
            FUR_TRY(bench_absorb(b, first, 0));
        FUR_TRY(b->kind->query(&b->exec, &b->shape, &b->state, &b->documents, first, block_rows(b, first),
                               b->q + first * b->width, b->o + first * b->width, b->lse + first * b->shape.heads));
    }
    return FUR_OK;
}

static fur_status sample_keys(attention_bench *b, int64_t first)
{
    float *dk, *dv;
    FUR_TRY(b->kind->key_gradients(&b->exec, &b->shape, &b->state, first, block_rows(b, first), &dk, &dv));
    fur_far_sample_gradients(&b->exec, &b->sample, &b->state, first, block_rows(b, first), dk, dv);
    return FUR_OK;
}

static fur_status sample_block(attention_bench *b, int64_t first)
{
    int64_t at = first * b->width;
    fur_far_sample_queries(&b->exec, &b->sample, first, block_rows(b, first), b->q + at, b->o + at,
                           b->lse + first * b->shape.heads, b->do_ + at, b->dq + at);
    return b->shape.causal ? sample_keys(b, first) : FUR_OK;
}

static fur_status attention_backward(void *user)
{
    attention_bench *b = user;
    int64_t last = (b->tokens - 1) / b->block * b->block, reach = b->kind->reach(&b->shape), absorbed = last + b->block;
    for (int64_t first = 0; b->kind->rebuild && first <= last; first += b->block) {
        if (reach != INT64_MAX)
            FUR_TRY(bench_absorb(b, first, 0));
        if (b->sampling)
            fur_far_sample_keys(&b->sample, &b->state, first, block_rows(b, first));
        FUR_TRY(b->kind->rebuild(&b->exec, &b->shape, &b->state, &b->documents, first, block_rows(b, first)));
    }
    for (int64_t first = last; first >= 0; first -= b->block) {
        int64_t lowest = reach < first ? (first - reach) / b->block * b->block : 0;
        while (reach != INT64_MAX && absorbed > lowest)
            FUR_TRY(bench_absorb(b, absorbed -= b->block, 1));
        FUR_TRY(b->kind->query_backward(&b->exec, &b->shape, &b->state, &b->documents, first, block_rows(b, first),
                                        b->q + first * b->width, b->o + first * b->width,
                                        b->lse + first * b->shape.heads, b->do_ + first * b->width,
                                        b->dq + first * b->width));
        if (b->sampling)
            FUR_TRY(sample_block(b, first));
    }
    for (int64_t first = 0; b->sampling && !b->shape.causal && first <= last; first += b->block)
        FUR_TRY(sample_keys(b, first));
    return FUR_OK;
}

static void attention_lay_out(attention_bench *b, fur_arena *arena)
{
    b->kind->reserve(&b->shape, b->tokens, b->block, 1, arena, &b->state);
    b->q = fur_arena_push_f32(arena, b->tokens * b->width);
    b->k = fur_arena_push_f32(arena, b->block * b->key_width);
    b->v = fur_arena_push_f32(arena, b->block * b->key_width);
    b->o = fur_arena_push_f32(arena, b->tokens * b->width);
    b->do_ = fur_arena_push_f32(arena, b->tokens * b->width);
    b->dq = fur_arena_push_f32(arena, b->tokens * b->width);
    b->lse = fur_arena_push_f32(arena, b->tokens * b->shape.heads);
    b->mean = fur_arena_push_f32(arena, b->key_width);
    b->coefficient = fur_arena_push_f32(arena, b->shape.kv_heads * (FUR_FAR_MOST_DEGREE + 1));
    if (b->shape.far.degree)
        fur_far_sample_reserve(&b->shape, FUR_ERROR_ROWS, b->block, arena, &b->sample);
}

/* One more backward, not timed, and the largest error of a head. */
static fur_status add_errors(attention_bench *b, fur_bench_result *out)
{
    out->error_output = out->error_dq = out->error_dk = out->error_dv = (double)NAN;
    if (!b->shape.far.degree)
        return FUR_OK;
    fur_far_sample_begin(&b->sample, &b->shape, &b->documents, 1, 0);
    for (int64_t first = 0; b->kind->reach(&b->shape) == INT64_MAX && first < b->tokens; first += b->block)
        b->kind->begin_backward(&b->exec, &b->shape, &b->state, first, block_rows(b, first));
    b->sampling = 1;
    b->shape.moment_THP = b->sample.moment_BHP;
    fur_status status = attention_backward(b);
    b->sampling = 0;
    b->shape.moment_THP = NULL;
    fur_head_error *errors = fur_calloc((size_t)b->shape.heads, sizeof *errors);
    if (status == FUR_OK && !errors)
        status = fur_error_set(b->exec.error, FUR_E_MEMORY, "no memory for the errors of heads");
    if (status == FUR_OK)
        fur_far_sample_end(&b->sample, errors);
    for (int64_t h = 0; status == FUR_OK && h < b->shape.heads; h++) {
        out->error_output = fmax(out->error_output, errors[h].o.value);
        out->error_dq = fmax(out->error_dq, errors[h].dq.value);
        out->error_dk = fmax(out->error_dk, errors[h].dk.value);
        out->error_dv = fmax(out->error_dv, errors[h].dv.value);
    }
    fur_free(errors);
    return status;
}

/* Constants of a new model. */
static void set_far(attention_bench *b)
{
    fur_far *far = &b->shape.far;
    memset(b->mean, 0, (size_t)b->key_width * sizeof *b->mean);
    for (int64_t h = 0; far->degree && h < b->shape.kv_heads; h++)
        fur_far_fit_normal((double)far->bound / sqrt((double)b->shape.head_dim), (double)far->bound, far->degree,
                           b->coefficient + h * (far->degree + 1));
    far->query_mean_KD = far->key_mean_KD = b->mean;
    far->coefficient_KP = b->coefficient;
}

static fur_status time_attention(attention_bench *b, fur_context *context, fur_bench_result *out)
{
    fur_random_normal(1, 1, 1.0, b->q, b->tokens * b->width);
    fur_random_normal(1, 2, 1.0, b->do_, b->tokens * b->width);
    fur_random_normal(1, 3, 1.0, b->k, b->block * b->key_width);
    fur_random_normal(1, 4, 1.0, b->v, b->block * b->key_width);
    set_far(b);
    for (int64_t first = 0; b->kind->reach(&b->shape) == INT64_MAX && first < b->tokens; first += b->block)
        FUR_TRY(bench_absorb(b, first, 1));
    FUR_TRY(add_peak(context, out));
    int repetitions;
    FUR_TRY(best_of(attention_forward, b, &out->forward_seconds, &out->repetitions));
    FUR_TRY(best_of(attention_backward, b, &out->backward_seconds, &repetitions));
    out->repetitions = repetitions < out->repetitions ? repetitions : out->repetitions;
    fur_attention_cost cost;
    b->kind->cost(&b->shape, b->tokens, b->tokens, &cost);
    out->forward_gflops = cost.flops_forward / out->forward_seconds * 1e-9;
    out->backward_gflops = cost.flops_backward / out->backward_seconds * 1e-9;
    FUR_TRY(add_peak(context, out));
    return add_errors(b, out);
}

/* A model of one layer says whether a shape is good, by the checks and in the words of models. */
static fur_status bench_config(fur_context *context, const fur_bench_attention_settings *s, fur_model_config *out)
{
    FUR_TRY(fur_config_preset(context, "bytes-1m", s->tokens, out));
    out->layers = 1;
    out->heads = s->heads;
    out->kv_heads = s->kv_heads;
    out->head_dim = s->head_dim;
    out->position = FUR_POSITION_LEARNED;
    out->context = fur_min_i64(s->tokens, 1 << 20);
    out->causal = !s->bidirectional;
    out->far_degree = s->degree;
    out->far_bound = s->bound;
    out->far_chunk = s->chunk;
    out->far_max_features = s->max_features;
    FUR_TRY(fur_config_set_attention(context, out, s->kind ? s->kind : "exact"));
    FUR_TRY(fur_config_check(context, out));
    out->context = s->tokens;
    if (s->window >= 0)
        out->window[0] = s->window;
    return FUR_OK;
}

fur_status fur_bench_attention(fur_context *context, const fur_bench_attention_settings *s, fur_bench_result *out)
{
    memset(out, 0, sizeof *out);
    if (s->tokens < 1 || s->tokens > (int64_t)1 << 32 || s->window < -1)
        return fur_error_set(&context->error, FUR_E_ARGUMENT,
                             "attention of %lld tokens, window %lld: expected 1 to 2^32 tokens, a window of at least 0",
                             (long long)s->tokens, (long long)s->window);
    fur_model_config config;
    FUR_TRY(bench_config(context, s, &config));
    attention_bench b = {.exec = context->exec,
                         .kind = fur_attention_kind_at(config.attention[0]),
                         .shape = fur_config_attention_shape(&config, 0),
                         .tokens = s->tokens,
                         .width = s->heads * s->head_dim,
                         .key_width = s->kv_heads * s->head_dim,
                         .block = fur_min_i64(BENCH_SUPERBLOCK, s->tokens),
                         .offsets = {0, s->tokens}};
    b.shape.compute = context->exec.compute;
    b.documents = (fur_documents){1, b.offsets};
    int64_t work = fur_max_i64(b.kind->workspace(&b.exec, &b.shape, b.block, 1, 0),
                               b.kind->workspace(&b.exec, &b.shape, b.block, 1, 1));
    fur_arena counting = fur_arena_counting();
    attention_lay_out(&b, &counting);
    FUR_TRY(fur_arena_create(&context->error, counting.peak + work + FUR_ARENA_ALIGN, &b.arena));
    attention_lay_out(&b, &b.arena);
    b.exec.workspace = &b.arena;
    fur_status status = time_attention(&b, context, out);
    fur_arena_destroy(&b.arena);
    return status;
}

/* ---- projection ------------------------------------------------------------------------------------------- */

typedef struct projection_bench {
    fur_exec exec;
    fur_projection map;
    fur_projection_input input;
    fur_gradient_sink sink;
    float *x, *y, *weight;
} projection_bench;

static fur_status projection_forward(void *user)
{
    projection_bench *b = user;
    return fur_projection_generate(&b->exec, &b->map, &b->input, 0, b->y, b->map.out);
}

static fur_status projection_backward(void *user)
{
    projection_bench *b = user;
    return b->map.kind->backward(&b->exec, &b->map, &b->input, b->y, b->map.out, 0, b->x, b->map.in, &b->sink);
}

fur_status fur_bench_projection(fur_context *context, int64_t tokens, int64_t in, int64_t out_width,
                                fur_bench_result *out)
{
    memset(out, 0, sizeof *out);
    if (tokens < 1 || tokens > (int64_t)1 << 24 || in < 1 || in > 1 << 20 || out_width < 1 || out_width > 1 << 20)
        return fur_error_set(&context->error, FUR_E_ARGUMENT, "projection of %lld tokens, %lld to %lld is out of range",
                             (long long)tokens, (long long)in, (long long)out_width);
    projection_bench b = {.exec = context->exec,
                          .map = {.kind = fur_projection_kind_at(0), .in = in, .out = out_width}};
    int64_t floats = tokens * (in + out_width) + 2 * in * out_width;
    fur_arena arena;
    FUR_TRY(fur_arena_create(&context->error, floats * 4 + b.map.kind->workspace(&b.exec, &b.map, tokens, 1) + 4096,
                             &arena));
    b.exec.workspace = &arena;
    b.x = fur_arena_push_f32(&arena, tokens * in);
    b.y = fur_arena_push_f32(&arena, tokens * out_width);
    b.map.weight = b.weight = fur_arena_push_f32(&arena, in * out_width);
    b.sink.weight = fur_arena_push_f32(&arena, in * out_width);
    fur_random_normal(1, 1, 1.0, b.x, tokens * in);
    fur_random_normal(1, 2, 1.0, b.weight, in * out_width);
    fur_status status = b.map.kind->prepare(&b.exec, &b.map, tokens, b.x, in, &b.input);
    int repetitions;
    if (status == FUR_OK)
        status = add_peak(context, out);
    if (status == FUR_OK)
        status = best_of(projection_forward, &b, &out->forward_seconds, &out->repetitions);
    if (status == FUR_OK)
        status = best_of(projection_backward, &b, &out->backward_seconds, &repetitions);
    if (status == FUR_OK) {
        double flops = b.map.kind->flops(&b.map) * (double)tokens;
        out->forward_gflops = flops / out->forward_seconds * 1e-9;
        out->backward_gflops = 2 * flops / out->backward_seconds * 1e-9;
        status = add_peak(context, out);
    }
    fur_arena_destroy(&arena);
    return status;
}

/* ---- whole steps ------------------------------------------------------------------------------------------ */

typedef struct step_bench {
    fur_run *run;
    fur_row row;
    int64_t step;
    double update_seconds, fastest, fastest_update; /* of the optimizer in this step; of the fastest one */
    fur_lookup_update tables;
    double lr_before[FUR_LOOKUP_BEHIND];
} step_bench;

static fur_status one_step(void *user)
{
    step_bench *b = user;
    fur_model *model = b->run->model;
    double loss, start = fur_clock_seconds();
    fur_model_zero_gradients(model);
    b->update_seconds = 0;
    b->tables.step = b->step + 1;
    if (b->run->behind && b->step % FUR_LOOKUP_BEHIND == 0)
        FUR_TRY(fur_run_settle_tables(b->run, &b->tables));
    FUR_TRY(fur_model_loss_and_gradient(b->run, &b->row, NULL, 1.0, &loss, NULL));
    double updated_from = fur_clock_seconds();
    fur_adamw_args args = {.lr = 1e-4,
                           .beta1 = 0.9,
                           .beta2 = 0.95,
                           .eps = 1e-8,
                           .weight_decay = 0.1,
                           .step = ++b->step,
                           .grad_scale = 1.0f};
    FUR_TRY(fur_run_adamw(b->run, &args));
    double end = fur_clock_seconds();
    b->update_seconds += end - updated_from;
    if (b->step == 1 || end - start < b->fastest) {
        b->fastest = end - start;
        b->fastest_update = b->update_seconds;
    }
    return FUR_OK;
}

static fur_status update_tables(void *user, int64_t layer)
{
    step_bench *b = user;
    bool changed;
    double start = fur_clock_seconds();
    fur_status status = fur_run_update_tables(b->run, layer, 1, b->tables, &changed);
    b->update_seconds += fur_clock_seconds() - start;
    return status;
}

static fur_status time_steps(fur_context *context, fur_model *model, const fur_plan *plan,
                             const fur_plan_request *request, fur_bench_result *out)
{
    int64_t tokens = request->row_tokens, documents = 0;
    step_bench b = {0};
    FUR_TRY(fur_run_create(context, model, plan, request, &b.run));
    fur_run_memory *m = &b.run->memory;
    int64_t document = request->document_tokens ? request->document_tokens : tokens;
    for (int64_t at = 0; at < tokens; at += document)
        m->row_offsets[documents++] = at;
    m->row_offsets[documents] = tokens;
    fur_status status = fur_moments_zero(&b.run->exec, &m->moments);
    fur_run_clear_row_moments(b.run);
    b.tables = (fur_lookup_update){.lr = 1e-4,
                                   .lr_before = b.lr_before,
                                   .beta1 = 0.9,
                                   .beta2 = 0.95,
                                   .eps = 1e-8,
                                   .weight_decay = 0.1,
                                   .grad_scale = 1};
    for (int i = 0; i < FUR_LOOKUP_BEHIND; i++)
        b.lr_before[i] = b.tables.lr;
    b.run->behind = request->row_updates ? &b.tables : NULL;
    b.run->on_layer_done = request->row_updates ? update_tables : NULL;
    b.run->layer_done_user = &b;
    for (int64_t t = 0; t < tokens; t++) {
        m->row_ids_T[t] = (int32_t)(fur_random_u64(1, 5, (uint64_t)t) % (uint64_t)model->config.vocabulary);
        m->row_targets_T[t] = (int32_t)(fur_random_u64(1, 6, (uint64_t)t) % (uint64_t)model->config.vocabulary);
    }
    b.row = (fur_row){
        .documents = documents, .offsets = m->row_offsets, .ids_T = m->row_ids_T, .target_T = m->row_targets_T};
    if (status == FUR_OK)
        status = best_of(one_step, &b, &out->step_seconds, &out->repetitions);
    if (status == FUR_OK) {
        out->tokens_per_second = (double)tokens / out->step_seconds;
        out->update_seconds = b.fastest_update;
        out->peak_rss_bytes = fur_process_peak_rss_bytes();
        out->planned_peak_bytes = plan->peak_bytes;
        out->planned_seconds = plan->seconds;
        out->disk_bytes = plan->disk_bytes;
        status = add_peak(context, out);
    }
    fur_run_destroy(b.run);
    return status;
}

fur_status fur_bench_step(fur_context *context, const fur_model_config *config, const fur_plan_request *request,
                          fur_bench_result *out)
{
    memset(out, 0, sizeof *out);
    if (config->features)
        return fur_error_set(&context->error, FUR_E_UNSUPPORTED, "steps are timed on token models");
    if (request->purpose != FUR_FOR_TRAIN)
        return fur_error_set(&context->error, FUR_E_ARGUMENT, "steps are timed for training");
    fur_plan plan;
    FUR_TRY(fur_plan_make(context, config, request, &plan));
    if (!plan.fits)
        return fur_plan_refuse(context, config, request, &plan);
    fur_model *model;
    FUR_TRY(fur_model_create(context, config, 1, &model));
    fur_status status = time_steps(context, model, &plan, request, out);
    fur_model_destroy(model);
    return status;
}
