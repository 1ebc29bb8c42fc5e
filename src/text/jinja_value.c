/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/size.h"
#include "io/file.h"
#include "text/jinja_parts.h"
#include "text/utf8.h"

/* ---- memory --------------------------------------------------------------------------------------------------- */

struct fur_pool_block {
    struct fur_pool_block *next;
    int64_t used, capacity;
    max_align_t data[];
};

fur_status fur_pool_take(fur_pool *pool, int64_t bytes, void **out)
{
    const int64_t step = (int64_t)sizeof(max_align_t);
    if (bytes > FUR_POOL_MOST - pool->bytes)
        return fur_error_set(pool->error, FUR_E_UNSUPPORTED, "more than %lld bytes in work", (long long)FUR_POOL_MOST);
    bytes = fur_round_up(fur_max_i64(bytes, 1), step);
    struct fur_pool_block *block = pool->blocks;
    if (!block || block->capacity - block->used < bytes) {
        int64_t capacity = fur_max_i64(bytes, 16384);
        block = fur_calloc(1, sizeof *block + (size_t)capacity);
        if (!block)
            return fur_memory_error(pool->error, capacity, "a chat template");
        block->capacity = capacity;
        block->next = pool->blocks;
        pool->blocks = block;
    }
    *out = (char *)block->data + block->used;
    block->used += bytes;
    pool->bytes += bytes;
    return FUR_OK;
}

void fur_pool_clear(fur_pool *pool)
{
    while (pool->blocks) {
        struct fur_pool_block *next = pool->blocks->next;
        fur_free(pool->blocks);
        pool->blocks = next;
    }
}

/* ---- values --------------------------------------------------------------------------------------------------- */

fur_jvalue fur_jstring(const char *text, int64_t bytes)
{
    return (fur_jvalue){.kind = J_STRING, .text = text, .number = bytes};
}

bool fur_jtrue(const fur_jvalue *value)
{
    if (value->kind == J_DICT)
        return value->dict->is_namespace || value->dict->count > 0;
    return value->kind != J_UNDEFINED && value->kind != J_NONE && value->number != 0;
}

bool fur_jequal(const fur_jvalue *a, const fur_jvalue *b)
{
    bool numbers = (a->kind == J_BOOL || a->kind == J_INT) && (b->kind == J_BOOL || b->kind == J_INT);
    if (numbers)
        return a->number == b->number;
    if (a->kind != b->kind)
        return false;
    if (a->kind == J_STRING)
        return a->number == b->number && memcmp(a->text, b->text, (size_t)a->number) == 0;
    if (a->kind == J_LIST) {
        for (int64_t i = 0; i < a->number && a->number == b->number; i++)
            if (!fur_jequal(&a->items[i], &b->items[i]))
                return false;
        return a->number == b->number;
    }
    if (a->kind == J_DICT) {
        for (int64_t i = 0; i < a->dict->count && a->dict->count == b->dict->count; i++) {
            const fur_jvalue *other = fur_jfind(b->dict, a->dict->keys[i].text, a->dict->keys[i].number);
            if (!other || !fur_jequal(&a->dict->values[i], other))
                return false;
        }
        return a->dict->count == b->dict->count;
    }
    return true;
}

const fur_jvalue *fur_jfind(const fur_jdict *dict, const char *key, int64_t bytes)
{
    for (int64_t i = 0; i < dict->count; i++)
        if (dict->keys[i].number == bytes && memcmp(dict->keys[i].text, key, (size_t)bytes) == 0)
            return &dict->values[i];
    return NULL;
}

fur_status fur_jset(fur_pool *pool, fur_jdict *dict, fur_jvalue key, fur_jvalue value)
{
    for (int64_t i = 0; i < dict->count; i++) {
        if (fur_jequal(&dict->keys[i], &key)) {
            dict->values[i] = value;
            return FUR_OK;
        }
    }
    if (dict->count == dict->capacity) {
        void *keys, *values;
        int64_t capacity = dict->capacity ? 2 * dict->capacity : 8, bytes = capacity * (int64_t)sizeof value;
        FUR_TRY(fur_pool_take(pool, bytes, &keys));
        FUR_TRY(fur_pool_take(pool, bytes, &values));
        if (dict->count > 0) {
            memcpy(keys, dict->keys, (size_t)dict->count * sizeof value);
            memcpy(values, dict->values, (size_t)dict->count * sizeof value);
        }
        dict->keys = keys;
        dict->values = values;
        dict->capacity = capacity;
    }
    dict->keys[dict->count] = key;
    dict->values[dict->count++] = value;
    return FUR_OK;
}

bool fur_jis_space(int32_t code)
{
    return fur_utf8_is_space(code) || (code >= 0x1c && code <= 0x1f);
}

/* ---- text ----------------------------------------------------------------------------------------------------- */

fur_status fur_jappend(fur_error *error, fur_jinja_output *out, const fur_jvalue *string)
{
    if (string->number > FUR_POOL_MOST - out->text.length)
        return fur_error_set(error, FUR_E_UNSUPPORTED, "makes more than %lld bytes", (long long)FUR_POOL_MOST);
    FUR_TRY(fur_string_add(error, &out->text, string->text, string->number));
    FUR_TRY(fur_string_reserve(error, &out->marks, string->number));
    if (string->number > 0 && string->marks)
        memcpy(out->marks.data + out->marks.length, string->marks, (size_t)string->number);
    else if (string->number > 0)
        memset(out->marks.data + out->marks.length, 0, (size_t)string->number);
    out->marks.length += string->number;
    return FUR_OK;
}

fur_status fur_jcollect(fur_pool *pool, fur_jinja_output *out, int64_t from, fur_jvalue *value)
{
    void *text, *marks;
    int64_t bytes = out->text.length - from;
    FUR_TRY(fur_pool_take(pool, bytes, &text));
    FUR_TRY(fur_pool_take(pool, bytes, &marks));
    if (bytes > 0) {
        memcpy(text, out->text.data + from, (size_t)bytes);
        memcpy(marks, out->marks.data + from, (size_t)bytes);
    }
    out->text.length = out->marks.length = from;
    *value = fur_jstring(text, bytes);
    value->marks = marks;
    return FUR_OK;
}

fur_status fur_jtext(fur_pool *pool, const fur_jvalue *value, fur_jvalue *out)
{
    char number[24];
    void *copy;
    switch (value->kind) {
    case J_STRING: *out = *value; return FUR_OK;
    case J_UNDEFINED: *out = fur_jstring("", 0); return FUR_OK;
    case J_NONE: *out = fur_jstring("None", 4); return FUR_OK;
    case J_BOOL: *out = value->number ? fur_jstring("True", 4) : fur_jstring("False", 5); return FUR_OK;
    case J_INT:
        snprintf(number, sizeof number, "%lld", (long long)value->number);
        FUR_TRY(fur_pool_take(pool, (int64_t)sizeof number, &copy));
        memcpy(copy, number, sizeof number);
        *out = fur_jstring(copy, (int64_t)strlen(number));
        return FUR_OK;
    default:
        return fur_error_set(pool->error, FUR_E_UNSUPPORTED, "printing a %s is not known here",
                             value->kind == J_LIST ? "list" : "dictionary");
    }
}

/* ---- JSON ----------------------------------------------------------------------------------------------------- */

static fur_status put(fur_error *error, fur_jinja_output *out, const char *text)
{
    fur_jvalue value = fur_jstring(text, (int64_t)strlen(text));
    return fur_jappend(error, out, &value);
}

static fur_status dump_string(fur_error *error, const fur_jvalue *value, fur_jinja_output *out)
{
    static const char escapes[] = "\"\"\\\\\bb\ff\nn\rr\tt";
    FUR_TRY(put(error, out, "\""));
    for (int64_t i = 0; i < value->number; i++) {
        unsigned char c = (unsigned char)value->text[i];
        char text[8] = {(char)c};
        const char *escape = c ? strchr(escapes, c) : NULL;
        if (c == '"' || c == '\\' || (escape && c < 0x20))
            snprintf(text, sizeof text, "\\%c", c < 0x20 ? escape[1] : c);
        else if (c < 0x20)
            snprintf(text, sizeof text, "\\u%04x", c);
        fur_jvalue piece = fur_jstring(text, c ? (int64_t)strlen(text) : 6);
        unsigned char marks[8];
        memset(marks, value->marks ? value->marks[i] : 0, sizeof marks);
        piece.marks = marks;
        FUR_TRY(fur_jappend(error, out, &piece));
    }
    return put(error, out, "\"");
}

/* Between items, or before the first and after the last. */
static fur_status dump_break(fur_error *error, int64_t indent, int64_t level, bool between, fur_jinja_output *out)
{
    if (between)
        FUR_TRY(put(error, out, indent < 0 ? ", " : ","));
    if (indent < 0)
        return FUR_OK;
    FUR_TRY(put(error, out, "\n"));
    for (int64_t i = 0; i < indent * level; i++)
        FUR_TRY(put(error, out, " "));
    return FUR_OK;
}

fur_status fur_jdump(fur_error *error, const fur_jvalue *value, int64_t indent, int64_t level, fur_jinja_output *out)
{
    char number[24];
    bool dict = value->kind == J_DICT;
    int64_t count = dict ? value->dict->count : value->number;
    switch (value->kind) {
    case J_NONE: return put(error, out, "null");
    case J_BOOL: return put(error, out, value->number ? "true" : "false");
    case J_INT: snprintf(number, sizeof number, "%lld", (long long)value->number); return put(error, out, number);
    case J_STRING: return dump_string(error, value, out);
    case J_UNDEFINED: return fur_error_set(error, FUR_E_FORMAT, "tojson of '%s', which is undefined", value->text);
    default: break;
    }
    FUR_TRY(put(error, out, dict ? "{" : "["));
    for (int64_t i = 0; i < count; i++) {
        FUR_TRY(dump_break(error, indent, level + 1, i > 0, out));
        if (dict) {
            FUR_TRY(dump_string(error, &value->dict->keys[i], out));
            FUR_TRY(put(error, out, ": "));
        }
        FUR_TRY(fur_jdump(error, dict ? &value->dict->values[i] : &value->items[i], indent, level + 1, out));
    }
    if (count > 0)
        FUR_TRY(dump_break(error, indent, level, false, out));
    return put(error, out, dict ? "}" : "]");
}
