/* SPDX-License-Identifier: Apache-2.0 */
#include "text/vocabulary.h"

#include <string.h>

#include "base/alloc.h"
#include "io/file.h"

fur_status fur_vocabulary_init(fur_error *error, fur_vocabulary *vocabulary, int64_t count)
{
    *vocabulary = (fur_vocabulary){.count = count, .mask = 1};
    while (vocabulary->mask < 2 * (uint64_t)count)
        vocabulary->mask *= 2;
    vocabulary->mask--;
    vocabulary->first = fur_malloc((size_t)count * sizeof *vocabulary->first);
    vocabulary->length = fur_calloc((size_t)count, sizeof *vocabulary->length);
    vocabulary->slots = fur_malloc((vocabulary->mask + 1) * sizeof *vocabulary->slots);
    if (!vocabulary->first || !vocabulary->length || !vocabulary->slots) {
        fur_vocabulary_clear(vocabulary);
        return fur_memory_error(error, 20 * count, "a vocabulary");
    }
    memset(vocabulary->first, 0xff, (size_t)count * sizeof *vocabulary->first);
    memset(vocabulary->slots, 0xff, (vocabulary->mask + 1) * sizeof *vocabulary->slots);
    return FUR_OK;
}

void fur_vocabulary_clear(fur_vocabulary *vocabulary)
{
    fur_string_clear(&vocabulary->bytes);
    fur_free(vocabulary->first);
    fur_free(vocabulary->length);
    fur_free(vocabulary->slots);
    *vocabulary = (fur_vocabulary){0};
}

const char *fur_vocabulary_text(const fur_vocabulary *vocabulary, int32_t id, int64_t *bytes)
{
    *bytes = 0;
    if (id < 0 || id >= vocabulary->count || vocabulary->first[id] < 0)
        return NULL;
    *bytes = vocabulary->length[id];
    return vocabulary->bytes.data + vocabulary->first[id];
}

/* The slot that holds the text, or the free one where it belongs. */
static uint64_t slot_of(const fur_vocabulary *vocabulary, const char *text, int64_t bytes)
{
    uint64_t slot = fur_text_hash(text, bytes) & vocabulary->mask;
    for (;; slot = (slot + 1) & vocabulary->mask) {
        int32_t id = vocabulary->slots[slot];
        if (id < 0 || (vocabulary->length[id] == bytes &&
                       memcmp(vocabulary->bytes.data + vocabulary->first[id], text, (size_t)bytes) == 0))
            return slot;
    }
}

fur_status fur_vocabulary_set(fur_error *error, fur_vocabulary *vocabulary, int32_t id, const char *text, int64_t bytes,
                              bool indexed)
{
    int64_t first = vocabulary->bytes.length;
    if (bytes > INT32_MAX)
        return fur_error_set(error, FUR_E_FORMAT, "a token of %lld bytes", (long long)bytes);
    FUR_TRY(fur_string_reserve(error, &vocabulary->bytes, bytes + 1));
    FUR_TRY(fur_string_add(error, &vocabulary->bytes, text, bytes));
    vocabulary->first[id] = first;
    vocabulary->length[id] = (int32_t)bytes;
    if (indexed)
        vocabulary->slots[slot_of(vocabulary, text, bytes)] = id;
    return FUR_OK;
}

int32_t fur_vocabulary_find(const fur_vocabulary *vocabulary, const char *text, int64_t bytes)
{
    return vocabulary->slots[slot_of(vocabulary, text, bytes)];
}
