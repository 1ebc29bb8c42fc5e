/* SPDX-License-Identifier: Apache-2.0 */
/* config.json of any model, and of our own family, furlong, which can say what no other can. */
#include "model/family.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "io/file.h"
#include "model/config.h"
#include "model/gguf.h"

static bool is_own(const fur_family *family)
{
    return family->architecture == NULL;
}

/* ---- writing ---------------------------------------------------------------------------------------------- */

static json_t *furlong_json(const fur_model_config *c)
{
    json_t *attention = json_array();
    for (int64_t layer = 0; attention && layer < c->layers; layer++)
        json_array_append_new(attention, json_string(fur_attention_kind_name(c->attention[layer])));
    json_t *window = json_array();
    for (int64_t layer = 0; window && layer < c->layers; layer++)
        json_array_append_new(window, json_integer((json_int_t)c->window[layer]));
    return json_pack(
        "{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:s, s:f, s:s, s:s, s:f, s:b, s:b, s:b,"
        " s:f, s:o, s:s, s:s, s:o, s:I, s:b, s:b, s:f, s:f, s:f, s:f}",
        "model_type", "furlong", "vocab_size", (json_int_t)c->vocabulary, "features", (json_int_t)c->features,
        "outputs", (json_int_t)c->outputs, "max_position_embeddings", (json_int_t)c->context, "hidden_size",
        (json_int_t)c->width, "num_hidden_layers", (json_int_t)c->layers, "num_attention_heads", (json_int_t)c->heads,
        "num_key_value_heads", (json_int_t)c->kv_heads, "head_dim", (json_int_t)c->head_dim, "intermediate_size",
        (json_int_t)c->hidden, "norm", c->norm == FUR_NORM_RMSNORM ? "rmsnorm" : "layernorm", "norm_eps", c->norm_eps,
        "activation", fur_activation_name((int)c->activation), "position", fur_position_name((int)c->position),
        "rope_theta", c->rope_theta, "bias", c->bias, "tie_word_embeddings", c->tied, "causal", c->causal,
        "initializer_range", c->init_std, "attention", attention, "projection_qkvo",
        fur_projection_kind_name(c->projection_qkvo), "projection_ffn", fur_projection_kind_name(c->projection_ffn),
        "window", window, "sink_tokens", (json_int_t)c->sink_tokens, "sink_logits", c->sink_logits, "qk_norm",
        c->qk_norm, "softcap", c->softcap, "dropout", c->dropout, "embedding_dropout", c->embedding_dropout,
        "attention_dropout", c->attention_dropout);
}

/* Only what is there, so that files without it stay as they were. */
static void put_own_traits(json_t *json, const fur_model_config *c)
{
    const struct {
        const char *key;
        bool value;
    } flags[] = {{"bias_qkv", c->bias_qkv},     {"bias_o", c->bias_o},
                 {"bias_ffn", c->bias_ffn},     {"norm_offset", c->norm_offset},
                 {"post_norms", c->post_norms}, {"scaled_embedding", c->scaled_embedding}};
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++)
        if (flags[i].value)
            json_object_set_new(json, flags[i].key, json_true());
    if (c->logit_softcap > 0)
        json_object_set_new(json, "logit_softcap", json_real(c->logit_softcap));
    if (c->query_scalar > 0)
        json_object_set_new(json, "query_scalar", json_real(c->query_scalar));
    bool local = false;
    json_t *list = json_array();
    for (int64_t layer = 0; list && layer < c->layers; layer++) {
        local |= c->rope_local[layer];
        json_array_append_new(list, json_boolean(c->rope_local[layer]));
    }
    if (local) {
        json_object_set(json, "local_rope", list);
        json_object_set_new(json, "local_rope_theta", json_real(c->local_rope_theta));
    }
    json_decref(list);
}

/* null, a number, or a list of numbers */
static json_t *tokens_json(const fur_token_list *tokens)
{
    if (tokens->count <= 1)
        return tokens->count == 0 ? json_null() : json_integer(tokens->id[0]);
    json_t *list = json_array();
    for (int64_t i = 0; list && i < tokens->count; i++)
        json_array_append_new(list, json_integer(tokens->id[i]));
    return list;
}

json_t *fur_config_to_json(const fur_model_config *config)
{
    fur_json_setup();
    const fur_family *family = fur_config_family_of(config);
    json_t *json = is_own(family) ? furlong_json(config) : fur_family_json(family, config);
    if (json && is_own(family))
        put_own_traits(json, config);
    if (json && config->rope_scaling.type != FUR_ROPE_PLAIN)
        json_object_set_new(json, "rope_scaling", fur_family_scaling_json(config));
    if (json && fur_config_has_far(config)) {
        json_object_set_new(json, "far_degree", json_integer((json_int_t)config->far_degree));
        json_object_set_new(json, "far_chunk", json_integer((json_int_t)config->far_chunk));
        json_object_set_new(json, "far_max_features", json_integer((json_int_t)config->far_max_features));
        json_object_set_new(json, "far_bound", json_real(config->far_bound));
        json_object_set_new(json, "far_fine_gradient", json_boolean(config->far_fine_gradient));
        json_object_set_new(json, "far_max_error", json_real(config->far_max_error));
        json_object_set_new(json, "far_bias", json_boolean(config->far_bias));
    }
    if (json && fur_config_has_lookup(config)) {
        json_object_set_new(json, "lookup_bits", json_integer((json_int_t)config->lookup_bits));
        json_object_set_new(json, "lookup_down_bits", json_integer((json_int_t)config->lookup_down_bits));
        json_object_set_new(json, "lookup_temperature", json_real(config->lookup_temperature));
        json_object_set_new(json, "lookup_two_rows", json_boolean(config->lookup_two_rows));
        json_object_set_new(json, "table_type", json_string(fur_table_type_name((int)config->table_type)));
    }
    if (json) {
        json_object_set_new(json, "furlong_preset", json_string(config->name));
        /* Absent, they would be the family's own, which here may be any token or beyond the vocabulary. */
        json_object_set_new(json, "bos_token_id", tokens_json(&config->bos));
        json_object_set_new(json, "eos_token_id", tokens_json(&config->eos));
        if (config->pad.count > 0)
            json_object_set_new(json, "pad_token_id", tokens_json(&config->pad));
    }
    return json;
}

/* ---- reading ---------------------------------------------------------------------------------------------- */

fur_status fur_family_refuse(fur_error *error, const fur_json *j, const char *key, const char *found,
                             const char *expected)
{
    return fur_error_set(error, FUR_E_UNSUPPORTED, "%s: %s is %s, this version has %s", j->name, key, found, expected);
}

static fur_status read_own_size(fur_error *error, const fur_json *j, const char *key, int64_t *out)
{
    return fur_json_int(error, j, key, 1, FUR_FAMILY_MOST_SIZE, out);
}

static fur_status read_common(fur_error *error, const fur_json *j, fur_model_config *c)
{
    FUR_TRY(fur_json_number_or(error, j, "initializer_range", 1e-9, 9, 0.02, &c->init_std));
    const char *preset;
    FUR_TRY(fur_json_string_or(error, j, "furlong_preset", "", &preset));
    strncpy(c->name, preset, sizeof c->name - 1);
    return FUR_OK;
}

/* Index of `value` among the NULL-terminated words, or refused. */
static fur_status read_word(fur_error *error, const fur_json *j, const char *key, const char *const *words, int *out)
{
    const char *value;
    FUR_TRY(fur_json_string(error, j, key, &value));
    for (int i = 0; words[i]; i++)
        if (strcmp(words[i], value) == 0) {
            *out = i;
            return FUR_OK;
        }
    return fur_family_refuse(error, j, key, value, "other kinds only");
}

static fur_status read_kinds(fur_error *error, const fur_json *j, fur_model_config *c)
{
    json_t *list = fur_json_find(j, "attention");
    if (!json_is_array(list) || json_array_size(list) != (size_t)c->layers)
        return fur_error_set(error, FUR_E_FORMAT, "%s: attention must list the kind of each of %lld layers", j->name,
                             (long long)c->layers);
    for (int64_t layer = 0; layer < c->layers; layer++) {
        const char *name = json_string_value(json_array_get(list, (size_t)layer));
        int index = 0;
        while (fur_attention_kind_name(index) && (!name || strcmp(fur_attention_kind_name(index), name) != 0))
            index++;
        if (!fur_attention_kind_name(index))
            return fur_family_refuse(error, j, "attention", name ? name : "not text", "other kinds only");
        c->attention[layer] = (char)index;
    }
    const char *names[8] = {NULL};
    for (int i = 0; i < 7 && fur_projection_kind_name(i); i++)
        names[i] = fur_projection_kind_name(i);
    int qkvo, ffn;
    FUR_TRY(read_word(error, j, "projection_qkvo", names, &qkvo));
    FUR_TRY(read_word(error, j, "projection_ffn", names, &ffn));
    c->projection_qkvo = (char)qkvo;
    c->projection_ffn = (char)ffn;
    return FUR_OK;
}

/* Absent in files of the first version: none of it. */
static fur_status read_own_attention(fur_error *error, const fur_json *j, fur_model_config *c)
{
    json_t *list = fur_json_find(j, "window");
    if (list && (!json_is_array(list) || json_array_size(list) != (size_t)c->layers))
        return fur_error_set(error, FUR_E_FORMAT, "%s: window must list a number for each of %lld layers", j->name,
                             (long long)c->layers);
    for (int64_t layer = 0; list && layer < c->layers; layer++) {
        const json_t *value = json_array_get(list, (size_t)layer);
        int64_t window = json_is_integer(value) ? (int64_t)json_integer_value(value) : -1;
        if (window < 0 || window > FUR_FAMILY_MOST_SIZE)
            return fur_error_set(error, FUR_E_FORMAT, "%s: window of layer %lld: expected an integer, 0 (none) to 2^40",
                                 j->name, (long long)layer);
        c->window[layer] = window;
    }
    FUR_TRY(fur_json_int_or(error, j, "sink_tokens", 0, FUR_FAMILY_MOST_SIZE, 0, &c->sink_tokens));
    FUR_TRY(fur_json_bool_or(error, j, "sink_logits", false, &c->sink_logits));
    FUR_TRY(fur_json_bool_or(error, j, "qk_norm", false, &c->qk_norm));
    FUR_TRY(fur_json_number_or(error, j, "softcap", 0, 1e6, 0, &c->softcap));
    FUR_TRY(fur_json_number_or(error, j, "attention_dropout", 0, 0.999, 0, &c->attention_dropout));
    FUR_TRY(fur_json_number_or(error, j, "dropout", 0, 0.999, 0, &c->dropout));
    FUR_TRY(fur_json_number_or(error, j, "embedding_dropout", 0, 0.999, c->dropout, &c->embedding_dropout));
    return fur_family_read_scaling(error, j, "rope_scaling", false, c);
}

/* Traits that only files of some families had before there was a file of ours with them; absent: not so. */
static fur_status read_own_traits(fur_error *error, const fur_json *j, fur_model_config *c)
{
    const struct {
        const char *key;
        bool *out;
    } flags[] = {{"bias_qkv", &c->bias_qkv},     {"bias_o", &c->bias_o},
                 {"bias_ffn", &c->bias_ffn},     {"norm_offset", &c->norm_offset},
                 {"post_norms", &c->post_norms}, {"scaled_embedding", &c->scaled_embedding}};
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++)
        FUR_TRY(fur_json_bool_or(error, j, flags[i].key, false, flags[i].out));
    FUR_TRY(fur_json_number_or(error, j, "logit_softcap", 0, 1e6, 0, &c->logit_softcap));
    FUR_TRY(fur_json_number_or(error, j, "query_scalar", 0, 1e9, 0, &c->query_scalar));
    const json_t *list = fur_json_find(j, "local_rope");
    if (!list)
        return FUR_OK;
    if (!json_is_array(list) || json_array_size(list) != (size_t)c->layers)
        return fur_error_set(error, FUR_E_FORMAT, "%s: local_rope must list true or false for each of %lld layers",
                             j->name, (long long)c->layers);
    for (int64_t layer = 0; layer < c->layers; layer++) {
        const json_t *value = json_array_get(list, (size_t)layer);
        if (!json_is_boolean(value))
            return fur_error_set(error, FUR_E_FORMAT, "%s: local_rope of layer %lld: expected true or false", j->name,
                                 (long long)layer);
        c->rope_local[layer] = json_is_true(value);
    }
    return fur_json_number(error, j, "local_rope_theta", 1.001, 1e12, &c->local_rope_theta);
}

/* Of almost-linear layers: without them their function is not known. */
static fur_status read_far(fur_error *error, const fur_json *j, fur_model_config *c)
{
    if (!fur_config_has_far(c))
        return FUR_OK;
    FUR_TRY(fur_json_int(error, j, "far_degree", 1, FUR_FAR_MOST_DEGREE, &c->far_degree));
    FUR_TRY(fur_json_int(error, j, "far_chunk", 16, 4096, &c->far_chunk));
    FUR_TRY(fur_json_int(error, j, "far_max_features", 1, FUR_FAR_MOST_FEATURES, &c->far_max_features));
    FUR_TRY(fur_json_number(error, j, "far_bound", 0, 16, &c->far_bound));
    FUR_TRY(fur_json_number_or(error, j, "far_max_error", 0, 1e6, 0, &c->far_max_error));
    FUR_TRY(fur_json_bool_or(error, j, "far_fine_gradient", false, &c->far_fine_gradient));
    c->far_unbounded = !(c->far_bound > 0);
    return fur_json_bool(error, j, "far_bias", &c->far_bias);
}

/* Of look-up maps. */
static fur_status read_lookup(fur_error *error, const fur_json *j, fur_model_config *c)
{
    if (!fur_config_has_lookup(c))
        return FUR_OK;
    FUR_TRY(fur_json_int(error, j, "lookup_bits", 1, FUR_LOOKUP_MOST_BITS, &c->lookup_bits));
    FUR_TRY(fur_json_int(error, j, "lookup_down_bits", 1, FUR_LOOKUP_MOST_BITS, &c->lookup_down_bits));
    FUR_TRY(fur_json_number(error, j, "lookup_temperature", 0, 1e3, &c->lookup_temperature));
    FUR_TRY(fur_json_bool(error, j, "lookup_two_rows", &c->lookup_two_rows));
    const char *type;
    c->table_type = FUR_TABLE_F32; /* of files that do not say */
    if (!fur_json_find(j, "table_type"))
        return FUR_OK;
    FUR_TRY(fur_json_string(error, j, "table_type", &type));
    return fur_table_type_find(type, &c->table_type)
               ? FUR_OK
               : fur_family_refuse(error, j, "table_type", type, "other kinds only");
}

static fur_status read_furlong(fur_error *error, const fur_json *j, fur_model_config *c)
{
    static const char *const norms[] = {"layernorm", "rmsnorm", NULL};
    const char *const activations[] = {fur_activation_name(0), fur_activation_name(1), fur_activation_name(2),
                                       fur_activation_name(3), NULL};
    const char *const positions[] = {fur_position_name(0), fur_position_name(1), fur_position_name(2), NULL};
    int norm, activation, position;
    FUR_TRY(fur_json_int(error, j, "vocab_size", 0, FUR_FAMILY_MOST_SIZE, &c->vocabulary));
    FUR_TRY(fur_json_int(error, j, "features", 0, FUR_FAMILY_MOST_SIZE, &c->features));
    FUR_TRY(fur_json_int(error, j, "outputs", 0, FUR_FAMILY_MOST_SIZE, &c->outputs));
    FUR_TRY(read_own_size(error, j, "max_position_embeddings", &c->context));
    FUR_TRY(read_own_size(error, j, "hidden_size", &c->width));
    FUR_TRY(fur_json_int(error, j, "num_hidden_layers", 1, FUR_MAX_LAYERS, &c->layers));
    FUR_TRY(read_own_size(error, j, "num_attention_heads", &c->heads));
    FUR_TRY(read_own_size(error, j, "num_key_value_heads", &c->kv_heads));
    FUR_TRY(read_own_size(error, j, "head_dim", &c->head_dim));
    FUR_TRY(read_own_size(error, j, "intermediate_size", &c->hidden));
    FUR_TRY(read_word(error, j, "norm", norms, &norm));
    FUR_TRY(read_word(error, j, "activation", activations, &activation));
    FUR_TRY(read_word(error, j, "position", positions, &position));
    FUR_TRY(fur_json_number(error, j, "norm_eps", 1e-20, 0.1, &c->norm_eps));
    FUR_TRY(fur_json_number(error, j, "rope_theta", 1.001, 1e12, &c->rope_theta));
    FUR_TRY(fur_json_bool(error, j, "bias", &c->bias));
    FUR_TRY(fur_json_bool(error, j, "tie_word_embeddings", &c->tied));
    FUR_TRY(fur_json_bool(error, j, "causal", &c->causal));
    FUR_TRY(read_own_attention(error, j, c));
    FUR_TRY(read_own_traits(error, j, c));
    c->norm = (fur_norm_type)norm;
    c->activation = (fur_activation)activation;
    c->position = (fur_position_type)position;
    FUR_TRY(read_kinds(error, j, c));
    FUR_TRY(read_lookup(error, j, c));
    return read_far(error, j, c);
}

/* What is no token of the vocabulary is passed over: files have -1, or ids of a vocabulary that was cut. */
static void read_tokens(const fur_json *j, const char *key, int64_t vocabulary, fur_token_list *out)
{
    const json_t *value = json_object_get(j->root, key);
    size_t count = json_is_array(value) ? json_array_size(value) : 1;
    for (size_t i = 0; i < count && out->count < FUR_MOST_SPECIAL_TOKENS; i++) {
        const json_t *one = json_is_array(value) ? json_array_get(value, i) : value;
        if (json_is_integer(one) && json_integer_value(one) >= 0 && json_integer_value(one) < vocabulary &&
            json_integer_value(one) <= INT32_MAX)
            out->id[out->count++] = (int32_t)json_integer_value(one);
    }
}

static fur_status read_any(fur_error *error, const fur_json *j, fur_model_config *c)
{
    const char *type;
    FUR_TRY(fur_json_string(error, j, "model_type", &type));
    FUR_TRY(read_common(error, j, c));
    const fur_family *family = fur_family_find(type);
    if (!family)
        return fur_family_refuse(error, j, "model_type", type, fur_family_list());
    FUR_TRY(is_own(family) ? read_furlong(error, j, c) : fur_family_read(error, j, family, c));
    read_tokens(j, "bos_token_id", c->vocabulary, &c->bos);
    read_tokens(j, "eos_token_id", c->vocabulary, &c->eos);
    read_tokens(j, "pad_token_id", c->vocabulary, &c->pad);
    if (c->head_dim == 0) {
        if (c->heads < 1 || c->width % c->heads)
            return fur_error_set(error, FUR_E_FORMAT, "%s: width %lld does not divide into %lld heads", j->name,
                                 (long long)c->width, (long long)c->heads);
        c->head_dim = c->width / c->heads;
    }
    return FUR_OK;
}

/* Versions of transformers differ here: what ours does is said. */
static void tell_yarn(fur_context *context, const fur_json *j, const fur_model_config *c)
{
    const fur_rope_scaling *s = &c->rope_scaling;
    const char *type = json_string_value(fur_json_find(j, "model_type"));
    if (context->yarn_is_told || strcmp(type, "furlong") == 0 || s->type != FUR_ROPE_YARN ||
        s->original_context == c->context || fur_config_yarn_is_ratio(c))
        return;
    context->yarn_is_told = true;
    fur_log(context, FUR_LOG_INFO,
            "%s: YaRN by its factor, %g, as in transformers 5; 4.48 to 4.57 take %lld / %lld instead", j->name,
            s->factor, (long long)c->context, (long long)s->original_context);
}

/* The values of a GGUF file, as a config.json of that name. */
static fur_status read_gguf(fur_error *error, const char *path, fur_json *out)
{
    fur_gguf *file;
    FUR_TRY(fur_gguf_open(error, path, &file));
    fur_status status = fur_gguf_config_json(error, file, &out->root);
    fur_gguf_close(file);
    FUR_TRY(status);
    out->name = fur_strdup(path);
    return out->name ? FUR_OK : fur_memory_error(error, (int64_t)strlen(path), "a path");
}

static fur_status read_file(fur_error *error, const char *path, fur_json *out)
{
    bool gguf;
    FUR_TRY(fur_gguf_is(error, path, &gguf));
    return gguf ? read_gguf(error, path, out) : fur_json_read(error, path, out);
}

/* Of the file itself, or of config.json in the folder. */
static fur_status config_from(fur_context *context, const char *path, fur_model_config *out)
{
    fur_error *error = &context->error;
    fur_json json = {0};
    struct stat about;
    char *inner = NULL;
    fur_status status = FUR_OK;
    if (stat(path, &about) == 0 && S_ISDIR(about.st_mode))
        status = fur_path_join(error, path, "config.json", &inner);
    if (status == FUR_OK)
        status = read_file(error, inner ? inner : path, &json);
    if (status == FUR_OK)
        status = read_any(error, &json, out);
    if (status == FUR_OK)
        tell_yarn(context, &json, out);
    if (status == FUR_OK && fur_config_check(context, out) != FUR_OK) { /* a bad size in a file is the file's fault */
        fur_error_prefix(error, "%s", json.name);
        status = error->status = FUR_E_FORMAT;
    }
    fur_json_clear(&json);
    fur_free(inner);
    return status;
}

fur_status fur_family_config(fur_context *context, const char *path, fur_model_config *out)
{
    fur_model_config config = {0};
    FUR_TRY(config_from(context, path, &config));
    *out = config;
    return FUR_OK;
}

fur_status fur_family_read_generation(fur_error *error, const char *path, fur_model_config *config)
{
    fur_json json = {0};
    FUR_TRY(fur_json_read(error, path, &json));
    const struct {
        const char *key;
        fur_token_list *tokens;
    } lists[] = {{"bos_token_id", &config->bos}, {"eos_token_id", &config->eos}, {"pad_token_id", &config->pad}};
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        fur_token_list read = {0};
        read_tokens(&json, lists[i].key, config->vocabulary, &read);
        if (read.count > 0)
            *lists[i].tokens = read;
    }
    fur_json_clear(&json);
    return FUR_OK;
}
