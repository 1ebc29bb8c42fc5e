/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a compressed file read line by line: what comes out is bounded, lines are numbered one after the other.
 */
#include "fuzz.h"

#include "io/stream.h"

enum { MAX_DECODED = 1 << 20, MAX_LINE = 100 };

static fur_status read_lines(fur_error *error, fur_stream *stream)
{
    fur_lines *lines = NULL;
    FUR_TRY(fur_lines_open(error, stream, MAX_LINE, &lines));
    fur_line line = {0};
    fur_status status = FUR_OK;
    int64_t total = 0, number = 0;
    while ((status = fur_lines_next(error, lines, &line)) == FUR_OK && line.text) {
        fuzz_require(line.number == ++number, "a line's number");
        fuzz_require(line.bytes <= MAX_LINE, "a line longer than allowed");
        total += line.bytes;
    }
    fuzz_require(total <= MAX_DECODED, "more than was allowed to come out");
    fur_lines_close(lines);
    return status;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *path = fuzz_file(data, size, ".zst");
    int64_t live = fur_alloc_live();
    fur_error error = {0};
    fur_stream *stream = NULL;
    fur_status status = fur_stream_open(&error, path, MAX_DECODED, &stream);
    if (status == FUR_OK)
        status = read_lines(&error, stream);
    fur_stream_close(stream);
    fuzz_check_end(status, &error, live);
    return 0;
}
