/* SPDX-License-Identifier: Apache-2.0 */
/* Generation with a key/value cache: the prompt goes through the blockwise sweep in chunks, then one token at a time.
 * The same layer code as training runs; every layer keeps its attention state. */
#include "base/alloc.h"
#include "base/size.h"
#include "model/config.h"
#include "model/run.h"
#include "model/sampling.h"

#define PROMPT_CHUNK 512

static fur_run_shape generation_shape(const fur_model_config *c, int64_t tokens)
{
    return (fur_run_shape){.purpose = FUR_FOR_GENERATE,
                           .tokens = tokens,
                           .superblock = PROMPT_CHUNK,
                           .token_tile = PROMPT_CHUNK,
                           .loss_tile = 1,
                           .vocabulary_tile = c->vocabulary};
}

typedef struct generation {
    fur_run run;
    fur_row row;
    int64_t offsets[2];
    int32_t *ids; /* prompt and what came after */
    fur_candidate *scratch;
} generation;

/* On a counting arena this is the plan. */
static void lay_out(fur_context *context, const fur_model *model, int64_t tokens, fur_arena *arena, generation *g)
{
    g->run.shape = generation_shape(&model->config, tokens);
    fur_run_layout(&context->exec, &model->config, &model->table, &g->run.shape, arena, NULL, NULL, &g->run.memory);
    g->ids = fur_arena_push(arena, tokens * (int64_t)sizeof *g->ids);
    g->scratch = fur_arena_push(arena, model->config.vocabulary * (int64_t)sizeof *g->scratch);
}

static fur_status check(fur_context *context, const fur_model *model, const int32_t *prompt, int64_t prompt_count,
                        int64_t count, const fur_sampling *sampling, int64_t *tokens)
{
    const fur_model_config *c = &model->config;
    fur_error *error = &context->error;
    FUR_TRY(fur_sampling_check(context, sampling));
    if (c->features || !c->causal)
        return fur_error_set(error, FUR_E_UNSUPPORTED, "only causal language models generate");
    if (prompt_count < 1 || count < 0 || !fur_add_ok(prompt_count, count, tokens) || *tokens > c->context)
        return fur_error_set(error, FUR_E_ARGUMENT, "prompt of %lld and %lld new tokens, expected 1 to %lld together",
                             (long long)prompt_count, (long long)count, (long long)c->context);
    for (int64_t i = 0; i < prompt_count; i++)
        if (prompt[i] < 0 || prompt[i] >= c->vocabulary)
            return fur_error_set(error, FUR_E_ARGUMENT, "prompt token %lld is %d, expected 0 to %lld", (long long)i,
                                 prompt[i], (long long)c->vocabulary - 1);
    return FUR_OK;
}

static fur_status feed(generation *g, int64_t first, int64_t count, int want_logits);

/* The first `count` tokens, in chunks; logits of the last one if wanted. */
static fur_status feed_from_start(generation *g, int64_t count, int want_logits)
{
    int64_t chunk = g->run.shape.superblock;
    for (int64_t first = 0; first < count; first += chunk) {
        int64_t rows = fur_min_i64(chunk, count - first);
        FUR_TRY(feed(g, first, rows, want_logits && first + rows == count));
    }
    return FUR_OK;
}

/* Tokens first..first+count-1 of g->ids through all layers; logits of the last one if wanted. */
static fur_status feed(generation *g, int64_t first, int64_t count, int want_logits)
{
    fur_run *run = &g->run;
    int64_t width = run->model->config.width;
    g->offsets[1] = run->tokens = first + count;
    FUR_TRY(fur_embed_rows(run, first, count, run->memory.x_TC));
    int64_t exact = fur_run_exact_heads(run);
    fur_status status = fur_sweep_rows(run, first, count);
    if (status == FUR_E_NONFINITE && fur_run_named_exact(run, &exact))
        return feed_from_start(g, first + count, want_logits);
    FUR_TRY(status);
    if (!want_logits)
        return FUR_OK;
    const fur_parameter_table *table = &run->model->table;
    fur_loss_scratch *s = &run->memory.loss;
    FUR_TRY(fur_norm_rows(&run->exec, run->model, table->final_norm_w, table->final_norm_b, 1,
                          run->memory.x_TC + (count - 1) * width, s->h_tC));
    fur_projection head = fur_model_map(run->model, &table->head);
    fur_projection_input input;
    FUR_TRY(head.kind->prepare(&run->exec, &head, 1, s->h_tC, head.in, &input));
    return head.kind->forward(&run->exec, &head, &input, 0, s->logits_tV, head.out);
}

static fur_status generate(generation *g, int64_t prompt_count, int64_t count, const fur_sampling *sampling,
                           fur_token_fn on_token, void *user)
{
    fur_context *context = g->run.context;
    FUR_TRY(feed_from_start(g, prompt_count, 1));
    for (int64_t i = 0; i < count; i++) {
        if (atomic_load(&context->stop))
            return fur_error_set(&context->error, FUR_E_INTERRUPTED, "stopped after %lld of %lld tokens", (long long)i,
                                 (long long)count);
        int32_t id = fur_sample(sampling, (uint64_t)i, g->run.model->config.vocabulary, g->run.memory.loss.logits_tV,
                                g->scratch);
        g->ids[prompt_count + i] = id;
        if (on_token && on_token(user, id))
            return FUR_OK;
        if (i + 1 < count)
            FUR_TRY(feed(g, prompt_count + i, 1, 1));
    }
    return FUR_OK;
}

fur_status fur_generate(fur_context *context, fur_model *model, const int32_t *prompt, int64_t prompt_count,
                        int64_t count, const fur_sampling *sampling, int64_t memory_bytes, fur_token_fn on_token,
                        void *user)
{
    int64_t tokens = 0;
    FUR_TRY(check(context, model, prompt, prompt_count, count, sampling, &tokens));
    generation g = {.run = {.context = context, .model = model, .exec = context->exec}};
    fur_run_shape shape = generation_shape(&model->config, tokens);
    if (!fur_run_shape_is_sane(&model->config, &model->table, &shape))
        return fur_error_set(&context->error, FUR_E_DOES_NOT_FIT, "no machine has the memory for %lld tokens",
                             (long long)tokens);
    fur_arena counting = fur_arena_counting();
    lay_out(context, model, tokens, &counting, &g);
    int64_t peak = fur_context_process_bytes(context) + model->data_bytes + model->row_bytes + counting.peak;
    if (memory_bytes > 0 && peak > memory_bytes)
        return fur_error_set(&context->error, FUR_E_DOES_NOT_FIT,
                             "generating within %lld tokens needs %lld bytes, the limit is %lld", (long long)tokens,
                             (long long)peak, (long long)memory_bytes);
    FUR_TRY(fur_arena_create(&context->error, counting.peak, &g.run.arena));
    lay_out(context, model, tokens, &g.run.arena, &g);
    g.run.exec.workspace = &g.run.memory.workspace;
    for (int64_t i = 0; i < prompt_count; i++)
        g.ids[i] = prompt[i];
    g.row = (fur_row){.documents = 1, .offsets = g.offsets, .ids_T = g.ids};
    g.run.row = &g.row;
    g.run.documents = (fur_documents){1, g.offsets};
    fur_status status = generate(&g, prompt_count, count, sampling, on_token, user);
    fur_arena_destroy(&g.run.arena);
    return status;
}
