/* SPDX-License-Identifier: Apache-2.0 */
#include "model/row_tables.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/size.h"
#include "io/file.h"

static const fur_dtype dtypes[] = {
    [FUR_LOOKUP_F32] = FUR_DTYPE_F32, [FUR_LOOKUP_BF16] = FUR_DTYPE_BF16, [FUR_LOOKUP_I8] = FUR_DTYPE_I8};

fur_scale_name fur_table_scale_name(const fur_parameter *p)
{
    fur_scale_name name;
    snprintf(name.text, sizeof name.text, "%s_scale", p->name);
    return name;
}

/* ---- from files ---------------------------------------------------------------------------------------------------
 */

static fur_status read_scales(fur_error *error, const fur_tensor_source *source, const fur_parameter *p, float *scale_R)
{
    fur_scale_name name = fur_table_scale_name(p);
    fur_status status = fur_tensor_source_read_raw(error, source, name.text, FUR_DTYPE_F32, 1, p->shape, scale_R);
    if (status == FUR_E_SHAPE) /* scales are part of how a table is written down, not weights of another model */
        status = error->status = FUR_E_FORMAT;
    for (int64_t r = 0; status == FUR_OK && r < p->shape[0]; r++)
        if (!(scale_R[r] > 0 && scale_R[r] <= FLT_MAX / 128)) /* 128 of them are finite too */
            status =
                fur_error_set(error, FUR_E_FORMAT,
                              "%s: tensor \"%s\": element %lld is %g, expected a scale above 0, and 128 of it finite",
                              fur_tensor_source_path(source), name.text, (long long)r, (double)scale_R[r]);
    return status;
}

fur_status fur_row_table_open(fur_error *error, const fur_tensor_source *source, const fur_parameter *p,
                              fur_lookup_type type, fur_row_table *out)
{
    *out = (fur_row_table){.type = type};
    fur_status status = fur_tensor_source_map(error, source, p->name, dtypes[type], 2, p->shape, &out->map);
    if (status == FUR_OK && type != FUR_LOOKUP_I8)
        status = fur_tensor_source_check_finite(error, source, p->name);
    if (status == FUR_OK && type == FUR_LOOKUP_I8) {
        int64_t bytes = p->shape[0] * (int64_t)sizeof *out->scale_R;
        out->scale_R = fur_malloc((size_t)bytes);
        status = out->scale_R ? read_scales(error, source, p, out->scale_R) : fur_memory_error(error, bytes, p->name);
    }
    if (status != FUR_OK)
        fur_row_table_close(out);
    return status;
}

void fur_row_table_close(fur_row_table *table)
{
    fur_tensor_unmap(&table->map);
    fur_free(table->scale_R);
    table->scale_R = NULL;
}

/* ---- rows ---------------------------------------------------------------------------------------------------------
 */

static const void *row_at(const fur_row_table *table, int64_t row, int64_t columns)
{
    return (const unsigned char *)table->map.data + row * columns * fur_lookup_type_bytes(table->type);
}

void fur_row_table_get(const fur_row_table *table, int64_t row, int64_t columns, float *out)
{
    fur_lookup_row_decode(table->type, columns, row_at(table, row, columns), table->scale_R ? table->scale_R[row] : 1,
                          out);
}

static void row_to_tiles(const fur_parameter *p, int64_t row, const float *values, float *tiles)
{
    for (int64_t column = 0, run; column < p->shape[1]; column += run) {
        int64_t at = fur_table_at(p, row, column, &run);
        memcpy(tiles + at, values + column, (size_t)run * sizeof(float));
    }
}

void fur_row_from_tiles(const fur_parameter *p, const float *tiles, int64_t row, float *out)
{
    for (int64_t column = 0, run; column < p->shape[1]; column += run) {
        int64_t at = fur_table_at(p, row, column, &run);
        memcpy(out + column, tiles + at, (size_t)run * sizeof(float));
    }
}

fur_status fur_row_table_unpack(fur_error *error, const fur_row_table *table, const fur_parameter *p, float *tiles)
{
    int64_t columns = p->shape[1], bytes = columns * (int64_t)sizeof(float);
    float *row = fur_malloc((size_t)bytes);
    if (!row)
        return fur_memory_error(error, bytes, p->name);
    for (int64_t r = 0; r < p->shape[0]; r++) {
        fur_row_table_get(table, r, columns, row);
        row_to_tiles(p, r, row, tiles);
    }
    fur_table_clear_padding(p, tiles);
    fur_free(row);
    return FUR_OK;
}

fur_status fur_row_table_fill(fur_error *error, const fur_parameter *p, fur_lookup_type type, const float *draw,
                              int64_t draw_rows, fur_row_table *out)
{
    int64_t columns = p->shape[1], row_bytes = columns * fur_lookup_type_bytes(type);
    int64_t bytes = p->shape[0] * row_bytes, scales = p->shape[0] * (int64_t)sizeof *out->scale_R;
    *out = (fur_row_table){.type = type};
    unsigned char *to = fur_pages_map((size_t)bytes);
    if (to)
        fur_pages_large(to, (size_t)bytes);
    out->map = (fur_tensor_map){to, to, bytes};
    if (to && type == FUR_LOOKUP_I8)
        out->scale_R = fur_malloc((size_t)scales);
    if (!to || (type == FUR_LOOKUP_I8 && !out->scale_R)) {
        fur_row_table_close(out);
        return fur_memory_error(error, bytes, p->name);
    }
    for (int64_t r = 0; r < p->shape[0]; r++) {
        const float *row = draw + r % draw_rows * columns;
        float scale = r < draw_rows ? fur_lookup_row_scale(type, columns, row) : 1;
        if (r < draw_rows)
            fur_lookup_row_encode(type, columns, row, scale, to + r * row_bytes);
        else
            memcpy(to + r * row_bytes, to + (r - draw_rows) * row_bytes, (size_t)row_bytes);
        if (out->scale_R)
            out->scale_R[r] = r < draw_rows ? scale : out->scale_R[r - draw_rows];
    }
    return FUR_OK;
}

/* ---- to files -----------------------------------------------------------------------------------------------------
 */

static void source_row(const fur_table_writer *w, int64_t row)
{
    const fur_parameter *p = w->parameter;
    if (w->rows) {
        fur_row_table_get(w->rows, row, p->shape[1], w->row);
        return;
    }
    fur_row_from_tiles(p, w->tiles, row, w->row);
}

/* A row as it goes to the file. Where the type stays, to the bit as it came. */
static const void *coded_row(const fur_table_writer *w, int64_t row, float *scale)
{
    int64_t columns = w->parameter->shape[1];
    if (w->rows && w->rows->type == w->type) {
        *scale = w->rows->scale_R ? w->rows->scale_R[row] : 1;
        return row_at(w->rows, row, columns);
    }
    source_row(w, row);
    *scale = fur_lookup_row_scale(w->type, columns, w->row);
    fur_lookup_row_encode(w->type, columns, w->row, *scale, w->coded);
    return w->coded;
}

static fur_status fill_rows(void *user, fur_error *error, int64_t first, int64_t count, void *out)
{
    const fur_table_writer *w = user;
    (void)error;
    int64_t columns = w->parameter->shape[1], bytes = fur_lookup_type_bytes(w->type);
    unsigned char *to = out;
    for (int64_t done = 0, run; done < count; done += run) {
        int64_t row = (first + done) / columns, column = (first + done) % columns;
        float scale;
        const unsigned char *coded = coded_row(w, row, &scale);
        run = fur_min_i64(columns - column, count - done);
        memcpy(to + done * bytes, coded + column * bytes, (size_t)(run * bytes));
    }
    return FUR_OK;
}

static fur_status fill_scales(void *user, fur_error *error, int64_t first, int64_t count, void *out)
{
    const fur_table_writer *w = user;
    (void)error;
    float *to = out;
    for (int64_t i = 0; i < count; i++) {
        if (w->rows && w->rows->type == w->type) {
            to[i] = w->rows->scale_R[first + i];
            continue;
        }
        source_row(w, first + i);
        to[i] = fur_lookup_row_scale(w->type, w->parameter->shape[1], w->row);
    }
    return FUR_OK;
}

int fur_table_entries(fur_table_writer *w, fur_scale_name *name, fur_tensor_entry *out)
{
    const fur_parameter *p = w->parameter;
    *name = fur_table_scale_name(p);
    out[0] = (fur_tensor_entry){
        .name = p->name, .dtype = dtypes[w->type], .rank = 2, .shape = {p->shape[0], p->shape[1]}, .fill = fill_rows};
    out[1] = (fur_tensor_entry){
        .name = name->text, .dtype = FUR_DTYPE_F32, .rank = 1, .shape = {p->shape[0]}, .fill = fill_scales};
    out[0].user = out[1].user = w;
    return w->type == FUR_LOOKUP_I8 ? 2 : 1;
}

fur_status fur_table_rounding(fur_error *error, const fur_table_writer *w, double *largest, double *norm)
{
    int64_t columns = w->parameter->shape[1], bytes = columns * (int64_t)sizeof(float);
    float *stored = fur_malloc((size_t)bytes);
    double squares = 0, of_differences = 0;
    *largest = *norm = 0;
    if (!stored)
        return fur_memory_error(error, bytes, w->parameter->name);
    int64_t bad = -1, row = 0;
    for (; row < w->parameter->shape[0] && bad < 0; row++) {
        float scale;
        const void *coded = coded_row(w, row, &scale);
        fur_lookup_row_decode(w->type, columns, coded, scale, stored);
        bad = fur_first_nonfinite(stored, columns);
        source_row(w, row);
        double most = 0, difference = 0;
        for (int64_t i = 0; i < columns; i++) {
            double value = (double)w->row[i], off = value - (double)stored[i];
            most = fabs(value) > most ? fabs(value) : most;
            difference = fabs(off) > difference ? fabs(off) : difference;
            squares += value * value;
            of_differences += off * off;
        }
        if (most > 0)
            *largest = fmax(*largest, difference / most);
    }
    fur_free(stored);
    *norm = squares > 0 ? sqrt(of_differences / squares) : 0;
    if (bad < 0)
        return FUR_OK;
    return fur_error_set(error, FUR_E_NONFINITE, "tensor \"%s\": element %lld overflows the type it is to be stored as",
                         w->parameter->name, (long long)((row - 1) * columns + bad));
}
