/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes read once, in order, from a file, a compressed file (*.zst) or standard input ("-"); and lines of them. Memory
 * does not depend on the length. */
#ifndef FUR_IO_STREAM_H
#define FUR_IO_STREAM_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

/* A small .zst can hold any number of bytes: beyond this it is refused. */
#define FUR_STREAM_MAX_DECODED ((int64_t)64 << 30)
/* Decompression keeps one window: frames that want a larger one (zstd --long=28 and above) are refused. */
#define FUR_STREAM_WINDOW_LOG 27

typedef struct fur_stream fur_stream;

/* Opening a pipe waits for its writer. */
fur_status fur_stream_open(fur_error *error, const char *path, int64_t max_decoded, fur_stream **out);
void fur_stream_close(fur_stream *stream); /* NULL allowed */
/* Fills `out`; *count < capacity only at the end. A regular file is read to the size it had when opened: one that
 * became shorter is FUR_E_IO, a compressed one that ends within a frame FUR_E_FORMAT. */
fur_status fur_stream_read(fur_error *error, fur_stream *stream, void *out, int64_t capacity, int64_t *count);
/* The path, or "standard input". */
const char *fur_stream_name(const fur_stream *stream);

typedef struct fur_lines fur_lines;
typedef struct fur_line {
    const char *text; /* without the newline; NULL at the end; valid until the next call */
    int64_t bytes;
    int64_t number; /* from 1 */
    bool too_long;  /* more than max_bytes: passed over, text is "" */
} fur_line;
/* The stream stays the caller's. */
fur_status fur_lines_open(fur_error *error, fur_stream *stream, int64_t max_bytes, fur_lines **out);
fur_status fur_lines_next(fur_error *error, fur_lines *lines, fur_line *out);
void fur_lines_close(fur_lines *lines); /* NULL allowed */
/* Nothing but spaces, tabs and the return of a line of DOS. */
bool fur_line_is_blank(const fur_line *line);

#endif
