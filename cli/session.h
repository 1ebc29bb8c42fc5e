/* SPDX-License-Identifier: Apache-2.0 */
/* What every verb that uses the library needs: a context made from the options, its log on stderr, exit codes from
 * statuses, signals, and the opening of texts and models by the names people type. */
#ifndef FUR_CLI_SESSION_H
#define FUR_CLI_SESSION_H

#include "options.h"
#include "text.h"

typedef enum cli_exit {
    CLI_OK = 0,
    CLI_FAILED = 1,
    CLI_USAGE = 2,
    CLI_BAD_INPUT = 3,
    CLI_DOES_NOT_FIT = 4,
    CLI_NOT_FINITE = 5,
    CLI_NOT_CONVERGED = 6
} cli_exit;

typedef struct cli_session {
    const char *program; /* as it was typed: argv[0] */
    cli_options *options;
    fur_context *context; /* NULL until cli_session_open */
    cli_style out, err;
    void (*before_line)(void *user); /* called before a line goes to stderr: clears a moving line */
    void *before_user;
} cli_session;

/* Prints "furlong VERB: text" to stderr and returns `code`. */
int cli_refuse(const cli_session *session, int code, const char *format, ...) CLI_PRINTF(3, 4);
/* The same with the context's error text; the code follows from the status. */
int cli_fail(const cli_session *session, fur_status status);
/* While an input is being read, a refusal of the operating system means a bad input: code 3, not 1. */
int cli_fail_input(const cli_session *session, fur_status status);
/* What does not fit the model or the context is in the data: code 3, and the text begins with the file's name. */
int cli_fail_data(const cli_session *session, fur_status status);
int cli_exit_code(fur_status status, bool reading_input);

/* Progress on stderr; nothing where `session` was opened quiet (--json does not silence it: stdout has the data). */
void cli_say(const cli_session *session, const char *format, ...) CLI_PRINTF(2, 3);

int cli_session_open(cli_session *session);
void cli_session_close(cli_session *session);

/* --keep */
fur_keep cli_keep_of(const cli_options *options);

/* --memory, or its default; *chosen tells which where not NULL. */
int cli_memory_limit(const cli_session *session, int64_t *bytes, bool *chosen);

/* --disk, --disk-dir, --store and --store-dtype: the limit on what a step puts on disk (by default 80 % of what is free
 * there), the folder (by default `folder`, of which the nearest part that exists is asked) and what must be there. */
typedef struct cli_disk {
    int64_t bytes;
    const char *folder;
    fur_store_place inputs, attention, optimizer, keys;
    fur_stored_type stored;
} cli_disk;
int cli_disk_limit(const cli_session *session, const char *folder, cli_disk *out);

/* Folder that holds the model meant by `name`: itself, or the latest checkpoint of a run. NULL with one line said. */
char *cli_model_folder(const cli_session *session, const char *name);

/* Ends with code 4 where the weights alone, as f32 or, of a model that is only used, as they are held, are more than
 * the memory limit: before they are read. */
int cli_weights_fit(const cli_session *session, const char *model, bool used);
/* Opens the session and the model of --model, which must be given, and runs on it. */
int cli_with_model(cli_session *session, int (*run)(cli_session *session, fur_model *model));
/* The same where nothing of the model changes, so that weights stay as their file has them. */
int cli_with_used_model(cli_session *session, int (*run)(cli_session *session, fur_model *model));

/* What --tokenizer names, else the folder of --model where that holds a tokenizer, else "bytes". The caller frees it;
 * NULL with one line said where the model's folder is none. */
char *cli_tokenizer_name(const cli_session *session);

/* Tokens of the tokenizer of that name. */
int cli_tokenizer_vocabulary(const cli_session *session, const char *name, int64_t *vocabulary);

/* Corpus of --file (or another list). vocabulary 0: the tokenizer's own. */
int cli_corpus_open(const cli_session *session, const cli_list *files, int64_t vocabulary, fur_corpus **corpus);

int64_t cli_almost_linear_layers(const fur_model_config *config);
bool cli_has_tables(const fur_model_config *config);
/* The model's shape: config.json of --model, or the preset (`preset` where none is given), with --attention and
 * --projection. `longest` > 0 is the longest document wanted; bytes: the vocabulary becomes that of bytes. */
int cli_config_open(const cli_session *session, const char *preset, int64_t longest, bool bytes,
                    fur_model_config *config);

/* ---- signals (signals.c) ------------------------------------------------------------------------------------ */

/* SIGINT and SIGTERM ask the context to stop at its next safe point; a second one ends the program at once. A closed
 * pipe ends it with code 1 instead of the signal. */
void cli_signals_install(fur_context *context);
void cli_signals_remove(void);
/* 130 or 143 after a signal, else 0. */
int cli_signal_code(void);

#endif
