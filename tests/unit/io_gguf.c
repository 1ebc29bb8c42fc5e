/* SPDX-License-Identifier: Apache-2.0 */
/* io/gguf.h: what a good file says, and that each thing that breaks the format is refused in one line. */
#include "kit/gguf.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "io/tensor_source.h"

enum { F32 = 0, Q4_0 = 2, Q8_0 = 8, Q4_K = 12 };

/* Opens what was put, as a file of its own. */
static void expect_refused(const kit_bytes *bytes, fur_status wanted, const char *part)
{
    kit_folder folder;
    kit_folder_init(&folder);
    int64_t live = fur_alloc_live();
    fur_error error = {0};
    fur_gguf *file = NULL;
    const char *path = kit_write_bytes(&folder, "hostile.gguf", bytes);
    kit_expect(&error, fur_gguf_open(&error, path, &file), wanted, part);
    assert_non_null(strstr(error.text, path));
    assert_null(file);
    assert_int_equal(fur_alloc_live(), live);
    kit_folder_clear(&folder);
}

/* One tensor of 4 x 32 in F32 behind no values. */
static void put_small(kit_bytes *b, uint32_t type, uint64_t row, uint64_t rows, uint64_t offset, int64_t data)
{
    kit_put_gguf(b, 1, 0);
    kit_put_tensor(b, "a", 2, (uint64_t[]){row, rows}, type, offset);
    kit_put_align(b, 32);
    kit_put_zeros(b, data);
}

/* A good file: every type of value, two tensors. */
static void put_good(kit_bytes *b, uint32_t version)
{
    static const unsigned char scalars[][12] = {{FUR_GGUF_U8, 0xfe},
                                                {FUR_GGUF_I8, 0xfe},
                                                {FUR_GGUF_U16, 0xfe, 255},
                                                {FUR_GGUF_I16, 0xfe, 255},
                                                {FUR_GGUF_I32, 0xfe, 255, 255, 255},
                                                {FUR_GGUF_I64, 0xfe, 255, 255, 255, 255, 255, 255, 255}};
    static const int64_t widths[] = {1, 1, 2, 2, 4, 8};
    static const char *const names[] = {"u8", "i8", "u16", "i16", "i32", "i64"};
    kit_put_gguf(b, 2, 13);
    b->data[4] = (unsigned char)version;
    for (int i = 0; i < 6; i++) {
        kit_put_text(b, names[i]);
        kit_put_u32(b, scalars[i][0]);
        kit_put(b, scalars[i] + 1, widths[i]);
    }
    kit_put_value_u32(b, "general.alignment", 64);
    kit_put_value_f32(b, "f32", 0.5f);
    double half = 0.25;
    kit_put_text(b, "f64");
    kit_put_u32(b, FUR_GGUF_F64);
    kit_put(b, &half, 8);
    kit_put_text(b, "yes");
    kit_put_u32(b, FUR_GGUF_BOOL);
    kit_put(b, "\1", 1);
    kit_put_value_text(b, "general.architecture", "llama");
    kit_put_text(b, "texts");
    kit_put_u32(b, FUR_GGUF_ARRAY);
    kit_put_u32(b, FUR_GGUF_TEXT);
    kit_put_u64(b, 3);
    kit_put_text(b, "one");
    kit_put_text(b, "");
    kit_put_u64(b, 3);
    kit_put(b, "t\0o", 3);
    kit_put_text(b, "numbers");
    kit_put_u32(b, FUR_GGUF_ARRAY);
    kit_put_u32(b, FUR_GGUF_I32);
    kit_put_u64(b, 2);
    kit_put_u32(b, 7);
    kit_put_u32(b, 0xffffffff);
    kit_put_tensor(b, "w", 2, (uint64_t[]){32, 2}, Q8_0, 64);
    kit_put_tensor(b, "b", 1, (uint64_t[]){3}, F32, 0);
    kit_put_align(b, 64);
    float values[3] = {1, -2, 3};
    kit_put(b, values, sizeof values);
    kit_put_align(b, 64);
    for (int row = 0; row < 2; row++) {
        kit_put(b, row ? "\0\x3c" : "\0\x40", 2); /* 1, 2 */
        for (int i = 0; i < 32; i++)
            kit_put(b, &(signed char){(signed char)(row ? -i : i)}, 1);
    }
}

static void look_at_values(const fur_gguf *file)
{
    fur_error error = {0};
    int64_t x;
    double number;
    bool yes;
    char *text;
    static const struct {
        const char *key;
        int64_t value;
    } integers[] = {{"u8", 254}, {"i8", -2},  {"u16", 65534},           {"i16", -2},
                    {"i32", -2}, {"i64", -2}, {"general.alignment", 64}};
    for (size_t i = 0; i < sizeof integers / sizeof integers[0]; i++) {
        kit_expect_ok(&error, fur_gguf_int(&error, file, integers[i].key, -10, 100000, &x));
        assert_int_equal(x, integers[i].value);
    }
    kit_expect_ok(&error, fur_gguf_int_or(&error, file, "none", 0, 1, 5, &x));
    assert_int_equal(x, 5);
    kit_expect_ok(&error, fur_gguf_number(&error, file, "f32", 0, 1, &number));
    assert_true(number >= 0.5 && number <= 0.5);
    kit_expect_ok(&error, fur_gguf_number(&error, file, "f64", 0, 1, &number));
    assert_true(number >= 0.25 && number <= 0.25);
    kit_expect_ok(&error, fur_gguf_bool_or(&error, file, "yes", false, &yes));
    assert_true(yes);
    kit_expect_ok(&error, fur_gguf_text(&error, file, "general.architecture", &text));
    assert_string_equal(text, "llama");
    fur_free(text);
    kit_expect_ok(&error, fur_gguf_text_or_null(&error, file, "none", &text));
    assert_null(text);
    fur_gguf_texts texts;
    kit_expect_ok(&error, fur_gguf_texts_read(&error, file, "texts", &texts));
    assert_int_equal(texts.count, 3);
    assert_string_equal(texts.bytes + texts.starts[0], "one");
    assert_int_equal(texts.starts[2] - texts.starts[1], 1);
    assert_memory_equal(texts.bytes + texts.starts[2], "t\0o", 4);
    fur_gguf_texts_clear(&texts);
    int32_t numbers[2];
    kit_expect_ok(&error, fur_gguf_array_read(&error, file, "numbers", FUR_GGUF_I32, 2, numbers));
    assert_int_equal(numbers[0], 7);
    assert_int_equal(numbers[1], -1);
}

/* Wrong kinds and ranges of what is there. */
static void look_at_refusals(const fur_gguf *file)
{
    fur_error error = {0};
    int64_t x = 77;
    double number;
    bool yes;
    char *text;
    fur_gguf_texts texts;
    float numbers[3];
    kit_expect(&error, fur_gguf_int(&error, file, "none", 0, 1, &x), FUR_E_FORMAT, "\"none\": it is missing");
    kit_expect(&error, fur_gguf_int(&error, file, "general.architecture", 0, 1, &x), FUR_E_FORMAT,
               "\"general.architecture\": text, expected an integer");
    kit_expect(&error, fur_gguf_int(&error, file, "f32", 0, 1, &x), FUR_E_FORMAT, "f32, expected an integer");
    kit_expect(&error, fur_gguf_int(&error, file, "numbers", 0, 1, &x), FUR_E_FORMAT, "an array of i32, expected an");
    kit_expect(&error, fur_gguf_int(&error, file, "u8", 0, 1, &x), FUR_E_FORMAT, "it is 254, expected 0 to 1");
    assert_int_equal(x, 77);
    kit_expect(&error, fur_gguf_number(&error, file, "u8", 0, 1, &number), FUR_E_FORMAT, "u8, expected f32");
    kit_expect(&error, fur_gguf_number(&error, file, "f32", 1, 2, &number), FUR_E_FORMAT, "it is 0.5, expected 1 to 2");
    kit_expect(&error, fur_gguf_bool_or(&error, file, "u8", true, &yes), FUR_E_FORMAT, "u8, expected bool");
    kit_expect(&error, fur_gguf_text(&error, file, "none", &text), FUR_E_FORMAT, "missing, expected text");
    kit_expect(&error, fur_gguf_text(&error, file, "texts", &text), FUR_E_FORMAT, "an array of text, expected text");
    kit_expect(&error, fur_gguf_texts_read(&error, file, "numbers", &texts), FUR_E_FORMAT, "an array of i32, expected");
    kit_expect(&error, fur_gguf_texts_read(&error, file, "none", &texts), FUR_E_FORMAT, "it is missing");
    kit_expect(&error, fur_gguf_array_read(&error, file, "numbers", FUR_GGUF_F32, 2, numbers), FUR_E_FORMAT,
               "an array of i32, expected 2 f32");
    kit_expect(&error, fur_gguf_array_read(&error, file, "numbers", FUR_GGUF_I32, 3, numbers), FUR_E_FORMAT,
               "2 elements, expected 3");
}

static void test_good(void **state)
{
    (void)state;
    kit_folder folder;
    kit_folder_init(&folder);
    kit_bytes *b = calloc(1, sizeof *b);
    for (uint32_t version = 2; version <= 3; version++) {
        fur_error error = {0};
        fur_gguf *file = NULL;
        put_good(b, version);
        kit_expect_ok(&error, fur_gguf_open(&error, kit_write_bytes(&folder, "good", b), &file));
        assert_int_equal(fur_gguf_version(file), version);
        assert_int_equal(fur_gguf_values(file), 13);
        assert_string_equal(fur_gguf_value_at(file, 7)->key, "f32");
        look_at_values(file);
        look_at_refusals(file);
        assert_int_equal(fur_gguf_count(file), 2);
        const fur_tensor_info *w = fur_gguf_find(file, "w");
        assert_ptr_equal(w, fur_gguf_at(file, 0));
        assert_int_equal(w->dtype, FUR_DTYPE_Q8_0);
        assert_int_equal(w->shape[0], 2);
        assert_int_equal(w->shape[1], 32);
        assert_int_equal(w->bytes, 68);
        assert_null(fur_gguf_find(file, "v"));
        fur_gguf_close(file);
    }
    free(b);
    kit_folder_clear(&folder);
}

/* By its first bytes, through the seam that models are read by. */
static void test_source(void **state)
{
    (void)state;
    kit_folder folder;
    kit_folder_init(&folder);
    kit_bytes *b = calloc(1, sizeof *b);
    fur_error error = {0};
    fur_tensor_source *source = NULL;
    float w[64], v[3];
    put_good(b, 3);
    kit_expect_ok(&error, fur_tensor_source_open(&error, kit_write_bytes(&folder, "weights", b), &source));
    assert_non_null(fur_tensor_source_gguf(source));
    kit_expect_ok(&error, fur_tensor_source_read_f32(&error, source, "w", 2, (int64_t[]){2, 32}, true, w));
    for (int i = 0; i < 32; i++) {
        assert_true(w[i] >= 2 * (float)i && w[i] <= 2 * (float)i);
        assert_true(w[32 + i] >= -(float)i && w[32 + i] <= -(float)i);
    }
    kit_expect_ok(&error, fur_tensor_source_read_f32(&error, source, "b", 1, (int64_t[]){3}, true, v));
    assert_true(v[1] <= -2 && v[1] >= -2);
    kit_expect_ok(&error, fur_tensor_source_check_finite(&error, source, "w"));
    kit_expect(&error, fur_tensor_source_read_f32(&error, source, "w", 2, (int64_t[]){32, 2}, true, w), FUR_E_SHAPE,
               "shape [2, 32], expected [32, 2]");
    fur_tensor_source_close(source);
    /* its name says so where its bytes do not */
    kit_expect(&error, fur_tensor_source_open(&error, kit_write(&folder, "x.gguf", "GGML....", -1), &source),
               FUR_E_FORMAT, "begins with bytes 47 47 4d 4c, expected \"GGUF\"");
    kit_expect(&error, fur_tensor_source_open(&error, kit_write(&folder, "x", "GGML....", -1), &source), FUR_E_FORMAT,
               "header of");
    free(b);
    kit_folder_clear(&folder);
}

static void test_bad_magic(void **state)
{
    kit_bytes *b = *state;
    put_good(b, 3);
    b->data[3] = 'f';
    expect_refused(b, FUR_E_FORMAT, "begins with bytes 47 47 55 66, expected \"GGUF\"");
}

static void test_short(void **state)
{
    kit_bytes *b = *state;
    put_good(b, 3);
    int64_t whole = b->count;
    b->count = 0;
    expect_refused(b, FUR_E_FORMAT, "the file of 0 bytes ends at byte 0, in the first four bytes");
    b->count = 20;
    expect_refused(b, FUR_E_FORMAT, "the file of 20 bytes ends at byte 16, in");
    for (b->count = 1; b->count < whole; b->count += 7)
        expect_refused(b, FUR_E_FORMAT, "hostile.gguf: ");
}

static void test_versions(void **state)
{
    kit_bytes *b = *state;
    put_good(b, 1);
    expect_refused(b, FUR_E_UNSUPPORTED, "version 1, this version has 2 and 3");
    put_good(b, 4);
    expect_refused(b, FUR_E_UNSUPPORTED, "version 4");
}

static void test_big_endian(void **state)
{
    kit_bytes *b = *state;
    put_good(b, 0);
    b->data[7] = 3;
    expect_refused(b, FUR_E_UNSUPPORTED, "a big-endian file");
}

static void test_counts(void **state)
{
    kit_bytes *b = *state;
    kit_put_gguf(b, 0, (uint64_t)1 << 63);
    expect_refused(b, FUR_E_FORMAT, "9223372036854775808 values, expected at most 65536");
    kit_put_gguf(b, (uint64_t)1 << 63, 0);
    expect_refused(b, FUR_E_FORMAT, "9223372036854775808 tensors, expected at most 262144");
    kit_put_gguf(b, 262144, 0);
    expect_refused(b, FUR_E_FORMAT, "262144 tensors do not fit into the 0 bytes from byte 24 on");
    kit_put_gguf(b, 0, 65536);
    expect_refused(b, FUR_E_FORMAT, "65536 values do not fit");
}

static void test_long_texts(void **state)
{
    kit_bytes *b = *state;
    kit_put_gguf(b, 0, 1);
    kit_put_u64(b, (uint64_t)1 << 63);
    kit_put_zeros(b, 64);
    expect_refused(b, FUR_E_FORMAT, "byte 24: a key of 9223372036854775808 bytes, expected at most 65535");
    kit_put_gguf(b, 0, 1);
    kit_put_u64(b, 1000);
    kit_put_zeros(b, 64);
    expect_refused(b, FUR_E_FORMAT, "ends at byte 32, in a key");
    kit_put_gguf(b, 0, 1);
    kit_put_text(b, "k");
    kit_put_u32(b, FUR_GGUF_TEXT);
    kit_put_u64(b, (uint64_t)1 << 63);
    expect_refused(b, FUR_E_FORMAT, "byte 37: a text of 9223372036854775808 bytes");
    kit_put_gguf(b, 1, 0);
    kit_put_u64(b, (uint64_t)1 << 63);
    kit_put_zeros(b, 64);
    expect_refused(b, FUR_E_FORMAT, "a tensor's name of 9223372036854775808 bytes");
}

static void test_names(void **state)
{
    kit_bytes *b = *state;
    kit_put_gguf(b, 0, 1);
    kit_put_u64(b, 3);
    kit_put(b, "a\0b", 3);
    kit_put_zeros(b, 16);
    expect_refused(b, FUR_E_FORMAT, "a key that is empty or has a NUL in it");
    kit_put_gguf(b, 1, 0);
    kit_put_tensor(b, "", 1, (uint64_t[]){4}, F32, 0);
    kit_put_zeros(b, 64);
    expect_refused(b, FUR_E_FORMAT, "a tensor's name that is empty");
    kit_put_gguf(b, 0, 2);
    kit_put_value_u32(b, "k", 1);
    kit_put_value_u32(b, "k", 1);
    expect_refused(b, FUR_E_FORMAT, "key \"k\": it is there twice");
}

static void test_value_types(void **state)
{
    kit_bytes *b = *state;
    kit_put_gguf(b, 0, 1);
    kit_put_text(b, "k");
    kit_put_u32(b, 13);
    kit_put_u64(b, 0);
    expect_refused(b, FUR_E_FORMAT, "key \"k\": a value of type 13, expected at most 12");
    kit_put_gguf(b, 0, 1);
    kit_put_text(b, "k");
    kit_put_u32(b, FUR_GGUF_ARRAY);
    kit_put_u32(b, FUR_GGUF_ARRAY);
    kit_put_u64(b, 1);
    kit_put_u32(b, FUR_GGUF_U8);
    kit_put_u64(b, 0);
    expect_refused(b, FUR_E_FORMAT, "key \"k\": an array of arrays");
    kit_put_gguf(b, 0, 1);
    kit_put_text(b, "k");
    kit_put_u32(b, FUR_GGUF_ARRAY);
    kit_put_u32(b, 200);
    kit_put_u64(b, 1);
    expect_refused(b, FUR_E_FORMAT, "an array of type 200");
    kit_put_gguf(b, 0, 1);
    kit_put_text(b, "k");
    kit_put_u32(b, FUR_GGUF_ARRAY);
    kit_put_u32(b, FUR_GGUF_F64);
    kit_put_u64(b, (uint64_t)1 << 61);
    expect_refused(b, FUR_E_FORMAT, "an array of 2305843009213693952 elements, expected at most 16777216");
    kit_put_gguf(b, 0, 1);
    kit_put_text(b, "k");
    kit_put_u32(b, FUR_GGUF_ARRAY);
    kit_put_u32(b, FUR_GGUF_F64);
    kit_put_u64(b, 16777216);
    expect_refused(b, FUR_E_FORMAT, "ends at byte 49, in k");
}

static void test_alignment(void **state)
{
    kit_bytes *b = *state;
    static const struct {
        uint32_t value;
        const char *part;
    } cases[] = {{0, "it is 0, expected a power of two"},
                 {3, "it is 3, expected a power of two from 8 to 65536"},
                 {48, "it is 48"},
                 {4, "it is 4"},
                 {1u << 30, "it is 1073741824"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        kit_put_gguf(b, 0, 1);
        kit_put_value_u32(b, "general.alignment", cases[i].value);
        expect_refused(b, FUR_E_FORMAT, cases[i].part);
    }
    kit_put_gguf(b, 0, 1);
    kit_put_value_text(b, "general.alignment", "32");
    expect_refused(b, FUR_E_FORMAT, "key \"general.alignment\": text, expected u32");
}

static void test_offsets(void **state)
{
    kit_bytes *b = *state;
    put_small(b, F32, 32, 4, 16, 1024);
    expect_refused(b, FUR_E_FORMAT, "tensor \"a\": offset 16, expected a multiple of 32");
    put_small(b, F32, 32, 4, 1024, 1024);
    expect_refused(b, FUR_E_FORMAT, "tensor \"a\": 512 bytes at offset 1024 of the data, which has 1024");
    put_small(b, F32, 32, 4, (uint64_t)INT64_MAX - 31, 1024);
    expect_refused(b, FUR_E_FORMAT, "512 bytes at offset 9223372036854775776");
    put_small(b, F32, 32, 4, (uint64_t)1 << 63, 1024);
    expect_refused(b, FUR_E_FORMAT, "offset 9223372036854775808, beyond any file");
    put_small(b, F32, 32, 4, 0, 511);
    expect_refused(b, FUR_E_FORMAT, "512 bytes at offset 0 of the data, which has 511");
    put_small(b, F32, 32, 4, 0, 0);
    b->count -= 5; /* the file ends before the data would begin */
    expect_refused(b, FUR_E_FORMAT, "512 bytes at offset 0 of the data, which has 0");
}

static void test_shapes(void **state)
{
    kit_bytes *b = *state;
    put_small(b, F32, (uint64_t)1 << 32, (uint64_t)1 << 32, 0, 0);
    expect_refused(b, FUR_E_FORMAT, "shape [4294967296, 4294967296] overflows");
    put_small(b, F32, (uint64_t)1 << 62, 1, 0, 0);
    expect_refused(b, FUR_E_FORMAT, "overflows");
    put_small(b, F32, (uint64_t)1 << 63, 1, 0, 0);
    expect_refused(b, FUR_E_FORMAT, "a size of 9223372036854775808");
    put_small(b, F32, 32, 0, 0, 0);
    expect_refused(b, FUR_E_FORMAT, "a size of 0, expected 1 or more");
    kit_put_gguf(b, 1, 0);
    kit_put_tensor(b, "a", 5, (uint64_t[]){1, 1, 1, 1, 1}, F32, 0);
    expect_refused(b, FUR_E_FORMAT, "5 sizes, expected 1 to 4");
    kit_put_gguf(b, 1, 0);
    kit_put_tensor(b, "a", 0, NULL, F32, 0);
    kit_put_zeros(b, 32);
    expect_refused(b, FUR_E_FORMAT, "0 sizes");
}

static void test_tensor_types(void **state)
{
    kit_bytes *b = *state;
    put_small(b, 10, 256, 1, 0, 1024); /* Q2_K, which is not read */
    expect_refused(b, FUR_E_UNSUPPORTED, "tensor \"a\": of type 10, this version has F32");
    put_small(b, 4096, 256, 1, 0, 1024);
    expect_refused(b, FUR_E_UNSUPPORTED, "tensor \"a\": of type 4096");
    put_small(b, Q4_0, 48, 1, 0, 1024);
    expect_refused(b, FUR_E_FORMAT, "rows of 48, expected a multiple of Q4_0's block of 32");
    put_small(b, Q4_K, 128, 2, 0, 1024); /* whole blocks in all, but not by rows */
    expect_refused(b, FUR_E_FORMAT, "rows of 128, expected a multiple of Q4_K's block of 256");
}

static void test_pairs(void **state)
{
    kit_bytes *b = *state;
    for (int overlap = 0; overlap < 2; overlap++) {
        kit_put_gguf(b, 2, 0);
        kit_put_tensor(b, "a", 1, (uint64_t[]){16}, F32, 0);
        kit_put_tensor(b, overlap ? "b" : "a", 1, (uint64_t[]){16}, F32, overlap ? 32 : 64);
        kit_put_align(b, 32);
        kit_put_zeros(b, 128);
        expect_refused(b, FUR_E_FORMAT,
                       overlap ? "tensor \"b\": it overlaps tensor \"a\"" : "tensor \"a\": it is there twice");
    }
}

typedef struct opened {
    const char *path;
} opened;

static fur_status open_and_read(void *user, fur_error *error)
{
    const opened *o = user;
    fur_gguf *file = NULL;
    fur_gguf_texts texts = {0};
    char *text = NULL;
    FUR_TRY(fur_gguf_open(error, o->path, &file));
    fur_status status = fur_gguf_texts_read(error, file, "texts", &texts);
    if (status == FUR_OK)
        status = fur_gguf_text(error, file, "general.architecture", &text);
    fur_gguf_texts_clear(&texts);
    fur_free(text);
    fur_gguf_close(file);
    return status;
}

static void test_faults(void **state)
{
    kit_bytes *b = *state;
    kit_folder folder;
    kit_folder_init(&folder);
    put_good(b, 3);
    opened o = {kit_write_bytes(&folder, "good.gguf", b)};
    assert_true(kit_each_allocation_fails(open_and_read, &o) > 20);
    kit_folder_clear(&folder);
}

static int make_bytes(void **state)
{
    *state = calloc(1, sizeof(kit_bytes));
    return *state == NULL;
}

static int free_bytes(void **state)
{
    free(*state);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),        cmocka_unit_test(test_source),       cmocka_unit_test(test_bad_magic),
        cmocka_unit_test(test_short),       cmocka_unit_test(test_versions),     cmocka_unit_test(test_big_endian),
        cmocka_unit_test(test_counts),      cmocka_unit_test(test_long_texts),   cmocka_unit_test(test_names),
        cmocka_unit_test(test_value_types), cmocka_unit_test(test_alignment),    cmocka_unit_test(test_offsets),
        cmocka_unit_test(test_shapes),      cmocka_unit_test(test_tensor_types), cmocka_unit_test(test_pairs),
        cmocka_unit_test(test_faults),
    };
    return cmocka_run_group_tests(tests, make_bytes, free_bytes);
}
