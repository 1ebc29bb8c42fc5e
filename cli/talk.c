/* SPDX-License-Identifier: Apache-2.0 */
#include "talk.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "verb.h"

static int check_model(const cli_talk *talk)
{
    const fur_model_config *config = fur_model_config_of(talk->model);
    int64_t tokens = fur_tokenizer_vocabulary(talk->tokenizer);
    if (config->features > 0)
        return cli_refuse(talk->session, CLI_BAD_INPUT,
                          "%s: the model reads real vectors, expected one that reads tokens",
                          talk->session->options->model);
    if (tokens > config->vocabulary)
        return cli_refuse(talk->session, CLI_BAD_INPUT,
                          "the model's vocabulary is %" PRId64 ", the tokenizer has %" PRId64 " tokens",
                          config->vocabulary, tokens);
    return CLI_OK;
}

static void read_sampling(const cli_options *options, fur_sampling *sampling)
{
    fur_sampling_defaults(sampling);
    sampling->temperature = (float)options->temperature;
    sampling->top_k = (int)options->top_k;
    sampling->top_p = (float)options->top_p;
    sampling->min_p = (float)options->min_p;
    sampling->repeat_penalty = (float)options->repeat_penalty;
    sampling->presence_penalty = (float)options->presence_penalty;
    sampling->frequency_penalty = (float)options->frequency_penalty;
    sampling->repeat_last_n = (int)options->repeat_last_n;
    sampling->seed = (uint64_t)options->seed;
}

int cli_talk_open(cli_session *session, cli_talk *talk)
{
    const cli_options *options = session->options;
    *talk = (cli_talk){.session = session, .end = -1};
    if (options->model == NULL)
        return cli_refuse(session, CLI_USAGE, "--model: expected the folder of a model, such as -m runs/book-1");
    for (int64_t i = 0; i < options->stops.count; i++)
        if (options->stops.items[i][0] == '\0')
            return cli_refuse(session, CLI_USAGE, "--reverse-prompt: expected a text, got nothing");
    int code = cli_session_open(session);
    char *folder = code == CLI_OK ? cli_model_folder(session, options->model) : NULL;
    if (folder == NULL)
        return code != CLI_OK ? code : CLI_BAD_INPUT;
    code = cli_weights_fit(session, folder, true);
    if (code != CLI_OK) {
        cli_free(folder);
        return code;
    }
    fur_status status = fur_model_open(session->context, folder, &talk->model);
    cli_free(folder);
    char *name = status == FUR_OK ? cli_tokenizer_name(session) : NULL;
    if (status == FUR_OK && name == NULL)
        return CLI_BAD_INPUT;
    if (status == FUR_OK)
        status = fur_tokenizer_open(session->context, name, &talk->tokenizer);
    cli_free(name);
    fur_tokenizer_info info = {.struct_size = sizeof info};
    if (status == FUR_OK)
        status = fur_tokenizer_info_read(session->context, talk->tokenizer, &info);
    if (status != FUR_OK)
        return cli_fail_input(session, status);
    talk->end = info.eos;
    read_sampling(options, &talk->sampling);
    return check_model(talk);
}

void cli_talk_close(cli_talk *talk)
{
    fur_generator_close(talk->generator);
    if (talk->tokenizer != NULL)
        fur_tokenizer_close(talk->tokenizer);
    if (talk->model != NULL)
        fur_model_destroy(talk->model);
    cli_string_clear(&talk->text);
}

int cli_talk_reserve(cli_talk *talk, int64_t tokens, int64_t least)
{
    int64_t memory;
    int code = cli_memory_limit(talk->session, &memory, NULL);
    if (code != CLI_OK)
        return code;
    for (talk->room = tokens;; talk->room /= 2) {
        fur_status status =
            fur_generator_open(talk->session->context, talk->model, talk->room, memory, &talk->generator);
        if (status == FUR_OK)
            return CLI_OK;
        if (status != FUR_E_DOES_NOT_FIT || talk->room / 2 < least)
            return cli_fail(talk->session, status);
    }
}

int cli_talk_read(const cli_session *session, const char *path, cli_string *out)
{
    char block[4096];
    FILE *file = strcmp(path, "-") == 0 ? stdin : fopen(path, "rb");
    if (file == NULL)
        return cli_refuse(session, CLI_BAD_INPUT, "%s: %s", path, strerror(errno));
    for (size_t got; (got = fread(block, 1, sizeof block, file)) > 0;)
        cli_append_bytes(out, block, got);
    bool failed = ferror(file) != 0;
    int why = errno;
    if (file != stdin)
        (void)fclose(file);
    return failed ? cli_refuse(session, CLI_BAD_INPUT, "%s: %s", path, strerror(why)) : CLI_OK;
}

/* Whether the model, or its tokenizer, ends a text with this token. */
static bool ends_text(const cli_talk *talk, int32_t id)
{
    const fur_model_config *config = fur_model_config_of(talk->model);
    if (talk->session->options->ignore_eos)
        return false;
    for (int64_t i = 0; i < config->eos.count; i++)
        if (config->eos.id[i] == id)
            return true;
    return id == talk->end;
}

/* What is certain goes out. False: whoever read us has gone. */
static bool show(cli_talk *talk, cli_string *out)
{
    bool gone = false;
    cli_append_bytes(&talk->text, out->text != NULL ? out->text : "", out->length);
    if (!talk->session->options->json && out->length > 0)
        gone = fwrite(out->text, 1, out->length, stdout) != out->length || fflush(stdout) != 0;
    out->length = 0;
    return !gone;
}

static fur_status next_text(cli_talk *talk, int32_t *id, const char **bytes, int64_t *length)
{
    fur_context *context = talk->session->context;
    fur_status status = fur_generator_next(talk->generator, &talk->sampling, id);
    if (status == FUR_OK)
        status = fur_tokenizer_piece(context, talk->tokenizer, *id, bytes, length);
    return status;
}

int cli_talk_answer(cli_talk *talk, int64_t count)
{
    cli_stop stop = {.words = &talk->session->options->stops};
    cli_string out = {NULL, 0, 0};
    fur_status status = FUR_OK;
    bool shown = true;
    talk->text.length = 0;
    talk->ended = false;
    for (talk->count = 0; talk->count < count && shown && !talk->ended;) {
        const char *bytes;
        const int32_t *ids;
        int64_t length;
        int32_t id;
        if (talk->count > 0 && fur_generator_tokens(talk->generator, &ids) == talk->room)
            break;
        status = next_text(talk, &id, &bytes, &length);
        if (status != FUR_OK)
            break;
        talk->last = cli_clock();
        if (talk->count++ == 0)
            talk->first = talk->last;
        talk->ended = ends_text(talk, id);
        if (!talk->ended)
            cli_stop_add(&stop, bytes, (size_t)length, &out);
        talk->ended = talk->ended || stop.found;
        shown = show(talk, &out);
        if (talk->count == count || talk->ended)
            break;
        status = fur_generator_feed(talk->generator, &id, 1);
        if (status != FUR_OK)
            break;
    }
    cli_stop_end(&stop, &out);
    (void)show(talk, &out);
    cli_stop_clear(&stop);
    cli_string_clear(&out);
    return status == FUR_OK ? CLI_OK : cli_fail(talk->session, status);
}
