/* SPDX-License-Identifier: Apache-2.0 */
/* Values of a GGUF file as a config.json. Keys and what stands for those that are absent are llama.cpp's, whose files
 * these are; names of the family are in families.c. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "model/families.h"
#include "model/gguf.h"

#define MOST ((int64_t)1 << 31)

typedef struct reading {
    fur_error *error;
    const fur_gguf *file;
    const char *path;
    const fur_family *family;
    json_t *json;
    int64_t width, heads, layers, head_dim;
} reading;

typedef struct key_text {
    char text[96];
} key_text;

/* Keys of a model begin with its architecture. */
static key_text key_of(const reading *r, const char *name)
{
    key_text key;
    snprintf(key.text, sizeof key.text, "%s.%s", r->family->gguf, name);
    return key;
}

static bool has(const reading *r, const char *name)
{
    return fur_gguf_value_find(r->file, key_of(r, name).text) != NULL;
}

static void put_int(const reading *r, const char *key, int64_t value)
{
    if (key)
        json_object_set_new(r->json, key, json_integer((json_int_t)value));
}

/* A number of the file is an f32; the shortest decimal that is the same f32 is what its author wrote. */
static void put_number(const reading *r, json_t *to, const char *key, double value)
{
    char digits[40];
    double best = value;
    for (int n = 6; n <= 9; n++) {
        snprintf(digits, sizeof digits, "%.*g", n, value);
        best = strtod(digits, NULL);
        if (!((float)best < (float)value) && !((float)best > (float)value))
            break;
    }
    if (key)
        json_object_set_new(to ? to : r->json, key, json_real(best));
}

static fur_status refuse(const reading *r, const char *name, const char *found, const char *expected)
{
    return fur_error_set(r->error, FUR_E_UNSUPPORTED, "%s: key \"%.120s\": %.60s, this version has %s", r->path,
                         key_of(r, name).text, found, expected);
}

/* ---- what a file may say ----------------------------------------------------------------------------------------- */

static const char *const known_keys[] = {
    "vocab_size",
    "context_length",
    "embedding_length",
    "block_count",
    "feed_forward_length",
    "use_parallel_residual",
    "tensor_data_layout",
    "expert_count",
    "expert_used_count",
    "attn_logit_softcapping",
    "final_logit_softcapping",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.value_length",
    "attention.layer_norm_epsilon",
    "attention.layer_norm_rms_epsilon",
    "attention.causal",
    "attention.sliding_window",
    "attention.sliding_window_pattern",
    "rope.dimension_count",
    "rope.freq_base",
    "rope.freq_base_swa",
    "rope.scale_linear",
    "rope.scaling.type",
    "rope.scaling.factor",
    "rope.scaling.original_context_length",
    "rope.scaling.attn_factor",
    "rope.scaling.yarn_beta_fast",
    "rope.scaling.yarn_beta_slow",
    "rope.scaling.finetuned",
};

static fur_status check_keys(const reading *r)
{
    key_text prefix = key_of(r, "");
    size_t length = strlen(prefix.text);
    for (int64_t i = 0; i < fur_gguf_values(r->file); i++) {
        const char *key = fur_gguf_value_at(r->file, i)->key;
        bool known = strncmp(key, prefix.text, length) != 0;
        for (size_t k = 0; !known && k < sizeof known_keys / sizeof known_keys[0]; k++)
            known = strcmp(key + length, known_keys[k]) == 0;
        if (!known)
            return fur_error_set(r->error, FUR_E_UNSUPPORTED,
                                 "%s: key \"%.120s\" is not known to this version, and may change what is computed",
                                 r->path, key);
    }
    return FUR_OK;
}

/* Keys that other kinds of models have. */
static fur_status check_kind(const reading *r)
{
    int64_t parts, experts;
    bool causal, parallel;
    FUR_TRY(fur_gguf_int_or(r->error, r->file, "split.count", 0, MOST, 1, &parts));
    if (parts > 1)
        return fur_error_set(r->error, FUR_E_UNSUPPORTED, "%s: one of %lld parts, this version has models in one file",
                             r->path, (long long)parts);
    FUR_TRY(fur_gguf_int_or(r->error, r->file, key_of(r, "expert_count").text, 0, MOST, 0, &experts));
    if (experts > 0)
        return refuse(r, "expert_count", "experts", "one feedforward a layer");
    FUR_TRY(fur_gguf_bool_or(r->error, r->file, key_of(r, "attention.causal").text, true, &causal));
    if (!causal)
        return refuse(r, "attention.causal", "false", "causal models in GGUF");
    FUR_TRY(fur_gguf_bool_or(r->error, r->file, key_of(r, "use_parallel_residual").text, false, &parallel));
    if (parallel)
        return refuse(r, "use_parallel_residual", "true", "sequential residuals");
    if (has(r, "use_parallel_residual"))
        json_object_set_new(r->json, "use_parallel_residual", json_false());
    return FUR_OK;
}

/* ---- sizes ------------------------------------------------------------------------------------------------------- */

static fur_status size_of(const reading *r, const char *name, int64_t *out)
{
    return fur_gguf_int(r->error, r->file, key_of(r, name).text, 1, MOST, out);
}

/* Rows of the embedding, which what the file says of its vocabulary must be. */
static fur_status put_vocabulary(const reading *r)
{
    const fur_tensor_info *embedding = fur_gguf_find(r->file, "token_embd.weight");
    const fur_gguf_value *tokens = fur_gguf_value_find(r->file, "tokenizer.ggml.tokens");
    int64_t said;
    if (!embedding || embedding->rank != 2)
        return fur_error_set(r->error, FUR_E_FORMAT, "%s: tensor \"token_embd.weight\": expected rows of an embedding",
                             r->path);
    int64_t rows = embedding->shape[0];
    FUR_TRY(fur_gguf_int_or(r->error, r->file, key_of(r, "vocab_size").text, 1, MOST, rows, &said));
    if (said != rows)
        return fur_error_set(r->error, FUR_E_FORMAT, "%s: key \"%.80s\": it is %lld, the embedding has %lld rows",
                             r->path, key_of(r, "vocab_size").text, (long long)said, (long long)rows);
    if (tokens && (!tokens->array || tokens->type != FUR_GGUF_TEXT))
        return fur_error_set(r->error, FUR_E_FORMAT, "%s: key \"%s\": expected an array of text", r->path, tokens->key);
    if (tokens && tokens->count != rows)
        return fur_error_set(r->error, FUR_E_FORMAT, "%s: key \"%s\": %lld tokens, the embedding has %lld rows",
                             r->path, tokens->key, (long long)tokens->count, (long long)rows);
    put_int(r, "vocab_size", rows);
    return FUR_OK;
}

static fur_status put_heads(reading *r)
{
    const fur_family_keys *keys = &r->family->keys;
    int64_t kv_heads, value, rotated;
    FUR_TRY(size_of(r, "attention.head_count", &r->heads));
    FUR_TRY(
        fur_gguf_int_or(r->error, r->file, key_of(r, "attention.head_count_kv").text, 1, MOST, r->heads, &kv_heads));
    if (!keys->kv_heads && kv_heads != r->heads)
        return refuse(r, "attention.head_count_kv", "less than heads", "as many key heads as heads");
    if (!has(r, "attention.key_length") && r->width % r->heads)
        return fur_error_set(r->error, FUR_E_FORMAT, "%s: width %lld does not divide into %lld heads", r->path,
                             (long long)r->width, (long long)r->heads);
    FUR_TRY(fur_gguf_int_or(r->error, r->file, key_of(r, "attention.key_length").text, 1, MOST, r->width / r->heads,
                            &r->head_dim));
    if (!keys->head_dim && r->head_dim * r->heads != r->width)
        return refuse(r, "attention.key_length", "not width / heads", "heads that make up the width");
    FUR_TRY(fur_gguf_int_or(r->error, r->file, key_of(r, "attention.value_length").text, 1, MOST, r->head_dim, &value));
    if (value != r->head_dim)
        return refuse(r, "attention.value_length", "not the length of keys", "values as long as keys");
    FUR_TRY(fur_gguf_int_or(r->error, r->file, key_of(r, "rope.dimension_count").text, 0, MOST, r->head_dim, &rotated));
    if (r->family->position == FUR_POSITION_ROPE && rotated != r->head_dim)
        return refuse(r, "rope.dimension_count", "less than a head", "whole heads rotated");
    if (keys->rope_share)
        put_number(r, NULL, keys->rope_share, 1);
    put_int(r, keys->heads, r->heads);
    put_int(r, keys->kv_heads, kv_heads);
    put_int(r, keys->head_dim, r->head_dim);
    return FUR_OK;
}

static fur_status put_sizes(reading *r)
{
    const fur_family_keys *keys = &r->family->keys;
    int64_t context, hidden;
    FUR_TRY(size_of(r, "embedding_length", &r->width));
    FUR_TRY(size_of(r, "block_count", &r->layers));
    FUR_TRY(size_of(r, "context_length", &context));
    FUR_TRY(size_of(r, "feed_forward_length", &hidden));
    put_int(r, keys->width, r->width);
    put_int(r, keys->layers, r->layers);
    put_int(r, keys->context, context);
    put_int(r, keys->hidden, hidden);
    FUR_TRY(put_vocabulary(r));
    return put_heads(r);
}

/* ---- positions --------------------------------------------------------------------------------------------------- */

/* Llama 3's scaling is in files as what it divides frequencies by. Its two bounds are 1 and 4 in all models that were
 * published, and the context it started from is a power of two: the one that gives these numbers. */
static fur_status put_llama3(const reading *r, json_t *scaling, const fur_tensor_info *info, double base)
{
    int64_t pairs = r->head_dim / 2;
    float found[FUR_GGUF_MOST_PAIRS], wanted[FUR_GGUF_MOST_PAIRS];
    fur_tensor tensor = {fur_gguf_input(r->file), info, info->name};
    if (pairs < 1 || pairs > FUR_GGUF_MOST_PAIRS)
        return refuse(r, "attention.key_length", "out of range", "heads of up to 1024");
    FUR_TRY(fur_tensor_read_f32(r->error, &tensor, 1, &pairs, true, found));
    fur_model_config config = {.head_dim = r->head_dim, .rope_theta = base};
    bool same = false;
    for (int bits = 5; !same && bits <= 20; bits++) {
        config.rope_scaling = (fur_rope_scaling){
            .type = FUR_ROPE_LLAMA3, .factor = (double)found[pairs - 1], .original_context = (int64_t)1 << bits};
        fur_gguf_rope_factors(&config, wanted);
        same = true;
        for (int64_t i = 0; i < pairs; i++)
            same &= fabsf(found[i] - wanted[i]) <= 1e-4f * wanted[i];
    }
    if (!same)
        return fur_error_set(r->error, FUR_E_UNSUPPORTED,
                             "%s: tensor \"%s\": its factors are not those of Llama 3's scaling, the only ones that "
                             "this version has",
                             r->path, info->name);
    json_object_set_new(scaling, "rope_type", json_string("llama3"));
    put_number(r, scaling, "factor", config.rope_scaling.factor);
    json_object_set_new(scaling, "low_freq_factor", json_real(1));
    json_object_set_new(scaling, "high_freq_factor", json_real(4));
    json_object_set_new(scaling, "original_max_position_embeddings",
                        json_integer((json_int_t)config.rope_scaling.original_context));
    return FUR_OK;
}

static fur_status put_yarn(const reading *r, json_t *scaling)
{
    int64_t original;
    double fast, slow, attention;
    FUR_TRY(fur_gguf_int_or(r->error, r->file, key_of(r, "rope.scaling.original_context_length").text, 1, MOST, 0,
                            &original));
    FUR_TRY(fur_gguf_number_or(r->error, r->file, key_of(r, "rope.scaling.yarn_beta_fast").text, 1e-3, 1e6, 32, &fast));
    FUR_TRY(fur_gguf_number_or(r->error, r->file, key_of(r, "rope.scaling.yarn_beta_slow").text, 1e-3, 1e6, 1, &slow));
    FUR_TRY(fur_gguf_number_or(r->error, r->file, key_of(r, "rope.scaling.attn_factor").text, 0, 1e6, 1, &attention));
    if (attention < 1 || attention > 1)
        return refuse(r, "rope.scaling.attn_factor", "not 1", "YaRN's own factor of attention");
    if (original > 0)
        json_object_set_new(scaling, "original_max_position_embeddings", json_integer((json_int_t)original));
    put_number(r, scaling, "beta_fast", fast);
    put_number(r, scaling, "beta_slow", slow);
    return FUR_OK;
}

static fur_status read_scaling(const reading *r, json_t *scaling, double base)
{
    char *type = NULL;
    double factor;
    const fur_tensor_info *factors = fur_gguf_find(r->file, "rope_freqs.weight");
    FUR_TRY(fur_gguf_text_or_null(r->error, r->file, key_of(r, "rope.scaling.type").text, &type));
    bool old = !type && has(r, "rope.scale_linear"), linear = old || (type && strcmp(type, "linear") == 0),
         yarn = type && strcmp(type, "yarn") == 0, none = !linear && !yarn && (!type || strcmp(type, "none") == 0);
    fur_status status = linear || yarn || none ? FUR_OK : refuse(r, "rope.scaling.type", type, "none, linear and yarn");
    fur_free(type);
    FUR_TRY(status);
    if (factors && !none)
        return fur_error_set(r->error, FUR_E_UNSUPPORTED, "%s: both \"rope_freqs.weight\" and a scaling of RoPE",
                             r->path);
    if (factors)
        return put_llama3(r, scaling, factors, base);
    if (none)
        return FUR_OK;
    const char *name = old ? "rope.scale_linear" : "rope.scaling.factor";
    FUR_TRY(fur_gguf_number(r->error, r->file, key_of(r, name).text, 1, 1e6, &factor));
    json_object_set_new(scaling, "rope_type", json_string(linear ? "linear" : "yarn"));
    put_number(r, scaling, "factor", factor);
    return yarn ? put_yarn(r, scaling) : FUR_OK;
}

static fur_status put_rope(const reading *r)
{
    const fur_family_keys *keys = &r->family->keys;
    double base, local;
    if (r->family->position != FUR_POSITION_ROPE)
        return FUR_OK;
    FUR_TRY(fur_gguf_number_or(r->error, r->file, key_of(r, "rope.freq_base").text, 1.001, 1e12, 1e4, &base));
    put_number(r, NULL, keys->rope_theta, base);
    FUR_TRY(fur_gguf_number_or(r->error, r->file, key_of(r, "rope.freq_base_swa").text, 1.001, 1e12, 1e4, &local));
    if (has(r, "rope.freq_base_swa") && !keys->local_rope_theta)
        return refuse(r, "rope.freq_base_swa", "set", "one base for all layers of this family");
    put_number(r, NULL, keys->local_rope_theta, local);
    json_t *scaling = json_object();
    fur_status status = read_scaling(r, scaling, base);
    if (status == FUR_OK && json_object_size(scaling) > 0)
        json_object_set(r->json, "rope_scaling", scaling);
    json_decref(scaling);
    return status;
}

/* Layers that see a window are those of the family's rule. */
static fur_status put_windows(const reading *r)
{
    const fur_family *f = r->family;
    int64_t window, pattern, context = (int64_t)json_integer_value(json_object_get(r->json, f->keys.context));
    const char *name = "attention.sliding_window";
    FUR_TRY(fur_gguf_int_or(r->error, r->file, key_of(r, name).text, 0, MOST, 0, &window));
    FUR_TRY(fur_gguf_int_or(r->error, r->file, key_of(r, "attention.sliding_window_pattern").text, 1, MOST,
                            f->defaults.pattern, &pattern));
    if (f->spans == FUR_SPAN_NONE || f->spans == FUR_SPAN_FROM)
        return window > 0 && window < context ? refuse(r, name, "set", "no windows in this architecture") : FUR_OK;
    if (f->local_rope && window == 0) /* there is no default, and without windows no base of their own */
        return size_of(r, name, &window);
    if (f->spans == FUR_SPAN_ALL && window == 0)
        json_object_set_new(r->json, "sliding_window", json_null());
    else
        put_int(r, "sliding_window", window > 0 ? window : f->defaults.window);
    if (f->spans == FUR_SPAN_PATTERN)
        put_int(r, "sliding_window_pattern", pattern);
    return FUR_OK;
}

/* ---- the rest ---------------------------------------------------------------------------------------------------- */

static fur_status put_cap(const reading *r, const char *name, const char *key)
{
    double cap;
    if (!has(r, name))
        return FUR_OK;
    if (!key)
        return refuse(r, name, "set", "none in this architecture");
    FUR_TRY(fur_gguf_number(r->error, r->file, key_of(r, name).text, 0, 1e6, &cap));
    put_number(r, NULL, key, cap);
    return FUR_OK;
}

static fur_status put_token(const reading *r, const char *name, const char *key)
{
    int64_t id;
    FUR_TRY(fur_gguf_int_or(r->error, r->file, name, 0, UINT32_MAX, -1, &id));
    if (id >= 0)
        put_int(r, key, id);
    return FUR_OK;
}

static fur_status put_traits(const reading *r)
{
    const fur_family_keys *keys = &r->family->keys;
    const char *eps_name =
        r->family->norm == FUR_NORM_RMSNORM ? "attention.layer_norm_rms_epsilon" : "attention.layer_norm_epsilon";
    double eps;
    FUR_TRY(fur_gguf_number(r->error, r->file, key_of(r, eps_name).text, 1e-20, 0.1, &eps));
    put_number(r, NULL, keys->norm_eps, eps);
    FUR_TRY(put_cap(r, "attn_logit_softcapping", keys->softcap));
    FUR_TRY(put_cap(r, "final_logit_softcapping", keys->logit_softcap));
    /* of Gemma, whose largest models alone have another than their heads' */
    if (keys->query_scalar)
        put_number(r, NULL, keys->query_scalar,
                   (double)fur_gguf_query_scalar(r->family, r->layers, r->width, r->heads, r->head_dim));
    if (keys->activation)
        json_object_set_new(r->json, keys->activation, json_string(r->family->activations[0]));
    if (keys->attention_bias)
        json_object_set_new(r->json, keys->attention_bias,
                            json_boolean(fur_gguf_find(r->file, "blk.0.attn_q.bias") != NULL));
    if (keys->ffn_bias)
        json_object_set_new(r->json, keys->ffn_bias, json_boolean(fur_gguf_find(r->file, "blk.0.ffn_up.bias") != NULL));
    FUR_TRY(put_token(r, "tokenizer.ggml.bos_token_id", "bos_token_id"));
    FUR_TRY(put_token(r, "tokenizer.ggml.eos_token_id", "eos_token_id"));
    FUR_TRY(put_token(r, "tokenizer.ggml.padding_token_id", "pad_token_id"));
    json_object_set_new(r->json, "tie_word_embeddings", json_boolean(!fur_gguf_find(r->file, "output.weight")));
    return FUR_OK;
}

static fur_status find_family(reading *r)
{
    char *architecture;
    FUR_TRY(fur_gguf_text(r->error, r->file, "general.architecture", &architecture));
    r->family = fur_family_find_gguf(architecture);
    fur_status status = FUR_OK;
    if (!r->family)
        status =
            fur_error_set(r->error, FUR_E_UNSUPPORTED,
                          "%s: general.architecture is %.60s, this version has gpt2, gptneox, llama, qwen2, qwen3, "
                          "gemma, gemma2 and gemma3",
                          r->path, architecture);
    fur_free(architecture);
    if (status == FUR_OK && r->family->spans == FUR_SPAN_NONE && has(r, "attention.sliding_window"))
        for (int i = 0; fur_family_at(i); i++) { /* one of that architecture whose layers all have a window */
            const fur_family *other = fur_family_at(i);
            if (other->gguf && strcmp(other->gguf, r->family->gguf) == 0 && other->spans == FUR_SPAN_ALL)
                r->family = other;
        }
    return status;
}

static fur_status put_all(reading *r)
{
    json_object_set_new(r->json, "model_type", json_string(r->family->model_type));
    FUR_TRY(check_keys(r));
    FUR_TRY(check_kind(r));
    FUR_TRY(put_sizes(r));
    FUR_TRY(put_rope(r));
    FUR_TRY(put_windows(r));
    return put_traits(r);
}

fur_status fur_gguf_config_json(fur_error *error, const fur_gguf *file, json_t **out)
{
    reading r = {.error = error, .file = file, .path = fur_gguf_input(file)->path};
    FUR_TRY(find_family(&r));
    fur_json_setup();
    r.json = json_object();
    fur_status status = put_all(&r);
    if (status == FUR_OK && fur_json_failed())
        status = fur_memory_error(error, 4096, "config.json");
    if (status != FUR_OK) {
        json_decref(r.json);
        return status;
    }
    *out = r.json;
    return FUR_OK;
}
