/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/size.h"
#include "io/file.h"
#include "io/hash.h"
#include "io/name_table.h"
#include "io/safetensors.h"

#define CHUNK_BYTES 32768

/* ---- header --------------------------------------------------------------------------------------------------- */

typedef struct text {
    char *data;
    int64_t bytes, capacity;
    bool failed; /* out of memory; later appends do nothing */
} text;

static void append(text *to, const char *from, int64_t bytes)
{
    if (to->failed)
        return;
    if (to->bytes + bytes > to->capacity) {
        int64_t larger = fur_max_i64(2 * to->capacity, to->bytes + bytes + 4096);
        char *data = fur_realloc(to->data, (size_t)larger);
        if (!data) {
            to->failed = true;
            return;
        }
        to->data = data;
        to->capacity = larger;
    }
    memcpy(to->data + to->bytes, from, (size_t)bytes);
    to->bytes += bytes;
}

static void append_text(text *to, const char *from)
{
    append(to, from, (int64_t)strlen(from));
}

static void append_number(text *to, int64_t number)
{
    char digits[24];
    append(to, digits, snprintf(digits, sizeof digits, "%lld", (long long)number));
}

static void append_quoted(text *to, const char *from)
{
    append_text(to, "\"");
    for (; *from; from++) {
        unsigned char c = (unsigned char)*from;
        char escaped[8];
        if (c == '"' || c == '\\')
            append(to, escaped, snprintf(escaped, sizeof escaped, "\\%c", c));
        else if (c < 0x20)
            append(to, escaped, snprintf(escaped, sizeof escaped, "\\u%04x", c));
        else
            append(to, from, 1);
    }
    append_text(to, "\"");
}

static void append_entry(text *to, const fur_tensor_entry *entry, int64_t begin, int64_t bytes)
{
    append_text(to, ",");
    append_quoted(to, entry->name);
    append_text(to, ":{\"dtype\":");
    append_quoted(to, fur_dtype_name(entry->dtype));
    append_text(to, ",\"shape\":[");
    for (int i = 0; i < entry->rank; i++) {
        append_text(to, i ? "," : "");
        append_number(to, entry->shape[i]);
    }
    append_text(to, "],\"data_offsets\":[");
    append_number(to, begin);
    append_text(to, ",");
    append_number(to, begin + bytes);
    append_text(to, "]}");
}

static fur_status entry_bytes(fur_error *error, const char *path, const fur_tensor_entry *entry, int64_t *bytes)
{
    int64_t count;
    if (entry->rank < 0 || entry->rank > FUR_MAX_RANK || fur_dtype_block(entry->dtype) != 1 ||
        !fur_shape_count(entry->rank, entry->shape, &count) || !fur_mul_ok(count, fur_dtype_bytes(entry->dtype), bytes))
        return fur_error_set(error, FUR_E_ARGUMENT, "%s: tensor \"%.120s\" has no valid shape", path, entry->name);
    return FUR_OK;
}

static fur_status check_names(fur_error *error, const char *path, const fur_tensor_entry *entries, int64_t count)
{
    fur_name_table names;
    FUR_TRY(fur_name_table_init(error, &names, count));
    fur_status status = FUR_OK;
    for (int64_t i = 0; i < count && status == FUR_OK; i++)
        if (!fur_name_table_add(&names, entries[i].name, i) || strcmp(entries[i].name, "__metadata__") == 0)
            status = fur_error_set(error, FUR_E_ARGUMENT, "%s: two tensors named \"%.120s\"", path, entries[i].name);
    fur_name_table_clear(&names);
    return status;
}

/* Element sizes in the order written. */
static const int64_t sizes_falling[] = {8, 4, 2, 1};
#define SIZE_COUNT (sizeof sizes_falling / sizeof sizes_falling[0])

static fur_status build_header(fur_error *error, const char *path, const fur_tensor_entry *entries, int64_t count,
                               const fur_text_pair *metadata, int64_t pairs, text *header)
{
    append_text(header, "{\"__metadata__\":{\"format\":\"pt\"");
    for (int64_t i = 0; i < pairs; i++) {
        append_text(header, ",");
        append_quoted(header, metadata[i].key);
        append_text(header, ":");
        append_quoted(header, metadata[i].value);
    }
    append_text(header, "}");
    int64_t begin = 0;
    for (size_t s = 0; s < SIZE_COUNT; s++)
        for (int64_t i = 0; i < count; i++) {
            if (fur_dtype_bytes(entries[i].dtype) != sizes_falling[s])
                continue;
            int64_t bytes = 0, end;
            FUR_TRY(entry_bytes(error, path, &entries[i], &bytes));
            if (!fur_add_ok(begin, bytes, &end))
                return fur_error_set(error, FUR_E_ARGUMENT, "%s: the tensors' bytes overflow", path);
            append_entry(header, &entries[i], begin, bytes);
            begin = end;
        }
    append_text(header, "}");
    while (header->bytes % 8 != 0 && !header->failed)
        append_text(header, " ");
    if (header->failed)
        return fur_memory_error(error, header->bytes, "the header of a safetensors file");
    if (header->bytes > FUR_SAFETENSORS_MAX_HEADER)
        return fur_error_set(error, FUR_E_ARGUMENT, "%s: header of %lld bytes, the format allows %d", path,
                             (long long)header->bytes, FUR_SAFETENSORS_MAX_HEADER);
    return FUR_OK;
}

/* ---- data ----------------------------------------------------------------------------------------------------- */

typedef struct sink {
    fur_output *output;
    fur_hash hash;
} sink;

static fur_status put(fur_error *error, sink *to, const void *data, int64_t bytes)
{
    fur_hash_update(&to->hash, data, bytes);
    return fur_output_write(error, to->output, data, bytes);
}

static fur_status put_tensor(fur_error *error, sink *to, const fur_tensor_entry *entry)
{
    int64_t size = fur_dtype_bytes(entry->dtype), count;
    if (!fur_shape_count(entry->rank, entry->shape, &count))
        return FUR_E_INTERNAL; /* build_header checked it */
    if (entry->data)
        return put(error, to, entry->data, count * size);
    int64_t chunk[CHUNK_BYTES / 8]; /* aligned for any element */
    for (int64_t first = 0; first < count; first += CHUNK_BYTES / size) {
        int64_t now = fur_min_i64(CHUNK_BYTES / size, count - first);
        FUR_TRY(entry->fill(entry->user, error, first, now, chunk));
        FUR_TRY(put(error, to, chunk, now * size));
    }
    return FUR_OK;
}

static fur_status put_all(fur_error *error, sink *to, const text *header, const fur_tensor_entry *entries,
                          int64_t count)
{
    unsigned char length[8];
    for (int i = 0; i < 8; i++)
        length[i] = (unsigned char)((uint64_t)header->bytes >> (8 * i));
    FUR_TRY(put(error, to, length, 8));
    FUR_TRY(put(error, to, header->data, header->bytes));
    for (size_t s = 0; s < SIZE_COUNT; s++)
        for (int64_t i = 0; i < count; i++)
            if (fur_dtype_bytes(entries[i].dtype) == sizes_falling[s])
                FUR_TRY(put_tensor(error, to, &entries[i]));
    return FUR_OK;
}

fur_status fur_safetensors_write(fur_error *error, const char *path, const fur_tensor_entry *entries, int64_t count,
                                 const fur_text_pair *metadata, int64_t pairs, uint64_t *hash)
{
    text header = {0};
    sink to = {0};
    fur_hash_begin(&to.hash);
    fur_status status = check_names(error, path, entries, count);
    if (status == FUR_OK)
        status = build_header(error, path, entries, count, metadata, pairs, &header);
    if (status == FUR_OK)
        status = fur_output_open(error, path, &to.output);
    if (status == FUR_OK) {
        status = put_all(error, &to, &header, entries, count);
        if (status == FUR_OK)
            status = fur_output_commit(error, to.output);
        else
            fur_output_discard(to.output);
    }
    fur_free(header.data);
    if (status == FUR_OK && hash)
        *hash = fur_hash_end(&to.hash);
    return status;
}
