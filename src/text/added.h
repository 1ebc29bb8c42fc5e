/* SPDX-License-Identifier: Apache-2.0 */
/* Tokens that are found in a text before anything else happens to it ("added_tokens"), special ones among them. */
#ifndef FUR_TEXT_ADDED_H
#define FUR_TEXT_ADDED_H

#include <stdbool.h>

#include "text/normalizer.h"
#include "text/trie.h"
#include "text/vocabulary.h"

typedef struct fur_added_token {
    char *content; /* [bytes], as written in the file */
    int64_t bytes;
    int32_t id;
    bool single_word; /* only where no word character is beside it */
    bool takes_left;  /* white space before it is part of it ("lstrip") */
    bool takes_right; /* and after it ("rstrip") */
    bool normalized;  /* found in the normalised text, itself normalised */
    bool special;
} fur_added_token;

typedef struct fur_added {
    fur_added_token *tokens;
    int64_t count, most;
    fur_vocabulary contents;         /* by index */
    fur_trie as_is, normal;          /* of indices of tokens */
    int64_t longest, longest_normal; /* bytes */
    bool any_as_is, any_normal, any_single_word;
} fur_added;

/* Room for `most` tokens, 0 to FUR_VOCABULARY_MOST. */
fur_status fur_added_init(fur_error *error, fur_added *added, int64_t most);
/* Copies the content, which is new. */
fur_status fur_added_add(fur_error *error, fur_added *added, const fur_added_token *token);
/* When all are there. */
fur_status fur_added_finish(fur_error *error, fur_added *added, fur_normalizer *normalizer);
void fur_added_clear(fur_added *added);

/* NULL: not there. */
const fur_added_token *fur_added_find(const fur_added *added, const char *content, int64_t bytes);

/* Appends the tokens found in text first..end-1, and what lies between them with id -1. specials: special ones too. */
fur_status fur_added_split(fur_error *error, const fur_added *added, bool normal, bool specials, const char *text,
                           int64_t first, int64_t end, fur_spans *out);

#endif
