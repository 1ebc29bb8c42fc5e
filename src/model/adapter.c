/* SPDX-License-Identifier: Apache-2.0 */
/* Adapters in PEFT's form: adapter_config.json and adapter_model.safetensors, beside a model that they are added to. */
#include "model/adapter.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/random.h"
#include "base/size.h"
#include "io/file.h"
#include "model/coded.h"
#include "model/config.h"
#include "model/family.h"

#define ADAPTER_CONFIG  "adapter_config.json"
#define ADAPTER_WEIGHTS "adapter_model.safetensors"

/* ---- the config ------------------------------------------------------------------------------------------- */

fur_status fur_config_check_lora(fur_error *error, const fur_model_config *c)
{
    const char *names[FUR_MOST_LORA_NAMES];
    unsigned whole = 0;
    if (c->lora_rank == 0)
        return FUR_OK;
    if (c->lora_rank < 0 || c->lora_rank > FUR_LORA_MOST_RANK || !(c->lora_alpha > 0 && c->lora_alpha < 1e6))
        return fur_error_set(error, FUR_E_ARGUMENT, "lora: rank %lld and alpha %g, expected 1 to %d and above 0",
                             (long long)c->lora_rank, c->lora_alpha, FUR_LORA_MOST_RANK);
    if (fur_config_has_lookup(c))
        return fur_error_set(error, FUR_E_UNSUPPORTED, "lora: adapters stand beside dense maps, this model has tables");
    int count = fur_config_lora_names(c, names);
    for (int i = 0; i < count; i++)
        whole |= fur_config_lora_target(c, names[i], strlen(names[i]));
    if (count == 0 || whole != c->lora_targets)
        return fur_error_set(error, FUR_E_ARGUMENT,
                             "lora: targets %#x are no modules of this family, which has tensors for %#x",
                             c->lora_targets, whole);
    return FUR_OK;
}

static fur_status add_target(fur_error *error, const fur_model_config *c, const char *word, size_t length,
                             unsigned *targets)
{
    unsigned found = fur_config_lora_target(c, word, length);
    *targets |= found;
    if (found)
        return FUR_OK;
    fur_model_config all = *c;
    const char *names[FUR_MOST_LORA_NAMES];
    char known[256] = "all-linear";
    all.lora_targets = fur_config_lora_target(c, "all-linear", strlen("all-linear"));
    for (int i = 0, count = fur_config_lora_names(&all, names); i < count; i++) {
        size_t used = strlen(known);
        snprintf(known + used, sizeof known - used, ", %s", names[i]);
    }
    return fur_error_set(error, FUR_E_ARGUMENT, "lora: unknown target '%.*s', there is: %s",
                         (int)(length < 100 ? length : 100), word, known);
}

fur_status fur_config_set_lora(fur_context *context, fur_model_config *config, int64_t rank, double alpha,
                               const char *targets)
{
    fur_model_config changed = *config;
    changed.lora_rank = rank;
    changed.lora_alpha = rank ? alpha : 0;
    changed.lora_targets = 0;
    for (const char *word = targets; rank; word++) {
        size_t length = strcspn(word, ",");
        FUR_TRY(add_target(&context->error, config, word, length, &changed.lora_targets));
        word += length;
        if (!*word)
            break;
    }
    FUR_TRY(fur_config_check_lora(&context->error, &changed));
    *config = changed;
    return FUR_OK;
}

/* ---- adapter_config.json ---------------------------------------------------------------------------------- */

/* What would make another map of the same tensors is refused by name; null, false and empty are "no". */
static fur_status check_plain(fur_error *error, const fur_json *json)
{
    static const char *const others[] = {
        "use_dora",        "use_rslora",          "modules_to_save",        "rank_pattern",
        "alpha_pattern",   "layers_to_transform", "layers_pattern",         "lora_bias",
        "exclude_modules", "target_parameters",   "trainable_token_indices"};
    const char *type, *bias;
    FUR_TRY(fur_json_string(error, json, "peft_type", &type));
    if (strcmp(type, "LORA") != 0)
        return fur_error_set(error, FUR_E_UNSUPPORTED, "%s: peft_type is '%.40s', expected LORA", json->name, type);
    FUR_TRY(fur_json_string_or(error, json, "bias", "none", &bias));
    if (strcmp(bias, "none") != 0)
        return fur_error_set(error, FUR_E_UNSUPPORTED, "%s: bias is '%.40s', expected none", json->name, bias);
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        const json_t *value = fur_json_find(json, others[i]);
        bool empty = !value || json_is_null(value) || json_is_false(value) ||
                     (json_is_object(value) && json_object_size(value) == 0) ||
                     (json_is_array(value) && json_array_size(value) == 0);
        if (!empty)
            return fur_error_set(error, FUR_E_UNSUPPORTED, "%s: %s is set, which these adapters do not have",
                                 json->name, others[i]);
    }
    return FUR_OK;
}

static fur_status read_targets(fur_error *error, const fur_json *json, fur_model_config *c)
{
    json_t *list = fur_json_find(json, "target_modules");
    if (json_is_string(list))
        return add_target(error, c, json_string_value(list), json_string_length(list), &c->lora_targets);
    if (!json_is_array(list))
        return fur_error_set(error, FUR_E_FORMAT, "%s: target_modules is %s, expected a list of names", json->name,
                             list ? "no list" : "missing");
    for (size_t i = 0; i < json_array_size(list); i++) {
        json_t *name = json_array_get(list, i);
        if (!json_is_string(name))
            return fur_error_set(error, FUR_E_FORMAT, "%s: target_modules[%zu] is no string", json->name, i);
        FUR_TRY(add_target(error, c, json_string_value(name), json_string_length(name), &c->lora_targets));
    }
    return FUR_OK;
}

static fur_status read_lora(fur_error *error, const fur_json *json, fur_model_config *c)
{
    FUR_TRY(check_plain(error, json));
    FUR_TRY(fur_json_int(error, json, "r", 1, FUR_LORA_MOST_RANK, &c->lora_rank));
    FUR_TRY(fur_json_number(error, json, "lora_alpha", 1e-6, 1e6, &c->lora_alpha));
    c->lora_targets = 0;
    FUR_TRY(read_targets(error, json, c));
    return fur_config_check_lora(error, c);
}

static bool has_file(fur_error *error, const char *folder, const char *name, fur_status *status)
{
    char *path = NULL;
    *status = fur_path_join(error, folder, name, &path);
    bool found = *status == FUR_OK && fur_path_exists(path);
    fur_free(path);
    return found;
}

static fur_status read_plain(fur_context *context, const char *folder, fur_model_config *out)
{
    char *path;
    FUR_TRY(fur_family_config(context, folder, out));
    FUR_TRY(fur_path_join(&context->error, folder, "generation_config.json", &path));
    fur_status status = fur_path_exists(path) ? fur_family_read_generation(&context->error, path, out) : FUR_OK;
    fur_free(path);
    return status;
}

fur_status fur_folder_config(fur_context *context, const char *folder, fur_model_config *out, char **base)
{
    fur_error *error = &context->error;
    char *path = NULL, *model = NULL;
    const char *name;
    fur_json json = {0};
    fur_status status;
    *base = NULL;
    bool adapted = has_file(error, folder, ADAPTER_CONFIG, &status);
    FUR_TRY(status);
    if (!adapted)
        return read_plain(context, folder, out);
    bool own = has_file(error, folder, "config.json", &status);
    if (status == FUR_OK)
        status = fur_path_join(error, folder, ADAPTER_CONFIG, &path);
    if (status == FUR_OK)
        status = fur_json_read(error, path, &json);
    if (status == FUR_OK)
        status = fur_json_string(error, &json, "base_model_name_or_path", &name);
    if (status == FUR_OK && !(model = fur_format("%s", name)))
        status = fur_memory_error(error, 4096, path);
    if (status == FUR_OK && !fur_path_exists(model))
        status = fur_error_set(error, FUR_E_FORMAT,
                               "%s: base_model_name_or_path is '%.200s', expected a folder that is there", path, model);
    if (status == FUR_OK)
        status = read_plain(context, own ? folder : model, out);
    if (status == FUR_OK)
        status = read_lora(error, &json, out);
    fur_json_clear(&json);
    fur_free(path);
    if (status == FUR_OK)
        *base = model;
    else
        fur_free(model);
    return status;
}

fur_status fur_config_read(fur_context *context, const char *path, fur_model_config *out)
{
    fur_model_config config;
    char *base;
    FUR_TRY(fur_folder_config(context, path, &config, &base));
    fur_free(base);
    *out = config;
    return FUR_OK;
}

fur_status fur_model_frozen_bytes(fur_context *context, const char *folder, const fur_model_config *config,
                                  int64_t *bytes)
{
    fur_model_config unused;
    char *base;
    FUR_TRY(fur_folder_config(context, folder, &unused, &base));
    fur_status status = fur_coded_forecast(&context->error, base ? base : folder, config, bytes);
    fur_free(base);
    return status;
}

fur_status fur_model_open_bytes(fur_context *context, const char *path, int64_t *bytes)
{
    fur_model_config config;
    char *base;
    FUR_TRY(fur_folder_config(context, path, &config, &base));
    fur_status status = fur_coded_forecast(&context->error, base ? base : path, &config, bytes);
    fur_free(base);
    return status;
}

static json_t *adapter_json(const fur_model *model)
{
    const fur_model_config *c = &model->config;
    const char *names[FUR_MOST_LORA_NAMES];
    int count = fur_config_lora_names(c, names);
    json_t *targets = json_array();
    for (int i = 0; i < count; i++)
        (void)json_array_append_new(targets, json_string(names[i]));
    bool turned = strcmp(fur_config_family(c), "gpt2") == 0;
    return json_pack("{s:s, s:s, s:s, s:I, s:f, s:f, s:s, s:b, s:b, s:o}", "peft_type", "LORA", "task_type",
                     "CAUSAL_LM", "base_model_name_or_path", model->base ? model->base : "", "r",
                     (json_int_t)c->lora_rank, "lora_alpha", c->lora_alpha, "lora_dropout", 0.0, "bias", "none",
                     "fan_in_fan_out", turned, "inference_mode", true, "target_modules", targets);
}

/* ---- weights ---------------------------------------------------------------------------------------------- */

void fur_model_draw_adapters(fur_model *model, uint64_t seed)
{
    for (int64_t i = 0; i < model->table.count; i++) {
        const fur_parameter *p = &model->table.list[i];
        if (p->adapter && p->init_std > 0)
            fur_random_normal(seed, (uint64_t)i, p->init_std, model->data + p->offset, p->count);
    }
}

fur_status fur_adapters_read(fur_error *error, const char *folder, fur_model *model)
{
    char *path;
    fur_safetensors *file = NULL;
    FUR_TRY(fur_path_join(error, folder, ADAPTER_WEIGHTS, &path));
    fur_status status = fur_safetensors_open(error, path, &file);
    int64_t adapters = 0;
    for (int64_t i = 0; status == FUR_OK && i < model->table.count; i++) {
        const fur_parameter *p = &model->table.list[i];
        if (!p->adapter)
            continue;
        adapters++;
        status = fur_safetensors_read_f32(error, file, p->name, p->rank, p->shape, true, model->data + p->offset);
        if (status == FUR_OK)
            status = fur_parameter_from_file(error, p, &model->config, model->data + p->offset);
    }
    if (status == FUR_OK && fur_safetensors_count(file) != adapters)
        status = fur_error_set(error, FUR_E_FORMAT,
                               "%s: %lld tensors, expected the %lld that target_modules of " ADAPTER_CONFIG " make",
                               path, (long long)fur_safetensors_count(file), (long long)adapters);
    fur_safetensors_close(file);
    fur_free(path);
    return status;
}

fur_status fur_adapters_write(fur_error *error, const fur_model *model, const char *folder)
{
    char *path;
    fur_json_setup();
    FUR_TRY(fur_path_join(error, folder, ADAPTER_WEIGHTS, &path));
    fur_status status = fur_weights_write(error, model, model->data, path, NULL);
    fur_free(path);
    return status == FUR_OK ? fur_json_put(error, folder, ADAPTER_CONFIG, adapter_json(model)) : status;
}

fur_status fur_model_load_lora(fur_context *context, const char *folder, const fur_model_config *adapters,
                               uint64_t seed, fur_model **out)
{
    *out = NULL;
    fur_model_config config;
    char *base;
    FUR_TRY(fur_folder_config(context, folder, &config, &base));
    bool adapted = base != NULL;
    fur_free(base);
    if (adapted)
        return fur_error_set(&context->error, FUR_E_ARGUMENT,
                             "%s: has adapters, which training goes on with; new ones need a model without", folder);
    config.lora_rank = adapters->lora_rank;
    config.lora_alpha = adapters->lora_alpha;
    config.lora_targets = adapters->lora_targets;
    fur_model *model;
    FUR_TRY(fur_model_allocate(context, &config, &model));
    fur_status status = fur_coded_begin(&context->error, model);
    if (status == FUR_OK)
        status = fur_weights_read(&context->error, folder, model);
    char whole[PATH_MAX];
    if (status == FUR_OK && !realpath(folder, whole))
        status = fur_io_error(&context->error, folder, "find", errno);
    if (status == FUR_OK && !(model->base = fur_format("%s", whole)))
        status = fur_memory_error(&context->error, PATH_MAX, folder);
    if (status != FUR_OK) {
        fur_model_destroy(model);
        return status;
    }
    fur_model_draw_adapters(model, seed);
    *out = model;
    return FUR_OK;
}

/* w += scale B A of one adapter's rows, in double. */
static void merge_adapter(const fur_projection *p, const fur_adapter *adapter, float *weight)
{
    int64_t rank = p->adapters.rank;
    for (int64_t o = 0; o < adapter->count; o++) {
        float *row = weight + (adapter->first + o) * p->in;
        for (int64_t i = 0; i < p->in; i++) {
            double sum = 0;
            for (int64_t r = 0; r < rank; r++)
                sum += (double)adapter->b_OR[o * rank + r] * (double)adapter->a_RI[r * p->in + i];
            row[i] = (float)((double)row[i] + (double)p->adapters.scale * sum);
        }
    }
}

fur_status fur_model_merge(fur_context *context, fur_model **model)
{
    fur_model *old = *model, *merged;
    fur_model_config config = old->config;
    if (config.lora_rank == 0)
        return FUR_OK;
    if (old->gradient)
        return fur_error_set(&context->error, FUR_E_BUSY, "a run holds this model's gradients");
    config.lora_rank = 0;
    config.lora_alpha = 0;
    config.lora_targets = 0;
    FUR_TRY(fur_model_allocate(context, &config, &merged));
    fur_model_move(old, merged);
    for (int64_t layer = 0; layer < config.layers; layer++)
        for (int i = 0; i < FUR_LAYER_MAPS; i++) {
            const fur_map_offsets *from = fur_layer_map(&old->table.layers[layer], i);
            const fur_map_offsets *to = fur_layer_map(&merged->table.layers[layer], i);
            fur_projection p = fur_map_at(from, old->data);
            for (int a = 0; a < p.adapters.count; a++)
                merge_adapter(&p, &p.adapters.list[a], merged->data + to->weight);
        }
    fur_model_destroy(old);
    *model = merged;
    return FUR_OK;
}
