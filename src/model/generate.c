/* SPDX-License-Identifier: Apache-2.0 */
/* Generation with a key/value cache: the prompt goes through the blockwise sweep in chunks, then one token at a time.
 * The same layer code as training runs; every layer keeps its attention state. */
#include "model/generate.h"
#include "base/alloc.h"
#include "base/size.h"
#include "model/config.h"

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

/* On a counting arena this is the plan. */
static void lay_out(fur_context *context, const fur_model *model, int64_t tokens, fur_arena *arena, fur_generation *g)
{
    g->run.shape = generation_shape(&model->config, tokens);
    g->run.shape.coded = model->coded != NULL;
    fur_run_layout(&context->exec, &model->config, &model->table, &g->run.shape, arena, NULL, NULL, &g->run.memory);
    g->ids = fur_arena_push(arena, tokens * (int64_t)sizeof *g->ids);
    g->scratch = fur_arena_push(arena, model->config.vocabulary * (int64_t)sizeof *g->scratch);
}

fur_status fur_generation_begin(fur_context *context, fur_model *model, int64_t tokens, int64_t memory_bytes,
                                fur_generation *g)
{
    *g = (fur_generation){.run = {.context = context, .model = model, .exec = context->exec}};
    fur_run_shape shape = generation_shape(&model->config, tokens);
    if (!fur_run_shape_is_sane(&model->config, &model->table, &shape))
        return fur_error_set(&context->error, FUR_E_DOES_NOT_FIT, "no machine has the memory for %lld tokens",
                             (long long)tokens);
    fur_arena counting = fur_arena_counting();
    lay_out(context, model, tokens, &counting, g);
    g->peak_bytes = fur_context_process_bytes(context) + fur_model_held_bytes(model) + model->row_bytes + counting.peak;
    if (memory_bytes > 0 && g->peak_bytes > memory_bytes)
        return fur_error_set(&context->error, FUR_E_DOES_NOT_FIT,
                             "generating within %lld tokens needs %lld bytes, the limit is %lld", (long long)tokens,
                             (long long)g->peak_bytes, (long long)memory_bytes);
    FUR_TRY(fur_arena_create(&context->error, counting.peak, &g->run.arena));
    lay_out(context, model, tokens, &g->run.arena, g);
    g->run.exec.workspace = &g->run.memory.workspace;
    for (int64_t i = 0; model->rows && i < model->table.tables; i++)
        fur_pages_by_chance(model->rows[i].map.pages, (size_t)model->rows[i].map.page_bytes);
    g->row = (fur_row){.documents = 1, .offsets = g->offsets, .ids_T = g->ids};
    g->run.row = &g->row;
    g->run.documents = (fur_documents){1, g->offsets};
    return FUR_OK;
}

void fur_generation_end(fur_generation *g)
{
    fur_arena_destroy(&g->run.arena);
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

/* The first `count` tokens, in chunks. */
static fur_status feed_from_start(fur_generation *g, int64_t count)
{
    int64_t chunk = g->run.shape.superblock;
    for (int64_t first = 0; first < count; first += chunk)
        FUR_TRY(fur_generation_feed(g, first, fur_min_i64(chunk, count - first)));
    return FUR_OK;
}

fur_status fur_generation_feed(fur_generation *g, int64_t first, int64_t count)
{
    fur_run *run = &g->run;
    g->offsets[1] = run->tokens = first + count;
    g->last_row = count - 1;
    FUR_TRY(fur_embed_rows(run, first, count, run->memory.x_TC));
    int64_t exact = fur_run_exact_heads(run);
    fur_status status = fur_sweep_rows(run, first, count);
    if (status == FUR_E_NONFINITE && fur_run_named_exact(run, &exact))
        return feed_from_start(g, first + count);
    return status;
}

fur_status fur_generation_head(fur_generation *g)
{
    fur_run *run = &g->run;
    const fur_parameter_table *table = &run->model->table;
    fur_loss_scratch *s = &run->memory.loss;
    FUR_TRY(fur_norm_rows(&run->exec, run->model, table->final_norm_w, table->final_norm_b, 1,
                          run->memory.x_TC + g->last_row * run->model->config.width, s->h_tC));
    fur_projection head = fur_model_map(run->model, &table->head);
    fur_projection_input input;
    FUR_TRY(head.kind->prepare(&run->exec, &head, 1, s->h_tC, head.in, &input));
    FUR_TRY(fur_projection_generate(&run->exec, &head, &input, 0, s->logits_tV, head.out));
    return fur_run_cap_logits(run, head.out, s->logits_tV);
}

fur_status fur_generation_prompt(fur_generation *g, const int32_t *prompt, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        g->ids[i] = prompt[i];
    FUR_TRY(feed_from_start(g, count));
    return fur_generation_head(g);
}

static fur_status generate(fur_generation *g, const int32_t *prompt, int64_t prompt_count, int64_t count,
                           const fur_sampling *sampling, fur_token_fn on_token, void *user)
{
    fur_context *context = g->run.context;
    FUR_TRY(fur_generation_prompt(g, prompt, prompt_count));
    for (int64_t i = 0; i < count; i++) {
        if (atomic_load(&context->stop))
            return fur_error_set(&context->error, FUR_E_INTERRUPTED, "stopped after %lld of %lld tokens", (long long)i,
                                 (long long)count);
        int32_t id = fur_sample(sampling, (uint64_t)i, g->run.model->config.vocabulary, g->run.memory.loss.logits_tV,
                                g->ids, prompt_count + i, g->scratch);
        g->ids[prompt_count + i] = id;
        if (on_token && on_token(user, id))
            return FUR_OK;
        if (i + 1 == count)
            break;
        FUR_TRY(fur_generation_feed(g, prompt_count + i, 1));
        FUR_TRY(fur_generation_head(g));
    }
    return FUR_OK;
}

fur_status fur_generate(fur_context *context, fur_model *model, const int32_t *prompt, int64_t prompt_count,
                        int64_t count, const fur_sampling *sampling, int64_t memory_bytes, fur_token_fn on_token,
                        void *user)
{
    int64_t tokens = 0;
    FUR_TRY(check(context, model, prompt, prompt_count, count, sampling, &tokens));
    fur_generation g;
    FUR_TRY(fur_generation_begin(context, model, tokens, memory_bytes, &g));
    fur_status status = generate(&g, prompt, prompt_count, count, sampling, on_token, user);
    fur_generation_end(&g);
    return status;
}
