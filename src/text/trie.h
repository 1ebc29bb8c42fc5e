/* SPDX-License-Identifier: Apache-2.0 */
/* Texts by their beginnings: every key that some place in a text starts with, shortest first, in one walk. */
#ifndef FUR_TEXT_TRIE_H
#define FUR_TEXT_TRIE_H

#include <stdint.h>

#include "base/error.h"

typedef struct fur_trie_edge {
    uint64_t key; /* from * 256 + byte, + 1; 0: a free slot */
    int32_t to;
} fur_trie_edge;

typedef struct fur_trie {
    int32_t nodes, most; /* node 0 is the root */
    int32_t *value;      /* [most] -1: no key ends here */
    int32_t root[256];   /* node after one byte, -1: none */
    fur_trie_edge *edges;
    uint64_t mask;
} fur_trie;

/* Room for keys of `bytes` together. */
fur_status fur_trie_init(fur_error *error, fur_trie *trie, int64_t bytes);
void fur_trie_clear(fur_trie *trie);
/* A key of one byte or more; its value is 0 or more, and takes the place of an earlier one. */
void fur_trie_add(fur_trie *trie, const char *text, int64_t bytes, int32_t value);

/* The node after `byte`, -1: none. */
static inline int32_t fur_trie_step(const fur_trie *trie, int32_t node, unsigned char byte)
{
    if (node == 0)
        return trie->root[byte];
    uint64_t key = ((uint64_t)(uint32_t)node << 8 | byte) + 1;
    for (uint64_t slot = key * 0x9e3779b97f4a7c15u >> 20;; slot++) {
        const fur_trie_edge *edge = &trie->edges[slot & trie->mask];
        if (edge->key == key)
            return edge->to;
        if (edge->key == 0)
            return -1;
    }
}

/* The longest key that text starts with: its value and bytes; -1: none. */
int32_t fur_trie_longest(const fur_trie *trie, const char *text, int64_t bytes, int64_t *length);

#endif
