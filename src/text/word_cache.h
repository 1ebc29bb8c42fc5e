/* SPDX-License-Identifier: Apache-2.0 */
/* The tokens of words seen before: most words of a text are. */
#ifndef FUR_TEXT_WORD_CACHE_H
#define FUR_TEXT_WORD_CACHE_H

#include <stdbool.h>

#include "text/buffer.h"

#define FUR_WORD_BYTES 44 /* longer words, or words of more tokens, are not kept */
#define FUR_WORD_IDS   18

typedef struct fur_word {
    uint8_t bytes, count; /* bytes 0: a free slot */
    char text[FUR_WORD_BYTES];
    int32_t ids[FUR_WORD_IDS];
} fur_word;

typedef struct fur_word_cache {
    fur_word *words; /* two for each hash, the newer first */
} fur_word_cache;

fur_status fur_word_cache_init(fur_error *error, fur_word_cache *cache);
void fur_word_cache_clear(fur_word_cache *cache);
/* Its word, NULL: not there. */
const fur_word *fur_word_cache_find(fur_word_cache *cache, const char *text, int64_t bytes);
void fur_word_cache_keep(fur_word_cache *cache, const char *text, int64_t bytes, const int32_t *ids, int64_t count);

#endif
