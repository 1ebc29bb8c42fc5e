/* SPDX-License-Identifier: Apache-2.0 */
#include "text/chat.h"

#include <string.h>

#include "base/alloc.h"
#include "base/context.h"
#include "base/size.h"
#include "io/file.h"
#include "io/json.h"

void fur_chat_text_clear(fur_chat_text *chat)
{
    fur_string_clear(&chat->text);
    fur_free(chat->spans);
    *chat = (fur_chat_text){0};
}

fur_status fur_chat_template_parse(fur_error *error, const fur_tokenizer *tokenizer, fur_jinja **out)
{
    const char *text = tokenizer->chat_template;
    if (!text)
        return fur_error_set(error, FUR_E_FORMAT, "the tokenizer has no chat template");
    return fur_jinja_parse(error, "chat template", text, (int64_t)strlen(text), out);
}

/* ---- spans ---------------------------------------------------------------------------------------------------- */

/* Texts of assistants, told apart from those of messages beside them. */
static unsigned char mark_answers(int64_t message, const char *role)
{
    return role && strcmp(role, "assistant") == 0 ? (unsigned char)(1 + message % 254) : 0;
}

/* The end of the special token behind an answer, which may have space before it; `end` where there is none. */
static int64_t with_end_token(const fur_tokenizer *tokenizer, const fur_string *text, int64_t end)
{
    int64_t at = end;
    while (at < text->length && (text->data[at] == ' ' || text->data[at] == '\n'))
        at++;
    int64_t length = tokenizer->kind->special_at(tokenizer, text->data + at, text->length - at);
    return length > 0 ? at + length : end;
}

static fur_status add_span(fur_error *error, fur_chat_text *chat, fur_chat_span span)
{
    int64_t count = chat->span_count;
    if ((count & (count - 1)) == 0) { /* a power of two, or none: full */
        size_t bytes = (size_t)(count ? 2 * count : 1) * sizeof *chat->spans;
        fur_chat_span *spans = fur_realloc(chat->spans, bytes);
        if (!spans)
            return fur_memory_error(error, (int64_t)bytes, "spans of answers");
        chat->spans = spans;
    }
    chat->spans[chat->span_count++] = span;
    return FUR_OK;
}

/* From the first byte of a message's answer to its last, what the template puts between its parts included. */
static fur_status find_spans(fur_error *error, const fur_tokenizer *tokenizer, const fur_jinja_output *made,
                             fur_chat_text *chat)
{
    const unsigned char *marks = (const unsigned char *)made->marks.data;
    int64_t length = made->marks.length;
    for (int64_t at = 0, message = -1; at < length;) {
        unsigned char mark = marks[at];
        bool wanted = made->generation ? mark == FUR_JINJA_GENERATION : mark != 0;
        if (!wanted) {
            at++;
            continue;
        }
        int64_t first = at, end = at;
        while (at < length && (marks[at] == mark || (!made->generation && marks[at] == 0))) {
            end = marks[at] == mark ? at + 1 : end;
            at++;
        }
        at = end;
        if (made->generation) {
            FUR_TRY(add_span(error, chat, (fur_chat_span){.first = first, .end = end, .message = -1}));
            continue;
        }
        do /* marks come round again after 254 messages */
            message++;
        while (1 + message % 254 != mark);
        end = with_end_token(tokenizer, &made->text, end);
        FUR_TRY(add_span(error, chat, (fur_chat_span){.first = first, .end = end, .message = message}));
        at = fur_max_i64(at, end);
    }
    return FUR_OK;
}

/* ---- rendering ------------------------------------------------------------------------------------------------ */

static void set_default(json_t *variables, const char *key, json_t *value)
{
    if (!value || json_object_get(variables, key))
        json_decref(value);
    else
        json_object_set_new(variables, key, value);
}

static json_t *token_text(const fur_tokenizer *tokenizer, int32_t id)
{
    const char *text;
    int64_t bytes;
    if (id < 0)
        return NULL;
    tokenizer->kind->piece(tokenizer, id, &text, &bytes);
    return json_stringn(text, (size_t)bytes);
}

static fur_status complete(fur_error *error, const fur_tokenizer *tokenizer, const json_t *variables, json_t **out)
{
    fur_json_setup();
    json_t *all = json_copy((json_t *)variables);
    if (all) {
        set_default(all, "bos_token", token_text(tokenizer, tokenizer->bos));
        set_default(all, "eos_token", token_text(tokenizer, tokenizer->eos));
        set_default(all, "add_generation_prompt", json_false());
        set_default(all, "tools", json_null());
        set_default(all, "documents", json_null());
    }
    if (all && !fur_json_failed()) {
        *out = all;
        return FUR_OK;
    }
    json_decref(all);
    return fur_memory_error(error, 4096, "the variables of a chat template");
}

fur_status fur_chat_make(fur_error *error, const fur_tokenizer *tokenizer, const fur_jinja *jinja,
                         const json_t *variables, fur_chat_text *out)
{
    json_t *all = NULL;
    fur_jinja_output made = {0};
    *out = (fur_chat_text){0};
    if (!json_is_object(variables) || !json_is_array(json_object_get(variables, "messages")))
        return fur_error_set(error, FUR_E_FORMAT, "expected an object with \"messages\", an array");
    FUR_TRY(complete(error, tokenizer, variables, &all));
    fur_status status = fur_jinja_render(error, jinja, all, mark_answers, &made);
    json_decref(all);
    if (status == FUR_OK)
        status = find_spans(error, tokenizer, &made, out);
    fur_string_clear(&made.marks);
    out->text = made.text;
    if (status != FUR_OK)
        fur_chat_text_clear(out);
    return status;
}

/* ---- ids ------------------------------------------------------------------------------------------------------ */

static bool is_space(char c)
{
    return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

/* Moves *at behind the token's bytes in the text. A space in front may be the tokenizer's own; space of the text may be
 * part of a special token beside it. */
static bool follow(const fur_string *text, const char *piece, int64_t bytes, int64_t *at)
{
    for (int64_t i = 0; i < bytes; i++) {
        if (*at < text->length && text->data[*at] == piece[i]) {
            ++*at;
            continue;
        }
        if (i == 0 && piece[i] == ' ')
            continue;
        while (i == 0 && *at < text->length && is_space(text->data[*at]))
            ++*at;
        if (*at >= text->length || text->data[*at] != piece[i])
            return false;
        ++*at;
    }
    return true;
}

fur_status fur_chat_ids(fur_error *error, const fur_tokenizer *tokenizer, const fur_chat_text *chat, fur_ids *ids,
                        fur_string *answer)
{
    int64_t first = ids->length, at = 0, span = 0;
    fur_encoding whole = {
        .text = chat->text.data, .bytes = chat->text.length, .begins = true, .ends = true, .specials = true};
    FUR_TRY(fur_tokenizer_encode_all(error, tokenizer, whole, ids));
    FUR_TRY(fur_string_reserve(error, answer, ids->length - first));
    for (int64_t i = first; i < ids->length; i++) {
        const char *piece;
        int64_t bytes, start = at;
        tokenizer->kind->piece(tokenizer, ids->data[i], &piece, &bytes);
        if (chat->span_count > 0 && !follow(&chat->text, piece, bytes, &at))
            return fur_error_set(
                error, FUR_E_UNSUPPORTED,
                "the tokenizer changes the text near byte %lld, so which tokens are answers is not known",
                (long long)start);
        while (span < chat->span_count && chat->spans[span].end <= start)
            span++;
        bool within = span < chat->span_count && chat->spans[span].first < at && at > start;
        answer->data[answer->length++] = (char)(within ? 1 : 0);
    }
    return FUR_OK;
}

/* ---- public --------------------------------------------------------------------------------------------------- */

static fur_status make(fur_context *context, const fur_tokenizer *tokenizer, const char *variables, int64_t bytes,
                       fur_chat_text *out)
{
    fur_error *error = &context->error;
    fur_json json = {0};
    fur_jinja *jinja = NULL;
    *out = (fur_chat_text){0};
    if (bytes < 0)
        return fur_error_set(error, FUR_E_ARGUMENT, "%lld bytes of variables", (long long)bytes);
    fur_status status = fur_json_parse(error, "variables", variables, bytes, &json);
    if (status == FUR_OK)
        status = fur_chat_template_parse(error, tokenizer, &jinja);
    if (status == FUR_OK)
        status = fur_chat_make(error, tokenizer, jinja, json.root, out);
    fur_jinja_destroy(jinja);
    fur_json_clear(&json);
    return status;
}

fur_status fur_chat_render(fur_context *context, const fur_tokenizer *tokenizer, const char *variables,
                           int64_t variable_bytes, char *text, int64_t capacity, int64_t *bytes, fur_chat_span *spans,
                           int64_t span_capacity, int64_t *span_count)
{
    fur_chat_text chat;
    FUR_TRY(make(context, tokenizer, variables, variable_bytes, &chat));
    int64_t written = fur_min_i64(capacity, chat.text.length), noted = fur_min_i64(span_capacity, chat.span_count);
    if (written > 0)
        memcpy(text, chat.text.data, (size_t)written);
    if (noted > 0)
        memcpy(spans, chat.spans, (size_t)noted * sizeof *spans);
    *bytes = chat.text.length;
    *span_count = chat.span_count;
    fur_chat_text_clear(&chat);
    return FUR_OK;
}

fur_status fur_chat_encode(fur_context *context, const fur_tokenizer *tokenizer, const char *variables,
                           int64_t variable_bytes, int32_t *ids, unsigned char *answer, int64_t capacity,
                           int64_t *count)
{
    fur_chat_text chat;
    fur_ids all = {0};
    fur_string marks = {0};
    FUR_TRY(make(context, tokenizer, variables, variable_bytes, &chat));
    fur_status status = fur_chat_ids(&context->error, tokenizer, &chat, &all, &marks);
    int64_t written = fur_min_i64(capacity, all.length);
    if (status == FUR_OK && written > 0) {
        memcpy(ids, all.data, (size_t)written * sizeof *ids);
        if (answer)
            memcpy(answer, marks.data, (size_t)written);
    }
    *count = all.length;
    fur_ids_clear(&all);
    fur_string_clear(&marks);
    fur_chat_text_clear(&chat);
    return status;
}
