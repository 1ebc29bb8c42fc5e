/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/size.h"
#include "io/file.h"
#include "io/json.h"
#include "io/name_table.h"
#include "io/safetensors.h"

struct fur_safetensors {
    fur_input input;
    fur_tensor_info *infos; /* in file order */
    int64_t count;
    fur_name_table by_name;
    json_t *header; /* owns the names and the metadata */
};

/* ---- opening -------------------------------------------------------------------------------------------------- */

/* Cut, so that a long name leaves room for the reason. */
#define NAME_FORMAT "%s: tensor \"%.120s\": "

static fur_status parse_shape(fur_error *error, const char *path, const json_t *value, fur_tensor_info *info)
{
    if (!json_is_array(value))
        return fur_error_set(error, FUR_E_FORMAT, NAME_FORMAT "\"shape\" is not an array", path, info->name);
    size_t rank = json_array_size(value);
    if (rank > FUR_MAX_RANK)
        return fur_error_set(error, FUR_E_FORMAT, NAME_FORMAT "%zu dimensions, expected at most %d", path, info->name,
                             rank, FUR_MAX_RANK);
    info->rank = (int)rank;
    for (int i = 0; i < info->rank; i++) {
        const json_t *size = json_array_get(value, (size_t)i);
        if (!json_is_integer(size) || json_integer_value(size) < 0)
            return fur_error_set(error, FUR_E_FORMAT, NAME_FORMAT "size %d of \"shape\" is not a whole number from 0",
                                 path, info->name, i);
        info->shape[i] = (int64_t)json_integer_value(size);
    }
    if (!fur_shape_count(info->rank, info->shape, &info->count) ||
        !fur_mul_ok(info->count, fur_dtype_bytes(info->dtype), &info->bytes)) {
        char text[160];
        fur_shape_text(info->rank, info->shape, text, sizeof text);
        return fur_error_set(error, FUR_E_FORMAT, NAME_FORMAT "shape %s overflows", path, info->name, text);
    }
    return FUR_OK;
}

/* Sets info->offset relative to the end of the header. */
static fur_status parse_range(fur_error *error, const char *path, const json_t *value, fur_tensor_info *info)
{
    const json_t *first = json_array_get(value, 0), *last = json_array_get(value, 1);
    if (json_array_size(value) != 2 || !json_is_integer(first) || !json_is_integer(last))
        return fur_error_set(error, FUR_E_FORMAT, NAME_FORMAT "\"data_offsets\" is not two whole numbers", path,
                             info->name);
    int64_t begin = (int64_t)json_integer_value(first), end = (int64_t)json_integer_value(last);
    if (begin < 0 || end < begin)
        return fur_error_set(error, FUR_E_FORMAT, NAME_FORMAT "\"data_offsets\" [%lld, %lld] is not a range", path,
                             info->name, (long long)begin, (long long)end);
    if (end - begin != info->bytes) {
        char text[160];
        fur_shape_text(info->rank, info->shape, text, sizeof text);
        return fur_error_set(error, FUR_E_FORMAT,
                             NAME_FORMAT "\"data_offsets\" [%lld, %lld] is %lld bytes, expected %lld for %s %s", path,
                             info->name, (long long)begin, (long long)end, (long long)(end - begin),
                             (long long)info->bytes, fur_dtype_name(info->dtype), text);
    }
    info->offset = begin;
    return FUR_OK;
}

static fur_status parse_entry(fur_error *error, const char *path, const char *name, const json_t *entry,
                              fur_tensor_info *info)
{
    info->name = name;
    if (!json_is_object(entry))
        return fur_error_set(error, FUR_E_FORMAT, NAME_FORMAT "expected an object", path, name);
    const json_t *dtype = json_object_get(entry, "dtype");
    const json_t *shape = json_object_get(entry, "shape");
    const json_t *range = json_object_get(entry, "data_offsets");
    if (json_object_size(entry) != 3 || !dtype || !shape || !range)
        return fur_error_set(error, FUR_E_FORMAT, NAME_FORMAT "expected exactly \"dtype\", \"shape\", \"data_offsets\"",
                             path, name);
    if (!json_is_string(dtype) || !fur_dtype_parse(json_string_value(dtype), &info->dtype))
        return fur_error_set(error, FUR_E_FORMAT, NAME_FORMAT "unknown dtype %.40s", path, name,
                             json_is_string(dtype) ? json_string_value(dtype) : "(not a string)");
    FUR_TRY(parse_shape(error, path, shape, info));
    return parse_range(error, path, range, info);
}

static fur_status check_metadata(fur_error *error, const char *path, json_t *metadata)
{
    if (metadata && !json_is_object(metadata))
        return fur_error_set(error, FUR_E_FORMAT, "%s: \"__metadata__\" is not an object", path);
    const char *key;
    json_t *value;
    json_object_foreach(metadata, key, value)
    {
        if (!json_is_string(value))
            return fur_error_set(error, FUR_E_FORMAT, "%s: \"__metadata__\" holds \"%.120s\", which is not a string",
                                 path, key);
    }
    return FUR_OK;
}

static int by_offset(const void *a, const void *b)
{
    const fur_tensor_info *x = a, *y = b;
    if (x->offset != y->offset)
        return x->offset < y->offset ? -1 : 1;
    if (x->bytes != y->bytes) /* empty tensors come before the one that begins where they lie */
        return x->bytes < y->bytes ? -1 : 1;
    return strcmp(x->name, y->name);
}

/* Each range begins where the one before ends; the last ends with the file. */
static fur_status check_tiling(fur_error *error, fur_safetensors *file, int64_t data_bytes, int64_t data_start)
{
    const char *path = file->input.path;
    if (file->count > 1)
        qsort(file->infos, (size_t)file->count, sizeof *file->infos, by_offset);
    int64_t end = 0;
    for (int64_t i = 0; i < file->count; i++) {
        fur_tensor_info *info = &file->infos[i];
        if (info->offset != end)
            return fur_error_set(error, FUR_E_FORMAT, NAME_FORMAT "begins at byte %lld of the data, expected %lld (%s)",
                                 path, info->name, (long long)info->offset, (long long)end,
                                 info->offset < end ? "overlaps the tensor before" : "a hole");
        end = info->offset + info->bytes; /* cannot overflow: it was parsed as the range's end */
        if (end > data_bytes)
            return fur_error_set(error, FUR_E_FORMAT, NAME_FORMAT "ends at byte %lld of the data, which has %lld", path,
                                 info->name, (long long)end, (long long)data_bytes);
        info->offset += data_start;
    }
    if (end != data_bytes)
        return fur_error_set(error, FUR_E_FORMAT, "%s: %lld bytes after the last tensor", path,
                             (long long)(data_bytes - end));
    return FUR_OK;
}

static fur_status parse_entries(fur_error *error, fur_safetensors *file)
{
    const char *path = file->input.path;
    json_t *metadata = json_object_get(file->header, "__metadata__");
    FUR_TRY(check_metadata(error, path, metadata));
    int64_t count = (int64_t)json_object_size(file->header) - (metadata != NULL);
    if (count > FUR_SAFETENSORS_MAX_TENSORS)
        return fur_error_set(error, FUR_E_FORMAT, "%s: %lld tensors, expected at most %d", path, (long long)count,
                             FUR_SAFETENSORS_MAX_TENSORS);
    file->infos = fur_calloc((size_t)count, sizeof *file->infos);
    if (!file->infos)
        return fur_memory_error(error, count * (int64_t)sizeof *file->infos, path);
    const char *name;
    json_t *entry;
    json_object_foreach(file->header, name, entry)
    {
        if (entry == metadata)
            continue;
        FUR_TRY(parse_entry(error, path, name, entry, &file->infos[file->count]));
        file->count++;
    }
    return FUR_OK;
}

static fur_status read_header(fur_error *error, fur_safetensors *file, int64_t *data_start)
{
    const char *path = file->input.path;
    if (file->input.bytes < 8)
        return fur_error_set(error, FUR_E_FORMAT, "%s: %lld bytes, too short for a safetensors file", path,
                             (long long)file->input.bytes);
    unsigned char length_bytes[8];
    FUR_TRY(fur_input_read(error, &file->input, 0, length_bytes, 8));
    uint64_t length = 0;
    for (int i = 7; i >= 0; i--)
        length = length << 8 | length_bytes[i];
    if (length > FUR_SAFETENSORS_MAX_HEADER)
        return fur_error_set(error, FUR_E_FORMAT, "%s: header of %llu bytes, expected at most %d", path,
                             (unsigned long long)length, FUR_SAFETENSORS_MAX_HEADER);
    int64_t bytes = (int64_t)length;
    if (bytes > file->input.bytes - 8)
        return fur_error_set(error, FUR_E_FORMAT, "%s: header of %lld bytes ends beyond the file of %lld", path,
                             (long long)bytes, (long long)file->input.bytes);
    char *text = fur_malloc((size_t)bytes + 1);
    if (!text)
        return fur_memory_error(error, bytes, path);
    fur_json json = {0};
    fur_status status = fur_input_read(error, &file->input, 8, text, bytes);
    if (status == FUR_OK && (bytes == 0 || text[0] != '{'))
        status = fur_error_set(error, FUR_E_FORMAT, "%s: the header does not begin with '{'", path);
    if (status == FUR_OK)
        status = fur_json_parse(error, path, text, bytes, &json);
    fur_free(text);
    if (status == FUR_OK) {
        file->header = json_incref(json.root);
        fur_json_clear(&json);
        *data_start = 8 + bytes;
    }
    return status;
}

fur_status fur_safetensors_open(fur_error *error, const char *path, fur_safetensors **out)
{
    fur_safetensors *file = fur_calloc(1, sizeof *file);
    if (!file)
        return fur_memory_error(error, (int64_t)sizeof *file, path);
    file->input.fd = -1;
    int64_t data_start = 0;
    fur_status status = fur_input_open(error, path, &file->input);
    if (status == FUR_OK)
        status = read_header(error, file, &data_start);
    if (status == FUR_OK)
        status = parse_entries(error, file);
    if (status == FUR_OK)
        status = check_tiling(error, file, file->input.bytes - data_start, data_start);
    if (status == FUR_OK)
        status = fur_name_table_init(error, &file->by_name, file->count);
    if (status != FUR_OK) {
        fur_safetensors_close(file);
        return status;
    }
    for (int64_t i = 0; i < file->count; i++)
        fur_name_table_add(&file->by_name, file->infos[i].name, i); /* the parser refused duplicates */
    *out = file;
    return FUR_OK;
}

void fur_safetensors_close(fur_safetensors *file)
{
    if (!file)
        return;
    fur_input_close(&file->input);
    fur_name_table_clear(&file->by_name);
    fur_free(file->infos);
    json_decref(file->header);
    fur_free(file);
}

/* ---- reading -------------------------------------------------------------------------------------------------- */

int64_t fur_safetensors_count(const fur_safetensors *file)
{
    return file->count;
}

const fur_tensor_info *fur_safetensors_at(const fur_safetensors *file, int64_t index)
{
    return &file->infos[index];
}

const fur_tensor_info *fur_safetensors_find(const fur_safetensors *file, const char *name)
{
    int64_t index = fur_name_table_find(&file->by_name, name);
    return index < 0 ? NULL : &file->infos[index];
}

const char *fur_safetensors_metadata(const fur_safetensors *file, const char *key)
{
    return json_string_value(json_object_get(json_object_get(file->header, "__metadata__"), key));
}

fur_status fur_safetensors_read_f32(fur_error *error, const fur_safetensors *file, const char *name, int rank,
                                    const int64_t *shape, bool finite, float *out)
{
    fur_tensor tensor = {&file->input, fur_safetensors_find(file, name), name};
    return fur_tensor_read_f32(error, &tensor, rank, shape, finite, out);
}

fur_status fur_safetensors_check_finite(fur_error *error, const fur_safetensors *file, const char *name)
{
    fur_tensor tensor = {&file->input, fur_safetensors_find(file, name), name};
    return fur_tensor_check_finite(error, &tensor);
}

fur_status fur_safetensors_read_raw(fur_error *error, const fur_safetensors *file, const char *name, fur_dtype dtype,
                                    int rank, const int64_t *shape, void *out)
{
    fur_tensor tensor = {&file->input, fur_safetensors_find(file, name), name};
    return fur_tensor_read_raw(error, &tensor, dtype, rank, shape, out);
}

fur_status fur_safetensors_map(fur_error *error, const fur_safetensors *file, const char *name, fur_dtype dtype,
                               int rank, const int64_t *shape, fur_tensor_map *out)
{
    fur_tensor tensor = {&file->input, fur_safetensors_find(file, name), name};
    return fur_tensor_map_make(error, &tensor, dtype, rank, shape, out);
}

const fur_input *fur_safetensors_input(const fur_safetensors *file)
{
    return &file->input;
}
