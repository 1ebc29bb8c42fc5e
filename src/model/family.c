/* SPDX-License-Identifier: Apache-2.0 */
/* config.json of the families gpt2, gpt_neox, llama, and of our own, furlong, for what no other family can say. What a
 * family's file asks for and we do not do is refused by name. */
#include "model/family.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "io/file.h"
#include "model/config.h"

/* ---- writing ---------------------------------------------------------------------------------------------- */

static json_t *gpt2_json(const fur_model_config *c)
{
    return json_pack("{s:s, s:[s], s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:s, s:f, s:f, s:b, s:f, s:f, s:f, s:s}",
                     "model_type", "gpt2", "architectures", "GPT2LMHeadModel", "vocab_size", (json_int_t)c->vocabulary,
                     "n_positions", (json_int_t)c->context, "n_ctx", (json_int_t)c->context, "n_embd",
                     (json_int_t)c->width, "n_layer", (json_int_t)c->layers, "n_head", (json_int_t)c->heads, "n_inner",
                     (json_int_t)c->hidden, "activation_function", "gelu_new", "layer_norm_epsilon", c->norm_eps,
                     "initializer_range", c->init_std, "tie_word_embeddings", c->tied, "attn_pdrop",
                     c->attention_dropout, "embd_pdrop", c->embedding_dropout, "resid_pdrop", c->dropout, "torch_dtype",
                     "float32");
}

static json_t *gpt_neox_json(const fur_model_config *c)
{
    return json_pack(
        "{s:s, s:[s], s:I, s:I, s:I, s:I, s:I, s:I, s:s, s:f, s:f, s:b, s:f, s:f, s:b, s:b, s:f, s:f, s:s}",
        "model_type", "gpt_neox", "architectures", "GPTNeoXForCausalLM", "vocab_size", (json_int_t)c->vocabulary,
        "max_position_embeddings", (json_int_t)c->context, "hidden_size", (json_int_t)c->width, "num_hidden_layers",
        (json_int_t)c->layers, "num_attention_heads", (json_int_t)c->heads, "intermediate_size", (json_int_t)c->hidden,
        "hidden_act", "gelu_new", "layer_norm_eps", c->norm_eps, "initializer_range", c->init_std,
        "tie_word_embeddings", c->tied, "rotary_pct", 1.0, "rotary_emb_base", c->rope_theta, "use_parallel_residual", 0,
        "attention_bias", 1, "attention_dropout", c->attention_dropout, "hidden_dropout", c->dropout, "torch_dtype",
        "float32");
}

/* In the words of transformers; defaults are left to it, as to us. */
static json_t *scaling_json(const fur_model_config *c)
{
    const fur_rope_scaling *s = &c->rope_scaling;
    /* the context is the default; said of YaRN, it would be taken for a factor of 1 (fur_config_yarn_is_ratio) */
    bool said = s->type != FUR_ROPE_YARN || s->original_context != c->context;
    json_t *json = json_object();
    if (!json)
        return NULL;
    json_object_set_new(json, "rope_type", json_string(fur_rope_scaling_name((int)s->type)));
    json_object_set_new(json, "factor", json_real(s->factor));
    if (said && fur_rope_scaling_has_original(s->type))
        json_object_set_new(json, "original_max_position_embeddings", json_integer((json_int_t)s->original_context));
    if (s->type == FUR_ROPE_YARN) {
        if (s->attention_factor > 0)
            json_object_set_new(json, "attention_factor", json_real(s->attention_factor));
        json_object_set_new(json, "beta_fast", json_real(s->beta_fast > 0 ? s->beta_fast : 32));
        json_object_set_new(json, "beta_slow", json_real(s->beta_slow > 0 ? s->beta_slow : 1));
    }
    if (s->type == FUR_ROPE_LLAMA3) {
        json_object_set_new(json, "low_freq_factor", json_real(s->low_freq_factor > 0 ? s->low_freq_factor : 1));
        json_object_set_new(json, "high_freq_factor", json_real(s->high_freq_factor > 0 ? s->high_freq_factor : 4));
    }
    return json;
}

static json_t *llama_json(const fur_model_config *c)
{
    return json_pack(
        "{s:s, s:[s], s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:s, s:f, s:f, s:b, s:f, s:b, s:b, s:f, s:s}",
        "model_type", "llama", "architectures", "LlamaForCausalLM", "vocab_size", (json_int_t)c->vocabulary,
        "max_position_embeddings", (json_int_t)c->context, "hidden_size", (json_int_t)c->width, "num_hidden_layers",
        (json_int_t)c->layers, "num_attention_heads", (json_int_t)c->heads, "num_key_value_heads",
        (json_int_t)c->kv_heads, "head_dim", (json_int_t)c->head_dim, "intermediate_size", (json_int_t)c->hidden,
        "hidden_act", "silu", "rms_norm_eps", c->norm_eps, "initializer_range", c->init_std, "tie_word_embeddings",
        c->tied, "rope_theta", c->rope_theta, "attention_bias", 0, "mlp_bias", 0, "attention_dropout",
        c->attention_dropout, "torch_dtype", "float32");
}

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

json_t *fur_config_to_json(const fur_model_config *config)
{
    fur_json_setup();
    const char *family = fur_config_family(config);
    json_t *json = strcmp(family, "gpt2") == 0       ? gpt2_json(config)
                   : strcmp(family, "gpt_neox") == 0 ? gpt_neox_json(config)
                   : strcmp(family, "llama") == 0    ? llama_json(config)
                                                     : furlong_json(config);
    if (json && config->rope_scaling.type != FUR_ROPE_PLAIN)
        json_object_set_new(json, "rope_scaling", scaling_json(config));
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
        json_object_set_new(json, "bos_token_id", json_null());
        json_object_set_new(json, "eos_token_id", json_null());
    }
    return json;
}

/* ---- reading ---------------------------------------------------------------------------------------------- */

#define MOST_SIZE ((int64_t)1 << 40)

static fur_status read_size(fur_error *error, const fur_json *j, const char *key, int64_t *out)
{
    return fur_json_int(error, j, key, 1, MOST_SIZE, out);
}

static fur_status refuse(fur_error *error, const fur_json *j, const char *key, const char *found, const char *expected)
{
    return fur_error_set(error, FUR_E_UNSUPPORTED, "%s: %s is %s, this version has %s", j->name, key, found, expected);
}

static fur_status read_common(fur_error *error, const fur_json *j, fur_model_config *c)
{
    FUR_TRY(fur_json_number_or(error, j, "initializer_range", 1e-9, 9, 0.02, &c->init_std));
    const char *preset;
    FUR_TRY(fur_json_string_or(error, j, "furlong_preset", "", &preset));
    strncpy(c->name, preset, sizeof c->name - 1);
    return FUR_OK;
}

/* Absent: none (of embeddings: as of hidden values), although transformers has defaults; a checkpoint is not to be
 * trained otherwise than it says. */
static fur_status read_dropout(fur_error *error, const fur_json *j, const char *weights, const char *hidden,
                               const char *embedding, fur_model_config *c)
{
    FUR_TRY(fur_json_number_or(error, j, weights, 0, 0.999, 0, &c->attention_dropout));
    if (!hidden)
        return FUR_OK;
    FUR_TRY(fur_json_number_or(error, j, hidden, 0, 0.999, 0, &c->dropout));
    return fur_json_number_or(error, j, embedding, 0, 0.999, c->dropout, &c->embedding_dropout);
}

static fur_status read_gpt2(fur_error *error, const fur_json *j, fur_model_config *c)
{
    const char *activation;
    FUR_TRY(read_size(error, j, "vocab_size", &c->vocabulary));
    FUR_TRY(read_size(error, j, "n_positions", &c->context));
    FUR_TRY(read_size(error, j, "n_embd", &c->width));
    FUR_TRY(read_size(error, j, "n_layer", &c->layers));
    FUR_TRY(read_size(error, j, "n_head", &c->heads));
    FUR_TRY(fur_json_int_or(error, j, "n_inner", 1, MOST_SIZE, 4 * c->width, &c->hidden));
    FUR_TRY(fur_json_string_or(error, j, "activation_function", "gelu_new", &activation));
    if (strcmp(activation, "gelu_new") != 0 && strcmp(activation, "gelu_pytorch_tanh") != 0)
        return refuse(error, j, "activation_function", activation, "gelu_new");
    bool scaled, by_layer;
    FUR_TRY(fur_json_bool_or(error, j, "scale_attn_weights", true, &scaled));
    FUR_TRY(fur_json_bool_or(error, j, "scale_attn_by_inverse_layer_idx", false, &by_layer));
    if (!scaled || by_layer)
        return refuse(error, j, scaled ? "scale_attn_by_inverse_layer_idx" : "scale_attn_weights",
                      scaled ? "true" : "false", "scores scaled by 1 / sqrt(head_dim)");
    FUR_TRY(fur_json_number_or(error, j, "layer_norm_epsilon", 1e-20, 0.1, 1e-5, &c->norm_eps));
    FUR_TRY(fur_json_bool_or(error, j, "tie_word_embeddings", true, &c->tied));
    FUR_TRY(read_dropout(error, j, "attn_pdrop", "resid_pdrop", "embd_pdrop", c));
    c->norm = FUR_NORM_LAYERNORM;
    c->activation = FUR_ACTIVATION_GELU_TANH;
    c->position = FUR_POSITION_LEARNED;
    c->rope_theta = 1e4;
    c->bias = c->causal = true;
    c->kv_heads = c->heads;
    return FUR_OK;
}

/* Member `name` of rope_scaling or, in transformers 5, of rope_parameters. */
typedef struct rope_key {
    char text[80];
} rope_key;

static rope_key key_of(const char *object, const char *name)
{
    rope_key key;
    snprintf(key.text, sizeof key.text, "%s.%s", object, name);
    return key;
}

/* What YaRN's two mscales come to, where a file gives these instead of attention_factor. */
static fur_status read_yarn(fur_error *error, const fur_json *j, const char *object, fur_rope_scaling *s)
{
    double mscale, all;
    bool truncate;
    FUR_TRY(fur_json_number_or(error, j, key_of(object, "attention_factor").text, 0, 1e6, 0, &s->attention_factor));
    FUR_TRY(fur_json_number_or(error, j, key_of(object, "beta_fast").text, 1e-6, 1e9, 32, &s->beta_fast));
    FUR_TRY(fur_json_number_or(error, j, key_of(object, "beta_slow").text, 1e-6, 1e9, 1, &s->beta_slow));
    FUR_TRY(fur_json_number_or(error, j, key_of(object, "mscale").text, 0, 1e6, 0, &mscale));
    FUR_TRY(fur_json_number_or(error, j, key_of(object, "mscale_all_dim").text, 0, 1e6, 0, &all));
    FUR_TRY(fur_json_bool_or(error, j, key_of(object, "truncate").text, true, &truncate));
    if (!truncate)
        return refuse(error, j, key_of(object, "truncate").text, "false", "bounds rounded to whole pairs");
    if (!(s->attention_factor > 0) && mscale > 0 && all > 0)
        s->attention_factor = (0.1 * mscale * log(s->factor) + 1) / (0.1 * all * log(s->factor) + 1);
    return FUR_OK;
}

static fur_status read_scaling(fur_error *error, const fur_json *j, const char *object, bool llama, fur_model_config *c)
{
    fur_rope_scaling *s = &c->rope_scaling;
    const char *type;
    FUR_TRY(fur_json_string_or(error, j, key_of(object, "type").text, "", &type)); /* older files */
    FUR_TRY(fur_json_string_or(error, j, key_of(object, "rope_type").text, type, &type));
    if (!*type && fur_json_find(j, "rope_scaling")) /* a scaling of no kind */
        return fur_json_string(error, j, "rope_scaling.rope_type", &type);
    if (!*type)
        return FUR_OK;
    if (strcmp(type, "default") == 0)
        return FUR_OK;
    int kind = FUR_ROPE_LINEAR;
    while (fur_rope_scaling_name(kind) && strcmp(fur_rope_scaling_name(kind), type) != 0)
        kind++;
    if (!fur_rope_scaling_name(kind) || (llama && kind == FUR_ROPE_NTK))
        return refuse(error, j, key_of(object, "rope_type").text, type, "linear, dynamic, yarn and llama3");
    s->type = (fur_rope_scaling_type)kind;
    FUR_TRY(fur_json_number(error, j, key_of(object, "factor").text, 1, 1e6, &s->factor));
    if (fur_rope_scaling_has_original(s->type))
        FUR_TRY(fur_json_int_or(error, j, key_of(object, "original_max_position_embeddings").text, 1, MOST_SIZE,
                                c->context, &s->original_context));
    if (llama && (s->type == FUR_ROPE_YARN || s->type == FUR_ROPE_LLAMA3)) /* where a file has both, this one */
        FUR_TRY(fur_json_int_or(error, j, "original_max_position_embeddings", 1, MOST_SIZE, s->original_context,
                                &s->original_context));
    if (llama && s->type == FUR_ROPE_DYNAMIC)
        s->original_context = c->context; /* all that transformers asks */
    if (s->type == FUR_ROPE_YARN)
        FUR_TRY(read_yarn(error, j, object, s));
    if (s->type == FUR_ROPE_LLAMA3) {
        FUR_TRY(fur_json_number(error, j, key_of(object, "low_freq_factor").text, 1e-6, 1e9, &s->low_freq_factor));
        FUR_TRY(fur_json_number(error, j, key_of(object, "high_freq_factor").text, 1e-6, 1e9, &s->high_freq_factor));
    }
    return FUR_OK;
}

/* transformers 5 keeps all of it in rope_parameters, or reads it from rope_scaling where a file has that; older ones
 * under keys of the family's. Only RoPE over whole heads is ours. */
static fur_status read_rope(fur_error *error, const fur_json *j, const char *share_key, double share,
                            const char *base_key, fur_model_config *c)
{
    const char *object = fur_json_find(j, "rope_scaling") ? "rope_scaling" : "rope_parameters";
    FUR_TRY(fur_json_number_or(error, j, share_key, 0, 1, share, &share));
    FUR_TRY(fur_json_number_or(error, j, key_of(object, "partial_rotary_factor").text, 0, 1, share, &share));
    if (share < 1)
        return refuse(error, j, share_key, "below 1", "whole heads rotated");
    FUR_TRY(fur_json_number_or(error, j, base_key, 1.001, 1e12, 1e4, &c->rope_theta));
    FUR_TRY(
        fur_json_number_or(error, j, key_of(object, "rope_theta").text, 1.001, 1e12, c->rope_theta, &c->rope_theta));
    FUR_TRY(read_scaling(error, j, object, true, c));
    if (c->rope_scaling.type != FUR_ROPE_PLAIN && strcmp(base_key, "rope_theta") != 0)
        return refuse(error, j, object, "set", "plain RoPE only for gpt_neox");
    return FUR_OK;
}

static fur_status read_gpt_neox(fur_error *error, const fur_json *j, fur_model_config *c)
{
    const char *activation;
    bool parallel, bias;
    FUR_TRY(read_size(error, j, "vocab_size", &c->vocabulary));
    FUR_TRY(read_size(error, j, "max_position_embeddings", &c->context));
    FUR_TRY(read_size(error, j, "hidden_size", &c->width));
    FUR_TRY(read_size(error, j, "num_hidden_layers", &c->layers));
    FUR_TRY(read_size(error, j, "num_attention_heads", &c->heads));
    FUR_TRY(read_size(error, j, "intermediate_size", &c->hidden));
    FUR_TRY(fur_json_string_or(error, j, "hidden_act", "gelu", &activation));
    if (strcmp(activation, "gelu_new") != 0 && strcmp(activation, "gelu_pytorch_tanh") != 0)
        return refuse(error, j, "hidden_act", activation, "gelu_new");
    FUR_TRY(read_rope(error, j, "rotary_pct", 0.25, "rotary_emb_base", c));
    FUR_TRY(fur_json_bool_or(error, j, "use_parallel_residual", true, &parallel));
    if (parallel)
        return refuse(error, j, "use_parallel_residual", "true", "sequential residuals");
    FUR_TRY(fur_json_bool_or(error, j, "attention_bias", true, &bias));
    if (!bias)
        return refuse(error, j, "attention_bias", "false", "gpt_neox with biases");
    FUR_TRY(fur_json_number_or(error, j, "layer_norm_eps", 1e-20, 0.1, 1e-5, &c->norm_eps));
    FUR_TRY(read_dropout(error, j, "attention_dropout", "hidden_dropout", "hidden_dropout", c));
    FUR_TRY(fur_json_bool_or(error, j, "tie_word_embeddings", false, &c->tied));
    c->norm = FUR_NORM_LAYERNORM;
    c->activation = FUR_ACTIVATION_GELU_TANH;
    c->position = FUR_POSITION_ROPE;
    c->bias = c->causal = true;
    c->kv_heads = c->heads;
    return FUR_OK;
}

static fur_status read_llama(fur_error *error, const fur_json *j, fur_model_config *c)
{
    const char *activation;
    bool bias, mlp_bias;
    FUR_TRY(read_size(error, j, "vocab_size", &c->vocabulary));
    FUR_TRY(fur_json_int_or(error, j, "max_position_embeddings", 1, MOST_SIZE, 2048, &c->context));
    FUR_TRY(read_size(error, j, "hidden_size", &c->width));
    FUR_TRY(read_size(error, j, "num_hidden_layers", &c->layers));
    FUR_TRY(read_size(error, j, "num_attention_heads", &c->heads));
    FUR_TRY(fur_json_int_or(error, j, "num_key_value_heads", 1, MOST_SIZE, c->heads, &c->kv_heads));
    FUR_TRY(fur_json_int_or(error, j, "head_dim", 1, MOST_SIZE, 0, &c->head_dim));
    FUR_TRY(read_size(error, j, "intermediate_size", &c->hidden));
    FUR_TRY(fur_json_string_or(error, j, "hidden_act", "silu", &activation));
    if (strcmp(activation, "silu") != 0)
        return refuse(error, j, "hidden_act", activation, "silu");
    FUR_TRY(fur_json_number_or(error, j, "rms_norm_eps", 1e-20, 0.1, 1e-6, &c->norm_eps));
    FUR_TRY(read_rope(error, j, "partial_rotary_factor", 1, "rope_theta", c));
    FUR_TRY(read_dropout(error, j, "attention_dropout", NULL, NULL, c));
    FUR_TRY(fur_json_bool_or(error, j, "attention_bias", false, &bias));
    FUR_TRY(fur_json_bool_or(error, j, "mlp_bias", false, &mlp_bias));
    if (bias || mlp_bias)
        return refuse(error, j, bias ? "attention_bias" : "mlp_bias", "true", "llama without biases");
    FUR_TRY(fur_json_bool_or(error, j, "tie_word_embeddings", false, &c->tied));
    c->norm = FUR_NORM_RMSNORM;
    c->activation = FUR_ACTIVATION_SWIGLU;
    c->position = FUR_POSITION_ROPE;
    c->causal = true;
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
    return refuse(error, j, key, value, "other kinds only");
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
            return refuse(error, j, "attention", name ? name : "not text", "other kinds only");
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
        if (window < 0 || window > MOST_SIZE)
            return fur_error_set(error, FUR_E_FORMAT, "%s: window of layer %lld: expected an integer, 0 (none) to 2^40",
                                 j->name, (long long)layer);
        c->window[layer] = window;
    }
    FUR_TRY(fur_json_int_or(error, j, "sink_tokens", 0, MOST_SIZE, 0, &c->sink_tokens));
    FUR_TRY(fur_json_bool_or(error, j, "sink_logits", false, &c->sink_logits));
    FUR_TRY(fur_json_bool_or(error, j, "qk_norm", false, &c->qk_norm));
    FUR_TRY(fur_json_number_or(error, j, "softcap", 0, 1e6, 0, &c->softcap));
    FUR_TRY(read_dropout(error, j, "attention_dropout", "dropout", "embedding_dropout", c));
    return read_scaling(error, j, "rope_scaling", false, c);
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
    return fur_table_type_find(type, &c->table_type) ? FUR_OK
                                                     : refuse(error, j, "table_type", type, "other kinds only");
}

static fur_status read_furlong(fur_error *error, const fur_json *j, fur_model_config *c)
{
    static const char *const norms[] = {"layernorm", "rmsnorm", NULL};
    const char *const activations[] = {fur_activation_name(0), fur_activation_name(1), fur_activation_name(2), NULL};
    const char *const positions[] = {fur_position_name(0), fur_position_name(1), fur_position_name(2), NULL};
    int norm, activation, position;
    FUR_TRY(fur_json_int(error, j, "vocab_size", 0, MOST_SIZE, &c->vocabulary));
    FUR_TRY(fur_json_int(error, j, "features", 0, MOST_SIZE, &c->features));
    FUR_TRY(fur_json_int(error, j, "outputs", 0, MOST_SIZE, &c->outputs));
    FUR_TRY(read_size(error, j, "max_position_embeddings", &c->context));
    FUR_TRY(read_size(error, j, "hidden_size", &c->width));
    FUR_TRY(fur_json_int(error, j, "num_hidden_layers", 1, FUR_MAX_LAYERS, &c->layers));
    FUR_TRY(read_size(error, j, "num_attention_heads", &c->heads));
    FUR_TRY(read_size(error, j, "num_key_value_heads", &c->kv_heads));
    FUR_TRY(read_size(error, j, "head_dim", &c->head_dim));
    FUR_TRY(read_size(error, j, "intermediate_size", &c->hidden));
    FUR_TRY(read_word(error, j, "norm", norms, &norm));
    FUR_TRY(read_word(error, j, "activation", activations, &activation));
    FUR_TRY(read_word(error, j, "position", positions, &position));
    FUR_TRY(fur_json_number(error, j, "norm_eps", 1e-20, 0.1, &c->norm_eps));
    FUR_TRY(fur_json_number(error, j, "rope_theta", 1.001, 1e12, &c->rope_theta));
    FUR_TRY(fur_json_bool(error, j, "bias", &c->bias));
    FUR_TRY(fur_json_bool(error, j, "tie_word_embeddings", &c->tied));
    FUR_TRY(fur_json_bool(error, j, "causal", &c->causal));
    FUR_TRY(read_own_attention(error, j, c));
    c->norm = (fur_norm_type)norm;
    c->activation = (fur_activation)activation;
    c->position = (fur_position_type)position;
    FUR_TRY(read_kinds(error, j, c));
    FUR_TRY(read_lookup(error, j, c));
    return read_far(error, j, c);
}

static fur_status read_family(fur_error *error, const fur_json *j, fur_model_config *c)
{
    const char *type;
    FUR_TRY(fur_json_string(error, j, "model_type", &type));
    FUR_TRY(read_common(error, j, c));
    if (strcmp(type, "gpt2") == 0)
        FUR_TRY(read_gpt2(error, j, c));
    else if (strcmp(type, "gpt_neox") == 0)
        FUR_TRY(read_gpt_neox(error, j, c));
    else if (strcmp(type, "llama") == 0)
        FUR_TRY(read_llama(error, j, c));
    else if (strcmp(type, "furlong") == 0)
        FUR_TRY(read_furlong(error, j, c));
    else
        return refuse(error, j, "model_type", type, "gpt2, gpt_neox, llama and furlong");
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
    if (context->yarn_is_told || strcmp(type, "llama") != 0 || s->type != FUR_ROPE_YARN ||
        s->original_context == c->context || fur_config_yarn_is_ratio(c))
        return;
    context->yarn_is_told = true;
    fur_log(context, FUR_LOG_INFO,
            "%s: YaRN by its factor, %g, as in transformers 5; 4.48 to 4.57 take %lld / %lld instead", j->name,
            s->factor, (long long)c->context, (long long)s->original_context);
}

static fur_status config_from_file(fur_context *context, const char *path, fur_model_config *out)
{
    fur_json json = {0};
    FUR_TRY(fur_json_read(&context->error, path, &json));
    fur_status status = read_family(&context->error, &json, out);
    if (status == FUR_OK)
        tell_yarn(context, &json, out);
    fur_json_clear(&json);
    return status;
}

fur_status fur_config_read(fur_context *context, const char *path, fur_model_config *out)
{
    fur_model_config config = {0};
    FUR_TRY(config_from_file(context, path, &config));
    if (fur_config_check(context, &config) != FUR_OK) { /* a bad size in a file is the file's fault */
        fur_error_prefix(&context->error, "%s", path);
        return context->error.status = FUR_E_FORMAT;
    }
    *out = config;
    return FUR_OK;
}
