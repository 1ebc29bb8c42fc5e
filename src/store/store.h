/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of every layer that wait between the forward and the backward sweep: layer inputs, attention outputs, row
 * statistics; and of one layer, what waits while other heads are in work. One array [L, T, W], and where it is:
 *
 *   MEMORY   in the arena
 *   AGAIN    in the arena, but of every segment's first layer only; the inputs of one segment's other layers at a
 *            time are computed again when backward reaches it (and stand there from forward for the last one):
 *
 *            | first layer of segment 0, 1, ... G-1 | layers 1 .. S-1 of the segment in work |
 *
 *   DISK     in a spill; two blocks of rows at a time are in memory, in slots: one in use, one on its way
 *
 * A block is the rows `first .. first+count-1` of a superblock; on disk, blocks are read as they were written. Where
 * the rows are changes no bit of them. What they are stored as may (store/encode.h): then put and get are the only ways
 * in and out.
 *
 * The columns of a store may be in `parts` (f32 only): a block then holds the rows of each group of columns one after
 * the other, so that one part of it is a piece by itself, which is read and written alone; put and get_rows take blocks
 * apart and together. */
#ifndef FUR_STORE_STORE_H
#define FUR_STORE_STORE_H

#include <stdbool.h>

#include "base/exec.h"
#include "base/size.h"
#include "furlong/plan.h"
#include "store/spill.h"

#define FUR_STORE_SLOTS 2

typedef struct fur_store_slot {
    unsigned char *rows;
    int64_t layer, first, part; /* whose rows; layer -1: nobody's; part -1: whole blocks */
    int64_t ticket;             /* of the request that fills or empties it, 0: none */
} fur_store_slot;

typedef struct fur_store {
    fur_store_place place;
    fur_stored_type type;
    int64_t layers, tokens, width;
    int64_t row_bytes;   /* of a stored row */
    int64_t segment;     /* S, layers of a segment; 1: every layer's rows are kept */
    int64_t parts;       /* of a block; 1: it is whole */
    unsigned char *rows; /* in the arena; NULL on disk */
    float *decoded;      /* a block as f32, where it is stored as something else */
    int64_t offset;      /* on disk: where the store begins in the spill */
    fur_spill *spill;    /* on disk, once attached; not owned */
    fur_store_slot slots[FUR_STORE_SLOTS];
    int recent; /* slot used last: the caller may still read it */
} fur_store;

/* What a store is to hold. */
typedef struct fur_store_shape {
    fur_store_place place;
    fur_stored_type type;
    int64_t layers, tokens, width;
    int64_t block;   /* most rows at once */
    int64_t segment; /* layers of a segment with AGAIN (then type is f32), otherwise 1 */
    int64_t parts;   /* groups of columns that blocks are taken apart in; 0 or 1: none (else type is f32) */
} fur_store_shape;

/* Lays the store out on the arena (counting or real); on disk `*disk_bytes` rises by what it takes there. */
void fur_store_reserve(fur_arena *arena, const fur_store_shape *shape, int64_t *disk_bytes, fur_store *out);
/* Whether forward's rows of this layer stay (with segments: those of the first layers, and of the last segment). */
bool fur_store_keeps(const fur_store *store, int64_t layer);
/* Layers whose inputs a store of segments of `segment` layers holds at once, and those that a backward sweep computes
 * again; with segments of 1: all, none. */
static inline int64_t fur_store_layers_held(int64_t layers, int64_t segment)
{
    return fur_div_up(layers, segment) + segment - 1;
}
static inline int64_t fur_store_layers_again(int64_t layers, int64_t segment)
{
    return (fur_div_up(layers, segment) - 1) * (segment - 1);
}
/* Where the caller writes a block of f32; valid until the next call with another block. Evaluation stops here. */
fur_status fur_store_place_rows(const fur_exec *exec, fur_store *store, int64_t layer, int64_t first, int64_t count,
                                float **rows_TW);
/* The block is written and will be wanted again: on disk, it sets out. */
fur_status fur_store_written(const fur_exec *exec, fur_store *store, int64_t layer, int64_t first, int64_t count);
/* Both for rows that are elsewhere: copies them in, as what they are stored as, and in parts. */
fur_status fur_store_put(const fur_exec *exec, fur_store *store, int64_t layer, int64_t first, int64_t count,
                         const float *rows_TW);
/* *rows_TW: a block that was written; readable until the next get. Waits for the disk. FUR_E_IO. */
fur_status fur_store_get(const fur_exec *exec, fur_store *store, int64_t layer, int64_t first, int64_t count,
                         const float **rows_TW);
/* The block that get will be asked for next: on disk, it is fetched meanwhile. */
void fur_store_ahead(fur_store *store, int64_t layer, int64_t first, int64_t count);
/* get, for rows in parts, or wanted elsewhere: copies the block out, as rows of all columns. */
fur_status fur_store_get_rows(const fur_exec *exec, fur_store *store, int64_t layer, int64_t first, int64_t count,
                              float *rows_TW);
/* put, get and ahead of one part of a block: rows of width / parts columns. */
fur_status fur_store_put_part(const fur_exec *exec, fur_store *store, int64_t layer, int64_t first, int64_t count,
                              int64_t part, const float *rows);
fur_status fur_store_get_part(const fur_exec *exec, fur_store *store, int64_t layer, int64_t first, int64_t count,
                              int64_t part, const float **rows);
void fur_store_ahead_part(fur_store *store, int64_t layer, int64_t first, int64_t count, int64_t part);
/* Before a row: no slot holds anything of the row before. All requests are done. */
void fur_store_begin(fur_store *store);
/* A layer's rows are not wanted again until they are written again. */
void fur_store_forget(fur_store *store, int64_t layer);

#endif
