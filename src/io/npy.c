/* SPDX-License-Identifier: Apache-2.0 */
#include "io/npy.h"

#include <string.h>

#include "base/alloc.h"
#include "base/size.h"
#include "io/file.h"

#define MAX_HEADER  65536 /* NumPy's own limit is 10,000 */
#define CHUNK_BYTES 32768

/* ---- header --------------------------------------------------------------------------------------------------- */

typedef struct cursor {
    fur_error *error;
    const char *name; /* of the file */
    const char *at, *start, *end;
    int most_rank;
} cursor;

static fur_status refuse(const cursor *c, const char *expected)
{
    return fur_error_set(c->error, FUR_E_FORMAT, "%s: .npy header, character %lld: expected %s", c->name,
                         (long long)(c->at - c->start), expected);
}

static void skip_spaces(cursor *c)
{
    while (c->at < c->end && (*c->at == ' ' || *c->at == '\t' || *c->at == '\n'))
        c->at++;
}

static bool accept(cursor *c, char wanted)
{
    skip_spaces(c);
    if (c->at == c->end || *c->at != wanted)
        return false;
    c->at++;
    return true;
}

/* A quoted text without escapes. */
static fur_status parse_text(cursor *c, char *out, size_t size)
{
    skip_spaces(c);
    if (c->at == c->end || (*c->at != '\'' && *c->at != '"'))
        return refuse(c, "a quoted name");
    char quote = *c->at;
    const char *from = c->at + 1;
    const char *to = memchr(from, quote, (size_t)(c->end - from));
    if (!to || (size_t)(to - from) >= size || memchr(from, '\\', (size_t)(to - from)))
        return refuse(c, "a short quoted name");
    memcpy(out, from, (size_t)(to - from));
    out[to - from] = 0;
    c->at = to + 1;
    return FUR_OK;
}

static fur_status parse_size(cursor *c, int64_t *out)
{
    skip_spaces(c);
    int64_t value = 0;
    const char *from = c->at;
    for (; c->at < c->end && *c->at >= '0' && *c->at <= '9'; c->at++)
        if (!fur_mul_ok(value, 10, &value) || !fur_add_ok(value, (int64_t)(*c->at - '0'), &value))
            return refuse(c, "a smaller size");
    if (c->at == from)
        return refuse(c, "a size");
    *out = value;
    return FUR_OK;
}

static fur_status parse_shape(cursor *c, fur_npy *npy)
{
    if (!accept(c, '('))
        return refuse(c, "a shape in parentheses");
    npy->rank = 0;
    while (!accept(c, ')')) {
        if (npy->rank == c->most_rank)
            return refuse(c, c->most_rank == 2 ? "at most two dimensions" : "at most three dimensions");
        FUR_TRY(parse_size(c, &npy->shape[npy->rank++]));
        if (!accept(c, ',')) {
            if (npy->rank == 1) /* (9) would be a number in Python */
                return refuse(c, "','");
            if (!accept(c, ')'))
                return refuse(c, "')'");
            break;
        }
    }
    return npy->rank > 0 ? FUR_OK : refuse(c, c->most_rank == 2 ? "one or two dimensions" : "one to three dimensions");
}

static fur_status parse_descr(cursor *c, fur_npy *npy)
{
    static const struct {
        const char *descr;
        fur_dtype dtype;
    } types[] = {
        {"|i1", FUR_DTYPE_I8},  {"|u1", FUR_DTYPE_U8},  {"<i2", FUR_DTYPE_I16}, {"<u2", FUR_DTYPE_U16},
        {"<i4", FUR_DTYPE_I32}, {"<u4", FUR_DTYPE_U32}, {"<i8", FUR_DTYPE_I64}, {"<u8", FUR_DTYPE_U64},
        {"<f2", FUR_DTYPE_F16}, {"<f4", FUR_DTYPE_F32}, {"<f8", FUR_DTYPE_F64},
    };
    skip_spaces(c);
    if (c->at < c->end && *c->at == '[')
        return refuse(c, "a plain type, not a structure");
    char descr[32];
    FUR_TRY(parse_text(c, descr, sizeof descr));
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (strcmp(descr, types[i].descr) == 0) {
            npy->dtype = types[i].dtype;
            return FUR_OK;
        }
    return fur_error_set(c->error, FUR_E_FORMAT,
                         "%s: .npy type '%s', expected little-endian i1 to i8, u1 to u8, f2, f4 or f8", c->name, descr);
}

static fur_status parse_order(cursor *c, bool *fortran)
{
    skip_spaces(c);
    size_t left = (size_t)(c->end - c->at);
    *fortran = left >= 4 && memcmp(c->at, "True", 4) == 0;
    if (!*fortran && (left < 5 || memcmp(c->at, "False", 5) != 0))
        return refuse(c, "True or False");
    c->at += *fortran ? 4 : 5;
    return FUR_OK;
}

static fur_status parse_entry(cursor *c, fur_npy *npy, bool *fortran, unsigned *seen)
{
    char key[32];
    const char *from = c->at;
    FUR_TRY(parse_text(c, key, sizeof key));
    unsigned bit = strcmp(key, "descr") == 0           ? 1
                   : strcmp(key, "fortran_order") == 0 ? 2
                   : strcmp(key, "shape") == 0         ? 4
                                                       : 0;
    if (bit == 0 || (*seen & bit) != 0) {
        c->at = from;
        return refuse(c, "'descr', 'fortran_order' and 'shape', once each");
    }
    *seen |= bit;
    if (!accept(c, ':'))
        return refuse(c, "':'");
    return bit == 1 ? parse_descr(c, npy) : bit == 2 ? parse_order(c, fortran) : parse_shape(c, npy);
}

static fur_status parse_header(cursor *c, fur_npy *npy)
{
    bool fortran = false;
    unsigned seen = 0;
    if (!accept(c, '{'))
        return refuse(c, "'{'");
    while (!accept(c, '}')) {
        FUR_TRY(parse_entry(c, npy, &fortran, &seen));
        if (!accept(c, ',')) {
            if (!accept(c, '}'))
                return refuse(c, "',' or '}'");
            break;
        }
    }
    skip_spaces(c);
    if (c->at != c->end)
        return refuse(c, "nothing after '}'");
    if (seen != 7)
        return refuse(c, "'descr', 'fortran_order' and 'shape'");
    npy->rows = npy->shape[0];
    npy->columns = npy->rank >= 2 ? npy->shape[1] : 1;
    int64_t bytes;
    if (npy->rank == 3 && !fur_mul_ok(npy->columns, npy->shape[2], &npy->columns))
        return refuse(c, "a smaller shape");
    if (!fur_mul_ok(npy->rows, npy->columns, &bytes) || !fur_mul_ok(bytes, fur_dtype_bytes(npy->dtype), &bytes))
        return fur_error_set(c->error, FUR_E_FORMAT, "%s: .npy shape (%lld, %lld) overflows", c->name,
                             (long long)npy->rows, (long long)npy->columns);
    if (fortran && npy->rank >= 2 && npy->rows > 1 && npy->columns > 1)
        return fur_error_set(c->error, FUR_E_UNSUPPORTED,
                             "%s: .npy in column order, expected row order (numpy.ascontiguousarray)", c->name);
    return FUR_OK;
}

static fur_status read_exactly(fur_error *error, fur_stream *stream, void *out, int64_t bytes, const char *what)
{
    int64_t count;
    FUR_TRY(fur_stream_read(error, stream, out, bytes, &count));
    if (count < bytes)
        return fur_error_set(error, FUR_E_FORMAT, "%s: ends within the .npy %s", fur_stream_name(stream), what);
    return FUR_OK;
}

fur_status fur_npy_open(fur_error *error, fur_stream *stream, fur_npy *out)
{
    const char *name = fur_stream_name(stream);
    unsigned char start[12];
    FUR_TRY(read_exactly(error, stream, start, 10, "header"));
    if (memcmp(start, "\x93NUMPY", 6) != 0)
        return fur_error_set(error, FUR_E_FORMAT, "%s: does not begin as .npy", name);
    if (start[6] < 1 || start[6] > 3 || start[7] != 0)
        return fur_error_set(error, FUR_E_FORMAT, "%s: .npy format %d.%d, expected 1.0, 2.0 or 3.0", name, start[6],
                             start[7]);
    int64_t length = start[8] | start[9] << 8;
    if (start[6] > 1) {
        FUR_TRY(read_exactly(error, stream, start + 10, 2, "header"));
        length |= (int64_t)start[10] << 16 | (int64_t)start[11] << 24;
    }
    if (length > MAX_HEADER)
        return fur_error_set(error, FUR_E_FORMAT, "%s: .npy header of %lld bytes, expected at most %d", name,
                             (long long)length, MAX_HEADER);
    char *text = fur_malloc((size_t)length);
    if (!text)
        return fur_memory_error(error, length, name);
    fur_npy npy = {.stream = stream};
    fur_status status = read_exactly(error, stream, text, length, "header");
    if (status == FUR_OK) {
        cursor c = {.error = error, .name = name, .at = text, .start = text, .end = text + length, .most_rank = 2};
        status = parse_header(&c, &npy);
    }
    fur_free(text);
    if (status == FUR_OK)
        *out = npy;
    return status;
}

fur_status fur_npy_parse(fur_error *error, const char *name, const char *text, int64_t bytes, fur_npy *out)
{
    cursor c = {.error = error, .name = name, .at = text, .start = text, .end = text + bytes, .most_rank = 3};
    fur_npy npy = {0};
    FUR_TRY(parse_header(&c, &npy));
    *out = npy;
    return FUR_OK;
}

bool fur_npy_is_integer(const fur_npy *npy)
{
    return !fur_dtype_is_float(npy->dtype);
}

/* ---- data ----------------------------------------------------------------------------------------------------- */

static fur_status read_values(fur_error *error, fur_npy *npy, int64_t first, int64_t count, void *out)
{
    int64_t size = fur_dtype_bytes(npy->dtype), got;
    FUR_TRY(fur_stream_read(error, npy->stream, out, count * size, &got));
    if (got == count * size)
        return FUR_OK;
    int64_t there = first + got / size, all = npy->rows * npy->columns;
    return fur_error_set(error, FUR_E_FORMAT, "%s: ends after %lld of %lld .npy values", fur_stream_name(npy->stream),
                         (long long)there, (long long)all);
}

/* Negative values of unsigned types stand for those too large for an id. */
static int64_t integer_at(fur_dtype dtype, const unsigned char *bytes)
{
    uint64_t value = 0;
    int size = (int)fur_dtype_bytes(dtype);
    memcpy(&value, bytes, (size_t)size);
    bool has_sign = dtype == FUR_DTYPE_I8 || dtype == FUR_DTYPE_I16 || dtype == FUR_DTYPE_I32;
    if (has_sign && value >> (8 * size - 1))
        return (int64_t)value - ((int64_t)1 << (8 * size));
    int64_t whole;
    memcpy(&whole, &value, sizeof whole);
    return whole;
}

static fur_status refuse_id(fur_error *error, const fur_npy *npy, int64_t id, int64_t position, int64_t limit)
{
    const char *name = fur_stream_name(npy->stream);
    long long at = position, highest = limit - 1;
    if (npy->dtype == FUR_DTYPE_U64)
        return fur_error_set(error, FUR_E_FORMAT, "%s: token id %llu at position %lld, expected 0 to %lld", name,
                             (unsigned long long)id, at, highest);
    return fur_error_set(error, FUR_E_FORMAT, "%s: token id %lld at position %lld, expected 0 to %lld", name,
                         (long long)id, at, highest);
}

fur_status fur_npy_read_ids(fur_error *error, fur_npy *npy, int64_t count, int64_t limit, int32_t *ids)
{
    unsigned char chunk[CHUNK_BYTES];
    int64_t size = fur_dtype_bytes(npy->dtype), step = CHUNK_BYTES / size;
    for (int64_t first = 0; first < count; first += step) {
        int64_t now = fur_min_i64(step, count - first);
        FUR_TRY(read_values(error, npy, npy->next_row, now, chunk));
        for (int64_t i = 0; i < now; i++) {
            int64_t id = integer_at(npy->dtype, chunk + i * size);
            if (id < 0 || id >= limit)
                return refuse_id(error, npy, id, npy->next_row + i, limit);
            ids[first + i] = (int32_t)id;
        }
        npy->next_row += now;
    }
    return FUR_OK;
}

fur_status fur_npy_read_f32(fur_error *error, fur_npy *npy, int64_t rows, float *out)
{
    unsigned char chunk[CHUNK_BYTES];
    int64_t size = fur_dtype_bytes(npy->dtype), step = CHUNK_BYTES / size;
    int64_t start = npy->next_row * npy->columns, count = rows * npy->columns;
    for (int64_t first = 0; first < count; first += step) {
        int64_t now = fur_min_i64(step, count - first);
        FUR_TRY(read_values(error, npy, start + first, now, chunk));
        fur_dtype_to_f32(npy->dtype, chunk, now, out + first);
    }
    int64_t bad = fur_first_nonfinite(out, count);
    if (bad >= 0) {
        int64_t row = (start + bad) / npy->columns, column = (start + bad) % npy->columns;
        return fur_error_set(error, FUR_E_NONFINITE, "%s: row %lld, column %lld is %g, expected a finite f32",
                             fur_stream_name(npy->stream), (long long)row, (long long)column, (double)out[bad]);
    }
    npy->next_row += rows;
    return FUR_OK;
}

fur_status fur_npy_end(fur_error *error, fur_npy *npy)
{
    if (npy->next_row < npy->rows)
        return fur_error_set(error, FUR_E_INTERNAL, "%s: %lld of %lld .npy rows not read", fur_stream_name(npy->stream),
                             (long long)(npy->rows - npy->next_row), (long long)npy->rows);
    unsigned char more;
    int64_t count;
    FUR_TRY(fur_stream_read(error, npy->stream, &more, 1, &count));
    if (count > 0)
        return fur_error_set(error, FUR_E_FORMAT, "%s: bytes follow the .npy array", fur_stream_name(npy->stream));
    return FUR_OK;
}
