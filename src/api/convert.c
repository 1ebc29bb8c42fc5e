/* SPDX-License-Identifier: Apache-2.0 */
#include "furlong/convert.h"

#include <math.h>
#include <string.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "base/context.h"
#include "base/size.h"
#include "io/folder.h"
#include "model/config.h"
#include "model/family.h"
#include "text/gguf_vocabulary.h"

/* What a tokenizer is kept in, and how transformers is told to sample: copied where it is there. */
static const char *const companions[] = {
    "tokenizer.json", "tokenizer_config.json", "tokenizer.model", "special_tokens_map.json", "vocab.json",
    "merges.txt",     "generation_config.json"};

static fur_status copy_file(fur_error *error, const char *from, const char *to)
{
    enum { PIECE = 1 << 16 };
    fur_input input;
    fur_output *output = NULL;
    FUR_TRY(fur_input_open(error, from, &input));
    char *piece = fur_malloc(PIECE);
    fur_status status = piece ? fur_output_open(error, to, &output) : fur_memory_error(error, PIECE, from);
    for (int64_t at = 0; status == FUR_OK && at < input.bytes; at += PIECE) {
        int64_t bytes = fur_min_i64(PIECE, input.bytes - at);
        status = fur_input_read(error, &input, at, piece, bytes);
        if (status == FUR_OK)
            status = fur_output_write(error, output, piece, bytes);
    }
    fur_free(piece);
    fur_input_close(&input);
    if (status == FUR_OK)
        return fur_output_commit(error, output);
    fur_output_discard(output);
    return status;
}

/* A GGUF file, then; folders hold the others. */
static bool is_file(const char *path)
{
    struct stat about;
    return stat(path, &about) == 0 && !S_ISDIR(about.st_mode);
}

/* A file of the folder `from`, where it is there, to the folder `to`. */
static fur_status copy_from(fur_error *error, const char *from, const char *name, const char *to)
{
    char *source = NULL, *target = NULL;
    fur_status status = fur_path_join(error, from, name, &source);
    if (status == FUR_OK)
        status = fur_path_join(error, to, name, &target);
    if (status == FUR_OK && fur_path_exists(source))
        status = copy_file(error, source, target);
    fur_free(source);
    fur_free(target);
    return status;
}

/* Of a GGUF file its vocabulary, where it has one. */
static fur_status write_vocabulary(fur_context *context, const char *from, const char *to)
{
    fur_error *error = &context->error;
    fur_gguf *file;
    json_t *tokenizer = NULL, *config = NULL;
    FUR_TRY(fur_gguf_open(error, from, &file));
    fur_status status =
        fur_gguf_has_vocabulary(file) ? fur_gguf_vocabulary_json(error, file, &tokenizer, &config) : FUR_OK;
    fur_gguf_close(file);
    if (status == FUR_E_UNSUPPORTED) {
        fur_log(context, FUR_LOG_WARNING, "%s: no tokenizer is written: %s", to, error->text);
        return FUR_OK;
    }
    if (status == FUR_OK && tokenizer) {
        status = fur_json_put(error, to, "tokenizer.json", tokenizer);
        tokenizer = NULL; /* taken */
    }
    if (status == FUR_OK && config) {
        status = fur_json_put(error, to, "tokenizer_config.json", config);
        config = NULL;
    }
    json_decref(tokenizer);
    json_decref(config);
    return status;
}

/* Weights in the types they had. A file of another family says of itself what we may have no words for: it is kept. */
/* merged: weights are sums that the types of `from` would round, and the config may be another one. */
static fur_status write_model(fur_error *error, const fur_model *model, const char *from, bool merged, const char *to)
{
    char *path = NULL;
    fur_status status = fur_path_join(error, to, "model.safetensors", &path);
    if (status == FUR_OK)
        status = merged ? fur_weights_write(error, model, model->data, path, NULL)
                        : fur_weights_write_as(error, model, from, path);
    fur_free(path);
    FUR_TRY(status);
    if (*model->config.family && !merged && !is_file(from))
        return copy_from(error, from, "config.json", to);
    fur_json_setup();
    return fur_json_put(error, to, "config.json", fur_config_to_json(&model->config));
}

static fur_status copy_companions(fur_error *error, const char *from, const char *to)
{
    for (size_t i = 0; i < sizeof companions / sizeof companions[0]; i++)
        FUR_TRY(copy_from(error, from, companions[i], to));
    return FUR_OK;
}

static fur_status tensor_bytes(fur_error *error, const char *folder, int64_t *bytes)
{
    fur_tensor_source *source;
    FUR_TRY(fur_tensor_source_open(error, folder, &source));
    *bytes = 0;
    for (int64_t i = 0; i < fur_tensor_source_count(source); i++)
        *bytes += fur_tensor_source_at(source, i)->bytes;
    fur_tensor_source_close(source);
    return FUR_OK;
}

static fur_status find_type(fur_error *error, const fur_model *model, const char *from, const char *name,
                            fur_table_type *out)
{
    *out = model->config.table_type;
    if (!name)
        return FUR_OK;
    if (!fur_config_has_lookup(&model->config))
        return fur_error_set(error, FUR_E_ARGUMENT, "%s: the model has no look-up tables that could be stored as %s",
                             from, name);
    if (!fur_table_type_find(name, out))
        return fur_error_set(error, FUR_E_ARGUMENT, "tables of type '%s', expected f32, bf16 or int8", name);
    return FUR_OK;
}

static fur_status check_stop(fur_context *context, const char *to)
{
    if (!atomic_load(&context->stop))
        return FUR_OK;
    return fur_error_set(&context->error, FUR_E_INTERRUPTED, "stopped: %s was not written", to);
}

/* One table's figures. The scratch of its writer is made here, since no file is written yet. */
static fur_status measure(fur_error *error, const fur_model *model, const fur_parameter *p, fur_table_type type,
                          fur_converted_table *out)
{
    fur_table_writer writer = fur_model_table_writer(model, p, model->data, type);
    *out = (fur_converted_table){.name = p->name,
                                 .rows = p->shape[0],
                                 .columns = p->shape[1],
                                 .bytes_before = fur_parameter_file_bytes(p, (fur_table_type)writer.rows->type),
                                 .bytes_after = fur_parameter_file_bytes(p, (fur_table_type)writer.type)};
    int64_t bytes = p->shape[1] * (int64_t)sizeof(float);
    writer.row = fur_malloc((size_t)bytes);
    writer.coded = fur_malloc((size_t)bytes);
    fur_status status = writer.row && writer.coded
                            ? fur_table_rounding(error, &writer, &out->largest_error, &out->error_norm)
                            : fur_memory_error(error, 2 * bytes, p->name);
    fur_free(writer.row);
    fur_free(writer.coded);
    return status;
}

static fur_status measure_all(fur_context *context, const fur_model *model, const char *to, fur_converted_fn on_table,
                              void *user, fur_conversion *out)
{
    for (int64_t i = 0; i < model->table.count; i++) {
        const fur_parameter *p = &model->table.list[i];
        fur_converted_table table;
        if (!p->table)
            continue;
        FUR_TRY(check_stop(context, to));
        FUR_TRY(measure(&context->error, model, p, out->table_type, &table));
        out->tables++;
        out->largest_error = fmax(out->largest_error, table.largest_error);
        if (on_table)
            on_table(user, &table);
    }
    return FUR_OK;
}

static fur_status write_folder(fur_context *context, const fur_model *model, const char *from, bool merged,
                               const char *to, fur_conversion *out)
{
    fur_error *error = &context->error;
    char *parent = NULL, *staging = NULL;
    fur_status status = fur_path_parent(error, to, &parent);
    if (status == FUR_OK)
        status = fur_folder_create(error, parent);
    if (status == FUR_OK)
        status = fur_folder_begin(error, to, &staging);
    if (status == FUR_OK) {
        status = write_model(error, model, from, merged, staging);
        if (status == FUR_OK)
            status = is_file(from) ? write_vocabulary(context, from, staging) : copy_companions(error, from, staging);
        if (status == FUR_OK)
            status = tensor_bytes(error, staging, &out->bytes_after);
        if (status == FUR_OK)
            status = check_stop(context, to);
        if (status == FUR_OK)
            status = fur_folder_publish(error, staging, to);
        else
            fur_folder_remove(staging);
    }
    fur_free(parent);
    fur_free(staging);
    return status;
}

fur_status fur_model_convert(fur_context *context, const char *from, const char *to, const char *table_type,
                             fur_converted_fn on_table, void *user, fur_conversion *out)
{
    fur_error *error = &context->error;
    fur_model *model;
    char *base = NULL; /* of adapters, which become part of the maps */
    memset(out, 0, sizeof *out);
    if (fur_path_exists(to))
        return fur_error_set(error, FUR_E_ARGUMENT, "%s exists already", to);
    FUR_TRY(fur_model_open(context, from, &model));
    fur_status status = find_type(error, model, from, table_type, &out->table_type);
    if (status == FUR_OK && model->base && !(base = fur_format("%s", model->base)))
        status = fur_memory_error(error, 4096, from);
    if (base)
        from = base;
    if (status == FUR_OK)
        status = fur_model_merge(context, &model);
    if (status == FUR_OK)
        status = tensor_bytes(error, from, &out->bytes_before);
    if (status == FUR_OK)
        status = measure_all(context, model, to, on_table, user, out);
    if (status == FUR_OK) {
        model->config.table_type = out->table_type; /* what is written; its rows know what they are */
        status = write_folder(context, model, from, base != NULL, to, out);
    }
    fur_model_destroy(model);
    fur_free(base);
    return status;
}
