/* SPDX-License-Identifier: Apache-2.0 */
/* config.json of the families of the table, by their keys. What a file asks for and we do not do is refused by name. */
#include <string.h>

#include "model/config.h"
#include "model/family.h"

/* ---- writing ---------------------------------------------------------------------------------------------- */

static void put_int(json_t *json, const char *key, int64_t value)
{
    if (key)
        json_object_set_new(json, key, json_integer((json_int_t)value));
}

static void put_number(json_t *json, const char *key, double value)
{
    if (key)
        json_object_set_new(json, key, json_real(value));
}

static void put_bool(json_t *json, const char *key, bool value)
{
    if (key)
        json_object_set_new(json, key, json_boolean(value));
}

/* 0 is null. */
static void put_number_or_null(json_t *json, const char *key, double value)
{
    if (key)
        json_object_set_new(json, key, value > 0 ? json_real(value) : json_null());
}

static void put_sizes(json_t *json, const fur_family_keys *keys, const fur_model_config *c)
{
    put_int(json, "vocab_size", c->vocabulary);
    put_int(json, keys->context, c->context);
    put_int(json, keys->width, c->width);
    put_int(json, keys->layers, c->layers);
    put_int(json, keys->heads, c->heads);
    put_int(json, keys->kv_heads, c->kv_heads);
    put_int(json, keys->head_dim, c->head_dim);
    put_int(json, keys->hidden, c->hidden);
}

static void put_attention(json_t *json, const fur_family *f, const fur_model_config *c)
{
    const fur_family_keys *keys = &f->keys;
    put_number(json, keys->rope_theta, c->rope_theta);
    put_number(json, keys->local_rope_theta,
               c->local_rope_theta > 0 ? c->local_rope_theta : f->defaults.local_rope_theta);
    put_bool(json, keys->attention_bias, fur_config_has_bias(c, FUR_BIAS_QKV));
    put_bool(json, keys->ffn_bias, fur_config_has_bias(c, FUR_BIAS_FFN));
    put_number_or_null(json, keys->softcap, c->softcap);
    put_number_or_null(json, keys->logit_softcap, c->logit_softcap);
    /* transformers wants an integer */
    put_int(json, keys->query_scalar, c->query_scalar > 0 ? (int64_t)c->query_scalar : c->head_dim);
    put_number(json, keys->attention_dropout, c->attention_dropout);
    put_number(json, keys->dropout, c->dropout);
    put_number(json, keys->embedding_dropout, c->embedding_dropout);
}

static void put_windows(json_t *json, const fur_family *f, const fur_model_config *c)
{
    int64_t window = 0, first = c->layers;
    json_t *types = json_array();
    for (int64_t layer = 0; types && layer < c->layers; layer++) {
        bool slides = c->window[layer] > 0;
        window = slides ? c->window[layer] : window;
        first = slides && layer < first ? layer : first;
        json_array_append_new(types, json_string(slides ? "sliding_attention" : "full_attention"));
    }
    json_t *value = window || f->spans == FUR_SPAN_PATTERN
                        ? json_integer((json_int_t)(window ? window : f->defaults.window))
                        : json_null();
    if (f->spans != FUR_SPAN_NONE)
        json_object_set_new(json, "sliding_window", value);
    else
        json_decref(value);
    if (f->spans == FUR_SPAN_FROM) {
        put_bool(json, "use_sliding_window", window > 0);
        put_int(json, "max_window_layers", first);
    }
    if (f->spans == FUR_SPAN_PATTERN || (f->spans == FUR_SPAN_FROM && window))
        json_object_set(json, "layer_types", types);
    json_decref(types);
}

json_t *fur_family_json(const fur_family *f, const fur_model_config *c)
{
    json_t *json = json_pack("{s:s, s:[s]}", "model_type", f->model_type, "architectures", f->architecture);
    if (!json)
        return NULL;
    put_sizes(json, &f->keys, c);
    json_object_set_new(json, f->keys.activation, json_string(f->activations[0]));
    put_number(json, f->keys.norm_eps, c->norm_eps);
    put_number(json, "initializer_range", c->init_std);
    put_bool(json, "tie_word_embeddings", c->tied);
    if (f->defaults.rope_share > 0 && f->defaults.rope_share < 1) /* absent it would be that */
        put_number(json, f->keys.rope_share, 1);
    for (const fur_fixed_key *fixed = f->fixed; fixed->key; fixed++)
        put_bool(json, fixed->key, fixed->wanted);
    put_attention(json, f, c);
    put_windows(json, f, c);
    json_object_set_new(json, "torch_dtype", json_string("float32"));
    return json;
}

/* ---- reading ---------------------------------------------------------------------------------------------- */

static bool is_null(const fur_json *j, const char *key)
{
    return json_is_null(json_object_get(j->root, key));
}

/* Absent: the fallback, or, where there is none (0), required. null: `null`. */
static fur_status read_size(fur_error *error, const fur_json *j, const char *key, int64_t fallback, int64_t null,
                            int64_t *out)
{
    if (!is_null(j, key) && fallback == 0)
        return fur_json_int(error, j, key, 1, FUR_FAMILY_MOST_SIZE, out);
    return fur_json_int_or(error, j, key, 1, FUR_FAMILY_MOST_SIZE, is_null(j, key) ? null : fallback, out);
}

/* Absent: the fallback; null: none. No key: left. */
static fur_status read_number(fur_error *error, const fur_json *j, const char *key, double low, double high,
                              double fallback, double *out)
{
    return key ? fur_json_number_or(error, j, key, low, high, is_null(j, key) ? 0 : fallback, out) : FUR_OK;
}

static fur_status read_sizes(fur_error *error, const fur_json *j, const fur_family *f, fur_model_config *c)
{
    const fur_family_keys *keys = &f->keys;
    const fur_family_defaults *d = &f->defaults;
    FUR_TRY(fur_json_int(error, j, "vocab_size", 1, FUR_FAMILY_MOST_SIZE, &c->vocabulary));
    FUR_TRY(read_size(error, j, keys->context, d->context, d->context, &c->context));
    FUR_TRY(fur_json_int(error, j, keys->width, 1, FUR_FAMILY_MOST_SIZE, &c->width));
    FUR_TRY(fur_json_int(error, j, keys->layers, 1, FUR_MAX_LAYERS, &c->layers));
    FUR_TRY(fur_json_int(error, j, keys->heads, 1, FUR_FAMILY_MOST_SIZE, &c->heads));
    c->kv_heads = c->heads;
    if (keys->kv_heads)
        FUR_TRY(read_size(error, j, keys->kv_heads, d->kv_heads ? d->kv_heads : c->heads, c->heads, &c->kv_heads));
    if (keys->head_dim)
        FUR_TRY(fur_json_int_or(error, j, keys->head_dim, 1, FUR_FAMILY_MOST_SIZE,
                                is_null(j, keys->head_dim) ? 0 : d->head_dim, &c->head_dim));
    int64_t hidden = d->hidden * c->width;
    return read_size(error, j, keys->hidden, hidden, hidden, &c->hidden);
}

static fur_status check_fixed(fur_error *error, const fur_json *j, const fur_family *f)
{
    for (const fur_fixed_key *fixed = f->fixed; fixed->key; fixed++) {
        bool value;
        FUR_TRY(fur_json_bool_or(error, j, fixed->key, fixed->absent, &value));
        if (value != fixed->wanted)
            return fur_family_refuse(error, j, fixed->key, value ? "true" : "false", fixed->expected);
    }
    for (int i = 0; f->refused[i]; i++)
        if (fur_json_find(j, f->refused[i]))
            return fur_family_refuse(error, j, f->refused[i], "set", "none for this family");
    if (fur_json_find(j, "quantization_config"))
        return fur_family_refuse(error, j, "quantization_config", "set", "weights in f32, f16 or bf16");
    return FUR_OK;
}

static fur_status read_activation(fur_error *error, const fur_json *j, const fur_family *f)
{
    const char *name;
    FUR_TRY(fur_json_string_or(error, j, f->keys.activation, f->activation_default, &name));
    for (int i = 0; f->activations[i]; i++)
        if (strcmp(f->activations[i], name) == 0)
            return FUR_OK;
    return fur_family_refuse(error, j, f->keys.activation, name, f->activations[0]);
}

static fur_status read_biases(fur_error *error, const fur_json *j, const fur_family *f, fur_model_config *c)
{
    c->bias_qkv = f->bias_qkv;
    c->bias_o = f->bias_o;
    c->bias_ffn = f->bias_ffn;
    if (f->keys.attention_bias) {
        FUR_TRY(fur_json_bool_or(error, j, f->keys.attention_bias, false, &c->bias_qkv));
        c->bias_o = c->bias_qkv;
    }
    if (f->keys.ffn_bias)
        FUR_TRY(fur_json_bool_or(error, j, f->keys.ffn_bias, false, &c->bias_ffn));
    if (c->bias_qkv && c->bias_o && c->bias_ffn) {
        c->bias = true;
        c->bias_qkv = c->bias_o = c->bias_ffn = false;
    }
    return FUR_OK;
}

/* Absent: none (of embeddings: as of hidden values), although transformers has defaults; a checkpoint is not to be
 * trained otherwise than it says. */
static fur_status read_dropout(fur_error *error, const fur_json *j, const fur_family_keys *keys, fur_model_config *c)
{
    FUR_TRY(fur_json_number_or(error, j, keys->attention_dropout, 0, 0.999, 0, &c->attention_dropout));
    if (keys->dropout)
        FUR_TRY(fur_json_number_or(error, j, keys->dropout, 0, 0.999, 0, &c->dropout));
    c->embedding_dropout = c->dropout;
    if (keys->embedding_dropout)
        FUR_TRY(fur_json_number_or(error, j, keys->embedding_dropout, 0, 0.999, c->dropout, &c->embedding_dropout));
    return FUR_OK;
}

/* The window of those layers that have it; 0: none has. */
static fur_status read_window(fur_error *error, const fur_json *j, const fur_family *f, int64_t *out)
{
    bool uses = true;
    *out = 0;
    if (f->spans == FUR_SPAN_FROM)
        FUR_TRY(fur_json_bool_or(error, j, "use_sliding_window", false, &uses));
    if (f->spans == FUR_SPAN_NONE || !uses)
        return FUR_OK;
    return read_size(error, j, "sliding_window", f->defaults.window, 0, out);
}

/* By the family's rule, where the file does not list layers. */
static fur_status windows_by_rule(fur_error *error, const fur_json *j, const fur_family *f, int64_t window,
                                  fur_model_config *c)
{
    int64_t from = f->defaults.window_from, pattern = f->defaults.pattern;
    if (f->spans == FUR_SPAN_FROM)
        FUR_TRY(fur_json_int_or(error, j, "max_window_layers", 0, FUR_FAMILY_MOST_SIZE, from, &from));
    if (f->spans == FUR_SPAN_PATTERN)
        FUR_TRY(fur_json_int_or(error, j, "sliding_window_pattern", 1, FUR_FAMILY_MOST_SIZE, pattern, &pattern));
    for (int64_t layer = 0; layer < c->layers; layer++)
        if (f->spans == FUR_SPAN_PATTERN ? (layer + 1) % pattern != 0 : layer >= from)
            c->window[layer] = window;
    return FUR_OK;
}

/* "full_attention" or "sliding_attention" of each layer. */
static fur_status windows_by_list(fur_error *error, const fur_json *j, const fur_family *f, int64_t window,
                                  fur_model_config *c)
{
    const json_t *list = fur_json_find(j, "layer_types");
    if (!json_is_array(list) || json_array_size(list) != (size_t)c->layers)
        return fur_error_set(error, FUR_E_FORMAT, "%s: layer_types must list the type of each of %lld layers", j->name,
                             (long long)c->layers);
    for (int64_t layer = 0; layer < c->layers; layer++) {
        const char *type = json_string_value(json_array_get(list, (size_t)layer));
        bool slides = type && strcmp(type, "sliding_attention") == 0;
        if (!type || (!slides && strcmp(type, "full_attention") != 0))
            return fur_family_refuse(error, j, "layer_types", type ? type : "not text",
                                     "full_attention and sliding_attention");
        if (slides && window == 0)
            return fur_error_set(error, FUR_E_FORMAT,
                                 "%s: layer %lld is sliding_attention, and no sliding_window is set", j->name,
                                 (long long)layer);
        if (!slides && f->spans == FUR_SPAN_ALL && window)
            return fur_family_refuse(error, j, "layer_types", "full_attention", "one sliding_window for all layers");
        c->window[layer] = slides ? window : 0;
    }
    return FUR_OK;
}

static fur_status read_windows(fur_error *error, const fur_json *j, const fur_family *f, fur_model_config *c)
{
    int64_t window;
    FUR_TRY(read_window(error, j, f, &window));
    FUR_TRY(fur_json_find(j, "layer_types") ? windows_by_list(error, j, f, window, c)
                                            : windows_by_rule(error, j, f, window, c));
    for (int64_t layer = 0; layer < c->layers; layer++)
        c->rope_local[layer] = f->local_rope && c->window[layer] > 0;
    return FUR_OK;
}

fur_status fur_family_read(fur_error *error, const fur_json *j, const fur_family *f, fur_model_config *c)
{
    const fur_family_keys *keys = &f->keys;
    const fur_family_defaults *d = &f->defaults;
    FUR_TRY(read_sizes(error, j, f, c));
    FUR_TRY(check_fixed(error, j, f));
    FUR_TRY(read_activation(error, j, f));
    c->rope_theta = 1e4;
    if (f->position == FUR_POSITION_ROPE)
        FUR_TRY(fur_family_read_rope(error, j, f, c));
    FUR_TRY(fur_json_number_or(error, j, keys->norm_eps, 1e-20, 0.1, d->norm_eps, &c->norm_eps));
    FUR_TRY(read_dropout(error, j, keys, c));
    FUR_TRY(read_biases(error, j, f, c));
    FUR_TRY(read_number(error, j, keys->softcap, 1e-3, 1e6, d->softcap, &c->softcap));
    FUR_TRY(read_number(error, j, keys->logit_softcap, 1e-3, 1e6, d->logit_softcap, &c->logit_softcap));
    FUR_TRY(read_number(error, j, keys->query_scalar, 1e-6, 1e9, d->query_scalar, &c->query_scalar));
    FUR_TRY(fur_json_bool_or(error, j, "tie_word_embeddings", d->tied, &c->tied));
    c->norm = f->norm;
    c->norm_offset = f->norm_offset;
    c->post_norms = f->post_norms;
    c->qk_norm = f->qk_norm;
    c->scaled_embedding = f->scaled_embedding;
    c->activation = f->activation;
    c->position = f->position;
    c->causal = true;
    strncpy(c->family, f->model_type, sizeof c->family - 1);
    return read_windows(error, j, f, c);
}
