/* SPDX-License-Identifier: Apache-2.0 */
/* The text of the demo: a training part, a held-out end, prompts. */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "demo.h"

#define LEAST_BYTES ((int64_t)64 << 10)

static int read_all(const cli_session *session, const fur_corpus *corpus, const fur_corpus_info *info, demo_text *text)
{
    enum { BLOCK = 65536 };
    int32_t *ids = cli_resize(NULL, BLOCK, sizeof *ids);
    text->bytes = cli_resize(NULL, (size_t)(info->tokens + info->documents + 1), 1);
    fur_status status = FUR_OK;
    for (int64_t document = 0; document < info->documents && status == FUR_OK; document++) {
        int64_t tokens = fur_corpus_document_tokens(corpus, document);
        for (int64_t first = 0; first < tokens && status == FUR_OK; first += BLOCK) {
            int64_t count = tokens - first < BLOCK ? tokens - first : BLOCK;
            status = fur_corpus_read_ids(session->context, corpus, document, first, count, ids);
            for (int64_t i = 0; i < count; i++)
                text->bytes[text->total + i] = (char)(unsigned char)ids[i];
            text->total += count;
        }
        if (document + 1 < info->documents)
            text->bytes[text->total++] = '\n';
    }
    cli_free(ids);
    return status == FUR_OK ? CLI_OK : cli_fail_input(session, status);
}

static int write_part(const cli_session *session, const char *path, const char *bytes, int64_t count)
{
    return cli_file_write(path, bytes, (size_t)count)
               ? CLI_OK
               : cli_refuse(session, CLI_FAILED, "%s: %s", path, strerror(errno));
}

int demo_text_make(const cli_session *session, const fur_corpus *corpus, const char *folder, demo_text *text)
{
    fur_corpus_info info;
    fur_corpus_info_read(corpus, &info);
    memset(text, 0, sizeof *text);
    if (info.features > 0 || info.vocabulary > 256)
        return cli_refuse(session, CLI_BAD_INPUT, "the demo reads text; real vectors and token ids are for train");
    if (info.tokens < LEAST_BYTES)
        return cli_refuse(session, CLI_BAD_INPUT,
                          "the text has %" PRId64 " bytes; the demo needs at least %" PRId64 " to show anything",
                          info.tokens, LEAST_BYTES);
    int code = read_all(session, corpus, &info, text);
    text->train = text->total - text->total / 10;
    text->train_path = cli_path(folder, "train.txt");
    text->held_out_path = cli_path(folder, "held-out.txt");
    if (code == CLI_OK)
        code = write_part(session, text->train_path, text->bytes, text->train);
    if (code == CLI_OK)
        code = write_part(session, text->held_out_path, text->bytes + text->train, text->total - text->train);
    if (code == CLI_OK)
        demo_prompts_choose(text->bytes, text->train, text->prompts);
    return code;
}

void demo_text_drop(demo_text *text)
{
    cli_free(text->bytes);
    text->bytes = NULL;
}

void demo_text_clear(demo_text *text)
{
    cli_free(text->bytes);
    cli_free(text->train_path);
    cli_free(text->held_out_path);
    memset(text, 0, sizeof *text);
}

/* ---- prompts ------------------------------------------------------------------------------------------------ */

/* Does `phrase` occur `wanted` times? */
static bool occurs(const char *bytes, int64_t count, const char *phrase, int wanted)
{
    int64_t length = (int64_t)strlen(phrase);
    const char *end = bytes + count - length;
    for (const char *at = bytes; at <= end && wanted > 0;) {
        at = memchr(at, phrase[0], (size_t)(end - at) + 1);
        if (at == NULL)
            break;
        wanted -= memcmp(at, phrase, (size_t)length) == 0;
        at++;
    }
    return wanted == 0;
}

/* The first words of a line, from `from` on: letters that read as a beginning. Returns where the line ends. */
static int64_t line_start(const char *bytes, int64_t count, int64_t from, char out[DEMO_PROMPT_BYTES])
{
    while (from < count) {
        int64_t end = from;
        while (end < count && bytes[end] != '\n')
            end++;
        int64_t length = end - from < 28 ? end - from : 28;
        while (length > 0 && length < end - from && isalnum((unsigned char)bytes[from + length]))
            length--; /* back to the end of a word */
        while (length > 0 && bytes[from + length - 1] == ' ')
            length--;
        bool plain = length >= 8 && isupper((unsigned char)bytes[from]);
        for (int64_t i = 0; i < length && plain; i++)
            plain = isprint((unsigned char)bytes[from + i]) != 0;
        if (plain) {
            memcpy(out, bytes + from, (size_t)length);
            out[length] = '\0';
            return end;
        }
        from = end + 1;
    }
    return count;
}

void demo_prompts_choose(const char *bytes, int64_t count, char prompts[DEMO_PROMPTS][DEMO_PROMPT_BYTES])
{
    static const char *const phrases[] = {"In the beginning", "And Moses said", "And Jesus said", "KING HENRY",
                                          "HAMLET",           "ROMEO",          "Enter the King", "Once upon a time",
                                          "It was",           "What is",        "I think"};
    int chosen = 0;
    for (size_t i = 0; i < sizeof phrases / sizeof phrases[0] && chosen < DEMO_PROMPTS; i++)
        if (occurs(bytes, count, phrases[i], 2))
            (void)snprintf(prompts[chosen++], DEMO_PROMPT_BYTES, "%s", phrases[i]);
    for (int64_t at = count / 3; chosen < DEMO_PROMPTS; chosen++) {
        (void)snprintf(prompts[chosen], DEMO_PROMPT_BYTES, "%s", "The ");
        at = line_start(bytes, count, at, prompts[chosen]);
    }
}

void demo_append_shell(cli_string *out, const char *text)
{
    bool plain = text[0] != '\0';
    for (const char *c = text; *c != '\0'; c++)
        plain = plain && (isalnum((unsigned char)*c) || strchr("/._-+=:,@%", *c) != NULL);
    if (plain) {
        cli_append(out, text);
        return;
    }
    cli_append(out, "'");
    for (const char *c = text; *c != '\0'; c++) {
        if (*c == '\'')
            cli_append(out, "'\\''");
        else
            cli_append_bytes(out, c, 1);
    }
    cli_append(out, "'");
}
