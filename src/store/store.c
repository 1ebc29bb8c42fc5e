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
                       .segment = shape->segment};
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

static fur_status check(const fur_exec *exec, const fur_store *store, int64_t layer, int64_t first, int64_t count)
{
    if (layer >= 0 && layer < store->layers && first >= 0 && count >= 0 && first + count <= store->tokens)
        return FUR_OK;
    return fur_error_set(exec->error, FUR_E_INTERNAL, "store: layer %lld rows %lld+%lld of [%lld, %lld]",
                         (long long)layer, (long long)first, (long long)count, (long long)store->layers,
                         (long long)store->tokens);
}

/* ---- slots ------------------------------------------------------------------------------------------------ */

static int64_t row_bytes(const fur_store *store, int64_t count)
{
    return count * store->row_bytes;
}

static int64_t offset_at(const fur_store *store, int64_t layer, int64_t first)
{
    return store->offset + row_bytes(store, layer * store->tokens + first);
}

static bool holds(const fur_store_slot *slot, int64_t layer, int64_t first)
{
    return slot->layer == layer && slot->first == first;
}

/* The slot that holds the block, or the one that has not been used for longest, whatever that holds. */
static int slot_for(const fur_store *store, int64_t layer, int64_t first)
{
    for (int i = 0; i < FUR_STORE_SLOTS; i++)
        if (holds(&store->slots[i], layer, first))
            return i;
    return (store->recent + 1) % FUR_STORE_SLOTS;
}

/* The spill serves requests in order, so a read queued behind the slot's own write waits for it. */
static void fetch(fur_store *store, fur_store_slot *slot, int64_t layer, int64_t first, int64_t count)
{
    if (holds(slot, layer, first))
        return;
    slot->layer = layer;
    slot->first = first;
    slot->ticket = fur_spill_read(store->spill, offset_at(store, layer, first), slot->rows, row_bytes(store, count));
}

/* ---- rows ------------------------------------------------------------------------------------------------- */

/* Where a block's stored rows go. */
static fur_status place(const fur_exec *exec, fur_store *store, int64_t layer, int64_t first, int64_t count,
                        unsigned char **rows)
{
    FUR_TRY(check(exec, store, layer, first, count));
    if (store->place != FUR_STORE_DISK) {
        *rows = rows_at(store, layer, first);
        return FUR_OK;
    }
    store->recent = slot_for(store, layer, first);
    fur_store_slot *slot = &store->slots[store->recent];
    FUR_TRY(fur_spill_wait(exec->error, store->spill, slot->ticket));
    *slot = (fur_store_slot){.rows = slot->rows, .layer = -1};
    *rows = slot->rows;
    return FUR_OK;
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
    if (store->type != FUR_STORED_F32)
        return fur_error_set(exec->error, FUR_E_INTERNAL, "store: rows that are not f32 are put, not written in place");
    FUR_TRY(place(exec, store, layer, first, count, &rows));
    *rows_TW = as_f32(rows);
    return FUR_OK;
}

fur_status fur_store_written(const fur_exec *exec, fur_store *store, int64_t layer, int64_t first, int64_t count)
{
    FUR_TRY(check(exec, store, layer, first, count));
    if (store->place != FUR_STORE_DISK)
        return FUR_OK;
    fur_store_slot *slot = &store->slots[store->recent];
    slot->layer = layer;
    slot->first = first;
    slot->ticket = fur_spill_write(store->spill, offset_at(store, layer, first), slot->rows, row_bytes(store, count));
    return FUR_OK;
}

fur_status fur_store_put(const fur_exec *exec, fur_store *store, int64_t layer, int64_t first, int64_t count,
                         const float *rows_TW)
{
    unsigned char *rows = NULL;
    FUR_TRY(place(exec, store, layer, first, count, &rows));
    fur_rows_encode(exec, store->type, count, store->width, rows_TW, rows);
    return fur_store_written(exec, store, layer, first, count);
}

fur_status fur_store_get(const fur_exec *exec, fur_store *store, int64_t layer, int64_t first, int64_t count,
                         const float **rows_TW)
{
    unsigned char *rows;
    FUR_TRY(check(exec, store, layer, first, count));
    if (store->place == FUR_STORE_DISK) {
        store->recent = slot_for(store, layer, first);
        fur_store_slot *slot = &store->slots[store->recent];
        fetch(store, slot, layer, first, count);
        FUR_TRY(fur_spill_wait(exec->error, store->spill, slot->ticket));
        rows = slot->rows;
    } else {
        rows = rows_at(store, layer, first);
    }
    *rows_TW = store->decoded ? store->decoded : as_f32(rows);
    if (store->decoded)
        fur_rows_decode(exec, store->type, count, store->width, rows, store->decoded);
    return FUR_OK;
}

void fur_store_ahead(fur_store *store, int64_t layer, int64_t first, int64_t count)
{
    if (store->place == FUR_STORE_DISK && layer >= 0 && count > 0)
        fetch(store, &store->slots[slot_for(store, layer, first)], layer, first, count);
}

void fur_store_begin(fur_store *store)
{
    for (int i = 0; i < FUR_STORE_SLOTS; i++)
        store->slots[i] = (fur_store_slot){.rows = store->slots[i].rows, .layer = -1};
}

void fur_store_forget(fur_store *store, int64_t layer)
{
    if (store->place == FUR_STORE_DISK)
        (void)fur_spill_forget(store->spill, offset_at(store, layer, 0), row_bytes(store, store->tokens));
}
