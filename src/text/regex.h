/* SPDX-License-Identifier: Apache-2.0 */
/* Patterns of tokenizer files, run by PCRE2: texts to be found as they are, or regular expressions in the syntax of
 * Oniguruma, which the files are written for. What the two engines read differently is translated (white space, word
 * characters, hexadecimal digits, scripts, \u, \v) or refused by name; docs/TOKENIZERS.md lists it.
 *
 * PCRE2 allocates through base/alloc.h, except the pages its compiler puts machine code in. A match is given up after
 * a fixed number of steps, so that no expression of a file can hang the program. */
#ifndef FUR_TEXT_REGEX_H
#define FUR_TEXT_REGEX_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

typedef struct fur_regex fur_regex;

/* `where` names the file and key for errors. literal: the pattern is a text. */
fur_status fur_regex_compile(fur_error *error, const char *where, const char *pattern, int64_t bytes, bool literal,
                             fur_regex **out);
void fur_regex_destroy(fur_regex *regex);

/* Whether a match depends on nothing before the place where it may start: then a text may be cut there. */
bool fur_regex_looks_ahead_only(const fur_regex *regex);
/* Bytes of the text it finds; 0: an expression. */
int64_t fur_regex_literal_bytes(const fur_regex *regex);
/* Whether it finds one certain character. */
bool fur_regex_is_character(const fur_regex *regex);

typedef enum fur_regex_found {
    FUR_REGEX_NONE,
    FUR_REGEX_MATCH,
    FUR_REGEX_UNSURE /* what comes after the text may change the answer; only with `more` */
} fur_regex_found;

/* The first match at or after `from` in text made whole (text/utf8.h). more: the text goes on beyond its end, and what
 * depends on that is FUR_REGEX_UNSURE. Not to be called from two threads at once. */
fur_status fur_regex_find(fur_error *error, const fur_regex *regex, const char *text, int64_t bytes, int64_t from,
                          bool more, fur_regex_found *found, int64_t *first, int64_t *end);

#endif
