/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a .npz archive: refused, or each small array read to its last number. */
#include "fuzz.h"

#include "io/npz.h"

enum { MOST_BYTES = 1 << 16 };

static fur_status read_arrays(fur_error *error, const fur_npz *file)
{
    static unsigned char numbers[MOST_BYTES];
    for (int64_t i = 0; i < fur_npz_count(file); i++) {
        fur_npy npy;
        fuzz_require(fur_npz_find(file, fur_npz_name(file, i)) == i, "a name that is not found");
        FUR_TRY(fur_npz_array(error, file, i, &npy));
        if (npy.rows * npy.columns * fur_dtype_bytes(npy.dtype) <= MOST_BYTES)
            FUR_TRY(fur_npz_read(error, file, i, numbers));
    }
    return FUR_OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *path = fuzz_file(data, size, ".npz");
    int64_t live = fur_alloc_live();
    fur_error error = {0};
    fur_npz *file = NULL;
    fur_status status = fur_npz_open(&error, path, &file);
    if (status == FUR_OK)
        status = read_arrays(&error, file);
    fur_npz_close(file);
    fuzz_check_end(status, &error, live);
    return 0;
}
