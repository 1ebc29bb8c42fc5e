/* SPDX-License-Identifier: Apache-2.0 */
#include "model/parameters.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/size.h"
#include "model/config.h"

/* Tensor names of a family, printf forms with the layer's number. NULL: the family has no such tensor. */
typedef struct family_names {
    const char *family, *embedding, *positions, *input_w, *input_b, *final_norm, *head;
    const char *norm1, *qkv, *q, *k, *v, *q_norm, *k_norm, *sinks, *far, *o, *norm2, *gate, *up, *inner_norm, *down;
    fur_file_layout matrices, qkv_layout;
} family_names;

static const family_names families[] = {
    {.family = "gpt2",
     .embedding = "transformer.wte.weight",
     .positions = "transformer.wpe.weight",
     .final_norm = "transformer.ln_f",
     .head = "lm_head.weight",
     .norm1 = "transformer.h.%d.ln_1",
     .qkv = "transformer.h.%d.attn.c_attn",
     .o = "transformer.h.%d.attn.c_proj",
     .norm2 = "transformer.h.%d.ln_2",
     .up = "transformer.h.%d.mlp.c_fc",
     .down = "transformer.h.%d.mlp.c_proj",
     .matrices = FUR_FILE_TRANSPOSED,
     .qkv_layout = FUR_FILE_TRANSPOSED},
    {.family = "gpt_neox",
     .embedding = "gpt_neox.embed_in.weight",
     .final_norm = "gpt_neox.final_layer_norm",
     .head = "embed_out.weight",
     .norm1 = "gpt_neox.layers.%d.input_layernorm",
     .qkv = "gpt_neox.layers.%d.attention.query_key_value",
     .o = "gpt_neox.layers.%d.attention.dense",
     .norm2 = "gpt_neox.layers.%d.post_attention_layernorm",
     .up = "gpt_neox.layers.%d.mlp.dense_h_to_4h",
     .down = "gpt_neox.layers.%d.mlp.dense_4h_to_h",
     .qkv_layout = FUR_FILE_NEOX_QKV},
    {.family = "llama",
     .embedding = "model.embed_tokens.weight",
     .final_norm = "model.norm",
     .head = "lm_head.weight",
     .norm1 = "model.layers.%d.input_layernorm",
     .q = "model.layers.%d.self_attn.q_proj",
     .k = "model.layers.%d.self_attn.k_proj",
     .v = "model.layers.%d.self_attn.v_proj",
     .o = "model.layers.%d.self_attn.o_proj",
     .norm2 = "model.layers.%d.post_attention_layernorm",
     .gate = "model.layers.%d.mlp.gate_proj",
     .up = "model.layers.%d.mlp.up_proj",
     .down = "model.layers.%d.mlp.down_proj"},
    {.family = "furlong",
     .embedding = "model.embed_tokens.weight",
     .positions = "model.positions.weight",
     .input_w = "model.input_proj.weight",
     .input_b = "model.input_proj.bias",
     .final_norm = "model.norm",
     .head = "head.weight",
     .norm1 = "model.layers.%d.input_layernorm",
     .q = "model.layers.%d.self_attn.q_proj",
     .k = "model.layers.%d.self_attn.k_proj",
     .v = "model.layers.%d.self_attn.v_proj",
     .q_norm = "model.layers.%d.self_attn.q_norm",
     .k_norm = "model.layers.%d.self_attn.k_norm",
     .sinks = "model.layers.%d.self_attn.sinks",
     .far = "model.layers.%d.self_attn.far",
     .o = "model.layers.%d.self_attn.o_proj",
     .norm2 = "model.layers.%d.post_attention_layernorm",
     .gate = "model.layers.%d.mlp.gate_proj",
     .up = "model.layers.%d.mlp.up_proj",
     .inner_norm = "model.layers.%d.mlp.norm",
     .down = "model.layers.%d.mlp.down_proj"},
};

static bool every_layer_is_exact_and_dense(const fur_model_config *c)
{
    for (int64_t layer = 0; layer < c->layers; layer++)
        if (c->attention[layer] != 0)
            return false;
    return c->projection_ffn == 0 && c->projection_qkvo == 0;
}

/* What none of the families has. Dropout all have, but Llama only that of weights, and NeoX one rate for all else. */
static bool attention_is_furlongs_own(const fur_model_config *c)
{
    for (int64_t layer = 0; layer < c->layers; layer++)
        if (c->window[layer])
            return true;
    return c->sink_logits || c->qk_norm || c->softcap > 0 || c->position == FUR_POSITION_ALIBI;
}

bool fur_config_yarn_is_ratio(const fur_model_config *c)
{
    double wanted = (double)c->context, got = c->rope_scaling.factor * (double)c->rope_scaling.original_context;
    return !(got < wanted) && !(got > wanted);
}

/* transformers bends dynamic angles by the length of a row, from the configured context on; we by the configured
 * context. Of YaRN every version of it must make the same. */
static bool llama_has_scaling(const fur_model_config *c)
{
    const fur_rope_scaling *s = &c->rope_scaling;
    bool whole = s->original_context == c->context;
    return s->type == FUR_ROPE_DYNAMIC ? whole
           : s->type == FUR_ROPE_YARN  ? whole || fur_config_yarn_is_ratio(c)
                                       : s->type != FUR_ROPE_NTK;
}

const char *fur_config_family(const fur_model_config *c)
{
    bool multi_head = c->kv_heads == c->heads && c->head_dim * c->heads == c->width;
    if (c->features || !c->causal || !every_layer_is_exact_and_dense(c) || attention_is_furlongs_own(c))
        return "furlong";
    if (c->norm == FUR_NORM_RMSNORM && c->activation == FUR_ACTIVATION_SWIGLU && c->position == FUR_POSITION_ROPE &&
        !c->bias && !(c->dropout > 0) && !(c->embedding_dropout > 0) && llama_has_scaling(c))
        return "llama";
    if (c->norm == FUR_NORM_LAYERNORM && c->activation == FUR_ACTIVATION_GELU_TANH && c->bias && multi_head &&
        c->rope_scaling.type == FUR_ROPE_PLAIN) {
        bool one_rate = !(c->embedding_dropout < c->dropout) && !(c->embedding_dropout > c->dropout);
        return c->position == FUR_POSITION_LEARNED ? "gpt2" : one_rate ? "gpt_neox" : "furlong";
    }
    return "furlong";
}

static const family_names *names_of(const fur_model_config *config)
{
    const char *family = fur_config_family(config);
    const family_names *names = families;
    while (strcmp(names->family, family) != 0)
        names++;
    return names;
}

typedef struct builder {
    const fur_model_config *config;
    const family_names *names;
    fur_parameter_table *table; /* list NULL: counting only */
    int64_t first_table;        /* where tables begin in the flat array */
    int64_t layer_columns;      /* of the layer's tables so far */
} builder;

/* Appends one tensor; columns 0: a vector. Returns its offset. */
static int64_t append(builder *b, int64_t rows, int64_t columns, double std, float value, fur_file_layout layout,
                      const char *suffix, const char *name, int64_t layer)
{
    fur_parameter_table *t = b->table;
    int64_t offset = t->elements, count = rows * (columns ? columns : 1);
    t->parameters += count;
    if (t->list) {
        fur_parameter *p = &t->list[t->count];
        memset(p, 0, sizeof *p);
        char stem[72];
        const char *percent = strstr(name, "%d");
        if (percent)
            snprintf(stem, sizeof stem, "%.*s%d%s", (int)(percent - name), name, (int)layer, percent + 2);
        else
            snprintf(stem, sizeof stem, "%s", name);
        snprintf(p->name, sizeof p->name, "%s%s", stem, suffix);
        p->offset = offset;
        p->count = count;
        p->rank = columns ? 2 : 1;
        p->shape[0] = rows;
        p->shape[1] = columns ? columns : 1;
        p->init_std = std;
        p->init_value = value;
        p->decayed = columns != 0;
        p->file_layout = columns ? layout : (layout == FUR_FILE_NEOX_QKV ? layout : FUR_FILE_SAME);
    }
    t->count++;
    t->elements += count;
    return offset;
}

static void append_norm(builder *b, const char *name, int64_t layer, int64_t *w, int64_t *bias)
{
    *w = append(b, b->config->width, 0, 0, 1.0f, FUR_FILE_SAME, ".weight", name, layer);
    *bias = -1;
    if (b->config->norm == FUR_NORM_LAYERNORM)
        *bias = append(b, b->config->width, 0, 0, 0.0f, FUR_FILE_SAME, ".bias", name, layer);
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

static fur_map_offsets append_map(builder *b, char kind, int64_t bits, int64_t in, int64_t out, double std,
                                  const char *name, int64_t layer)
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
        map.weight = append(b, in / bits << bits, out, std, 0, FUR_FILE_SAME, ".table", name, layer);
        make_table(b, &map);
    } else {
        map.weight = append(b, out, in, std, 0, b->names->matrices, ".weight", name, layer);
    }
    if (b->config->bias)
        map.bias = append(b, out, 0, 0, 0, FUR_FILE_SAME, ".bias", name, layer);
    return map;
}

/* One tensor for q, k and v, and the maps that are slices of it. */
static void append_fused_qkv(builder *b, fur_layer_offsets *l, int64_t layer)
{
    const fur_model_config *c = b->config;
    int64_t q = fur_config_query_width(c), k = fur_config_key_width(c), in = c->width;
    int64_t weight = append(b, q + 2 * k, in, c->init_std, 0, b->names->qkv_layout, ".weight", b->names->qkv, layer);
    int64_t bias = -1;
    if (c->bias)
        bias = append(b, q + 2 * k, 0, 0, 0, b->names->qkv_layout, ".bias", b->names->qkv, layer);
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
    int64_t offset = append(b, b->config->kv_heads, columns, 0, 0, FUR_FILE_SAME, suffix, b->names->far, layer);
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
        l->far_bias = append(b, c->heads, 0, 0, 0.0f, FUR_FILE_SAME, "_bias", b->names->far, layer);
}

/* gate rows, then up rows: one map of 2F outputs */
static void append_gated_up(builder *b, int64_t layer, fur_layer_offsets *l)
{
    const fur_model_config *c = b->config;
    const family_names *n = b->names;
    l->up = (fur_map_offsets){.in = c->width,
                              .out = 2 * c->hidden,
                              .bias = -1,
                              .kind = fur_projection_kind_at(c->projection_ffn),
                              .table_index = -1,
                              .first_row = -1};
    l->up.weight = append(b, c->hidden, c->width, c->init_std, 0, n->matrices, ".weight", n->gate, layer);
    append(b, c->hidden, c->width, c->init_std, 0, n->matrices, ".weight", n->up, layer);
    if (c->bias) {
        l->up.bias = append(b, c->hidden, 0, 0, 0, FUR_FILE_SAME, ".bias", n->gate, layer);
        append(b, c->hidden, 0, 0, 0, FUR_FILE_SAME, ".bias", n->up, layer);
    }
}

static void append_layer(builder *b, int64_t layer, fur_layer_offsets *l)
{
    const fur_model_config *c = b->config;
    const family_names *n = b->names;
    int64_t q = fur_config_query_width(c), k = fur_config_key_width(c), bits = c->lookup_bits;
    /* Maps that write to the residual stream start smaller, so that its variance does not grow with depth (GPT-2).
     * Tables for q, k and v, and those of the feedforward, start as released. */
    double residual_std = c->init_std / sqrt(2.0 * (double)c->layers);
    double qkv_std = c->projection_qkvo == FUR_PROJECTION_LOOKUP ? sqrt(2.0 / (5.0 * (double)c->width)) : c->init_std;
    double down_std = c->projection_ffn == FUR_PROJECTION_LOOKUP ? c->init_std : residual_std;
    *l = (fur_layer_offsets){.q_norm_w = -1, .k_norm_w = -1, .sinks = -1, .inner_norm_w = -1, .inner_norm_b = -1};
    l->first_table = b->first_table + b->table->table_elements;
    l->first_table_row = b->table->table_rows;
    b->layer_columns = 0;
    append_norm(b, n->norm1, layer, &l->norm1_w, &l->norm1_b);
    if (n->qkv) {
        append_fused_qkv(b, l, layer);
    } else {
        l->q = append_map(b, c->projection_qkvo, bits, c->width, q, qkv_std, n->q, layer);
        l->k = append_map(b, c->projection_qkvo, bits, c->width, k, qkv_std, n->k, layer);
        l->v = append_map(b, c->projection_qkvo, bits, c->width, k, qkv_std, n->v, layer);
    }
    if (c->qk_norm) {
        l->q_norm_w = append(b, c->head_dim, 0, 0, 1.0f, FUR_FILE_SAME, ".weight", n->q_norm, layer);
        l->k_norm_w = append(b, c->head_dim, 0, 0, 1.0f, FUR_FILE_SAME, ".weight", n->k_norm, layer);
    }
    if (c->sink_logits)
        l->sinks = append(b, c->heads, 0, 0, 0.0f, FUR_FILE_SAME, "", n->sinks, layer);
    append_far(b, layer, l);
    if (fur_config_has_output_map(c))
        l->o = append_map(b, c->projection_qkvo, bits, q, c->width, residual_std, n->o, layer);
    append_norm(b, n->norm2, layer, &l->norm2_w, &l->norm2_b);
    if (c->activation == FUR_ACTIVATION_SWIGLU)
        append_gated_up(b, layer, l);
    else
        l->up = append_map(b, c->projection_ffn, bits, c->width, c->hidden, c->init_std, n->up, layer);
    if (c->activation == FUR_ACTIVATION_NORM) {
        l->inner_norm_w = append(b, c->hidden, 0, 0, 1.0f, FUR_FILE_SAME, ".weight", n->inner_norm, layer);
        l->inner_norm_b = append(b, c->hidden, 0, 0, 0.0f, FUR_FILE_SAME, ".bias", n->inner_norm, layer);
    }
    l->down = append_map(b, c->projection_ffn, c->lookup_down_bits, c->hidden, c->width, down_std, n->down, layer);
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
        t->input.weight = append(b, c->width, c->features, std, 0, FUR_FILE_SAME, "", b->names->input_w, 0);
        t->input.bias = append(b, c->width, 0, 0, 0, FUR_FILE_SAME, "", b->names->input_b, 0);
    } else {
        t->embedding = append(b, c->vocabulary, c->width, c->init_std, 0, FUR_FILE_SAME, "", b->names->embedding, 0);
    }
    if (c->position == FUR_POSITION_LEARNED)
        t->positions = append(b, c->context, c->width, c->init_std, 0, FUR_FILE_SAME, "", b->names->positions, 0);
    fur_layer_offsets unused;
    for (int64_t layer = 0; layer < c->layers; layer++)
        append_layer(b, layer, t->layers ? &t->layers[layer] : &unused);
    append_norm(b, b->names->final_norm, 0, &t->final_norm_w, &t->final_norm_b);
    t->head = (fur_map_offsets){.in = c->width,
                                .out = fur_config_head_width(c),
                                .weight = t->embedding,
                                .bias = -1,
                                .kind = dense,
                                .table_index = -1,
                                .first_row = -1};
    if (!c->tied)
        t->head.weight = append(b, t->head.out, c->width, c->init_std, 0, FUR_FILE_SAME, "", b->names->head, 0);
    append_adapters(b);
}

/* A module of the family's names that may get adapters, and the map whose outputs from `first` on are its own. */
typedef struct module {
    const char *name;
    unsigned target;
    fur_map_offsets *maps[3]; /* of a tensor for q, k and v, all three */
    int64_t first;
} module;

static void append_adapter(builder *b, const module *m, int64_t layer)
{
    const fur_model_config *c = b->config;
    char name[72];
    int64_t in = m->maps[0]->in, out = 0;
    bool gated = m->target == FUR_LORA_GATE || (m->target == FUR_LORA_UP && b->names->gate);
    fur_file_layout layout = m->maps[1] && b->names->qkv_layout == FUR_FILE_NEOX_QKV ? FUR_FILE_NEOX_QKV : FUR_FILE_SAME;
    for (int i = 0; i < 3 && m->maps[i]; i++)
        out += gated ? c->hidden : m->maps[i]->out;
    snprintf(name, sizeof name, "base_model.model.%s", m->name);
    int64_t first = b->table->count;
    double std = 1 / sqrt(3.0 * (double)in); /* PEFT's uniform numbers up to 1 / sqrt(in) have it */
    int64_t a = append(b, c->lora_rank, in, std, 0, FUR_FILE_SAME, ".lora_A.weight", name, layer);
    int64_t of_b = append(b, out, c->lora_rank, 0, 0, layout, ".lora_B.weight", name, layer);
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
    const family_names *n = b->names;
    int count = 0;
    if (n->qkv) {
        out[count++] = (module){n->qkv, FUR_LORA_Q | FUR_LORA_K | FUR_LORA_V, {&l->q, &l->k, &l->v}, 0};
    } else {
        out[count++] = (module){n->q, FUR_LORA_Q, {&l->q}, 0};
        out[count++] = (module){n->k, FUR_LORA_K, {&l->k}, 0};
        out[count++] = (module){n->v, FUR_LORA_V, {&l->v}, 0};
    }
    if (l->o.in)
        out[count++] = (module){n->o, FUR_LORA_O, {&l->o}, 0};
    bool gated = b->config->activation == FUR_ACTIVATION_SWIGLU;
    if (gated)
        out[count++] = (module){n->gate, FUR_LORA_GATE, {&l->up}, 0};
    out[count++] = (module){n->up, FUR_LORA_UP, {&l->up}, gated ? b->config->hidden : 0};
    out[count++] = (module){n->down, FUR_LORA_DOWN, {&l->down}, 0};
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
            builder sizes = {.config = c, .names = b->names, .table = &(fur_parameter_table){0}};
            append_layer(&sizes, 0, &unused);
        }
        int count = modules_of(b, l, modules);
        for (int i = 0; i < count; i++)
            if ((c->lora_targets & modules[i].target) == modules[i].target)
                append_adapter(b, &modules[i], layer);
    }
}

/* What stands behind the layer's number. */
static const char *module_name(const module *m)
{
    const char *after = strstr(m->name, "%d.");
    return after ? after + 3 : m->name;
}

/* Whether PEFT's list of targets may call the module so: by all of its name, or by the last words of it. */
static bool is_called(const char *module_name, const char *word, size_t length)
{
    size_t whole = strlen(module_name);
    if (length == 0 || length > whole || memcmp(module_name + whole - length, word, length) != 0)
        return false;
    return length == whole || module_name[whole - length - 1] == '.';
}

unsigned fur_config_lora_target(const fur_model_config *config, const char *word, size_t length)
{
    fur_parameter_table table = {0};
    fur_layer_offsets layer;
    module modules[FUR_MOST_LORA_NAMES];
    builder b = {.config = config, .names = names_of(config), .table = &table};
    append_layer(&b, 0, &layer);
    unsigned targets = 0;
    bool all = length == strlen("all-linear") && memcmp(word, "all-linear", length) == 0;
    int count = modules_of(&b, &layer, modules);
    for (int i = 0; i < count; i++)
        if (all || is_called(module_name(&modules[i]), word, length))
            targets |= modules[i].target;
    return targets;
}

int fur_config_lora_names(const fur_model_config *config, const char *out[FUR_MOST_LORA_NAMES])
{
    fur_parameter_table table = {0};
    fur_layer_offsets layer;
    module modules[FUR_MOST_LORA_NAMES];
    builder b = {.config = config, .names = names_of(config), .table = &table};
    append_layer(&b, 0, &layer);
    int count = modules_of(&b, &layer, modules), named = 0;
    for (int i = 0; i < count; i++)
        if ((config->lora_targets & modules[i].target) == modules[i].target)
            out[named++] = module_name(&modules[i]);
    return named;
}

int64_t fur_config_parameter_count(const fur_model_config *config)
{
    fur_parameter_table table = {0};
    builder b = {.config = config, .names = names_of(config), .table = &table};
    append_all(&b);
    return table.parameters;
}

/* All layers have the same maps. */
void fur_config_map_costs(const fur_model_config *config, fur_map_costs *out)
{
    fur_parameter_table table = {0};
    fur_layer_offsets layer;
    builder b = {.config = config, .names = names_of(config), .table = &table};
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
    builder b = {.config = config, .names = names_of(config), .table = out};
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
    p.adapters = (fur_adapters){
        .base = map->base, .rank = map->rank, .scale = map->adapter_scale, .count = map->adapters};
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
