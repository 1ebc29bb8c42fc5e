/* SPDX-License-Identifier: Apache-2.0 */
/* GGUF files: models into them, and what is in them. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "base/context.h"
#include "base/size.h"
#include "furlong/convert.h"
#include "io/file.h"
#include "model/family.h"
#include "model/gguf.h"
#include "text/gguf_vocabulary.h"

/* ---- writing ----------------------------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    fur_dtype dtype;
    int64_t file_type; /* llama.cpp's number of it */
} types[] = {{"f32", FUR_DTYPE_F32, 0}, {"bf16", FUR_DTYPE_BF16, 32}, {"q8_0", FUR_DTYPE_Q8_0, 7}};
enum { TYPES = sizeof types / sizeof types[0] };

/* What the folder or file is called, without an end of ".gguf". */
static void put_name(const char *from, fur_gguf_builder *values)
{
    char name[128];
    size_t length = strlen(from);
    while (length > 1 && from[length - 1] == '/')
        length--;
    snprintf(name, sizeof name, "%.*s", (int)fur_min_i64((int64_t)length, 127), from);
    const char *last = fur_path_name(name);
    char *end = strstr(name, ".gguf");
    if (end && end > last)
        *end = 0;
    if (*last && strcmp(last, ".") != 0 && strcmp(last, "..") != 0)
        fur_gguf_put_text(values, "general.name", last);
}

/* From the tokenizer's files, or as another GGUF file has it. */
static fur_status put_vocabulary(fur_error *error, const char *from, const fur_model *model, fur_gguf_builder *values,
                                 fur_gguf_written *out)
{
    fur_gguf_reason why = {0};
    fur_gguf *file;
    if (!fur_is_gguf(from)) {
        FUR_TRY(fur_gguf_vocabulary_values(error, from, model->config.vocabulary, values, &why));
    } else {
        FUR_TRY(fur_gguf_open(error, from, &file));
        if (!fur_gguf_has_vocabulary(file))
            snprintf(why.text, sizeof why.text, "the file it comes from has none");
        fur_status status = fur_gguf_vocabulary_copy(error, file, values);
        fur_gguf_close(file);
        FUR_TRY(status);
    }
    out->vocabulary = !*why.text;
    memcpy(out->no_vocabulary, why.text, sizeof why.text);
    return FUR_OK;
}

static fur_status write_model(fur_context *context, const fur_model *model, const char *from, const char *to, int type,
                              fur_gguf_written *out)
{
    fur_error *error = &context->error;
    fur_gguf_builder values = {0};
    fur_status status = fur_gguf_config_values(error, &model->config, &values);
    if (status == FUR_E_UNSUPPORTED)
        fur_error_prefix(error, "%s", from);
    if (status == FUR_OK) {
        put_name(from, &values);
        fur_gguf_put_u32(&values, "general.file_type", types[type].file_type);
        if (types[type].dtype == FUR_DTYPE_Q8_0)
            fur_gguf_put_u32(&values, "general.quantization_version", 2);
        status = put_vocabulary(error, from, model, &values, out);
    }
    if (status == FUR_OK && atomic_load(&context->stop))
        status = fur_error_set(error, FUR_E_INTERRUPTED, "stopped: %s was not written", to);
    if (status == FUR_OK)
        status = fur_gguf_weights_write(error, model, to, &values, types[type].dtype, &out->kept);
    fur_gguf_builder_clear(&values);
    return status;
}

fur_status fur_model_write_gguf(fur_context *context, const char *from, const char *to, const char *type,
                                fur_gguf_written *out)
{
    fur_error *error = &context->error;
    fur_model *model;
    struct stat about;
    int at = 0;
    memset(out, 0, sizeof *out);
    while (at < TYPES && strcmp(types[at].name, type) != 0)
        at++;
    if (at == TYPES)
        return fur_error_set(error, FUR_E_ARGUMENT, "tensors of type '%s', expected f32, bf16 or q8_0", type);
    if (fur_path_exists(to))
        return fur_error_set(error, FUR_E_ARGUMENT, "%s exists already", to);
    FUR_TRY(fur_model_load(context, from, &model));
    char *base = NULL; /* of adapters, which become part of the maps */
    fur_status status = FUR_OK;
    if (model->base && !(base = fur_format("%s", model->base)))
        status = fur_memory_error(error, 4096, from);
    if (status == FUR_OK)
        status = fur_model_merge(context, &model);
    if (status == FUR_OK)
        status = write_model(context, model, base ? base : from, to, at, out);
    fur_free(base);
    if (status == FUR_OK) {
        out->architecture = fur_gguf_family_of(&model->config)->gguf;
        out->tensors = model->table.count;
        out->bytes = stat(to, &about) == 0 ? (int64_t)about.st_size : 0;
    }
    fur_model_destroy(model);
    return status;
}

/* ---- reading ----------------------------------------------------------------------------------------------------- */

bool fur_is_gguf(const char *path)
{
    bool is = false;
    struct stat about;
    if (stat(path, &about) != 0 || S_ISDIR(about.st_mode))
        return false;
    return fur_gguf_is(NULL, path, &is) == FUR_OK && is;
}

/* An element's text at the end of `to`, and how far it goes in the file; 0 once there is no more room. */
static int64_t element_text(const fur_gguf *file, const fur_gguf_value *value, int64_t offset, char *to, size_t room)
{
    unsigned char bytes[8] = {0};
    char text[48] = "";
    int64_t length, size = value->array ? value->bytes / (value->count > 0 ? value->count : 1) : value->bytes;
    uint64_t bits = 0;
    float narrow;
    double wide;
    if (value->type == FUR_GGUF_TEXT) {
        if (fur_input_read(NULL, fur_gguf_input(file), offset, bytes, 8) != FUR_OK)
            return 0;
        length = (int64_t)(bytes[0] | (uint64_t)bytes[1] << 8 | (uint64_t)bytes[2] << 16 | (uint64_t)bytes[3] << 24);
        int64_t shown = fur_min_i64(length, (int64_t)sizeof text - 1);
        if (length > FUR_GGUF_MAX_TEXT || fur_input_read(NULL, fur_gguf_input(file), offset + 8, text, shown) != FUR_OK)
            return 0;
        for (int64_t i = 0; i < shown; i++) /* one line, and nothing that a terminal would act on */
            text[i] = (char)((unsigned char)text[i] < ' ' || text[i] == 127 ? ' ' : text[i]);
        snprintf(to, room, "%s%s", text, shown < length ? "..." : "");
        return 8 + length;
    }
    if (size > 8 || fur_input_read(NULL, fur_gguf_input(file), offset, bytes, size) != FUR_OK)
        return 0;
    for (int i = 7; i >= 0; i--)
        bits = bits << 8 | bytes[i];
    memcpy(&narrow, bytes, sizeof narrow);
    memcpy(&wide, bytes, sizeof wide);
    int shift = 64 - 8 * (int)size;
    bool negative = value->type == FUR_GGUF_I8 || value->type == FUR_GGUF_I16 || value->type == FUR_GGUF_I32 ||
                    value->type == FUR_GGUF_I64;
    if (value->type == FUR_GGUF_F32 || value->type == FUR_GGUF_F64)
        snprintf(to, room, "%.7g", value->type == FUR_GGUF_F32 ? (double)narrow : wide);
    else if (value->type == FUR_GGUF_BOOL)
        snprintf(to, room, "%s", bits ? "true" : "false");
    else if (negative)
        snprintf(to, room, "%lld", (long long)((int64_t)(bits << shift) >> shift));
    else
        snprintf(to, room, "%llu", (unsigned long long)bits);
    return size;
}

static void tell_value(const fur_gguf *file, const fur_gguf_value *value, fur_gguf_item_fn on_item, void *user)
{
    char type[32], text[256] = "";
    size_t used = 0;
    int64_t offset = value->offset, i = 0;
    snprintf(type, sizeof type, "%s%s", value->array ? "array of " : "", fur_gguf_type_name(value->type));
    for (; i < value->count && i < 4 && used + 64 < sizeof text; i++) {
        int64_t step;
        if (i > 0)
            used += (size_t)snprintf(text + used, sizeof text - used, ", ");
        step = element_text(file, value, offset, text + used, sizeof text - used);
        used = strlen(text);
        if (step == 0)
            break;
        offset += step;
    }
    if (i < value->count)
        snprintf(text + used, sizeof text - used, ", ...");
    on_item(user, &(fur_gguf_item){
                      .name = value->key, .type = type, .count = value->count, .bytes = value->bytes, .text = text});
}

fur_status fur_gguf_describe(fur_context *context, const char *path, fur_gguf_item_fn on_item, void *user)
{
    fur_gguf *file;
    FUR_TRY(fur_gguf_open(&context->error, path, &file));
    for (int64_t i = 0; i < fur_gguf_values(file); i++)
        tell_value(file, fur_gguf_value_at(file, i), on_item, user);
    for (int64_t i = 0; i < fur_gguf_count(file); i++) {
        const fur_tensor_info *info = fur_gguf_at(file, i);
        fur_gguf_item item = {.name = info->name,
                              .type = fur_dtype_name(info->dtype),
                              .tensor = true,
                              .rank = info->rank,
                              .count = info->count,
                              .bytes = info->bytes};
        memcpy(item.shape, info->shape, sizeof item.shape);
        on_item(user, &item);
    }
    fur_gguf_close(file);
    return FUR_OK;
}
