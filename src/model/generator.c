/* SPDX-License-Identifier: Apache-2.0 */
/* fur_generator: a generation that its caller feeds. */
#include "base/alloc.h"
#include "model/config.h"
#include "model/generate.h"

struct fur_generator {
    fur_generation generation;
    int64_t tokens, count; /* room, and those that are there */
    int64_t first_drawn;   /* tokens that were there when the first was drawn, -1: none was */
    bool has_logits;       /* of the last of them */
};

fur_status fur_generator_open(fur_context *context, fur_model *model, int64_t tokens, int64_t memory_bytes,
                              fur_generator **out)
{
    fur_error *error = &context->error;
    *out = NULL;
    if (model->config.features || !model->config.causal)
        return fur_error_set(error, FUR_E_UNSUPPORTED, "only causal language models generate");
    if (tokens < 1 || tokens > model->config.context)
        return fur_error_set(error, FUR_E_ARGUMENT, "room for %lld tokens, expected 1 to %lld", (long long)tokens,
                             (long long)model->config.context);
    fur_generator *g = fur_calloc(1, sizeof *g);
    if (!g)
        return fur_error_set(error, FUR_E_MEMORY, "no memory for a generator");
    g->tokens = tokens;
    g->first_drawn = -1;
    fur_status status = fur_generation_begin(context, model, tokens, memory_bytes, &g->generation);
    if (status != FUR_OK) {
        fur_free(g);
        return status;
    }
    *out = g;
    return FUR_OK;
}

void fur_generator_close(fur_generator *generator)
{
    if (!generator)
        return;
    fur_generation_end(&generator->generation);
    fur_free(generator);
}

static fur_status check_feed(const fur_generator *g, const int32_t *ids, int64_t count)
{
    fur_error *error = g->generation.run.exec.error;
    int64_t vocabulary = g->generation.run.model->config.vocabulary;
    if (count < 0 || count > g->tokens - g->count)
        return fur_error_set(error, FUR_E_ARGUMENT, "%lld more tokens, expected 0 to %lld", (long long)count,
                             (long long)(g->tokens - g->count));
    for (int64_t i = 0; i < count; i++)
        if (ids[i] < 0 || ids[i] >= vocabulary)
            return fur_error_set(error, FUR_E_ARGUMENT, "token %lld is %d, expected 0 to %lld", (long long)i, ids[i],
                                 (long long)vocabulary - 1);
    return FUR_OK;
}

fur_status fur_generator_feed(fur_generator *g, const int32_t *ids, int64_t count)
{
    fur_generation *generation = &g->generation;
    FUR_TRY(check_feed(g, ids, count));
    for (int64_t i = 0; i < count; i++)
        generation->ids[g->count + i] = ids[i];
    g->has_logits = g->has_logits && count == 0;
    int64_t before = g->count, chunk = generation->run.shape.superblock;
    for (int64_t at = 0; at < count; at += chunk) {
        fur_context *context = generation->run.context;
        int64_t some = count - at < chunk ? count - at : chunk;
        fur_status status = fur_generation_feed(generation, before + at, some);
        if (status == FUR_OK && atomic_load(&context->stop))
            status = fur_error_set(&context->error, FUR_E_INTERRUPTED, "stopped after %lld of %lld tokens",
                                   (long long)(at + some), (long long)count);
        if (status != FUR_OK) { /* sums of almost-linear layers cannot be taken back */
            fur_generator_restart(g);
            return status;
        }
    }
    g->count = before + count;
    return FUR_OK;
}

fur_status fur_generator_next(fur_generator *g, const fur_sampling *sampling, int32_t *id)
{
    fur_generation *generation = &g->generation;
    fur_context *context = generation->run.context;
    FUR_TRY(fur_sampling_check(context, sampling));
    if (atomic_load(&context->stop))
        return fur_error_set(&context->error, FUR_E_INTERRUPTED, "stopped after %lld tokens", (long long)g->count);
    if (g->count == 0)
        return fur_error_set(generation->run.exec.error, FUR_E_ARGUMENT, "nothing is there that a token could follow");
    if (!g->has_logits)
        FUR_TRY(fur_generation_head(generation));
    g->has_logits = true;
    if (g->first_drawn < 0)
        g->first_drawn = g->count;
    *id = fur_sample(sampling, (uint64_t)(g->count - g->first_drawn), generation->run.model->config.vocabulary,
                     generation->run.memory.loss.logits_tV, generation->ids, g->count, generation->scratch);
    return FUR_OK;
}

int64_t fur_generator_tokens(const fur_generator *g, const int32_t **ids)
{
    *ids = g->generation.ids;
    return g->count;
}

void fur_generator_restart(fur_generator *g)
{
    g->count = 0;
    g->first_drawn = -1;
    g->has_logits = false;
}
