/* SPDX-License-Identifier: Apache-2.0 */
/* Unigram: of all ways to spell a text by tokens the one with the highest sum of scores (Viterbi). */
#ifndef FUR_TEXT_UNIGRAM_H
#define FUR_TEXT_UNIGRAM_H

#include <stdbool.h>

#include "text/trie.h"
#include "text/vocabulary.h"

typedef struct fur_unigram {
    const fur_vocabulary *vocabulary;
    double *score; /* [vocabulary->count] */
    double lowest;
    bool byte_fallback;
    int32_t unknown;       /* id, -1: a text that cannot be spelt is refused */
    int32_t byte_ids[256]; /* -1: none */
    fur_trie trie;
    struct fur_unigram_place *places; /* [capacity] of one encoding at a time */
    int64_t capacity;
    fur_spans spans;
} fur_unigram;

/* After the vocabulary is complete and the other members are set; takes `score`. */
fur_status fur_unigram_finish(fur_error *error, fur_unigram *unigram);
void fur_unigram_clear(fur_unigram *unigram);
/* Appends the tokens of text made whole (text/utf8.h). */
fur_status fur_unigram_encode(fur_error *error, fur_unigram *unigram, const char *text, int64_t bytes, fur_ids *out);

#endif
