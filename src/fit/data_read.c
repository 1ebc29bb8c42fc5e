/* SPDX-License-Identifier: Apache-2.0 */
/* Data of a fit from .npz and .safetensors, and written to the latter. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/size.h"
#include "fit/data.h"
#include "fit/la.h"
#include "io/file.h"
#include "io/npz.h"
#include "io/safetensors.h"

/* ---- one of the two formats -------------------------------------------------------------------------------------- */

typedef struct source {
    fur_error *error;
    const char *path;
    fur_npz *npz;
    fur_safetensors *safetensors;
} source;

typedef struct array_info {
    const char *name;
    fur_dtype dtype;
    int rank;
    int64_t shape[FUR_MAX_RANK], count;
    int64_t index; /* in the .npz */
} array_info;

static fur_status source_open(fur_error *error, const char *path, source *out)
{
    *out = (source){.error = error, .path = path};
    size_t length = strlen(path);
    if (length > 4 && strcmp(path + length - 4, ".npz") == 0)
        return fur_npz_open(error, path, &out->npz);
    if (length > 12 && strcmp(path + length - 12, ".safetensors") == 0)
        return fur_safetensors_open(error, path, &out->safetensors);
    return fur_error_set(error, FUR_E_UNSUPPORTED, "%s: expected a name that ends with .npz or .safetensors", path);
}

static void source_close(source *s)
{
    fur_npz_close(s->npz);
    fur_safetensors_close(s->safetensors);
}

/* *there false: none of that name. */
static fur_status look_up(const source *s, const char *name, array_info *out, bool *there)
{
    *out = (array_info){.name = name};
    if (s->safetensors) {
        const fur_tensor_info *info = fur_safetensors_find(s->safetensors, name);
        *there = info != NULL;
        if (info) {
            out->dtype = info->dtype;
            out->rank = info->rank;
            memcpy(out->shape, info->shape, sizeof info->shape);
            out->count = info->count;
        }
        return FUR_OK;
    }
    out->index = fur_npz_find(s->npz, name);
    *there = out->index >= 0;
    if (!*there)
        return FUR_OK;
    fur_npy npy;
    FUR_TRY(fur_npz_array(s->error, s->npz, out->index, &npy));
    out->dtype = npy.dtype;
    out->rank = npy.rank;
    memcpy(out->shape, npy.shape, sizeof npy.shape);
    out->count = npy.rows * npy.columns;
    return FUR_OK;
}

static fur_status read_raw(const source *s, const array_info *a, void *out)
{
    return s->npz ? fur_npz_read(s->error, s->npz, a->index, out)
                  : fur_safetensors_read_raw(s->error, s->safetensors, a->name, a->dtype, a->rank, a->shape, out);
}

/* ---- arrays ------------------------------------------------------------------------------------------------------ */

static fur_status shape_error(const source *s, const array_info *a, const char *expected)
{
    char text[160];
    fur_shape_text(a->rank, a->shape, text, sizeof text);
    return fur_error_set(s->error, FUR_E_SHAPE, "%s: array \"%s\" has shape %s, expected %s", s->path, a->name, text,
                         expected);
}

static fur_status need(const source *s, const char *name, const char *expected, array_info *out)
{
    bool there;
    FUR_TRY(look_up(s, name, out, &there));
    if (!there)
        return fur_error_set(s->error, FUR_E_FORMAT, "%s: array \"%s\" is missing: expected %s", s->path, name,
                             expected);
    if (!fur_dtype_is_float(out->dtype))
        return fur_error_set(s->error, FUR_E_FORMAT, "%s: array \"%s\" is of type %s, expected F16, BF16, F32 or F64",
                             s->path, name, fur_dtype_name(out->dtype));
    if (out->rank != 2 && out->rank != 3)
        return shape_error(s, out, "[n, d] or [sequences, n, d]");
    if (out->count < 1)
        return shape_error(s, out, "at least one number");
    return FUR_OK;
}

static double epsilon_of(fur_dtype dtype)
{
    return dtype == FUR_DTYPE_F64   ? 0x1p-53
           : dtype == FUR_DTYPE_F32 ? 0x1p-24
           : dtype == FUR_DTYPE_F16 ? 0x1p-11
                                    : 0x1p-8;
}

static fur_status load(const source *s, const array_info *a, fit_data *data, fit_array *out)
{
    bool wide = a->dtype == FUR_DTYPE_F64;
    int64_t bytes;
    *out = (fit_array){.f32 = !wide, .width = a->shape[a->rank - 1]};
    if (out->width < 1)
        return shape_error(s, a, "at least one number");
    out->rows = a->count / out->width;
    if (!fur_mul_ok(a->count, wide ? 8 : 4, &bytes))
        return shape_error(s, a, "fewer numbers");
    out->data = fur_malloc((size_t)bytes);
    if (!out->data)
        return fur_memory_error(s->error, bytes, s->path);
    if (epsilon_of(a->dtype) > data->epsilon) {
        data->epsilon = epsilon_of(a->dtype);
        data->stored_type = fur_dtype_name(a->dtype);
    }
    if (wide || a->dtype == FUR_DTYPE_F32)
        return read_raw(s, a, out->data);
    void *raw = fur_malloc((size_t)a->count * 2);
    if (!raw)
        return fur_memory_error(s->error, a->count * 2, s->path);
    fur_status status = read_raw(s, a, raw);
    if (status == FUR_OK)
        fur_dtype_to_f32(a->dtype, raw, a->count, out->data);
    fur_free(raw);
    return status;
}

/* Whole numbers, from integers or from floats that are whole; allocated. */
static fur_status load_integers(const source *s, const array_info *a, int64_t **out)
{
    int64_t size = fur_dtype_bytes(a->dtype);
    if (a->dtype > FUR_DTYPE_U64 || a->dtype == FUR_DTYPE_BOOL || a->dtype == FUR_DTYPE_F8_E4M3 ||
        a->dtype == FUR_DTYPE_F8_E5M2 || a->dtype == FUR_DTYPE_F8_E8M0 || fur_dtype_is_float(a->dtype))
        return fur_error_set(s->error, FUR_E_FORMAT, "%s: array \"%s\" is of type %s, expected integers", s->path,
                             a->name, fur_dtype_name(a->dtype));
    unsigned char *raw = fur_malloc((size_t)(a->count * size));
    int64_t *numbers = fur_malloc((size_t)a->count * sizeof *numbers);
    fur_status status = raw && numbers ? read_raw(s, a, raw) : fur_memory_error(s->error, a->count * 8, s->path);
    bool has_sign = a->dtype == FUR_DTYPE_I8 || a->dtype == FUR_DTYPE_I16 || a->dtype == FUR_DTYPE_I32;
    for (int64_t i = 0; status == FUR_OK && i < a->count; i++) {
        uint64_t bits = 0;
        memcpy(&bits, raw + i * size, (size_t)size);
        if (has_sign && bits >> (8 * size - 1))
            bits |= ~(uint64_t)0 << (8 * size);
        memcpy(&numbers[i], &bits, sizeof bits);
    }
    fur_free(raw);
    if (status == FUR_OK)
        *out = numbers;
    else
        fur_free(numbers);
    return status;
}

/* ---- sequences --------------------------------------------------------------------------------------------------- */

/* Rows of one kind: of queries (a1, b, weights, segments) or keys (a2, a3). */
typedef struct rows {
    int64_t sequences, longest, total; /* of the arrays as they are */
    int64_t *at;                       /* first row kept of each sequence, once the rest is left out [sequences + 1] */
    bool packed;                       /* [n, d]: lengths add up; else they are the first of each */
} rows;

static void rows_of(const array_info *a, rows *out)
{
    *out = (rows){.packed = a->rank == 2};
    out->sequences = a->rank == 3 ? a->shape[0] : 1;
    out->longest = a->shape[a->rank - 2];
    out->total = out->sequences * out->longest;
}

static fur_status read_lengths(const source *s, const char *name, rows *r)
{
    array_info a;
    bool there;
    int64_t *lengths = NULL, sum = 0;
    FUR_TRY(look_up(s, name, &a, &there));
    if (there) {
        if (a.rank != 1 || (!r->packed && a.shape[0] != r->sequences) || a.count < 1)
            return shape_error(s, &a, r->packed ? "[sequences]" : "a length for each sequence");
        FUR_TRY(load_integers(s, &a, &lengths));
        if (r->packed)
            r->sequences = a.count;
    }
    r->at = fur_calloc((size_t)r->sequences + 1, sizeof *r->at);
    fur_status status = r->at ? FUR_OK : fur_memory_error(s->error, r->sequences * 8, s->path);
    for (int64_t i = 0; i < r->sequences && status == FUR_OK; i++) {
        int64_t length = there ? lengths[i] : r->longest;
        if (length < 1 || length > r->longest)
            status = fur_error_set(s->error, FUR_E_SHAPE,
                                   "%s: array \"%s\": sequence %lld has length %lld, expected 1 to %lld", s->path, name,
                                   (long long)i, (long long)length, (long long)r->longest);
        else
            r->at[i + 1] = sum += length;
    }
    if (status == FUR_OK && r->packed && sum != r->total)
        status = fur_error_set(s->error, FUR_E_SHAPE, "%s: array \"%s\" adds up to %lld, but there are %lld rows",
                               s->path, name, (long long)sum, (long long)r->total);
    fur_free(lengths);
    return status;
}

/* Rows beyond a sequence's length go; the rest moves up. */
static void keep_rows(const rows *r, void *data, int64_t row_bytes)
{
    unsigned char *bytes = data;
    for (int64_t s = 0; s < r->sequences && !r->packed; s++)
        memmove(bytes + r->at[s] * row_bytes, bytes + s * r->longest * row_bytes,
                (size_t)((r->at[s + 1] - r->at[s]) * row_bytes));
}

static fur_status load_rows(const source *s, const array_info *a, const rows *r, fit_data *data, fit_array *out)
{
    if (a->rank != (r->packed ? 2 : 3) || a->shape[a->rank - 2] != r->longest ||
        (!r->packed && a->shape[0] != r->sequences)) {
        char expected[64];
        if (r->packed)
            (void)snprintf(expected, sizeof expected, "[%lld, d] as the others", (long long)r->longest);
        else
            (void)snprintf(expected, sizeof expected, "[%lld, %lld, d] as the others", (long long)r->sequences,
                           (long long)r->longest);
        return shape_error(s, a, expected);
    }
    FUR_TRY(load(s, a, data, out));
    keep_rows(r, out->data, out->width * (out->f32 ? 4 : 8));
    out->rows = r->at[r->sequences];
    return FUR_OK;
}

/* An optional array with a number for each query row, of shape [n] or [sequences, n]. */
static fur_status find_numbers(const source *s, const char *name, const rows *r, array_info *a, bool *there)
{
    FUR_TRY(look_up(s, name, a, there));
    bool fits = r->packed ? a->rank == 1 && a->shape[0] == r->total
                          : a->rank == 2 && a->shape[1] == r->longest && a->shape[0] * a->shape[1] == r->total;
    return !*there || fits ? FUR_OK : shape_error(s, a, "a number for each row");
}

static fur_status load_weights(const source *s, const rows *r, fit_data *data)
{
    array_info a;
    bool there;
    fit_array array;
    FUR_TRY(find_numbers(s, "weights", r, &a, &there));
    if (!there)
        return FUR_OK;
    if (!fur_dtype_is_float(a.dtype))
        return fur_error_set(s->error, FUR_E_FORMAT,
                             "%s: array \"weights\" is of type %s, expected F16, BF16, F32 or F64", s->path,
                             fur_dtype_name(a.dtype));
    fit_data scratch = *data; /* the type of weights says nothing about the data's precision */
    data->weights = fur_malloc((size_t)a.count * sizeof *data->weights);
    fur_status status =
        data->weights ? load(s, &a, &scratch, &array) : fur_memory_error(s->error, a.count * 8, s->path);
    if (!data->weights)
        return status;
    for (int64_t i = 0; i < a.count && status == FUR_OK; i++)
        data->weights[i] = fit_array_get(&array, i);
    fur_free(array.data);
    keep_rows(r, data->weights, 8);
    return status;
}

static fur_status load_segments(const source *s, const rows *queries, const rows *keys, fit_data *data)
{
    array_info a;
    bool there;
    int64_t *segments;
    FUR_TRY(find_numbers(s, "segments", queries, &a, &there));
    if (!there)
        return FUR_OK;
    if (queries->sequences != keys->sequences ||
        memcmp(queries->at, keys->at, ((size_t)keys->sequences + 1) * sizeof *keys->at) != 0)
        return fur_error_set(s->error, FUR_E_SHAPE,
                             "%s: array \"segments\" wants as many keys as queries in every sequence", s->path);
    FUR_TRY(load_integers(s, &a, &segments));
    keep_rows(queries, segments, 8);
    fur_status status = fit_data_split_segments(s->error, data, segments);
    fur_free(segments);
    return status;
}

/* ---- a start ------------------------------------------------------------------------------------------------------
 */

/* X = q k^T of each head. */
static fur_status load_start(const source *s, fit_data *data)
{
    array_info q, k;
    bool has_q, has_k;
    fit_array of_q = {0}, of_k = {0};
    fit_data scratch = *data;
    FUR_TRY(look_up(s, "q", &q, &has_q));
    FUR_TRY(look_up(s, "k", &k, &has_k));
    if (!has_q && !has_k)
        return FUR_OK;
    FUR_TRY(need(s, "q", "the start's q beside its k", &q));
    FUR_TRY(need(s, "k", "the start's k beside its q", &k));
    int64_t heads = q.rank == 3 ? q.shape[0] : 1, r = q.shape[q.rank - 1];
    if (q.shape[q.rank - 2] != data->a1.width)
        return shape_error(s, &q, "[width of a1, rank], or that for each head");
    if (k.rank != q.rank || k.shape[k.rank - 2] != data->a2.width || k.shape[k.rank - 1] != r ||
        (k.rank == 3 && k.shape[0] != heads))
        return shape_error(s, &k, "[width of a2, rank] as q");
    int64_t size = data->a1.width * data->a2.width;
    data->x = fur_malloc((size_t)(heads * size) * sizeof *data->x);
    fur_status status = data->x ? load(s, &q, &scratch, &of_q) : fur_memory_error(s->error, heads * size * 8, s->path);
    if (status == FUR_OK)
        status = load(s, &k, &scratch, &of_k);
    for (int64_t i = 0; status == FUR_OK && i < heads * size; i++) {
        int64_t h = i / size, row = i % size / data->a2.width, column = i % data->a2.width;
        data->x[i] = 0;
        for (int64_t c = 0; c < r; c++)
            data->x[i] += fit_array_get(&of_q, (h * data->a1.width + row) * r + c) *
                          fit_array_get(&of_k, (h * data->a2.width + column) * r + c);
        if (!isfinite(data->x[i]))
            status = fur_error_set(s->error, FUR_E_NONFINITE, "%s: the start's q k^T is not finite", s->path);
    }
    data->start_heads = heads;
    fur_free(of_q.data);
    fur_free(of_k.data);
    return status;
}

/* ---- the whole --------------------------------------------------------------------------------------------------- */

static fur_status load_all(const source *s, fit_data *data, rows *queries, rows *keys)
{
    static const char *const expected = "x, or a1, a2 and a3; and b";
    array_info a1, a2, a3, b;
    bool one;
    data->epsilon = 0x1p-53;
    data->stored_type = "F64";
    FUR_TRY(look_up(s, "x", &a1, &one));
    FUR_TRY(need(s, one ? "x" : "a1", expected, &a1));
    FUR_TRY(need(s, one ? "x" : "a2", expected, &a2));
    FUR_TRY(need(s, one ? "x" : "a3", expected, &a3));
    FUR_TRY(need(s, "b", expected, &b));
    rows_of(&a1, queries);
    rows_of(&a2, keys);
    FUR_TRY(read_lengths(s, "lengths", queries));
    bool as_queries = keys->packed == queries->packed && keys->longest == queries->longest;
    FUR_TRY(read_lengths(s, as_queries ? "lengths" : "key_lengths", keys));
    if (keys->sequences != queries->sequences)
        return fur_error_set(s->error, FUR_E_SHAPE, "%s: %lld sequences of queries and %lld of keys, expected as many",
                             s->path, (long long)queries->sequences, (long long)keys->sequences);
    FUR_TRY(load_rows(s, &a1, queries, data, &data->a1));
    if (one) {
        data->a2 = data->a3 = data->a1;
        data->a2.shared = data->a3.shared = true;
    } else {
        FUR_TRY(load_rows(s, &a2, keys, data, &data->a2));
        FUR_TRY(load_rows(s, &a3, keys, data, &data->a3));
    }
    FUR_TRY(load_rows(s, &b, queries, data, &data->b));
    FUR_TRY(load_weights(s, queries, data));
    data->sequences = queries->sequences;
    data->queries = queries->at;
    data->keys = keys->at;
    queries->at = keys->at = NULL;
    rows q = *queries, k = *keys;
    q.at = data->queries;
    k.at = data->keys;
    FUR_TRY(load_segments(s, &q, &k, data));
    FUR_TRY(load_start(s, data));
    return fit_data_check(s->error, data, s->path);
}

fur_status fur_fit_data_open(fur_context *context, const char *path, fur_fit_data **out)
{
    source s;
    rows queries = {0}, keys = {0};
    *out = NULL;
    fit_data *data = fit_data_new(&context->error);
    if (!data)
        return FUR_E_MEMORY;
    fur_status status = source_open(&context->error, path, &s);
    if (status == FUR_OK)
        status = load_all(&s, data, &queries, &keys);
    source_close(&s);
    fur_free(queries.at);
    fur_free(keys.at);
    if (status == FUR_OK)
        *out = data;
    else
        fur_fit_data_close(data);
    return status;
}

/* ---- writing ------------------------------------------------------------------------------------------------------
 */

static fur_tensor_entry entry_of(const char *name, const fit_array *array)
{
    return (fur_tensor_entry){.name = name,
                              .dtype = array->f32 ? FUR_DTYPE_F32 : FUR_DTYPE_F64,
                              .rank = 2,
                              .shape = {array->rows, array->width},
                              .data = array->data};
}

fur_status fur_fit_data_save(fur_context *context, const fur_fit_data *data, const char *path)
{
    fur_tensor_entry entries[8];
    int64_t count = 0, sequences = data->sequences;
    int64_t *lengths = fur_malloc((size_t)(2 * sequences) * sizeof *lengths);
    if (!lengths)
        return fur_memory_error(&context->error, 16 * sequences, path);
    for (int64_t s = 0; s < sequences; s++) {
        lengths[s] = data->queries[s + 1] - data->queries[s];
        lengths[sequences + s] = data->keys[s + 1] - data->keys[s];
    }
    bool one = data->a2.shared && data->a3.shared;
    entries[count++] = entry_of(one ? "x" : "a1", &data->a1);
    if (!one) {
        entries[count++] = entry_of("a2", &data->a2);
        entries[count++] = entry_of("a3", &data->a3);
    }
    entries[count++] = entry_of("b", &data->b);
    entries[count++] =
        (fur_tensor_entry){.name = "lengths", .dtype = FUR_DTYPE_I64, .rank = 1, .shape = {sequences}, .data = lengths};
    if (data->a1.rows != data->a2.rows)
        entries[count++] = (fur_tensor_entry){.name = "key_lengths",
                                              .dtype = FUR_DTYPE_I64,
                                              .rank = 1,
                                              .shape = {sequences},
                                              .data = lengths + sequences};
    if (data->weights)
        entries[count++] = (fur_tensor_entry){
            .name = "weights", .dtype = FUR_DTYPE_F64, .rank = 1, .shape = {data->a1.rows}, .data = data->weights};
    fur_status status = fur_safetensors_write(&context->error, path, entries, count, NULL, 0, NULL);
    fur_free(lengths);
    return status;
}

/* ---- the answer ---------------------------------------------------------------------------------------------------
 */

static fur_status narrow(fur_error *error, const double *from, int64_t count, float **out)
{
    *out = fur_malloc((size_t)count * sizeof **out);
    if (!*out)
        return fur_memory_error(error, count * 4, "the factors of a fit");
    for (int64_t i = 0; i < count; i++)
        (*out)[i] = (float)from[i];
    return FUR_OK;
}

static fur_tensor_entry factor_of(const char *name, const fur_fit_result *r, int64_t height, int64_t width, bool wide,
                                  const double *f64, const float *f32)
{
    fur_tensor_entry e = {.name = name, .dtype = wide ? FUR_DTYPE_F64 : FUR_DTYPE_F32, .rank = 2};
    if (r->heads > 1)
        e.shape[e.rank++ - 2] = r->heads;
    e.shape[e.rank - 2] = height;
    e.shape[e.rank - 1] = width;
    e.data = wide ? (const void *)f64 : (const void *)f32;
    return e;
}

fur_status fur_fit_save(fur_context *context, const fur_fit_result *r, const char *path)
{
    char loss[32], held[32], rank[32], ridge[32];
    float *f32[3] = {NULL, NULL, NULL};
    bool wide = strcmp(r->type, "F64") == 0;
    const double *f64[3] = {r->q, r->k, r->y};
    const int64_t counts[3] = {r->heads * r->d1 * r->rank, r->heads * r->d2 * r->rank, r->heads * r->d3 * r->dv};
    fur_status status = FUR_OK;
    for (int i = 0; i < 3 && !wide && status == FUR_OK; i++)
        status = narrow(&context->error, f64[i], counts[i], &f32[i]);
    if (status == FUR_OK) {
        const fur_tensor_entry entries[] = {
            factor_of("q", r, r->d1, r->rank, wide, f64[0], f32[0]),
            factor_of("k", r, r->d2, r->rank, wide, f64[1], f32[1]),
            factor_of("v", r, r->d3, r->dv, wide, f64[2], f32[2]),
            factor_of("x", r, r->d1, r->d2, true, r->x, NULL),
            factor_of("y", r, r->d3, r->dv, true, r->y, NULL),
        };
        (void)snprintf(loss, sizeof loss, "%.17g", r->loss);
        (void)snprintf(held, sizeof held, "%.17g", r->held_out_loss);
        (void)snprintf(rank, sizeof rank, "%lld", (long long)r->rank);
        (void)snprintf(ridge, sizeof ridge, "%.17g", r->ridge);
        const fur_text_pair metadata[] = {
            {"scale", r->linear ? "o_i = sum over k of (x_i x x_k^T) x_k y; no scale is applied"
                                : "logits = x_i q k^T x_j^T as they stand; no 1/sqrt(d) is applied"},
            {"mask", r->mask},
            {"loss", loss},
            {"held_out_loss", held},
            {"rank", rank},
            {"ridge", ridge},
            {"end", fur_fit_end_name(r->end)},
        };
        status = fur_safetensors_write(&context->error, path, entries, 5, metadata, 7, NULL);
    }
    for (int i = 0; i < 3; i++)
        fur_free(f32[i]);
    return status;
}
