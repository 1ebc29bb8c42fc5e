/* SPDX-License-Identifier: Apache-2.0 */
/* JSON by jansson, strict: duplicate keys, trailing text, deep nesting and values outside their range are refused, with
 * file, line, column or key in the text. jansson allocates through base/alloc.h from the first setup on. */
#ifndef FUR_IO_JSON_H
#define FUR_IO_JSON_H

#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>

#include "base/error.h"
#include "io/stream.h"

#define FUR_JSON_MAX_DEPTH  64
#define FUR_JSON_MAX_VALUES 4000000 /* each costs jansson some 100 bytes */
#define FUR_JSON_MAX_FILE   ((int64_t)64 << 20)

/* Before values are made by hand: routes jansson's memory, and forgets failures so far. */
void fur_json_setup(void);
/* Whether an allocation of jansson failed on this thread since then: what was made may lack parts, silently. Asked by
 * fur_json_write, so that makers who only write need not. */
bool fur_json_failed(void);

typedef struct fur_json {
    json_t *root;
    char *name; /* file, or file:line, for the texts of errors */
} fur_json;

/* Parses `bytes` of text (UTF-8, no byte order mark). `name` is for errors and is copied. */
fur_status fur_json_parse(fur_error *error, const char *name, const char *text, int64_t bytes, fur_json *out);
/* Parses a line of the JSONL file of that name; its own name is FILE:NUMBER. max_bytes: those of fur_lines_open. */
fur_status fur_json_parse_line(fur_error *error, const char *file, const fur_line *line, int64_t max_bytes,
                               fur_json *out);
/* Reads a file of at most FUR_JSON_MAX_FILE bytes whose value is an object. */
fur_status fur_json_read(fur_error *error, const char *path, fur_json *out);
void fur_json_clear(fur_json *json); /* also of a zeroed struct */

/* The value at "key" or "key.inner.key"; NULL if absent, null, or below something that is no object. */
json_t *fur_json_find(const fur_json *json, const char *key);

/* Required values. A number must be finite, an integer written without point or exponent; both ends of a range belong
 * to it. On failure *out is untouched. A string belongs to the document and holds no NUL. */
fur_status fur_json_int(fur_error *error, const fur_json *json, const char *key, int64_t min, int64_t max,
                        int64_t *out);
fur_status fur_json_number(fur_error *error, const fur_json *json, const char *key, double min, double max,
                           double *out);
fur_status fur_json_bool(fur_error *error, const fur_json *json, const char *key, bool *out);
fur_status fur_json_string(fur_error *error, const fur_json *json, const char *key, const char **out);

/* The same, with a value for a key that is absent or null. */
fur_status fur_json_int_or(fur_error *error, const fur_json *json, const char *key, int64_t min, int64_t max,
                           int64_t fallback, int64_t *out);
fur_status fur_json_number_or(fur_error *error, const fur_json *json, const char *key, double min, double max,
                              double fallback, double *out);
fur_status fur_json_bool_or(fur_error *error, const fur_json *json, const char *key, bool fallback, bool *out);
fur_status fur_json_string_or(fur_error *error, const fur_json *json, const char *key, const char *fallback,
                              const char **out);

/* Writes a value made since fur_json_setup, or parsed, with a final newline, whole or not at all (io/file.h). indent 0:
 * one line. */
fur_status fur_json_write(fur_error *error, const char *path, const json_t *value, int indent);
/* The same to folder/name, and takes `value`, which may be NULL for want of memory. */
fur_status fur_json_put(fur_error *error, const char *folder, const char *name, json_t *value);

#endif
