/* SPDX-License-Identifier: Apache-2.0 */
/* What is done to a text before it is cut: the "normalizer" of tokenizer.json. */
#ifndef FUR_TEXT_NORMALIZER_H
#define FUR_TEXT_NORMALIZER_H

#include "text/buffer.h"
#include "text/regex.h"

typedef enum fur_normal_form { FUR_NFC, FUR_NFD, FUR_NFKC, FUR_NFKD } fur_normal_form;

typedef enum fur_normal_kind {
    FUR_NORMAL_FORM,
    FUR_NORMAL_LOWERCASE,
    FUR_NORMAL_REPLACE,
    FUR_NORMAL_PREPEND,
    FUR_NORMAL_STRIP
} fur_normal_kind;

typedef struct fur_normal_step {
    fur_normal_kind kind;
    fur_normal_form form;
    fur_regex *pattern; /* of FUR_NORMAL_REPLACE */
    fur_string content; /* of FUR_NORMAL_REPLACE and FUR_NORMAL_PREPEND */
    bool left, right;   /* of FUR_NORMAL_STRIP */
} fur_normal_step;

typedef struct fur_normalizer {
    fur_normal_step *steps;
    int64_t count;
    fur_string spare; /* of one text at a time */
} fur_normalizer;

/* Takes what the step holds, also when it fails. */
fur_status fur_normalizer_add(fur_error *error, fur_normalizer *normalizer, fur_normal_step step);
void fur_normalizer_clear(fur_normalizer *normalizer);

/* Whether a text may be normalised in parts that begin at characters which fur_normalizer_may_cut_before allows. */
bool fur_normalizer_may_cut(const fur_normalizer *normalizer);
bool fur_normalizer_may_cut_before(const fur_normalizer *normalizer, int32_t code);

/* Appends the normalised text. begins: nothing of the same text came before. */
fur_status fur_normalizer_run(fur_error *error, fur_normalizer *normalizer, const char *text, int64_t bytes,
                              bool begins, fur_string *out);

/* Lower case of one character: writes 1 or 2 code points, returns how many. */
int fur_lowercase(int32_t code, int32_t out[2]);

#endif
