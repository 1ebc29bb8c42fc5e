/* SPDX-License-Identifier: Apache-2.0 */
#include "io/hash.h"

#include <stddef.h>
#include <string.h>

/* Inlined from the header: its state then has one layout, ours, whatever library version is installed. */
#define XXH_INLINE_ALL
#include <xxhash.h>

/* The state wants 64-byte alignment, which an allocator does not promise: it lives at the first such place. */
static XXH3_state_t *state_of(fur_hash *hash)
{
    _Static_assert(sizeof hash->storage >= sizeof(XXH3_state_t) + 63, "fur_hash too small for the XXH3 state");
    size_t past = (uintptr_t)hash->storage % 64;
    return (XXH3_state_t *)(void *)(hash->storage + (past ? 64 - past : 0));
}

void fur_hash_begin(fur_hash *hash)
{
    XXH3_state_t *state = state_of(hash);
    memset(state, 0, sizeof *state); /* XXH3_64bits_reset leaves padding as it was */
    XXH3_64bits_reset(state);
}

void fur_hash_update(fur_hash *hash, const void *data, int64_t bytes)
{
    if (bytes > 0)
        XXH3_64bits_update(state_of(hash), data, (size_t)bytes);
}

uint64_t fur_hash_end(fur_hash *hash)
{
    return XXH3_64bits_digest(state_of(hash));
}

uint64_t fur_hash_bytes(const void *data, int64_t bytes)
{
    return XXH3_64bits(data, (size_t)bytes);
}
