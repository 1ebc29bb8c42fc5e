/* SPDX-License-Identifier: Apache-2.0 */
/* Data of a fit from files: every type, both shapes, lengths, segments, weights, starts; each bad input with its line;
 * what is saved is read back. */
#include "kit/fit.h"
#include "kit/model.h"
#include "kit/zip.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bf16.h"
#include "io/safetensors.h"

enum { S = 3, L = 8, D = 3, N = S * L };

typedef struct test_file {
    fur_tensor_entry entries[10];
    int64_t count;
    float x[N * D], b[N * D];
    double wide[N * D];
    uint16_t half[N * D];
    int64_t lengths[S], segments[N];
} test_file;

static void file_init(test_file *f)
{
    memset(f, 0, sizeof *f);
    for (int i = 0; i < N * D; i++) {
        f->x[i] = (float)sin(i * i);
        f->b[i] = (float)cos(3 * i);
        f->wide[i] = sin(i * i);
        f->half[i] = fur_bf16_of(f->x[i]);
    }
    for (int i = 0; i < S; i++)
        f->lengths[i] = L - i;
    for (int i = 0; i < N; i++)
        f->segments[i] = i % 2;
}

static void add(test_file *f, const char *name, fur_dtype dtype, const void *data, int rank, int64_t a, int64_t b,
                int64_t c)
{
    f->entries[f->count++] =
        (fur_tensor_entry){.name = name, .dtype = dtype, .rank = rank, .shape = {a, b, c}, .data = data};
}

static const char *write_file(const kit_folder *folder, const test_file *f)
{
    fur_error error = {0};
    const char *path = kit_path(folder, "in.safetensors");
    kit_expect_ok(&error, fur_safetensors_write(&error, path, f->entries, f->count, NULL, 0, NULL));
    return path;
}

static fur_fit_data *read_file(fur_context *context, const kit_folder *folder, const test_file *f)
{
    fur_fit_data *data;
    kit_expect_ok(&context->error, fur_fit_data_open(context, write_file(folder, f), &data));
    return data;
}

static void test_types(void **state)
{
    (void)state;
    static const fur_dtype types[] = {FUR_DTYPE_F32, FUR_DTYPE_F64, FUR_DTYPE_BF16};
    static const double epsilon[] = {0x1p-24, 0x1p-53, 0x1p-8};
    fur_context *context = kit_context(1);
    kit_folder folder;
    kit_folder_init(&folder);
    for (int t = 0; t < 3; t++)
        for (int rank = 2; rank <= 3; rank++) {
            test_file f;
            file_init(&f);
            const void *from[] = {f.x, f.wide, f.half};
            if (rank == 2)
                add(&f, "x", types[t], from[t], 2, N, D, 0);
            else
                add(&f, "x", types[t], from[t], 3, S, L, D);
            if (rank == 2)
                add(&f, "b", FUR_DTYPE_F64, f.wide, 2, N, D, 0);
            else
                add(&f, "b", FUR_DTYPE_F64, f.wide, 3, S, L, D);
            fur_fit_data *data = read_file(context, &folder, &f);
            fur_fit_info info = fur_fit_data_info(data);
            assert_int_equal(info.sequences, rank == 2 ? 1 : S);
            assert_true(info.queries == N && info.keys == N && info.a1_width == D && !info.has_start);
            assert_true(data->epsilon == epsilon[t]);
            assert_ptr_equal(data->a1.data, data->a3.data);
            for (int i = 0; i < N * D; i++) {
                double want = t == 0 ? (double)f.x[i] : t == 1 ? f.wide[i] : (double)fur_bf16_value(f.half[i]);
                assert_true(fit_array_get(&data->a1, i) == want && fit_array_get(&data->b, i) == f.wide[i]);
            }
            fur_fit_data_close(data);
        }
    kit_folder_clear(&folder);
    fur_context_destroy(context);
}

/* Padded sequences lose what is beyond their length; packed ones are cut by it; segments become sequences. */
static void test_sequences(void **state)
{
    (void)state;
    fur_context *context = kit_context(1);
    kit_folder folder;
    test_file f;
    kit_folder_init(&folder);
    file_init(&f);
    add(&f, "x", FUR_DTYPE_F32, f.x, 3, S, L, D);
    add(&f, "b", FUR_DTYPE_F32, f.b, 3, S, L, D);
    add(&f, "lengths", FUR_DTYPE_I64, f.lengths, 1, S, 0, 0);
    add(&f, "weights", FUR_DTYPE_F64, f.wide, 2, S, L, 0);
    for (int i = 0; i < N; i++)
        f.wide[i] = i;
    fur_fit_data *data = read_file(context, &folder, &f);
    assert_int_equal(data->a1.rows, N - 3);
    for (int s = 0, row = 0; s < S; s++)
        for (int i = 0; i < L - s; i++, row++) {
            assert_true(fit_array_get(&data->b, row * D) == (double)f.b[(s * L + i) * D]);
            assert_true(data->weights[row] == (double)(s * L + i));
            assert_true(row >= data->queries[s] && row < data->queries[s + 1]);
        }
    assert_true(data->epsilon == 0x1p-24); /* the type of weights does not count */
    fur_fit_data_close(data);

    f.count = 0;
    add(&f, "x", FUR_DTYPE_F32, f.x, 2, N - 3, D, 0);
    add(&f, "b", FUR_DTYPE_F32, f.b, 2, N - 3, D, 0);
    add(&f, "lengths", FUR_DTYPE_I64, f.lengths, 1, S, 0, 0);
    data = read_file(context, &folder, &f);
    assert_true(data->sequences == S && data->queries[1] == L && data->queries[2] == 2 * L - 1);
    fur_fit_data_close(data);

    f.count = 0;
    add(&f, "x", FUR_DTYPE_F32, f.x, 3, S, L, D);
    add(&f, "b", FUR_DTYPE_F32, f.b, 3, S, L, D);
    add(&f, "segments", FUR_DTYPE_I64, f.segments, 2, S, L, 0);
    data = read_file(context, &folder, &f);
    assert_int_equal(data->sequences, 2 * S);
    for (int i = 0; i < 4; i++)
        assert_true(fit_array_get(&data->b, i * D) == (double)f.b[2 * i * D]); /* the even rows first */
    fur_fit_data_close(data);
    kit_folder_clear(&folder);
    fur_context_destroy(context);
}

static void test_start(void **state)
{
    (void)state;
    fur_context *context = kit_context(1);
    kit_folder folder;
    test_file f;
    kit_folder_init(&folder);
    file_init(&f);
    add(&f, "x", FUR_DTYPE_F32, f.x, 3, S, L, D);
    add(&f, "b", FUR_DTYPE_F32, f.b, 3, S, L, D);
    add(&f, "q", FUR_DTYPE_F64, f.wide, 2, D, 2, 0);
    add(&f, "k", FUR_DTYPE_F64, f.wide + 6, 2, D, 2, 0);
    fur_fit_data *data = read_file(context, &folder, &f);
    for (int i = 0; i < D; i++)
        for (int j = 0; j < D; j++)
            assert_true(fabs(data->x[i * D + j] - f.wide[2 * i] * f.wide[6 + 2 * j] -
                             f.wide[2 * i + 1] * f.wide[7 + 2 * j]) <= 1e-15);
    assert_true(data->start_heads == 1 && data->epsilon == 0x1p-24);
    fur_fit_settings settings;
    fur_fit_result result;
    fur_fit_settings_defaults(&settings);
    settings.causal = true;
    settings.held_out = 0;
    settings.max_steps = 0;
    kit_expect_ok(&context->error, fur_fit_run(context, data, &settings, &result));
    assert_true(result.starts[0].given && result.end == FUR_FIT_LIMIT);
    for (int i = 0; i < D * D; i++) /* no step: the start itself, but for the direction that softmax does not see */
        assert_true(result.kept2 < D || fabs(result.x[i] - data->x[i]) < 1e-9);
    fur_fit_result_clear(&result);
    settings.heads = 2;
    kit_expect(&context->error, fur_fit_run(context, data, &settings, &result), FUR_E_SHAPE,
               "has 1 heads, asked for 2");
    fur_fit_data_close(data);
    kit_folder_clear(&folder);
    fur_context_destroy(context);
}

static void refuse(fur_context *context, const kit_folder *folder, const test_file *f, fur_status wanted,
                   const char *part)
{
    fur_fit_data *data;
    int64_t live = fur_alloc_live();
    kit_expect(&context->error, fur_fit_data_open(context, write_file(folder, f), &data), wanted, part);
    assert_null(data);
    assert_int_equal(fur_alloc_live(), live);
}

static void test_refusals(void **state)
{
    (void)state;
    fur_context *context = kit_context(1);
    kit_folder folder;
    test_file f;
    fur_fit_data *data;
    kit_folder_init(&folder);
    file_init(&f);
    kit_expect(&context->error, fur_fit_data_open(context, kit_write(&folder, "in.txt", "x", 1), &data),
               FUR_E_UNSUPPORTED, "expected a name that ends with .npz or .safetensors");
    kit_expect(&context->error, fur_fit_data_open(context, kit_path(&folder, "no.safetensors"), &data), FUR_E_IO,
               "cannot open");
    add(&f, "x", FUR_DTYPE_F32, f.x, 2, N, D, 0);
    refuse(context, &folder, &f, FUR_E_FORMAT, "array \"b\" is missing: expected x, or a1, a2 and a3; and b");
    add(&f, "b", FUR_DTYPE_F32, f.b, 2, N - 1, D, 0);
    refuse(context, &folder, &f, FUR_E_SHAPE, "array \"b\" has shape [23, 3], expected [24, d] as the others");
    f.count = 0;
    add(&f, "a1", FUR_DTYPE_F32, f.x, 2, N, D, 0);
    add(&f, "a2", FUR_DTYPE_F32, f.x, 2, N, D, 0);
    add(&f, "b", FUR_DTYPE_F32, f.b, 2, N, D, 0);
    refuse(context, &folder, &f, FUR_E_FORMAT, "array \"a3\" is missing");
    f.count = 0;
    add(&f, "x", FUR_DTYPE_I64, f.segments, 2, 8, D, 0);
    add(&f, "b", FUR_DTYPE_F32, f.b, 2, 8, D, 0);
    refuse(context, &folder, &f, FUR_E_FORMAT, "array \"x\" is of type I64, expected F16, BF16, F32 or F64");
    f.count = 0;
    add(&f, "x", FUR_DTYPE_F32, f.x, 1, N, 0, 0);
    add(&f, "b", FUR_DTYPE_F32, f.b, 2, N, D, 0);
    refuse(context, &folder, &f, FUR_E_SHAPE, "array \"x\" has shape [24], expected [n, d] or [sequences, n, d]");
    f.count = 0;
    add(&f, "x", FUR_DTYPE_F32, f.x, 2, N, D, 0);
    add(&f, "b", FUR_DTYPE_F32, f.b, 2, N, D, 0);
    add(&f, "lengths", FUR_DTYPE_I64, f.lengths, 1, S, 0, 0);
    refuse(context, &folder, &f, FUR_E_SHAPE, "array \"lengths\" adds up to 21, but there are 24 rows");
    f.lengths[1] = 0;
    refuse(context, &folder, &f, FUR_E_SHAPE, "array \"lengths\": sequence 1 has length 0, expected 1 to 24");
    f.entries[2].dtype = FUR_DTYPE_F64;
    refuse(context, &folder, &f, FUR_E_FORMAT, "array \"lengths\" is of type F64, expected integers");
    f.count = 2;
    f.x[19] = NAN;
    refuse(context, &folder, &f, FUR_E_NONFINITE, "array \"x\", row 6, column 1 is nan");
    file_init(&f);
    add(&f, "x", FUR_DTYPE_F32, f.x, 2, N, D, 0);
    add(&f, "b", FUR_DTYPE_F32, f.b, 2, N, D, 0);
    add(&f, "weights", FUR_DTYPE_F64, f.wide, 1, N, 0, 0);
    refuse(context, &folder, &f, FUR_E_NONFINITE, "array \"weights\", row");
    f.entries[2].shape[0] = N - 1;
    refuse(context, &folder, &f, FUR_E_SHAPE, "array \"weights\" has shape [23], expected a number for each row");
    f.count = 2;
    add(&f, "segments", FUR_DTYPE_I64, f.segments, 1, N - 2, 0, 0);
    refuse(context, &folder, &f, FUR_E_SHAPE, "array \"segments\" has shape [22]");
    f.count = 2;
    add(&f, "q", FUR_DTYPE_F64, f.wide, 2, D, 2, 0);
    refuse(context, &folder, &f, FUR_E_FORMAT, "array \"k\" is missing");
    add(&f, "k", FUR_DTYPE_F64, f.wide, 2, D, 1, 0);
    refuse(context, &folder, &f, FUR_E_SHAPE, "array \"k\" has shape [3, 1], expected [width of a2, rank] as q");
    kit_folder_clear(&folder);
    fur_context_destroy(context);
}

/* What is written is read: data, and the answer's factors as a start. */
static void test_saved(void **state)
{
    (void)state;
    fur_context *context = kit_context(1);
    kit_folder folder;
    fur_fit_planted planted;
    fur_fit_data *data, *again;
    fur_fit_settings settings;
    fur_fit_result result;
    kit_folder_init(&folder);
    fur_fit_planted_defaults(&planted);
    planted.sequences = 12;
    planted.length = 20;
    planted.width = 4;
    kit_expect_ok(&context->error, fur_fit_data_plant(context, &planted, &data));
    const char *path = kit_path(&folder, "data.safetensors");
    kit_expect_ok(&context->error, fur_fit_data_save(context, data, path));
    kit_expect_ok(&context->error, fur_fit_data_open(context, path, &again));
    assert_true(again->sequences == 12 && again->a3.shared && again->epsilon == 0x1p-53);
    assert_memory_equal(again->a1.data, data->a1.data, sizeof(double) * 12 * 20 * 4);
    assert_memory_equal(again->b.data, data->b.data, sizeof(double) * 12 * 20 * 4);
    fur_fit_settings_defaults(&settings);
    settings.causal = true;
    kit_expect_ok(&context->error, fur_fit_run(context, again, &settings, &result));
    path = kit_path(&folder, "fit.safetensors");
    kit_expect_ok(&context->error, fur_fit_save(context, &result, path));
    fur_safetensors *file;
    fur_error error = {0};
    double x[16], q[16];
    kit_expect_ok(&error, fur_safetensors_open(&error, path, &file));
    kit_expect_ok(&error, fur_safetensors_read_raw(&error, file, "x", FUR_DTYPE_F64, 2, (int64_t[]){4, 4}, x));
    kit_expect_ok(&error, fur_safetensors_read_raw(&error, file, "q", FUR_DTYPE_F64, 2, (int64_t[]){4, 4}, q));
    assert_memory_equal(x, result.x, sizeof x);
    assert_memory_equal(q, result.q, sizeof q);
    assert_non_null(strstr(fur_safetensors_metadata(file, "scale"), "no 1/sqrt(d)"));
    assert_string_equal(fur_safetensors_metadata(file, "mask"), "causal");
    fur_safetensors_close(file);
    fur_fit_result_clear(&result);
    fur_fit_data_close(data);
    fur_fit_data_close(again);
    kit_folder_clear(&folder);
    fur_context_destroy(context);
}

typedef struct npz_case {
    fur_context *context;
    char path[600];
} npz_case;

static fur_status open_npz(void *user, fur_error *error)
{
    npz_case *c = user;
    fur_fit_data *data;
    fur_status status = fur_fit_data_open(c->context, c->path, &data);
    if (status == FUR_OK) {
        assert_true(data->sequences == 2 && data->a1.width == 3 && data->b.width == 3 && data->epsilon == 0x1p-11);
        assert_true(fit_array_get(&data->a1, 1) == 1.0 && fit_array_get(&data->b, 5) == 0.5);
    }
    *error = c->context->error;
    fur_fit_data_close(data);
    return status;
}

/* f16 from NumPy, and every allocation failing. */
static void test_npz(void **state)
{
    (void)state;
    static const char *const header = "{'descr': '<f2', 'fortran_order': False, 'shape': (2, 4, 3), }\n";
    npz_case c = {.context = kit_context(1)};
    kit_folder folder;
    kit_zip zip;
    uint16_t x[24], b[24];
    int32_t lengths[2] = {4, 3};
    kit_folder_init(&folder);
    for (int i = 0; i < 24; i++) {
        x[i] = i % 5 == 1 ? 0x3c00 : 0x3800; /* 1, 0.5 */
        b[i] = i % 3 == 0 ? 0x3c00 : 0x3800;
    }
    kit_zip_begin(&zip, false);
    kit_zip_npy(&zip, "x.npy", header, x, sizeof x, true);
    kit_zip_npy(&zip, "b.npy", header, b, sizeof b, false);
    kit_zip_npy(&zip, "lengths.npy", "{'descr': '<i4', 'fortran_order': False, 'shape': (2,), }\n", lengths,
                sizeof lengths, false);
    kit_zip_end(&zip);
    (void)snprintf(c.path, sizeof c.path, "%s", kit_write(&folder, "in.npz", zip.bytes, zip.size));
    assert_true(kit_each_allocation_fails(open_npz, &c) > 10);
    kit_zip_clear(&zip);
    kit_folder_clear(&folder);
    fur_context_destroy(c.context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_types), cmocka_unit_test(test_sequences),
                                       cmocka_unit_test(test_start), cmocka_unit_test(test_refusals),
                                       cmocka_unit_test(test_saved), cmocka_unit_test(test_npz)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
