/* SPDX-License-Identifier: Apache-2.0 */
#include "store/store.h"

#include <string.h>

void fur_store_reserve(fur_arena *arena, int64_t layers, int64_t tokens, int64_t width, fur_store *out)
{
    int64_t bytes = layers * tokens * width * (int64_t)sizeof(float);
    *out = (fur_store){.buffer = {.data = fur_arena_push(arena, bytes), .bytes = bytes, .place = FUR_PLACE_HOST},
                       .layers = layers,
                       .tokens = tokens,
                       .width = width};
}

static float *rows_at(const fur_store *store, int64_t layer, int64_t first)
{
    return (float *)store->buffer.data + (layer * store->tokens + first) * store->width;
}

static fur_status check(const fur_exec *exec, const fur_store *store, int64_t layer, int64_t first, int64_t count)
{
    if (layer >= 0 && layer < store->layers && first >= 0 && count >= 0 && first + count <= store->tokens)
        return FUR_OK;
    return fur_error_set(exec->error, FUR_E_INTERNAL, "store: layer %lld rows %lld+%lld of [%lld, %lld]",
                         (long long)layer, (long long)first, (long long)count, (long long)store->layers,
                         (long long)store->tokens);
}

fur_status fur_store_put(const fur_exec *exec, fur_store *store, int64_t layer, int64_t first, int64_t count,
                         const float *x_TC)
{
    FUR_TRY(check(exec, store, layer, first, count));
    memcpy(rows_at(store, layer, first), x_TC, (size_t)(count * store->width) * sizeof(float));
    return FUR_OK;
}

fur_status fur_store_get(const fur_exec *exec, const fur_store *store, int64_t layer, int64_t first, int64_t count,
                         const float **x_TC)
{
    FUR_TRY(check(exec, store, layer, first, count));
    *x_TC = rows_at(store, layer, first);
    return FUR_OK;
}
