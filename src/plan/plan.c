/* SPDX-License-Identifier: Apache-2.0 */
/* Every way to run a row is a candidate: how large the blocks are, what is kept, and where. The plan lays each out on a
 * counting arena, estimates its seconds, and takes the fastest that fits. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/size.h"
#include "model/config.h"
#include "model/run.h"
#include "plan/plan.h"
#include "plan/rate.h"
#include "store/encode.h"

/* Fractions of the product rate that the parts reach, and bytes per second of passes over memory. Measured on AVX-512
 * (docs/NUMERICS.md, "Seconds of the plan"). */
#define PRODUCT_FRACTION                  0.95
#define ATTENTION_FRACTION                1.00
#define ATTENTION_OVERHEAD_TOKENS         140.0 /* of a piece of queries: 0.65 of the rate at 256 tokens, 0.97 at 4,096 */
#define ATTENTION_DROPOUT_FACTOR          1.7   /* time with its draws over time without */
#define MEMORY_BYTES_PER_SECOND_PER_GFLOP 4e7   /* memory speed grows with cores much as the product rate does */
/* Libraries hold more in larger models, whose products have more and larger shapes: 8 MB at 1M parameters, 27 at 124M.
 */
#define LARGE_MODEL_SHARE     128
#define LARGE_MODEL_BYTES     ((int64_t)6 << 20)
#define LARGER_MODEL_WEIGHTS  ((int64_t)256 << 20) /* above it, a larger share */
#define LARGER_MODEL_SHARE    32
#define DISK_BYTES_PER_SECOND 0.7e9
#define COPY_BYTES_PER_SECOND 4e9 /* what the store's thread takes from the others */

static int64_t library_bytes(int64_t weights)
{
    int64_t beyond = fur_max_i64(0, weights - LARGER_MODEL_WEIGHTS) / LARGER_MODEL_SHARE;
    return fur_min_i64(weights / LARGE_MODEL_SHARE, LARGE_MODEL_BYTES) + fur_min_i64(beyond, LARGE_MODEL_BYTES);
}

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
    if (r->error_rows < 0 || r->error_rows > 4096)
        return fur_error_set(error, FUR_E_ARGUMENT, "%lld sampled tokens, expected 0 to 4096",
                             (long long)r->error_rows);
    if (r->memory_bytes < 0 || r->data_bytes < 0 || r->data_bytes > FUR_RUN_MOST_BYTES || r->weight_bytes < 0 ||
        r->weight_bytes > FUR_RUN_MOST_BYTES)
        return fur_error_set(error, FUR_E_ARGUMENT, "memory of %lld bytes, %lld of them data: expected 0 to 2^60",
                             (long long)r->memory_bytes, (long long)r->data_bytes);
    if (r->disk_bytes < 0 || r->disk_bytes > FUR_RUN_MOST_BYTES)
        return fur_error_set(error, FUR_E_ARGUMENT, "disk of %lld bytes: expected 0 to 2^60", (long long)r->disk_bytes);
    bool disk = r->inputs == FUR_STORE_DISK || r->attention == FUR_STORE_DISK || r->optimizer == FUR_STORE_DISK ||
                r->keys == FUR_STORE_DISK;
    if (r->inputs > FUR_STORE_DISK || r->attention > FUR_STORE_DISK || r->optimizer > FUR_STORE_DISK ||
        r->optimizer == FUR_STORE_AGAIN || r->keys > FUR_STORE_DISK || r->keys == FUR_STORE_AGAIN)
        return fur_error_set(error, FUR_E_ARGUMENT,
                             "layer inputs in place %d, attention in %d, optimizer in %d, keys in %d", (int)r->inputs,
                             (int)r->attention, (int)r->optimizer, (int)r->keys);
    if (r->key_groups < 0 ||
        (r->key_groups > 0 && (r->keys != FUR_STORE_DISK || config->kv_heads % r->key_groups != 0)))
        return fur_error_set(error, FUR_E_ARGUMENT, "%lld groups of %lld key heads, keys in place %d",
                             (long long)r->key_groups, (long long)config->kv_heads, (int)r->keys);
    if (r->stored > FUR_STORED_Q8 || (r->stored != FUR_STORED_F32 && r->inputs == FUR_STORE_AGAIN))
        return fur_error_set(error, FUR_E_ARGUMENT,
                             "layer inputs stored as type %d: expected f32, or bf16 or q8 of every layer",
                             (int)r->stored);
    if (disk && r->disk_bytes == 0)
        return fur_error_set(error, FUR_E_ARGUMENT, "something is asked to be on disk, and the limit there is 0 bytes");
    bool kept = r->attention == FUR_STORE_MEMORY || r->attention == FUR_STORE_DISK;
    if ((r->keep == FUR_KEEP_NOTHING && kept) || (r->keep == FUR_KEEP_ALL && r->attention == FUR_STORE_AGAIN))
        return fur_error_set(error, FUR_E_ARGUMENT, "attention in place %d contradicts what is asked to be kept",
                             (int)r->attention);
    if (r->superblock < 0 || r->superblock > (int64_t)1 << 24)
        return fur_error_set(error, FUR_E_ARGUMENT, "a superblock of %lld tokens, expected 0 (chosen) to 2^24",
                             (long long)r->superblock);
    return FUR_OK;
}

/* ---- flops and seconds ------------------------------------------------------------------------------------ */

/* Of all layers together: flops of a token through each kind of map, and of a row's attention. */
typedef struct layer_totals {
    double qkv, o, up, down;
    double slow;                    /* what they take longer than dense products of so many flops, in flops */
    double rebuilt, rebuilt_layers; /* k and v once more, where sums over keys want all of them before the queries */
    double parted_layers;           /* whose heads may come in groups */
    double parted_backward;         /* attention's flops backward of these */
    double attention_forward, attention_backward, attention_last;
} layer_totals;

typedef struct work {
    double products, attention, memory_bytes;
    double slow_products; /* time beside that of products, in flops of f32 */
    double slower;        /* attention than its flops say */
    double grouped,
        tasks; /* flops of attention backward where heads come in groups, and threads that these keep busy */
    double streamed_bytes; /* to and from disk beside the computation */
    double moment_bytes;   /* to and from disk while only the update computes */
} work;

static double map_flops(const fur_map_offsets *map)
{
    fur_projection p = fur_map_at(map, NULL);
    return map->in ? map->kind->flops(&p) : 0;
}

static double slow_flops(const fur_layer_offsets *l)
{
    double sum = 0;
    for (int i = 0; i < FUR_LAYER_MAPS; i++)
        sum += map_flops(fur_layer_map(l, i)) * (fur_layer_map(l, i)->in ? fur_layer_map(l, i)->kind->slowness - 1 : 0);
    return sum;
}

static layer_totals totals_of(const fur_model_config *c, const fur_parameter_table *table, int64_t tokens,
                              int64_t document_tokens)
{
    layer_totals sum = {0};
    for (int64_t i = 0; i < c->layers; i++) {
        fur_attention_shape shape = fur_config_attention_shape(c, i);
        const fur_layer_offsets *l = &table->layers[i];
        sum.qkv += map_flops(&l->q) + map_flops(&l->k) + map_flops(&l->v);
        sum.o += map_flops(&l->o);
        sum.up += map_flops(&l->up);
        sum.down += map_flops(&l->down);
        sum.slow += slow_flops(l);
        fur_attention_cost cost;
        const fur_attention_kind *kind = fur_attention_kind_at(c->attention[i]);
        if (kind->rebuild && kind->reach(&shape) != INT64_MAX) {
            sum.rebuilt += map_flops(&l->k) + map_flops(&l->v);
            sum.rebuilt_layers++;
        }
        sum.parted_layers += fur_config_heads_part(c, i);
        kind->cost(&shape, tokens, document_tokens, &cost);
        sum.attention_forward += cost.flops_forward;
        sum.attention_backward += cost.flops_backward;
        sum.parted_backward += fur_config_heads_part(c, i) ? cost.flops_backward : 0;
        sum.attention_last += cost.flops_last;
    }
    return sum;
}

/* Layers whose heads come in groups. */
static double grouped_layers(const fur_run_shape *s, const layer_totals *sum)
{
    return s->key_groups > 0 ? sum->parted_layers : 0;
}

static double tasks_of_group(const fur_model_config *c, const fur_run_shape *s)
{
    fur_attention_cost cost = {.tasks = 1};
    for (int64_t i = 0; i < c->layers; i++) {
        fur_attention_shape all = fur_config_attention_shape(c, i), part;
        const fur_attention_kind *kind = fur_attention_kind_at(c->attention[i]);
        if (!fur_config_heads_part(c, i))
            continue;
        kind->part(&all, 0, c->kv_heads / s->key_groups, &part);
        kind->cost(&part, s->tokens, s->tokens, &cost);
    }
    return cost.tasks;
}

/* What waits on disk between maps and attention, written and read: forward q, k, v and o; backward q, k, v, their
 * gradients and that by o, and o, read for the maps and for attention; unless kept it is computed once more before. */
static void add_groups(const fur_model_config *c, const fur_run_shape *s, const layer_totals *sum, double again,
                       work *w)
{
    double q = (double)fur_config_query_width(c), k = (double)fur_config_key_width(c), h = (double)c->heads;
    double layer = grouped_layers(s, sum) * (double)s->tokens;
    double o = s->attention == FUR_STORE_MEMORY ? 0 : 2 * q + h, forward = 2 * q + 4 * k + o;
    double backward = 6 * q + 8 * k + o;
    if (!fur_run_keeps_attention(s))
        backward += 2 * q + 2 * k + h + again * forward;
    w->streamed_bytes += layer * (forward + backward) * (double)sizeof(float);
    w->grouped = layer > 0 ? sum->parted_backward : 0;
    w->tasks = layer > 0 ? tasks_of_group(c, s) : 1;
    if (s->inputs == FUR_STORE_DISK) /* once more: both before and after attention */
        w->streamed_bytes += layer * (double)fur_encoded_row_bytes(s->stored, c->width);
}

/* What backward computes again or fetches: q, k, v, o and what is not kept; and layers whose input is not. */
static void add_again(const fur_model_config *c, const fur_run_shape *s, const layer_totals *sum, work *w)
{
    double T = (double)s->tokens, L = (double)c->layers, row = T * (double)sizeof(float);
    int kept = fur_run_keeps_attention(s);
    double again = s->inputs == FUR_STORE_AGAIN ? (double)fur_store_layers_again(c->layers, s->segment) / L : 0;
    w->products += T * (sum->rebuilt + sum->qkv + sum->o + (s->keep_hidden ? 0 : sum->up));
    w->products += again * T * ((kept ? 0 : sum->qkv) + sum->o + sum->up + sum->down);
    w->attention += (kept ? 0 : 1 + again) * sum->attention_forward;
    w->memory_bytes += again * L * row * (8.0 * (double)c->width + 2.0 * (double)fur_config_inner_width(c));
    if (s->inputs == FUR_STORE_DISK) /* written once, read by every walk over the row */
        w->streamed_bytes +=
            (L * (c->causal ? 3 : 4) + sum->rebuilt_layers) * T * (double)fur_encoded_row_bytes(s->stored, c->width);
    if (s->attention == FUR_STORE_DISK)
        w->streamed_bytes +=
            (2 * (L - grouped_layers(s, sum)) + L * again) * row * (double)(fur_config_query_width(c) + c->heads);
    add_groups(c, s, sum, again, w);
}

/* Look-ups go at memory's rate, not that of products. Each superblock passes through all tables; backward goes through
 * them for the input, for their own gradient and again for what is computed again; the update moves 22 bytes a number.
 */
static void add_tables(const fur_parameter_table *table, const fur_run_shape *s, double T, const layer_totals *sum,
                       work *w)
{
    int training = s->purpose == FUR_FOR_TRAIN;
    double passes = s->purpose == FUR_FOR_GENERATE ? 0 : ceil(T / (double)s->superblock) * (training ? 4 : 1);
    w->slow_products += T * sum->slow * (training ? 4 : 1);
    w->memory_bytes += (double)table->table_elements * (4 * passes + (s->row_updates && s->optimizer ? 22 : 0));
}

static work row_work(const fur_model_config *c, const fur_parameter_table *table, const fur_run_shape *s,
                     const layer_totals *sum)
{
    int training = s->purpose == FUR_FOR_TRAIN;
    double T = s->purpose == FUR_FOR_GENERATE ? 1 : (double)s->tokens, L = (double)c->layers;
    double inner = (double)fur_config_inner_width(c), elements = (double)table->elements * (double)sizeof(float);
    double trained = (double)fur_trained_elements(table) * (double)sizeof(float);
    double passes = !training ? 1 : table->first_trained > 0 ? 2 : 3; /* frozen maps: no products for their gradients */
    work w = {.slower = training && c->attention_dropout > 0 ? ATTENTION_DROPOUT_FACTOR : 1};
    w.products = T * (sum->qkv + sum->o + sum->up + sum->down) * passes;
    w.attention = sum->attention_forward + (training ? sum->attention_backward : 0);
    if (s->purpose == FUR_FOR_GENERATE)
        w.attention = sum->attention_last;
    w.memory_bytes = L * T * (training ? 34.0 * (double)c->width + 9.0 * inner : 8.0 * (double)c->width + 2.0 * inner) *
                     (double)sizeof(float);
    if (training)
        add_again(c, s, sum, &w);
    int recompute_logits = training && s->vocabulary_tile < fur_config_head_width(c);
    w.products += T * map_flops(&table->head) * (passes + recompute_logits);
    w.products += T * map_flops(&table->input) * passes;
    w.memory_bytes += T * (double)fur_config_head_width(c) * (training ? 3 : 1) * (double)sizeof(float);
    w.memory_bytes += elements + (training ? 7 * trained : 0);
    add_tables(table, s, T, sum, &w);
    if (s->optimizer && s->moments == FUR_STORE_DISK)
        w.moment_bytes = 4 * trained;
    return w;
}

static double work_seconds(const fur_exec *exec, const work *w, const fur_run_shape *s, int64_t document_tokens,
                           double gflops)
{
    double rate = gflops * 1e9, piece = (double)fur_min_i64(s->superblock, document_tokens);
    double attention = rate * ATTENTION_FRACTION / (1 + ATTENTION_OVERHEAD_TOKENS / piece);
    double idle = w->grouped > 0 ? fmax(1, exec->threads / w->tasks) - 1 : 0; /* threads without work, of all */
    double compute = (w->products + w->slow_products * fur_rate_gain(exec)) / (rate * PRODUCT_FRACTION) +
                     (w->attention + w->grouped * idle) * w->slower / attention +
                     w->memory_bytes / (gflops / fur_rate_gain(exec) * MEMORY_BYTES_PER_SECOND_PER_GFLOP);
    compute += w->streamed_bytes / COPY_BYTES_PER_SECOND;
    return fmax(compute, w->streamed_bytes / DISK_BYTES_PER_SECOND) + w->moment_bytes / DISK_BYTES_PER_SECOND;
}

/* ---- candidates ------------------------------------------------------------------------------------------- */

typedef struct planner {
    fur_context *context;
    const fur_model_config *config;
    const fur_parameter_table *table;
    const fur_plan_request *request;
    double gflops;       /* for the seconds that are told */
    layer_totals totals; /* of the request's row */
    fur_plan *best;
    double best_order; /* seconds at the nominal rate, by which plans are compared */
} planner;

static int64_t document_tokens(const fur_plan_request *request)
{
    return request->document_tokens ? request->document_tokens : request->row_tokens;
}

static void add_item(void *user, const char *name, int64_t bytes)
{
    fur_plan *plan = user;
    if (bytes <= 0 || plan->item_count == FUR_PLAN_MAX_ITEMS)
        return;
    fur_plan_item *item = &plan->items[plan->item_count++];
    memset(item, 0, sizeof *item);
    (void)snprintf(item->name, sizeof item->name, "%s", name);
    item->bytes = bytes;
}

/* *order: the seconds by which plans are compared. They rest on nothing measured: among the candidates are some that
 * differ in bits. */
static void evaluate(const planner *p, const fur_run_shape *shape, fur_plan *out, double *order)
{
    const fur_plan_request *r = p->request;
    memset(out, 0, sizeof *out);
    out->superblock = shape->superblock;
    out->token_tile = shape->token_tile;
    out->loss_tile = shape->loss_tile;
    out->vocabulary_tile = shape->vocabulary_tile;
    out->inputs = shape->inputs;
    out->stored = shape->stored;
    out->segment_layers = shape->inputs == FUR_STORE_AGAIN ? shape->segment : 1;
    out->attention = shape->attention;
    out->optimizer = shape->moments;
    out->keep_attention = fur_run_keeps_attention(shape);
    out->keep_hidden = shape->keep_hidden;
    out->key_groups = p->totals.parted_layers > 0 ? shape->key_groups : 0;
    /* a run may come upon every row of tables that are mapped from their file (fur_model_open) */
    bool mapped = shape->purpose == FUR_FOR_GENERATE || r->mapped_tables;
    int64_t tables = mapped ? 0 : p->table->table_elements;
    int64_t other = r->weight_bytes ? r->weight_bytes : p->table->first_table * (int64_t)sizeof(float);
    int64_t weights = other + tables * (int64_t)sizeof(float);
    add_item(out, "process and libraries", fur_context_process_bytes(p->context) + library_bytes(weights));
    add_item(out, "data", r->data_bytes);
    add_item(out, "weights", weights);
    if (mapped)
        add_item(out, "tables, mapped from their file", fur_table_file_bytes(p->table, p->config->table_type));
    bool sane = fur_run_shape_is_sane(p->config, p->table, shape);
    if (sane) {
        fur_arena counting = fur_arena_counting();
        fur_run_memory memory;
        fur_run_layout(&p->context->exec, p->config, p->table, shape, &counting, add_item, out, &memory);
        out->arena_bytes = counting.peak;
        out->disk_bytes = memory.disk_bytes;
    } else {
        out->arena_bytes = FUR_RUN_MOST_BYTES;
        add_item(out, "more than any machine has", FUR_RUN_MOST_BYTES);
    }
    for (int i = 0; i < out->item_count; i++)
        out->peak_bytes += out->items[i].bytes;
    out->fits = sane && (r->memory_bytes == 0 || out->peak_bytes <= r->memory_bytes);
    work w = row_work(p->config, p->table, shape, &p->totals);
    out->flops = w.products + w.attention;
    out->seconds = work_seconds(&p->context->exec, &w, shape, document_tokens(r), p->gflops);
    *order = work_seconds(&p->context->exec, &w, shape, document_tokens(r), fur_rate_nominal(p->context));
}

/* Tokens beyond which the model's maps gain nothing. */
static int64_t widest_block(const fur_parameter_table *table, bool feedforward)
{
    int64_t tokens = 0;
    for (int i = 0; i < FUR_LAYER_MAPS; i++) {
        const fur_map_offsets *map = fur_layer_map(&table->layers[0], i);
        if (!feedforward || map == &table->layers[0].up)
            tokens = fur_max_i64(tokens, map->in ? map->kind->token_block : 0);
    }
    return tokens;
}

/* Larger tiles run products nearer their best rate, within reason; look-ups want the whole superblock. */
static int64_t choose_token_tile(const fur_model_config *c, const fur_parameter_table *table, int64_t superblock)
{
    if (widest_block(table, true) > fur_projection_dense.token_block)
        return superblock;
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

static const int64_t superblocks[] = {16384, 8192, 4096, 2048, 1024, 512, 256, 128};
static const int64_t logit_counts[] = {(int64_t)1 << 25, (int64_t)1 << 23, (int64_t)1 << 21, (int64_t)1 << 19};

/* Layers of a segment that leave the fewest inputs in memory; among those, the fewest to compute again. */
static int64_t choose_segment(int64_t layers)
{
    int64_t best = fur_min_i64(2, layers);
    for (int64_t s = best; s <= layers; s++) {
        int64_t held = fur_store_layers_held(layers, s), best_held = fur_store_layers_held(layers, best);
        if (held < best_held ||
            (held == best_held && fur_store_layers_again(layers, s) < fur_store_layers_again(layers, best)))
            best = s;
    }
    return best;
}

/* Asked for, or left to the plan and of some use. */
static bool allowed(const planner *p, fur_store_place asked, fur_store_place place, int useful)
{
    if (asked != FUR_STORE_CHOSEN)
        return place == asked;
    return useful && (place != FUR_STORE_DISK || p->request->disk_bytes > 0);
}

/* Whether the plan fits, disk too. */
static bool evaluate_fit(const planner *p, const fur_run_shape *shape, fur_plan *plan, double *order)
{
    evaluate(p, shape, plan, order);
    if (plan->disk_bytes > p->request->disk_bytes)
        plan->fits = false;
    return plan->fits;
}

/* Takes the plan's place that is best so far, or not. */
static void offer(planner *p, const fur_plan *plan, double order)
{
    fur_plan *best = p->best;
    bool found = best->item_count > 0, first = !found || plan->fits > best->fits;
    bool tie = found && plan->fits == best->fits;
    bool on_disk = best->disk_bytes <= p->request->disk_bytes;
    bool smaller = plan->disk_bytes <= p->request->disk_bytes && (!on_disk || plan->peak_bytes < best->peak_bytes);
    if (first || (tie && (plan->fits ? order < p->best_order * 0.999 : smaller))) {
        *best = *plan;
        p->best_order = order;
    }
}

static bool consider(planner *p, const fur_run_shape *shape)
{
    fur_plan plan;
    double order;
    bool fits = evaluate_fit(p, shape, &plan, &order);
    offer(p, &plan, order);
    return fits;
}

/* Keys in memory, or, where that does not fit, in the fewest groups of heads that do: more of them are no faster, and
 * take less memory. Asked to be on disk, as many as can be are there. */
static void consider_keys(planner *p, fur_run_shape shape)
{
    const fur_plan_request *r = p->request;
    int64_t heads = p->config->kv_heads, most = r->key_groups ? r->key_groups : heads;
    bool helps = p->totals.parted_layers > 0 && (r->key_groups > 0 || heads > 1);
    shape.key_groups = 0;
    if ((!helps || r->keys != FUR_STORE_DISK) && consider(p, &shape))
        return;
    if (!helps || !allowed(p, r->keys, FUR_STORE_DISK, 1))
        return;
    fur_plan plan, fewer;
    double order, other;
    shape.key_groups = most;
    bool fits = evaluate_fit(p, &shape, &plan, &order);
    for (int64_t groups = 2; fits && groups < most && r->keys == FUR_STORE_CHOSEN; groups++) {
        shape.key_groups = groups;
        if (heads % groups == 0 && evaluate_fit(p, &shape, &fewer, &other)) {
            offer(p, &fewer, other);
            return;
        }
    }
    offer(p, &plan, order);
}

/* Every way to keep what backward and the next step want, for the blocks of `shape`. What takes no disk comes first:
 * among plans of equal speed the first stays. */
static void consider_places(planner *p, fur_run_shape shape)
{
    static const fur_store_place kept[] = {FUR_STORE_MEMORY, FUR_STORE_DISK, FUR_STORE_AGAIN};
    static const fur_store_place inputs[] = {FUR_STORE_MEMORY, FUR_STORE_AGAIN, FUR_STORE_DISK};
    static const fur_store_place moments[] = {FUR_STORE_MEMORY, FUR_STORE_DISK};
    const fur_plan_request *r = p->request;
    int64_t layers = p->config->layers, segment = choose_segment(layers);
    int segments_help = r->stored == FUR_STORED_F32 && fur_store_layers_held(layers, segment) < layers;
    if (shape.purpose != FUR_FOR_TRAIN) {
        (void)consider(p, &shape);
        return;
    }
    shape.stored = r->stored;
    for (int i = 0; i < 3 * 3 * 2 * 2; i++) {
        shape.keep_hidden = i % 2 == 0;
        shape.moments = moments[i / 2 % 2];
        shape.attention = kept[i / 4 % 3];
        shape.inputs = inputs[i / 12];
        shape.segment = shape.inputs == FUR_STORE_AGAIN ? segment : 1;
        bool again = shape.attention == FUR_STORE_AGAIN, segments = shape.inputs == FUR_STORE_AGAIN;
        bool keeps = r->keep == FUR_KEEP_NOTHING ? again && !shape.keep_hidden
                     : r->keep == FUR_KEEP_ALL   ? !again && shape.keep_hidden
                                                 : !shape.keep_hidden || (!again && !segments);
        if (keeps && allowed(p, r->inputs, shape.inputs, !segments || segments_help) &&
            allowed(p, r->attention, shape.attention, 1) && allowed(p, r->optimizer, shape.moments, 1))
            consider_keys(p, shape);
    }
}

static void begin_search(planner *p, fur_plan *out)
{
    memset(out, 0, sizeof *out);
    p->best = out;
    p->totals = totals_of(p->config, p->table, p->request->row_tokens, document_tokens(p->request));
}

static void search(planner *p, fur_plan *out)
{
    const fur_plan_request *r = p->request;
    begin_search(p, out);
    int64_t widest = widest_block(p->table, false);
    for (size_t b = 0; b < sizeof superblocks / sizeof superblocks[0]; b++)
        for (size_t l = 0; l < sizeof logit_counts / sizeof logit_counts[0]; l++) {
            if (r->superblock != 0 ? b > 0 : superblocks[b] > widest)
                continue;
            int64_t superblock = r->superblock ? r->superblock : superblocks[b];
            fur_run_shape shape = {.purpose = r->purpose,
                                   .tokens = r->row_tokens,
                                   .superblock = superblock,
                                   .token_tile = choose_token_tile(p->config, p->table, superblock),
                                   .optimizer = r->purpose == FUR_FOR_TRAIN && !r->gradients_only,
                                   .row_updates = r->row_updates,
                                   .row_adam = r->row_adam,
                                   .coded = r->weight_bytes > 0,
                                   .error_rows = r->error_rows};
            choose_loss_tiles(p->config, superblock, logit_counts[l], &shape);
            consider_places(p, shape);
        }
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
    begin_search(&p, out);
    fur_run_shape asked = *shape;
    asked.error_rows = request->error_rows;
    asked.row_updates = request->row_updates;
    asked.row_adam = request->row_adam;
    asked.coded = request->weight_bytes > 0;
    consider_places(&p, asked);
    fur_parameter_table_destroy(&table);
    return FUR_OK;
}

fur_status fur_plan_refuse(fur_context *context, const fur_model_config *config, const fur_plan_request *request,
                           const fur_plan *plan)
{
    int64_t longest;
    double mib = 1.0 / 1048576;
    if (plan->disk_bytes > request->disk_bytes)
        return fur_error_set(
            &context->error, FUR_E_DOES_NOT_FIT, "%lld tokens put %.0f MiB on disk, the limit there is %.0f MiB",
            (long long)request->row_tokens, (double)plan->disk_bytes * mib, (double)request->disk_bytes * mib);
    FUR_TRY(fur_plan_longest(context, config, request, &longest));
    if (longest == 0)
        return fur_error_set(&context->error, FUR_E_DOES_NOT_FIT,
                             "%lld tokens need at least %.0f MiB, the limit is %.0f MiB, and no context of this model "
                             "fits it",
                             (long long)request->row_tokens, ceil((double)plan->peak_bytes * mib),
                             (double)request->memory_bytes * mib);
    return fur_error_set(&context->error, FUR_E_DOES_NOT_FIT,
                         "%lld tokens need at least %.0f MiB, the limit is %.0f MiB; the largest context that fits is "
                         "%lld",
                         (long long)request->row_tokens, ceil((double)plan->peak_bytes * mib),
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
