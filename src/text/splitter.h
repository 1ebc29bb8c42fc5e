/* SPDX-License-Identifier: Apache-2.0 */
/* How a text is cut into the pieces that are encoded one by one: the "pre_tokenizer" of tokenizer.json, as stages that
 * cut, or change the text of the pieces before them.
 *
 * A text may come in windows. Then the last piece of a window is open: what follows may make it longer, or cut it
 * elsewhere. Stages pass it on as open while that is all that can happen, and leave it out where it is not. */
#ifndef FUR_TEXT_SPLITTER_H
#define FUR_TEXT_SPLITTER_H

#include "text/bpe.h"
#include "text/regex.h"

typedef enum fur_split_behavior {
    FUR_SPLIT_ISOLATED, /* what is found is a piece, and what is between */
    FUR_SPLIT_REMOVED,
    FUR_SPLIT_CONTIGUOUS, /* finds that follow each other are one piece */
    FUR_SPLIT_MERGED_WITH_PREVIOUS,
    FUR_SPLIT_MERGED_WITH_NEXT
} fur_split_behavior;

typedef enum fur_stage_kind {
    FUR_STAGE_PATTERN,   /* finds of a pattern; invert: all but them */
    FUR_STAGE_CLASS,     /* single characters of a class */
    FUR_STAGE_WORDS,     /* runs of word characters, and of what is neither that nor space */
    FUR_STAGE_JOINTS,    /* where the merges allow it (text/bpe.h) */
    FUR_STAGE_PREFIX,    /* changes: `content` in front of a piece that does not begin with it */
    FUR_STAGE_METASPACE, /* changes: `content` for each space, and in front as `scheme` says */
} fur_stage_kind;

typedef enum fur_prepend_scheme { FUR_PREPEND_ALWAYS, FUR_PREPEND_FIRST, FUR_PREPEND_NEVER } fur_prepend_scheme;

typedef struct fur_stage {
    fur_stage_kind kind;
    fur_regex *pattern;
    bool (*is_member)(int32_t code); /* of FUR_STAGE_CLASS */
    fur_split_behavior behavior;
    bool invert;
    fur_prepend_scheme scheme;
    char content[5];
} fur_stage;

typedef struct fur_splitter {
    fur_stage *stages;
    int64_t count;
    const fur_bpe *bpe; /* of FUR_STAGE_JOINTS */
    /* of one text at a time */
    fur_spans next;
    fur_string changed;
} fur_splitter;

/* Takes the pattern, also when it fails. */
fur_status fur_splitter_add(fur_error *error, fur_splitter *splitter, fur_stage stage);
void fur_splitter_clear(fur_splitter *splitter);
/* Whether windows can have the pieces of the whole. */
bool fur_splitter_may_cut(const fur_splitter *splitter);

typedef struct fur_split_window {
    bool begins;    /* the first piece does, if it is not a token: nothing of it came before */
    bool first;     /* and nothing at all came before */
    bool more;      /* the text goes on */
    int64_t *marks; /* [mark_count] rising places of the text, kept up as it changes */
    int64_t mark_count;
    bool open; /* result: the last piece is open */
} fur_split_window;

/* Cuts the pieces of `text` (id -1; others are tokens and stay) further; both are changed in place. */
fur_status fur_splitter_run(fur_error *error, fur_splitter *splitter, fur_string *text, fur_spans *pieces,
                            fur_split_window *window);

#endif
