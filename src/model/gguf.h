/* SPDX-License-Identifier: Apache-2.0 */
/* GGUF form of a model: its values as the config.json that says the same, so that the table of families reads both; its
 * tensors under their names there, in its layouts. */
#ifndef FUR_MODEL_GGUF_H
#define FUR_MODEL_GGUF_H

#include "io/json.h"
#include "io/tensor_source.h"
#include "model/run.h"

/* config.json of the family that general.architecture names; the caller owns the reference. FUR_E_FORMAT: a key is
 * missing, of another kind, or at odds with the tensors. FUR_E_UNSUPPORTED: an architecture, or what a key asks for,
 * that this version does not have; a key of the architecture that it does not know, since it may change what is
 * computed. */
fur_status fur_gguf_config_json(fur_error *error, const fur_gguf *file, json_t **out);
/* Weights into an allocated model whose config was read from the same file. */
fur_status fur_gguf_weights_read(fur_error *error, const fur_tensor_source *source, fur_model *model);
/* The tensor that a parameter is there, and how it is laid out; NULL: none. */
const fur_tensor_info *fur_gguf_tensor_of(const fur_tensor_source *source, const fur_model_config *config,
                                          const fur_parameter *p, fur_file_layout *layout);

/* Values of a config, as fur_gguf_config_json reads them, into `to`; FUR_E_UNSUPPORTED naming what no architecture of
 * GGUF, or none of its readers, knows. */
fur_status fur_gguf_config_values(fur_error *error, const fur_model_config *config, fur_gguf_builder *to);
/* The family whose architecture it is written under; NULL: none. */
const fur_family *fur_gguf_family_of(const fur_model_config *config);
/* What the head_dim / 2 frequencies of Llama 3's scaling are divided by: rope_freqs.weight. */
enum { FUR_GGUF_MOST_PAIRS = 512 };
void fur_gguf_rope_factors(const fur_model_config *config, float *out);
/* By the square root of what readers divide Gemma's scores: the width of a head, but in its two largest models. */
int64_t fur_gguf_query_scalar(const fur_family *family, int64_t layers, int64_t width, int64_t heads, int64_t head_dim);
/* Tensors and `values` to a file: matrices as `dtype` (F32, BF16, Q8_0), or as F32 where their rows are no whole
 * blocks; vectors and positions as F32, as the format's other writers do. *kept: matrices that stayed F32. */
fur_status fur_gguf_weights_write(fur_error *error, const fur_model *model, const char *path,
                                  const fur_gguf_builder *values, fur_dtype dtype, int64_t *kept);

#endif
