/* SPDX-License-Identifier: Apache-2.0 */
#include "text/word_cache.h"

#include <string.h>

#include "base/alloc.h"
#include "io/file.h"
#include "text/vocabulary.h"

#define SETS 16384 /* of two words, 2 MB together */

fur_status fur_word_cache_init(fur_error *error, fur_word_cache *cache)
{
    cache->words = fur_calloc((size_t)2 * SETS, sizeof *cache->words);
    return cache->words
               ? FUR_OK
               : fur_memory_error(error, (int64_t)((size_t)2 * SETS * sizeof *cache->words), "a cache of words");
}

void fur_word_cache_clear(fur_word_cache *cache)
{
    fur_free(cache->words);
    cache->words = NULL;
}

static fur_word *set_of(fur_word_cache *cache, const char *text, int64_t bytes)
{
    return cache->words + 2 * (fur_text_hash(text, bytes) % SETS);
}

static bool is_word(const fur_word *word, const char *text, int64_t bytes)
{
    return word->bytes == bytes && memcmp(word->text, text, (size_t)bytes) == 0;
}

const fur_word *fur_word_cache_find(fur_word_cache *cache, const char *text, int64_t bytes)
{
    if (bytes > FUR_WORD_BYTES)
        return NULL;
    fur_word *set = set_of(cache, text, bytes);
    if (is_word(&set[0], text, bytes))
        return &set[0];
    return is_word(&set[1], text, bytes) ? &set[1] : NULL;
}

void fur_word_cache_keep(fur_word_cache *cache, const char *text, int64_t bytes, const int32_t *ids, int64_t count)
{
    if (bytes > FUR_WORD_BYTES || count > FUR_WORD_IDS)
        return;
    fur_word *set = set_of(cache, text, bytes);
    set[1] = set[0];
    set[0].bytes = (uint8_t)bytes;
    set[0].count = (uint8_t)count;
    memcpy(set[0].text, text, (size_t)bytes);
    memcpy(set[0].ids, ids, (size_t)count * sizeof *ids);
}
