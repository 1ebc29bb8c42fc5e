/* SPDX-License-Identifier: Apache-2.0 */
/* RoPE in a config.json, in each of the forms that transformers has had: rope_theta and rope_scaling, with type or
 * rope_type; rope_parameters, with rope_theta in it; and that by type of layer. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "model/config.h"
#include "model/family.h"

fur_family_key fur_family_key_of(const char *object, const char *name)
{
    fur_family_key key;
    snprintf(key.text, sizeof key.text, "%s.%s", object, name);
    return key;
}

/* In the words of transformers; defaults are left to it, as to us. */
json_t *fur_family_scaling_json(const fur_model_config *c)
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
        if (s->unrounded)
            json_object_set_new(json, "truncate", json_false());
    }
    if (s->type == FUR_ROPE_LLAMA3) {
        json_object_set_new(json, "low_freq_factor", json_real(s->low_freq_factor > 0 ? s->low_freq_factor : 1));
        json_object_set_new(json, "high_freq_factor", json_real(s->high_freq_factor > 0 ? s->high_freq_factor : 4));
    }
    return json;
}

/* What YaRN's two mscales come to, where a file gives these instead of attention_factor. */
static fur_status read_yarn(fur_error *error, const fur_json *j, const char *object, fur_rope_scaling *s)
{
    double mscale, all;
    bool truncate;
    FUR_TRY(fur_json_number_or(error, j, fur_family_key_of(object, "attention_factor").text, 0, 1e6, 0,
                               &s->attention_factor));
    FUR_TRY(fur_json_number_or(error, j, fur_family_key_of(object, "beta_fast").text, 1e-6, 1e9, 32, &s->beta_fast));
    FUR_TRY(fur_json_number_or(error, j, fur_family_key_of(object, "beta_slow").text, 1e-6, 1e9, 1, &s->beta_slow));
    FUR_TRY(fur_json_number_or(error, j, fur_family_key_of(object, "mscale").text, 0, 1e6, 0, &mscale));
    FUR_TRY(fur_json_number_or(error, j, fur_family_key_of(object, "mscale_all_dim").text, 0, 1e6, 0, &all));
    FUR_TRY(fur_json_bool_or(error, j, fur_family_key_of(object, "truncate").text, true, &truncate));
    s->unrounded = !truncate;
    if (!(s->attention_factor > 0) && mscale > 0 && all > 0)
        s->attention_factor = (0.1 * mscale * log(s->factor) + 1) / (0.1 * all * log(s->factor) + 1);
    return FUR_OK;
}

fur_status fur_family_read_scaling(fur_error *error, const fur_json *j, const char *object, bool transformers,
                                   fur_model_config *c)
{
    fur_rope_scaling *s = &c->rope_scaling;
    const char *type;
    FUR_TRY(fur_json_string_or(error, j, fur_family_key_of(object, "type").text, "", &type)); /* older files */
    FUR_TRY(fur_json_string_or(error, j, fur_family_key_of(object, "rope_type").text, type, &type));
    if (!*type && strcmp(object, "rope_scaling") == 0 && fur_json_find(j, object)) /* a scaling of no kind */
        return fur_json_string(error, j, "rope_scaling.rope_type", &type);
    if (!*type)
        return FUR_OK;
    if (strcmp(type, "default") == 0)
        return FUR_OK;
    int kind = FUR_ROPE_LINEAR;
    while (fur_rope_scaling_name(kind) && strcmp(fur_rope_scaling_name(kind), type) != 0)
        kind++;
    if (!fur_rope_scaling_name(kind) || (transformers && kind == FUR_ROPE_NTK))
        return fur_family_refuse(error, j, fur_family_key_of(object, "rope_type").text, type,
                                 "linear, dynamic, yarn and llama3");
    s->type = (fur_rope_scaling_type)kind;
    FUR_TRY(fur_json_number(error, j, fur_family_key_of(object, "factor").text, 1, 1e6, &s->factor));
    if (fur_rope_scaling_has_original(s->type))
        FUR_TRY(fur_json_int_or(error, j, fur_family_key_of(object, "original_max_position_embeddings").text, 1,
                                FUR_FAMILY_MOST_SIZE, c->context, &s->original_context));
    if (transformers && (s->type == FUR_ROPE_YARN || s->type == FUR_ROPE_LLAMA3)) /* where a file has both, this one */
        FUR_TRY(fur_json_int_or(error, j, "original_max_position_embeddings", 1, FUR_FAMILY_MOST_SIZE,
                                s->original_context, &s->original_context));
    if (transformers && s->type == FUR_ROPE_DYNAMIC)
        s->original_context = c->context; /* all that transformers asks */
    if (s->type == FUR_ROPE_YARN)
        FUR_TRY(read_yarn(error, j, object, s));
    if (s->type == FUR_ROPE_LLAMA3) {
        FUR_TRY(fur_json_number(error, j, fur_family_key_of(object, "low_freq_factor").text, 1e-6, 1e9,
                                &s->low_freq_factor));
        FUR_TRY(fur_json_number(error, j, fur_family_key_of(object, "high_freq_factor").text, 1e-6, 1e9,
                                &s->high_freq_factor));
    }
    return FUR_OK;
}

/* rope_parameters has one object for all layers, or one for each type of layer. */
static fur_status check_form(fur_error *error, const fur_json *j, const fur_family *family)
{
    bool by_type =
        fur_json_find(j, "rope_parameters.full_attention") || fur_json_find(j, "rope_parameters.sliding_attention");
    const json_t *object = fur_json_find(j, "rope_parameters");
    if (object && !json_is_object(object))
        return fur_error_set(error, FUR_E_FORMAT, "%s: rope_parameters: expected an object", j->name);
    if (by_type && !family->local_rope)
        return fur_family_refuse(error, j, "rope_parameters", "by type of layer",
                                 "one RoPE for all layers of this family");
    if (object && !by_type && family->local_rope && json_object_size(object) > 0)
        return fur_error_set(error, FUR_E_FORMAT, "%s: rope_parameters: expected full_attention and sliding_attention",
                             j->name);
    return FUR_OK;
}

/* Of layers with a window. */
static fur_status read_local(fur_error *error, const fur_json *j, const fur_family *family, fur_model_config *c)
{
    const char *object = "rope_parameters.sliding_attention", *type;
    FUR_TRY(fur_json_string_or(error, j, fur_family_key_of(object, "rope_type").text, "default", &type));
    if (strcmp(type, "default") != 0)
        return fur_family_refuse(error, j, fur_family_key_of(object, "rope_type").text, type,
                                 "plain RoPE in layers with a window");
    double base = family->defaults.local_rope_theta;
    FUR_TRY(fur_json_number_or(error, j, family->keys.local_rope_theta, 1.001, 1e12, base, &base));
    return fur_json_number_or(error, j, fur_family_key_of(object, "rope_theta").text, 1.001, 1e12, base,
                              &c->local_rope_theta);
}

fur_status fur_family_read_rope(fur_error *error, const fur_json *j, const fur_family *family, fur_model_config *c)
{
    const char *parameters = family->local_rope ? "rope_parameters.full_attention" : "rope_parameters";
    const char *object = fur_json_find(j, "rope_scaling") ? "rope_scaling" : parameters;
    double share = family->defaults.rope_share, base = family->defaults.rope_theta;
    FUR_TRY(check_form(error, j, family));
    FUR_TRY(fur_json_number_or(error, j, family->keys.rope_share, 0, 1, share, &share));
    FUR_TRY(fur_json_number_or(error, j, fur_family_key_of(object, "partial_rotary_factor").text, 0, 1, share, &share));
    if (share < 1)
        return fur_family_refuse(error, j, family->keys.rope_share, "below 1", "whole heads rotated");
    FUR_TRY(fur_json_number_or(error, j, family->keys.rope_theta, 1.001, 1e12, base, &base));
    if (family->local_rope) /* rope_scaling is added to it */
        FUR_TRY(
            fur_json_number_or(error, j, fur_family_key_of(parameters, "rope_theta").text, 1.001, 1e12, base, &base));
    FUR_TRY(
        fur_json_number_or(error, j, fur_family_key_of(object, "rope_theta").text, 1.001, 1e12, base, &c->rope_theta));
    FUR_TRY(fur_family_read_scaling(error, j, object, true, c));
    if (c->rope_scaling.type != FUR_ROPE_PLAIN && !family->rope_scalings)
        return fur_family_refuse(error, j, object, "set", "plain RoPE for this family");
    if (family->local_rope && c->rope_scaling.unrounded) /* transformers looks for it elsewhere, and rounds */
        return fur_family_refuse(error, j, fur_family_key_of(object, "truncate").text, "false",
                                 "bounds rounded to whole pairs for this family");
    return family->local_rope ? read_local(error, j, family, c) : FUR_OK;
}
