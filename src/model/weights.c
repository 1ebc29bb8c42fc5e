/* SPDX-License-Identifier: Apache-2.0 */
/* Weights in and out, tensor by tensor, turned from or to the family's own layout on the way. */
#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/size.h"
#include "io/file.h"
#include "io/tensor_source.h"
#include "model/config.h"
#include "model/family.h"

/* Where element `at` of the file's tensor lies in ours. */
static int64_t our_index(const fur_parameter *p, const fur_model_config *c, int64_t at)
{
    if (p->file_layout == FUR_FILE_SAME)
        return at;
    if (p->file_layout == FUR_FILE_TRANSPOSED) { /* file [in, out], ours [out, in] */
        int64_t in = at / p->shape[0], out = at % p->shape[0];
        return out * p->shape[1] + in;
    }
    /* file rows: head, then q k v, then D; ours: q k v, then head, then D */
    int64_t columns = p->rank == 2 ? p->shape[1] : 1, row = at / columns, D = c->head_dim;
    int64_t head = row / (3 * D), part = row / D % 3, d = row % D;
    return (part * c->heads * D + head * D + d) * columns + at % columns;
}

static void file_shape(const fur_parameter *p, int64_t shape[2])
{
    bool turned = p->file_layout == FUR_FILE_TRANSPOSED;
    shape[0] = turned ? p->shape[1] : p->shape[0];
    shape[1] = turned ? p->shape[0] : p->shape[1];
}

static bool source_has(const fur_tensor_source *source, const char *name)
{
    for (int64_t i = 0; i < fur_tensor_source_count(source); i++)
        if (strcmp(fur_tensor_source_at(source, i)->name, name) == 0)
            return true;
    return false;
}

/* A llama file whose YaRN only our own family can say (fur_config_yarn_is_ratio) has llama's name for the head; all
 * other names of the two are the same. */
static const char *file_name(const fur_tensor_source *source, const fur_parameter *p)
{
    static const char llama_head[] = "lm_head.weight";
    bool ours = strcmp(p->name, "head.weight") == 0;
    return ours && !source_has(source, p->name) && source_has(source, llama_head) ? llama_head : p->name;
}

/* Elements of a table in the file's order, rows, to tiles or from them. */
static void table_from_rows(const fur_parameter *p, const float *rows, float *tiles)
{
    int64_t columns = p->shape[1];
    for (int64_t i = 0, run; i < p->shape[0] * columns; i += run) {
        int64_t at = fur_table_at(p, i / columns, i % columns, &run);
        memcpy(tiles + at, rows + i, (size_t)run * sizeof(float));
    }
    fur_table_clear_padding(p, tiles);
}

static void table_to_rows(const fur_parameter *p, const float *tiles, int64_t first, int64_t count, float *rows)
{
    for (int64_t done = 0, run; done < count; done += run) {
        int64_t at = fur_table_at(p, (first + done) / p->shape[1], (first + done) % p->shape[1], &run);
        run = fur_min_i64(run, count - done);
        memcpy(rows + done, tiles + at, (size_t)run * sizeof(float));
    }
}

static fur_status read_parameter(fur_error *error, const fur_tensor_source *source, const fur_parameter *p,
                                 fur_model *model)
{
    int64_t shape[2];
    file_shape(p, shape);
    float *data = model->data + p->offset;
    FUR_TRY(fur_tensor_source_read_f32(error, source, file_name(source, p), p->rank, shape, true, data));
    if (p->file_layout == FUR_FILE_SAME)
        return FUR_OK;
    int64_t count = p->shape[0] * p->shape[1]; /* of a table without padding */
    float *copy = fur_malloc((size_t)count * sizeof *copy);
    if (!copy)
        return fur_memory_error(error, count * (int64_t)sizeof *copy, p->name);
    memcpy(copy, data, (size_t)count * sizeof *copy);
    if (p->table)
        table_from_rows(p, copy, data);
    for (int64_t i = 0; !p->table && i < count; i++)
        data[our_index(p, &model->config, i)] = copy[i];
    fur_free(copy);
    return FUR_OK;
}

/* Tensors that checkpoints of these families carry beside the weights, and that say nothing. */
static bool may_be_ignored(const char *name, bool tied)
{
    size_t length = strlen(name);
    static const char *const buffers[] = {".attn.bias", ".attn.masked_bias", ".attention.bias", ".rotary_emb.inv_freq",
                                          ".attention.masked_bias"};
    for (size_t i = 0; i < sizeof buffers / sizeof buffers[0]; i++) {
        size_t tail = strlen(buffers[i]);
        if (length >= tail && strcmp(name + length - tail, buffers[i]) == 0)
            return true;
    }
    return tied && (strcmp(name, "lm_head.weight") == 0 || strcmp(name, "embed_out.weight") == 0);
}

static fur_status check_no_others(fur_error *error, const fur_tensor_source *source, const fur_model *model,
                                  const char *folder)
{
    for (int64_t i = 0; i < fur_tensor_source_count(source); i++) {
        const char *name = fur_tensor_source_at(source, i)->name;
        bool known = may_be_ignored(name, model->config.tied);
        for (int64_t p = 0; !known && p < model->table.count; p++)
            known = strcmp(file_name(source, &model->table.list[p]), name) == 0;
        if (!known)
            return fur_error_set(error, FUR_E_FORMAT, "%s: tensor '%.200s' is not part of this model", folder, name);
    }
    return FUR_OK;
}

/* Coefficients belong to the bound that they were fitted for. */
static fur_status check_far(fur_error *error, const fur_model *model, const char *folder)
{
    const fur_model_config *c = &model->config;
    for (int64_t layer = 0; layer < c->layers; layer++) {
        const fur_layer_offsets *at = &model->table.layers[layer];
        for (int64_t h = 0; at->far_fitted >= 0 && h < c->kv_heads; h++) {
            const float *exact = at->far_exact < 0 ? NULL : model->data + at->far_exact + h;
            if (exact && !(fabsf(*exact) <= 0) && !(fabsf(*exact - 1) <= 0))
                return fur_error_set(error, FUR_E_FORMAT, "%s: far_exact of layer %lld is %g, expected 0 or 1", folder,
                                     (long long)layer, (double)*exact);
            const float *fitted = model->data + at->far_fitted + 2 * h;
            const float *coefficient = model->data + at->far_coefficients + h * (c->far_degree + 1);
            if (!(fabsf(fitted[0] - (float)c->far_bound) <= 0))
                return fur_error_set(
                    error, FUR_E_FORMAT,
                    "%s: coefficients of layer %lld were fitted for a bound of %g, config.json says %g", folder,
                    (long long)layer, (double)fitted[0], c->far_bound);
            for (int64_t l = 0; l <= c->far_degree; l++)
                if (!isfinite(coefficient[l]))
                    return fur_error_set(error, FUR_E_FORMAT,
                                         "%s: coefficient %lld of layer %lld is %g, expected finite", folder,
                                         (long long)l, (long long)layer, (double)coefficient[l]);
        }
    }
    return FUR_OK;
}

fur_status fur_weights_read(fur_error *error, const char *folder, fur_model *model)
{
    fur_tensor_source *source = NULL;
    FUR_TRY(fur_tensor_source_open(error, folder, &source));
    fur_status status = check_no_others(error, source, model, folder);
    for (int64_t i = 0; status == FUR_OK && i < model->table.count; i++)
        status = read_parameter(error, source, &model->table.list[i], model);
    fur_tensor_source_close(source);
    return status == FUR_OK ? check_far(error, model, folder) : status;
}

typedef struct tensor_writer {
    const fur_parameter *parameter;
    const fur_model_config *config;
    const float *data;
} tensor_writer;

static fur_status fill_turned(void *user, fur_error *error, int64_t first, int64_t count, void *out)
{
    const tensor_writer *w = user;
    float *to = out;
    (void)error;
    if (w->parameter->table)
        table_to_rows(w->parameter, w->data, first, count, to);
    for (int64_t i = 0; !w->parameter->table && i < count; i++)
        to[i] = w->data[our_index(w->parameter, w->config, first + i)];
    return FUR_OK;
}

fur_status fur_weights_write(fur_error *error, const fur_model *model, const float *data, const char *path,
                             uint64_t *hash)
{
    size_t count = (size_t)model->table.count;
    fur_tensor_entry *entries = fur_calloc(count, sizeof *entries);
    tensor_writer *writers = fur_calloc(count, sizeof *writers);
    fur_status status = FUR_OK;
    if (!entries || !writers)
        status = fur_memory_error(error, (int64_t)(count * (sizeof *entries + sizeof *writers)), path);
    for (size_t i = 0; status == FUR_OK && i < count; i++) {
        const fur_parameter *p = &model->table.list[i];
        writers[i] = (tensor_writer){p, &model->config, data + p->offset};
        entries[i] = (fur_tensor_entry){.name = p->name, .dtype = FUR_DTYPE_F32, .rank = p->rank, .user = &writers[i]};
        file_shape(p, entries[i].shape);
        if (p->file_layout == FUR_FILE_SAME)
            entries[i].data = writers[i].data;
        else
            entries[i].fill = fill_turned;
    }
    if (status == FUR_OK)
        status = fur_safetensors_write(error, path, entries, (int64_t)count, NULL, 0, hash);
    fur_free(entries);
    fur_free(writers);
    return status;
}

/* ---- public ----------------------------------------------------------------------------------------------- */

fur_status fur_model_load(fur_context *context, const char *folder, fur_model **out)
{
    *out = NULL;
    char *path;
    fur_model_config config;
    FUR_TRY(fur_path_join(&context->error, folder, "config.json", &path));
    fur_status status = fur_config_read(context, path, &config);
    fur_free(path);
    FUR_TRY(status);
    fur_model *model;
    FUR_TRY(fur_model_allocate(context, &config, &model));
    status = fur_weights_read(&context->error, folder, model);
    if (status != FUR_OK) {
        fur_model_destroy(model);
        return status;
    }
    *out = model;
    return FUR_OK;
}

fur_status fur_model_save(fur_context *context, const fur_model *model, const char *folder)
{
    fur_error *error = &context->error;
    char *weights = NULL, *config = NULL;
    json_t *json = NULL;
    fur_status status = fur_path_join(error, folder, "model.safetensors", &weights);
    if (status == FUR_OK)
        status = fur_path_join(error, folder, "config.json", &config);
    if (status == FUR_OK)
        status = fur_weights_write(error, model, model->data, weights, NULL);
    if (status == FUR_OK && !(json = fur_config_to_json(&model->config)))
        status = fur_memory_error(error, 4096, "config.json");
    if (status == FUR_OK)
        status = fur_json_write(error, config, json, 2);
    json_decref(json);
    fur_free(weights);
    fur_free(config);
    return status;
}
