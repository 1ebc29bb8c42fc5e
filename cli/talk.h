/* SPDX-License-Identifier: Apache-2.0 */
/* What generate and chat share: a model with its tokenizer and a generator, tokens that become text as they come, and
 * where they end. */
#ifndef FUR_CLI_TALK_H
#define FUR_CLI_TALK_H

#include "session.h"
#include "stop.h"

typedef struct cli_talk {
    cli_session *session;
    fur_model *model;
    fur_tokenizer *tokenizer;
    fur_generator *generator;
    fur_sampling sampling;
    int64_t room;       /* tokens that the generator holds */
    int32_t end;        /* the tokenizer's end of text, -1: none */
    cli_string text;    /* what the last answer was */
    int64_t count;      /* its tokens */
    double first, last; /* clock at the first and the last of them */
    bool ended;         /* by a token or text that says so */
} cli_talk;

/* Opens session, model and tokenizer of the options. Close it in any case. */
int cli_talk_open(cli_session *session, cli_talk *talk);
void cli_talk_close(cli_talk *talk);
/* Memory for so many tokens in all, or, where these do not fit, half of them and so on, but at least `least`. */
int cli_talk_reserve(cli_talk *talk, int64_t tokens, int64_t least);
/* Appends a file's bytes; "-": those of standard input. */
int cli_talk_read(const cli_session *session, const char *path, cli_string *out);
/* Up to `count` tokens after those that were fed, the last of which may be left unfed; shown on stdout as they come,
 * unless --json asks for one object. */
int cli_talk_answer(cli_talk *talk, int64_t count);

#endif
