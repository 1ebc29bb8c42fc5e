/* SPDX-License-Identifier: Apache-2.0 */
/* What a GGUF file's values are, read when they are asked for. */
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/size.h"
#include "io/gguf.h"

#define KEY_FORMAT "%s: key \"%.120s\": "

static const char *path_of(const fur_gguf *file)
{
    return fur_gguf_input(file)->path;
}

static fur_status missing_error(fur_error *error, const fur_gguf *file, const char *key, const char *expected)
{
    return fur_error_set(error, FUR_E_FORMAT, KEY_FORMAT "it is missing, expected %s", path_of(file), key, expected);
}

static fur_status kind_error(fur_error *error, const fur_gguf *file, const fur_gguf_value *value, const char *expected)
{
    return fur_error_set(error, FUR_E_FORMAT, KEY_FORMAT "%s%s, expected %s", path_of(file), value->key,
                         value->array ? "an array of " : "", fur_gguf_type_name(value->type), expected);
}

/* Bits of a number that is there, zero-extended. */
static fur_status read_bits(fur_error *error, const fur_gguf *file, const fur_gguf_value *value, uint64_t *out)
{
    unsigned char bytes[8] = {0};
    FUR_TRY(fur_input_read(error, fur_gguf_input(file), value->offset, bytes, value->bytes));
    *out = 0;
    for (int i = 7; i >= 0; i--)
        *out = *out << 8 | bytes[i];
    return FUR_OK;
}

static bool is_integer(fur_gguf_type type)
{
    return type <= FUR_GGUF_I32 || type == FUR_GGUF_U64 || type == FUR_GGUF_I64;
}

fur_status fur_gguf_int(fur_error *error, const fur_gguf *file, const char *key, int64_t low, int64_t high,
                        int64_t *out)
{
    const fur_gguf_value *value = fur_gguf_value_find(file, key);
    uint64_t bits;
    if (!value)
        return missing_error(error, file, key, "an integer");
    if (value->array || !is_integer(value->type))
        return kind_error(error, file, value, "an integer");
    FUR_TRY(read_bits(error, file, value, &bits));
    int64_t x = value->type == FUR_GGUF_I8    ? (int8_t)(uint8_t)bits
                : value->type == FUR_GGUF_I16 ? (int16_t)(uint16_t)bits
                : value->type == FUR_GGUF_I32 ? (int32_t)(uint32_t)bits
                                              : (int64_t)bits;
    bool beyond = value->type == FUR_GGUF_U64 && bits > INT64_MAX;
    if (beyond)
        return fur_error_set(error, FUR_E_FORMAT, KEY_FORMAT "it is %llu, expected %lld to %lld", path_of(file), key,
                             (unsigned long long)bits, (long long)low, (long long)high);
    if (x < low || x > high)
        return fur_error_set(error, FUR_E_FORMAT, KEY_FORMAT "it is %lld, expected %lld to %lld", path_of(file), key,
                             (long long)x, (long long)low, (long long)high);
    *out = x;
    return FUR_OK;
}

fur_status fur_gguf_int_or(fur_error *error, const fur_gguf *file, const char *key, int64_t low, int64_t high,
                           int64_t missing, int64_t *out)
{
    if (fur_gguf_value_find(file, key))
        return fur_gguf_int(error, file, key, low, high, out);
    *out = missing;
    return FUR_OK;
}

fur_status fur_gguf_number(fur_error *error, const fur_gguf *file, const char *key, double low, double high,
                           double *out)
{
    const fur_gguf_value *value = fur_gguf_value_find(file, key);
    uint64_t bits;
    double x;
    if (!value)
        return missing_error(error, file, key, "a number");
    if (value->array || (value->type != FUR_GGUF_F32 && value->type != FUR_GGUF_F64))
        return kind_error(error, file, value, "f32");
    FUR_TRY(read_bits(error, file, value, &bits));
    if (value->type == FUR_GGUF_F32) {
        uint32_t half = (uint32_t)bits;
        float narrow;
        memcpy(&narrow, &half, sizeof narrow);
        x = (double)narrow;
    } else {
        memcpy(&x, &bits, sizeof x);
    }
    if (!(x >= low && x <= high))
        return fur_error_set(error, FUR_E_FORMAT, KEY_FORMAT "it is %g, expected %g to %g", path_of(file), key, x, low,
                             high);
    *out = x;
    return FUR_OK;
}

fur_status fur_gguf_number_or(fur_error *error, const fur_gguf *file, const char *key, double low, double high,
                              double missing, double *out)
{
    if (fur_gguf_value_find(file, key))
        return fur_gguf_number(error, file, key, low, high, out);
    *out = missing;
    return FUR_OK;
}

fur_status fur_gguf_bool_or(fur_error *error, const fur_gguf *file, const char *key, bool missing, bool *out)
{
    const fur_gguf_value *value = fur_gguf_value_find(file, key);
    uint64_t bits = missing;
    if (value && (value->array || value->type != FUR_GGUF_BOOL))
        return kind_error(error, file, value, "bool");
    if (value)
        FUR_TRY(read_bits(error, file, value, &bits));
    *out = bits != 0;
    return FUR_OK;
}

fur_status fur_gguf_text(fur_error *error, const fur_gguf *file, const char *key, char **out)
{
    if (!fur_gguf_value_find(file, key))
        return missing_error(error, file, key, "text");
    return fur_gguf_text_or_null(error, file, key, out);
}

fur_status fur_gguf_text_or_null(fur_error *error, const fur_gguf *file, const char *key, char **out)
{
    const fur_gguf_value *value = fur_gguf_value_find(file, key);
    *out = NULL;
    if (!value)
        return FUR_OK;
    if (value->array || value->type != FUR_GGUF_TEXT)
        return kind_error(error, file, value, "text");
    int64_t bytes = value->bytes - 8; /* behind its length */
    char *text = fur_malloc((size_t)bytes + 1);
    if (!text)
        return fur_memory_error(error, bytes + 1, key);
    fur_status status = fur_input_read(error, fur_gguf_input(file), value->offset + 8, text, bytes);
    text[bytes] = 0;
    if (status == FUR_OK && strlen(text) != (size_t)bytes)
        status = fur_error_set(error, FUR_E_FORMAT, KEY_FORMAT "a text with a NUL in it", path_of(file), key);
    if (status != FUR_OK) {
        fur_free(text);
        return status;
    }
    *out = text;
    return FUR_OK;
}

/* In the array of lengths and bytes that was read as a whole, whose lengths the walk at opening checked: they may be
 * others only where the file changed since. */
static fur_status split_texts(fur_error *error, const fur_gguf *file, const fur_gguf_value *value,
                              const unsigned char *from, fur_gguf_texts *out)
{
    int64_t at = 0, to = 0;
    for (int64_t i = 0; i < value->count; i++) {
        uint64_t length = 0;
        for (int b = 7; b >= 0 && at <= value->bytes - 8; b--)
            length = length << 8 | from[at + b];
        if (at > value->bytes - 8 || length > (uint64_t)(value->bytes - 8 - at))
            return fur_error_set(error, FUR_E_IO, "%s: it was changed while it was read", path_of(file));
        out->starts[i] = to;
        memcpy(out->bytes + to, from + at + 8, length);
        at += 8 + (int64_t)length;
        to += (int64_t)length;
        out->bytes[to++] = 0;
    }
    out->starts[value->count] = to;
    out->count = value->count;
    return FUR_OK;
}

fur_status fur_gguf_texts_read(fur_error *error, const fur_gguf *file, const char *key, fur_gguf_texts *out)
{
    const fur_gguf_value *value = fur_gguf_value_find(file, key);
    *out = (fur_gguf_texts){0};
    if (!value)
        return missing_error(error, file, key, "an array of text");
    if (!value->array || value->type != FUR_GGUF_TEXT)
        return kind_error(error, file, value, "an array of text");
    unsigned char *raw = fur_malloc((size_t)value->bytes);
    out->bytes = fur_malloc((size_t)value->bytes); /* a NUL takes less than a length */
    out->starts = fur_calloc((size_t)value->count + 1, sizeof *out->starts);
    fur_status status = FUR_OK;
    if (!raw || !out->bytes || !out->starts)
        status = fur_memory_error(error, 2 * value->bytes, key);
    if (status == FUR_OK)
        status = fur_input_read(error, fur_gguf_input(file), value->offset, raw, value->bytes);
    if (status == FUR_OK)
        status = split_texts(error, file, value, raw, out);
    fur_free(raw);
    if (status != FUR_OK)
        fur_gguf_texts_clear(out);
    return status;
}

void fur_gguf_texts_clear(fur_gguf_texts *texts)
{
    fur_free(texts->bytes);
    fur_free(texts->starts);
    *texts = (fur_gguf_texts){0};
}

fur_status fur_gguf_array_read(fur_error *error, const fur_gguf *file, const char *key, fur_gguf_type type,
                               int64_t count, void *out)
{
    const fur_gguf_value *value = fur_gguf_value_find(file, key);
    char expected[48];
    snprintf(expected, sizeof expected, "%lld %s", (long long)count, fur_gguf_type_name(type));
    if (!value)
        return missing_error(error, file, key, expected);
    if (!value->array || value->type != type)
        return kind_error(error, file, value, expected);
    if (value->count != count)
        return fur_error_set(error, FUR_E_FORMAT, KEY_FORMAT "%lld elements, expected %lld", path_of(file), key,
                             (long long)value->count, (long long)count);
    return fur_input_read(error, fur_gguf_input(file), value->offset, out, value->bytes);
}
