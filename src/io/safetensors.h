/* SPDX-License-Identifier: Apache-2.0 */
/* Safetensors: named arrays in one file.
 *
 *      8 bytes: N     N bytes of JSON                                            the rest
 *      | header size | {"name": {"dtype", "shape", "data_offsets": [b, e]}, ...} | tensor bytes, end to end |
 *
 * A file is checked whole when opened, before anything is read from it: header at most 100 MB and beginning with '{',
 * no name twice, known types, sizes whose product does not overflow and equals the range, ranges that tile the rest
 * without hole or overlap (so none leaves the file). Tensors without elements are allowed. Rules after the format's
 * documentation and its reference implementation. */
#ifndef FUR_IO_SAFETENSORS_H
#define FUR_IO_SAFETENSORS_H

#include "io/tensor.h"

#define FUR_SAFETENSORS_MAX_HEADER  100000000
#define FUR_SAFETENSORS_MAX_TENSORS 262144 /* ours: the largest published models have some 100,000 over all shards */

typedef struct fur_safetensors fur_safetensors;

fur_status fur_safetensors_open(fur_error *error, const char *path, fur_safetensors **out);
void fur_safetensors_close(fur_safetensors *file); /* NULL allowed */

int64_t fur_safetensors_count(const fur_safetensors *file);
/* In the order of their bytes in the file; index < count. */
const fur_tensor_info *fur_safetensors_at(const fur_safetensors *file, int64_t index);
/* NULL: none of that name. */
const fur_tensor_info *fur_safetensors_find(const fur_safetensors *file, const char *name);
/* Value of a key of __metadata__, NULL if absent. Owned by the file. */
const char *fur_safetensors_metadata(const fur_safetensors *file, const char *key);

/* As those of io/tensor.h. */
fur_status fur_safetensors_read_f32(fur_error *error, const fur_safetensors *file, const char *name, int rank,
                                    const int64_t *shape, bool finite, float *out);
fur_status fur_safetensors_read_raw(fur_error *error, const fur_safetensors *file, const char *name, fur_dtype dtype,
                                    int rank, const int64_t *shape, void *out);
fur_status fur_safetensors_check_finite(fur_error *error, const fur_safetensors *file, const char *name);
fur_status fur_safetensors_map(fur_error *error, const fur_safetensors *file, const char *name, fur_dtype dtype,
                               int rank, const int64_t *shape, fur_tensor_map *out);
/* Owned by the file. */
const fur_input *fur_safetensors_input(const fur_safetensors *file);

/* ---- writing -------------------------------------------------------------------------------------------------- */

typedef struct fur_tensor_entry {
    const char *name;
    fur_dtype dtype;
    int rank;
    int64_t shape[FUR_MAX_RANK];
    const void *data; /* NULL: use fill */
    fur_tensor_fill fill;
    void *user;
} fur_tensor_entry;

typedef struct fur_text_pair {
    const char *key, *value;
} fur_text_pair;

/* Writes the tensors, whole or not at all (io/file.h), and the XXH3 of the file to *hash (may be NULL). Tensors go in
 * falling order of element size, so that each is aligned to it. __metadata__ holds "format": "pt", which transformers
 * wants, and the pairs given. Names are unique UTF-8. */
fur_status fur_safetensors_write(fur_error *error, const char *path, const fur_tensor_entry *entries, int64_t count,
                                 const fur_text_pair *metadata, int64_t pairs, uint64_t *hash);

#endif
