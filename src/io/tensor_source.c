/* SPDX-License-Identifier: Apache-2.0 */
#include "io/tensor_source.h"

#include <string.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "io/file.h"
#include "io/json.h"
#include "io/name_table.h"

#define MAX_SHARDS 4096

typedef struct shard {
    fur_safetensors *file;
    char *name; /* from the index; NULL for a single file */
} shard;

typedef struct placed {
    const fur_tensor_info *info;
    const fur_input *input;
} placed;

struct fur_tensor_source {
    char *path; /* as opened, for errors */
    shard *shards;
    int64_t shard_count;
    fur_gguf *gguf; /* in place of shards */
    placed *tensors;
    int64_t count;
    fur_name_table by_name;
};

void fur_tensor_source_close(fur_tensor_source *source)
{
    if (!source)
        return;
    for (int64_t i = 0; i < source->shard_count; i++) {
        fur_safetensors_close(source->shards[i].file);
        fur_free(source->shards[i].name);
    }
    fur_free(source->shards);
    fur_gguf_close(source->gguf);
    fur_free(source->tensors);
    fur_name_table_clear(&source->by_name);
    fur_free(source->path);
    fur_free(source);
}

static fur_status reserve(fur_error *error, fur_tensor_source *source, int64_t shards, int64_t tensors)
{
    if (shards > 0) {
        source->shards = fur_calloc((size_t)shards, sizeof *source->shards);
        if (!source->shards)
            return fur_memory_error(error, shards * (int64_t)sizeof *source->shards, source->path);
    }
    if (tensors >= 0) {
        source->tensors = fur_calloc((size_t)tensors, sizeof *source->tensors);
        if (!source->tensors)
            return fur_memory_error(error, tensors * (int64_t)sizeof *source->tensors, source->path);
        FUR_TRY(fur_name_table_init(error, &source->by_name, tensors));
    }
    return FUR_OK;
}

static void place(fur_tensor_source *source, const fur_input *input, const fur_tensor_info *info)
{
    if (fur_name_table_add(&source->by_name, info->name, source->count))
        source->tensors[source->count++] = (placed){.info = info, .input = input};
}

static fur_status open_gguf(fur_error *error, fur_tensor_source *source, const char *path)
{
    FUR_TRY(fur_gguf_open(error, path, &source->gguf));
    const fur_gguf *file = source->gguf;
    FUR_TRY(reserve(error, source, 0, fur_gguf_count(file)));
    for (int64_t i = 0; i < fur_gguf_count(file); i++)
        place(source, fur_gguf_input(file), fur_gguf_at(file, i));
    return FUR_OK;
}

static fur_status open_single(fur_error *error, fur_tensor_source *source, const char *path)
{
    FUR_TRY(reserve(error, source, 1, -1));
    FUR_TRY(fur_safetensors_open(error, path, &source->shards[0].file));
    source->shard_count = 1;
    const fur_safetensors *file = source->shards[0].file;
    FUR_TRY(reserve(error, source, 0, fur_safetensors_count(file)));
    for (int64_t i = 0; i < fur_safetensors_count(file); i++)
        place(source, fur_safetensors_input(file), fur_safetensors_at(file, i));
    return FUR_OK;
}

/* A name from the index must not lead out of the folder. */
static bool is_plain_name(const char *name)
{
    return *name && !strchr(name, '/') && strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

/* Opens the shard at its first mention. */
static fur_status shard_of(fur_error *error, fur_tensor_source *source, fur_name_table *names, const char *folder,
                           const char *name, const fur_safetensors **out)
{
    int64_t index = fur_name_table_find(names, name);
    if (index < 0) {
        if (source->shard_count == MAX_SHARDS)
            return fur_error_set(error, FUR_E_FORMAT, "%s: more than %d shards", source->path, MAX_SHARDS);
        index = source->shard_count;
        char *path;
        FUR_TRY(fur_path_join(error, folder, name, &path));
        fur_status status = fur_safetensors_open(error, path, &source->shards[index].file);
        fur_free(path);
        FUR_TRY(status);
        source->shard_count++;
        source->shards[index].name = fur_strdup(name);
        if (!source->shards[index].name)
            return fur_memory_error(error, (int64_t)strlen(name), "a path");
        fur_name_table_add(names, source->shards[index].name, index);
    }
    *out = source->shards[index].file;
    return FUR_OK;
}

static fur_status place_all(fur_error *error, fur_tensor_source *source, fur_name_table *names, const char *folder,
                            const char *path, json_t *map)
{
    const char *key;
    json_t *value;
    json_object_foreach(map, key, value)
    {
        const char *name = json_string_value(value);
        if (!name || strlen(name) != json_string_length(value) || !is_plain_name(name))
            return fur_error_set(error, FUR_E_FORMAT, "%s: shard of tensor \"%.120s\" is %.120s, expected a file name",
                                 path, key, name ? name : "not a string");
        const fur_safetensors *file = NULL;
        FUR_TRY(shard_of(error, source, names, folder, name, &file));
        const fur_tensor_info *info = fur_safetensors_find(file, key);
        if (!info)
            return fur_error_set(error, FUR_E_FORMAT, "%s: tensor \"%.120s\" is not in its shard %.120s", path, key,
                                 name);
        place(source, fur_safetensors_input(file), info);
    }
    return FUR_OK;
}

static fur_status open_index(fur_error *error, fur_tensor_source *source, const char *folder, const char *path)
{
    fur_json json = {0};
    FUR_TRY(fur_json_read(error, path, &json));
    json_t *map = json_object_get(json.root, "weight_map");
    fur_name_table names = {0};
    fur_status status = FUR_OK;
    if (!json_is_object(map) || json_object_size(map) == 0)
        status =
            fur_error_set(error, FUR_E_FORMAT, "%s: \"weight_map\" is missing or empty, expected tensor to file", path);
    if (status == FUR_OK)
        status = reserve(error, source, MAX_SHARDS, (int64_t)json_object_size(map));
    if (status == FUR_OK)
        status = fur_name_table_init(error, &names, MAX_SHARDS);
    if (status == FUR_OK)
        status = place_all(error, source, &names, folder, path, map);
    fur_name_table_clear(&names);
    fur_json_clear(&json);
    return status;
}

static fur_status open_folder(fur_error *error, fur_tensor_source *source, const char *folder)
{
    char *single = NULL, *index = NULL;
    fur_status status = fur_path_join(error, folder, "model.safetensors", &single);
    if (status == FUR_OK)
        status = fur_path_join(error, folder, "model.safetensors.index.json", &index);
    if (status == FUR_OK) {
        if (fur_path_exists(single))
            status = open_single(error, source, single);
        else if (fur_path_exists(index))
            status = open_index(error, source, folder, index);
        else
            status = fur_error_set(error, FUR_E_IO,
                                   "%s: neither model.safetensors nor model.safetensors.index.json in it", folder);
    }
    fur_free(single);
    fur_free(index);
    return status;
}

fur_status fur_tensor_source_open(fur_error *error, const char *path, fur_tensor_source **out)
{
    fur_tensor_source *source = fur_calloc(1, sizeof *source);
    if (!source)
        return fur_memory_error(error, (int64_t)sizeof *source, path);
    fur_status status = FUR_OK;
    source->path = fur_strdup(path);
    struct stat about;
    bool gguf = false;
    if (!source->path)
        status = fur_memory_error(error, (int64_t)strlen(path), "a path");
    else if (stat(path, &about) == 0 && S_ISDIR(about.st_mode))
        status = open_folder(error, source, path);
    else if ((status = fur_gguf_is(error, path, &gguf)) == FUR_OK)
        status = gguf ? open_gguf(error, source, path) : open_single(error, source, path);
    if (status != FUR_OK) {
        fur_tensor_source_close(source);
        return status;
    }
    *out = source;
    return FUR_OK;
}

int64_t fur_tensor_source_count(const fur_tensor_source *source)
{
    return source->count;
}

const fur_tensor_info *fur_tensor_source_at(const fur_tensor_source *source, int64_t index)
{
    return source->tensors[index].info;
}

const fur_gguf *fur_tensor_source_gguf(const fur_tensor_source *source)
{
    return source->gguf;
}

const char *fur_tensor_source_path(const fur_tensor_source *source)
{
    return source->path;
}

const fur_tensor_info *fur_tensor_source_find(const fur_tensor_source *source, const char *name)
{
    int64_t index = fur_name_table_find(&source->by_name, name);
    return index < 0 ? NULL : source->tensors[index].info;
}

const char *fur_tensor_source_metadata(const fur_tensor_source *source, const char *key)
{
    bool single = source->shard_count == 1 && !source->shards[0].name;
    return single ? fur_safetensors_metadata(source->shards[0].file, key) : NULL;
}

static fur_status find(fur_error *error, const fur_tensor_source *source, const char *name, fur_tensor *out)
{
    int64_t index = fur_name_table_find(&source->by_name, name);
    if (index < 0)
        return fur_error_set(error, FUR_E_FORMAT, "%s: tensor \"%.120s\" is missing", source->path, name);
    *out = (fur_tensor){source->tensors[index].input, source->tensors[index].info, name};
    return FUR_OK;
}

fur_status fur_tensor_source_read_f32(fur_error *error, const fur_tensor_source *source, const char *name, int rank,
                                      const int64_t *shape, bool finite, float *out)
{
    fur_tensor tensor;
    FUR_TRY(find(error, source, name, &tensor));
    return fur_tensor_read_f32(error, &tensor, rank, shape, finite, out);
}

fur_status fur_tensor_source_read_raw(fur_error *error, const fur_tensor_source *source, const char *name,
                                      fur_dtype dtype, int rank, const int64_t *shape, void *out)
{
    fur_tensor tensor;
    FUR_TRY(find(error, source, name, &tensor));
    return fur_tensor_read_raw(error, &tensor, dtype, rank, shape, out);
}

fur_status fur_tensor_source_check_finite(fur_error *error, const fur_tensor_source *source, const char *name)
{
    fur_tensor tensor;
    FUR_TRY(find(error, source, name, &tensor));
    return fur_tensor_check_finite(error, &tensor);
}

fur_status fur_tensor_source_map(fur_error *error, const fur_tensor_source *source, const char *name, fur_dtype dtype,
                                 int rank, const int64_t *shape, fur_tensor_map *out)
{
    fur_tensor tensor;
    FUR_TRY(find(error, source, name, &tensor));
    return fur_tensor_map_make(error, &tensor, dtype, rank, shape, out);
}
