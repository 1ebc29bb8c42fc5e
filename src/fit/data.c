/* SPDX-License-Identifier: Apache-2.0 */
/* Data of a fit in memory: made from arrays, planted, checked, sorted by segment. */
#include "fit/data.h"

#include <math.h>
#include <omp.h>
#include <string.h>

#include "base/alloc.h"
#include "base/random.h"
#include "base/size.h"
#include "fit/la.h"
#include "io/file.h"

void fur_fit_arrays_defaults(fur_fit_arrays *arrays)
{
    memset(arrays, 0, sizeof *arrays);
    arrays->struct_size = sizeof *arrays;
    arrays->sequences = 1;
}

void fur_fit_planted_defaults(fur_fit_planted *planted)
{
    memset(planted, 0, sizeof *planted);
    planted->struct_size = sizeof *planted;
    planted->sequences = 16;
    planted->length = 64;
    planted->width = 16;
    planted->logit_rms = 1.5;
    planted->causal = true;
    planted->seed = 1;
}

fit_data *fit_data_new(fur_error *error)
{
    fit_data *data = fur_calloc(1, sizeof *data);
    if (!data)
        (void)fur_memory_error(error, (int64_t)sizeof *data, "the data of a fit");
    return data;
}

static void array_clear(fit_array *array)
{
    if (!array->shared)
        fur_free(array->data);
    array->data = NULL;
}

void fur_fit_data_close(fur_fit_data *data)
{
    if (!data)
        return;
    array_clear(&data->a3);
    array_clear(&data->a2);
    array_clear(&data->a1);
    array_clear(&data->b);
    fur_free(data->weights);
    fur_free(data->queries);
    fur_free(data->keys);
    fur_free(data->x);
    fur_free(data);
}

static int64_t array_bytes(const fit_array *array)
{
    return array->shared ? 0 : array->rows * array->width * (array->f32 ? 4 : 8);
}

int64_t fit_data_bytes(const fit_data *data)
{
    return array_bytes(&data->a1) + array_bytes(&data->a2) + array_bytes(&data->a3) + array_bytes(&data->b) +
           (data->weights ? data->a1.rows * 8 : 0);
}

fur_fit_info fur_fit_data_info(const fur_fit_data *data)
{
    return (fur_fit_info){.sequences = data->sequences,
                          .queries = data->a1.rows,
                          .keys = data->a2.rows,
                          .a1_width = data->a1.width,
                          .a2_width = data->a2.width,
                          .a3_width = data->a3.width,
                          .b_width = data->b.width,
                          .bytes = fit_data_bytes(data),
                          .type = data->stored_type,
                          .has_start = data->x != NULL};
}

double fit_array_get(const fit_array *array, int64_t index)
{
    return array->f32 ? (double)((const float *)array->data)[index] : ((const double *)array->data)[index];
}

/* ---- checks -------------------------------------------------------------------------------------------------- */

static fur_status check_finite(fur_error *error, const fit_array *array, const char *file, const char *name)
{
    int64_t count = array->rows * array->width;
    for (int64_t i = 0; i < count && !array->shared; i++) {
        double x = fit_array_get(array, i);
        if (!isfinite(x))
            return fur_error_set(error, FUR_E_NONFINITE, "%s: array \"%s\", row %lld, column %lld is %g", file, name,
                                 (long long)(i / array->width), (long long)(i % array->width), x);
    }
    return FUR_OK;
}

fur_status fit_data_check(fur_error *error, const fit_data *data, const char *name)
{
    if (data->a2.rows != data->a3.rows)
        return fur_error_set(error, FUR_E_SHAPE, "%s: \"a2\" has %lld rows, \"a3\" has %lld, expected as many", name,
                             (long long)data->a2.rows, (long long)data->a3.rows);
    if (data->a1.rows != data->b.rows)
        return fur_error_set(error, FUR_E_SHAPE, "%s: \"a1\" has %lld rows, \"b\" has %lld, expected as many", name,
                             (long long)data->a1.rows, (long long)data->b.rows);
    FUR_TRY(check_finite(error, &data->a1, name, data->a2.shared ? "x" : "a1"));
    FUR_TRY(check_finite(error, &data->a2, name, "a2"));
    FUR_TRY(check_finite(error, &data->a3, name, "a3"));
    FUR_TRY(check_finite(error, &data->b, name, "b"));
    for (int64_t i = 0; data->weights && i < data->a1.rows; i++)
        if (!(data->weights[i] >= 0 && data->weights[i] < (double)INFINITY))
            return fur_error_set(error, FUR_E_NONFINITE, "%s: array \"weights\", row %lld is %g, expected 0 or more",
                                 name, (long long)i, data->weights[i]);
    return FUR_OK;
}

/* ---- from memory ------------------------------------------------------------------------------------------------ */

static fur_status array_copy(fur_error *error, const double *from, int64_t rows, int64_t width, fit_array *out)
{
    int64_t count, bytes;
    if (width < 1 || rows < 1 || !fur_mul_ok(rows, width, &count) || !fur_mul_ok(count, 8, &bytes))
        return fur_error_set(error, FUR_E_ARGUMENT, "an array of %lld rows of %lld numbers", (long long)rows,
                             (long long)width);
    *out = (fit_array){.data = fur_malloc((size_t)bytes), .rows = rows, .width = width};
    if (!out->data)
        return fur_memory_error(error, bytes, "the data of a fit");
    memcpy(out->data, from, (size_t)bytes);
    return FUR_OK;
}

static fur_status share_or_copy(fur_error *error, const double *from, const double *first, const fit_array *with,
                                int64_t rows, int64_t width, fit_array *out)
{
    if (from != first || with->rows != rows || with->width != width)
        return array_copy(error, from, rows, width, out);
    *out = *with;
    out->shared = true;
    return FUR_OK;
}

static fur_status offsets_of(fur_error *error, const int64_t *lengths, int64_t count, int64_t **out)
{
    int64_t *at = fur_calloc((size_t)count + 1, sizeof *at);
    if (!at)
        return fur_memory_error(error, (count + 1) * (int64_t)sizeof *at, "the sequences of a fit");
    *out = at;
    for (int64_t i = 0; i < count; i++)
        if (lengths[i] < 1 || !fur_add_ok(at[i], lengths[i], &at[i + 1]))
            return fur_error_set(error, FUR_E_ARGUMENT, "sequence %lld has length %lld, expected 1 or more",
                                 (long long)i, (long long)lengths[i]);
    return FUR_OK;
}

static fur_status fill(fur_error *error, const fur_fit_arrays *s, fit_data *data)
{
    if (s->struct_size != sizeof *s)
        return fur_error_set(error, FUR_E_ARGUMENT, "fur_fit_arrays has %zu bytes, this library expects %zu",
                             s->struct_size, sizeof *s);
    if (s->sequences < 1)
        return fur_error_set(error, FUR_E_ARGUMENT, "%lld sequences, expected 1 or more", (long long)s->sequences);
    data->sequences = s->sequences;
    data->epsilon = s->epsilon > 0 ? s->epsilon : 0x1p-53;
    data->stored_type = data->epsilon <= 0x1p-53 ? "F64" : data->epsilon <= 0x1p-24 ? "F32" : "F16";
    FUR_TRY(offsets_of(error, s->query_lengths, s->sequences, &data->queries));
    FUR_TRY(offsets_of(error, s->key_lengths ? s->key_lengths : s->query_lengths, s->sequences, &data->keys));
    int64_t n = data->queries[s->sequences], m = data->keys[s->sequences];
    FUR_TRY(array_copy(error, s->a1, n, s->a1_width, &data->a1));
    FUR_TRY(share_or_copy(error, s->a2, s->a1, &data->a1, m, s->a2_width, &data->a2));
    FUR_TRY(share_or_copy(error, s->a3, s->a1, &data->a1, m, s->a3_width, &data->a3));
    FUR_TRY(array_copy(error, s->b, n, s->b_width, &data->b));
    if (s->weights) {
        data->weights = fur_malloc((size_t)n * sizeof *data->weights);
        if (!data->weights)
            return fur_memory_error(error, n * 8, "the weights of a fit");
        memcpy(data->weights, s->weights, (size_t)n * sizeof *data->weights);
    }
    return fit_data_check(error, data, "the arrays");
}

fur_status fur_fit_data_create(fur_context *context, const fur_fit_arrays *arrays, fur_fit_data **out)
{
    *out = NULL;
    fit_data *data = fit_data_new(&context->error);
    if (!data)
        return FUR_E_MEMORY;
    fur_status status = fill(&context->error, arrays, data);
    if (status == FUR_OK)
        *out = data;
    else
        fur_fit_data_close(data);
    return status;
}

/* ---- segments ---------------------------------------------------------------------------------------------------- */

static fur_status permute(fur_error *error, fit_array *array, const int64_t *order)
{
    if (array->shared)
        return FUR_OK;
    size_t row = (size_t)array->width * (array->f32 ? 4 : 8);
    unsigned char *to = fur_malloc((size_t)array->rows * row), *from = array->data;
    if (!to)
        return fur_memory_error(error, array->rows * (int64_t)row, "rows sorted by segment");
    for (int64_t i = 0; i < array->rows; i++)
        memcpy(to + (size_t)i * row, from + (size_t)order[i] * row, row);
    fur_free(from);
    array->data = to;
    return FUR_OK;
}

/* Stable order of rows first .. end-1 by segment, by merging; `other` is as long. */
static void sort_rows(const int64_t *segments, int64_t *order, int64_t *other, int64_t first, int64_t end)
{
    for (int64_t width = 1; width < end - first; width *= 2) {
        for (int64_t at = first; at < end; at += 2 * width) {
            int64_t middle = fur_min_i64(at + width, end), last = fur_min_i64(at + 2 * width, end);
            for (int64_t i = at, j = middle, to = at; to < last; to++)
                other[to] =
                    i < middle && (j == last || segments[order[i]] <= segments[order[j]]) ? order[i++] : order[j++];
        }
        memcpy(order + first, other + first, (size_t)(end - first) * sizeof *order);
    }
}

fur_status fit_data_split_segments(fur_error *error, fit_data *data, const int64_t *segments)
{
    int64_t n = data->a1.rows, count = 0;
    int64_t *order = fur_malloc((size_t)n * sizeof *order), *starts = fur_malloc(((size_t)n + 1) * sizeof *starts);
    fur_status status = FUR_OK;
    if (!order || !starts)
        status = fur_memory_error(error, 2 * n * 8, "segments");
    for (int64_t i = 0; status == FUR_OK && i < n; i++)
        order[i] = i;
    for (int64_t s = 0; status == FUR_OK && s < data->sequences; s++)
        sort_rows(segments, order, starts, data->queries[s], data->queries[s + 1]);
    for (int64_t s = 0; status == FUR_OK && s < data->sequences; s++)
        for (int64_t i = data->queries[s]; i < data->queries[s + 1]; i++)
            if (i == data->queries[s] || segments[order[i]] != segments[order[i - 1]])
                starts[count++] = i;
    int64_t *queries = NULL, *keys = NULL;
    if (status == FUR_OK) {
        queries = fur_malloc(((size_t)count + 1) * sizeof *queries);
        keys = fur_malloc(((size_t)count + 1) * sizeof *keys);
        if (!queries || !keys)
            status = fur_memory_error(error, 2 * count * 8, "segments");
    }
    if (status == FUR_OK) {
        starts[count] = n;
        memcpy(queries, starts, ((size_t)count + 1) * sizeof *queries);
        memcpy(keys, starts, ((size_t)count + 1) * sizeof *keys);
        fit_array weights = {.data = data->weights, .rows = n, .width = 1, .shared = data->weights == NULL};
        status = permute(error, &weights, order);
        data->weights = weights.data;
        fit_array *arrays[] = {&data->a1, &data->a2, &data->a3, &data->b};
        for (int i = 0; i < 4 && status == FUR_OK; i++)
            status = permute(error, arrays[i], order);
        if (data->a2.shared)
            data->a2.data = data->a1.data;
        if (data->a3.shared)
            data->a3.data = data->a1.data;
    }
    if (status == FUR_OK) {
        fur_free(data->queries);
        fur_free(data->keys);
        data->queries = queries;
        data->keys = keys;
        data->sequences = count;
    } else {
        fur_free(queries);
        fur_free(keys);
    }
    fur_free(order);
    fur_free(starts);
    return status;
}

/* ---- planted ----------------------------------------------------------------------------------------------------- */

static void draw(uint64_t seed, uint64_t stream, double scale, double *out, int64_t count)
{
    for (int64_t i = 0; i < count; i++) { /* the sum of 12 uniform numbers less 6: exact in f64, nearly normal */
        double sum = 0;
        for (uint64_t j = 0; j < 12; j++)
            sum += fur_random_uniform(seed, stream, (uint64_t)i * 12 + j);
        out[i] = scale * (sum - 6);
    }
}

enum { PLANT_ROWS = 64, PLANT_KEYS = 256, PLANT_SCRATCH = PLANT_ROWS * PLANT_KEYS };

/* Rows first .. first+count-1 of a sequence whose rows begin at x, u, v and b: softmax over blocks of keys, with a
 * running maximum. s has PLANT_SCRATCH numbers. */
static void plant_rows(const fur_fit_planted *p, int64_t first, int64_t count, const double *x, const double *u,
                       const double *v, double *s, double *b)
{
    int64_t d = p->width, end = p->causal ? first + count : p->length;
    double most[PLANT_ROWS], sum[PLANT_ROWS];
    for (int64_t i = 0; i < count; i++) {
        most[i] = (double)-INFINITY;
        sum[i] = 0;
        memset(b + (first + i) * d, 0, (size_t)d * sizeof *b);
    }
    for (int64_t key = 0; key < end; key += PLANT_KEYS) {
        int64_t keys = fur_min_i64(PLANT_KEYS, end - key);
        fur_la_gemm_f64(false, true, count, keys, d, 1, u + first * d, d, x + key * d, d, 0, s, PLANT_KEYS);
        for (int64_t i = 0; i < count; i++) {
            int64_t sees = p->causal ? fur_max_i64(0, fur_min_i64(keys, first + i + 1 - key)) : keys;
            double *row = s + i * PLANT_KEYS, now = most[i];
            for (int64_t k = 0; k < sees; k++)
                now = fmax(now, row[k]);
            double fade = sum[i] > 0 ? exp(most[i] - now) : 0;
            most[i] = now;
            sum[i] *= fade;
            for (int64_t c = 0; c < d; c++)
                b[(first + i) * d + c] *= fade;
            for (int64_t k = 0; k < keys; k++)
                sum[i] += row[k] = k < sees ? exp(row[k] - now) : 0;
        }
        fur_la_gemm_f64(false, false, count, d, keys, 1, s, PLANT_KEYS, v + key * d, d, 1, b + first * d, d);
    }
    for (int64_t i = 0; i < count; i++)
        for (int64_t c = 0; c < d; c++)
            b[(first + i) * d + c] /= sum[i];
}

static void plant(const fur_context *context, const fur_fit_planted *p, double *work)
{
    int64_t d = p->width, n = p->sequences * p->length;
    double *x = work, *b = x + n * d, *u = b + n * d, *v = u + n * d, *big_x = v + n * d, *y = big_x + d * d,
           *turn = y + d * d, *r = turn + d * d, *space = r + d * d, *scores = space + fur_la_qr_work(d);
    draw(p->seed, 1, 1, u, n * d);
    double mean = 0;
    for (int64_t c = 0; c < d; c++)
        mean += pow((double)(c + 1), -2 * p->spectrum) / (double)d;
    for (int64_t i = 0; i < n; i++)
        for (int64_t c = 0; c < d; c++)
            u[i * d + c] *= pow((double)(c + 1), -p->spectrum) / sqrt(mean);
    draw(p->seed, 2, 1, turn, d * d); /* the axes of the spectrum point anywhere */
    (void)fur_la_qr(d, d, turn, r, space);
    fur_la_gemm_f64(false, false, n, d, d, 1, u, d, turn, d, 0, x, d);
    draw(p->seed, 3, 1, big_x, d * d);
    draw(p->seed, 4, 1 / sqrt((double)d), y, d * d);
    fur_la_gemm_f64(false, false, n, d, d, 1, x, d, big_x, d, 0, u, d);
    double square = 0; /* of the logit of two rows at random: sum over c of u_c^2 times the second moment of x */
    for (int64_t i = 0; i < n; i++) {
        int64_t j = (int64_t)(fur_random_uniform(p->seed, 5, (uint64_t)i) * (double)n);
        double logit = 0;
        for (int64_t c = 0; c < d; c++)
            logit += u[i * d + c] * x[j * d + c];
        square += logit * logit / (double)n;
    }
    double scale = p->logit_rms / sqrt(square);
    for (int64_t i = 0; i < n * d; i++)
        u[i] *= scale;
    fur_la_gemm_f64(false, false, n, d, d, 1, x, d, y, d, 0, v, d);
    int64_t tiles = fur_div_up(p->length, PLANT_ROWS);
#pragma omp parallel for schedule(dynamic) num_threads(context->exec.threads)
    for (int64_t t = 0; t < p->sequences * tiles; t++) {
        int64_t at = t / tiles * p->length * d, first = t % tiles * PLANT_ROWS;
        plant_rows(p, first, fur_min_i64(PLANT_ROWS, p->length - first), x + at, u + at, v + at,
                   scores + (int64_t)omp_get_thread_num() * PLANT_SCRATCH, b + at);
    }
    double moment = 0;
    for (int64_t i = 0; i < n * d; i++)
        moment += b[i] * b[i] / (double)(n * d);
    draw(p->seed, 6, p->noise * sqrt(moment), u, n * d);
    for (int64_t i = 0; i < n * d && p->noise > 0; i++)
        b[i] += u[i];
}

fur_status fur_fit_data_plant(fur_context *context, const fur_fit_planted *planted, fur_fit_data **out)
{
    fur_error *error = &context->error;
    const fur_fit_planted *p = planted;
    int64_t n, count;
    *out = NULL;
    if (p->struct_size != sizeof *p)
        return fur_error_set(error, FUR_E_ARGUMENT, "fur_fit_planted has %zu bytes, this library expects %zu",
                             p->struct_size, sizeof *p);
    if (p->sequences < 1 || p->length < 1 || p->width < 1 || p->width > 4096 ||
        !fur_mul_ok(p->sequences, p->length, &n) || !fur_mul_ok(n, 4 * p->width, &count) || n > INT32_MAX ||
        !(p->logit_rms > 0) || !(p->noise >= 0) || !(p->spectrum >= 0))
        return fur_error_set(error, FUR_E_ARGUMENT, "planted: %lld sequences of %lld rows of %lld",
                             (long long)p->sequences, (long long)p->length, (long long)p->width);
    count += 4 * p->width * p->width + fur_la_qr_work(p->width) + (int64_t)context->exec.threads * PLANT_SCRATCH;
    double *work = fur_malloc((size_t)count * sizeof *work);
    int64_t *lengths = fur_malloc((size_t)p->sequences * sizeof *lengths);
    fur_status status = work && lengths ? FUR_OK : fur_memory_error(error, count * 8, "a planted problem");
    if (status == FUR_OK) {
        fur_fit_arrays arrays;
        fur_fit_arrays_defaults(&arrays);
        plant(context, p, work);
        for (int64_t s = 0; s < p->sequences; s++)
            lengths[s] = p->length;
        arrays.sequences = p->sequences;
        arrays.query_lengths = lengths;
        arrays.a1_width = arrays.a2_width = arrays.a3_width = arrays.b_width = p->width;
        arrays.a1 = arrays.a2 = arrays.a3 = work;
        arrays.b = work + n * p->width;
        status = fur_fit_data_create(context, &arrays, out);
    }
    fur_free(work);
    fur_free(lengths);
    return status;
}
