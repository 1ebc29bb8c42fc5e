/* SPDX-License-Identifier: Apache-2.0 */
#include "model/parameters.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/size.h"
#include "model/config.h"

typedef struct builder {
    const fur_model_config *config;
    const fur_family *family;
    fur_parameter_table *table; /* list NULL: counting only */
    int64_t first_table;        /* where tables begin in the flat array */
    int64_t layer_columns;      /* of the layer's tables so far */
} builder;

/* What a tensor is, and what of it: ".weight", or such. */
typedef struct tensor_name {
    fur_tensor_role role;
    int64_t layer; /* -1: of the model */
    const char *suffix;
} tensor_name;

static void write_name(const builder *b, const tensor_name *name, char *out, size_t size)
{
    const char *stem = b->family->names[name->role], *percent = strstr(stem, "%d");
    bool adapter = strncmp(name->suffix, ".lora_", strlen(".lora_")) == 0; /* PEFT's names */
    const char *prefix = adapter ? "base_model.model." : "";
    if (percent)
        snprintf(out, size, "%s%.*s%d%s%s", prefix, (int)(percent - stem), stem, (int)name->layer, percent + 2,
                 name->suffix);
    else
        snprintf(out, size, "%s%s%s", prefix, stem, name->suffix);
}

/* Appends one tensor; columns 0: a vector. Returns its offset. */
static int64_t append(builder *b, int64_t rows, int64_t columns, double std, float value, fur_file_layout layout,
                      tensor_name name)
{
    fur_parameter_table *t = b->table;
    int64_t offset = t->elements, count = rows * (columns ? columns : 1);
    t->parameters += count;
    if (t->list) {
        fur_parameter *p = &t->list[t->count];
        *p = (fur_parameter){.offset = offset,
                             .count = count,
                             .rank = columns ? 2 : 1,
                             .shape = {rows, columns ? columns : 1},
                             .init_std = std,
                             .init_value = value,
                             .decayed = columns != 0,
                             .role = name.role,
                             .layer = name.layer,
                             .is_bias = strcmp(name.suffix, ".bias") == 0};
        write_name(b, &name, p->name, sizeof p->name);
        p->file_layout = columns ? layout : (layout == FUR_FILE_NEOX_QKV ? layout : FUR_FILE_SAME);
    }
    t->count++;
    t->elements += count;
    return offset;
}

/* A norm's weight that multiplies by 1. */
static float unit_weight(const builder *b)
{
    return b->config->norm_offset ? 0.0f : 1.0f;
}

static void append_norm(builder *b, fur_tensor_role role, int64_t layer, int64_t *w, int64_t *bias)
{
    int64_t width = b->config->width;
    *w = append(b, width, 0, 0, unit_weight(b), FUR_FILE_SAME, (tensor_name){role, layer, ".weight"});
    *bias = -1;
    if (b->config->norm == FUR_NORM_LAYERNORM)
        *bias = append(b, width, 0, 0, 0.0f, FUR_FILE_SAME, (tensor_name){role, layer, ".bias"});
}

/* The tensor that was appended last is a table: it has a place of its own, behind all that are not. */
static void make_table(builder *b, fur_map_offsets *map)
{
    fur_parameter_table *t = b->table;
    fur_projection shape = fur_map_at(map, NULL);
    int64_t rows = map->kind->weight_rows(&shape), elements = map->kind->weight_elements(&shape);
    t->elements = map->weight;
    map->weight = b->first_table + t->table_elements;
    map->first_row = t->table_rows;
    map->table_index = t->tables++;
    map->first_column = b->layer_columns;
    b->layer_columns += fur_round_up(map->out, FUR_LOOKUP_TILE);
    t->table_elements += elements;
    t->table_rows += rows;
    if (t->list) {
        fur_parameter *p = &t->list[t->count - 1];
        p->offset = map->weight;
        p->count = elements;
        p->table = true;
        p->table_index = map->table_index;
        p->first_row = map->first_row;
    }
}

static fur_map_offsets append_map(builder *b, char kind, int64_t bits, int64_t in, int64_t out, double std, bool bias,
                                  fur_tensor_role role, int64_t layer)
{
    const fur_model_config *c = b->config;
    fur_map_offsets map = {
        .in = in, .out = out, .bias = -1, .kind = fur_projection_kind_at(kind), .table_index = -1, .first_row = -1};
    if (kind == FUR_PROJECTION_LOOKUP) {
        bool released = !(c->lookup_temperature > 0);
        map.lookup = (fur_lookup_options){.bits = bits,
                                          .score = released ? FUR_LOOKUP_MAGNITUDE : FUR_LOOKUP_PROBABILITY,
                                          .temperature = released ? 1 : (float)c->lookup_temperature,
                                          .two_rows = c->lookup_two_rows};
        map.weight = append(b, in / bits << bits, out, std, 0, FUR_FILE_SAME, (tensor_name){role, layer, ".table"});
        make_table(b, &map);
    } else {
        map.weight = append(b, out, in, std, 0, b->family->matrices, (tensor_name){role, layer, ".weight"});
    }
    if (bias)
        map.bias = append(b, out, 0, 0, 0, FUR_FILE_SAME, (tensor_name){role, layer, ".bias"});
    return map;
}

/* One tensor for q, k and v, and the maps that are slices of it. */
static void append_fused_qkv(builder *b, fur_layer_offsets *l, int64_t layer)
{
    const fur_model_config *c = b->config;
    int64_t q = fur_config_query_width(c), k = fur_config_key_width(c), in = c->width;
    fur_file_layout layout = b->family->qkv_layout;
    int64_t weight = append(b, q + 2 * k, in, c->init_std, 0, layout, (tensor_name){FUR_TENSOR_QKV, layer, ".weight"});
    int64_t bias = -1;
    if (fur_config_has_bias(c, FUR_BIAS_QKV))
        bias = append(b, q + 2 * k, 0, 0, 0, layout, (tensor_name){FUR_TENSOR_QKV, layer, ".bias"});
    const fur_projection_kind *kind = fur_projection_kind_at(c->projection_qkvo);
    l->q = l->k = l->v = (fur_map_offsets){.in = in, .kind = kind, .bias = -1, .table_index = -1, .first_row = -1};
    l->q.out = q;
    l->k.out = l->v.out = k;
    l->q.weight = weight;
    l->k.weight = weight + q * in;
    l->v.weight = weight + (q + k) * in;
    if (bias >= 0) {
        l->q.bias = bias;
        l->k.bias = bias + q;
        l->v.bias = bias + q + k;
    }
}

static int64_t append_constant(builder *b, int64_t columns, const char *suffix, int64_t layer)
{
    int64_t offset =
        append(b, b->config->kv_heads, columns, 0, 0, FUR_FILE_SAME, (tensor_name){FUR_TENSOR_FAR, layer, suffix});
    if (b->table->list) {
        fur_parameter *p = &b->table->list[b->table->count - 1];
        p->constant = true;
        p->decayed = false;
    }
    return offset;
}

/* What an almost-linear layer's polynomial is made of (src/attention/far_fit.h). */
static void append_far(builder *b, int64_t layer, fur_layer_offsets *l)
{
    const fur_model_config *c = b->config;
    l->far_query_mean = l->far_key_mean = l->far_coefficients = l->far_fitted = l->far_exact = l->far_fine =
        l->far_bias = -1;
    if (!fur_config_is_almost_linear(c, layer))
        return;
    l->far_query_mean = append_constant(b, c->head_dim, "_query_mean", layer);
    l->far_key_mean = append_constant(b, c->head_dim, "_key_mean", layer);
    l->far_coefficients = append_constant(b, c->far_degree + 1, "_coefficients", layer);
    l->far_fitted = append_constant(b, 2, "_fitted", layer);
    if (c->far_max_error > 0)
        l->far_exact = append_constant(b, 1, "_exact", layer);
    if (c->far_fine_gradient)
        l->far_fine = append_constant(b, c->far_degree + 2, "_fine_coefficients", layer);
    if (c->far_bias)
        l->far_bias = append(b, c->heads, 0, 0, 0.0f, FUR_FILE_SAME, (tensor_name){FUR_TENSOR_FAR, layer, "_bias"});
}

/* gate rows, then up rows: one map of 2F outputs */
static void append_gated_up(builder *b, int64_t layer, fur_layer_offsets *l)
{
    const fur_model_config *c = b->config;
    l->up = (fur_map_offsets){.in = c->width,
                              .out = 2 * c->hidden,
                              .bias = -1,
                              .kind = fur_projection_kind_at(c->projection_ffn),
                              .table_index = -1,
                              .first_row = -1};
    fur_file_layout layout = b->family->matrices;
    l->up.weight =
        append(b, c->hidden, c->width, c->init_std, 0, layout, (tensor_name){FUR_TENSOR_GATE, layer, ".weight"});
    append(b, c->hidden, c->width, c->init_std, 0, layout, (tensor_name){FUR_TENSOR_UP, layer, ".weight"});
    if (fur_config_has_bias(c, FUR_BIAS_FFN)) {
        l->up.bias = append(b, c->hidden, 0, 0, 0, FUR_FILE_SAME, (tensor_name){FUR_TENSOR_GATE, layer, ".bias"});
        append(b, c->hidden, 0, 0, 0, FUR_FILE_SAME, (tensor_name){FUR_TENSOR_UP, layer, ".bias"});
    }
}

/* norm1, q, k and v, and what belongs to attention's inside */
static void append_attention(builder *b, int64_t layer, double qkv_std, fur_layer_offsets *l)
{
    const fur_model_config *c = b->config;
    int64_t q = fur_config_query_width(c), k = fur_config_key_width(c), bits = c->lookup_bits;
    bool bias = fur_config_has_bias(c, FUR_BIAS_QKV);
    append_norm(b, FUR_TENSOR_NORM1, layer, &l->norm1_w, &l->norm1_b);
    if (b->family->names[FUR_TENSOR_QKV]) {
        append_fused_qkv(b, l, layer);
    } else {
        l->q = append_map(b, c->projection_qkvo, bits, c->width, q, qkv_std, bias, FUR_TENSOR_Q, layer);
        l->k = append_map(b, c->projection_qkvo, bits, c->width, k, qkv_std, bias, FUR_TENSOR_K, layer);
        l->v = append_map(b, c->projection_qkvo, bits, c->width, k, qkv_std, bias, FUR_TENSOR_V, layer);
    }
    float one = unit_weight(b);
    if (c->qk_norm) {
        l->q_norm_w =
            append(b, c->head_dim, 0, 0, one, FUR_FILE_SAME, (tensor_name){FUR_TENSOR_Q_NORM, layer, ".weight"});
        l->k_norm_w =
            append(b, c->head_dim, 0, 0, one, FUR_FILE_SAME, (tensor_name){FUR_TENSOR_K_NORM, layer, ".weight"});
    }
    if (c->sink_logits)
        l->sinks = append(b, c->heads, 0, 0, 0.0f, FUR_FILE_SAME, (tensor_name){FUR_TENSOR_SINKS, layer, ""});
    append_far(b, layer, l);
}

/* norm2 and the feedforward up to its activation */
static void append_inner(builder *b, int64_t layer, fur_layer_offsets *l)
{
    const fur_model_config *c = b->config;
    append_norm(b, FUR_TENSOR_NORM2, layer, &l->norm2_w, &l->norm2_b);
    if (fur_config_is_gated(c))
        append_gated_up(b, layer, l);
    else
        l->up = append_map(b, c->projection_ffn, c->lookup_bits, c->width, c->hidden, c->init_std,
                           fur_config_has_bias(c, FUR_BIAS_FFN), FUR_TENSOR_UP, layer);
    if (c->activation == FUR_ACTIVATION_NORM) {
        fur_tensor_role role = FUR_TENSOR_INNER_NORM;
        l->inner_norm_w = append(b, c->hidden, 0, 0, 1.0f, FUR_FILE_SAME, (tensor_name){role, layer, ".weight"});
        l->inner_norm_b = append(b, c->hidden, 0, 0, 0.0f, FUR_FILE_SAME, (tensor_name){role, layer, ".bias"});
    }
}

static void append_layer(builder *b, int64_t layer, fur_layer_offsets *l)
{
    const fur_model_config *c = b->config;
    /* Maps that write to the residual stream start smaller, so that its variance does not grow with depth (GPT-2).
     * Tables for q, k and v, and those of the feedforward, start as released. */
    double residual_std = c->init_std / sqrt(2.0 * (double)c->layers);
    double qkv_std = c->projection_qkvo == FUR_PROJECTION_LOOKUP ? sqrt(2.0 / (5.0 * (double)c->width)) : c->init_std;
    double down_std = c->projection_ffn == FUR_PROJECTION_LOOKUP ? c->init_std : residual_std;
    *l = (fur_layer_offsets){.q_norm_w = -1,
                             .k_norm_w = -1,
                             .sinks = -1,
                             .post1_w = -1,
                             .post1_b = -1,
                             .post2_w = -1,
                             .post2_b = -1,
                             .inner_norm_w = -1,
                             .inner_norm_b = -1};
    l->first_table = b->first_table + b->table->table_elements;
    l->first_table_row = b->table->table_rows;
    b->layer_columns = 0;
    append_attention(b, layer, qkv_std, l);
    if (fur_config_has_output_map(c))
        l->o = append_map(b, c->projection_qkvo, c->lookup_bits, fur_config_query_width(c), c->width, residual_std,
                          fur_config_has_bias(c, FUR_BIAS_O), FUR_TENSOR_O, layer);
    if (c->post_norms)
        append_norm(b, FUR_TENSOR_POST_NORM1, layer, &l->post1_w, &l->post1_b);
    append_inner(b, layer, l);
    l->down = append_map(b, c->projection_ffn, c->lookup_down_bits, c->hidden, c->width, down_std,
                         fur_config_has_bias(c, FUR_BIAS_FFN), FUR_TENSOR_DOWN, layer);
    if (c->post_norms)
        append_norm(b, FUR_TENSOR_POST_NORM2, layer, &l->post2_w, &l->post2_b);
    l->table_elements = b->first_table + b->table->table_elements - l->first_table;
    l->table_rows = b->table->table_rows - l->first_table_row;
    b->table->most_table_elements = fur_max_i64(b->table->most_table_elements, l->table_elements);
    b->table->most_table_rows = fur_max_i64(b->table->most_table_rows, l->table_rows);
    b->table->most_table_columns = fur_max_i64(b->table->most_table_columns, b->layer_columns);
}

static void append_adapters(builder *b);

static void append_all(builder *b)
{
    const fur_model_config *c = b->config;
    fur_parameter_table *t = b->table;
    t->embedding = t->positions = -1;
    const fur_projection_kind *dense = fur_projection_kind_at(0);
    if (c->features) {
        t->input =
            (fur_map_offsets){.in = c->features, .out = c->width, .kind = dense, .table_index = -1, .first_row = -1};
        double std = 1.0 / sqrt((double)c->features);
        t->input.weight =
            append(b, c->width, c->features, std, 0, FUR_FILE_SAME, (tensor_name){FUR_TENSOR_INPUT, -1, ".weight"});
        t->input.bias = append(b, c->width, 0, 0, 0, FUR_FILE_SAME, (tensor_name){FUR_TENSOR_INPUT, -1, ".bias"});
    } else {
        t->embedding = append(b, c->vocabulary, c->width, c->init_std, 0, FUR_FILE_SAME,
                              (tensor_name){FUR_TENSOR_EMBEDDING, -1, ".weight"});
    }
    if (c->position == FUR_POSITION_LEARNED)
        t->positions = append(b, c->context, c->width, c->init_std, 0, FUR_FILE_SAME,
                              (tensor_name){FUR_TENSOR_POSITIONS, -1, ".weight"});
    fur_layer_offsets unused;
    for (int64_t layer = 0; layer < c->layers; layer++)
        append_layer(b, layer, t->layers ? &t->layers[layer] : &unused);
    append_norm(b, FUR_TENSOR_FINAL_NORM, -1, &t->final_norm_w, &t->final_norm_b);
    t->head = (fur_map_offsets){.in = c->width,
                                .out = fur_config_head_width(c),
                                .weight = t->embedding,
                                .bias = -1,
                                .kind = dense,
                                .table_index = -1,
                                .first_row = -1};
    if (!c->tied)
        t->head.weight = append(b, t->head.out, c->width, c->init_std, 0, FUR_FILE_SAME,
                                (tensor_name){FUR_TENSOR_HEAD, -1, ".weight"});
    append_adapters(b);
}

/* A module of the family's that may get adapters, and the map whose outputs from `first` on are its own. */
typedef struct module {
    fur_tensor_role role;
    unsigned target;
    fur_map_offsets *maps[3]; /* of a tensor for q, k and v, all three */
    int64_t first;
} module;

static void append_adapter(builder *b, const module *m, int64_t layer)
{
    const fur_model_config *c = b->config;
    int64_t in = m->maps[0]->in, out = 0;
    bool gated = (m->target == FUR_LORA_GATE || m->target == FUR_LORA_UP) && fur_config_is_gated(c);
    bool by_head = m->maps[1] && b->family->qkv_layout == FUR_FILE_NEOX_QKV;
    for (int i = 0; i < 3 && m->maps[i]; i++)
        out += gated ? c->hidden : m->maps[i]->out;
    int64_t first = b->table->count;
    double std = 1 / sqrt(3.0 * (double)in); /* PEFT's uniform numbers up to 1 / sqrt(in) have it */
    int64_t a = append(b, c->lora_rank, in, std, 0, FUR_FILE_SAME, (tensor_name){m->role, layer, ".lora_A.weight"});
    int64_t of_b = append(b, out, c->lora_rank, 0, 0, by_head ? FUR_FILE_NEOX_QKV : FUR_FILE_SAME,
                          (tensor_name){m->role, layer, ".lora_B.weight"});
    for (int64_t i = first; b->table->list && i < b->table->count; i++)
        b->table->list[i].adapter = true;
    for (int i = 0; i < 3 && m->maps[i]; i++) {
        fur_map_offsets *map = m->maps[i];
        int64_t count = gated ? c->hidden : map->out;
        if (map->kind != &fur_projection_lora)
            map->base = map->kind;
        map->kind = &fur_projection_lora;
        map->rank = c->lora_rank;
        map->adapter_scale = (float)(c->lora_alpha / (double)c->lora_rank);
        map->adapter[map->adapters++] = (fur_adapter_offsets){.a = a, .b = of_b, .first = m->first, .count = count};
        of_b += count * c->lora_rank;
    }
}

/* The modules of a layer. */
static int modules_of(const builder *b, fur_layer_offsets *l, module *out)
{
    int count = 0;
    if (b->family->names[FUR_TENSOR_QKV]) {
        out[count++] = (module){FUR_TENSOR_QKV, FUR_LORA_Q | FUR_LORA_K | FUR_LORA_V, {&l->q, &l->k, &l->v}, 0};
    } else {
        out[count++] = (module){FUR_TENSOR_Q, FUR_LORA_Q, {&l->q}, 0};
        out[count++] = (module){FUR_TENSOR_K, FUR_LORA_K, {&l->k}, 0};
        out[count++] = (module){FUR_TENSOR_V, FUR_LORA_V, {&l->v}, 0};
    }
    if (l->o.in)
        out[count++] = (module){FUR_TENSOR_O, FUR_LORA_O, {&l->o}, 0};
    bool gated = fur_config_is_gated(b->config);
    if (gated)
        out[count++] = (module){FUR_TENSOR_GATE, FUR_LORA_GATE, {&l->up}, 0};
    out[count++] = (module){FUR_TENSOR_UP, FUR_LORA_UP, {&l->up}, gated ? b->config->hidden : 0};
    out[count++] = (module){FUR_TENSOR_DOWN, FUR_LORA_DOWN, {&l->down}, 0};
    return count;
}

static void append_adapters(builder *b)
{
    const fur_model_config *c = b->config;
    fur_layer_offsets unused;
    if (c->lora_rank == 0)
        return;
    b->table->first_trained = b->table->elements;
    for (int64_t layer = 0; layer < c->layers; layer++) {
        module modules[FUR_MOST_LORA_NAMES];
        fur_layer_offsets *l = b->table->layers ? &b->table->layers[layer] : &unused;
        if (l == &unused) { /* only counting: the maps' widths are those of any layer */
            builder sizes = {.config = c, .family = b->family, .table = &(fur_parameter_table){0}};
            append_layer(&sizes, 0, &unused);
        }
        int count = modules_of(b, l, modules);
        for (int i = 0; i < count; i++)
            if ((c->lora_targets & modules[i].target) == modules[i].target)
                append_adapter(b, &modules[i], layer);
    }
}

/* What stands behind the layer's number. */
static const char *module_name(const builder *b, const module *m)
{
    const char *name = b->family->names[m->role], *after = strstr(name, "%d.");
    return after ? after + 3 : name;
}

/* Whether PEFT's list of targets may call the module so: by all of its name, or by the last words of it. */
static bool is_called(const char *name, const char *word, size_t length)
{
    size_t whole = strlen(name);
    if (length == 0 || length > whole || memcmp(name + whole - length, word, length) != 0)
        return false;
    return length == whole || name[whole - length - 1] == '.';
}

unsigned fur_config_lora_target(const fur_model_config *config, const char *word, size_t length)
{
    fur_parameter_table table = {0};
    fur_layer_offsets layer;
    module modules[FUR_MOST_LORA_NAMES];
    builder b = {.config = config, .family = fur_config_family_of(config), .table = &table};
    append_layer(&b, 0, &layer);
    unsigned targets = 0;
    bool all = length == strlen("all-linear") && memcmp(word, "all-linear", length) == 0;
    int count = modules_of(&b, &layer, modules);
    for (int i = 0; i < count; i++)
        if (all || is_called(module_name(&b, &modules[i]), word, length))
            targets |= modules[i].target;
    return targets;
}

int fur_config_lora_names(const fur_model_config *config, const char *out[FUR_MOST_LORA_NAMES])
{
    fur_parameter_table table = {0};
    fur_layer_offsets layer;
    module modules[FUR_MOST_LORA_NAMES];
    builder b = {.config = config, .family = fur_config_family_of(config), .table = &table};
    append_layer(&b, 0, &layer);
    int count = modules_of(&b, &layer, modules), named = 0;
    for (int i = 0; i < count; i++)
        if ((config->lora_targets & modules[i].target) == modules[i].target)
            out[named++] = module_name(&b, &modules[i]);
    return named;
}

int64_t fur_config_parameter_count(const fur_model_config *config)
{
    fur_parameter_table table = {0};
    builder b = {.config = config, .family = fur_config_family_of(config), .table = &table};
    append_all(&b);
    return table.parameters;
}

/* All layers have the same maps. */
void fur_config_map_costs(const fur_model_config *config, fur_map_costs *out)
{
    fur_parameter_table table = {0};
    fur_layer_offsets layer;
    builder b = {.config = config, .family = fur_config_family_of(config), .table = &table};
    append_layer(&b, 0, &layer);
    memset(out, 0, sizeof *out);
    for (int i = 0; i < FUR_LAYER_MAPS; i++) {
        const fur_map_offsets *map = fur_layer_map(&layer, i);
        fur_projection shape = fur_map_at(map, NULL);
        if (map->in == 0)
            continue;
        out->multiplications += shape.kind->flops(&shape) / 2;
        out->dense_multiplications += (double)map->in * (double)map->out;
        if (map->first_row >= 0) {
            out->table_parameters += shape.kind->weight_rows(&shape) * map->out;
            out->dense_parameters += map->in * map->out;
        }
    }
    out->multiplications *= (double)config->layers;
    out->dense_multiplications *= (double)config->layers;
    out->table_parameters *= config->layers;
    out->dense_parameters *= config->layers;
}

fur_status fur_parameter_table_create(fur_error *error, const fur_model_config *config, fur_parameter_table *out)
{
    memset(out, 0, sizeof *out);
    builder b = {.config = config, .family = fur_config_family_of(config), .table = out};
    append_all(&b);
    b.first_table = out->table_elements > 0 ? fur_round_up(out->elements, FUR_LOOKUP_TILE) : out->elements;
    size_t parameters = (size_t)out->count;
    memset(out, 0, sizeof *out);
    out->list = fur_calloc(parameters, sizeof *out->list);
    out->layers = fur_calloc((size_t)config->layers, sizeof *out->layers);
    if (!out->list || !out->layers) {
        fur_parameter_table_destroy(out);
        return fur_error_set(error, FUR_E_MEMORY, "no memory for the table of %zu parameters", parameters);
    }
    append_all(&b);
    out->first_table = b.first_table;
    return FUR_OK;
}

void fur_parameter_table_destroy(fur_parameter_table *table)
{
    fur_free(table->list);
    fur_free(table->layers);
    memset(table, 0, sizeof *table);
}

void fur_table_clear_padding(const fur_parameter *p, float *data)
{
    int64_t used = p->shape[1] % FUR_LOOKUP_TILE, rows = p->shape[0];
    float *tile = data + p->count - rows * FUR_LOOKUP_TILE;
    for (int64_t row = 0; used && row < rows; row++)
        memset(tile + row * FUR_LOOKUP_TILE + used, 0, (size_t)(FUR_LOOKUP_TILE - used) * sizeof(float));
}

_Static_assert((int)FUR_TABLE_BF16 == (int)FUR_LOOKUP_BF16 && (int)FUR_TABLE_INT8 == (int)FUR_LOOKUP_I8,
               "types of tables in configs are those of the operator");

int64_t fur_parameter_file_bytes(const fur_parameter *p, fur_table_type type)
{
    int64_t scale = type == FUR_TABLE_INT8 ? (int64_t)sizeof(float) : 0;
    return p->shape[0] * (p->shape[1] * fur_lookup_type_bytes((fur_lookup_type)type) + scale);
}

int64_t fur_table_file_bytes(const fur_parameter_table *table, fur_table_type type)
{
    int64_t bytes = 0;
    for (int64_t i = 0; i < table->count; i++) {
        const fur_parameter *p = &table->list[i];
        if (p->table)
            bytes += fur_parameter_file_bytes(p, type);
    }
    return bytes;
}

fur_projection fur_map_at(const fur_map_offsets *map, const float *parameters)
{
    fur_projection p = {.kind = map->kind, .in = map->in, .out = map->out, .lookup = map->lookup};
    if (parameters) {
        p.weight = parameters + map->weight;
        p.bias = map->bias < 0 ? NULL : parameters + map->bias;
    }
    p.adapters =
        (fur_adapters){.base = map->base, .rank = map->rank, .scale = map->adapter_scale, .count = map->adapters};
    for (int i = 0; i < map->adapters; i++) {
        const fur_adapter_offsets *at = &map->adapter[i];
        p.adapters.list[i] = (fur_adapter){.first = at->first, .count = at->count};
        if (parameters) {
            p.adapters.list[i].a_RI = parameters + at->a;
            p.adapters.list[i].b_OR = parameters + at->b;
        }
    }
    return p;
}
