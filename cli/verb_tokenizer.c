/* SPDX-License-Identifier: Apache-2.0 */
/* furlong tokenizer: learns one, and runs one. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "verb.h"

static int open_tokenizer(cli_session *session, fur_tokenizer **tokenizer)
{
    int code = cli_session_open(session);
    char *name = code == CLI_OK ? cli_tokenizer_name(session) : NULL;
    if (name == NULL)
        return code != CLI_OK ? code : CLI_BAD_INPUT;
    fur_status status = fur_tokenizer_open(session->context, name, tokenizer);
    cli_free(name);
    return status == FUR_OK ? CLI_OK : cli_fail_input(session, status);
}

/* ---- ids and text ------------------------------------------------------------------------------------------------ */

typedef struct id_list {
    int32_t *ids;
    int64_t count, capacity;
} id_list;

static void make_room(id_list *list, int64_t more)
{
    if (list->count + more <= list->capacity)
        return;
    list->capacity = 2 * (list->count + more);
    list->ids = cli_resize(list->ids, (size_t)list->capacity, sizeof *list->ids);
}

static int read_text(const cli_session *session, const char *path, cli_string *text)
{
    FILE *file = strcmp(path, "-") == 0 ? stdin : fopen(path, "rb");
    if (file == NULL)
        return cli_refuse(session, CLI_BAD_INPUT, "%s: %s", path, strerror(errno));
    char block[65536];
    for (size_t got; (got = fread(block, 1, sizeof block, file)) > 0;)
        cli_append_bytes(text, block, got);
    int failed = ferror(file) ? errno : 0;
    if (file != stdin)
        (void)fclose(file);
    return failed ? cli_refuse(session, CLI_BAD_INPUT, "%s: %s", path, strerror(failed)) : CLI_OK;
}

/* Token ids as .npy, which every reader of ours and NumPy know. */
static int write_npy(const cli_session *session, const char *path, const id_list *list)
{
    char shape[64], header[128];
    cli_string file = {NULL, 0, 0};
    (void)snprintf(shape, sizeof shape, "(%" PRId64 ",), }", list->count);
    (void)snprintf(header, sizeof header, "{'descr': '<i4', 'fortran_order': False, 'shape': %s", shape);
    size_t length = strlen(header);
    memset(header + length, ' ', 117 - length);
    header[117] = '\n';
    cli_append_bytes(&file, "\x93NUMPY\x01\x00\x76\x00", 10); /* 118 bytes follow, 128 together */
    cli_append_bytes(&file, header, 118);
    cli_append_bytes(&file, (const char *)list->ids, (size_t)list->count * sizeof *list->ids);
    int code = cli_file_write(path, file.text, file.length)
                   ? CLI_OK
                   : cli_refuse(session, CLI_FAILED, "%s: %s", path, strerror(errno));
    cli_string_clear(&file);
    return code;
}

/* ---- encode ------------------------------------------------------------------------------------------------------ */

typedef struct encoding {
    id_list list;
    int64_t bytes;
    double seconds;
} encoding;

static int encode_text(const cli_session *session, const fur_tokenizer *tokenizer, const cli_string *text, encoding *e)
{
    int flags = FUR_TOKENS_SPECIAL | (session->options->add_special_tokens ? FUR_TOKENS_COMPLETE : 0);
    const char *bytes = text->text != NULL ? text->text : "";
    int64_t length = (int64_t)text->length, count = 0;
    make_room(&e->list, length + 16);
    double start = cli_clock();
    for (;;) {
        int64_t room = e->list.capacity - e->list.count;
        fur_status status = fur_tokenizer_encode_as(session->context, tokenizer, flags, bytes, length,
                                                    e->list.ids + e->list.count, room, &count);
        if (status != FUR_OK)
            return cli_fail_input(session, status);
        if (count <= room)
            break;
        make_room(&e->list, count);
    }
    e->seconds += cli_clock() - start;
    e->bytes += length;
    e->list.count += count;
    return CLI_OK;
}

static int encode_all(const cli_session *session, const fur_tokenizer *tokenizer, encoding *e)
{
    const cli_options *options = session->options;
    static const char *const standard_input[] = {"-"};
    const char *const *paths = options->files.count > 0 ? options->files.items : standard_input;
    int64_t count = options->files.count > 0 ? options->files.count : 1;
    cli_string text = {NULL, 0, 0};
    int code = CLI_OK;
    if (options->prompt != NULL) {
        cli_append(&text, options->prompt);
        code = encode_text(session, tokenizer, &text, e);
        count = 0;
    }
    for (int64_t i = 0; i < count && code == CLI_OK; i++) {
        text.length = 0;
        code = read_text(session, paths[i], &text);
        if (code == CLI_OK)
            code = encode_text(session, tokenizer, &text, e);
    }
    cli_string_clear(&text);
    return code;
}

static int encode(cli_session *session, const fur_tokenizer *tokenizer)
{
    const cli_options *options = session->options;
    encoding e = {{NULL, 0, 0}, 0, 0};
    int code = encode_all(session, tokenizer, &e);
    if (code == CLI_OK && options->output != NULL)
        code = write_npy(session, options->output, &e.list);
    if (code == CLI_OK && options->output == NULL && !options->json) {
        for (int64_t i = 0; i < e.list.count; i++)
            printf(i > 0 ? " %" PRId32 : "%" PRId32, e.list.ids[i]);
        putchar('\n');
    }
    if (code == CLI_OK && options->json) {
        json_t *object = json_object();
        cli_json_int(object, "bytes", e.bytes);
        cli_json_int(object, "tokens", e.list.count);
        cli_json_real(object, "seconds", e.seconds);
        if (options->output == NULL) {
            json_t *ids = json_array();
            for (int64_t i = 0; i < e.list.count; i++)
                (void)json_array_append_new(ids, json_integer(e.list.ids[i]));
            (void)json_object_set_new(object, "ids", ids);
        }
        cli_json_print(stdout, object);
    } else if (code == CLI_OK && options->output != NULL) {
        cli_say(session, "%s: %" PRId64 " tokens of %" PRId64 " bytes, %.2f bytes a token, %.1f MB/s", options->output,
                e.list.count, e.bytes, e.list.count > 0 ? (double)e.bytes / (double)e.list.count : 0.0,
                e.seconds > 0 ? (double)e.bytes / e.seconds / 1e6 : 0.0);
    }
    cli_free(e.list.ids);
    return code;
}

/* ---- decode ------------------------------------------------------------------------------------------------------ */

static int read_npy(const cli_session *session, const char *path, id_list *list)
{
    fur_corpus_settings settings;
    fur_corpus *corpus;
    fur_corpus_settings_defaults(&settings);
    settings.paths = &path;
    settings.path_count = 1;
    fur_status status = fur_corpus_open(session->context, &settings, &corpus);
    if (status != FUR_OK)
        return cli_fail_input(session, status);
    int64_t count = fur_corpus_document_tokens(corpus, 0);
    make_room(list, count);
    status = fur_corpus_read_ids(session->context, corpus, 0, 0, count, list->ids);
    list->count = count;
    fur_corpus_close(corpus);
    return status == FUR_OK ? CLI_OK : cli_fail_input(session, status);
}

/* Of --file, or standard input. */
static int read_numbers(const cli_session *session, id_list *list)
{
    const cli_list *files = &session->options->files;
    const char *path = files->count > 0 ? files->items[0] : "-";
    cli_string text = {NULL, 0, 0};
    int code = read_text(session, path, &text);
    const char *at = text.text != NULL ? text.text : "";
    while (code == CLI_OK && at[strspn(at, " \t\r\n,[]")] != 0) {
        char *end;
        at += strspn(at, " \t\r\n,[]");
        errno = 0;
        long long id = strtoll(at, &end, 10);
        int word = (int)strcspn(at, " \t\r\n,");
        if (end == at || errno != 0 || id < 0 || id > INT32_MAX)
            code = cli_refuse(session, CLI_BAD_INPUT, "%s: \"%.*s\", expected a token id", path, word < 20 ? word : 20,
                              at);
        make_room(list, 1);
        if (code == CLI_OK)
            list->ids[list->count++] = (int32_t)id;
        at = end;
    }
    cli_string_clear(&text);
    return code;
}

static int decode(cli_session *session, const fur_tokenizer *tokenizer)
{
    const cli_options *options = session->options;
    id_list list = {NULL, 0, 0};
    char *text = NULL;
    int64_t bytes = 0;
    int code = options->input != NULL ? read_npy(session, options->input, &list) : read_numbers(session, &list);
    for (int64_t room = 0; code == CLI_OK; room = bytes) {
        text = cli_resize(text, (size_t)room + 1, 1);
        fur_status status = fur_tokenizer_decode(session->context, tokenizer, FUR_TOKENS_SPECIAL, list.ids, list.count,
                                                 text, room, &bytes);
        if (status != FUR_OK)
            code = cli_refuse(session, CLI_BAD_INPUT, "%s", fur_context_error(session->context)); /* an id */
        if (code != CLI_OK || bytes <= room)
            break;
    }
    if (code == CLI_OK && options->output != NULL && !cli_file_write(options->output, text, (size_t)bytes))
        code = cli_refuse(session, CLI_FAILED, "%s: %s", options->output, strerror(errno));
    if (code == CLI_OK && options->json) {
        json_t *object = json_object();
        cli_string valid = {NULL, 0, 0};
        cli_append_utf8(&valid, text, (size_t)bytes);
        cli_json_int(object, "tokens", list.count);
        cli_json_int(object, "bytes", bytes);
        if (options->output == NULL)
            cli_json_text(object, "text", valid.text != NULL ? valid.text : "");
        cli_json_print(stdout, object);
        cli_string_clear(&valid);
    } else if (code == CLI_OK && options->output == NULL) {
        (void)fwrite(text, 1, (size_t)bytes, stdout);
    }
    cli_free(text);
    cli_free(list.ids);
    return code;
}

/* ---- inspect ----------------------------------------------------------------------------------------------------- */

static int inspect(cli_session *session, const fur_tokenizer *tokenizer)
{
    fur_tokenizer_info info = {.struct_size = sizeof info};
    fur_status status = fur_tokenizer_info_read(session->context, tokenizer, &info);
    if (status != FUR_OK)
        return cli_fail(session, status);
    if (session->options->json) {
        json_t *object = json_object();
        cli_json_text(object, "kind", info.kind);
        cli_json_int(object, "vocabulary", info.vocabulary);
        cli_json_int(object, "merges", info.merges);
        cli_json_int(object, "added_tokens", info.added);
        cli_json_int(object, "special_tokens", info.special);
        cli_json_int(object, "bos", info.bos);
        cli_json_int(object, "eos", info.eos);
        cli_json_bool(object, "round_trip", info.round_trip);
        cli_json_bool(object, "chat_template", info.chat_template != NULL);
        cli_json_print(stdout, object);
        return CLI_OK;
    }
    char a[CLI_UNIT], b[CLI_UNIT], c[CLI_UNIT], d[CLI_UNIT];
    printf("%s, %s tokens", info.kind, cli_thousands(a, info.vocabulary));
    if (info.merges > 0)
        printf(", %s merges", cli_thousands(b, info.merges));
    if (info.added > 0)
        printf(", %s of them added (%s special)", cli_thousands(c, info.added), cli_thousands(d, info.special));
    printf("\n%s\n", info.round_trip ? "any bytes come back from their ids" : "not all bytes come back from their ids");
    if (info.bos >= 0)
        printf("first token of a text: %" PRId32 "\n", info.bos);
    if (info.eos >= 0)
        printf("last token of a text: %" PRId32 "\n", info.eos);
    printf("chat template: %s\n", info.chat_template != NULL ? "yes" : "none");
    return CLI_OK;
}

/* ---- train ------------------------------------------------------------------------------------------------------- */

static int train(cli_session *session)
{
    const cli_options *options = session->options;
    if (options->files.count == 0)
        return cli_refuse(session, CLI_USAGE, "--file: expected texts to learn from, such as -f corpus/");
    if (options->output == NULL)
        return cli_refuse(session, CLI_USAGE, "--output: expected the folder to write, such as -o words");
    int code = cli_session_open(session);
    if (code != CLI_OK)
        return code;
    fur_corpus_settings settings;
    fur_tokenizer_trained trained;
    fur_corpus_settings_defaults(&settings);
    settings.paths = options->files.items;
    settings.path_count = options->files.count;
    double start = cli_clock();
    fur_status status =
        fur_tokenizer_train(session->context, &settings, options->vocabulary, options->output, &trained);
    if (status != FUR_OK)
        return cli_fail_input(session, status);
    double seconds = cli_clock() - start;
    if (options->json) {
        json_t *object = json_object();
        cli_json_text(object, "folder", options->output);
        cli_json_int(object, "bytes", trained.bytes);
        cli_json_int(object, "words", trained.words);
        cli_json_int(object, "merges", trained.merges);
        cli_json_int(object, "vocabulary", trained.vocabulary);
        cli_json_real(object, "seconds", seconds);
        cli_json_print(stdout, object);
        return CLI_OK;
    }
    char a[CLI_UNIT], b[CLI_UNIT], c[CLI_UNIT], d[CLI_UNIT];
    printf("%s: %s tokens from %s of text, %s different words, in %s\n", options->output,
           cli_thousands(a, trained.vocabulary), cli_bytes(b, trained.bytes), cli_thousands(c, trained.words),
           cli_seconds(d, seconds));
    if (trained.vocabulary < options->vocabulary)
        cli_say(session, "no pair of tokens is left: fewer than the %s asked for",
                cli_thousands(a, options->vocabulary));
    return CLI_OK;
}

int verb_tokenizer(cli_session *session)
{
    const char *action = session->options->action;
    if (strcmp(action, "train") == 0)
        return train(session);
    fur_tokenizer *tokenizer = NULL;
    int code = open_tokenizer(session, &tokenizer);
    if (code == CLI_OK && strcmp(action, "encode") == 0)
        code = encode(session, tokenizer);
    else if (code == CLI_OK && strcmp(action, "decode") == 0)
        code = decode(session, tokenizer);
    else if (code == CLI_OK)
        code = inspect(session, tokenizer);
    if (tokenizer != NULL)
        fur_tokenizer_close(tokenizer);
    return code;
}
