/* SPDX-License-Identifier: Apache-2.0 */
/* The kinds of files a corpus is read from. Each is read as a stream; none is held whole, except one JSONL line. */
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/size.h"
#include "io/file.h"
#include "io/json.h"
#include "io/npy.h"
#include "io/stream.h"
#include "text/corpus.h"
#include "text/tokenizer.h"

#define TEXT_BYTES 65536 /* read and encoded at a time */

/* ---- text ----------------------------------------------------------------------------------------------------- */

typedef struct encoder {
    fur_corpus_builder *builder;
    const char *name;
    fur_ids ids;
} encoder;

/* Encodes a window of a document and adds the ids. */
static fur_status encode(encoder *to, fur_encoding window, int64_t *used)
{
    fur_corpus_builder *builder = to->builder;
    window.specials = window.first = window.last = true;
    to->ids.length = 0;
    *used = 0;
    if (window.begins && window.ends && window.bytes == 0)
        return FUR_OK; /* an empty document stays one */
    FUR_TRY(builder->tokenizer->kind->encode(builder->error, builder->tokenizer, &window, &to->ids, used));
    builder->corpus->info.text_bytes += *used;
    return fur_corpus_add_ids(builder, to->name, to->ids.data, to->ids.length);
}

/* Encodes text at hand in windows. */
static fur_status encode_all(encoder *to, const char *text, int64_t bytes)
{
    int64_t size = TEXT_BYTES, used = 0;
    for (int64_t at = 0; at < bytes; at += used) {
        int64_t now = fur_min_i64(size, bytes - at);
        FUR_TRY(encode(
            to, (fur_encoding){.text = text + at, .bytes = now, .begins = at == 0, .ends = now == bytes - at}, &used));
        size = used == 0 ? 2 * size : TEXT_BYTES; /* no place to cut: look further */
    }
    return FUR_OK;
}

/* Encodes a stream in windows: what the tokenizer cannot cut yet waits at the front of `text`. */
static fur_status encode_stream(encoder *to, fur_stream *stream, char **text, int64_t *capacity)
{
    fur_error *error = to->builder->error;
    int64_t waiting = 0;
    bool begins = true;
    for (;;) {
        if (waiting == *capacity) {
            char *larger = fur_realloc(*text, (size_t)(2 * *capacity));
            if (!larger)
                return fur_memory_error(error, 2 * *capacity, to->name);
            *text = larger;
            *capacity *= 2;
        }
        int64_t room = *capacity - waiting, count = 0, used = 0;
        FUR_TRY(fur_stream_read(error, stream, *text + waiting, room, &count));
        waiting += count;
        bool at_end = count < room;
        FUR_TRY(encode(to, (fur_encoding){.text = *text, .bytes = waiting, .begins = begins, .ends = at_end}, &used));
        if (at_end)
            return FUR_OK;
        begins = begins && used == 0;
        waiting -= used;
        memmove(*text, *text + used, (size_t)waiting);
    }
}

static fur_status add_text(fur_corpus_builder *builder, fur_stream *stream)
{
    encoder to = {.builder = builder, .name = fur_stream_name(stream)};
    int64_t capacity = TEXT_BYTES;
    char *text = fur_malloc((size_t)capacity);
    fur_status status =
        text ? encode_stream(&to, stream, &text, &capacity) : fur_memory_error(builder->error, capacity, to.name);
    fur_free(text);
    fur_ids_clear(&to.ids);
    return status == FUR_OK ? fur_corpus_end_document(builder) : status;
}

/* ---- JSONL ---------------------------------------------------------------------------------------------------- */

/* The line's "text". A line that is also a conversation or a prompt would be read one way or another by guessing. */
static fur_status find_text(fur_error *error, const fur_json *json, const char **text, int64_t *bytes)
{
    if (!json_is_object(json->root))
        return fur_error_set(error, FUR_E_FORMAT, "%s: expected a JSON object with \"text\"", json->name);
    static const char *const others[] = {"messages", "prompt", "completion"};
    json_t *value = json_object_get(json->root, "text");
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        if (json_object_get(json->root, others[i]))
            return fur_error_set(error, FUR_E_FORMAT, "%s: \"%s\" %s, expected \"text\" alone", json->name, others[i],
                                 value ? "beside \"text\"" : "and no \"text\"");
    if (!json_is_string(value))
        return fur_error_set(error, FUR_E_FORMAT, "%s: \"text\" is %s, expected a string", json->name,
                             value ? "not a string" : "missing");
    *text = json_string_value(value);
    *bytes = (int64_t)json_string_length(value);
    return FUR_OK;
}

/* Parses a line and adds its document. *bad tells a line that may be skipped from a failure of reading. */
static fur_status add_line(encoder *to, const fur_line *line, bool *bad)
{
    fur_error *error = to->builder->error;
    fur_json json = {0};
    const char *text = NULL;
    int64_t bytes = 0;
    fur_status status = fur_json_parse_line(error, to->name, line, to->builder->corpus->limits.line_bytes, &json);
    if (status == FUR_OK)
        status = find_text(error, &json, &text, &bytes);
    *bad = status == FUR_E_FORMAT;
    if (status == FUR_OK)
        status = encode_all(to, text, bytes);
    if (status == FUR_OK)
        status = fur_corpus_end_document(to->builder);
    fur_json_clear(&json);
    return status;
}

static fur_status add_lines(encoder *to, fur_lines *lines)
{
    for (;;) {
        fur_line line;
        FUR_TRY(fur_lines_next(to->builder->error, lines, &line));
        if (!line.text)
            return FUR_OK;
        if (fur_line_is_blank(&line))
            continue;
        bool bad = false;
        fur_status status = add_line(to, &line, &bad);
        if (bad && to->builder->settings->skip_bad)
            to->builder->corpus->info.skipped_lines++;
        else
            FUR_TRY(status);
    }
}

static fur_status add_jsonl(fur_corpus_builder *builder, fur_stream *stream)
{
    encoder to = {.builder = builder, .name = fur_stream_name(stream)};
    fur_lines *lines;
    FUR_TRY(fur_lines_open(builder->error, stream, builder->corpus->limits.line_bytes, &lines));
    fur_status status = add_lines(&to, lines);
    fur_lines_close(lines);
    fur_ids_clear(&to.ids);
    return status;
}

/* ---- npy ------------------------------------------------------------------------------------------------------ */

static fur_status add_id_array(fur_corpus_builder *builder, fur_npy *npy)
{
    int32_t ids[4096];
    const char *name = fur_stream_name(npy->stream);
    if (npy->rank != 1)
        return fur_error_set(builder->error, FUR_E_FORMAT,
                             "%s: integers of shape (%lld, %lld), expected token ids of one dimension, or floats", name,
                             (long long)npy->shape[0], (long long)npy->shape[1]);
    while (npy->next_row < npy->rows) {
        int64_t count = fur_min_i64(4096, npy->rows - npy->next_row);
        FUR_TRY(fur_npy_read_ids(builder->error, npy, count, builder->limit, ids));
        FUR_TRY(fur_corpus_add_ids(builder, name, ids, count));
    }
    return FUR_OK;
}

static fur_status add_rows(fur_corpus_builder *builder, fur_npy *npy)
{
    fur_error *error = builder->error;
    int64_t row_bytes = builder->corpus->element_bytes;
    int64_t step = fur_max_i64(1, TEXT_BYTES / row_bytes);
    float *rows = fur_malloc((size_t)(step * row_bytes));
    fur_status status = rows ? FUR_OK : fur_memory_error(error, step * row_bytes, fur_stream_name(npy->stream));
    while (status == FUR_OK && npy->next_row < npy->rows) {
        int64_t count = fur_min_i64(step, npy->rows - npy->next_row);
        status = fur_npy_read_f32(error, npy, count, rows);
        if (status == FUR_OK)
            status = fur_corpus_add_vectors(builder, rows, count);
    }
    fur_free(rows);
    return status;
}

static fur_status add_vector_array(fur_corpus_builder *builder, const fur_npy *npy)
{
    fur_corpus *corpus = builder->corpus;
    const char *name = fur_stream_name(npy->stream);
    const int64_t most = (int64_t)1 << 20;
    if (npy->columns < 1 || npy->columns > most)
        return fur_error_set(builder->error, FUR_E_FORMAT, "%s: vectors of %lld features, expected 1 to %lld", name,
                             (long long)npy->columns, (long long)most);
    if (corpus->info.features > 0 && corpus->info.features != npy->columns)
        return fur_error_set(builder->error, FUR_E_FORMAT, "%s: vectors of %lld features, the files before have %lld",
                             name, (long long)npy->columns, (long long)corpus->info.features);
    corpus->info.features = npy->columns;
    corpus->element_bytes = npy->columns * (int64_t)sizeof(float);
    return FUR_OK;
}

/* ---- by name -------------------------------------------------------------------------------------------------- */

static fur_status claim(fur_corpus_builder *builder, const char *name, fur_corpus_content content)
{
    fur_corpus *corpus = builder->corpus;
    if (corpus->content != FUR_CORPUS_NOTHING && corpus->content != content)
        return fur_error_set(builder->error, FUR_E_FORMAT, "%s: %s, the files before hold %s: they cannot be mixed",
                             name, content == FUR_CORPUS_TOKENS ? "tokens" : "real vectors",
                             content == FUR_CORPUS_TOKENS ? "real vectors" : "tokens");
    corpus->content = content;
    return FUR_OK;
}

static fur_status add_npy(fur_corpus_builder *builder, fur_stream *stream)
{
    fur_npy npy;
    FUR_TRY(fur_npy_open(builder->error, stream, &npy));
    bool integer = fur_npy_is_integer(&npy);
    builder->arrays_used = true;
    FUR_TRY(claim(builder, fur_stream_name(stream), integer ? FUR_CORPUS_TOKENS : FUR_CORPUS_VECTORS));
    if (!integer)
        FUR_TRY(add_vector_array(builder, &npy));
    FUR_TRY(integer ? add_id_array(builder, &npy) : add_rows(builder, &npy));
    FUR_TRY(fur_npy_end(builder->error, &npy));
    return fur_corpus_end_document(builder);
}

static bool has_suffix(const char *name, size_t length, const char *suffix)
{
    size_t tail = strlen(suffix);
    return length >= tail && memcmp(name + length - tail, suffix, tail) == 0;
}

fur_status fur_corpus_add_file(fur_corpus_builder *builder, const char *path)
{
    fur_stream *stream;
    FUR_TRY(fur_stream_open(builder->error, path, FUR_STREAM_MAX_DECODED, &stream));
    builder->files++;
    size_t length = strlen(path);
    if (has_suffix(path, length, ".zst"))
        length -= 4;
    fur_status status;
    if (has_suffix(path, length, ".npy")) {
        status = add_npy(builder, stream);
    } else {
        builder->text_used = true;
        status = claim(builder, fur_stream_name(stream), FUR_CORPUS_TOKENS);
        if (status == FUR_OK)
            status = has_suffix(path, length, ".jsonl") ? add_jsonl(builder, stream) : add_text(builder, stream);
    }
    fur_stream_close(stream);
    return status;
}
