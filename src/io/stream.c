/* SPDX-License-Identifier: Apache-2.0 */
#include "io/stream.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* For ZSTD_createDCtx_advanced: its memory then comes from our allocator. */
#define ZSTD_STATIC_LINKING_ONLY
#include <zstd.h>
#include <zstd_errors.h>

#include "base/alloc.h"
#include "base/size.h"
#include "io/fault.h"
#include "io/file.h"

#define PACKED_BYTES     131072
#define LINE_START_BYTES 65536

struct fur_stream {
    int fd;
    char *name;
    int64_t size;    /* when opened; -1: unknown (pipe, device), read to the end */
    int64_t taken;   /* bytes read from fd */
    int64_t decoded; /* bytes given out */
    int64_t max_decoded;
    ZSTD_DCtx *zstd;       /* NULL: not compressed */
    unsigned char *packed; /* [PACKED_BYTES] compressed input */
    ZSTD_inBuffer input;
    bool within_frame; /* the last call left a frame unfinished */
};

static void *zstd_allocate(void *user, size_t bytes)
{
    (void)user;
    return fur_malloc(bytes);
}

static void zstd_release(void *user, void *pointer)
{
    (void)user;
    fur_free(pointer);
}

static bool ends_with(const char *text, const char *end)
{
    size_t length = strlen(text), tail = strlen(end);
    return length >= tail && strcmp(text + length - tail, end) == 0;
}

static fur_status start_zstd(fur_error *error, fur_stream *stream)
{
    ZSTD_customMem memory = {.customAlloc = zstd_allocate, .customFree = zstd_release};
    stream->zstd = ZSTD_createDCtx_advanced(memory);
    stream->packed = fur_malloc(PACKED_BYTES);
    stream->input = (ZSTD_inBuffer){.src = stream->packed};
    if (!stream->zstd || !stream->packed)
        return fur_memory_error(error, PACKED_BYTES, stream->name);
    size_t result = ZSTD_DCtx_setParameter(stream->zstd, ZSTD_d_windowLogMax, FUR_STREAM_WINDOW_LOG);
    if (ZSTD_isError(result))
        return fur_error_set(error, FUR_E_INTERNAL, "%s: zstd: %s", stream->name, ZSTD_getErrorName(result));
    return FUR_OK;
}

static fur_status open_file(fur_error *error, fur_stream *stream, const char *path)
{
    if (strcmp(path, "-") == 0) {
        stream->fd = STDIN_FILENO;
    } else {
        int fault = fur_io_fault(FUR_IO_OPEN, path);
        errno = fault;
        stream->fd = fault ? -1 : open(path, O_RDONLY | O_CLOEXEC);
        if (stream->fd < 0)
            return fur_io_error(error, path, "open", errno);
    }
    struct stat about;
    if (fstat(stream->fd, &about) != 0)
        return fur_io_error(error, stream->name, "stat", errno);
    if (S_ISDIR(about.st_mode))
        return fur_io_error(error, stream->name, "read", EISDIR);
    /* standard input may stand anywhere in its file; files of /proc say 0 */
    bool known = S_ISREG(about.st_mode) && about.st_size > 0 && stream->fd != STDIN_FILENO;
    stream->size = known ? (int64_t)about.st_size : -1;
    return ends_with(path, ".zst") ? start_zstd(error, stream) : FUR_OK;
}

fur_status fur_stream_open(fur_error *error, const char *path, int64_t max_decoded, fur_stream **out)
{
    fur_stream *stream = fur_calloc(1, sizeof *stream);
    if (!stream)
        return fur_memory_error(error, (int64_t)sizeof *stream, path);
    stream->fd = -1;
    stream->max_decoded = max_decoded;
    stream->name = fur_strdup(strcmp(path, "-") == 0 ? "standard input" : path);
    fur_status status =
        stream->name ? open_file(error, stream, path) : fur_memory_error(error, (int64_t)strlen(path), "a path");
    if (status != FUR_OK) {
        fur_stream_close(stream);
        return status;
    }
    *out = stream;
    return FUR_OK;
}

void fur_stream_close(fur_stream *stream)
{
    if (!stream)
        return;
    if (stream->fd >= 0 && stream->fd != STDIN_FILENO)
        close(stream->fd);
    ZSTD_freeDCtx(stream->zstd);
    fur_free(stream->packed);
    fur_free(stream->name);
    fur_free(stream);
}

const char *fur_stream_name(const fur_stream *stream)
{
    return stream->name;
}

/* Bytes as they are in the file. */
static fur_status take(fur_error *error, fur_stream *stream, void *out, int64_t capacity, int64_t *count)
{
    if (stream->size >= 0)
        capacity = fur_min_i64(capacity, stream->size - stream->taken);
    FUR_TRY(fur_fd_read(error, stream->fd, stream->name, -1, out, capacity, count));
    stream->taken += *count;
    if (stream->size >= 0 && *count < capacity)
        return fur_error_set(error, FUR_E_IO,
                             "%s: the file became shorter while it was read: %lld bytes at opening, now %lld",
                             stream->name, (long long)stream->size, (long long)stream->taken);
    return FUR_OK;
}

static fur_status refill(fur_error *error, fur_stream *stream)
{
    int64_t count;
    FUR_TRY(take(error, stream, stream->packed, PACKED_BYTES, &count));
    stream->input = (ZSTD_inBuffer){.src = stream->packed, .size = (size_t)count};
    if (count == 0 && stream->within_frame)
        return fur_error_set(error, FUR_E_FORMAT, "%s: ends within a compressed frame, after %lld bytes", stream->name,
                             (long long)stream->taken);
    return FUR_OK;
}

static fur_status unpack(fur_error *error, fur_stream *stream, void *out, int64_t capacity, int64_t *count)
{
    ZSTD_outBuffer output = {.dst = out, .size = (size_t)capacity};
    while (output.pos < output.size) {
        size_t before = output.pos;
        if (stream->input.pos == stream->input.size && !stream->within_frame) {
            FUR_TRY(refill(error, stream));
            if (stream->input.size == 0) {
                if (stream->taken == 0)
                    return fur_error_set(error, FUR_E_FORMAT, "%s: empty, expected a zstd frame", stream->name);
                break;
            }
        }
        size_t result = ZSTD_decompressStream(stream->zstd, &output, &stream->input);
        if (ZSTD_isError(result)) {
            if (ZSTD_getErrorCode(result) == ZSTD_error_memory_allocation)
                return fur_memory_error(error, (int64_t)1 << FUR_STREAM_WINDOW_LOG, stream->name);
            return fur_error_set(error, FUR_E_FORMAT, "%s: zstd, near byte %lld: %s", stream->name,
                                 (long long)stream->taken, ZSTD_getErrorName(result));
        }
        stream->within_frame = result != 0;
        /* the frame goes on, yet nothing came out and all that was there is used */
        if (stream->within_frame && output.pos == before && stream->input.pos == stream->input.size)
            FUR_TRY(refill(error, stream));
    }
    *count = (int64_t)output.pos;
    return FUR_OK;
}

fur_status fur_stream_read(fur_error *error, fur_stream *stream, void *out, int64_t capacity, int64_t *count)
{
    if (!stream->zstd)
        return take(error, stream, out, capacity, count);
    int64_t unpacked = 0;
    FUR_TRY(unpack(error, stream, out, capacity, &unpacked));
    stream->decoded += unpacked;
    *count = unpacked;
    if (stream->decoded > stream->max_decoded)
        return fur_error_set(error, FUR_E_FORMAT, "%s: holds more than %lld bytes when decompressed", stream->name,
                             (long long)stream->max_decoded);
    return FUR_OK;
}

/* ---- lines ---------------------------------------------------------------------------------------------------- */

struct fur_lines {
    fur_stream *stream;
    char *data;
    int64_t capacity;
    int64_t begin, end; /* bytes not given out yet */
    int64_t scanned;    /* from begin on, without a newline */
    int64_t max_bytes;
    int64_t number;
    bool at_end; /* of the stream */
};

fur_status fur_lines_open(fur_error *error, fur_stream *stream, int64_t max_bytes, fur_lines **out)
{
    fur_lines *lines = fur_calloc(1, sizeof *lines);
    char *data = fur_malloc(LINE_START_BYTES);
    if (!lines || !data) {
        fur_free(lines);
        fur_free(data);
        return fur_memory_error(error, LINE_START_BYTES, fur_stream_name(stream));
    }
    *lines = (fur_lines){.stream = stream, .data = data, .capacity = LINE_START_BYTES, .max_bytes = max_bytes};
    *out = lines;
    return FUR_OK;
}

void fur_lines_close(fur_lines *lines)
{
    if (!lines)
        return;
    fur_free(lines->data);
    fur_free(lines);
}

bool fur_line_is_blank(const fur_line *line)
{
    for (int64_t i = 0; i < line->bytes; i++)
        if (line->text[i] != ' ' && line->text[i] != '\t' && line->text[i] != '\r')
            return false;
    return !line->too_long;
}

/* Makes room after `end` and reads into it. */
static fur_status read_more(fur_error *error, fur_lines *lines)
{
    if (lines->begin > 0) {
        memmove(lines->data, lines->data + lines->begin, (size_t)(lines->end - lines->begin));
        lines->end -= lines->begin;
        lines->begin = 0;
    }
    if (lines->end == lines->capacity) {
        char *data = fur_realloc(lines->data, (size_t)(2 * lines->capacity));
        if (!data)
            return fur_memory_error(error, 2 * lines->capacity, fur_stream_name(lines->stream));
        lines->data = data;
        lines->capacity *= 2;
    }
    int64_t room = lines->capacity - lines->end, count;
    FUR_TRY(fur_stream_read(error, lines->stream, lines->data + lines->end, room, &count));
    lines->end += count;
    lines->at_end = count < room;
    return FUR_OK;
}

fur_status fur_lines_next(fur_error *error, fur_lines *lines, fur_line *out)
{
    bool too_long = false;
    const char *newline = NULL;
    for (;;) {
        char *from = lines->data + lines->begin;
        newline = memchr(from + lines->scanned, '\n', (size_t)(lines->end - lines->begin - lines->scanned));
        lines->scanned = lines->end - lines->begin;
        if ((newline ? newline - from : lines->scanned) > lines->max_bytes)
            too_long = true;
        if (newline || lines->at_end)
            break;
        if (too_long) { /* nothing of it is kept */
            lines->begin = lines->end = 0;
            lines->scanned = 0;
        }
        FUR_TRY(read_more(error, lines));
    }
    const char *text = lines->data + lines->begin;
    int64_t bytes = newline ? newline - text : lines->scanned;
    lines->begin += bytes + (newline != NULL);
    lines->scanned = 0;
    if (!newline && bytes == 0 && !too_long) {
        *out = (fur_line){.number = lines->number};
        return FUR_OK;
    }
    lines->number++;
    *out = (fur_line){
        .text = too_long ? "" : text, .bytes = too_long ? 0 : bytes, .number = lines->number, .too_long = too_long};
    return FUR_OK;
}
