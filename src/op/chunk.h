/* SPDX-License-Identifier: Apache-2.0 */
/* How operators cut their work. Chunks of a reduction depend on the problem alone, never on the threads, and are summed
 * in order: that is what makes results the same bits for any thread count. */
#ifndef FUR_OP_CHUNK_H
#define FUR_OP_CHUNK_H

#include "base/size.h"

/* Elements of an elementwise operator that one thread takes at a time: 32 KB, so that a split costs nothing beside the
 * memory traffic. Elementwise results do not depend on it. */
#define FUR_GRAIN 8192

typedef struct fur_chunks {
    int64_t size;  /* items per chunk; the last may be shorter */
    int64_t count; /* chunks; 0 when there are no items */
} fur_chunks;

/* Chunks of at least `least` items, at most `most` of them. */
static inline fur_chunks fur_chunks_of(int64_t items, int64_t least, int64_t most)
{
    int64_t size = fur_max_i64(least, fur_div_up(items, most));
    return (fur_chunks){.size = size, .count = fur_div_up(items, size)};
}

/* No fewer than the count of fur_chunks_of for any number of items up to this, which itself is not monotonic: 2,048
 * items make 64 chunks of 32, 2,049 make 63 of 33. Workspaces are of this size. */
static inline int64_t fur_chunks_most(int64_t items, int64_t least, int64_t most)
{
    return fur_min_i64(most, fur_div_up(items, least));
}

/* Items of chunk `index`. */
static inline int64_t fur_chunk_items(fur_chunks chunks, int64_t index, int64_t items)
{
    return fur_min_i64(chunks.size, items - index * chunks.size);
}

/* Rows per split of a rowwise operator whose rows do not depend on each other. */
static inline fur_chunks fur_chunks_of_rows(int64_t rows, int64_t width)
{
    int64_t size = fur_max_i64(1, FUR_GRAIN / fur_max_i64(1, width));
    return (fur_chunks){.size = size, .count = fur_div_up(rows, size)};
}

#endif
