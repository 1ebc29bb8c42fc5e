/* SPDX-License-Identifier: Apache-2.0 */
/* The tile vocabulary for AMX-BF16: eight tiles of 16 rows of 64 bytes. tests/tiles/tile_plain.h has the same words in
 * plain C, for machines without. Tile numbers must be constants. Between begin and end alone may tiles be used. */
#ifndef FUR_OP_TILE_AMX_H
#define FUR_OP_TILE_AMX_H

#include <immintrin.h>
#include <stdint.h>

typedef struct tile_shape {
    uint8_t palette, start, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} tile_shape;

/* The barrier: GCC 12 takes the instruction to read the first bytes alone and removes the stores of the others. */
static inline void tiles_begin(void)
{
    static const tile_shape whole = {
        .palette = 1, .row_bytes = {64, 64, 64, 64, 64, 64, 64, 64}, .rows = {16, 16, 16, 16, 16, 16, 16, 16}};
    __asm__ volatile("" ::: "memory");
    _tile_loadconfig(&whole);
}

static inline void tiles_end(void)
{
    _tile_release();
}

#define tiles_zero(t)                  _tile_zero(t)
#define tiles_load(t, from, row_bytes) _tile_loadd(t, from, (int64_t)(row_bytes))
#define tiles_store(t, to, row_bytes)  _tile_stored(t, to, (int64_t)(row_bytes))
#define tiles_multiply(c, a, b)        _tile_dpbf16ps(c, a, b)

#endif
