/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "base/alloc.h"
#include "base/size.h"
#include "io/file.h"
#include "io/gguf.h"
#include "io/name_table.h"

enum { CHUNK = 8192 }; /* elements converted at a time, whole blocks of any type */

/* ---- values ------------------------------------------------------------------------------------------------------ */

void fur_gguf_builder_clear(fur_gguf_builder *builder)
{
    fur_free(builder->data);
    *builder = (fur_gguf_builder){0};
}

static void append(fur_gguf_builder *to, const void *from, int64_t bytes)
{
    if (to->failed)
        return;
    if (bytes > to->capacity - to->bytes) {
        int64_t larger = fur_max_i64(2 * to->capacity, to->bytes + bytes + 4096);
        unsigned char *data = fur_realloc(to->data, (size_t)larger);
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

static void append_number(fur_gguf_builder *to, uint64_t value, int bytes)
{
    unsigned char little[8];
    for (int i = 0; i < bytes; i++)
        little[i] = (unsigned char)(value >> 8 * i);
    append(to, little, bytes);
}

void fur_gguf_put_element(fur_gguf_builder *to, const char *text, int64_t bytes)
{
    append_number(to, (uint64_t)bytes, 8);
    append(to, text, bytes);
}

static void append_key(fur_gguf_builder *to, const char *key, fur_gguf_type type)
{
    fur_gguf_put_element(to, key, (int64_t)strlen(key));
    append_number(to, type, 4);
    to->values++;
}

void fur_gguf_put_u32(fur_gguf_builder *to, const char *key, int64_t value)
{
    append_key(to, key, FUR_GGUF_U32);
    append_number(to, (uint64_t)value, 4);
}

void fur_gguf_put_f32(fur_gguf_builder *to, const char *key, double value)
{
    float narrow = (float)value;
    append_key(to, key, FUR_GGUF_F32);
    append(to, &narrow, 4);
}

void fur_gguf_put_bool(fur_gguf_builder *to, const char *key, bool value)
{
    append_key(to, key, FUR_GGUF_BOOL);
    append_number(to, value, 1);
}

void fur_gguf_put_text(fur_gguf_builder *to, const char *key, const char *value)
{
    append_key(to, key, FUR_GGUF_TEXT);
    fur_gguf_put_element(to, value, (int64_t)strlen(value));
}

void fur_gguf_put_array(fur_gguf_builder *to, const char *key, fur_gguf_type type, int64_t count, const void *numbers)
{
    append_key(to, key, FUR_GGUF_ARRAY);
    append_number(to, type, 4);
    append_number(to, (uint64_t)count, 8);
    if (numbers)
        append(to, numbers, 4 * count);
}

fur_status fur_gguf_put_copy(fur_error *error, fur_gguf_builder *to, const fur_gguf *from, const fur_gguf_value *value)
{
    unsigned char *bytes = fur_malloc((size_t)value->bytes);
    if (!bytes)
        return fur_memory_error(error, value->bytes, value->key);
    fur_status status = fur_input_read(error, fur_gguf_input(from), value->offset, bytes, value->bytes);
    append_key(to, value->key, value->array ? FUR_GGUF_ARRAY : value->type);
    if (value->array) {
        append_number(to, value->type, 4);
        append_number(to, (uint64_t)value->count, 8);
    }
    append(to, bytes, value->bytes);
    fur_free(bytes);
    return status;
}

/* ---- tensors ----------------------------------------------------------------------------------------------------- */

static fur_status entry_bytes(fur_error *error, const char *path, const fur_gguf_entry *entry, int64_t *elements,
                              int64_t *bytes)
{
    size_t length = strlen(entry->name);
    int64_t block = fur_dtype_block(entry->dtype);
    if (length < 1 || length > FUR_GGUF_MAX_NAME || entry->rank < 1 || entry->rank > FUR_GGUF_MAX_RANK ||
        !fur_shape_count(entry->rank, entry->shape, elements) || *elements < 1 ||
        entry->shape[entry->rank - 1] % block || !fur_mul_ok(*elements / block, fur_dtype_bytes(entry->dtype), bytes))
        return fur_error_set(error, FUR_E_ARGUMENT, "%s: tensor \"%.120s\" has no valid name or shape", path,
                             entry->name);
    return FUR_OK;
}

static fur_status append_infos(fur_error *error, const char *path, const fur_gguf_entry *entries, int64_t count,
                               fur_gguf_builder *to)
{
    fur_name_table names;
    FUR_TRY(fur_name_table_init(error, &names, count));
    fur_status status = FUR_OK;
    int64_t offset = 0;
    for (int64_t i = 0; status == FUR_OK && i < count; i++) {
        const fur_gguf_entry *entry = &entries[i];
        int64_t elements, bytes = 0;
        status = entry_bytes(error, path, entry, &elements, &bytes);
        if (status == FUR_OK && !fur_name_table_add(&names, entry->name, i))
            status = fur_error_set(error, FUR_E_ARGUMENT, "%s: two tensors named \"%.120s\"", path, entry->name);
        fur_gguf_put_element(to, entry->name, (int64_t)strlen(entry->name));
        append_number(to, (uint64_t)entry->rank, 4);
        for (int axis = entry->rank - 1; axis >= 0; axis--)
            append_number(to, (uint64_t)entry->shape[axis], 8);
        append_number(to, fur_gguf_dtype_number(entry->dtype), 4);
        append_number(to, (uint64_t)offset, 8);
        if (status == FUR_OK && !fur_add_ok(offset, fur_round_up(bytes, FUR_GGUF_ALIGNMENT), &offset))
            status = fur_error_set(error, FUR_E_ARGUMENT, "%s: the tensors' bytes overflow", path);
    }
    fur_name_table_clear(&names);
    return status;
}

/* False: one of them, or a scale, is not finite in that type. */
static bool convert(fur_dtype dtype, const float *from, int64_t count, void *to)
{
    const uint16_t *half = to;
    const unsigned char *bytes = to;
    int64_t size = fur_dtype_bytes(dtype), block = fur_dtype_block(dtype);
    bool finite = fur_first_nonfinite(from, count) < 0;
    if (!finite)
        return false;
    fur_dtype_from_f32(dtype, from, count, to);
    for (int64_t i = 0; dtype == FUR_DTYPE_BF16 && i < count; i++)
        finite &= (half[i] & 0x7f80u) != 0x7f80u;
    for (int64_t i = 0; dtype == FUR_DTYPE_Q8_0 && i < count / block; i++)
        finite &= (bytes[i * size + 1] & 0x7cu) != 0x7cu;
    return finite;
}

static fur_status put_zeros(fur_error *error, fur_output *output, int64_t multiple)
{
    static const unsigned char zeros[FUR_GGUF_ALIGNMENT];
    int64_t at = fur_output_bytes(output);
    return fur_output_write(error, output, zeros, fur_round_up(at, multiple) - at);
}

static fur_status put_tensor(fur_error *error, const char *path, fur_output *output, const fur_gguf_entry *entry)
{
    float values[CHUNK], converted[CHUNK];
    int64_t block = fur_dtype_block(entry->dtype), size = fur_dtype_bytes(entry->dtype), count, bytes;
    FUR_TRY(entry_bytes(error, path, entry, &count, &bytes));
    for (int64_t first = 0; first < count; first += CHUNK) {
        int64_t now = fur_min_i64(CHUNK, count - first);
        FUR_TRY(entry->fill(entry->user, error, first, now, values));
        if (!convert(entry->dtype, values, now, converted))
            return fur_error_set(
                error, FUR_E_NONFINITE, "%s: tensor \"%.120s\": elements %lld to %lld: one is not finite in %s", path,
                entry->name, (long long)first, (long long)(first + now - 1), fur_dtype_name(entry->dtype));
        FUR_TRY(fur_output_write(error, output, converted, now / block * size));
    }
    return put_zeros(error, output, FUR_GGUF_ALIGNMENT);
}

static fur_status put_all(fur_error *error, const char *path, fur_output *output, const fur_gguf_builder *head,
                          const fur_gguf_builder *values, const fur_gguf_builder *infos, const fur_gguf_entry *entries,
                          int64_t count)
{
    FUR_TRY(fur_output_write(error, output, head->data, head->bytes));
    FUR_TRY(fur_output_write(error, output, values->data, values->bytes));
    FUR_TRY(fur_output_write(error, output, infos->data, infos->bytes));
    FUR_TRY(put_zeros(error, output, FUR_GGUF_ALIGNMENT));
    for (int64_t i = 0; i < count; i++)
        FUR_TRY(put_tensor(error, path, output, &entries[i]));
    return FUR_OK;
}

fur_status fur_gguf_write(fur_error *error, const char *path, const fur_gguf_builder *values,
                          const fur_gguf_entry *entries, int64_t count)
{
    fur_gguf_builder head = {0}, infos = {0};
    fur_output *output = NULL;
    append(&head, "GGUF", 4);
    append_number(&head, 3, 4);
    append_number(&head, (uint64_t)count, 8);
    append_number(&head, (uint64_t)values->values, 8);
    fur_status status = append_infos(error, path, entries, count, &infos);
    if (status == FUR_OK && (head.failed || infos.failed || values->failed))
        status = fur_memory_error(error, values->bytes + infos.bytes, "the values of a GGUF file");
    if (status == FUR_OK)
        status = fur_output_open(error, path, &output);
    if (status == FUR_OK) {
        status = put_all(error, path, output, &head, values, &infos, entries, count);
        if (status == FUR_OK)
            status = fur_output_commit(error, output);
        else
            fur_output_discard(output);
    }
    fur_gguf_builder_clear(&head);
    fur_gguf_builder_clear(&infos);
    return status;
}
