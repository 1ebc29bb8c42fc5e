/* SPDX-License-Identifier: Apache-2.0 */
#include "model/coded.h"

#include <string.h>

#include "base/alloc.h"
#include "base/size.h"
#include "model/config.h"
#include "model/family.h"
#include "op/gemv/gemv.h"

struct fur_coded_tensor {
    fur_coded_rows rows; /* rows.rows NULL: the parameter is in the model's data */
    fur_tensor_map map;
};

static void decode(int type, const void *from, int64_t elements, float *to)
{
    fur_dtype_to_f32((fur_dtype)type, from, elements, to);
}

static int gemv_of(fur_dtype dtype)
{
    static const struct {
        fur_dtype dtype;
        fur_gemv_type gemv;
    } both[] = {{FUR_DTYPE_BF16, FUR_GEMV_BF16}, {FUR_DTYPE_Q8_0, FUR_GEMV_Q8_0}, {FUR_DTYPE_Q4_0, FUR_GEMV_Q4_0},
                {FUR_DTYPE_Q4_1, FUR_GEMV_Q4_1}, {FUR_DTYPE_Q5_0, FUR_GEMV_Q5_0}, {FUR_DTYPE_Q5_1, FUR_GEMV_Q5_1},
                {FUR_DTYPE_Q4_K, FUR_GEMV_Q4_K}, {FUR_DTYPE_Q5_K, FUR_GEMV_Q5_K}, {FUR_DTYPE_Q6_K, FUR_GEMV_Q6_K}};
    for (size_t i = 0; i < sizeof both / sizeof both[0]; i++)
        if (both[i].dtype == dtype)
            return (int)both[i].gemv;
    return -1;
}

static bool is_matrix(const fur_parameter *p)
{
    switch (p->role) {
    case FUR_TENSOR_EMBEDDING:
    case FUR_TENSOR_HEAD:
    case FUR_TENSOR_QKV:
    case FUR_TENSOR_Q:
    case FUR_TENSOR_K:
    case FUR_TENSOR_V:
    case FUR_TENSOR_O:
    case FUR_TENSOR_GATE:
    case FUR_TENSOR_UP:
    case FUR_TENSOR_DOWN: return p->rank == 2 && !p->table && !p->adapter;
    default: return false;
    }
}

/* info: of the tensor. Rows may stand elsewhere, elements of a row may not; written again, they have the order of the
 * family's own files. */
static bool stays(const fur_parameter *p, const fur_tensor_info *info, fur_file_layout layout)
{
    bool by_row = layout == FUR_FILE_SAME || layout == FUR_FILE_PAIRS;
    return is_matrix(p) && by_row && p->file_layout == FUR_FILE_SAME && info->rank == 2 &&
           info->shape[0] == p->shape[0] && info->shape[1] == p->shape[1] && gemv_of(info->dtype) >= 0;
}

bool fur_coded_takes(const fur_model *model, const fur_parameter *p, const fur_tensor_info *info,
                     fur_file_layout layout)
{
    return model->coded && info && stays(p, info, layout);
}

fur_status fur_coded_forecast(fur_error *error, const char *folder, const fur_model_config *config, int64_t *bytes)
{
    fur_parameter_table table;
    fur_tensor_source *source = NULL;
    FUR_TRY(fur_parameter_table_create(error, config, &table));
    fur_status status = fur_tensor_source_open(error, folder, &source);
    *bytes = 0;
    for (int64_t i = 0; status == FUR_OK && i < table.count; i++) {
        const fur_parameter *p = &table.list[i];
        fur_file_layout layout = FUR_FILE_SAME;
        const fur_tensor_info *info = p->adapter || p->table ? NULL : fur_weights_tensor(source, config, p, &layout);
        if (info && stays(p, info, layout))
            *bytes += info->bytes;
        else if (!p->table)
            *bytes += p->count * (int64_t)sizeof(float);
    }
    fur_tensor_source_close(source);
    fur_parameter_table_destroy(&table);
    return status;
}

/* Rows in our order, in pages of their own. */
static fur_status copy_rows(fur_error *error, const fur_parameter *p, const fur_model_config *config, int64_t row_bytes,
                            fur_file_layout layout, fur_tensor_map *map)
{
    int64_t columns = p->shape[1];
    fur_tensor_map own = {.page_bytes = p->shape[0] * row_bytes};
    unsigned char *to = fur_pages_map((size_t)own.page_bytes);
    if (!to)
        return fur_memory_error(error, own.page_bytes, p->name);
    own.data = own.pages = to;
    for (int64_t row = 0; row < p->shape[0]; row++)
        memcpy(to + fur_file_index(layout, p, config, row * columns) / columns * row_bytes,
               (const unsigned char *)map->data + row * row_bytes, (size_t)row_bytes);
    fur_tensor_unmap(map);
    *map = own;
    return FUR_OK;
}

fur_status fur_coded_open(fur_error *error, const fur_tensor_source *source, const fur_tensor_info *info,
                          const fur_parameter *p, fur_file_layout layout, fur_model *model)
{
    fur_coded_tensor *at = &model->coded[p - model->table.list];
    int64_t row_bytes = info->shape[1] / fur_dtype_block(info->dtype) * fur_dtype_bytes(info->dtype);
    FUR_TRY(fur_tensor_source_check_finite(error, source, info->name));
    FUR_TRY(fur_tensor_source_map(error, source, info->name, info->dtype, info->rank, info->shape, &at->map));
    if (layout != FUR_FILE_SAME)
        FUR_TRY(copy_rows(error, p, &model->config, row_bytes, layout, &at->map));
    at->rows = (fur_coded_rows){.rows = at->map.data,
                                .count = p->shape[0],
                                .row_bytes = row_bytes,
                                .gemv = gemv_of(info->dtype),
                                .type = (int)info->dtype,
                                .decode = decode};
    return FUR_OK;
}

static void leave(fur_model *model, const fur_parameter *p, bool decoded)
{
    fur_coded_tensor *at = &model->coded[p - model->table.list];
    if (decoded && at->rows.rows)
        fur_coded_read(&at->rows, p->shape[1], 0, p->shape[0], model->data + p->offset);
    fur_tensor_unmap(&at->map);
    at->rows = (fur_coded_rows){0};
}

fur_status fur_coded_begin(fur_error *error, fur_model *model)
{
    model->coded = fur_calloc((size_t)model->table.count, sizeof *model->coded);
    return model->coded ? FUR_OK
                        : fur_memory_error(error, model->table.count * (int64_t)sizeof *model->coded, "coded weights");
}

void fur_coded_end(fur_model *model)
{
    int64_t coded = 0;
    for (int64_t i = 0; i + 1 < model->table.count; i++) {
        const fur_parameter *gate = &model->table.list[i];
        for (int64_t j = i + 1; gate->role == FUR_TENSOR_GATE && j < model->table.count; j++) {
            const fur_parameter *up = &model->table.list[j];
            if (up->offset != gate->offset + gate->count)
                continue;
            if (!model->coded[i].rows.rows != !model->coded[j].rows.rows) {
                leave(model, gate, true);
                leave(model, up, true);
            }
            break;
        }
    }
    for (int64_t i = 0; i < model->table.count; i++)
        coded += model->coded[i].rows.rows != NULL;
    if (coded == 0)
        fur_coded_close(model);
}

void fur_coded_close(fur_model *model)
{
    for (int64_t i = 0; model->coded && i < model->table.count; i++)
        leave(model, &model->table.list[i], false);
    fur_free(model->coded);
    model->coded = NULL;
}

/* The parameter that element `offset` of the model's data is in. */
static const fur_parameter *parameter_at(const fur_parameter_table *table, int64_t offset)
{
    for (int64_t low = 0, high = table->count - 1; low <= high;) {
        int64_t middle = low + (high - low) / 2;
        const fur_parameter *p = &table->list[middle];
        if (p->table || p->offset > offset)
            high = middle - 1;
        else if (p->offset + p->count <= offset)
            low = middle + 1;
        else
            return p;
    }
    return NULL;
}

void fur_coded_map(const fur_model *model, const fur_map_offsets *map, fur_projection *out)
{
    int64_t offset = map->weight, rows = map->out;
    if (!model->coded || map->in == 0)
        return;
    for (int part = 0; part < FUR_MAP_PARTS && rows > 0; part++) {
        const fur_parameter *p = parameter_at(&model->table, offset);
        const fur_coded_rows *of_p = p ? fur_coded_parameter(model, p) : NULL;
        if (!of_p)
            return;
        int64_t first = (offset - p->offset) / map->in;
        fur_coded_rows mine = *of_p;
        mine.rows += first * mine.row_bytes;
        mine.count = fur_min_i64(of_p->count - first, rows);
        out->coded[out->coded_parts++] = mine;
        rows -= mine.count;
        offset += mine.count * map->in;
    }
}

const fur_coded_rows *fur_coded_parameter(const fur_model *model, const fur_parameter *p)
{
    if (!model->coded)
        return NULL;
    const fur_coded_rows *rows = &model->coded[p - model->table.list].rows;
    return rows->rows ? rows : NULL;
}

void fur_coded_read(const fur_coded_rows *rows, int64_t columns, int64_t first, int64_t count, float *out)
{
    for (int64_t row = 0; row < count; row++)
        rows->decode(rows->type, rows->rows + (first + row) * rows->row_bytes, columns, out + row * columns);
}

void fur_coded_elements(const fur_coded_rows *rows, int64_t columns, int64_t first, int64_t count, float *out)
{
    int64_t block = fur_dtype_block((fur_dtype)rows->type), bytes = fur_dtype_bytes((fur_dtype)rows->type);
    float piece[256]; /* the largest block */
    for (int64_t at = first; at < first + count;) {
        int64_t row = at / columns, column = at % columns, begin = column / block * block;
        int64_t most = fur_min_i64(columns - begin, 256 / block * block);
        int64_t some = fur_min_i64(begin + most - column, first + count - at);
        rows->decode(rows->type, rows->rows + row * rows->row_bytes + begin / block * bytes, most, piece);
        memcpy(out + (at - first), piece + (column - begin), (size_t)some * sizeof *out);
        at += some;
    }
}

int64_t fur_coded_bytes(const fur_model *model, int64_t *in_place_of)
{
    int64_t bytes = 0;
    *in_place_of = 0;
    for (int64_t i = 0; model->coded && i < model->table.count; i++)
        if (model->coded[i].rows.rows) {
            bytes += model->coded[i].rows.count * model->coded[i].rows.row_bytes;
            *in_place_of += model->table.list[i].count * (int64_t)sizeof(float);
        }
    return bytes;
}
