/* SPDX-License-Identifier: Apache-2.0 */
/* furlong generate: continues a text, streaming. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "verb.h"

#define DEFAULT_COUNT 256

typedef struct stream {
    cli_session *session;
    const fur_tokenizer *tokenizer;
    cli_string text; /* what came, for --json */
    int64_t count;
    double first, last; /* clock at the first and the last token */
    int code;
} stream;

static int on_token(void *user, int32_t id)
{
    stream *s = user;
    const char *bytes;
    int64_t length;
    fur_status status = fur_tokenizer_piece(s->session->context, s->tokenizer, id, &bytes, &length);
    if (status != FUR_OK) {
        s->code = cli_fail(s->session, status);
        return 1;
    }
    s->last = cli_clock();
    if (s->count++ == 0)
        s->first = s->last;
    if (s->session->options->json) {
        cli_append_bytes(&s->text, bytes, (size_t)length);
    } else if (fwrite(bytes, 1, (size_t)length, stdout) != (size_t)length || fflush(stdout) != 0) {
        return 1; /* whoever read us has gone */
    }
    return 0;
}

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
        const char *path = options->files.count > 0 ? options->files.items[0] : "-";
        FILE *file = strcmp(path, "-") == 0 ? stdin : fopen(path, "rb");
        if (file == NULL)
            return cli_refuse(session, CLI_BAD_INPUT, "%s: %s", path, strerror(errno));
        char block[4096];
        for (size_t got; (got = fread(block, 1, sizeof block, file)) > 0;)
            cli_append_bytes(prompt, block, got);
        bool failed = ferror(file) != 0;
        if (file != stdin)
            (void)fclose(file);
        if (failed)
            return cli_refuse(session, CLI_BAD_INPUT, "%s: %s", path, strerror(errno));
    }
    if (prompt->length == 0)
        cli_append(prompt, "\n");
    return CLI_OK;
}

/* Ids of the prompt; the caller frees them. */
static int encode(const cli_session *session, const fur_tokenizer *tokenizer, const cli_string *prompt, int32_t **ids,
                  int64_t *count)
{
    const int flags = FUR_TOKENS_SPECIAL | FUR_TOKENS_FIRST;
    int64_t bytes = (int64_t)prompt->length, room = bytes;
    *ids = cli_resize(NULL, (size_t)(room > 0 ? room : 1), sizeof **ids);
    fur_status status =
        fur_tokenizer_encode_as(session->context, tokenizer, flags, prompt->text, bytes, *ids, room, count);
    if (status == FUR_OK && *count > room) {
        room = *count;
        *ids = cli_resize(*ids, (size_t)room, sizeof **ids);
        status = fur_tokenizer_encode_as(session->context, tokenizer, flags, prompt->text, bytes, *ids, room, count);
    }
    return status == FUR_OK ? CLI_OK : cli_fail(session, status);
}

static void print_json(const cli_session *session, const cli_string *prompt, int64_t prompt_tokens, const stream *s)
{
    json_t *object = json_object();
    cli_string text = {NULL, 0, 0};
    cli_append_utf8(&text, prompt->text, prompt->length);
    (void)json_object_set_new(object, "prompt", json_stringn(text.text, text.length));
    text.length = 0;
    cli_append_utf8(&text, s->text.text != NULL ? s->text.text : "", s->text.length);
    (void)json_object_set_new(object, "text", json_stringn(text.text, text.length));
    cli_string_clear(&text);
    cli_json_int(object, "prompt_tokens", prompt_tokens);
    cli_json_int(object, "tokens", s->count);
    cli_json_real(object, "tokens_per_second", s->count > 1 ? (double)(s->count - 1) / (s->last - s->first) : 0.0);
    cli_json_int(object, "seed", session->options->seed);
    cli_json_print(stdout, object);
}

static int generate(cli_session *session, fur_model *model, const fur_tokenizer *tokenizer)
{
    const cli_options *options = session->options;
    const fur_model_config *config = fur_model_config_of(model);
    cli_string prompt = {NULL, 0, 0};
    stream s = {.session = session, .tokenizer = tokenizer};
    fur_sampling sampling;
    int32_t *ids = NULL;
    int64_t prompt_count = 0, memory = 0;
    fur_sampling_defaults(&sampling);
    sampling.temperature = (float)options->temperature;
    sampling.top_k = (int)options->top_k;
    sampling.top_p = (float)options->top_p;
    sampling.seed = (uint64_t)options->seed;
    if (config->features > 0)
        return cli_refuse(session, CLI_BAD_INPUT, "%s: the model reads real vectors, expected one that reads tokens",
                          options->model);
    int code = read_prompt(session, &prompt);
    if (code == CLI_OK)
        code = encode(session, tokenizer, &prompt, &ids, &prompt_count);
    if (code == CLI_OK)
        code = cli_memory_limit(session, &memory, NULL);
    if (code == CLI_OK && fur_tokenizer_vocabulary(tokenizer) > config->vocabulary)
        code = cli_refuse(session, CLI_BAD_INPUT,
                          "the model's vocabulary is %" PRId64 ", the tokenizer has %" PRId64 " tokens",
                          config->vocabulary, fur_tokenizer_vocabulary(tokenizer));
    if (code == CLI_OK) {
        int64_t room = config->context - prompt_count, count = options->predict;
        if (count == 0)
            count = room < DEFAULT_COUNT ? (room > 0 ? room : 1) : DEFAULT_COUNT;
        if (!options->json)
            (void)fwrite(prompt.text, 1, prompt.length, stdout);
        fur_status status =
            fur_generate(session->context, model, ids, prompt_count, count, &sampling, memory, on_token, &s);
        if (!options->json)
            fputc('\n', stdout);
        code = status != FUR_OK ? cli_fail(session, status) : s.code;
        if (options->json && (status == FUR_OK || status == FUR_E_INTERRUPTED))
            print_json(session, &prompt, prompt_count, &s);
    }
    cli_string_clear(&prompt);
    cli_string_clear(&s.text);
    cli_free(ids);
    return code;
}

int verb_generate(cli_session *session)
{
    const cli_options *options = session->options;
    fur_model *model = NULL;
    fur_tokenizer *tokenizer = NULL;
    if (options->model == NULL)
        return cli_refuse(session, CLI_USAGE, "--model: expected the folder of a model, such as -m runs/book-1");
    int code = cli_session_open(session);
    char *folder = code == CLI_OK ? cli_model_folder(session, options->model) : NULL;
    if (folder == NULL)
        return code != CLI_OK ? code : CLI_BAD_INPUT;
    code = cli_weights_fit(session, folder);
    if (code == CLI_OK) {
        fur_status status = fur_model_open(session->context, folder, &model);
        char *name = status == FUR_OK ? cli_tokenizer_name(session) : NULL;
        if (name != NULL)
            status = fur_tokenizer_open(session->context, name, &tokenizer);
        cli_free(name);
        if (status != FUR_OK)
            code = cli_fail_input(session, status);
        else
            code = tokenizer != NULL ? generate(session, model, tokenizer) : CLI_BAD_INPUT;
    }
    if (tokenizer != NULL)
        fur_tokenizer_close(tokenizer);
    if (model != NULL)
        fur_model_destroy(model);
    cli_free(folder);
    return code;
}
