/* SPDX-License-Identifier: Apache-2.0 */
#include "text/buffer.h"

#include <string.h>

#include "base/alloc.h"
#include "base/size.h"
#include "io/file.h"

static fur_status grow(fur_error *error, void **data, int64_t length, int64_t *capacity, int64_t more, int64_t element)
{
    int64_t needed, bytes;
    if (more <= *capacity - length)
        return FUR_OK;
    if (!fur_add_ok(length, more, &needed) || !fur_mul_ok(fur_max_i64(needed, 64), 2 * element, &bytes))
        return fur_memory_error(error, INT64_MAX, "a text");
    int64_t wanted = fur_max_i64(needed, fur_max_i64(64, *capacity + *capacity / 2));
    bytes = wanted * element;
    void *larger = fur_realloc(*data, (size_t)bytes);
    if (!larger)
        return fur_memory_error(error, bytes, "a text and its tokens");
    *data = larger;
    *capacity = wanted;
    return FUR_OK;
}

fur_status fur_string_reserve(fur_error *error, fur_string *string, int64_t more)
{
    void *data = string->data;
    FUR_TRY(grow(error, &data, string->length, &string->capacity, more, 1));
    string->data = data;
    return FUR_OK;
}

fur_status fur_string_add(fur_error *error, fur_string *string, const char *text, int64_t bytes)
{
    FUR_TRY(fur_string_reserve(error, string, bytes));
    if (bytes > 0)
        memcpy(string->data + string->length, text, (size_t)bytes);
    string->length += bytes;
    return FUR_OK;
}

void fur_string_clear(fur_string *string)
{
    fur_free(string->data);
    *string = (fur_string){0};
}

fur_status fur_ids_reserve(fur_error *error, fur_ids *ids, int64_t more)
{
    void *data = ids->data;
    FUR_TRY(grow(error, &data, ids->length, &ids->capacity, more, (int64_t)sizeof *ids->data));
    ids->data = data;
    return FUR_OK;
}

fur_status fur_ids_add(fur_error *error, fur_ids *ids, int32_t id)
{
    FUR_TRY(fur_ids_reserve(error, ids, 1));
    ids->data[ids->length++] = id;
    return FUR_OK;
}

void fur_ids_clear(fur_ids *ids)
{
    fur_free(ids->data);
    *ids = (fur_ids){0};
}

fur_status fur_spans_add(fur_error *error, fur_spans *spans, fur_span span)
{
    void *data = spans->data;
    FUR_TRY(grow(error, &data, spans->length, &spans->capacity, 1, (int64_t)sizeof *spans->data));
    spans->data = data;
    spans->data[spans->length++] = span;
    return FUR_OK;
}

void fur_spans_clear(fur_spans *spans)
{
    fur_free(spans->data);
    *spans = (fur_spans){0};
}
