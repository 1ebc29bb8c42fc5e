/* SPDX-License-Identifier: Apache-2.0 */
/* A named array in an open file, whatever the file's format. */
#ifndef FUR_IO_TENSOR_H
#define FUR_IO_TENSOR_H

#include "io/dtype.h"
#include "io/file.h"

typedef struct fur_tensor_info {
    const char *name;
    fur_dtype dtype;
    int rank;
    int64_t shape[FUR_MAX_RANK]; /* the last is that of a row, whole blocks of its type */
    int64_t count;               /* elements */
    int64_t bytes;
    int64_t offset; /* from the start of the file */
} fur_tensor_info;

/* Where it is, and what it was asked for as, for errors. */
typedef struct fur_tensor {
    const fur_input *input;
    const fur_tensor_info *info; /* NULL: the file has none of that name, which all below refuse (FUR_E_FORMAT) */
    const char *name;
} fur_tensor;

/* Reads a tensor of exactly this shape as f32, from any float type (fur_dtype_is_float). With `finite`, a NaN or
 * infinity is FUR_E_NONFINITE naming tensor and element. Reading is safe from several threads. */
fur_status fur_tensor_read_f32(fur_error *error, const fur_tensor *tensor, int rank, const int64_t *shape, bool finite,
                               float *out);
/* Reads a tensor of exactly this type and shape as it is stored. */
fur_status fur_tensor_read_raw(fur_error *error, const fur_tensor *tensor, fur_dtype dtype, int rank,
                               const int64_t *shape, void *out);
/* FUR_E_NONFINITE naming tensor and element, as above, of a float tensor that is not kept: it is read in pieces. */
fur_status fur_tensor_check_finite(fur_error *error, const fur_tensor *tensor);

/* A tensor where it lies in its file. */
typedef struct fur_tensor_map {
    const void *data; /* aligned to an element */
    void *pages;      /* fur_pages_map_file, or any other pages of that size; NULL: none */
    int64_t page_bytes;
} fur_tensor_map;
/* Maps a tensor of exactly this type and shape; the file may be closed before the map. Blocks need no alignment.
 * FUR_E_FORMAT besides: one of single elements does not begin at a multiple of its element's size (files of this
 * library and of the formats' own tools all do). */
fur_status fur_tensor_map_make(fur_error *error, const fur_tensor *tensor, fur_dtype dtype, int rank,
                               const int64_t *shape, fur_tensor_map *out);
void fur_tensor_unmap(fur_tensor_map *map); /* also of a zeroed one */

/* Produces elements first..first+count-1 of a tensor that is written, so that one laid out otherwise in memory needs no
 * copy. */
typedef fur_status (*fur_tensor_fill)(void *user, fur_error *error, int64_t first, int64_t count, void *out);

#endif
