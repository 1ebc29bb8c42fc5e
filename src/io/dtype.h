/* SPDX-License-Identifier: Apache-2.0 */
/* Element types of stored arrays, little endian as in memory, and their conversion to f32. Some hold elements in blocks
 * that share a scale (io/blocks.h); those are GGUF's alone. */
#ifndef FUR_IO_DTYPE_H
#define FUR_IO_DTYPE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

#define FUR_MAX_RANK 8

typedef enum fur_dtype {
    FUR_DTYPE_BOOL = 0,
    FUR_DTYPE_U8,
    FUR_DTYPE_I8,
    FUR_DTYPE_F8_E4M3,
    FUR_DTYPE_F8_E5M2,
    FUR_DTYPE_F8_E8M0,
    FUR_DTYPE_I16,
    FUR_DTYPE_U16,
    FUR_DTYPE_F16,
    FUR_DTYPE_BF16,
    FUR_DTYPE_I32,
    FUR_DTYPE_U32,
    FUR_DTYPE_F32,
    FUR_DTYPE_F64,
    FUR_DTYPE_I64,
    FUR_DTYPE_U64,
    FUR_DTYPE_C64,
    FUR_DTYPE_Q4_0, /* the first in blocks */
    FUR_DTYPE_Q4_1,
    FUR_DTYPE_Q5_0,
    FUR_DTYPE_Q5_1,
    FUR_DTYPE_Q8_0,
    FUR_DTYPE_Q4_K,
    FUR_DTYPE_Q5_K,
    FUR_DTYPE_Q6_K,
    FUR_DTYPE_COUNT
} fur_dtype;

/* As safetensors, or GGUF's tools, write it; constant. */
const char *fur_dtype_name(fur_dtype dtype);
/* Of an element, or of a block of fur_dtype_block of them. */
int64_t fur_dtype_bytes(fur_dtype dtype);
int64_t fur_dtype_block(fur_dtype dtype); /* elements: 1, 32 or 256 */
/* False if the name is not one of safetensors. */
bool fur_dtype_parse(const char *name, fur_dtype *out);

/* F32, F16, BF16, F64, and all in blocks. */
bool fur_dtype_is_float(fur_dtype dtype);
/* Converts a float type, whole blocks; F64 is rounded to nearest, which may give infinity. `from` needs no alignment.
 */
void fur_dtype_to_f32(fur_dtype dtype, const void *from, int64_t count, float *to);
/* To F32, F16 or BF16, the nearest, ties to even, beyond F16's range an infinity; or to whole blocks of Q8_0, of which
 * `from` is finite (io/blocks.h). */
void fur_dtype_from_f32(fur_dtype dtype, const float *from, int64_t count, void *to);
/* Index of the first NaN or infinity; -1 if there is none. */
int64_t fur_first_nonfinite(const float *x, int64_t count);

/* "[2, 3]" into `text`; cut at its size. */
void fur_shape_text(int rank, const int64_t *shape, char *text, int64_t size);
/* Product of the sizes; false on overflow or a negative size. Rank 0 gives 1. */
bool fur_shape_count(int rank, const int64_t *shape, int64_t *count);

#endif
