/* SPDX-License-Identifier: Apache-2.0 */
/* Tokens by id and ids by token. An id may stand for nothing (a gap). */
#ifndef FUR_TEXT_VOCABULARY_H
#define FUR_TEXT_VOCABULARY_H

#include <stdbool.h>

#include "text/buffer.h"

#define FUR_VOCABULARY_MOST 4000000 /* ids: 15 times the largest vocabularies of 2026 */

typedef struct fur_vocabulary {
    int64_t count;    /* ids are below it */
    fur_string bytes; /* of all tokens */
    int64_t *first;   /* [count] where a token begins in it, -1: a gap */
    int32_t *length;  /* [count] */
    int32_t *slots;   /* [mask + 1] ids by hash, -1: free */
    uint64_t mask;
} fur_vocabulary;

/* Room for ids below `count`, which is 1 to FUR_VOCABULARY_MOST. */
fur_status fur_vocabulary_init(fur_error *error, fur_vocabulary *vocabulary, int64_t count);
void fur_vocabulary_clear(fur_vocabulary *vocabulary);
/* A token for an id that is a gap. indexed: it is to be found by its text, which no other indexed token has. */
fur_status fur_vocabulary_set(fur_error *error, fur_vocabulary *vocabulary, int32_t id, const char *text, int64_t bytes,
                              bool indexed);
/* -1: not there. */
int32_t fur_vocabulary_find(const fur_vocabulary *vocabulary, const char *text, int64_t bytes);
/* The token's text, NULL for a gap. */
const char *fur_vocabulary_text(const fur_vocabulary *vocabulary, int32_t id, int64_t *bytes);

/* A hash of a few bytes, for tables that live only in memory. */
static inline uint64_t fur_text_hash(const char *text, int64_t bytes)
{
    uint64_t hash = 0x9e3779b97f4a7c15u ^ (uint64_t)bytes;
    for (int64_t i = 0; i < bytes; i++)
        hash = (hash ^ (unsigned char)text[i]) * 0x100000001b3u;
    hash ^= hash >> 32;
    hash *= 0xd6e8feb86659fd93u;
    return hash ^ hash >> 32;
}

#endif
