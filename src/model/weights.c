/* SPDX-License-Identifier: Apache-2.0 */
/* Weights in and out, tensor by tensor, turned from or to the family's own layout on the way. */
#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/size.h"
#include "io/file.h"
#include "io/tensor_source.h"
#include "model/adapter.h"
#include "model/coded.h"
#include "model/config.h"
#include "model/family.h"
#include "model/gguf.h"

int64_t fur_file_index(fur_file_layout layout, const fur_parameter *p, const fur_model_config *c, int64_t at)
{
    if (layout == FUR_FILE_SAME)
        return at;
    if (layout == FUR_FILE_TRANSPOSED) { /* file [in, out], ours [out, in] */
        int64_t in = at / p->shape[0], out = at % p->shape[0];
        return out * p->shape[1] + in;
    }
    int64_t columns = p->rank == 2 ? p->shape[1] : 1, row = at / columns, D = c->head_dim;
    if (layout == FUR_FILE_PAIRS) {
        int64_t head = row / D, d = row % D;
        return (head * D + d % 2 * (D / 2) + d / 2) * columns + at % columns;
    }
    /* file rows: head, then q k v, then D; ours: q k v, then head, then D */
    int64_t head = row / (3 * D), part = row / D % 3, d = row % D;
    return (part * c->heads * D + head * D + d) * columns + at % columns;
}

static int64_t our_index(const fur_parameter *p, const fur_model_config *c, int64_t at)
{
    return fur_file_index(p->file_layout, p, c, at);
}

/* Files of a model without its head, and the first ones of GPT-2, lack what all other names begin with
 * ("transformer."). */
static const char *file_name(const fur_tensor_source *source, const fur_parameter *p)
{
    const char *rest = strchr(p->name, '.') + 1;
    bool bare = p->role != FUR_TENSOR_HEAD && !fur_tensor_source_find(source, p->name);
    return bare && fur_tensor_source_find(source, rest) ? rest : p->name;
}

const fur_tensor_info *fur_weights_tensor(const fur_tensor_source *source, const fur_model_config *config,
                                          const fur_parameter *p, fur_file_layout *layout)
{
    if (fur_tensor_source_gguf(source))
        return fur_gguf_tensor_of(source, config, p, layout);
    *layout = p->file_layout;
    return fur_tensor_source_find(source, file_name(source, p));
}

/* Into tiles, or where the model's tables stay rows only looked at. */
static fur_status read_table(fur_error *error, const fur_tensor_source *source, const fur_parameter *p,
                             fur_model *model)
{
    fur_lookup_type type = (fur_lookup_type)model->config.table_type;
    if (model->rows)
        return fur_row_table_open(error, source, p, type, &model->rows[p->table_index]);
    fur_row_table rows;
    FUR_TRY(fur_row_table_open(error, source, p, type, &rows));
    fur_status status = fur_row_table_unpack(error, &rows, p, model->data + p->offset);
    fur_row_table_close(&rows);
    return status;
}

fur_status fur_parameter_from_file(fur_error *error, const fur_parameter *p, const fur_model_config *config,
                                   float *data)
{
    if (p->file_layout == FUR_FILE_SAME)
        return FUR_OK;
    float *copy = fur_malloc((size_t)p->count * sizeof *copy);
    if (!copy)
        return fur_memory_error(error, p->count * (int64_t)sizeof *copy, p->name);
    memcpy(copy, data, (size_t)p->count * sizeof *copy);
    for (int64_t i = 0; i < p->count; i++)
        data[our_index(p, config, i)] = copy[i];
    fur_free(copy);
    return FUR_OK;
}

static fur_status read_parameter(fur_error *error, const fur_tensor_source *source, const fur_parameter *p,
                                 fur_model *model)
{
    if (p->table)
        return read_table(error, source, p, model);
    fur_file_layout layout;
    const fur_tensor_info *info = fur_weights_tensor(source, &model->config, p, &layout);
    if (fur_coded_takes(model, p, info, layout))
        return fur_coded_open(error, source, info, p, layout, model);
    int64_t shape[2];
    fur_parameter_file_shape(p, shape);
    float *data = model->data + p->offset;
    FUR_TRY(fur_tensor_source_read_f32(error, source, file_name(source, p), p->rank, shape, true, data));
    return fur_parameter_from_file(error, p, &model->config, data);
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

static bool is_of(const fur_tensor_source *source, const fur_model *model, const fur_parameter *p, const char *name)
{
    bool scaled = p->table && model->config.table_type == FUR_TABLE_INT8;
    return strcmp(file_name(source, p), name) == 0 || (scaled && strcmp(fur_table_scale_name(p).text, name) == 0);
}

static fur_status check_no_others(fur_error *error, const fur_tensor_source *source, const fur_model *model,
                                  const char *folder)
{
    for (int64_t i = 0; i < fur_tensor_source_count(source); i++) {
        const char *name = fur_tensor_source_at(source, i)->name;
        bool known = may_be_ignored(name, model->config.tied);
        for (int64_t p = 0; !known && p < model->table.count; p++)
            known = !model->table.list[p].adapter && is_of(source, model, &model->table.list[p], name);
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
            float exact = at->far_exact < 0 ? 0 : model->data[at->far_exact + h];
            if (!(fabsf(exact) <= 0) && !(fabsf(exact - 1) <= 0))
                return fur_error_set(error, FUR_E_FORMAT, "%s: far_exact of layer %lld is %g, expected 0 or 1", folder,
                                     (long long)layer, (double)exact);
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
    bool gguf = fur_tensor_source_gguf(source) != NULL;
    fur_status status =
        gguf ? fur_gguf_weights_read(error, source, model) : check_no_others(error, source, model, folder);
    for (int64_t i = 0; status == FUR_OK && !gguf && i < model->table.count; i++)
        if (!model->table.list[i].adapter)
            status = read_parameter(error, source, &model->table.list[i], model);
    fur_tensor_source_close(source);
    if (status == FUR_OK && model->coded)
        fur_coded_end(model);
    return status == FUR_OK ? check_far(error, model, folder) : status;
}

typedef struct tensor_writer {
    const fur_parameter *parameter;
    const fur_model_config *config;
    const float *data;           /* NULL: `coded` holds it */
    const fur_coded_rows *coded; /* in the file's order too */
    fur_dtype dtype;
    fur_table_writer table;
    fur_scale_name scale_name;
} tensor_writer;

/* Elements as the file has them: in its order and of its type. */
static fur_status fill_turned(void *user, fur_error *error, int64_t first, int64_t count, void *out)
{
    const tensor_writer *w = user;
    unsigned char *to = out;
    float piece[256];
    int64_t most = (int64_t)(sizeof piece / sizeof piece[0]);
    (void)error;
    for (int64_t at = 0; at < count; at += most) {
        int64_t some = fur_min_i64(most, count - at);
        if (w->coded)
            fur_coded_elements(w->coded, w->parameter->shape[1], first + at, some, piece);
        for (int64_t i = 0; !w->coded && i < some; i++)
            piece[i] = w->data[our_index(w->parameter, w->config, first + at + i)];
        fur_dtype_from_f32(w->dtype, piece, some, to + at * fur_dtype_bytes(w->dtype));
    }
    return FUR_OK;
}

/* What a file is written from. */
typedef struct file_plan {
    fur_tensor_entry *entries; /* of a table up to two */
    tensor_writer *writers;
    float *row; /* of the widest table, and so the two of it below */
    void *coded;
    int64_t count;
} file_plan;

static fur_status reserve_plan(fur_error *error, const fur_model *model, const char *path, file_plan *out)
{
    size_t count = (size_t)model->table.count, widest = 1;
    for (size_t i = 0; i < count; i++)
        if (model->table.list[i].table && (size_t)model->table.list[i].shape[1] > widest)
            widest = (size_t)model->table.list[i].shape[1];
    *out = (file_plan){.entries = fur_calloc(2 * count, sizeof *out->entries),
                       .writers = fur_calloc(count, sizeof *out->writers),
                       .row = fur_calloc(widest, sizeof *out->row),
                       .coded = fur_calloc(widest, sizeof *out->row)};
    if (out->entries && out->writers && out->row && out->coded)
        return FUR_OK;
    return fur_memory_error(error, (int64_t)(count * sizeof *out->writers), path);
}

static void release_plan(file_plan *plan)
{
    fur_free(plan->entries);
    fur_free(plan->writers);
    fur_free(plan->row);
    fur_free(plan->coded);
}

/* `from`: whose types and names are taken; NULL: F32, with all of their names. */
static void plan_file(const fur_model *model, const float *data, const fur_tensor_source *from, file_plan *plan)
{
    for (int64_t i = 0; i < model->table.count; i++) {
        const fur_parameter *p = &model->table.list[i];
        tensor_writer *w = &plan->writers[i];
        fur_tensor_entry *entry = &plan->entries[plan->count];
        if (p->adapter != (model->config.lora_rank > 0))
            continue; /* a model with adapters is written as these */
        if (p->table) {
            w->table = fur_model_table_writer(model, p, data, model->config.table_type);
            w->table.row = plan->row;
            w->table.coded = plan->coded;
            plan->count += fur_table_entries(&w->table, &w->scale_name, entry);
            continue;
        }
        *w =
            (tensor_writer){.parameter = p, .config = &model->config, .data = data + p->offset, .dtype = FUR_DTYPE_F32};
        w->coded = fur_coded_parameter(model, p);
        *entry = (fur_tensor_entry){.name = p->name, .rank = p->rank, .user = w};
        if (from) {
            bool gguf = fur_tensor_source_gguf(from) != NULL;
            entry->name = gguf ? p->name : file_name(from, p);
            fur_file_layout unused;
            const fur_tensor_info *info = fur_weights_tensor(from, &model->config, p, &unused);
            bool narrow = info && (info->dtype == FUR_DTYPE_F16 || info->dtype == FUR_DTYPE_BF16);
            w->dtype = narrow ? info->dtype : FUR_DTYPE_F32;
        }
        entry->dtype = w->dtype;
        fur_parameter_file_shape(p, entry->shape);
        if (p->file_layout == FUR_FILE_SAME && w->dtype == FUR_DTYPE_F32 && !w->coded)
            entry->data = w->data;
        else
            entry->fill = fill_turned;
        plan->count++;
    }
}

fur_table_writer fur_model_table_writer(const fur_model *model, const fur_parameter *p, const float *data,
                                        fur_table_type type)
{
    return (fur_table_writer){.parameter = p,
                              .rows = model->rows ? &model->rows[p->table_index] : NULL,
                              .tiles = model->rows ? NULL : data + p->offset,
                              .type = (fur_lookup_type)type};
}

static fur_status write_file(fur_error *error, const fur_model *model, const float *data, const fur_tensor_source *from,
                             const char *path, uint64_t *hash)
{
    file_plan plan;
    fur_status status = reserve_plan(error, model, path, &plan);
    if (status == FUR_OK) {
        plan_file(model, data, from, &plan);
        status = fur_safetensors_write(error, path, plan.entries, plan.count, NULL, 0, hash);
    }
    release_plan(&plan);
    return status;
}

fur_status fur_weights_write(fur_error *error, const fur_model *model, const float *data, const char *path,
                             uint64_t *hash)
{
    return write_file(error, model, data, NULL, path, hash);
}

fur_status fur_weights_write_as(fur_error *error, const fur_model *model, const char *from, const char *path)
{
    fur_tensor_source *source;
    FUR_TRY(fur_tensor_source_open(error, from, &source));
    fur_status status = write_file(error, model, model->data, source, path, NULL);
    fur_tensor_source_close(source);
    return status;
}

/* ---- public ----------------------------------------------------------------------------------------------- */

/* used: the model is not trained, so that tables stay in the file, and other weights may stay as it has them; those
 * beside adapters may too */
static fur_status load(fur_context *context, const char *folder, bool used, fur_model **out)
{
    *out = NULL;
    char *base;
    fur_model_config config;
    FUR_TRY(fur_folder_config(context, folder, &config, &base));
    fur_model *model = NULL;
    fur_status status = used && fur_config_has_lookup(&config) ? fur_model_allocate_rows(context, &config, &model)
                                                               : fur_model_allocate(context, &config, &model);
    if (status == FUR_OK && (used || base))
        status = fur_coded_begin(&context->error, model);
    if (status == FUR_OK)
        status = fur_weights_read(&context->error, base ? base : folder, model);
    if (status == FUR_OK && base)
        status = fur_adapters_read(&context->error, folder, model);
    if (status != FUR_OK) {
        fur_model_destroy(model);
        fur_free(base);
        return status;
    }
    model->base = base;
    *out = model;
    return FUR_OK;
}

fur_status fur_model_parameter_copy(fur_context *context, const fur_model *model, int64_t index, bool gradient,
                                    float *out)
{
    if (index < 0 || index >= model->table.count)
        return fur_error_set(&context->error, FUR_E_ARGUMENT, "parameter %lld, expected 0 to %lld", (long long)index,
                             (long long)(model->table.count - 1));
    const fur_parameter *p = &model->table.list[index];
    fur_parameter_info info;
    fur_model_parameter(model, index, &info);
    const float *from = gradient ? info.gradient : info.data;
    if (gradient && !from)
        return fur_error_set(&context->error, FUR_E_ARGUMENT, "%s has no gradient yet", p->name);
    const fur_coded_rows *coded = gradient ? NULL : fur_coded_parameter(model, p);
    if (coded) {
        fur_coded_read(coded, p->shape[1], 0, p->shape[0], out);
        return FUR_OK;
    }
    if (!p->table) {
        for (int64_t i = 0; i < p->count; i++)
            out[i] = from[our_index(p, &model->config, i)];
        return FUR_OK;
    }
    for (int64_t row = 0; row < p->shape[0]; row++) {
        if (from)
            fur_row_from_tiles(p, from, row, out + row * p->shape[1]);
        else
            fur_row_table_get(&model->rows[p->table_index], row, p->shape[1], out + row * p->shape[1]);
    }
    return FUR_OK;
}

fur_status fur_model_load(fur_context *context, const char *folder, fur_model **out)
{
    return load(context, folder, false, out);
}

fur_status fur_model_open(fur_context *context, const char *folder, fur_model **out)
{
    return load(context, folder, true, out);
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
        status = model->config.lora_rank > 0 ? fur_adapters_write(error, model, folder)
                                             : fur_weights_write(error, model, model->data, weights, NULL);
    if (status == FUR_OK && !(json = fur_config_to_json(&model->config)))
        status = fur_memory_error(error, 4096, "config.json");
    if (status == FUR_OK)
        status = fur_json_write(error, config, json, 2);
    json_decref(json);
    fur_free(weights);
    fur_free(config);
    return status;
}
