/* SPDX-License-Identifier: Apache-2.0 */
/* Timing of decoding: one token after another behind a prompt, as fur_generate has them, each in two parts: the layers,
 * and the head that makes logits of the last layer's output. */
#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/random.h"
#include "base/size.h"
#include "furlong/furlong.h"
#include "model/config.h"
#include "model/generate.h"

#define MOST_TOKENS   64
#define BENCH_SECONDS 5.0                  /* after 3 tokens no more are begun after so long */
#define EVICTED_BYTES ((int64_t)256 << 20) /* read between cold tokens: several third-level caches */

typedef struct decode_bench {
    fur_generation generation;
    int64_t prompt;
    unsigned char *elsewhere; /* EVICTED_BYTES where weights are to be cold */
    uint64_t sum;             /* of what was read, so that it is */
} decode_bench;

/* By all threads, each with caches of its own. */
static void evict(decode_bench *b)
{
    int threads = b->generation.run.exec.threads;
    int64_t part = EVICTED_BYTES / threads;
    uint64_t sum = 0;
    if (!b->elsewhere)
        return;
#pragma omp parallel for schedule(static) num_threads(threads) reduction(+ : sum)
    for (int64_t n = 0; n < threads; n++)
        for (int64_t at = n * part; at < (n + 1) * part; at += 64)
            sum += b->elsewhere[at];
    b->sum += sum;
}

static int32_t drawn_id(const fur_model *model, int64_t position)
{
    return (int32_t)(fur_random_u64(1, 5, (uint64_t)position) % (uint64_t)model->config.vocabulary);
}

/* The token at `position`, drawn like all others, so that which rows of tables it reads is new each time. */
static fur_status time_token(decode_bench *b, int64_t position, fur_bench_result *out)
{
    fur_generation *g = &b->generation;
    g->ids[position] = drawn_id(g->run.model, position);
    evict(b);
    double start = fur_clock_seconds();
    FUR_TRY(fur_generation_feed(g, position, 1));
    double middle = fur_clock_seconds();
    FUR_TRY(fur_generation_head(g));
    double end = fur_clock_seconds();
    if (end - start < out->decode_seconds) {
        out->decode_seconds = end - start;
        out->head_seconds = end - middle;
    }
    return FUR_OK;
}

static fur_status time_tokens(decode_bench *b, fur_bench_result *out)
{
    fur_generation *g = &b->generation;
    int32_t prompt[FUR_BENCH_MOST_PROMPT];
    for (int64_t i = 0; i < b->prompt; i++)
        prompt[i] = drawn_id(g->run.model, i);
    FUR_TRY(fur_generation_prompt(g, prompt, b->prompt));
    out->decode_seconds = (double)INFINITY;
    double start = fur_clock_seconds();
    int64_t room = fur_min_i64(MOST_TOKENS, g->run.shape.tokens - b->prompt);
    for (out->repetitions = 0; out->repetitions < room; ++out->repetitions) {
        if (out->repetitions >= 3 && fur_clock_seconds() - start > BENCH_SECONDS)
            break;
        FUR_TRY(time_token(b, b->prompt + out->repetitions, out));
    }
    out->tokens_per_second = 1 / out->decode_seconds;
    out->peak_rss_bytes = fur_process_peak_rss_bytes();
    out->planned_peak_bytes = g->peak_bytes + (b->elsewhere ? EVICTED_BYTES : 0);
    return FUR_OK;
}

/* What a token reads of weights: of dense maps all, of tables a row for each slot. */
static void count_bytes(const fur_model *model, fur_bench_result *out)
{
    const fur_model_config *c = &model->config;
    int64_t elements = 0;
    for (int64_t layer = 0; layer < c->layers; layer++)
        for (int i = 0; i < FUR_LAYER_MAPS; i++) {
            const fur_map_offsets *at = fur_layer_map(&model->table.layers[layer], i);
            if (at->in == 0)
                continue;
            fur_projection map = fur_model_map(model, at);
            int64_t slots = (int64_t)(map.kind->flops(&map) / 2) / map.out; /* for dense maps the rows of w^T */
            out->read_bytes += slots * map.out * fur_lookup_type_bytes(map.rows.type);
            elements += slots * map.out;
        }
    out->multiplications = (double)elements;
    out->head_bytes = model->table.head.in * model->table.head.out * (int64_t)sizeof(float);
}

static fur_status check(fur_context *context, const fur_model_config *c, const fur_bench_decode_settings *s)
{
    if (c->features || !c->causal)
        return fur_error_set(&context->error, FUR_E_UNSUPPORTED, "only causal language models generate");
    if (s->prompt_tokens < 1 || s->prompt_tokens > FUR_BENCH_MOST_PROMPT || s->prompt_tokens >= c->context)
        return fur_error_set(&context->error, FUR_E_ARGUMENT,
                             "a prompt of %lld tokens, expected 1 to %d, and less than the context of %lld",
                             (long long)s->prompt_tokens, FUR_BENCH_MOST_PROMPT, (long long)c->context);
    return FUR_OK;
}

static int64_t tokens_of(const fur_model_config *c, const fur_bench_decode_settings *s)
{
    return fur_min_i64(s->prompt_tokens + MOST_TOKENS, c->context);
}

/* What is read between tokens counts too. 0: no limit */
static int64_t limit_of(const fur_bench_decode_settings *s)
{
    return s->memory_bytes > 0 ? fur_max_i64(1, s->memory_bytes - (s->cold ? EVICTED_BYTES : 0)) : 0;
}

/* A model in memory alone, unless it does not fit. */
static fur_status create(fur_context *context, const fur_model_config *config, const fur_bench_decode_settings *s,
                         fur_model **out)
{
    fur_plan_request request;
    fur_plan plan;
    FUR_TRY(check(context, config, s));
    fur_plan_request_defaults(&request);
    request.purpose = FUR_FOR_GENERATE;
    request.row_tokens = tokens_of(config, s);
    request.memory_bytes = limit_of(s);
    FUR_TRY(fur_plan_make(context, config, &request, &plan));
    if (!plan.fits)
        return fur_error_set(&context->error, FUR_E_DOES_NOT_FIT, "decoding needs %lld bytes, the limit is %lld",
                             (long long)plan.peak_bytes, (long long)limit_of(s));
    return fur_config_has_lookup(config) ? fur_model_create_rows(context, config, 1, out)
                                         : fur_model_create(context, config, 1, out);
}

static fur_status bench(fur_context *context, fur_model *model, const fur_bench_decode_settings *s,
                        fur_bench_result *out)
{
    const fur_model_config *c = &model->config;
    FUR_TRY(check(context, c, s));
    decode_bench b = {.prompt = s->prompt_tokens};
    count_bytes(model, out);
    FUR_TRY(fur_generation_begin(context, model, tokens_of(c, s), limit_of(s), &b.generation));
    fur_status status = FUR_OK;
    if (s->cold) {
        b.elsewhere = fur_pages_map((size_t)EVICTED_BYTES);
        if (b.elsewhere)
            memset(b.elsewhere, 1, (size_t)EVICTED_BYTES);
        else
            status = fur_error_set(&context->error, FUR_E_MEMORY, "no memory to read between tokens");
    }
    if (status == FUR_OK)
        status = time_tokens(&b, out);
    fur_pages_unmap(b.elsewhere, (size_t)EVICTED_BYTES);
    fur_generation_end(&b.generation);
    return status;
}

fur_status fur_bench_decode(fur_context *context, const char *folder, const fur_model_config *config,
                            const fur_bench_decode_settings *settings, fur_bench_result *out)
{
    memset(out, 0, sizeof *out);
    fur_model *model;
    if (folder)
        FUR_TRY(fur_model_open(context, folder, &model));
    else
        FUR_TRY(create(context, config, settings, &model));
    fur_status status = bench(context, model, settings, out);
    fur_model_destroy(model);
    return status;
}
