/* SPDX-License-Identifier: Apache-2.0 */
/* Every way to run a row is a candidate: how large the blocks are, what is kept. The plan lays each out on a counting
 * arena, estimates its seconds, and takes the fastest that fits. */
#include <math.h>
#include <string.h>

#include "base/size.h"
#include "model/config.h"
#include "model/run.h"
#include "plan/plan.h"
#include "plan/rate.h"

/* Fractions of the product rate that the parts reach, and bytes per second of passes over memory. Measured on AVX-512
 * (docs/NUMERICS.md, "Seconds of the plan"). */
#define PRODUCT_FRACTION                  0.85
#define ATTENTION_FRACTION                0.62
#define MEMORY_BYTES_PER_SECOND_PER_GFLOP 4e7 /* memory speed grows with cores much as the product rate does */

void fur_plan_request_defaults(fur_plan_request *request)
{
    memset(request, 0, sizeof *request);
    request->struct_size = sizeof *request;
}

static fur_status check_request(fur_error *error, const fur_model_config *config, const fur_plan_request *r)
{
    if (r->struct_size != sizeof *r)
        return fur_error_set(error, FUR_E_ARGUMENT, "fur_plan_request has %zu bytes, this library expects %zu",
                             r->struct_size, sizeof *r);
    if (r->row_tokens < 1 || r->row_tokens > (int64_t)1 << 40)
        return fur_error_set(error, FUR_E_ARGUMENT, "a row of %lld tokens, expected 1 to 2^40",
                             (long long)r->row_tokens);
    int64_t document = r->document_tokens ? r->document_tokens : r->row_tokens;
    if (document < 1 || document > r->row_tokens)
        return fur_error_set(error, FUR_E_ARGUMENT, "documents of %lld tokens in a row of %lld", (long long)document,
                             (long long)r->row_tokens);
    if (document > config->context)
        return fur_error_set(error, FUR_E_ARGUMENT, "documents of %lld tokens, the model's context is %lld",
                             (long long)document, (long long)config->context);
    if (r->memory_bytes < 0 || r->data_bytes < 0 || r->data_bytes > FUR_RUN_MOST_BYTES)
        return fur_error_set(error, FUR_E_ARGUMENT, "memory of %lld bytes, %lld of them data: expected 0 to 2^60",
                             (long long)r->memory_bytes, (long long)r->data_bytes);
    if (r->superblock < 0 || r->superblock > (int64_t)1 << 24)
        return fur_error_set(error, FUR_E_ARGUMENT, "a superblock of %lld tokens, expected 0 (chosen) to 2^24",
                             (long long)r->superblock);
    return FUR_OK;
}

/* ---- flops and seconds ------------------------------------------------------------------------------------ */

typedef struct work {
    double products, attention, memory_bytes;
} work;

static double map_flops(const fur_map_offsets *map)
{
    fur_projection p = {map->kind, map->in, map->out, NULL, NULL};
    return map->in ? map->kind->flops(&p) : 0;
}

static work row_work(const fur_model_config *c, const fur_parameter_table *table, const fur_run_shape *s,
                     int64_t document_tokens)
{
    int training = s->purpose == FUR_FOR_TRAIN;
    double T = s->purpose == FUR_FOR_GENERATE ? 1 : (double)s->tokens;
    work w = {0};
    fur_attention_shape shape = fur_config_attention_shape(c);
    for (int64_t i = 0; i < c->layers; i++) {
        const fur_layer_offsets *l = &table->layers[i];
        double qkv = map_flops(&l->q) + map_flops(&l->k) + map_flops(&l->v), o = map_flops(&l->o);
        double up = map_flops(&l->up), down = map_flops(&l->down);
        w.products += T * (qkv + o + up + down) * (training ? 3 : 1);
        if (training)
            w.products += T * (qkv + o + (s->keep_hidden ? 0 : up));
        fur_attention_cost cost;
        fur_attention_kind_at(c->attention[i])->cost(&shape, s->tokens, document_tokens, &cost);
        if (s->purpose == FUR_FOR_GENERATE) /* the last token: one row of the causal triangle */
            w.attention += 2 * cost.flops_forward / (double)s->tokens;
        else
            w.attention += cost.flops_forward * (training ? (s->keep_attention ? 1 : 2) : 1);
        if (training)
            w.attention += cost.flops_backward;
        double passes = training ? 34.0 * (double)c->width + 9.0 * (double)fur_config_inner_width(c)
                                 : 8.0 * (double)c->width + 2.0 * (double)fur_config_inner_width(c);
        w.memory_bytes += T * passes * (double)sizeof(float);
    }
    int recompute_logits = training && s->vocabulary_tile < fur_config_head_width(c);
    w.products += T * map_flops(&table->head) * ((training ? 3 : 1) + recompute_logits);
    w.products += T * map_flops(&table->input) * (training ? 3 : 1);
    w.memory_bytes += T * (double)fur_config_head_width(c) * (training ? 3 : 1) * (double)sizeof(float);
    w.memory_bytes += (double)table->elements * (double)sizeof(float) * (training ? 8 : 1);
    return w;
}

/* How much faster products of bf16 are than those of f32, on whose rate the speed of memory is scaled. */
static double product_gain(const fur_exec *exec)
{
    if (exec->compute == FUR_COMPUTE_F32 || exec->isa < FUR_ISA_AVX512BF16)
        return 1;
    return exec->isa == FUR_ISA_AMX ? 6 : 2;
}

static double work_seconds(const fur_exec *exec, const work *w, double gflops)
{
    double rate = gflops * 1e9;
    return w->products / (rate * PRODUCT_FRACTION) + w->attention / (rate * ATTENTION_FRACTION) +
           w->memory_bytes / (gflops / product_gain(exec) * MEMORY_BYTES_PER_SECOND_PER_GFLOP);
}

/* ---- candidates ------------------------------------------------------------------------------------------- */

typedef struct planner {
    fur_context *context;
    const fur_model_config *config;
    const fur_parameter_table *table;
    const fur_plan_request *request;
    double gflops;
} planner;

static void add_item(void *user, const char *name, int64_t bytes)
{
    fur_plan *plan = user;
    if (bytes <= 0 || plan->item_count == FUR_PLAN_MAX_ITEMS)
        return;
    fur_plan_item *item = &plan->items[plan->item_count++];
    memset(item, 0, sizeof *item);
    for (size_t i = 0; i + 1 < sizeof item->name && name[i]; i++)
        item->name[i] = name[i];
    item->bytes = bytes;
}

static void evaluate(const planner *p, const fur_run_shape *shape, fur_plan *out)
{
    memset(out, 0, sizeof *out);
    out->superblock = shape->superblock;
    out->token_tile = shape->token_tile;
    out->loss_tile = shape->loss_tile;
    out->vocabulary_tile = shape->vocabulary_tile;
    out->keep_attention = shape->keep_attention;
    out->keep_hidden = shape->keep_hidden;
    add_item(out, "process and libraries", fur_context_process_bytes(p->context));
    add_item(out, "data", p->request->data_bytes);
    add_item(out, "weights", p->table->elements * (int64_t)sizeof(float));
    bool sane = fur_run_shape_is_sane(p->config, p->table, shape);
    if (sane) {
        fur_arena counting = fur_arena_counting();
        fur_run_memory unused;
        fur_run_layout(&p->context->exec, p->config, p->table, shape, &counting, add_item, out, &unused);
        out->arena_bytes = counting.peak;
    } else {
        out->arena_bytes = FUR_RUN_MOST_BYTES;
        add_item(out, "more than any machine has", FUR_RUN_MOST_BYTES);
    }
    for (int i = 0; i < out->item_count; i++)
        out->peak_bytes += out->items[i].bytes;
    out->fits = sane && (p->request->memory_bytes == 0 || out->peak_bytes <= p->request->memory_bytes);
    int64_t document = p->request->document_tokens ? p->request->document_tokens : p->request->row_tokens;
    work w = row_work(p->config, p->table, shape, document);
    out->flops = w.products + w.attention;
    /* each superblock packs the keys before it once more */
    out->seconds = work_seconds(&p->context->exec, &w, p->gflops) * (1.0 + 40.0 / (double)shape->superblock);
}

/* Larger tiles run products nearer their best rate, within reason. */
static int64_t choose_token_tile(const fur_model_config *c, int64_t superblock)
{
    int64_t tile = 1024;
    while (tile > 128 && tile * fur_config_inner_width(c) > (int64_t)4 << 20)
        tile /= 2;
    return fur_min_i64(tile, superblock);
}

static void choose_loss_tiles(const fur_model_config *c, int64_t superblock, int64_t logits, fur_run_shape *shape)
{
    int64_t width = fur_config_head_width(c);
    shape->vocabulary_tile = width;
    shape->loss_tile = fur_min_i64(superblock, fur_max_i64(64, logits / width / 64 * 64));
    if (c->features) { /* squared errors want whole rows of outputs */
        shape->loss_tile = fur_min_i64(superblock, fur_max_i64(1, logits / width));
    } else if (shape->loss_tile * width > 2 * logits) { /* a vocabulary too wide for 64 rows at once */
        shape->vocabulary_tile = fur_max_i64(1024, logits / 64 / 1024 * 1024);
        shape->loss_tile = fur_min_i64(superblock, 64);
    }
}

static const int64_t superblocks[] = {4096, 2048, 1024, 512, 256, 128};
static const int64_t logit_counts[] = {(int64_t)1 << 25, (int64_t)1 << 23, (int64_t)1 << 21, (int64_t)1 << 19};

static void consider(const planner *p, int64_t superblock, int64_t logits, int keep, fur_plan *best, int *found)
{
    const fur_plan_request *r = p->request;
    fur_run_shape shape = {.purpose = r->purpose,
                           .tokens = r->row_tokens,
                           .superblock = superblock,
                           .token_tile = choose_token_tile(p->config, superblock),
                           .keep_attention = keep >= 1,
                           .keep_hidden = keep >= 2,
                           .optimizer = r->purpose == FUR_FOR_TRAIN};
    choose_loss_tiles(p->config, superblock, logits, &shape);
    fur_plan plan;
    evaluate(p, &shape, &plan);
    int better = !*found || (plan.fits && !best->fits) ||
                 (plan.fits == best->fits &&
                  (plan.fits ? plan.seconds < best->seconds * 0.999 : plan.peak_bytes < best->peak_bytes));
    if (better)
        *best = plan;
    *found = 1;
}

static void search(const planner *p, fur_plan *out)
{
    const fur_plan_request *r = p->request;
    int training = r->purpose == FUR_FOR_TRAIN, found = 0;
    int most = training && r->keep != FUR_KEEP_NOTHING ? 2 : 0;
    int least = training && r->keep == FUR_KEEP_ALL ? 2 : 0;
    memset(out, 0, sizeof *out);
    for (int keep = most; keep >= least; keep--)
        for (size_t b = 0; b < sizeof superblocks / sizeof superblocks[0]; b++)
            for (size_t l = 0; l < sizeof logit_counts / sizeof logit_counts[0]; l++)
                if (r->superblock == 0 || b == 0)
                    consider(p, r->superblock ? r->superblock : superblocks[b], logit_counts[l], keep, out, &found);
}

static fur_status planner_init(planner *p, fur_context *context, const fur_model_config *config,
                               const fur_plan_request *request, fur_parameter_table *table)
{
    *p = (planner){
        .context = context, .config = config, .table = table, .request = request, .gflops = request->measured_gflops};
    if (!(p->gflops > 0))
        FUR_TRY(fur_rate_measure(context, &p->gflops));
    return fur_parameter_table_create(&context->error, config, table);
}

fur_status fur_plan_make(fur_context *context, const fur_model_config *config, const fur_plan_request *request,
                         fur_plan *out)
{
    FUR_TRY(fur_config_check(context, config));
    FUR_TRY(check_request(&context->error, config, request));
    planner p;
    fur_parameter_table table;
    FUR_TRY(planner_init(&p, context, config, request, &table));
    search(&p, out);
    fur_parameter_table_destroy(&table);
    return FUR_OK;
}

fur_status fur_plan_longest(fur_context *context, const fur_model_config *config, const fur_plan_request *request,
                            int64_t *out_tokens)
{
    fur_plan_request r = *request;
    r.row_tokens = 1;
    r.document_tokens = 0;
    FUR_TRY(fur_config_check(context, config));
    FUR_TRY(check_request(&context->error, config, &r));
    planner p;
    fur_parameter_table table;
    FUR_TRY(planner_init(&p, context, config, &r, &table));
    int64_t low = 0, high = config->context; /* low fits (or is 0), above high nothing is asked */
    while (low < high) {
        r.row_tokens = low + (high - low + 1) / 2;
        fur_plan plan;
        search(&p, &plan);
        if (plan.fits)
            low = r.row_tokens;
        else
            high = r.row_tokens - 1;
    }
    fur_parameter_table_destroy(&table);
    *out_tokens = low;
    return FUR_OK;
}

fur_status fur_plan_of_shape(fur_context *context, const fur_model_config *config, const fur_plan_request *request,
                             const fur_run_shape *shape, fur_plan *out)
{
    FUR_TRY(fur_config_check(context, config));
    FUR_TRY(check_request(&context->error, config, request));
    planner p;
    fur_parameter_table table;
    FUR_TRY(planner_init(&p, context, config, request, &table));
    evaluate(&p, shape, out);
    fur_parameter_table_destroy(&table);
    return FUR_OK;
}

fur_status fur_plan_refuse(fur_context *context, const fur_model_config *config, const fur_plan_request *request,
                           const fur_plan *plan)
{
    int64_t longest;
    FUR_TRY(fur_plan_longest(context, config, request, &longest));
    double mib = 1.0 / 1048576;
    if (longest == 0)
        return fur_error_set(&context->error, FUR_E_DOES_NOT_FIT,
                             "%lld tokens need %.0f MiB, the limit is %.0f MiB, and no context of this model fits it",
                             (long long)request->row_tokens, (double)plan->peak_bytes * mib,
                             (double)request->memory_bytes * mib);
    return fur_error_set(&context->error, FUR_E_DOES_NOT_FIT,
                         "%lld tokens need %.0f MiB, the limit is %.0f MiB; the largest context that fits is %lld",
                         (long long)request->row_tokens, (double)plan->peak_bytes * mib,
                         (double)request->memory_bytes * mib, (long long)longest);
}

/* ---- what others need (docs/ARCHITECTURE.md, "Memory of the others") ---------------------------------------- */

/* Values saved per token and layer without checkpoints, in units of width: x, middle, two norm outputs, q, k, v,
 * attention output and its copy, inner values before and after the activation. */
static double saved_per_layer(const fur_model_config *c)
{
    double r = (double)fur_config_key_width(c) / (double)c->width,
           q = (double)fur_config_query_width(c) / (double)c->width;
    double f = ((double)fur_config_inner_width(c) + (double)c->hidden) / (double)c->width;
    return 4 + 3 * q + 2 * r + f;
}

static double logits_bytes(const fur_model_config *c, double tokens)
{
    return 3 * tokens * (double)fur_config_head_width(c) * 4; /* logits, log-softmax, gradient */
}

/* Far beyond any machine the number says no more. */
static int64_t whole_bytes(double bytes)
{
    return bytes < (double)FUR_RUN_MOST_BYTES ? (int64_t)bytes : FUR_RUN_MOST_BYTES;
}

int64_t fur_plan_plain_attention_bytes(const fur_model_config *c, int64_t tokens)
{
    double n = (double)tokens, layers = (double)c->layers;
    double scores = (double)c->heads * n * n * 4;
    double parameters = 16.0 * (double)fur_config_parameter_count(c);
    return whole_bytes(parameters + layers * (saved_per_layer(c) * n * (double)c->width * 4 + scores) + 2 * scores +
                       logits_bytes(c, n));
}

int64_t fur_plan_checkpointed_bytes(const fur_model_config *c, int64_t tokens)
{
    double n = (double)tokens, row = n * (double)c->width * 4;
    double f = 2 * (double)fur_config_inner_width(c) / (double)c->width;
    double in_layer = (saved_per_layer(c) + f) * row, parameters = 16.0 * (double)fur_config_parameter_count(c);
    double top = in_layer > logits_bytes(c, n) ? in_layer : logits_bytes(c, n);
    return whole_bytes(parameters + (double)c->layers * row + top);
}
