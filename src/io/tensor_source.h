/* SPDX-License-Identifier: Apache-2.0 */
/* The weights of a model, wherever they lie: a .safetensors or GGUF file; a folder with model.safetensors; or a folder
 * with model.safetensors.index.json, which names the shard of each tensor. Shards are plain file names in that folder,
 * and every tensor of the index must be in its shard, or the source does not open. */
#ifndef FUR_IO_TENSOR_SOURCE_H
#define FUR_IO_TENSOR_SOURCE_H

#include "io/gguf.h"
#include "io/safetensors.h"

typedef struct fur_tensor_source fur_tensor_source;

fur_status fur_tensor_source_open(fur_error *error, const char *path, fur_tensor_source **out);
void fur_tensor_source_close(fur_tensor_source *source); /* NULL allowed */

int64_t fur_tensor_source_count(const fur_tensor_source *source);
const fur_tensor_info *fur_tensor_source_at(const fur_tensor_source *source, int64_t index);
/* NULL: none of that name. */
const fur_tensor_info *fur_tensor_source_find(const fur_tensor_source *source, const char *name);
/* As it was opened. */
const char *fur_tensor_source_path(const fur_tensor_source *source);
/* Value of a key of __metadata__ of a single file; NULL if absent or sharded. */
const char *fur_tensor_source_metadata(const fur_tensor_source *source, const char *key);

/* NULL where the weights are not those of a GGUF file; owned by the source. */
const fur_gguf *fur_tensor_source_gguf(const fur_tensor_source *source);

/* As those of io/tensor.h. */
fur_status fur_tensor_source_read_f32(fur_error *error, const fur_tensor_source *source, const char *name, int rank,
                                      const int64_t *shape, bool finite, float *out);
fur_status fur_tensor_source_read_raw(fur_error *error, const fur_tensor_source *source, const char *name,
                                      fur_dtype dtype, int rank, const int64_t *shape, void *out);
fur_status fur_tensor_source_check_finite(fur_error *error, const fur_tensor_source *source, const char *name);
fur_status fur_tensor_source_map(fur_error *error, const fur_tensor_source *source, const char *name, fur_dtype dtype,
                                 int rank, const int64_t *shape, fur_tensor_map *out);

#endif
