/* SPDX-License-Identifier: Apache-2.0 */
#include "store/store.h"

#include <string.h>

#include "base/size.h"

/* Layers whose rows the arena holds at once. */
static int64_t layers_held(const fur_store *store)
{
    return fur_div_up(store->layers, store->segment) + store->segment - 1;
}

void fur_store_reserve(fur_arena *arena, fur_store_place place, int64_t layers, int64_t tokens, int64_t width,
                       int64_t block, int64_t segment, int64_t *disk_bytes, fur_store *out)
{
    int64_t row = width * (int64_t)sizeof(float);
    *out = (fur_store){.place = place, .layers = layers, .tokens = tokens, .width = width, .segment = segment};
    if (place != FUR_STORE_DISK) {
        out->rows = fur_arena_push(arena, layers_held(out) * tokens * row);
        return;
    }
    for (int i = 0; i < FUR_STORE_SLOTS; i++)
        out->slots[i] = (fur_store_slot){.rows = fur_arena_push(arena, fur_min_i64(block, tokens) * row), .layer = -1};
    out->offset = *disk_bytes;
    *disk_bytes += layers * tokens * row;
}

bool fur_store_keeps(const fur_store *store, int64_t layer)
{
    return layer % store->segment == 0 || layer / store->segment == (store->layers - 1) / store->segment;
}

int64_t fur_store_layers_again(const fur_store *store)
{
    return (fur_div_up(store->layers, store->segment) - 1) * (store->segment - 1);
}

static float *rows_at(const fur_store *store, int64_t layer, int64_t first)
{
    int64_t within = layer % store->segment, groups = fur_div_up(store->layers, store->segment);
    int64_t at = within == 0 ? layer / store->segment : groups + within - 1;
    return store->rows + (at * store->tokens + first) * store->width;
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
    return count * store->width * (int64_t)sizeof(float);
}

static int64_t offset_at(const fur_store *store, int64_t layer, int64_t first)
{
    return store->offset + row_bytes(store, layer * store->tokens + first);
}

/* The slot that holds the block, or the one that has not been used for longest, emptied of what it held. */
static int slot_for(const fur_store *store, int64_t layer, int64_t first)
{
    for (int i = 0; i < FUR_STORE_SLOTS; i++)
        if (store->slots[i].layer == layer && store->slots[i].first == first)
            return i;
    return (store->recent + 1) % FUR_STORE_SLOTS;
}

static bool holds(const fur_store_slot *slot, int64_t layer, int64_t first)
{
    return slot->layer == layer && slot->first == first;
}

/* The spill serves requests in order, so a read queued behind the slot's own write waits for it. */
static void fetch(fur_store *store, fur_store_slot *slot, int64_t layer, int64_t first, int64_t count)
{
    if (holds(slot, layer, first))
        return;
    slot->layer = layer;
    slot->first = first;
    slot->ticket =
        fur_spill_read(store->spill, offset_at(store, layer, first), slot->rows, row_bytes(store, count));
}

/* ---- rows ------------------------------------------------------------------------------------------------- */

fur_status fur_store_place_rows(const fur_exec *exec, fur_store *store, int64_t layer, int64_t first, int64_t count,
                                float **rows_TW)
{
    FUR_TRY(check(exec, store, layer, first, count));
    if (store->place != FUR_STORE_DISK) {
        *rows_TW = rows_at(store, layer, first);
        return FUR_OK;
    }
    store->recent = slot_for(store, layer, first);
    fur_store_slot *slot = &store->slots[store->recent];
    FUR_TRY(fur_spill_wait(exec->error, store->spill, slot->ticket));
    *slot = (fur_store_slot){.rows = slot->rows, .layer = -1};
    *rows_TW = slot->rows;
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
    slot->ticket =
        fur_spill_write(store->spill, offset_at(store, layer, first), slot->rows, row_bytes(store, count));
    return FUR_OK;
}

fur_status fur_store_put(const fur_exec *exec, fur_store *store, int64_t layer, int64_t first, int64_t count,
                         const float *rows_TW)
{
    float *rows;
    FUR_TRY(fur_store_place_rows(exec, store, layer, first, count, &rows));
    memcpy(rows, rows_TW, (size_t)row_bytes(store, count));
    return fur_store_written(exec, store, layer, first, count);
}

fur_status fur_store_get(const fur_exec *exec, fur_store *store, int64_t layer, int64_t first, int64_t count,
                         const float **rows_TW)
{
    FUR_TRY(check(exec, store, layer, first, count));
    if (store->place != FUR_STORE_DISK) {
        *rows_TW = rows_at(store, layer, first);
        return FUR_OK;
    }
    store->recent = slot_for(store, layer, first);
    fur_store_slot *slot = &store->slots[store->recent];
    fetch(store, slot, layer, first, count);
    FUR_TRY(fur_spill_wait(exec->error, store->spill, slot->ticket));
    *rows_TW = slot->rows;
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
