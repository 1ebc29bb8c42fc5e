/* SPDX-License-Identifier: Apache-2.0 */
/* fur_gguf_write: what is written is read back, and nothing is left of what cannot be written. */
#include "kit/files.h"

#include <errno.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bf16.h"
#include "io/blocks.h"
#include "io/gguf.h"

enum { ROWS = 300, COLUMNS = 64 }; /* more than one chunk */

/* Element i of a tensor whose first is *user. */
static fur_status fill(void *user, fur_error *error, int64_t first, int64_t count, void *out)
{
    float *to = out;
    (void)error;
    for (int64_t i = 0; i < count; i++)
        to[i] = *(const float *)user + (float)((first + i) * 37 % 101 - 50) / 16;
    return FUR_OK;
}

static const fur_dtype dtypes[] = {FUR_DTYPE_F32, FUR_DTYPE_BF16, FUR_DTYPE_Q8_0};
static float begin = 0.3f;

static void make(fur_gguf_builder *values, fur_gguf_entry entries[3])
{
    static const char *const names[] = {"a.weight", "b.weight", "c.weight"};
    *values = (fur_gguf_builder){0};
    fur_gguf_put_text(values, "general.architecture", "llama");
    fur_gguf_put_u32(values, "llama.block_count", 7);
    fur_gguf_put_f32(values, "llama.rope.freq_base", 1e5);
    fur_gguf_put_bool(values, "yes", true);
    fur_gguf_put_array(values, "texts", FUR_GGUF_TEXT, 2, NULL);
    fur_gguf_put_element(values, "first", 5);
    fur_gguf_put_element(values, "", 0);
    fur_gguf_put_array(values, "numbers", FUR_GGUF_I32, 3, (int32_t[]){1, -2, 3});
    for (int i = 0; i < 3; i++)
        entries[i] = (fur_gguf_entry){.name = names[i],
                                      .dtype = dtypes[i],
                                      .rank = i == 0 ? 1 : 2,
                                      .shape = {i == 0 ? ROWS * COLUMNS : ROWS, COLUMNS},
                                      .fill = fill,
                                      .user = &begin};
}

static void look_at_tensor(const fur_gguf *file, int index)
{
    fur_error error = {0};
    const fur_tensor_info *info = fur_gguf_at(file, index);
    assert_int_equal(info->dtype, dtypes[index]);
    assert_int_equal(info->offset % FUR_GGUF_ALIGNMENT, 0);
    float *got = malloc((size_t)info->count * sizeof *got), *want = malloc((size_t)info->count * sizeof *want);
    fur_tensor tensor = {fur_gguf_input(file), info, info->name};
    kit_expect_ok(&error, fur_tensor_read_f32(&error, &tensor, info->rank, info->shape, true, got));
    kit_expect_ok(&error, fill(&begin, &error, 0, info->count, want));
    if (index == 2) {
        unsigned char block[34];
        for (int64_t at = 0; at < info->count; at += 32) {
            fur_q8_0_of_f32(want + at, 1, block);
            fur_q8_0_to_f32(block, 1, want + at);
        }
    }
    for (int64_t i = 0; i < info->count; i++) {
        float x = index == 1 ? fur_bf16_round(want[i]) : want[i];
        assert_memory_equal(&x, &got[i], sizeof x);
    }
    free(got);
    free(want);
}

static void test_round_trip(void **state)
{
    (void)state;
    kit_folder folder;
    kit_folder_init(&folder);
    fur_error error = {0};
    fur_gguf_builder values;
    fur_gguf_entry entries[3];
    fur_gguf *file = NULL;
    const char *path = kit_path(&folder, "x.gguf");
    int64_t integer;
    double number;
    char *text;
    make(&values, entries);
    kit_expect_ok(&error, fur_gguf_write(&error, path, &values, entries, 3));
    fur_gguf_builder_clear(&values);
    kit_expect_ok(&error, fur_gguf_open(&error, path, &file));
    assert_int_equal(fur_gguf_version(file), 3);
    assert_int_equal(fur_gguf_values(file), 6);
    kit_expect_ok(&error, fur_gguf_int(&error, file, "llama.block_count", 0, 100, &integer));
    assert_int_equal(integer, 7);
    kit_expect_ok(&error, fur_gguf_number(&error, file, "llama.rope.freq_base", 1, 1e12, &number));
    assert_true(number >= 1e5 && number <= 1e5);
    kit_expect_ok(&error, fur_gguf_text(&error, file, "general.architecture", &text));
    assert_string_equal(text, "llama");
    fur_free(text);
    for (int i = 0; i < 3; i++)
        look_at_tensor(file, i);
    fur_gguf_close(file);
    assert_int_equal(kit_entries(folder.path), 1);
    kit_folder_clear(&folder);
}

static void test_refused(void **state)
{
    (void)state;
    kit_folder folder;
    kit_folder_init(&folder);
    fur_error error = {0};
    fur_gguf_builder values;
    fur_gguf_entry entries[3];
    float huge[] = {3e38f, FLT_MAX, NAN, 2e7f};
    const char *path = kit_path(&folder, "x.gguf");
    make(&values, entries);
    entries[1].user = &huge[1]; /* rounds to infinity */
    kit_expect(&error, fur_gguf_write(&error, path, &values, entries, 3), FUR_E_NONFINITE,
               "tensor \"b.weight\": elements 0 to 8191: one is not finite in BF16");
    entries[1].user = &huge[0];
    entries[2].user = &huge[3]; /* whose scale is beyond f16 */
    kit_expect(&error, fur_gguf_write(&error, path, &values, entries, 3), FUR_E_NONFINITE, "not finite in Q8_0");
    entries[2].user = &huge[2];
    kit_expect(&error, fur_gguf_write(&error, path, &values, entries, 3), FUR_E_NONFINITE, "not finite in Q8_0");
    entries[2].user = &begin;
    entries[2].shape[1] = 48;
    kit_expect(&error, fur_gguf_write(&error, path, &values, entries, 3), FUR_E_ARGUMENT, "\"c.weight\" has no valid");
    entries[2].shape[1] = COLUMNS;
    entries[2].name = "a.weight";
    kit_expect(&error, fur_gguf_write(&error, path, &values, entries, 3), FUR_E_ARGUMENT, "two tensors named");
    assert_int_equal(kit_entries(folder.path), 0);
    fur_gguf_builder_clear(&values);
    kit_folder_clear(&folder);
}

static fur_status write_one(void *user, fur_error *error)
{
    fur_gguf_builder values;
    fur_gguf_entry entries[3];
    make(&values, entries);
    fur_status status = fur_gguf_write(error, user, &values, entries, 3);
    fur_gguf_builder_clear(&values);
    return status;
}

/* The file is not there, or whole. */
static void absent_or_whole(void *user, int64_t k)
{
    (void)k;
    fur_error error = {0};
    fur_gguf *file = NULL;
    char folder[600];
    snprintf(folder, sizeof folder, "%s", (const char *)user);
    *strrchr(folder, '/') = 0;
    if (kit_entries(folder) == 0)
        return;
    kit_expect_ok(&error, fur_gguf_open(&error, user, &file));
    assert_int_equal(fur_gguf_count(file), 3);
    fur_gguf_close(file);
}

static void test_faults(void **state)
{
    (void)state;
    kit_folder folder;
    kit_folder_init(&folder);
    char path[600];
    snprintf(path, sizeof path, "%s", kit_path(&folder, "x.gguf"));
    assert_true(kit_each_write_fails(write_one, path, ENOSPC, absent_or_whole) > 3);
    assert_true(kit_each_allocation_fails(write_one, path) > 5);
    kit_folder_clear(&folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_faults),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
