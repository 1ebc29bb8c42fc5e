/* SPDX-License-Identifier: Apache-2.0 */
#include "store/store.h"

#include "base/size.h"
#include "store/encode.h"

void fur_store_reserve(fur_arena *arena, const fur_store_shape *shape, int64_t *disk_bytes, fur_store *out)
{
    int64_t block = fur_min_i64(shape->block, shape->tokens);
    *out = (fur_store){.place = shape->place,
                       .type = shape->type,
                       .layers = shape->layers,
                       .tokens = shape->tokens,
                       .width = shape->width,
                       .row_bytes = fur_encoded_row_bytes(shape->type, shape->width),
                       .segment = shape->segment,
                       .parts = fur_max_i64(1, shape->parts)};
    if (shape->type != FUR_STORED_F32)
        out->decoded = fur_arena_push_f32(arena, block * shape->width);
    if (shape->place != FUR_STORE_DISK) {
        out->rows = fur_arena_push(arena, fur_store_layers_held(shape->layers, shape->segment) * shape->tokens *
                                              out->row_bytes);
        return;
    }
    for (int i = 0; i < FUR_STORE_SLOTS; i++)
        out->slots[i] = (fur_store_slot){.rows = fur_arena_push(arena, block * out->row_bytes), .layer = -1};
    out->offset = *disk_bytes;
    *disk_bytes += shape->layers * shape->tokens * out->row_bytes;
}

bool fur_store_keeps(const fur_store *store, int64_t layer)
{
    return layer % store->segment == 0 || layer / store->segment == (store->layers - 1) / store->segment;
}

static unsigned char *rows_at(const fur_store *store, int64_t layer, int64_t first)
{
    int64_t within = layer % store->segment, groups = fur_div_up(store->layers, store->segment);
    int64_t at = within == 0 ? layer / store->segment : groups + within - 1;
    return store->rows + (at * store->tokens + first) * store->row_bytes;
}

/* Rows first .. first+count-1 of a layer, or one part of them. */
typedef struct block {
    int64_t layer, first, count, part;
} block;

#define WHOLE ((int64_t)-1)

static block whole_of(int64_t layer, int64_t first, int64_t count)
{
    return (block){layer, first, count, WHOLE};
}

static block part_of(const fur_store *store, int64_t layer, int64_t first, int64_t count, int64_t part)
{
    return (block){layer, first, count, store->parts > 1 ? part : WHOLE};
}

static fur_status check(const fur_exec *exec, const fur_store *store, block b)
{
    if (b.layer >= 0 && b.layer < store->layers && b.first >= 0 && b.count >= 0 && b.first + b.count <= store->tokens &&
        b.part < store->parts)
        return FUR_OK;
    return fur_error_set(exec->error, FUR_E_INTERNAL,
                         "store: layer %lld rows %lld+%lld part %lld of [%lld, %lld] in %lld", (long long)b.layer,
                         (long long)b.first, (long long)b.count, (long long)b.part, (long long)store->layers,
                         (long long)store->tokens, (long long)store->parts);
}

static int64_t block_bytes(const fur_store *store, block b)
{
    return b.count * store->row_bytes / (b.part == WHOLE ? 1 : store->parts);
}

/* Bytes of a block that lie before the part. */
static int64_t before_part(const fur_store *store, block b)
{
    return b.part == WHOLE ? 0 : b.part * block_bytes(store, b);
}

/* ---- slots ------------------------------------------------------------------------------------------------ */

static int64_t offset_at(const fur_store *store, block b)
{
    return store->offset + (b.layer * store->tokens + b.first) * store->row_bytes + before_part(store, b);
}

static bool holds(const fur_store_slot *slot, block b)
{
    return slot->layer == b.layer && slot->first == b.first && slot->part == b.part;
}

/* The slot that holds the block, or the one that has not been used for longest, whatever that holds. */
static int slot_for(const fur_store *store, block b)
{
    for (int i = 0; i < FUR_STORE_SLOTS; i++)
        if (holds(&store->slots[i], b))
            return i;
    return (store->recent + 1) % FUR_STORE_SLOTS;
}

/* The spill serves requests in order, so a read queued behind the slot's own write waits for it. */
static void fetch(fur_store *store, fur_store_slot *slot, block b)
{
    if (holds(slot, b))
        return;
    *slot = (fur_store_slot){.rows = slot->rows, .layer = b.layer, .first = b.first, .part = b.part};
    slot->ticket = fur_spill_read(store->spill, offset_at(store, b), slot->rows, block_bytes(store, b));
}

/* The block is about to change: no slot has a part of it, or all of which it is a part, from before. */
static void outdate(fur_store *store, block b)
{
    for (int i = 0; i < FUR_STORE_SLOTS; i++) {
        fur_store_slot *slot = &store->slots[i];
        if (slot->layer == b.layer && slot->first == b.first && (slot->part == WHOLE || b.part == WHOLE))
            slot->layer = -1;
    }
}

/* ---- rows ------------------------------------------------------------------------------------------------- */

/* Where a block's stored rows go. */
static fur_status place(const fur_exec *exec, fur_store *store, block b, unsigned char **rows)
{
    FUR_TRY(check(exec, store, b));
    if (store->place != FUR_STORE_DISK) {
        *rows = rows_at(store, b.layer, b.first) + before_part(store, b);
        return FUR_OK;
    }
    store->recent = slot_for(store, b);
    fur_store_slot *slot = &store->slots[store->recent];
    FUR_TRY(fur_spill_wait(exec->error, store->spill, slot->ticket));
    *slot = (fur_store_slot){.rows = slot->rows, .layer = -1};
    outdate(store, b);
    *rows = slot->rows;
    return FUR_OK;
}

/* The block is in its place. */
static fur_status written(const fur_exec *exec, fur_store *store, block b)
{
    FUR_TRY(check(exec, store, b));
    if (store->place != FUR_STORE_DISK)
        return FUR_OK;
    fur_store_slot *slot = &store->slots[store->recent];
    *slot = (fur_store_slot){.rows = slot->rows, .layer = b.layer, .first = b.first, .part = b.part};
    slot->ticket = fur_spill_write(store->spill, offset_at(store, b), slot->rows, block_bytes(store, b));
    return FUR_OK;
}

/* A block's stored rows, once they are here. */
static fur_status find(const fur_exec *exec, fur_store *store, block b, unsigned char **rows)
{
    FUR_TRY(check(exec, store, b));
    if (store->place != FUR_STORE_DISK) {
        *rows = rows_at(store, b.layer, b.first) + before_part(store, b);
        return FUR_OK;
    }
    store->recent = slot_for(store, b);
    fur_store_slot *slot = &store->slots[store->recent];
    fetch(store, slot, b);
    FUR_TRY(fur_spill_wait(exec->error, store->spill, slot->ticket));
    *rows = slot->rows;
    return FUR_OK;
}

static void ahead(fur_store *store, block b)
{
    if (store->place == FUR_STORE_DISK && b.layer >= 0 && b.count > 0)
        fetch(store, &store->slots[slot_for(store, b)], b);
}

/* Pieces of the arena are aligned for any type, and rows of f32 to their elements. */
static float *as_f32(unsigned char *rows)
{
    return (float *)(void *)rows;
}

fur_status fur_store_place_rows(const fur_exec *exec, fur_store *store, int64_t layer, int64_t first, int64_t count,
                                float **rows_TW)
{
    unsigned char *rows = NULL;
    if (store->type != FUR_STORED_F32 || store->parts > 1)
        return fur_error_set(exec->error, FUR_E_INTERNAL,
                             "store: rows that are not f32, or in parts, are put, not written in place");
    FUR_TRY(place(exec, store, whole_of(layer, first, count), &rows));
    *rows_TW = as_f32(rows);
    return FUR_OK;
}

fur_status fur_store_written(const fur_exec *exec, fur_store *store, int64_t layer, int64_t first, int64_t count)
{
    return written(exec, store, whole_of(layer, first, count));
}

fur_status fur_store_put(const fur_exec *exec, fur_store *store, int64_t layer, int64_t first, int64_t count,
                         const float *rows_TW)
{
    unsigned char *rows = NULL;
    FUR_TRY(place(exec, store, whole_of(layer, first, count), &rows));
    if (store->parts > 1)
        fur_rows_split(exec, store->parts, count, store->width, rows_TW, as_f32(rows));
    else
        fur_rows_encode(exec, store->type, count, store->width, rows_TW, rows);
    return fur_store_written(exec, store, layer, first, count);
}

fur_status fur_store_get(const fur_exec *exec, fur_store *store, int64_t layer, int64_t first, int64_t count,
                         const float **rows_TW)
{
    unsigned char *rows;
    FUR_TRY(find(exec, store, whole_of(layer, first, count), &rows));
    *rows_TW = store->decoded ? store->decoded : as_f32(rows);
    if (store->decoded)
        fur_rows_decode(exec, store->type, count, store->width, rows, store->decoded);
    return FUR_OK;
}

fur_status fur_store_get_rows(const fur_exec *exec, fur_store *store, int64_t layer, int64_t first, int64_t count,
                              float *rows_TW)
{
    unsigned char *rows;
    FUR_TRY(find(exec, store, whole_of(layer, first, count), &rows));
    if (store->parts > 1)
        fur_rows_join(exec, store->parts, count, store->width, as_f32(rows), rows_TW);
    else
        fur_rows_decode(exec, store->type, count, store->width, rows, rows_TW);
    return FUR_OK;
}

void fur_store_ahead(fur_store *store, int64_t layer, int64_t first, int64_t count)
{
    ahead(store, whole_of(layer, first, count));
}

fur_status fur_store_put_part(const fur_exec *exec, fur_store *store, int64_t layer, int64_t first, int64_t count,
                              int64_t part, const float *rows)
{
    block b = part_of(store, layer, first, count, part);
    unsigned char *to = NULL;
    FUR_TRY(place(exec, store, b, &to));
    fur_rows_encode(exec, store->type, count, store->width / store->parts, rows, to);
    return written(exec, store, b);
}

fur_status fur_store_get_part(const fur_exec *exec, fur_store *store, int64_t layer, int64_t first, int64_t count,
                              int64_t part, const float **rows)
{
    unsigned char *from;
    FUR_TRY(find(exec, store, part_of(store, layer, first, count, part), &from));
    *rows = as_f32(from);
    return FUR_OK;
}

void fur_store_ahead_part(fur_store *store, int64_t layer, int64_t first, int64_t count, int64_t part)
{
    ahead(store, part_of(store, layer, first, count, part));
}

void fur_store_begin(fur_store *store)
{
    for (int i = 0; i < FUR_STORE_SLOTS; i++)
        store->slots[i] = (fur_store_slot){.rows = store->slots[i].rows, .layer = -1};
}

void fur_store_forget(fur_store *store, int64_t layer)
{
    if (store->place == FUR_STORE_DISK)
        (void)fur_spill_forget(store->spill, offset_at(store, whole_of(layer, 0, 0)), store->tokens * store->row_bytes);
}
