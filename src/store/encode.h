/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of f32 in fewer bytes. Not exact: for layer inputs, and only where that was asked for.
 *
 *   f32    4 bytes an element
 *   bf16   2: rounded to nearest, ties to even; at most 2^-8 of the element off
 *   q8     each 32 elements of a row: a scale s = largest / 127 (f32), then 32 integers round(x / s); at most s / 2 off
 */
#ifndef FUR_STORE_ENCODE_H
#define FUR_STORE_ENCODE_H

#include "base/exec.h"
#include "furlong/plan.h"

/* Bytes of a row of `width` elements, a multiple of 4. */
int64_t fur_encoded_row_bytes(fur_stored_type type, int64_t width);
void fur_rows_encode(const fur_exec *exec, fur_stored_type type, int64_t rows, int64_t width, const float *x_TW,
                     void *out);
void fur_rows_decode(const fur_exec *exec, fur_stored_type type, int64_t rows, int64_t width, const void *data,
                     float *x_TW);

/* Rows [rows, width] to and from `parts` arrays [rows, width / parts] one after the other: columns in equal groups. */
void fur_rows_split(const fur_exec *exec, int64_t parts, int64_t rows, int64_t width, const float *x_TW, float *out);
void fur_rows_join(const fur_exec *exec, int64_t parts, int64_t rows, int64_t width, const float *data, float *x_TW);

#endif
