/* SPDX-License-Identifier: Apache-2.0 */
/* Where layer inputs wait between the forward and the backward sweep. RAM form: one [L, T, C] array of the arena. */
#ifndef FUR_STORE_STORE_H
#define FUR_STORE_STORE_H

#include "base/exec.h"

typedef struct fur_store {
    fur_buffer buffer;
    int64_t layers, tokens, width;
} fur_store;

/* Lays the store out on the arena (counting or real). */
void fur_store_reserve(fur_arena *arena, int64_t layers, int64_t tokens, int64_t width, fur_store *out);
/* Copies `count` rows of a layer's input in. */
fur_status fur_store_put(const fur_exec *exec, fur_store *store, int64_t layer, int64_t first, int64_t count,
                         const float *x_TC);
/* *x_TC: the rows, readable until the next get; in RAM, the store itself. */
fur_status fur_store_get(const fur_exec *exec, const fur_store *store, int64_t layer, int64_t first, int64_t count,
                         const float **x_TC);

#endif
