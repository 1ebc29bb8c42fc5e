/* SPDX-License-Identifier: Apache-2.0 */
/* Checks and the per-layer specifications of a model's shape. */
#include "model/config.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "attention/far_fit.h"
#include "attention/kind.h"
#include "base/context.h"
#include "base/size.h"
#include "model/adapter.h"
#include "model/parameters.h"
#include "projection/kind.h"

void fur_config_use_bytes(fur_model_config *config)
{
    config->vocabulary = 256;
}

void fur_config_use_vectors(fur_model_config *config, int64_t features, int64_t outputs)
{
    config->vocabulary = 0;
    config->features = features;
    config->outputs = outputs;
    config->tied = false;
}

static fur_status check_range(fur_error *error, const char *name, int64_t value, int64_t low, int64_t high)
{
    if (value >= low && value <= high)
        return FUR_OK;
    return fur_error_set(error, FUR_E_ARGUMENT, "%s is %lld, expected %lld to %lld", name, (long long)value,
                         (long long)low, (long long)high);
}

static fur_status check_input_and_output(fur_error *error, const fur_model_config *c)
{
    if (c->features == 0) {
        FUR_TRY(check_range(error, "vocabulary", c->vocabulary, 1, (int64_t)1 << 24));
        return check_range(error, "outputs", c->outputs, 0, 0);
    }
    FUR_TRY(check_range(error, "features", c->features, 1, (int64_t)1 << 20));
    FUR_TRY(check_range(error, "outputs", c->outputs, 1, (int64_t)1 << 20));
    FUR_TRY(check_range(error, "vocabulary of a model over real vectors", c->vocabulary, 0, 0));
    if (c->tied)
        return fur_error_set(error, FUR_E_ARGUMENT, "a model over real vectors has no embedding to tie its head to");
    return FUR_OK;
}

/* Operators take rates as f32, where one just below 1 may be 1. */
static bool is_rate(double rate)
{
    return rate >= 0 && (float)rate < 1;
}

/* Degree 2 is what head widths of 32 to 64 can afford, and bound 1 what it approximates well; chunks of 128 tokens cost
 * a fifth of the far field at width 32. */
void fur_config_far_defaults(fur_model_config *c)
{
    c->far_degree = c->far_degree ? c->far_degree : 2;
    c->far_chunk = c->far_chunk ? c->far_chunk : 128;
    c->far_max_features = c->far_max_features ? c->far_max_features : 65536;
    c->far_bound = c->far_unbounded ? 0 : c->far_bound > 0 ? c->far_bound : 1;
}

int64_t fur_config_far_features(const fur_model_config *c)
{
    return c->head_dim < 1 || c->far_degree < 0 ? INT64_MAX : fur_far_features(c->head_dim, c->far_degree);
}

double fur_config_far_error(const fur_model_config *c)
{
    float coefficient[FUR_FAR_MOST_DEGREE + 1];
    if (c->far_unbounded || !(c->far_bound > 0) || c->far_degree < 1 || c->far_degree > FUR_FAR_MOST_DEGREE ||
        c->head_dim < 1)
        return (double)INFINITY;
    fur_far_fit_normal(c->far_bound / sqrt((double)c->head_dim), c->far_bound, c->far_degree, coefficient);
    return fur_far_relative_error(coefficient, c->far_degree, c->far_bound);
}

/* Causal, a multiplication and an addition each: exact attention takes 4 D n / 2 a token and head forward and 2.5 times
 * that backward, the far field 4 R (D + 1) and 12 R (D + 1), of which with grouped heads the group shares 2 and 8;
 * chunks of their own 4 D chunk / 2 in place of all. */
int64_t fur_config_far_crossover(const fur_model_config *c)
{
    double R = (double)fur_config_far_features(c), D = (double)c->head_dim,
           group = (double)c->heads / (double)c->kv_heads;
    return (int64_t)ceil(R * (D + 1) * (6 + 10 / group) / (7 * D)) + c->far_chunk;
}

static fur_status check_far(fur_error *error, const fur_model_config *c)
{
    FUR_TRY(check_range(error, "far_degree of almost-linear layers", c->far_degree, 1, FUR_FAR_MOST_DEGREE));
    FUR_TRY(check_range(error, "far_chunk of almost-linear layers", c->far_chunk, 16, 4096));
    FUR_TRY(check_range(error, "head_dim of almost-linear layers", c->head_dim, 1, FUR_FAR_MOST_DIM));
    FUR_TRY(check_range(error, "far_max_features", c->far_max_features, 1, FUR_FAR_MOST_FEATURES));
    if (!(c->far_max_error >= 0 && c->far_max_error < 1e6))
        return fur_error_set(error, FUR_E_ARGUMENT,
                             "far_max_error of almost-linear layers is %g, expected 0 (none) to "
                             "1e6",
                             c->far_max_error);
    if (c->far_unbounded && !(c->far_max_error > 0))
        return fur_error_set(
            error, FUR_E_ARGUMENT,
            "almost-linear layers without a bound on their logits: expected --max-error (far_max_error "
            "above 0), beyond which a head is exact");
    if (c->far_unbounded && c->softcap > 0)
        return fur_error_set(error, FUR_E_ARGUMENT,
                             "almost-linear layers without a bound and with softcap: a tanh is "
                             "no polynomial");
    if (!c->far_unbounded && !(c->far_bound >= 1e-6 && c->far_bound <= 16))
        return fur_error_set(error, FUR_E_ARGUMENT, "far_bound of almost-linear layers is %g, expected 1e-6 to 16",
                             c->far_bound);
    int64_t features = fur_config_far_features(c);
    if (features > FUR_FAR_MOST_FEATURES)
        return fur_error_set(error, FUR_E_ARGUMENT,
                             "degree %lld at head width %lld makes more than %lld features in almost-linear layers",
                             (long long)c->far_degree, (long long)c->head_dim, (long long)FUR_FAR_MOST_FEATURES);
    if (features > c->far_max_features)
        return fur_error_set(
            error, FUR_E_ARGUMENT,
            "degree %lld at head width %lld makes %lld features, %.3g MB of sums a key head, faster than "
            "exact attention from about %lld tokens on: above the limit of %lld (--max-features)",
            (long long)c->far_degree, (long long)c->head_dim, (long long)features,
            4e-6 * (double)fur_far_state_floats(1, c->head_dim, c->head_dim, c->far_degree),
            (long long)fur_config_far_crossover(c), (long long)c->far_max_features);
    int64_t fine = c->far_fine_gradient ? fur_far_features(c->head_dim, c->far_degree + 1) : 0;
    if (fine > c->far_max_features || (c->far_fine_gradient && c->far_degree == FUR_FAR_MOST_DEGREE))
        return fur_error_set(error, FUR_E_ARGUMENT,
                             "gradients by degree %lld at head width %lld make %lld features in almost-linear layers, "
                             "above degree %d or the limit of %lld (--max-features)",
                             (long long)c->far_degree + 1, (long long)c->head_dim, (long long)fine, FUR_FAR_MOST_DEGREE,
                             (long long)c->far_max_features);
    if (c->position == FUR_POSITION_ALIBI)
        return fur_error_set(error, FUR_E_ARGUMENT,
                             "almost-linear layers with ALiBi: expected RoPE or learned positions");
    if (c->attention_dropout > 0)
        return fur_error_set(error, FUR_E_ARGUMENT,
                             "almost-linear layers with dropout of attention's weights: expected attention_dropout 0");
    return FUR_OK;
}

/* Eight signs a table and two more for the feedforward's second map, as released. */
void fur_config_lookup_defaults(fur_model_config *c)
{
    c->lookup_bits = c->lookup_bits ? c->lookup_bits : 8;
    c->lookup_down_bits =
        c->lookup_down_bits ? c->lookup_down_bits : fur_min_i64(c->lookup_bits + 2, FUR_LOOKUP_MOST_BITS);
}

void fur_config_set_lookup_bits(fur_model_config *c, int64_t bits)
{
    c->lookup_bits = bits;
    c->lookup_down_bits = fur_min_i64(bits + 2, FUR_LOOKUP_MOST_BITS);
    if (c->projection_ffn == FUR_PROJECTION_LOOKUP)
        c->hidden = bits > 0 ? c->width / bits * c->lookup_down_bits : 0;
}

/* Tables for the feedforward take its released form with them: an input of the second map that is wider by its bits,
 * and a norm before its hash in place of an activation. */
void fur_config_make_lookup(fur_model_config *c, bool qkvo, bool ffn)
{
    fur_config_lookup_defaults(c);
    if (qkvo)
        c->projection_qkvo = FUR_PROJECTION_LOOKUP;
    if (ffn && c->projection_ffn != FUR_PROJECTION_LOOKUP) {
        c->projection_ffn = FUR_PROJECTION_LOOKUP;
        c->activation = FUR_ACTIVATION_NORM;
        c->hidden = c->width / c->lookup_bits * c->lookup_down_bits;
    }
}

void fur_config_lookup_rows(fur_model_config *c)
{
    c->lookup_two_rows = c->projection_ffn == FUR_PROJECTION_LOOKUP && c->projection_qkvo != FUR_PROJECTION_LOOKUP;
}

static fur_status check_lookup(fur_error *error, const fur_model_config *c)
{
    bool qkvo = c->projection_qkvo == FUR_PROJECTION_LOOKUP, ffn = c->projection_ffn == FUR_PROJECTION_LOOKUP;
    FUR_TRY(check_range(error, "lookup_bits of look-up maps", c->lookup_bits, 1, FUR_LOOKUP_MOST_BITS));
    if (c->width % c->lookup_bits)
        return fur_error_set(error, FUR_E_ARGUMENT, "look-up maps of %lld bits: they do not divide the width of %lld",
                             (long long)c->lookup_bits, (long long)c->width);
    FUR_TRY(check_range(error, "lookup_down_bits of look-up maps", c->lookup_down_bits, 1, FUR_LOOKUP_MOST_BITS));
    if (ffn && c->hidden % c->lookup_down_bits)
        return fur_error_set(error, FUR_E_ARGUMENT,
                             "look-up maps of %lld bits: they do not divide the feedforward's hidden width of %lld",
                             (long long)c->lookup_down_bits, (long long)c->hidden);
    if (qkvo && c->heads * c->head_dim != c->width)
        return fur_error_set(
            error, FUR_E_ARGUMENT,
            "look-up maps for q, k and v, and none for o: %lld heads of %lld are not the width of %lld",
            (long long)c->heads, (long long)c->head_dim, (long long)c->width);
    FUR_TRY(check_range(error, "table_type of look-up maps", (int64_t)c->table_type, FUR_TABLE_F32, FUR_TABLE_INT8));
    if (!(c->lookup_temperature >= 1e-6 && c->lookup_temperature <= 1e3) && !(fabs(c->lookup_temperature) <= 0))
        return fur_error_set(error, FUR_E_ARGUMENT,
                             "lookup_temperature is %g, expected 0 (the released score), or 1e-6 to 1000",
                             c->lookup_temperature);
    if (c->lookup_two_rows && !(c->lookup_temperature > 0) && (c->lookup_bits < 2 || (ffn && c->lookup_down_bits < 2)))
        return fur_error_set(
            error, FUR_E_ARGUMENT,
            "two rows a table of one bit: the released score needs none there; expected 2 bits or more");
    return FUR_OK;
}

static fur_status check_attention(fur_error *error, const fur_model_config *c)
{
    for (int64_t layer = 0; layer < c->layers; layer++)
        FUR_TRY(check_range(error, "window of a layer", c->window[layer], 0, (int64_t)1 << 40));
    FUR_TRY(check_range(error, "sink_tokens", c->sink_tokens, 0, (int64_t)1 << 40));
    FUR_TRY(check_range(error, "position type", (int64_t)c->position, FUR_POSITION_LEARNED, FUR_POSITION_ALIBI));
    if (!(c->softcap >= 0 && c->softcap < 1e6) || !(c->logit_softcap >= 0 && c->logit_softcap < 1e6))
        return fur_error_set(error, FUR_E_ARGUMENT,
                             "softcap %g, logit_softcap %g, expected 0 (none) or above, below 1e6", c->softcap,
                             c->logit_softcap);
    if (c->logit_softcap > 0 && c->features)
        return fur_error_set(error, FUR_E_ARGUMENT, "logit_softcap of a model over real vectors, which has no logits");
    if (!(fabs(c->query_scalar) <= 0) && !(c->query_scalar >= 1e-6 && c->query_scalar <= 1e9))
        return fur_error_set(error, FUR_E_ARGUMENT, "query_scalar %g, expected 0 (head_dim), or 1e-6 to 1e9",
                             c->query_scalar);
    for (int64_t layer = 0; layer < c->layers; layer++)
        if (c->rope_local[layer] &&
            !(c->position == FUR_POSITION_ROPE && c->local_rope_theta > 1 && c->local_rope_theta < 1e12))
            return fur_error_set(error, FUR_E_ARGUMENT,
                                 "layer %lld has a RoPE base of its own, %g: expected RoPE, and 1 to 1e12",
                                 (long long)layer, c->local_rope_theta);
    if (c->scaled_embedding && c->features)
        return fur_error_set(error, FUR_E_ARGUMENT, "scaled embeddings of a model over real vectors, which has none");
    if (c->norm_offset && c->norm != FUR_NORM_RMSNORM)
        return fur_error_set(error, FUR_E_ARGUMENT, "norm weights stored less 1: expected RMSNorm");
    if (!is_rate(c->dropout) || !is_rate(c->embedding_dropout) || !is_rate(c->attention_dropout))
        return fur_error_set(
            error, FUR_E_ARGUMENT,
            "dropout %.9g, embedding_dropout %.9g, attention_dropout %.9g, expected 0 or above, below 1 in f32",
            c->dropout, c->embedding_dropout, c->attention_dropout);
    return fur_rope_scaling_check(error, c, &c->rope_scaling);
}

fur_status fur_config_check(fur_context *context, const fur_model_config *c)
{
    fur_error *error = &context->error;
    FUR_TRY(check_input_and_output(error, c));
    FUR_TRY(check_range(error, "context", c->context, 1, (int64_t)1 << 40));
    FUR_TRY(check_range(error, "width", c->width, 1, 65536));
    FUR_TRY(check_range(error, "layers", c->layers, 1, FUR_MAX_LAYERS));
    FUR_TRY(check_range(error, "heads", c->heads, 1, 4096));
    FUR_TRY(check_range(error, "kv_heads", c->kv_heads, 1, c->heads));
    FUR_TRY(check_range(error, "head_dim", c->head_dim, 1, 1024));
    FUR_TRY(check_range(error, "hidden", c->hidden, 1, (int64_t)1 << 20));
    if (c->heads % c->kv_heads)
        return fur_error_set(error, FUR_E_ARGUMENT, "%lld heads do not divide into %lld key heads", (long long)c->heads,
                             (long long)c->kv_heads);
    if (c->position == FUR_POSITION_ROPE && c->head_dim % 2)
        return fur_error_set(error, FUR_E_ARGUMENT, "RoPE needs an even head_dim, it is %lld", (long long)c->head_dim);
    if (c->position == FUR_POSITION_LEARNED)
        FUR_TRY(check_range(error, "context with learned positions", c->context, 1, (int64_t)1 << 24));
    if (!(c->norm_eps > 0 && c->norm_eps < 1) || !(c->rope_theta > 1 && c->rope_theta < 1e12) ||
        !(c->init_std > 0 && c->init_std < 10))
        return fur_error_set(error, FUR_E_ARGUMENT,
                             "norm_eps %g, rope_theta %g or init_std %g is outside (0,1), (1,1e12), (0,10)",
                             c->norm_eps, c->rope_theta, c->init_std);
    FUR_TRY(check_attention(error, c));
    for (int64_t layer = 0; layer < c->layers; layer++)
        FUR_TRY(
            check_range(error, "attention kind of a layer", c->attention[layer], 0, fur_attention_kind_count() - 1));
    if (fur_config_has_far(c))
        FUR_TRY(check_far(error, c));
    FUR_TRY(check_range(error, "projection kind", c->projection_qkvo, 0, fur_projection_kind_count() - 1));
    FUR_TRY(check_range(error, "projection kind", c->projection_ffn, 0, fur_projection_kind_count() - 1));
    if ((c->projection_ffn == FUR_PROJECTION_LOOKUP) != (c->activation == FUR_ACTIVATION_NORM))
        return fur_error_set(error, FUR_E_ARGUMENT,
                             "a norm in place of the activation goes with look-up maps in the feedforward, and only "
                             "with them");
    if (fur_config_has_lookup(c))
        FUR_TRY(check_lookup(error, c));
    FUR_TRY(fur_config_check_lora(error, c));
    if (fur_config_parameter_count(c) > (int64_t)1 << 40)
        return fur_error_set(error, FUR_E_ARGUMENT, "the model has more than 2^40 parameters");
    return FUR_OK;
}

const char *fur_position_name(int type)
{
    static const char *const names[] = {"learned", "rope", "alibi"};
    return type >= FUR_POSITION_LEARNED && type <= FUR_POSITION_ALIBI ? names[type] : NULL;
}

const char *fur_activation_name(int type)
{
    static const char *const names[] = {"gelu_tanh", "swiglu", "norm", "geglu"};
    return type >= FUR_ACTIVATION_GELU_TANH && type <= FUR_ACTIVATION_GEGLU ? names[type] : NULL;
}

const char *fur_table_type_name(int type)
{
    static const char *const names[] = {"f32", "bf16", "int8"};
    return type >= FUR_TABLE_F32 && type <= FUR_TABLE_INT8 ? names[type] : NULL;
}

bool fur_table_type_find(const char *name, fur_table_type *out)
{
    for (int type = 0; fur_table_type_name(type); type++)
        if (strcmp(fur_table_type_name(type), name) == 0) {
            *out = (fur_table_type)type;
            return true;
        }
    return false;
}

const char *fur_attention_kind_name(int index)
{
    return index >= 0 && index < fur_attention_kind_count() ? fur_attention_kind_at(index)->name : NULL;
}

const char *fur_projection_kind_name(int index)
{
    return index >= 0 && index < fur_projection_kind_count() ? fur_projection_kind_at(index)->name : NULL;
}

/* Index of the kind whose name is the `length` bytes at `name`; an error lists what there is. */
static fur_status find_kind(fur_error *error, const char *option, const char *(*kind_name)(int), const char *name,
                            size_t length, char *out)
{
    char known[256] = "";
    for (int i = 0; kind_name(i); i++) {
        if (strlen(kind_name(i)) == length && strncmp(kind_name(i), name, length) == 0) {
            *out = (char)i;
            return FUR_OK;
        }
        size_t used = strlen(known);
        snprintf(known + used, sizeof known - used, "%s%s", used ? ", " : "", kind_name(i));
    }
    return fur_error_set(error, FUR_E_ARGUMENT, "%s: unknown kind '%.*s', there is: %s", option, (int)length, name,
                         known);
}

fur_status fur_config_layer_range(fur_error *error, const fur_model_config *config, const char *option,
                                  const char *range, int64_t *first, int64_t *last)
{
    char *end;
    *first = *last = strtoll(range, &end, 10);
    if (end == range)
        return fur_error_set(error, FUR_E_ARGUMENT, "%s: bad layers after '@'", option);
    if (*end == '-')
        *last = strtoll(end + 1, &end, 10);
    if (*end || *first < 0 || *last < *first || *last >= config->layers)
        return fur_error_set(error, FUR_E_ARGUMENT, "%s: layers '%s', expected FIRST-LAST within 0-%lld", option, range,
                             (long long)config->layers - 1);
    return FUR_OK;
}

/* "KIND" or "KIND@FIRST[-LAST]" */
static fur_status set_attention_part(fur_context *context, fur_model_config *config, const char *part, size_t length)
{
    fur_error *error = &context->error;
    const char *at = memchr(part, '@', length);
    char kind;
    FUR_TRY(find_kind(error, "--attention", fur_attention_kind_name, part, at ? (size_t)(at - part) : length, &kind));
    int64_t first = 0, last = config->layers - 1;
    if (at) {
        char range[64];
        size_t range_length = length - (size_t)(at + 1 - part);
        if (range_length == 0 || range_length >= sizeof range)
            return fur_error_set(error, FUR_E_ARGUMENT, "--attention: bad layers after '@'");
        memcpy(range, at + 1, range_length);
        range[range_length] = 0;
        FUR_TRY(fur_config_layer_range(error, config, "--attention", range, &first, &last));
    }
    for (int64_t layer = first; layer <= last; layer++)
        config->attention[layer] = kind;
    return FUR_OK;
}

fur_status fur_config_set_parts(fur_context *context, fur_model_config *config, const char *spec,
                                fur_config_set_part_fn set)
{
    fur_model_config changed = *config;
    for (const char *part = spec;; part++) {
        size_t length = strcspn(part, ",");
        FUR_TRY(set(context, &changed, part, length));
        part += length;
        if (!*part)
            break;
    }
    *config = changed;
    return FUR_OK;
}

fur_status fur_config_set_attention(fur_context *context, fur_model_config *config, const char *spec)
{
    fur_model_config before = *config;
    FUR_TRY(fur_config_set_parts(context, config, spec, set_attention_part));
    for (int64_t layer = 0; layer < config->layers; layer++)
        if (fur_config_is_almost_linear(config, layer) && !fur_config_is_almost_linear(&before, layer) &&
            !config->window[layer])
            config->window[layer] = FUR_FAR_DEFAULT_WINDOW;
        else if (!fur_config_is_almost_linear(config, layer) && fur_config_is_almost_linear(&before, layer))
            config->window[layer] = 0; /* it was of another meaning */
    if (fur_config_has_far(config))
        fur_config_far_defaults(config);
    return FUR_OK;
}

fur_status fur_config_set_projection(fur_context *context, fur_model_config *config, const char *spec)
{
    fur_model_config changed = *config;
    for (const char *part = spec;; part++) {
        size_t length = strcspn(part, ",");
        const char *equals = memchr(part, '=', length);
        size_t map = equals ? (size_t)(equals - part) : 0;
        const char *kind = equals ? equals + 1 : part;
        bool all = !equals, qkvo = map == 4 && strncmp(part, "qkvo", 4) == 0,
             ffn = map == 3 && !strncmp(part, "ffn", 3);
        if (!all && !qkvo && !ffn)
            return fur_error_set(&context->error, FUR_E_ARGUMENT,
                                 "--projection: '%.*s', expected ffn=KIND or qkvo=KIND", (int)length, part);
        char index;
        FUR_TRY(find_kind(&context->error, "--projection", fur_projection_kind_name, kind,
                          length - (size_t)(kind - part), &index));
        if ((all || ffn) && index == FUR_PROJECTION_DENSE && changed.projection_ffn == FUR_PROJECTION_LOOKUP)
            return fur_error_set(
                &context->error, FUR_E_ARGUMENT,
                "--projection: this feedforward has tables and no activation; for a dense one choose a "
                "preset without -lookup or -hybrid");
        if (index == FUR_PROJECTION_LOOKUP)
            fur_config_make_lookup(&changed, all || qkvo, all || ffn);
        else if (all || qkvo)
            changed.projection_qkvo = index;
        part += length;
        if (!*part)
            break;
    }
    if (!fur_config_has_lookup(config))
        fur_config_lookup_rows(&changed);
    *config = changed;
    return FUR_OK;
}
