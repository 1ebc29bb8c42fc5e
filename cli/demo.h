/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of furlong demo: its text, its recipe, and the long step in a process of its own. */
#ifndef FUR_CLI_DEMO_H
#define FUR_CLI_DEMO_H

#include "live.h"
#include "report.h"
#include "session.h"

/* ---- text (demo_text.c) ------------------------------------------------------------------------------------- */

#define DEMO_PROMPTS      2
#define DEMO_PROMPT_BYTES 64

typedef struct demo_text {
    char *bytes;          /* all documents, a newline between them */
    int64_t total, train; /* bytes; the rest is held out */
    char *train_path, *held_out_path;
    char prompts[DEMO_PROMPTS][DEMO_PROMPT_BYTES];
} demo_text;

/* Reads the corpus, writes train.txt and held-out.txt into `folder`, and finds prompts that fit the text. */
int demo_text_make(const cli_session *session, const fur_corpus *corpus, const char *folder, demo_text *text);
void demo_text_clear(demo_text *text);
/* Frees the bytes; lengths, paths and prompts stay. */
void demo_text_drop(demo_text *text);
/* The prompts: phrases of well-known books that this text has, else beginnings of its own lines. */
void demo_prompts_choose(const char *bytes, int64_t count, char prompts[DEMO_PROMPTS][DEMO_PROMPT_BYTES]);
/* Text as one word of a shell command, quoted only where it must be. */
void demo_append_shell(cli_string *out, const char *text);

/* ---- the long step (demo_step.c) ---------------------------------------------------------------------------- */

typedef struct demo_step_request {
    const char *checkpoint, *text_path, *folder; /* folder: for what the step writes */
    int64_t tokens, memory_bytes;
    double expected_seconds; /* for the moving line */
} demo_step_request;

/* Runs one optimizer step in a child that limits its own memory; fills *step from what it reports and *trace from what
 * the system says about it meanwhile. Returns an exit code. */
int demo_step_run(cli_session *session, cli_live *live, const demo_step_request *request, cli_long_step *step,
                  cli_trace *trace);

#endif
