/* SPDX-License-Identifier: Apache-2.0 */
/* io/npz.h: archives as NumPy writes them, and refusal of every other; no cut or changed byte gets past. */
#include "kit/zip.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "io/npz.h"

static const float values[2 * 3 * 4] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
static const int64_t numbers[3] = {7, -1, 9};
static const char *const three = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3, 4), }   \n";
static const char *const one = "{'descr': '<i8', 'fortran_order': False, 'shape': (3,), }   \n";

static kit_zip archive(bool wide, bool deflated)
{
    kit_zip zip;
    kit_zip_begin(&zip, wide);
    kit_zip_npy(&zip, "x.npy", three, values, sizeof values, deflated);
    kit_zip_npy(&zip, "lengths.npy", one, numbers, sizeof numbers, !deflated);
    kit_zip_end(&zip);
    return zip;
}

static fur_status read_all(fur_error *error, const char *path)
{
    fur_npz *file;
    fur_npy npy;
    uint32_t got[24], expected[24]; /* bits of floats */
    int64_t lengths[3];
    memcpy(expected, values, sizeof expected);
    FUR_TRY(fur_npz_open(error, path, &file));
    int64_t x = fur_npz_find(file, "x"), l = fur_npz_find(file, "lengths");
    fur_status status = x >= 0 && l >= 0 ? FUR_OK : fur_error_set(error, FUR_E_FORMAT, "an array is missing");
    if (status == FUR_OK)
        status = fur_npz_array(error, file, x, &npy);
    if (status == FUR_OK && (npy.rank != 3 || npy.shape[0] != 2 || npy.shape[1] != 3 || npy.shape[2] != 4))
        status = fur_error_set(error, FUR_E_FORMAT, "another shape");
    if (status == FUR_OK)
        status = fur_npz_read(error, file, x, got);
    if (status == FUR_OK)
        status = fur_npz_array(error, file, l, &npy);
    if (status == FUR_OK && (npy.dtype != FUR_DTYPE_I64 || npy.rows != 3))
        status = fur_error_set(error, FUR_E_FORMAT, "another shape");
    if (status == FUR_OK)
        status = fur_npz_read(error, file, l, lengths);
    fur_npz_close(file);
    if (status == FUR_OK && (memcmp(got, expected, sizeof got) != 0 || memcmp(lengths, numbers, sizeof lengths) != 0))
        return fur_error_set(error, FUR_E_INTERNAL, "other numbers");
    return status;
}

static void test_archives(void **state)
{
    (void)state;
    kit_folder folder;
    kit_folder_init(&folder);
    for (int kind = 0; kind < 4; kind++) {
        fur_error error = {0};
        kit_zip zip = archive(kind & 1, kind & 2);
        kit_expect_ok(&error, read_all(&error, kit_write(&folder, "a.npz", zip.bytes, zip.size)));
        kit_zip_clear(&zip);
    }
    kit_folder_clear(&folder);
}

/* Every prefix is refused; every changed byte is refused or changes nothing that is read (dates, versions). */
static void test_damage(void **state)
{
    (void)state;
    kit_folder folder;
    kit_folder_init(&folder);
    for (int kind = 0; kind < 4; kind++) {
        kit_zip zip = archive(kind & 1, kind & 2);
        int64_t live = fur_alloc_live();
        for (int64_t cut = 0; cut < zip.size; cut++) {
            fur_error error = {0};
            fur_status status = read_all(&error, kit_write(&folder, "cut.npz", zip.bytes, cut));
            assert_true(status == FUR_E_FORMAT || status == FUR_E_IO);
        }
        for (int64_t at = 0; at < zip.size; at++) {
            fur_error error = {0};
            zip.bytes[at] ^= 0x55;
            fur_status status = read_all(&error, kit_write(&folder, "bad.npz", zip.bytes, zip.size));
            assert_true(status != FUR_E_INTERNAL); /* other numbers without a word */
            zip.bytes[at] ^= 0x55;
        }
        assert_int_equal(fur_alloc_live(), live);
        kit_zip_clear(&zip);
    }
    kit_folder_clear(&folder);
}

static void refuse(const kit_folder *folder, const kit_zip *zip, fur_status wanted, const char *part)
{
    fur_error error = {0};
    kit_expect(&error, read_all(&error, kit_write(folder, "a.npz", zip->bytes, zip->size)), wanted, part);
}

static void test_refusals(void **state)
{
    (void)state;
    kit_folder folder;
    kit_zip zip;
    fur_error error = {0};
    kit_folder_init(&folder);
    kit_expect(&error, read_all(&error, kit_path(&folder, "none.npz")), FUR_E_IO, "cannot open");
    kit_zip_begin(&zip, false);
    kit_zip_npy(&zip, "x.npy", three, values, sizeof values, false);
    kit_zip_npy(&zip, "x.npy", three, values, sizeof values, false);
    kit_zip_end(&zip);
    refuse(&folder, &zip, FUR_E_FORMAT, "array \"x\" is there twice");
    kit_zip_clear(&zip);
    kit_zip_begin(&zip, false);
    kit_zip_npy(&zip, "x.npy", three, values, sizeof values - 4, false);
    kit_zip_npy(&zip, "lengths.npy", one, numbers, sizeof numbers, false);
    kit_zip_end(&zip);
    refuse(&folder, &zip, FUR_E_FORMAT, "another size than its shape");
    kit_zip_clear(&zip);
    kit_zip_begin(&zip, false);
    kit_zip_add(&zip, "x.npy", "hello, this is text", 19, true);
    kit_zip_add(&zip, "lengths.npy", "", 0, false);
    kit_zip_end(&zip);
    refuse(&folder, &zip, FUR_E_FORMAT, "no .npy file");
    kit_zip_clear(&zip);
    zip = archive(false, false);
    for (int64_t at = 0; at + 4 < zip.size;
         at++) /* the flag of encryption, then a method, in the directory's entries */
        if (memcmp(zip.bytes + at, "PK\x01\x02", 4) == 0)
            zip.bytes[at + 8] = 1;
    refuse(&folder, &zip, FUR_E_UNSUPPORTED, "is encrypted");
    for (int64_t at = 0; at + 4 < zip.size; at++)
        if (memcmp(zip.bytes + at, "PK\x01\x02", 4) == 0) {
            zip.bytes[at + 8] = 0;
            zip.bytes[at + 10] = 12;
        }
    refuse(&folder, &zip, FUR_E_UNSUPPORTED, "compressed by method 12");
    kit_zip_clear(&zip);
    kit_folder_clear(&folder);
}

static fur_status read_call(void *user, fur_error *error)
{
    return read_all(error, user);
}

static void test_memory(void **state)
{
    (void)state;
    kit_folder folder;
    kit_folder_init(&folder);
    kit_zip zip = archive(false, true);
    char path[600];
    (void)strncpy(path, kit_write(&folder, "a.npz", zip.bytes, zip.size), sizeof path - 1);
    path[sizeof path - 1] = 0;
    assert_true(kit_each_allocation_fails(read_call, path) > 5);
    kit_zip_clear(&zip);
    kit_folder_clear(&folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_archives), cmocka_unit_test(test_damage),
                                       cmocka_unit_test(test_refusals), cmocka_unit_test(test_memory)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
