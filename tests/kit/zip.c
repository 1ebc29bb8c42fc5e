/* SPDX-License-Identifier: Apache-2.0 */
#include "kit/zip.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

enum { ROOM = 1 << 22 };

static void put(unsigned char *to, int64_t *at, uint64_t x, int bytes)
{
    for (int i = 0; i < bytes; i++)
        to[(*at)++] = (unsigned char)(i < 8 ? x >> (8 * i) : 0);
}

void kit_zip_begin(kit_zip *zip, bool wide)
{
    *zip = (kit_zip){.bytes = malloc(ROOM), .directory = malloc(ROOM), .wide = wide};
    assert_non_null(zip->bytes);
    assert_non_null(zip->directory);
}

void kit_zip_add(kit_zip *zip, const char *name, const void *data, int64_t bytes, bool deflated)
{
    unsigned char *packed = malloc((size_t)bytes + 1024);
    int64_t size = bytes, start = zip->size, length = (int64_t)strlen(name);
    uint32_t crc = (uint32_t)crc32(crc32(0, NULL, 0), data, (uInt)bytes);
    assert_non_null(packed);
    if (deflated) {
        z_stream z = {0};
        assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, -MAX_WBITS, 8, Z_DEFAULT_STRATEGY), Z_OK);
        z.next_in = (unsigned char *)(uintptr_t)data;
        z.avail_in = (uInt)bytes;
        z.next_out = packed;
        z.avail_out = (uInt)bytes + 1024;
        assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
        size = (int64_t)z.total_out;
        deflateEnd(&z);
    } else {
        memcpy(packed, data, (size_t)bytes);
    }
    for (int local = 1; local >= 0; local--) {
        unsigned char *to = local ? zip->bytes : zip->directory;
        int64_t *at = local ? &zip->size : &zip->directory_size;
        uint64_t ones = 0xffffffff;
        put(to, at, local ? 0x04034b50 : 0x02014b50, 4);
        if (!local)
            put(to, at, 45, 2);
        put(to, at, 45, 2);
        put(to, at, 0, 2);
        put(to, at, deflated ? 8 : 0, 2);
        put(to, at, 0, 4);
        put(to, at, crc, 4);
        put(to, at, zip->wide ? ones : (uint64_t)size, 4);
        put(to, at, zip->wide ? ones : (uint64_t)bytes, 4);
        put(to, at, (uint64_t)length, 2);
        put(to, at, zip->wide ? local ? 20 : 28 : 0, 2);
        if (!local) {
            put(to, at, 0, 10);
            put(to, at, zip->wide ? ones : (uint64_t)start, 4);
        }
        memcpy(to + *at, name, (size_t)length);
        *at += length;
        if (zip->wide) {
            put(to, at, 1, 2);
            put(to, at, local ? 16 : 24, 2);
            put(to, at, (uint64_t)bytes, 8);
            put(to, at, (uint64_t)size, 8);
            if (!local)
                put(to, at, (uint64_t)start, 8);
        }
    }
    memcpy(zip->bytes + zip->size, packed, (size_t)size);
    zip->size += size;
    zip->count++;
    free(packed);
}

void kit_zip_npy(kit_zip *zip, const char *name, const char *header, const void *data, int64_t bytes, bool deflated)
{
    int64_t length = (int64_t)strlen(header), at = 0;
    unsigned char *npy = malloc((size_t)(10 + length + bytes));
    assert_non_null(npy);
    memcpy(npy, "\x93NUMPY\x01\x00", 8);
    at = 8;
    put(npy, &at, (uint64_t)length, 2);
    memcpy(npy + at, header, (size_t)length);
    memcpy(npy + at + length, data, (size_t)bytes);
    kit_zip_add(zip, name, npy, at + length + bytes, deflated);
    free(npy);
}

void kit_zip_end(kit_zip *zip)
{
    int64_t start = zip->size;
    memcpy(zip->bytes + zip->size, zip->directory, (size_t)zip->directory_size);
    zip->size += zip->directory_size;
    if (zip->wide) {
        int64_t record = zip->size;
        put(zip->bytes, &zip->size, 0x06064b50, 4);
        put(zip->bytes, &zip->size, 44, 8);
        put(zip->bytes, &zip->size, 45, 2);
        put(zip->bytes, &zip->size, 45, 2);
        put(zip->bytes, &zip->size, 0, 8);
        put(zip->bytes, &zip->size, (uint64_t)zip->count, 8);
        put(zip->bytes, &zip->size, (uint64_t)zip->count, 8);
        put(zip->bytes, &zip->size, (uint64_t)zip->directory_size, 8);
        put(zip->bytes, &zip->size, (uint64_t)start, 8);
        put(zip->bytes, &zip->size, 0x07064b50, 4);
        put(zip->bytes, &zip->size, 0, 4);
        put(zip->bytes, &zip->size, (uint64_t)record, 8);
        put(zip->bytes, &zip->size, 1, 4);
    }
    put(zip->bytes, &zip->size, 0x06054b50, 4);
    put(zip->bytes, &zip->size, 0, 4);
    put(zip->bytes, &zip->size, zip->wide ? 0xffff : (uint64_t)zip->count, 2);
    put(zip->bytes, &zip->size, zip->wide ? 0xffff : (uint64_t)zip->count, 2);
    put(zip->bytes, &zip->size, zip->wide ? 0xffffffff : (uint64_t)zip->directory_size, 4);
    put(zip->bytes, &zip->size, zip->wide ? 0xffffffff : (uint64_t)start, 4);
    put(zip->bytes, &zip->size, 0, 2);
}

void kit_zip_clear(kit_zip *zip)
{
    free(zip->bytes);
    free(zip->directory);
}
