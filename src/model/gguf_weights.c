/* SPDX-License-Identifier: Apache-2.0 */
/* Tensors of a GGUF file, in and out. */
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/size.h"
#include "io/file.h"
#include "model/coded.h"
#include "model/config.h"
#include "model/family.h"
#include "model/gguf.h"

#define ROPE_FACTORS "rope_freqs.weight"

/* Where a parameter is in files, and how it differs from ours there. */
typedef struct place {
    char name[96];
    fur_file_layout layout;
    float above; /* what the file's numbers are more than ours */
} place;

static bool is_norm(fur_tensor_role role)
{
    return role == FUR_TENSOR_FINAL_NORM || role == FUR_TENSOR_NORM1 || role == FUR_TENSOR_NORM2 ||
           role == FUR_TENSOR_POST_NORM1 || role == FUR_TENSOR_POST_NORM2 || role == FUR_TENSOR_Q_NORM ||
           role == FUR_TENSOR_K_NORM;
}

static place place_of(const fur_model_config *c, const fur_family *family, const fur_parameter *p)
{
    place at = {.layout = FUR_FILE_SAME};
    const char *stem = fur_tensor_gguf_name(p->role), *percent = stem ? strstr(stem, "%d") : NULL;
    const char *suffix = p->is_bias ? ".bias" : ".weight";
    if (percent)
        snprintf(at.name, sizeof at.name, "%.*s%lld%s%s", (int)(percent - stem), stem, (long long)p->layer, percent + 2,
                 suffix);
    else if (stem)
        snprintf(at.name, sizeof at.name, "%s%s", stem, suffix);
    if (family && family->gguf_pairs && (p->role == FUR_TENSOR_Q || p->role == FUR_TENSOR_K))
        at.layout = FUR_FILE_PAIRS;
    if (c->norm_offset && is_norm(p->role) && !p->is_bias)
        at.above = 1;
    return at;
}

const fur_tensor_info *fur_gguf_tensor_of(const fur_tensor_source *source, const fur_model_config *config,
                                          const fur_parameter *p, fur_file_layout *layout)
{
    place at = place_of(config, fur_family_find(config->family), p);
    *layout = at.layout;
    return fur_tensor_source_find(source, at.name);
}

/* ---- reading ----------------------------------------------------------------------------------------------------- */

/* Rows of a matrix that go elsewhere are moved a matrix at a time, through a copy of it. */
static fur_status read_parameter(fur_error *error, const fur_tensor_source *source, const place *at,
                                 const fur_parameter *p, fur_model *model)
{
    float *data = model->data + p->offset;
    const fur_tensor_info *info = fur_tensor_source_find(source, at->name);
    if (fur_coded_takes(model, p, info, at->layout))
        return fur_coded_open(error, source, info, p, at->layout, model);
    FUR_TRY(fur_tensor_source_read_f32(error, source, at->name, p->rank, p->shape, true, data));
    for (int64_t i = 0; at->above > 0 && i < p->count; i++)
        data[i] -= at->above;
    if (at->layout == FUR_FILE_SAME)
        return FUR_OK;
    int64_t columns = p->rank == 2 ? p->shape[1] : 1, bytes = columns * (int64_t)sizeof(float);
    float *copy = fur_malloc((size_t)(p->count * (int64_t)sizeof *copy));
    if (!copy)
        return fur_memory_error(error, p->count * (int64_t)sizeof *copy, at->name);
    memcpy(copy, data, (size_t)p->count * sizeof *copy);
    for (int64_t i = 0; i < p->count; i += columns)
        memcpy(data + fur_file_index(at->layout, p, &model->config, i), copy + i, (size_t)bytes);
    fur_free(copy);
    return FUR_OK;
}

fur_status fur_gguf_weights_read(fur_error *error, const fur_tensor_source *source, fur_model *model)
{
    const fur_family *family = fur_family_find(model->config.family);
    int64_t read = fur_tensor_source_find(source, ROPE_FACTORS) != NULL; /* by the config */
    for (int64_t i = 0; i < model->table.count; i++) {
        if (model->table.list[i].adapter)
            continue;
        read++;
        place at = place_of(&model->config, family, &model->table.list[i]);
        FUR_TRY(read_parameter(error, source, &at, &model->table.list[i], model));
    }
    if (read == fur_tensor_source_count(source))
        return FUR_OK;
    for (int64_t i = 0; i < fur_tensor_source_count(source); i++) { /* names are unique, so one of them is not ours */
        const char *name = fur_tensor_source_at(source, i)->name;
        bool known = strcmp(name, ROPE_FACTORS) == 0;
        for (int64_t k = 0; !known && k < model->table.count; k++)
            known = !model->table.list[k].adapter &&
                    strcmp(name, place_of(&model->config, family, &model->table.list[k]).name) == 0;
        if (!known)
            return fur_error_set(error, FUR_E_FORMAT, "%s: tensor '%.200s' is not part of this model",
                                 fur_tensor_source_path(source), name);
    }
    return FUR_E_INTERNAL;
}

/* ---- writing ----------------------------------------------------------------------------------------------------- */

typedef struct writer {
    place at;
    const fur_parameter *parameter;
    const fur_model_config *config;
    const float *data;
} writer;

static fur_status fill(void *user, fur_error *error, int64_t first, int64_t count, void *out)
{
    const writer *w = user;
    float *to = out;
    (void)error;
    for (int64_t i = 0; i < count; i++)
        to[i] = w->data[fur_file_index(w->at.layout, w->parameter, w->config, first + i)] + w->at.above;
    return FUR_OK;
}

static fur_status fill_factors(void *user, fur_error *error, int64_t first, int64_t count, void *out)
{
    float factors[FUR_GGUF_MOST_PAIRS];
    (void)error;
    fur_gguf_rope_factors(user, factors);
    memcpy(out, factors + first, (size_t)count * sizeof *factors);
    return FUR_OK;
}

/* Positions, norms and biases are f32 in all files. */
static fur_dtype dtype_of(const fur_parameter *p, fur_dtype asked)
{
    bool matrix = p->rank == 2 && p->role != FUR_TENSOR_POSITIONS;
    return matrix && p->shape[1] % fur_dtype_block(asked) == 0 ? asked : FUR_DTYPE_F32;
}

static void plan(const fur_model *model, fur_dtype dtype, writer *writers, fur_gguf_entry *entries, int64_t *kept)
{
    const fur_family *family = fur_gguf_family_of(&model->config);
    for (int64_t i = 0; i < model->table.count; i++) {
        const fur_parameter *p = &model->table.list[i];
        writers[i] = (writer){place_of(&model->config, family, p), p, &model->config, model->data + p->offset};
        entries[i] = (fur_gguf_entry){.name = writers[i].at.name,
                                      .dtype = dtype_of(p, dtype),
                                      .rank = p->rank,
                                      .shape = {p->shape[0], p->shape[1]},
                                      .fill = fill,
                                      .user = &writers[i]};
        *kept += p->rank == 2 && p->role != FUR_TENSOR_POSITIONS && entries[i].dtype != dtype;
    }
}

fur_status fur_gguf_weights_write(fur_error *error, const fur_model *model, const char *path,
                                  const fur_gguf_builder *values, fur_dtype dtype, int64_t *kept)
{
    size_t count = (size_t)model->table.count;
    writer *writers = fur_calloc(count, sizeof *writers);
    fur_gguf_entry *entries = fur_calloc(count + 1, sizeof *entries);
    fur_status status = writers && entries ? FUR_OK : fur_memory_error(error, (int64_t)(count * sizeof *writers), path);
    *kept = 0;
    if (status == FUR_OK) {
        plan(model, dtype, writers, entries, kept);
        if (model->config.rope_scaling.type == FUR_ROPE_LLAMA3)
            entries[count++] = (fur_gguf_entry){.name = ROPE_FACTORS,
                                                .dtype = FUR_DTYPE_F32,
                                                .rank = 1,
                                                .shape = {model->config.head_dim / 2},
                                                .fill = fill_factors,
                                                .user = (void *)&model->config};
        status = fur_gguf_write(error, path, values, entries, (int64_t)count);
    }
    fur_free(writers);
    fur_free(entries);
    return status;
}
