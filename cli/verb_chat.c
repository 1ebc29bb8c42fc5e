/* SPDX-License-Identifier: Apache-2.0 */
/* furlong chat: a conversation, by the tokenizer's own chat template. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "talk.h"
#include "verb.h"

#define DEFAULT_ANSWER 1024 /* tokens at most, where --n-predict says nothing */
#define LEAST_CONTEXT  512  /* of a conversation, where --ctx-size says nothing and memory is short */

static void add_message(json_t *messages, const char *role, const char *text, size_t length)
{
    cli_string clean = {NULL, 0, 0};
    cli_append_utf8(&clean, text, length);
    (void)json_array_append_new(
        messages, json_pack("{s:s, s:o}", "role", role, "content", json_stringn(clean.text, clean.length)));
    cli_string_clear(&clean);
}

static json_t *new_messages(const cli_options *options)
{
    json_t *messages = json_array();
    if (options->system != NULL)
        add_message(messages, "system", options->system, strlen(options->system));
    return messages;
}

/* Ids of the conversation so far and the beginning of an answer; the caller frees them. */
static int render(const cli_talk *talk, json_t *messages, int32_t **ids, int64_t *count)
{
    json_t *variables = json_pack("{s:O, s:b}", "messages", messages, "add_generation_prompt", true);
    char *text = json_dumps(variables, JSON_COMPACT);
    int64_t bytes = text != NULL ? (int64_t)strlen(text) : 0, room = bytes + 64;
    json_decref(variables);
    *ids = cli_resize(NULL, (size_t)room, sizeof **ids);
    fur_status status = fur_chat_encode(talk->session->context, talk->tokenizer, text, bytes, *ids, NULL, room, count);
    if (status == FUR_OK && *count > room) {
        room = *count;
        *ids = cli_resize(*ids, (size_t)room, sizeof **ids);
        status = fur_chat_encode(talk->session->context, talk->tokenizer, text, bytes, *ids, NULL, room, count);
    }
    free(text);
    return status == FUR_OK ? CLI_OK : cli_fail_input(talk->session, status);
}

/* What of the conversation is new goes through the model; all of it, where the template wrote what was there anew. */
static int feed(cli_talk *talk, const int32_t *ids, int64_t count)
{
    const int32_t *there;
    int64_t had = fur_generator_tokens(talk->generator, &there), same = 0;
    if (count >= talk->room)
        return cli_refuse(talk->session, CLI_DOES_NOT_FIT,
                          "the conversation has %" PRId64 " tokens, the context is full at %" PRId64, count,
                          talk->room);
    while (same < had && same < count && ids[same] == there[same])
        same++;
    if (same < had) {
        fur_generator_restart(talk->generator);
        same = 0;
    }
    fur_status status = fur_generator_feed(talk->generator, ids + same, count - same);
    return status == FUR_OK ? CLI_OK : cli_fail(talk->session, status);
}

/* One message and its answer, which both become part of the conversation. */
static int turn(cli_talk *talk, json_t *messages, const char *text, size_t length)
{
    const cli_options *options = talk->session->options;
    int32_t *ids = NULL;
    int64_t count = 0;
    add_message(messages, "user", text, length);
    int code = render(talk, messages, &ids, &count);
    if (code == CLI_OK)
        code = feed(talk, ids, count);
    if (code == CLI_OK) {
        int64_t left = talk->room - count, wanted = options->predict > 0 ? options->predict : DEFAULT_ANSWER;
        code = cli_talk_answer(talk, wanted < left ? wanted : left);
    }
    if (code == CLI_OK)
        add_message(messages, "assistant", talk->text.text != NULL ? talk->text.text : "", talk->text.length);
    cli_free(ids);
    return code;
}

/* A line of the terminal or of a pipe, without its end; false: there is none. */
static bool read_line(bool asks, cli_string *line)
{
    line->length = 0;
    if (asks) {
        fputs("> ", stderr);
        fflush(stderr);
    }
    for (int letter; (letter = getchar()) != EOF;) {
        char byte = (char)letter;
        if (byte == '\n')
            return true;
        cli_append_bytes(line, &byte, 1);
    }
    return line->length > 0;
}

static int converse(cli_talk *talk, json_t *messages)
{
    cli_string line = {NULL, 0, 0};
    bool asks = isatty(STDIN_FILENO) != 0;
    int code = CLI_OK;
    while (code == CLI_OK && read_line(asks, &line)) {
        if (line.length == 0)
            continue;
        if (line.length == strlen("/clear") && memcmp(line.text, "/clear", line.length) == 0) {
            (void)json_array_clear(messages);
            json_t *fresh = new_messages(talk->session->options);
            (void)json_array_extend(messages, fresh);
            json_decref(fresh);
            continue;
        }
        code = turn(talk, messages, line.text, line.length);
        fputc('\n', stdout);
        fflush(stdout);
    }
    cli_string_clear(&line);
    return code;
}

static int answer_once(cli_talk *talk, json_t *messages, const cli_string *prompt)
{
    int code = turn(talk, messages, prompt->text != NULL ? prompt->text : "", prompt->length);
    if (!talk->session->options->json) {
        fputc('\n', stdout);
    } else if (code == CLI_OK || cli_signal_code() != 0) {
        json_t *object = json_object();
        (void)json_object_set(object, "messages", messages);
        cli_json_int(object, "tokens", talk->count);
        cli_json_real(object, "tokens_per_second",
                      talk->count > 1 ? (double)(talk->count - 1) / (talk->last - talk->first) : 0.0);
        cli_json_bool(object, "ended", talk->ended);
        cli_json_int(object, "seed", talk->session->options->seed);
        cli_json_print(stdout, object);
    }
    return code;
}

/* --prompt or the first --file; false: a conversation on standard input. */
static int read_message(const cli_session *session, cli_string *out, bool *given)
{
    const cli_options *options = session->options;
    *given = options->prompt != NULL || options->files.count > 0;
    if (options->prompt != NULL) {
        cli_append(out, options->prompt);
        return CLI_OK;
    }
    if (options->files.count == 0)
        return options->json ? cli_refuse(session, CLI_USAGE, "--json: expected one message, -p TEXT or -f FILE")
                             : CLI_OK;
    return cli_talk_read(session, options->files.items[0], out);
}

int verb_chat(cli_session *session)
{
    cli_talk talk;
    cli_string message = {NULL, 0, 0};
    fur_tokenizer_info info = {.struct_size = sizeof info};
    bool once = false;
    int code = cli_talk_open(session, &talk);
    if (code == CLI_OK && fur_tokenizer_info_read(session->context, talk.tokenizer, &info) == FUR_OK &&
        info.chat_template == NULL)
        code = cli_refuse(session, CLI_BAD_INPUT,
                          "%s: its tokenizer has no chat template, so that none of its words for "
                          "a conversation are known; use generate",
                          session->options->model);
    if (code == CLI_OK)
        code = read_message(session, &message, &once);
    if (code == CLI_OK) {
        int64_t context = fur_model_config_of(talk.model)->context, asked = session->options->context;
        code = asked > 0 ? cli_talk_reserve(&talk, asked < context ? asked : context, asked)
                         : cli_talk_reserve(&talk, context, LEAST_CONTEXT);
    }
    json_t *messages = new_messages(session->options);
    if (code == CLI_OK)
        code = once ? answer_once(&talk, messages, &message) : converse(&talk, messages);
    json_decref(messages);
    cli_string_clear(&message);
    cli_talk_close(&talk);
    return code;
}
