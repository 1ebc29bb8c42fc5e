/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a .npy array: refused, or read to its end, with ids in their range and vectors finite. */
#include "fuzz.h"

#include "io/npy.h"

enum { ROWS = 64, COLUMNS = 4096 };

static fur_status read_rows(fur_error *error, fur_npy *npy)
{
    static int32_t ids[ROWS];
    static float values[ROWS * COLUMNS];
    if (npy->columns > COLUMNS)
        return FUR_OK;
    while (npy->next_row < npy->rows) {
        int64_t rows = npy->rows - npy->next_row < ROWS ? npy->rows - npy->next_row : ROWS;
        if (fur_npy_is_integer(npy) && npy->rank == 1) {
            FUR_TRY(fur_npy_read_ids(error, npy, rows, 256, ids));
            for (int64_t i = 0; i < rows; i++)
                fuzz_require(ids[i] >= 0 && ids[i] < 256, "a token id out of range");
        } else if (!fur_npy_is_integer(npy)) {
            FUR_TRY(fur_npy_read_f32(error, npy, rows, values));
            for (int64_t i = 0; i < rows * npy->columns; i++)
                fuzz_require(values[i] - values[i] == 0, "a value that is not finite");
        } else {
            return FUR_OK;
        }
    }
    return fur_npy_end(error, npy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *path = fuzz_file(data, size, ".npy");
    int64_t live = fur_alloc_live();
    fur_error error = {0};
    fur_stream *stream = NULL;
    fur_npy npy;
    fur_status status = fur_stream_open(&error, path, (int64_t)1 << 20, &stream);
    if (status == FUR_OK)
        status = fur_npy_open(&error, stream, &npy);
    if (status == FUR_OK)
        status = read_rows(&error, &npy);
    fur_stream_close(stream);
    fuzz_check_end(status, &error, live);
    return 0;
}
