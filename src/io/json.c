/* SPDX-License-Identifier: Apache-2.0 */
#include "io/json.h"

#include <limits.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "io/file.h"

/* ---- setup ---------------------------------------------------------------------------------------------------- */

/* jansson reports some failed allocations as bad syntax and goes on after others; this tells. */
static _Thread_local bool allocation_failed;

static void *json_allocate(size_t bytes)
{
    void *pointer = fur_malloc(bytes);
    if (!pointer)
        allocation_failed = true;
    return pointer;
}

static void route_allocations(void)
{
    json_set_alloc_funcs(json_allocate, fur_free);
}

static void route_once(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, route_allocations);
}

void fur_json_setup(void)
{
    route_once();
    allocation_failed = false;
}

bool fur_json_failed(void)
{
    return allocation_failed;
}

/* ---- parsing -------------------------------------------------------------------------------------------------- */

static fur_status refuse_at(fur_error *error, const char *name, const char *text, int64_t at, const char *why)
{
    int64_t line = 1, column = 1;
    for (int64_t i = 0; i < at; i++) {
        bool ends = text[i] == '\n';
        line += ends;
        column = ends ? 1 : column + 1;
    }
    return fur_error_set(error, FUR_E_FORMAT, "%s: line %lld, column %lld: %s", name, (long long)line,
                         (long long)column, why);
}

/* jansson recurses 2,048 levels and builds a value per comma: bound both before it starts. */
static fur_status check_size(fur_error *error, const char *name, const char *text, int64_t bytes)
{
    int64_t depth = 0, values = 1;
    bool quoted = false;
    for (int64_t i = 0; i < bytes; i++) {
        char c = text[i];
        if (quoted) {
            if (c == '\\')
                i++;
            else if (c == '"')
                quoted = false;
        } else if (c == '"') {
            quoted = true;
        } else if (c == '[' || c == '{') {
            values++;
            if (++depth > FUR_JSON_MAX_DEPTH)
                return refuse_at(error, name, text, i, "nested deeper than 64 levels");
        } else if (c == ']' || c == '}') {
            depth--;
        } else if (c == ',' && ++values > FUR_JSON_MAX_VALUES) {
            return refuse_at(error, name, text, i, "more than 4,000,000 values");
        }
    }
    return FUR_OK;
}

fur_status fur_json_parse(fur_error *error, const char *name, const char *text, int64_t bytes, fur_json *out)
{
    route_once();
    if (bytes >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0)
        return fur_error_set(error, FUR_E_FORMAT, "%s: starts with a byte order mark, expected plain UTF-8 JSON", name);
    if (bytes == 0)
        return fur_error_set(error, FUR_E_FORMAT, "%s: empty, expected JSON", name);
    FUR_TRY(check_size(error, name, text, bytes));
    char *name_copy = fur_strdup(name);
    if (!name_copy)
        return fur_memory_error(error, (int64_t)strlen(name), "a name");
    bool failed_before = allocation_failed; /* of a value somebody is making */
    allocation_failed = false;
    json_error_t why;
    json_t *root = json_loadb(text, (size_t)bytes, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL | JSON_DECODE_ANY, &why);
    bool failed = allocation_failed || (!root && json_error_code(&why) == json_error_out_of_memory);
    allocation_failed = failed_before;
    if (root && !failed) {
        *out = (fur_json){.root = root, .name = name_copy};
        return FUR_OK;
    }
    json_decref(root);
    fur_free(name_copy);
    if (failed)
        return fur_memory_error(error, bytes, name);
    return fur_error_set(error, FUR_E_FORMAT, "%s: line %d, column %d: not valid JSON: %s", name, why.line, why.column,
                         why.text);
}

fur_status fur_json_parse_line(fur_error *error, const char *file, const fur_line *line, int64_t max_bytes,
                               fur_json *out)
{
    char *name = fur_format("%s:%lld", file, (long long)line->number);
    if (!name)
        return fur_memory_error(error, (int64_t)strlen(file), "a name");
    fur_status status = line->too_long ? fur_error_set(error, FUR_E_FORMAT, "%s: line of more than %lld bytes", name,
                                                       (long long)max_bytes)
                                       : fur_json_parse(error, name, line->text, line->bytes, out);
    fur_free(name);
    return status;
}

fur_status fur_json_read(fur_error *error, const char *path, fur_json *out)
{
    char *text;
    int64_t bytes;
    FUR_TRY(fur_file_read(error, path, FUR_JSON_MAX_FILE, &text, &bytes));
    fur_json json = {0};
    fur_status status = fur_json_parse(error, path, text, bytes, &json);
    fur_free(text);
    if (status == FUR_OK && !json_is_object(json.root)) {
        status = fur_error_set(error, FUR_E_FORMAT, "%s: expected a JSON object", path);
        fur_json_clear(&json);
    }
    if (status == FUR_OK)
        *out = json;
    return status;
}

void fur_json_clear(fur_json *json)
{
    json_decref(json->root);
    fur_free(json->name);
    *json = (fur_json){0};
}

/* ---- values --------------------------------------------------------------------------------------------------- */

json_t *fur_json_find(const fur_json *json, const char *key)
{
    json_t *value = json->root;
    while (value) {
        char part[128];
        size_t length = strcspn(key, ".");
        if (length >= sizeof part)
            return NULL;
        memcpy(part, key, length);
        part[length] = 0;
        value = json_object_get(value, part); /* NULL also if value is no object */
        if (key[length] == 0)
            break;
        key += length + 1;
    }
    return json_is_null(value) ? NULL : value;
}

static const char *type_name(const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT: return "an object";
    case JSON_ARRAY: return "an array";
    case JSON_STRING: return "a string";
    case JSON_INTEGER: return "an integer";
    case JSON_REAL: return "a number with a point or exponent";
    case JSON_TRUE: return "true";
    case JSON_FALSE: return "false";
    default: return "null";
    }
}

static fur_status missing(fur_error *error, const fur_json *json, const char *key, const char *expected)
{
    return fur_error_set(error, FUR_E_FORMAT, "%s: \"%s\" is missing, expected %s", json->name, key, expected);
}

static fur_status wrong_type(fur_error *error, const fur_json *json, const char *key, const json_t *value,
                             const char *expected)
{
    return fur_error_set(error, FUR_E_FORMAT, "%s: \"%s\" is %s, expected %s", json->name, key, type_name(value),
                         expected);
}

static fur_status int_of(fur_error *error, const fur_json *json, const char *key, const json_t *value, int64_t min,
                         int64_t max, int64_t *out)
{
    char expected[80];
    snprintf(expected, sizeof expected, "an integer from %lld to %lld", (long long)min, (long long)max);
    if (!value)
        return missing(error, json, key, expected);
    if (!json_is_integer(value))
        return wrong_type(error, json, key, value, expected);
    int64_t number = (int64_t)json_integer_value(value);
    if (number < min || number > max)
        return fur_error_set(error, FUR_E_FORMAT, "%s: \"%s\" is %lld, expected %s", json->name, key, (long long)number,
                             expected);
    *out = number;
    return FUR_OK;
}

static fur_status number_of(fur_error *error, const fur_json *json, const char *key, const json_t *value, double min,
                            double max, double *out)
{
    char expected[80];
    snprintf(expected, sizeof expected, "a number from %.9g to %.9g", min, max);
    if (!value)
        return missing(error, json, key, expected);
    if (!json_is_number(value))
        return wrong_type(error, json, key, value, expected);
    double number = json_number_value(value);
    if (!(number >= min && number <= max))
        return fur_error_set(error, FUR_E_FORMAT, "%s: \"%s\" is %.17g, expected %s", json->name, key, number,
                             expected);
    *out = number;
    return FUR_OK;
}

static fur_status bool_of(fur_error *error, const fur_json *json, const char *key, const json_t *value, bool *out)
{
    if (!value)
        return missing(error, json, key, "true or false");
    if (!json_is_boolean(value))
        return wrong_type(error, json, key, value, "true or false");
    *out = json_is_true(value);
    return FUR_OK;
}

static fur_status string_of(fur_error *error, const fur_json *json, const char *key, const json_t *value,
                            const char **out)
{
    if (!value)
        return missing(error, json, key, "a string");
    if (!json_is_string(value))
        return wrong_type(error, json, key, value, "a string");
    if (strlen(json_string_value(value)) != json_string_length(value))
        return fur_error_set(error, FUR_E_FORMAT, "%s: \"%s\" holds a NUL character", json->name, key);
    *out = json_string_value(value);
    return FUR_OK;
}

fur_status fur_json_int(fur_error *error, const fur_json *json, const char *key, int64_t min, int64_t max, int64_t *out)
{
    return int_of(error, json, key, fur_json_find(json, key), min, max, out);
}

fur_status fur_json_number(fur_error *error, const fur_json *json, const char *key, double min, double max, double *out)
{
    return number_of(error, json, key, fur_json_find(json, key), min, max, out);
}

fur_status fur_json_bool(fur_error *error, const fur_json *json, const char *key, bool *out)
{
    return bool_of(error, json, key, fur_json_find(json, key), out);
}

fur_status fur_json_string(fur_error *error, const fur_json *json, const char *key, const char **out)
{
    return string_of(error, json, key, fur_json_find(json, key), out);
}

fur_status fur_json_int_or(fur_error *error, const fur_json *json, const char *key, int64_t min, int64_t max,
                           int64_t fallback, int64_t *out)
{
    const json_t *value = fur_json_find(json, key);
    if (value)
        return int_of(error, json, key, value, min, max, out);
    *out = fallback;
    return FUR_OK;
}

fur_status fur_json_number_or(fur_error *error, const fur_json *json, const char *key, double min, double max,
                              double fallback, double *out)
{
    const json_t *value = fur_json_find(json, key);
    if (value)
        return number_of(error, json, key, value, min, max, out);
    *out = fallback;
    return FUR_OK;
}

fur_status fur_json_bool_or(fur_error *error, const fur_json *json, const char *key, bool fallback, bool *out)
{
    const json_t *value = fur_json_find(json, key);
    if (value)
        return bool_of(error, json, key, value, out);
    *out = fallback;
    return FUR_OK;
}

fur_status fur_json_string_or(fur_error *error, const fur_json *json, const char *key, const char *fallback,
                              const char **out)
{
    const json_t *value = fur_json_find(json, key);
    if (value)
        return string_of(error, json, key, value, out);
    *out = fallback;
    return FUR_OK;
}

/* ---- writing -------------------------------------------------------------------------------------------------- */

typedef struct write_state {
    fur_error *error;
    fur_output *output;
    fur_status status;
} write_state;

static int write_piece(const char *text, size_t bytes, void *user)
{
    write_state *state = user;
    state->status = fur_output_write(state->error, state->output, text, (int64_t)bytes);
    return state->status == FUR_OK ? 0 : -1;
}

fur_status fur_json_write(fur_error *error, const char *path, const json_t *value, int indent)
{
    write_state state = {.error = error, .status = FUR_OK};
    if (!value || allocation_failed)
        return fur_error_set(error, FUR_E_MEMORY, "%s: out of memory", path);
    FUR_TRY(fur_output_open(error, path, &state.output));
    size_t flags = JSON_INDENT((size_t)indent) | JSON_ENCODE_ANY | JSON_REAL_PRECISION(17);
    int failed = json_dump_callback(value, write_piece, &state, flags);
    if (state.status == FUR_OK && allocation_failed)
        state.status = fur_error_set(error, FUR_E_MEMORY, "%s: out of memory", path);
    else if (state.status == FUR_OK && failed)
        state.status = fur_error_set(error, FUR_E_INTERNAL, "%s: a value that is not JSON", path);
    allocation_failed = false; /* the value itself is whole */
    if (state.status == FUR_OK)
        state.status = fur_output_write(error, state.output, "\n", 1);
    if (state.status != FUR_OK) {
        fur_output_discard(state.output);
        return state.status;
    }
    return fur_output_commit(error, state.output);
}

fur_status fur_json_put(fur_error *error, const char *folder, const char *name, json_t *value)
{
    char *path = NULL;
    fur_status status = value ? fur_path_join(error, folder, name, &path) : fur_memory_error(error, 4096, name);
    if (status == FUR_OK)
        status = fur_json_write(error, path, value, 2);
    fur_free(path);
    json_decref(value);
    return status;
}
