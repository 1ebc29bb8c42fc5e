/* SPDX-License-Identifier: Apache-2.0 */
#include "text/trie.h"

#include <string.h>

#include "base/alloc.h"
#include "io/file.h"

fur_status fur_trie_init(fur_error *error, fur_trie *trie, int64_t bytes)
{
    const int64_t limit = INT32_MAX / 2;
    memset(trie, 0, sizeof *trie);
    memset(trie->root, 0xff, sizeof trie->root);
    if (bytes >= limit)
        return fur_error_set(error, FUR_E_FORMAT, "tokens of %lld bytes, expected fewer than %lld", (long long)bytes,
                             (long long)limit);
    trie->most = (int32_t)bytes + 1;
    trie->nodes = 1;
    trie->mask = 1;
    while (trie->mask < 2 * (uint64_t)trie->most)
        trie->mask *= 2;
    trie->mask--;
    trie->value = fur_malloc((size_t)trie->most * sizeof *trie->value);
    trie->edges = fur_calloc((size_t)trie->mask + 1, sizeof *trie->edges);
    if (!trie->value || !trie->edges) {
        fur_trie_clear(trie);
        return fur_memory_error(error, (int64_t)((trie->mask + 1) * sizeof *trie->edges), "a vocabulary");
    }
    memset(trie->value, 0xff, (size_t)trie->most * sizeof *trie->value);
    return FUR_OK;
}

void fur_trie_clear(fur_trie *trie)
{
    fur_free(trie->value);
    fur_free(trie->edges);
    trie->value = NULL;
    trie->edges = NULL;
}

void fur_trie_add(fur_trie *trie, const char *text, int64_t bytes, int32_t value)
{
    int32_t node = 0;
    for (int64_t i = 0; i < bytes; i++) {
        unsigned char byte = (unsigned char)text[i];
        int32_t next = fur_trie_step(trie, node, byte);
        if (next < 0) {
            next = trie->nodes++;
            if (node == 0) {
                trie->root[byte] = next;
            } else {
                uint64_t key = ((uint64_t)(uint32_t)node << 8 | byte) + 1;
                uint64_t slot = key * 0x9e3779b97f4a7c15u >> 20;
                while (trie->edges[slot & trie->mask].key)
                    slot++;
                trie->edges[slot & trie->mask] = (fur_trie_edge){.key = key, .to = next};
            }
        }
        node = next;
    }
    trie->value[node] = value;
}

int32_t fur_trie_longest(const fur_trie *trie, const char *text, int64_t bytes, int64_t *length)
{
    int32_t node = 0, best = -1;
    *length = 0;
    for (int64_t i = 0; i < bytes; i++) {
        node = fur_trie_step(trie, node, (unsigned char)text[i]);
        if (node < 0)
            break;
        if (trie->value[node] >= 0) {
            best = trie->value[node];
            *length = i + 1;
        }
    }
    return best;
}
