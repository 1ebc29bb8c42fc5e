/* SPDX-License-Identifier: Apache-2.0 */
#include "io/npz.h"

#include <string.h>
#include <zlib.h>

#include "base/alloc.h"
#include "base/size.h"
#include "io/file.h"

enum {
    END_BYTES = 22,
    LOCATOR_BYTES = 20,
    END64_BYTES = 56,
    ENTRY_BYTES = 46,
    LOCAL_BYTES = 30,
    MAX_COMMENT = 65535,
    MAX_NPY_HEADER = 65536,
    CHUNK = 65536
};

typedef struct member {
    char *name;
    int method;
    uint32_t crc;
    int64_t packed, bytes, offset; /* of the local header */
} member;

struct fur_npz {
    fur_input input;
    member *members;
    int64_t count;
};

static uint64_t number(const unsigned char *at, int bytes)
{
    uint64_t x = 0;
    for (int i = bytes; i-- > 0;)
        x = x << 8 | at[i];
    return x;
}

static fur_status broken(fur_error *error, const fur_npz *file, const char *what)
{
    return fur_error_set(error, FUR_E_FORMAT, "%s: no .npz archive: %s", file->input.path, what);
}

/* ---- the directory ----------------------------------------------------------------------------------------------- */

typedef struct directory {
    int64_t offset, bytes, count;
} directory;

/* A 64-bit number of the file as a size. */
static bool size_of(uint64_t x, int64_t *out)
{
    *out = (int64_t)(x & INT64_MAX);
    return x <= INT64_MAX;
}

/* The record at the end of the file, or the 64-bit one that a locator before it points to. */
static fur_status find_directory(fur_error *error, const fur_npz *file, directory *out)
{
    int64_t size = file->input.bytes, take = fur_min_i64(size, END_BYTES + MAX_COMMENT), at = take - END_BYTES;
    if (at < 0)
        return broken(error, file, "shorter than the record at its end");
    unsigned char *tail = fur_malloc((size_t)take), record[END64_BYTES];
    if (!tail)
        return fur_memory_error(error, take, file->input.path);
    fur_status status = fur_input_read(error, &file->input, size - take, tail, take);
    while (status == FUR_OK && at >= 0 && number(tail + at, 4) != 0x06054b50)
        at--;
    if (status == FUR_OK && at < 0)
        status = broken(error, file, "no record of a directory at its end");
    unsigned char end[END_BYTES];
    if (status == FUR_OK)
        memcpy(end, tail + at, END_BYTES);
    fur_free(tail);
    FUR_TRY(status);
    int64_t end_at = size - take + at;
    bool good = number(end + 4, 2) == 0 && size_of(number(end + 10, 2), &out->count) &&
                size_of(number(end + 12, 4), &out->bytes) && size_of(number(end + 16, 4), &out->offset);
    if (good && (out->count == 0xffff || out->bytes == 0xffffffff || out->offset == 0xffffffff)) {
        if (end_at < LOCATOR_BYTES)
            return broken(error, file, "no 64-bit directory");
        FUR_TRY(fur_input_read(error, &file->input, end_at - LOCATOR_BYTES, record, LOCATOR_BYTES));
        int64_t where = 0;
        if (number(record, 4) != 0x07064b50 || !size_of(number(record + 8, 8), &where) || where > size - END64_BYTES)
            return broken(error, file, "no 64-bit directory");
        FUR_TRY(fur_input_read(error, &file->input, where, record, END64_BYTES));
        good = number(record, 4) == 0x06064b50 && size_of(number(record + 32, 8), &out->count) &&
               size_of(number(record + 40, 8), &out->bytes) && size_of(number(record + 48, 8), &out->offset);
    }
    if (!good || out->offset > size || out->bytes > size - out->offset)
        return broken(error, file, "its directory lies outside of the file");
    if (out->count > FUR_NPZ_MAX_MEMBERS)
        return fur_error_set(error, FUR_E_FORMAT, "%s: %lld arrays, expected at most %d", file->input.path,
                             (long long)out->count, FUR_NPZ_MAX_MEMBERS);
    return FUR_OK;
}

/* Sizes too large for 32 bits are in extra field 1, in this order, each only where its own is all ones. */
static bool take_extra(const unsigned char *extra, int64_t bytes, member *m)
{
    int64_t *fields[] = {&m->bytes, &m->packed, &m->offset};
    while (bytes >= 4) {
        int64_t id = (int64_t)number(extra, 2), size = (int64_t)number(extra + 2, 2);
        if (size > bytes - 4)
            return false;
        const unsigned char *at = extra + 4, *end = at + size;
        for (int i = 0; i < 3 && id == 1; i++)
            if (*fields[i] == 0xffffffff) {
                if (end - at < 8 || !size_of(number(at, 8), fields[i]))
                    return false;
                at += 8;
            }
        extra += 4 + size;
        bytes -= 4 + size;
    }
    return true;
}

static fur_status read_member(fur_error *error, fur_npz *file, const unsigned char *at, int64_t left, member *m,
                              int64_t *used)
{
    if (left < ENTRY_BYTES || number(at, 4) != 0x02014b50)
        return broken(error, file, "an entry of its directory is damaged");
    int64_t name = (int64_t)number(at + 28, 2), extra = (int64_t)number(at + 30, 2);
    *used = ENTRY_BYTES + name + extra + (int64_t)number(at + 32, 2);
    if (*used > left || name == 0 || memchr(at + ENTRY_BYTES, 0, (size_t)name))
        return broken(error, file, "an entry of its directory is damaged");
    m->method = (int)number(at + 10, 2);
    m->crc = (uint32_t)number(at + 16, 4);
    m->packed = (int64_t)number(at + 20, 4);
    m->bytes = (int64_t)number(at + 24, 4);
    m->offset = (int64_t)number(at + 42, 4);
    m->name = fur_malloc((size_t)name + 1);
    if (!m->name)
        return fur_memory_error(error, name, file->input.path);
    memcpy(m->name, at + ENTRY_BYTES, (size_t)name);
    m->name[name] = 0;
    if (name > 4 && strcmp(m->name + name - 4, ".npy") == 0)
        m->name[name - 4] = 0;
    if (!take_extra(at + ENTRY_BYTES + name, extra, m) || m->offset > file->input.bytes ||
        m->packed > file->input.bytes - m->offset)
        return broken(error, file, "an array lies outside of the file");
    if ((number(at + 8, 2) & 1) != 0)
        return fur_error_set(error, FUR_E_UNSUPPORTED, "%s: array \"%.120s\" is encrypted", file->input.path, m->name);
    if (m->method != 0 && m->method != 8)
        return fur_error_set(error, FUR_E_UNSUPPORTED,
                             "%s: array \"%.120s\" is compressed by method %d, expected 0 (stored) or 8 (deflate)",
                             file->input.path, m->name, m->method);
    if (m->method == 0 && m->packed != m->bytes)
        return broken(error, file, "a stored array has two sizes");
    return FUR_OK;
}

static fur_status read_directory(fur_error *error, fur_npz *file)
{
    directory d = {0};
    FUR_TRY(find_directory(error, file, &d));
    unsigned char *text = fur_malloc((size_t)d.bytes);
    file->members = fur_calloc((size_t)d.count, sizeof *file->members);
    fur_status status = text && file->members ? fur_input_read(error, &file->input, d.offset, text, d.bytes)
                                              : fur_memory_error(error, d.bytes, file->input.path);
    for (int64_t i = 0, at = 0, used = 0; status == FUR_OK && i < d.count; i++, at += used) {
        file->count = i + 1;
        status = read_member(error, file, text + at, d.bytes - at, &file->members[i], &used);
        if (status == FUR_OK && fur_npz_find(file, file->members[i].name) != i)
            status = fur_error_set(error, FUR_E_FORMAT, "%s: array \"%.120s\" is there twice", file->input.path,
                                   file->members[i].name);
    }
    fur_free(text);
    return status;
}

fur_status fur_npz_open(fur_error *error, const char *path, fur_npz **out)
{
    fur_npz *file = fur_calloc(1, sizeof *file);
    if (!file)
        return fur_memory_error(error, (int64_t)sizeof *file, path);
    file->input.fd = -1;
    fur_status status = fur_input_open(error, path, &file->input);
    if (status == FUR_OK)
        status = read_directory(error, file);
    if (status == FUR_OK)
        *out = file;
    else
        fur_npz_close(file);
    return status;
}

void fur_npz_close(fur_npz *file)
{
    if (!file)
        return;
    for (int64_t i = 0; i < file->count && file->members; i++)
        fur_free(file->members[i].name);
    fur_free(file->members);
    fur_input_close(&file->input);
    fur_free(file);
}

int64_t fur_npz_find(const fur_npz *file, const char *name)
{
    for (int64_t i = 0; i < file->count; i++)
        if (strcmp(file->members[i].name, name) == 0)
            return i;
    return -1;
}

int64_t fur_npz_count(const fur_npz *file)
{
    return file->count;
}

const char *fur_npz_name(const fur_npz *file, int64_t index)
{
    return file->members[index].name;
}

/* ---- a member, in order ------------------------------------------------------------------------------------------ */

typedef struct reader {
    fur_error *error;
    const fur_npz *file;
    const member *m;
    int64_t at, left; /* in the file: where to read next, packed bytes not read yet */
    int64_t given;    /* bytes of the member so far */
    z_stream z;
    uint32_t crc;
    unsigned char in[CHUNK];
} reader;

static voidpf zlib_alloc(voidpf opaque, uInt count, uInt size)
{
    (void)opaque;
    return fur_calloc(count, size);
}

static void zlib_free(voidpf opaque, voidpf pointer)
{
    (void)opaque;
    fur_free(pointer);
}

static fur_status damaged(const reader *r, const char *what)
{
    return fur_error_set(r->error, FUR_E_FORMAT, "%s: array \"%.120s\": %s", r->file->input.path, r->m->name, what);
}

static fur_status reader_open(fur_error *error, const fur_npz *file, const member *m, reader *r)
{
    unsigned char local[LOCAL_BYTES];
    *r = (reader){.error = error, .file = file, .m = m, .left = m->packed, .crc = (uint32_t)crc32(0, NULL, 0)};
    if (m->offset > file->input.bytes - LOCAL_BYTES)
        return damaged(r, "lies outside of the file");
    FUR_TRY(fur_input_read(error, &file->input, m->offset, local, LOCAL_BYTES));
    if (number(local, 4) != 0x04034b50)
        return damaged(r, "no header where the directory says");
    r->at = m->offset + LOCAL_BYTES + (int64_t)number(local + 26, 2) + (int64_t)number(local + 28, 2);
    if (r->at > file->input.bytes || m->packed > file->input.bytes - r->at)
        return damaged(r, "lies outside of the file");
    r->z.zalloc = zlib_alloc;
    r->z.zfree = zlib_free;
    if (m->method == 8 && inflateInit2(&r->z, -MAX_WBITS) != Z_OK)
        return fur_memory_error(error, 0, file->input.path);
    return FUR_OK;
}

static void reader_close(reader *r)
{
    if (r->z.state)
        (void)inflateEnd(&r->z);
}

static fur_status inflate_some(reader *r, unsigned char *out, int64_t bytes)
{
    r->z.next_out = out;
    for (int64_t left = bytes; left > 0;) {
        r->z.avail_out = (uInt)fur_min_i64(left, CHUNK);
        uInt before = r->z.avail_out;
        if (r->z.avail_in == 0 && r->left > 0) {
            int64_t now = fur_min_i64(r->left, CHUNK);
            FUR_TRY(fur_input_read(r->error, &r->file->input, r->at, r->in, now));
            r->at += now;
            r->left -= now;
            r->z.next_in = r->in;
            r->z.avail_in = (uInt)now;
        }
        int code = inflate(&r->z, Z_NO_FLUSH);
        left -= (int64_t)(before - r->z.avail_out);
        if (code == Z_MEM_ERROR)
            return fur_memory_error(r->error, 0, r->file->input.path);
        if ((code != Z_OK && code != Z_STREAM_END) || (code == Z_STREAM_END && left > 0) ||
            (before == r->z.avail_out && r->z.avail_in == 0 && r->left == 0 && left > 0))
            return damaged(r, "its compressed bytes are damaged or end too early");
    }
    return FUR_OK;
}

static fur_status reader_get(reader *r, void *out, int64_t bytes)
{
    if (bytes > r->m->bytes - r->given)
        return damaged(r, "ends within its numbers");
    if (r->m->method == 8) {
        FUR_TRY(inflate_some(r, out, bytes));
    } else {
        FUR_TRY(fur_input_read(r->error, &r->file->input, r->at, out, bytes));
        r->at += bytes;
    }
    r->given += bytes;
    for (int64_t at = 0; at < bytes; at += CHUNK)
        r->crc = (uint32_t)crc32(r->crc, (const unsigned char *)out + at, (uInt)fur_min_i64(CHUNK, bytes - at));
    return FUR_OK;
}

/* Magic, version, length, dictionary. */
static fur_status read_header(reader *r, fur_npy *out)
{
    unsigned char start[12];
    FUR_TRY(reader_get(r, start, 10));
    if (memcmp(start, "\x93NUMPY", 6) != 0 || start[6] < 1 || start[6] > 3)
        return damaged(r, "is no .npy file of version 1, 2 or 3");
    int64_t length = (int64_t)number(start + 8, 2);
    if (start[6] > 1) {
        FUR_TRY(reader_get(r, start + 10, 2));
        length = (int64_t)number(start + 8, 4);
    }
    if (length > MAX_NPY_HEADER)
        return damaged(r, "has a header of more than 65536 bytes");
    char *text = fur_malloc((size_t)length);
    if (!text)
        return fur_memory_error(r->error, length, r->file->input.path);
    fur_status status = reader_get(r, text, length);
    if (status == FUR_OK)
        status = fur_npy_parse(r->error, r->file->input.path, text, length, out);
    fur_free(text);
    FUR_TRY(status);
    if (out->rows * out->columns * fur_dtype_bytes(out->dtype) != r->m->bytes - r->given) /* products were checked */
        return damaged(r, "has another size than its shape says");
    return FUR_OK;
}

fur_status fur_npz_array(fur_error *error, const fur_npz *file, int64_t index, fur_npy *out)
{
    reader *r = fur_malloc(sizeof *r);
    if (!r)
        return fur_memory_error(error, (int64_t)sizeof *r, file->input.path);
    fur_status status = reader_open(error, file, &file->members[index], r);
    if (status == FUR_OK)
        status = read_header(r, out);
    reader_close(r);
    fur_free(r);
    return status;
}

fur_status fur_npz_read(fur_error *error, const fur_npz *file, int64_t index, void *out)
{
    fur_npy npy;
    reader *r = fur_malloc(sizeof *r);
    if (!r)
        return fur_memory_error(error, (int64_t)sizeof *r, file->input.path);
    fur_status status = reader_open(error, file, &file->members[index], r);
    if (status == FUR_OK)
        status = read_header(r, &npy);
    if (status == FUR_OK)
        status = reader_get(r, out, npy.rows * npy.columns * fur_dtype_bytes(npy.dtype));
    if (status == FUR_OK && r->crc != r->m->crc)
        status = damaged(r, "does not have the checksum that the archive says");
    reader_close(r);
    fur_free(r);
    return status;
}
