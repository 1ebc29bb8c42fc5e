/* SPDX-License-Identifier: Apache-2.0 */
/* furlong generate: continues a text, streaming. */
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "talk.h"
#include "verb.h"

#define DEFAULT_COUNT 256

/* --prompt, or the first --file, or standard input. Nothing at all is an empty line: a model needs something to start
 * from. */
static int read_prompt(const cli_session *session, cli_string *prompt)
{
    const cli_options *options = session->options;
    if (options->prompt != NULL) {
        cli_append(prompt, options->prompt);
    } else {
        if (options->files.count == 0 && isatty(STDIN_FILENO))
            return cli_refuse(session, CLI_USAGE,
                              "--prompt: expected a text to continue, such as -p 'Once upon a time'");
        int code = cli_talk_read(session, options->files.count > 0 ? options->files.items[0] : "-", prompt);
        if (code != CLI_OK)
            return code;
    }
    if (prompt->length == 0)
        cli_append(prompt, "\n");
    return CLI_OK;
}

/* Ids of the prompt, with what the tokenizer puts before a text; the caller frees them. */
static int encode(const cli_talk *talk, const cli_string *prompt, int32_t **ids, int64_t *count)
{
    const int flags = FUR_TOKENS_SPECIAL | FUR_TOKENS_FIRST;
    fur_context *context = talk->session->context;
    int64_t bytes = (int64_t)prompt->length, room = bytes + 8;
    *ids = cli_resize(NULL, (size_t)room, sizeof **ids);
    fur_status status =
        fur_tokenizer_encode_as(context, talk->tokenizer, flags, prompt->text, bytes, *ids, room, count);
    if (status == FUR_OK && *count > room) {
        room = *count;
        *ids = cli_resize(*ids, (size_t)room, sizeof **ids);
        status = fur_tokenizer_encode_as(context, talk->tokenizer, flags, prompt->text, bytes, *ids, room, count);
    }
    return status == FUR_OK ? CLI_OK : cli_fail(talk->session, status);
}

static void print_json(const cli_talk *talk, const cli_string *prompt, int64_t prompt_tokens, double prompt_seconds)
{
    json_t *object = json_object();
    cli_string text = {NULL, 0, 0};
    cli_append_utf8(&text, prompt->text, prompt->length);
    (void)json_object_set_new(object, "prompt", json_stringn(text.text, text.length));
    text.length = 0;
    cli_append_utf8(&text, talk->text.text != NULL ? talk->text.text : "", talk->text.length);
    (void)json_object_set_new(object, "text", json_stringn(text.text, text.length));
    cli_string_clear(&text);
    cli_json_int(object, "prompt_tokens", prompt_tokens);
    cli_json_real(object, "prompt_tokens_per_second", (double)prompt_tokens / prompt_seconds);
    cli_json_int(object, "tokens", talk->count);
    cli_json_real(object, "tokens_per_second",
                  talk->count > 1 ? (double)(talk->count - 1) / (talk->last - talk->first) : 0.0);
    cli_json_int(object, "seed", talk->session->options->seed);
    cli_json_print(stdout, object);
}

static int generate(cli_talk *talk, const cli_string *prompt, const int32_t *ids, int64_t prompt_count)
{
    cli_session *session = talk->session;
    const cli_options *options = session->options;
    int64_t context = fur_model_config_of(talk->model)->context, room = context - prompt_count;
    int64_t count = options->predict;
    if (count == 0)
        count = room < DEFAULT_COUNT ? (room > 0 ? room : 1) : DEFAULT_COUNT;
    if (count > room)
        return cli_refuse(session, CLI_USAGE,
                          "prompt of %" PRId64 " and %" PRId64 " new tokens, expected 1 to %" PRId64 " together",
                          prompt_count, count, context);
    int code = cli_talk_reserve(talk, prompt_count + count, prompt_count + count);
    if (code != CLI_OK)
        return code;
    if (!options->json)
        (void)fwrite(prompt->text, 1, prompt->length, stdout);
    double start = cli_clock();
    fur_status status = fur_generator_feed(talk->generator, ids, prompt_count);
    double prompt_seconds = cli_clock() - start;
    code = status == FUR_OK ? cli_talk_answer(talk, count) : cli_fail(session, status);
    if (!options->json)
        fputc('\n', stdout);
    if (options->json && (code == CLI_OK || cli_signal_code() != 0))
        print_json(talk, prompt, prompt_count, prompt_seconds);
    return code;
}

int verb_generate(cli_session *session)
{
    cli_talk talk;
    cli_string prompt = {NULL, 0, 0};
    int32_t *ids = NULL;
    int64_t count = 0;
    int code = cli_talk_open(session, &talk);
    if (code == CLI_OK)
        code = read_prompt(session, &prompt);
    if (code == CLI_OK)
        code = encode(&talk, &prompt, &ids, &count);
    if (code == CLI_OK)
        code = generate(&talk, &prompt, ids, count);
    cli_string_clear(&prompt);
    cli_free(ids);
    cli_talk_close(&talk);
    return code;
}
