/* SPDX-License-Identifier: Apache-2.0 */
/* io/safetensors.h and io/tensor_source.h: what is written is read back, and what breaks the format does not open. */
#include "kit/files.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "io/file.h"
#include "io/hash.h"
#include "io/tensor_source.h"

/* A file of this header, its length field, and `data_bytes` bytes counting up from 0. */
static const char *write_raw(const kit_folder *folder, const char *name, const char *header, int64_t data_bytes)
{
    size_t length = strlen(header), total = 8 + length + (size_t)data_bytes;
    unsigned char *bytes = malloc(total);
    for (int i = 0; i < 8; i++)
        bytes[i] = (unsigned char)((uint64_t)length >> (8 * i));
    memcpy(bytes + 8, header, length);
    for (int64_t i = 0; i < data_bytes; i++)
        bytes[8 + length + (size_t)i] = (unsigned char)i;
    const char *path = kit_write(folder, name, bytes, (int64_t)total);
    free(bytes);
    return path;
}

static void test_refused_headers(void **state)
{
    (void)state;
    static const struct {
        const char *header;
        int64_t data_bytes;
        const char *part;
    } cases[] = {
        {"", 8, "does not begin with '{'"},
        {" {}", 0, "does not begin with '{'"},
        {"[1]", 0, "does not begin with '{'"},
        {"{\"a\":", 0, "not valid JSON"},
        {"{}x", 0, "end of file expected"},
        {"{\"\xff\":{}}", 0, "unable to decode"},
        {"{\"a\":1}", 0, "tensor \"a\": expected an object"},
        {"{\"a\":{}}", 0, "expected exactly"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, "expected exactly"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4],\"more\":1}}", 4, "expected exactly"},
        {"{\"a\":{\"dtype\":\"F31\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "unknown dtype F31"},
        {"{\"a\":{\"dtype\":7,\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "unknown dtype (not a string)"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":1,\"data_offsets\":[0,4]}}", 4, "\"shape\" is not an array"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]}}", 4, "size 0 of \"shape\""},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1.0],\"data_offsets\":[0,4]}}", 4, "size 1 of \"shape\""},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[\"1\"],\"data_offsets\":[0,4]}}", 4, "size 0 of \"shape\""},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1e400],\"data_offsets\":[0,4]}}", 4, "real number overflow"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[9223372036854775808],\"data_offsets\":[0,4]}}", 4, "too big integer"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,4]}}", 4, "9 dimensions"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,0]}}", 0, "overflows"},
        {"{\"a\":{\"dtype\":\"F64\",\"shape\":[2305843009213693952],\"data_offsets\":[0,0]}}", 0, "overflows"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]}}", 4, "not two whole numbers"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4,8]}}", 4, "not two whole numbers"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0.0,4]}}", 4, "not two whole numbers"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[-4,0]}}", 4, "[-4, 0] is not a range"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,0]}}", 4, "[4, 0] is not a range"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]}}", 4, "is 4 bytes, expected 8 for F32 [2]"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 4,
         "ends at byte 8 of the data, which has 4"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", 8,
         "begins at byte 4 of the data, expected 0"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 5, "1 bytes after the last tensor"},
        {"{}", 1, "1 bytes after the last tensor"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},"
         "\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[2,6]}}",
         6, "\"b\": begins at byte 2 of the data, expected 4 (overlaps"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
         "\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[4,6]}}",
         6, "\"b\": begins at byte 4 of the data, expected 2 (a hole)"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
         "\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[2,4]}}",
         4, "duplicate object key"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[9223372036854775807],\"data_offsets\":[0,9223372036854775807]}}", 4,
         "ends at byte 9223372036854775807"},
        {"{\"__metadata__\":1}", 0, "\"__metadata__\" is not an object"},
        {"{\"__metadata__\":{\"step\":1}}", 0, "\"step\", which is not a string"},
    };
    kit_folder folder;
    kit_folder_init(&folder);
    int64_t live = fur_alloc_live();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        fur_error error = {0};
        fur_safetensors *file = NULL;
        const char *path = write_raw(&folder, "hostile.safetensors", cases[i].header, cases[i].data_bytes);
        fur_status status = fur_safetensors_open(&error, path, &file);
        kit_expect(&error, status, FUR_E_FORMAT, cases[i].part);
        assert_non_null(strstr(error.text, path));
        assert_null(file);
    }
    assert_int_equal(fur_alloc_live(), live);
    kit_folder_clear(&folder);
}

static void test_refused_lengths(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        int64_t count;
        const char *part;
    } cases[] = {
        {"", 0, "0 bytes, too short"},
        {"\2\0\0\0\0\0\0", 7, "7 bytes, too short"},
        {"\0\0\0\0\0\0\0\0", 8, "does not begin with '{'"},
        {"\3\0\0\0\0\0\0\0{}", 10, "header of 3 bytes ends beyond the file of 10"},
        {"\0\0\0\0\0\0\0\x80{}", 10, "header of 9223372036854775808 bytes"},
        {"\xff\xff\xff\xff\xff\xff\xff\xff{}", 10, "header of 18446744073709551615 bytes"},
        {"\1\xe1\xf5\5\0\0\0\0{}", 10, "header of 100000001 bytes, expected at most 100000000"},
    };
    kit_folder folder;
    kit_folder_init(&folder);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        fur_error error = {0};
        fur_safetensors *file;
        kit_expect(&error, fur_safetensors_open(&error, kit_write(&folder, "x", cases[i].bytes, cases[i].count), &file),
                   FUR_E_FORMAT, cases[i].part);
    }
    fur_error error = {0};
    fur_safetensors *file;
    kit_expect(&error, fur_safetensors_open(&error, folder.path, &file), FUR_E_IO, "Is a directory");
    kit_expect(&error, fur_safetensors_open(&error, kit_path(&folder, "none"), &file), FUR_E_IO, "No such file");
    kit_folder_clear(&folder);
}

static void test_accepted(void **state)
{
    (void)state;
    kit_folder folder;
    kit_folder_init(&folder);
    fur_error error = {0};
    fur_safetensors *file;
    kit_expect_ok(&error, fur_safetensors_open(&error, write_raw(&folder, "x", "{}   ", 0), &file));
    assert_int_equal(fur_safetensors_count(file), 0);
    assert_null(fur_safetensors_find(file, "a"));
    fur_safetensors_close(file);
    /* tensors without elements lie where another begins, or at the end; a scalar; order of the header is free */
    const char *path = write_raw(&folder, "x",
                                 "{\"z\":{\"dtype\":\"F32\",\"shape\":[0,5],\"data_offsets\":[2,2]},"
                                 "\"b\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[2,3]},"
                                 "\"a\":{\"dtype\":\"BF16\",\"shape\":[1],\"data_offsets\":[0,2]},"
                                 "\"y\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[3,3]},"
                                 "\"__metadata__\":{\"step\":\"7\"}}",
                                 3);
    kit_expect_ok(&error, fur_safetensors_open(&error, path, &file));
    assert_int_equal(fur_safetensors_count(file), 4);
    assert_string_equal(fur_safetensors_at(file, 0)->name, "a");
    assert_string_equal(fur_safetensors_at(file, 1)->name, "z");
    assert_string_equal(fur_safetensors_metadata(file, "step"), "7");
    assert_null(fur_safetensors_metadata(file, "format"));
    assert_null(fur_safetensors_find(file, "__metadata__"));
    assert_int_equal(fur_safetensors_find(file, "b")->rank, 0);
    unsigned char scalar = 0;
    kit_expect_ok(&error, fur_safetensors_read_raw(&error, file, "b", FUR_DTYPE_U8, 0, NULL, &scalar));
    assert_int_equal(scalar, 2);
    float none;
    const int64_t shape[] = {0, 5};
    kit_expect_ok(&error, fur_safetensors_read_f32(&error, file, "z", 2, shape, true, &none));
    fur_safetensors_close(file);
    fur_safetensors_close(NULL);
    kit_folder_clear(&folder);
}

/* ---- conversion ----------------------------------------------------------------------------------------------- */

/* Every f16 and bf16 value, against their definition. */
static void test_half_types(void **state)
{
    (void)state;
    for (uint32_t bits = 0; bits < 65536; bits++) {
        uint16_t half = (uint16_t)bits;
        float got;
        fur_dtype_to_f32(FUR_DTYPE_F16, &half, 1, &got);
        int exponent = (int)(bits >> 10 & 31), fraction = (int)(bits & 1023);
        double magnitude = exponent == 31  ? (fraction ? (double)NAN : (double)INFINITY)
                           : exponent == 0 ? ldexp(fraction, -24)
                                           : ldexp(1024 + fraction, exponent - 25);
        double want = bits & 0x8000 ? -magnitude : magnitude;
        assert_true(isnan(want) ? isnan(got) : (double)got == want && !signbit(got) == !signbit(want));
        fur_dtype_to_f32(FUR_DTYPE_BF16, &half, 1, &got);
        exponent = (int)(bits >> 7 & 255), fraction = (int)(bits & 127);
        magnitude = exponent == 255 ? (fraction ? (double)NAN : (double)INFINITY)
                    : exponent == 0 ? ldexp(fraction, -133)
                                    : ldexp(128 + fraction, exponent - 134);
        want = bits & 0x8000 ? -magnitude : magnitude;
        assert_true(isnan(want) ? isnan(got) : (double)got == want && !signbit(got) == !signbit(want));
    }
    const double wide[] = {1.0 / 3, 1e300, -1e-320, 16777217.0};
    float got[4];
    fur_dtype_to_f32(FUR_DTYPE_F64, wide, 4, got);
    assert_true(got[0] == 1.0f / 3 && got[1] == INFINITY && got[2] == 0 && got[3] == 16777216.0f);
}

/* ---- writing and reading -------------------------------------------------------------------------------------- */

#define ROWS    300
#define COLUMNS 70 /* 21,000 elements: more than one chunk */

typedef struct round_case {
    kit_folder folder;
    float weights[ROWS * COLUMNS];
    double moments[17];
    int64_t cursor[3];
    unsigned char bytes[5];
    uint64_t hash;
} round_case;

/* Element i of the transposed weights. */
static fur_status fill_transposed(void *user, fur_error *error, int64_t first, int64_t count, void *out)
{
    (void)error;
    const round_case *c = user;
    for (int64_t i = 0; i < count; i++)
        ((float *)out)[i] = c->weights[(first + i) % ROWS * COLUMNS + (first + i) / ROWS];
    return FUR_OK;
}

static fur_status write_round(void *user, fur_error *error)
{
    round_case *c = user;
    const fur_tensor_entry entries[] = {
        {.name = "bytes", .dtype = FUR_DTYPE_U8, .rank = 1, .shape = {5}, .data = c->bytes},
        {.name = "w \"quoted\"\\", .dtype = FUR_DTYPE_F32, .rank = 2, .shape = {ROWS, COLUMNS}, .data = c->weights},
        {.name = "transposed",
         .dtype = FUR_DTYPE_F32,
         .rank = 2,
         .shape = {COLUMNS, ROWS},
         .fill = fill_transposed,
         .user = c},
        {.name = "moments", .dtype = FUR_DTYPE_F64, .rank = 1, .shape = {17}, .data = c->moments},
        {.name = "cursor", .dtype = FUR_DTYPE_I64, .rank = 1, .shape = {3}, .data = c->cursor},
        {.name = "empty", .dtype = FUR_DTYPE_F32, .rank = 1, .shape = {0}, .data = c->weights},
    };
    const fur_text_pair pairs[] = {{"step", "12"}, {"note", "line\nbreak"}};
    return fur_safetensors_write(error, kit_path(&c->folder, "out.safetensors"), entries,
                                 sizeof entries / sizeof entries[0], pairs, 2, &c->hash);
}

static fur_status read_round(void *user, fur_error *error)
{
    round_case *c = user;
    fur_tensor_source *source;
    FUR_TRY(fur_tensor_source_open(error, kit_path(&c->folder, "out.safetensors"), &source));
    static float weights[ROWS * COLUMNS], transposed[ROWS * COLUMNS];
    float moments[17];
    int64_t cursor[3] = {0};
    unsigned char bytes[5] = {0};
    const int64_t shape[] = {ROWS, COLUMNS}, turned[] = {COLUMNS, ROWS}, m[] = {17}, t[] = {3}, b[] = {5};
    fur_status status = fur_tensor_source_read_f32(error, source, "w \"quoted\"\\", 2, shape, true, weights);
    if (status == FUR_OK)
        status = fur_tensor_source_read_f32(error, source, "transposed", 2, turned, true, transposed);
    if (status == FUR_OK)
        status = fur_tensor_source_read_f32(error, source, "moments", 1, m, true, moments);
    if (status == FUR_OK)
        status = fur_tensor_source_read_raw(error, source, "cursor", FUR_DTYPE_I64, 1, t, cursor);
    if (status == FUR_OK)
        status = fur_tensor_source_read_raw(error, source, "bytes", FUR_DTYPE_U8, 1, b, bytes);
    if (status == FUR_OK) {
        assert_memory_equal(weights, c->weights, sizeof weights);
        for (int64_t i = 0; i < ROWS; i++)
            for (int64_t j = 0; j < COLUMNS; j++)
                assert_true(transposed[j * ROWS + i] == c->weights[i * COLUMNS + j]);
        for (int i = 0; i < 17; i++)
            assert_true(moments[i] == (float)c->moments[i]);
        assert_memory_equal(cursor, c->cursor, sizeof cursor);
        assert_memory_equal(bytes, c->bytes, sizeof bytes);
        assert_string_equal(fur_tensor_source_metadata(source, "step"), "12");
        assert_string_equal(fur_tensor_source_metadata(source, "note"), "line\nbreak");
        assert_string_equal(fur_tensor_source_metadata(source, "format"), "pt");
        assert_int_equal(fur_tensor_source_count(source), 6);
        for (int64_t i = 0; i < 6; i++) { /* each aligned to its element */
            const fur_tensor_info *info = fur_tensor_source_at(source, i);
            assert_int_equal(info->offset % fur_dtype_bytes(info->dtype), 0);
        }
    }
    fur_tensor_source_close(source);
    return status;
}

static void check_absent_or_whole(void *user, int64_t k)
{
    (void)k;
    round_case *c = user;
    if (kit_entries(c->folder.path) > 0)
        assert_int_equal(read_round(c, NULL), FUR_OK);
}

static void test_round_trip(void **state)
{
    (void)state;
    static round_case c;
    kit_folder_init(&c.folder);
    kit_fill_f32(c.weights, ROWS * COLUMNS, KIT_NORMAL, 3);
    for (int i = 0; i < 17; i++)
        c.moments[i] = i / 3.0;
    memcpy(c.cursor, (int64_t[]){INT64_MIN, -1, INT64_MAX}, sizeof c.cursor);
    memcpy(c.bytes, "\0\1\xfe\xff z", 5);
    assert_true(kit_each_write_fails(write_round, &c, ENOSPC, check_absent_or_whole) >= 6);
    fur_error error = {0};
    kit_expect_ok(&error, read_round(&c, &error));
    char *text;
    int64_t bytes;
    kit_expect_ok(&error, fur_file_read(&error, kit_path(&c.folder, "out.safetensors"), 1 << 20, &text, &bytes));
    assert_true(fur_hash_bytes(text, bytes) == c.hash);
    fur_free(text);
    assert_true(kit_each_allocation_fails(write_round, &c) >= 4);
    assert_true(kit_each_allocation_fails(read_round, &c) >= 20);
    kit_folder_clear(&c.folder);
}

static void test_refused_writes(void **state)
{
    (void)state;
    kit_folder folder;
    kit_folder_init(&folder);
    fur_error error = {0};
    const float x[4] = {0};
    fur_tensor_entry entries[] = {
        {.name = "a", .dtype = FUR_DTYPE_F32, .rank = 1, .shape = {4}, .data = x},
        {.name = "a", .dtype = FUR_DTYPE_F32, .rank = 1, .shape = {4}, .data = x},
    };
    const char *path = kit_path(&folder, "out");
    kit_expect(&error, fur_safetensors_write(&error, path, entries, 2, NULL, 0, NULL), FUR_E_ARGUMENT,
               "two tensors named \"a\"");
    entries[1].name = "b";
    entries[1].shape[0] = INT64_MAX;
    kit_expect(&error, fur_safetensors_write(&error, path, entries, 2, NULL, 0, NULL), FUR_E_ARGUMENT,
               "tensor \"b\" has no valid shape");
    entries[1].shape[0] = -1;
    kit_expect(&error, fur_safetensors_write(&error, path, entries, 2, NULL, 0, NULL), FUR_E_ARGUMENT,
               "no valid shape");
    entries[0].shape[0] = entries[1].shape[0] = (int64_t)1 << 60;
    kit_expect(&error, fur_safetensors_write(&error, path, entries, 2, NULL, 0, NULL), FUR_E_ARGUMENT,
               "bytes overflow");
    assert_int_equal(kit_entries(folder.path), 0);
    kit_folder_clear(&folder);
}

static void test_refused_reads(void **state)
{
    (void)state;
    kit_folder folder;
    kit_folder_init(&folder);
    fur_error error = {0};
    const float values[] = {1, 2, NAN, 4, 5, INFINITY};
    const double large[] = {1, -1e300};
    const int64_t ids[] = {1, 2};
    const fur_tensor_entry entries[] = {
        {.name = "x", .dtype = FUR_DTYPE_F32, .rank = 2, .shape = {2, 3}, .data = values},
        {.name = "d", .dtype = FUR_DTYPE_F64, .rank = 1, .shape = {2}, .data = large},
        {.name = "i", .dtype = FUR_DTYPE_I64, .rank = 1, .shape = {2}, .data = ids},
    };
    const char *path = kit_path(&folder, "w.safetensors");
    kit_expect_ok(&error, fur_safetensors_write(&error, path, entries, 3, NULL, 0, NULL));
    fur_safetensors *file;
    kit_expect_ok(&error, fur_safetensors_open(&error, path, &file));
    float out[6];
    const int64_t two_three[] = {2, 3}, three_two[] = {3, 2}, two[] = {2};
    kit_expect_ok(&error, fur_safetensors_read_f32(&error, file, "x", 2, two_three, false, out));
    kit_expect(&error, fur_safetensors_read_f32(&error, file, "x", 2, two_three, true, out), FUR_E_NONFINITE,
               "w.safetensors: tensor \"x\": element 2 is");
    kit_expect(&error, fur_safetensors_read_f32(&error, file, "d", 1, two, true, out), FUR_E_NONFINITE,
               "\"d\": element 1 is -inf");
    kit_expect(&error, fur_safetensors_read_f32(&error, file, "x", 2, three_two, true, out), FUR_E_SHAPE,
               "tensor \"x\": shape [2, 3], expected [3, 2]");
    kit_expect(&error, fur_safetensors_read_f32(&error, file, "x", 1, two_three, true, out), FUR_E_SHAPE,
               "shape [2, 3], expected [2]");
    kit_expect(&error, fur_safetensors_read_f32(&error, file, "i", 1, two, true, out), FUR_E_FORMAT,
               "tensor \"i\": dtype I64, expected F32, F16, BF16 or F64");
    kit_expect(&error, fur_safetensors_read_raw(&error, file, "x", FUR_DTYPE_F64, 2, two_three, out), FUR_E_FORMAT,
               "dtype F32, expected F64");
    kit_expect(&error, fur_safetensors_read_f32(&error, file, "lm_head.weight", 1, two, true, out), FUR_E_FORMAT,
               "tensor \"lm_head.weight\" is missing");
    fur_safetensors_close(file);
    kit_folder_clear(&folder);
}

/* As many tensors as we take: opening must not cost their square. */
static void test_many_tensors(void **state)
{
    (void)state;
    kit_folder folder;
    kit_folder_init(&folder);
    fur_error error = {0};
    int64_t count = FUR_SAFETENSORS_MAX_TENSORS;
    size_t room = (size_t)(count + 1) * 80;
    char *header = malloc(room);
    size_t at = 0;
    header[at++] = '{';
    for (int64_t i = 0; i <= count; i++) {
        if (i == count) { /* the file with `count` tensors, before the one too many */
            size_t end = at;
            memcpy(header + at - 1, "}", 2);
            fur_safetensors *file;
            kit_expect_ok(&error, fur_safetensors_open(&error, write_raw(&folder, "x", header, count), &file));
            assert_int_equal(fur_safetensors_find(file, "t77777")->offset - fur_safetensors_find(file, "t0")->offset,
                             77777);
            fur_safetensors_close(file);
            header[end - 1] = ',';
        }
        at += (size_t)snprintf(header + at, room - at,
                               "\"t%lld\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[%lld,%lld]},", (long long)i,
                               (long long)i, (long long)i + 1);
    }
    memcpy(header + at - 1, "}", 2);
    fur_safetensors *file;
    kit_expect(&error, fur_safetensors_open(&error, write_raw(&folder, "x", header, count + 1), &file), FUR_E_FORMAT,
               "262145 tensors, expected at most 262144");
    free(header);
    kit_folder_clear(&folder);
}

/* ---- shards --------------------------------------------------------------------------------------------------- */

static void write_shards(const kit_folder *folder)
{
    static const float a[] = {1, 2}, b[] = {3};
    fur_tensor_entry entry = {.name = "a", .dtype = FUR_DTYPE_F32, .rank = 1, .shape = {2}, .data = a};
    assert_int_equal(fur_safetensors_write(NULL, kit_path(folder, "m-1.safetensors"), &entry, 1, NULL, 0, NULL),
                     FUR_OK);
    entry = (fur_tensor_entry){.name = "b", .dtype = FUR_DTYPE_F32, .rank = 1, .shape = {1}, .data = b};
    assert_int_equal(fur_safetensors_write(NULL, kit_path(folder, "m-2.safetensors"), &entry, 1, NULL, 0, NULL),
                     FUR_OK);
}

static fur_status open_source(void *user, fur_error *error)
{
    kit_folder *folder = user;
    fur_tensor_source *source;
    FUR_TRY(fur_tensor_source_open(error, folder->path, &source));
    fur_tensor_source_close(source);
    return FUR_OK;
}

static void test_shards(void **state)
{
    (void)state;
    kit_folder folder;
    kit_folder_init(&folder);
    fur_error error = {0};
    write_shards(&folder);
    const char *const index = "model.safetensors.index.json";
    assert_int_equal(rename(kit_path(&folder, "m-2.safetensors"), kit_path(&folder, "model.safetensors")), 0);
    kit_expect_ok(&error, open_source(&folder, &error));
    assert_int_equal(rename(kit_path(&folder, "model.safetensors"), kit_path(&folder, "m-2.safetensors")), 0);
    kit_expect(&error, open_source(&folder, &error), FUR_E_IO,
               "neither model.safetensors nor model.safetensors.index.json");
    kit_write(&folder, index, "{\"weight_map\":{\"a\":\"m-1.safetensors\",\"b\":\"m-2.safetensors\"}}", -1);
    fur_tensor_source *source;
    kit_expect_ok(&error, fur_tensor_source_open(&error, folder.path, &source));
    float x[2];
    const int64_t two[] = {2}, one[] = {1};
    kit_expect_ok(&error, fur_tensor_source_read_f32(&error, source, "b", 1, one, true, x));
    assert_true(x[0] == 3);
    kit_expect_ok(&error, fur_tensor_source_read_f32(&error, source, "a", 1, two, true, x));
    assert_true(x[0] == 1 && x[1] == 2);
    kit_expect(&error, fur_tensor_source_read_f32(&error, source, "c", 1, one, true, x), FUR_E_FORMAT,
               "tensor \"c\" is missing");
    assert_int_equal(fur_tensor_source_count(source), 2);
    assert_null(fur_tensor_source_find(source, "c"));
    fur_tensor_source_close(source);
    fur_tensor_source_close(NULL);
    assert_true(kit_each_allocation_fails(open_source, &folder) > 20);

    static const struct {
        const char *text;
        fur_status status;
        const char *part;
    } cases[] = {
        {"", FUR_E_FORMAT, "empty"},
        {"{}", FUR_E_FORMAT, "\"weight_map\" is missing"},
        {"{\"weight_map\":{}}", FUR_E_FORMAT, "\"weight_map\" is missing or empty"},
        {"{\"weight_map\":[]}", FUR_E_FORMAT, "\"weight_map\" is missing"},
        {"{\"weight_map\":{\"a\":1}}", FUR_E_FORMAT, "shard of tensor \"a\" is not a string"},
        {"{\"weight_map\":{\"a\":\"\"}}", FUR_E_FORMAT, "expected a file name"},
        {"{\"weight_map\":{\"a\":\"..\"}}", FUR_E_FORMAT, "expected a file name"},
        {"{\"weight_map\":{\"a\":\"../m-1.safetensors\"}}", FUR_E_FORMAT,
         "is ../m-1.safetensors, expected a file name"},
        {"{\"weight_map\":{\"a\":\"/etc/passwd\"}}", FUR_E_FORMAT, "expected a file name"},
        {"{\"weight_map\":{\"a\":\"m-1.safetensors\\u0000\"}}", FUR_E_FORMAT, "expected a file name"},
        {"{\"weight_map\":{\"a\":\"m-3.safetensors\"}}", FUR_E_IO, "m-3.safetensors: cannot open: No such file"},
        {"{\"weight_map\":{\"a\":\"m-2.safetensors\"}}", FUR_E_FORMAT, "tensor \"a\" is not in its shard m-2"},
        {"{\"weight_map\":{\"a\":\"m-1.safetensors\",\"a\":\"m-2.safetensors\"}}", FUR_E_FORMAT,
         "duplicate object key"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        kit_write(&folder, index, cases[i].text, -1);
        kit_expect(&error, open_source(&folder, &error), cases[i].status, cases[i].part);
    }
    kit_folder_clear(&folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused_headers), cmocka_unit_test(test_refused_lengths),
        cmocka_unit_test(test_accepted),        cmocka_unit_test(test_half_types),
        cmocka_unit_test(test_round_trip),      cmocka_unit_test(test_refused_writes),
        cmocka_unit_test(test_refused_reads),   cmocka_unit_test(test_many_tensors),
        cmocka_unit_test(test_shards),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
