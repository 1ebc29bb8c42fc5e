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
#include "text/chat.h"
#include "text/corpus.h"
#include "text/tokenizer.h"

#define TEXT_BYTES 65536 /* read and encoded at a time */

/* ---- text ----------------------------------------------------------------------------------------------------- */

typedef struct encoder {
    fur_corpus_builder *builder;
    const char *name;
    fur_ids ids;
    bool is_rest, goes_on; /* of a document, a part of which came before or comes after */
} encoder;

/* Encodes a window of a document and adds the ids. */
static fur_status encode(encoder *to, fur_encoding window, int64_t *used)
{
    fur_corpus_builder *builder = to->builder;
    window.specials = true;
    window.first = !to->is_rest;
    window.last = !to->goes_on;
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

/* The parts of a line's document: what is only read, or NULL, and what is predicted; or, of messages, ids of both. */
typedef struct line_parts {
    const json_t *prompt, *answer;
    fur_ids ids;
    fur_string answers; /* a byte for each: 1 where it is predicted */
} line_parts;

static fur_status find_string(fur_error *error, const fur_json *json, const char *field, const json_t **out)
{
    *out = json_object_get(json->root, field);
    if (json_is_string(*out))
        return FUR_OK;
    return fur_error_set(error, FUR_E_FORMAT, "%s: \"%s\" is %s, expected a string", json->name, field,
                         *out ? "not a string" : "missing");
}

static fur_status find_pair(fur_error *error, const fur_json *json, line_parts *out)
{
    FUR_TRY(find_string(error, json, "prompt", &out->prompt));
    FUR_TRY(find_string(error, json, "completion", &out->answer));
    if (json_string_length(out->answer) == 0)
        return fur_error_set(error, FUR_E_FORMAT, "%s: \"completion\" is empty, so that nothing is predicted",
                             json->name);
    return FUR_OK;
}

/* The line is what a chat template reads: "messages", and "tools" or what else it may know. */
static fur_status find_messages(fur_corpus_builder *builder, const fur_json *json, line_parts *out)
{
    fur_error *error = builder->error;
    fur_chat_text chat = {0};
    if (!builder->tokenizer->chat_template)
        return fur_error_set(error, FUR_E_FORMAT,
                             "%s: \"messages\", and the tokenizer has no chat template to write them by", json->name);
    if (!builder->chat)
        FUR_TRY(fur_chat_template_parse(error, builder->tokenizer, &builder->chat));
    fur_status status = fur_chat_make(error, builder->tokenizer, builder->chat, json->root, &chat);
    if (status == FUR_OK)
        status = fur_chat_ids(error, builder->tokenizer, &chat, &out->ids, &out->answers);
    fur_chat_text_clear(&chat);
    if (status == FUR_OK && !memchr(out->answers.data ? out->answers.data : "", 1, (size_t)out->answers.length))
        return fur_error_set(error, FUR_E_FORMAT, "%s: no message of the assistant, so that nothing is predicted",
                             json->name);
    if (status == FUR_E_FORMAT || status == FUR_E_ARGUMENT || status == FUR_E_UNSUPPORTED) { /* of this line */
        fur_error_prefix(error, "%s", json->name);
        status = error->status = FUR_E_FORMAT;
    }
    return status;
}

/* A line that could be read in two ways is refused, not guessed. */
static fur_status find_parts(fur_corpus_builder *builder, const fur_json *json, line_parts *out)
{
    fur_error *error = builder->error;
    if (!json_is_object(json->root))
        return fur_error_set(error, FUR_E_FORMAT,
                             "%s: expected a JSON object with \"text\", \"prompt\" and \"completion\", or \"messages\"",
                             json->name);
    static const char *const others[] = {"messages", "prompt", "completion"};
    bool text = json_object_get(json->root, "text") != NULL;
    for (size_t i = 0; text && i < sizeof others / sizeof others[0]; i++)
        if (json_object_get(json->root, others[i]))
            return fur_error_set(error, FUR_E_FORMAT, "%s: \"%s\" beside \"text\", expected one form of document",
                                 json->name, others[i]);
    bool pair = json_object_get(json->root, "prompt") || json_object_get(json->root, "completion");
    if (pair && json_object_get(json->root, "messages"))
        return fur_error_set(error, FUR_E_FORMAT, "%s: \"messages\" beside \"%s\", expected one form of document",
                             json->name, json_object_get(json->root, "prompt") ? "prompt" : "completion");
    if (json_object_get(json->root, "messages"))
        return find_messages(builder, json, out);
    if (pair)
        return find_pair(error, json, out);
    return find_string(error, json, "text", &out->answer);
}

static fur_status encode_string(encoder *to, const json_t *string)
{
    return encode_all(to, json_string_value(string), (int64_t)json_string_length(string));
}

/* Stretches that are predicted and those that are not, in turn. */
static fur_status add_messages(encoder *to, const line_parts *parts)
{
    fur_corpus_builder *builder = to->builder;
    for (int64_t at = 0, end; at < parts->ids.length; at = end) {
        int64_t first = builder->corpus->info.tokens;
        bool answer = parts->answers.data[at] != 0;
        for (end = at + 1; end < parts->ids.length && (parts->answers.data[end] != 0) == answer;)
            end++;
        FUR_TRY(fur_corpus_add_ids(builder, to->name, parts->ids.data + at, end - at));
        if (!answer)
            FUR_TRY(fur_corpus_add_prompt(builder, first));
    }
    return fur_corpus_end_document(builder);
}

static fur_status add_parts(encoder *to, const line_parts *parts)
{
    fur_corpus_builder *builder = to->builder;
    int64_t first = builder->corpus->info.tokens;
    if (parts->ids.length > 0)
        return add_messages(to, parts);
    to->goes_on = parts->prompt != NULL;
    if (parts->prompt) {
        FUR_TRY(encode_string(to, parts->prompt));
        FUR_TRY(fur_corpus_add_prompt(builder, first));
    }
    to->is_rest = parts->prompt && builder->corpus->info.tokens > first;
    to->goes_on = false;
    fur_status status = encode_string(to, parts->answer);
    to->is_rest = false;
    FUR_TRY(status);
    int32_t end = builder->tokenizer->eos;
    bool ended = to->ids.length > 0 && to->ids.data[to->ids.length - 1] == end;
    if (parts->prompt && end >= 0 && !ended) /* a model learns where its answer ends */
        FUR_TRY(fur_corpus_add_ids(builder, to->name, &end, 1));
    return fur_corpus_end_document(builder);
}

/* Parses a line and adds its document. *bad tells a line that may be skipped from a failure of reading. */
static fur_status add_line(encoder *to, const fur_line *line, bool *bad)
{
    fur_error *error = to->builder->error;
    fur_json json = {0};
    line_parts parts = {0};
    fur_status status = fur_json_parse_line(error, to->name, line, to->builder->corpus->limits.line_bytes, &json);
    if (status == FUR_OK)
        status = find_parts(to->builder, &json, &parts);
    *bad = status == FUR_E_FORMAT;
    if (status == FUR_OK)
        status = add_parts(to, &parts);
    fur_ids_clear(&parts.ids);
    fur_string_clear(&parts.answers);
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
