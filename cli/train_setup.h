/* SPDX-License-Identifier: Apache-2.0 */
/* From the options of train to the library's settings: what is not given is chosen here, and printed. */
#ifndef FUR_CLI_TRAIN_SETUP_H
#define FUR_CLI_TRAIN_SETUP_H

#include "session.h"

typedef struct cli_train_setup {
    fur_train_settings settings;
    fur_corpus *corpus, *eval;
    fur_corpus_info info;
    bool bytes;      /* a token is a byte */
    char *tokenizer; /* as fur_tokenizer_open takes it; owned, as are those below; settings points to them */
    char *output_dir;
    char *init_from;
    char *run_json;
} cli_train_setup;

/* Reads the files and fills the settings. Clear it afterwards in any case. */
int cli_train_setup_make(cli_session *session, cli_train_setup *setup);
void cli_train_setup_clear(cli_train_setup *setup);
/* What was chosen, as lines on stderr. */
void cli_train_setup_print(const cli_session *session, const cli_train_setup *setup);

/* {"options": {...}} that repeats the run: those given and those chosen, under their names on the command line. */
char *cli_train_options_json(const cli_session *session, const fur_train_settings *settings, const cli_list *files,
                             const cli_list *eval_files);

/* Defaults that depend on the model or the data, shared with demo. */
double cli_default_lr(const fur_model_config *config);

/* The first of FOLDER, FOLDER-2, ... (or BASE-1, BASE-2, ... with `numbered`) that does not exist. */
char *cli_free_folder(const char *base, bool numbered);

#endif
