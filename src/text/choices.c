/* SPDX-License-Identifier: Apache-2.0 */
#include "text/choices.h"

#include <string.h>

#include "base/alloc.h"
#include "base/context.h"
#include "base/size.h"
#include "io/file.h"
#include "io/json.h"
#include "io/stream.h"
#include "text/tokenizer.h"

typedef struct reader {
    fur_error *error;
    const fur_tokenizer *tokenizer;
    fur_choices *list;
    fur_ids ids;         /* of the text in work */
    int64_t token_count; /* in the spool */
    double chances;      /* sum over items */
} reader;

/* What a line says; texts belong to the JSON. */
typedef struct choice_item {
    const json_t *prompt, *choices;
    int64_t count, answer;
} choice_item;

static bool is_text(const json_t *value)
{
    return json_is_string(value) && json_string_length(value) > 0;
}

static fur_status parse_item(fur_error *error, const fur_json *json, choice_item *out)
{
    if (!json_is_object(json->root))
        return fur_error_set(error, FUR_E_FORMAT,
                             "%s: expected a JSON object with \"prompt\", \"choices\" and \"answer\"", json->name);
    *out = (choice_item){.prompt = json_object_get(json->root, "prompt"),
                         .choices = json_object_get(json->root, "choices")};
    if (!is_text(out->prompt))
        return fur_error_set(error, FUR_E_FORMAT, "%s: \"prompt\" is %s, expected a string of a byte or more",
                             json->name,
                             !out->prompt                  ? "missing"
                             : json_is_string(out->prompt) ? "empty"
                                                           : "no string");
    if (!json_is_array(out->choices))
        return fur_error_set(error, FUR_E_FORMAT, "%s: \"choices\" is %s, expected an array of strings", json->name,
                             out->choices ? "no array" : "missing");
    out->count = (int64_t)json_array_size(out->choices);
    if (out->count < 2)
        return fur_error_set(error, FUR_E_FORMAT, "%s: \"choices\" has %lld of them, expected two or more", json->name,
                             (long long)out->count);
    for (int64_t i = 0; i < out->count; i++) {
        const json_t *choice = json_array_get(out->choices, (size_t)i);
        if (!is_text(choice))
            return fur_error_set(error, FUR_E_FORMAT, "%s: choice %lld is %s, expected a string of a byte or more",
                                 json->name, (long long)i, json_is_string(choice) ? "empty" : "no string");
    }
    return fur_json_int(error, json, "answer", 0, out->count - 1, &out->answer);
}

/* Encodes a text and appends its tokens to the spool. */
static fur_status add_text(reader *r, const json_t *text, bool begins, int64_t *first, int64_t *count)
{
    fur_encoding whole = {.text = json_string_value(text),
                          .bytes = (int64_t)json_string_length(text),
                          .begins = true,
                          .ends = true,
                          .specials = true,
                          .first = begins};
    r->ids.length = 0;
    FUR_TRY(fur_tokenizer_encode_all(r->error, r->tokenizer, whole, &r->ids));
    *first = r->token_count;
    *count = r->ids.length;
    r->token_count += *count;
    return fur_spool_append(r->error, r->list->tokens, r->ids.data, *count * (int64_t)sizeof *r->ids.data);
}

static fur_status add_item(reader *r, const choice_item *item, int64_t line)
{
    fur_choices_info *info = &r->list->info;
    fur_choice choice = {.of = item->count};
    FUR_TRY(add_text(r, item->prompt, true, &choice.prompt_first, &choice.prompt_count));
    for (; choice.index < item->count; choice.index++) {
        const json_t *text = json_array_get(item->choices, (size_t)choice.index);
        choice.bytes = (int64_t)json_string_length(text);
        choice.right = choice.index == item->answer;
        FUR_TRY(add_text(r, text, false, &choice.first, &choice.count));
        FUR_TRY(fur_spool_append(r->error, r->list->entries, &choice, (int64_t)sizeof choice));
        int64_t positions = fur_choice_positions(&choice);
        if (positions > info->longest) {
            info->longest = positions;
            r->list->longest_line = line;
        }
        info->tokens += positions;
        info->choices++;
    }
    info->items++;
    r->chances += 1.0 / (double)item->count;
    return FUR_OK;
}

/* *bad tells a line that may be skipped from a failure of reading. */
static fur_status add_line(reader *r, const fur_line *line, int64_t line_bytes, bool *bad)
{
    fur_json json = {0};
    choice_item item;
    fur_status status = fur_json_parse_line(r->error, r->list->name, line, line_bytes, &json);
    if (status == FUR_OK)
        status = parse_item(r->error, &json, &item);
    *bad = status == FUR_E_FORMAT;
    if (status == FUR_OK)
        status = add_item(r, &item, line->number);
    fur_json_clear(&json);
    return status;
}

static fur_status add_lines(reader *r, fur_lines *lines, const fur_choices_settings *settings, int64_t line_bytes)
{
    for (;;) {
        fur_line line;
        FUR_TRY(fur_lines_next(r->error, lines, &line));
        if (!line.text)
            return FUR_OK;
        if (fur_line_is_blank(&line))
            continue;
        bool bad = false;
        fur_status status = add_line(r, &line, line_bytes, &bad);
        if (bad && settings->skip_bad)
            r->list->info.skipped_lines++;
        else
            FUR_TRY(status);
    }
}

static fur_status read_file(reader *r, const fur_choices_settings *settings, int64_t line_bytes)
{
    fur_stream *stream;
    fur_lines *lines;
    FUR_TRY(fur_stream_open(r->error, settings->path, FUR_STREAM_MAX_DECODED, &stream));
    r->list->name = fur_strdup(fur_stream_name(stream));
    fur_status status = r->list->name ? fur_lines_open(r->error, stream, line_bytes, &lines)
                                      : fur_memory_error(r->error, (int64_t)strlen(settings->path), "a name");
    if (status == FUR_OK) {
        status = add_lines(r, lines, settings, line_bytes);
        fur_lines_close(lines);
    }
    fur_stream_close(stream);
    return status;
}

static fur_status finish(reader *r)
{
    fur_choices *list = r->list;
    if (list->info.items == 0 && list->info.skipped_lines > 0)
        return fur_error_set(r->error, FUR_E_FORMAT, "%s: no items: %lld lines skipped", list->name,
                             (long long)list->info.skipped_lines);
    if (list->info.items == 0)
        return fur_error_set(r->error, FUR_E_FORMAT, "%s: empty, expected a line for each item", list->name);
    list->vocabulary = r->tokenizer->kind->vocabulary(r->tokenizer);
    list->info.chance = r->chances / (double)list->info.items;
    FUR_TRY(fur_spool_trim(r->error, list->tokens));
    FUR_TRY(fur_spool_trim(r->error, list->entries));
    list->info.bytes_held =
        fur_spool_ram_bytes(list->tokens) + fur_spool_ram_bytes(list->entries) + (int64_t)sizeof *list;
    return FUR_OK;
}

static fur_status check_settings(fur_error *error, const fur_choices_settings *settings)
{
    if (settings->struct_size != sizeof *settings)
        return fur_error_set(error, FUR_E_ARGUMENT, "choices settings of %zu bytes, expected %zu from the defaults",
                             settings->struct_size, sizeof *settings);
    if (!settings->path)
        return fur_error_set(error, FUR_E_ARGUMENT, "no file of items");
    return FUR_OK;
}

fur_status fur_choices_make(fur_error *error, const fur_choices_settings *settings, const fur_tokenizer *tokenizer,
                            fur_choices_limits limits, fur_choices **out)
{
    *out = NULL;
    FUR_TRY(check_settings(error, settings));
    fur_choices *list = fur_calloc(1, sizeof *list);
    if (!list)
        return fur_memory_error(error, (int64_t)sizeof *list, "a list of items");
    reader r = {.error = error, .tokenizer = tokenizer, .list = list};
    fur_status status = fur_spool_create(error, limits.ram_bytes, &list->tokens);
    if (status == FUR_OK)
        status = fur_spool_create(error, limits.ram_bytes, &list->entries);
    if (status == FUR_OK)
        status = read_file(&r, settings, limits.line_bytes);
    if (status == FUR_OK)
        status = finish(&r);
    fur_ids_clear(&r.ids);
    if (status != FUR_OK) {
        fur_choices_close(list);
        return status;
    }
    *out = list;
    return FUR_OK;
}

fur_status fur_choices_entry(fur_error *error, const fur_choices *choices, int64_t index, fur_choice *out)
{
    return fur_spool_read(error, choices->entries, index * (int64_t)sizeof *out, out, (int64_t)sizeof *out);
}

fur_status fur_choices_ids(fur_error *error, const fur_choices *choices, int64_t first, int64_t count, int32_t *ids)
{
    return fur_spool_read(error, choices->tokens, first * (int64_t)sizeof *ids, ids, count * (int64_t)sizeof *ids);
}

int64_t fur_choice_positions(const fur_choice *choice)
{
    return choice->prompt_count + choice->count - 1;
}

/* ---- public --------------------------------------------------------------------------------------------------- */

void fur_choices_settings_defaults(fur_choices_settings *settings)
{
    *settings = (fur_choices_settings){.struct_size = sizeof *settings, .tokenizer = "bytes"};
}

fur_status fur_choices_open(fur_context *context, const fur_choices_settings *settings, fur_choices **out)
{
    fur_tokenizer *tokenizer;
    *out = NULL;
    FUR_TRY(check_settings(&context->error, settings));
    FUR_TRY(fur_tokenizer_make(&context->error, settings->tokenizer, &tokenizer));
    fur_status status = fur_choices_make(&context->error, settings, tokenizer, FUR_CHOICES_LIMITS, out);
    fur_tokenizer_close(tokenizer);
    if (status == FUR_OK && (*out)->info.skipped_lines > 0)
        fur_log(context, FUR_LOG_WARNING, "%lld lines that are no items were skipped",
                (long long)(*out)->info.skipped_lines);
    return status;
}

void fur_choices_close(fur_choices *choices)
{
    if (!choices)
        return;
    fur_spool_destroy(choices->tokens);
    fur_spool_destroy(choices->entries);
    fur_free(choices->name);
    fur_free(choices);
}

void fur_choices_info_read(const fur_choices *choices, fur_choices_info *out)
{
    *out = choices->info;
}
