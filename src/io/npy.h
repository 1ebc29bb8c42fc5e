/* SPDX-License-Identifier: Apache-2.0 */
/* NumPy's .npy (format 1, 2 and 3), read in order: one or two dimensions, row-major, little-endian integers of 1 to 8
 * bytes or floats of 2, 4 or 8.
 *
 *      | \x93NUMPY | 1 0 | header length | {'descr': '<i8', 'fortran_order': False, 'shape': (9,), } \n | data |
 *
 * The header is a Python dictionary; a parser of exactly that shape reads it, and refuses everything else. */
#ifndef FUR_IO_NPY_H
#define FUR_IO_NPY_H

#include "io/dtype.h"
#include "io/stream.h"

typedef struct fur_npy {
    fur_stream *stream;
    fur_dtype dtype;
    int rank; /* 1 or 2; of a member of a .npz up to 3 */
    int64_t shape[3];
    int64_t rows;     /* shape[0] */
    int64_t columns;  /* shape[1], or 1; of three dimensions the product of the last two */
    int64_t next_row; /* rows read so far */
} fur_npy;

/* Reads the header. The stream stays the caller's and must outlive the reading. */
fur_status fur_npy_open(fur_error *error, fur_stream *stream, fur_npy *out);
bool fur_npy_is_integer(const fur_npy *npy);
/* The dictionary alone, up to three dimensions; `name` is for errors. There is no stream to read from. */
fur_status fur_npy_parse(fur_error *error, const char *name, const char *text, int64_t bytes, fur_npy *out);

/* The next `count` values of an integer array [n]; each from 0 to limit - 1, limit at most 2^31. */
fur_status fur_npy_read_ids(fur_error *error, fur_npy *npy, int64_t count, int64_t limit, int32_t *ids);
/* The next `rows` rows of a float array; NaN and infinities (also by rounding to f32) are FUR_E_NONFINITE. */
fur_status fur_npy_read_f32(fur_error *error, fur_npy *npy, int64_t rows, float *out);
/* Fails if rows are left or bytes follow. */
fur_status fur_npy_end(fur_error *error, fur_npy *npy);

#endif
