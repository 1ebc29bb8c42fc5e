/* SPDX-License-Identifier: Apache-2.0 */
/* io/npy.h: the headers NumPy writes, and refusal of every other. */
#include "kit/files.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "io/npy.h"

static fur_status open_npy(fur_error *error, const char *path, fur_stream **stream, fur_npy *npy)
{
    FUR_TRY(fur_stream_open(error, path, FUR_STREAM_MAX_DECODED, stream));
    fur_status status = fur_npy_open(error, *stream, npy);
    if (status != FUR_OK)
        fur_stream_close(*stream);
    return status;
}

static void test_headers(void **state)
{
    (void)state;
    static const struct {
        const char *header;
        fur_dtype dtype;
        int rank;
        int64_t rows, columns;
    } cases[] = {
        {"{'descr': '<i8', 'fortran_order': False, 'shape': (3,), }            \n", FUR_DTYPE_I64, 1, 3, 1},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 5), }\n", FUR_DTYPE_F32, 2, 2, 5},
        {"{\"shape\":(0,),\"descr\":\"|u1\",\"fortran_order\":False}", FUR_DTYPE_U8, 1, 0, 1},
        {"{'descr':'<f8','fortran_order':True,'shape':(7,)}", FUR_DTYPE_F64, 1, 7, 1},
        {"{'descr':'<f2','fortran_order':True,'shape':(7,1)}", FUR_DTYPE_F16, 2, 7, 1},
        {"{'descr':'|i1','fortran_order':False,'shape':( 7 , 2 , )}", FUR_DTYPE_I8, 2, 7, 2},
        {"{'descr':'<u8','fortran_order':False,'shape':(9223372036854775807,0)}", FUR_DTYPE_U64, 2, INT64_MAX, 0},
    };
    kit_folder folder;
    kit_folder_init(&folder);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        fur_error error = {0};
        fur_stream *stream;
        fur_npy npy;
        const char *path = kit_write_npy(&folder, "a.npy", cases[i].header, NULL, 0);
        kit_expect_ok(&error, open_npy(&error, path, &stream, &npy));
        assert_int_equal(npy.dtype, cases[i].dtype);
        assert_int_equal(npy.rank, cases[i].rank);
        assert_true(npy.rows == cases[i].rows && npy.columns == cases[i].columns);
        fur_stream_close(stream);
    }
    /* formats 2 and 3 have a longer length field */
    for (char version = 2; version <= 3; version++) {
        char file[] = "\x93NUMPY\2\0\x38\0\0\0{'descr':'<i4','fortran_order':False,'shape':(1,)}     \n\5\0\0";
        file[6] = version;
        fur_error error = {0};
        fur_stream *stream;
        fur_npy npy;
        kit_expect_ok(&error, open_npy(&error, kit_write(&folder, "a.npy", file, 12 + 56 + 4), &stream, &npy));
        int32_t id;
        kit_expect_ok(&error, fur_npy_read_ids(&error, &npy, 1, 6, &id));
        assert_int_equal(id, 5);
        kit_expect_ok(&error, fur_npy_end(&error, &npy));
        fur_stream_close(stream);
    }
    kit_folder_clear(&folder);
}

static void test_refused_headers(void **state)
{
    (void)state;
    static const struct {
        const char *header, *part;
    } cases[] = {
        {"", "expected '{'"},
        {"[]", "expected '{'"},
        {"{", "expected a quoted name"},
        {"{}", "character 2: expected 'descr', 'fortran_order' and 'shape'"},
        {"{'descr':'<i8','fortran_order':False}", "expected 'descr', 'fortran_order' and 'shape'"},
        {"{'descr':'<i8','descr':'<i8','fortran_order':False,'shape':(1,)}", "character 15: expected 'descr', "},
        {"{'descr':'<i8','fortran_order':False,'shape':(1,),'more':1}", "once each"},
        {"{'descr' '<i8'}", "expected ':'"},
        {"{'descr':'<i8' 'shape':(1,)}", "expected ',' or '}'"},
        {"{'descr':'<i8','fortran_order':False,'shape':(1,)}x", "expected nothing after '}'"},
        {"{'descr:<i8}", "expected a short quoted name"},
        {"{'de\\x73cr':'<i8'}", "expected a short quoted name"},
        {"{descr:'<i8'}", "expected a quoted name"},
        {"{'descr':'>i8','fortran_order':False,'shape':(1,)}", ".npy type '>i8', expected little-endian"},
        {"{'descr':'<c8','fortran_order':False,'shape':(1,)}", ".npy type '<c8'"},
        {"{'descr':'|O','fortran_order':False,'shape':(1,)}", ".npy type '|O'"},
        {"{'descr':'|b1','fortran_order':False,'shape':(1,)}", ".npy type '|b1'"},
        {"{'descr':[('a','<i8')],'fortran_order':False,'shape':(1,)}", "expected a plain type, not a structure"},
        {"{'descr':'<i8','fortran_order':0,'shape':(1,)}", "expected True or False"},
        {"{'descr':'<i8','fortran_order':False,'shape':()}", "expected one or two dimensions"},
        {"{'descr':'<i8','fortran_order':False,'shape':(1)}", "expected ','"},
        {"{'descr':'<i8','fortran_order':False,'shape':[1]}", "expected a shape in parentheses"},
        {"{'descr':'<i8','fortran_order':False,'shape':(-1,)}", "expected a size"},
        {"{'descr':'<i8','fortran_order':False,'shape':(1.5,)}", "expected ','"},
        {"{'descr':'<i8','fortran_order':False,'shape':(1,2,3)}", "expected at most two dimensions"},
        {"{'descr':'<i8','fortran_order':False,'shape':(1,2", "expected ')'"},
        {"{'descr':'<i8','fortran_order':False,'shape':(9223372036854775808,)}", "expected a smaller size"},
        {"{'descr':'<i8','fortran_order':False,'shape':(4294967296,4294967296)}", "overflows"},
        {"{'descr':'<i8','fortran_order':False,'shape':(2305843009213693952,)}", "overflows"},
    };
    kit_folder folder;
    kit_folder_init(&folder);
    fur_error error = {0};
    fur_stream *stream;
    fur_npy npy;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        kit_expect(&error, open_npy(&error, kit_write_npy(&folder, "a.npy", cases[i].header, NULL, 0), &stream, &npy),
                   FUR_E_FORMAT, cases[i].part);
    static const char column_order[] = "{'descr':'<f4','fortran_order':True,'shape':(2,2)}";
    kit_expect(&error, open_npy(&error, kit_write_npy(&folder, "a.npy", column_order, NULL, 0), &stream, &npy),
               FUR_E_UNSUPPORTED, "column order, expected row order");
    static const struct {
        const char *file;
        int64_t bytes;
        const char *part;
    } files[] = {
        {"", 0, "ends within the .npy header"},
        {"\x93NUMPY\1", 7, "ends within the .npy header"},
        {"plain text, no array", 20, "does not begin as .npy"},
        {"\x93NUMPY\4\0\1\0{", 11, "format 4.0"},
        {"\x93NUMPY\1\1\1\0{", 11, "format 1.1"},
        {"\x93NUMPY\1\0\1\0", 10, "ends within the .npy header"},
        {"\x93NUMPY\2\0\1\0\0", 11, "ends within the .npy header"},
        {"\x93NUMPY\2\0\xff\xff\xff\xff{", 13, "header of 4294967295 bytes, expected at most 65536"},
    };
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++)
        kit_expect(&error, open_npy(&error, kit_write(&folder, "a.npy", files[i].file, files[i].bytes), &stream, &npy),
                   FUR_E_FORMAT, files[i].part);
    kit_folder_clear(&folder);
}

/* Reads the one-dimensional array whole. */
static fur_status read_ids(fur_error *error, const char *path, int64_t limit, int32_t *ids)
{
    fur_stream *stream;
    fur_npy npy;
    FUR_TRY(open_npy(error, path, &stream, &npy));
    fur_status status = fur_npy_read_ids(error, &npy, npy.rows, limit, ids);
    if (status == FUR_OK)
        status = fur_npy_end(error, &npy);
    fur_stream_close(stream);
    return status;
}

static void test_ids(void **state)
{
    (void)state;
    kit_folder folder;
    kit_folder_init(&folder);
    fur_error error = {0};
    static const struct {
        const char *descr;
        int bytes, is_signed;
    } types[] = {{"|i1", 1, 1}, {"|u1", 1, 0}, {"<i2", 2, 1}, {"<u2", 2, 0},
                 {"<i4", 4, 1}, {"<u4", 4, 0}, {"<i8", 8, 1}, {"<u8", 8, 0}};
    for (size_t t = 0; t < sizeof types / sizeof types[0]; t++) {
        char header[96];
        unsigned char data[24] = {0};
        int n = types[t].bytes;
        snprintf(header, sizeof header, "{'descr':'%s','fortran_order':False,'shape':(3,)}", types[t].descr);
        data[0] = 7;
        data[n] = 100;
        int32_t ids[3];
        kit_expect_ok(&error, read_ids(&error, kit_write_npy(&folder, "a.npy", header, data, 3 * n), 101, ids));
        assert_true(ids[0] == 7 && ids[1] == 100 && ids[2] == 0);
        kit_expect(&error, read_ids(&error, kit_write_npy(&folder, "a.npy", header, data, 3 * n), 100, ids),
                   FUR_E_FORMAT, "token id 100 at position 1, expected 0 to 99");
        memset(data + 2 * n, 0xff, (size_t)n);
        const char *path = kit_write_npy(&folder, "a.npy", header, data, 3 * n);
        static const char *const largest[] = {"255", "65535", "4294967295", "18446744073709551615"};
        char part[64];
        snprintf(part, sizeof part, "token id %s at position 2",
                 types[t].is_signed ? "-1"
                                    : largest[n == 1   ? 0
                                              : n == 2 ? 1
                                              : n == 4 ? 2
                                                       : 3]);
        kit_expect(&error, read_ids(&error, path, 200, ids), FUR_E_FORMAT, part);
        kit_expect(&error, read_ids(&error, kit_write_npy(&folder, "a.npy", header, data, 3 * n - 1), 101, ids),
                   FUR_E_FORMAT, "a.npy: ends after 2 of 3 .npy values");
        unsigned char longer[25] = {0};
        kit_expect(&error, read_ids(&error, kit_write_npy(&folder, "a.npy", header, longer, 3 * n + 1), 101, ids),
                   FUR_E_FORMAT, "bytes follow the .npy array");
    }
    int32_t id;
    const int64_t above = (int64_t)1 << 31;
    static const char header[] = "{'descr':'<i8','fortran_order':False,'shape':(1,)}";
    kit_expect(&error, read_ids(&error, kit_write_npy(&folder, "a.npy", header, &above, 8), above, &id), FUR_E_FORMAT,
               "token id 2147483648 at position 0, expected 0 to 2147483647");
    kit_folder_clear(&folder);
}

static void test_vectors(void **state)
{
    (void)state;
    kit_folder folder;
    kit_folder_init(&folder);
    fur_error error = {0};
    enum { ROWS = 5000, COLUMNS = 3 };
    static double data[ROWS * COLUMNS];
    static float got[ROWS * COLUMNS];
    for (int i = 0; i < ROWS * COLUMNS; i++)
        data[i] = (double)i / 7;
    static const char header[] = "{'descr':'<f8','fortran_order':False,'shape':(5000,3)}";
    const char *path = kit_write_npy(&folder, "x.npy", header, data, sizeof data);
    fur_stream *stream;
    fur_npy npy;
    kit_expect_ok(&error, open_npy(&error, path, &stream, &npy));
    assert_false(fur_npy_is_integer(&npy));
    for (int64_t row = 0; row < ROWS; row += 999) {
        int64_t rows = row + 999 < ROWS ? 999 : ROWS - row;
        kit_expect_ok(&error, fur_npy_read_f32(&error, &npy, rows, got + row * COLUMNS));
    }
    kit_expect_ok(&error, fur_npy_end(&error, &npy));
    fur_stream_close(stream);
    for (int i = 0; i < ROWS * COLUMNS; i++)
        assert_true(got[i] == (float)data[i]);
    data[3 * 4321 + 2] = (double)NAN;
    path = kit_write_npy(&folder, "x.npy", header, data, sizeof data);
    kit_expect_ok(&error, open_npy(&error, path, &stream, &npy));
    kit_expect_ok(&error, fur_npy_read_f32(&error, &npy, 1000, got));
    kit_expect(&error, fur_npy_read_f32(&error, &npy, 4000, got), FUR_E_NONFINITE, "x.npy: row 4321, column 2 is");
    fur_stream_close(stream);
    data[3 * 4321 + 2] = 1e39; /* no f32 */
    path = kit_write_npy(&folder, "x.npy", header, data, sizeof data);
    kit_expect_ok(&error, open_npy(&error, path, &stream, &npy));
    kit_expect(&error, fur_npy_read_f32(&error, &npy, 5000, got), FUR_E_NONFINITE, "row 4321, column 2 is inf");
    fur_stream_close(stream);
    kit_folder_clear(&folder);
}

static fur_status read_case(void *user, fur_error *error)
{
    int32_t ids[3];
    return read_ids(error, user, 300, ids);
}

static void test_faults(void **state)
{
    (void)state;
    kit_folder folder;
    kit_folder_init(&folder);
    const unsigned char data[] = {1, 2, 3};
    char path[600];
    snprintf(path, sizeof path, "%s",
             kit_write_npy(&folder, "a.npy", "{'descr':'|u1','fortran_order':False,'shape':(3,)}", data, 3));
    assert_true(kit_each_allocation_fails(read_case, path) >= 3);
    kit_folder_clear(&folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_headers), cmocka_unit_test(test_refused_headers), cmocka_unit_test(test_ids),
        cmocka_unit_test(test_vectors), cmocka_unit_test(test_faults),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
