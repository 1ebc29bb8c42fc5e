/* SPDX-License-Identifier: Apache-2.0 */
/* One allocation, given out as a stack.
 *
 *      base                                            capacity
 *      | params | gradients | ... | store | workspace ->     |
 *                                          ^ used    ^ peak
 *
 * A counting arena (base NULL) gives out nothing but counts alike: the plan runs the layout code on one, the run on a
 * real one, so the two cannot disagree. Every piece is rounded up to FUR_ARENA_ALIGN bytes. */
#ifndef FUR_BASE_ARENA_H
#define FUR_BASE_ARENA_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define FUR_ARENA_ALIGN 64

typedef struct fur_arena {
    unsigned char *base; /* NULL: counting only */
    int64_t capacity;    /* bytes; INT64_MAX when counting */
    int64_t used;        /* bytes given out now */
    int64_t peak;        /* highest `used` so far */
    int failed;          /* a push did not fit; stays set until cleared */
} fur_arena;

/* Maps `bytes` of pages. */
fur_status fur_arena_create(fur_error *error, int64_t bytes, fur_arena *out);
void fur_arena_destroy(fur_arena *arena);
fur_arena fur_arena_counting(void);

/* Bytes at FUR_ARENA_ALIGN, contents undefined. NULL when counting, or when it does not fit (then failed is set):
 * callers push all they need and check `failed` once. */
void *fur_arena_push(fur_arena *arena, int64_t bytes);
static inline float *fur_arena_push_f32(fur_arena *arena, int64_t count)
{
    return (float *)fur_arena_push(arena, count * (int64_t)sizeof(float));
}

/* Everything pushed after a mark is given back by releasing to it. */
static inline int64_t fur_arena_mark(const fur_arena *arena)
{
    return arena->used;
}
void fur_arena_release(fur_arena *arena, int64_t mark);

#endif
