/* SPDX-License-Identifier: Apache-2.0 */
#include "base/arena.h"

#include <string.h>

#include "base/alloc.h"
#include "base/size.h"

fur_status fur_arena_create(fur_error *error, int64_t bytes, fur_arena *out)
{
    memset(out, 0, sizeof *out);
    if (bytes < 0)
        return fur_error_set(error, FUR_E_INTERNAL, "arena of %lld bytes", (long long)bytes);
    out->base = fur_pages_map((size_t)bytes);
    if (!out->base)
        return fur_error_set(error, FUR_E_MEMORY, "out of memory: the system refused %lld bytes for the run's arena",
                             (long long)bytes);
    out->capacity = bytes;
    return FUR_OK;
}

void fur_arena_destroy(fur_arena *arena)
{
    if (arena->base)
        fur_pages_unmap(arena->base, (size_t)arena->capacity);
    memset(arena, 0, sizeof *arena);
}

fur_arena fur_arena_counting(void)
{
    fur_arena arena = {.capacity = INT64_MAX};
    return arena;
}

void *fur_arena_push(fur_arena *arena, int64_t bytes)
{
    if (bytes < 0 || bytes > INT64_MAX - FUR_ARENA_ALIGN ||
        fur_round_up(bytes, FUR_ARENA_ALIGN) > arena->capacity - arena->used) {
        arena->failed = 1;
        return NULL;
    }
    unsigned char *piece = arena->base ? arena->base + arena->used : NULL;
    arena->used += fur_round_up(bytes, FUR_ARENA_ALIGN);
    arena->peak = fur_max_i64(arena->peak, arena->used);
    return piece;
}

void fur_arena_release(fur_arena *arena, int64_t mark)
{
    arena->used = mark;
}
