/* SPDX-License-Identifier: Apache-2.0 */
/* Weights that stay as their file has them, bf16 or in blocks of small integers: matrices of dense maps, the embedding
 * and the head, where a model is only used, or trained through adapters. They are mapped from the file, or copied where
 * their rows stand in another order there, and decoded as they are used (projection/kind.h). */
#ifndef FUR_MODEL_CODED_H
#define FUR_MODEL_CODED_H

#include "model/run.h"

/* Before weights are read: they may stay coded. */
fur_status fur_coded_begin(fur_error *error, fur_model *model);
/* Whether a parameter may stay as this tensor, laid out so, has it. */
bool fur_coded_takes(const fur_model *model, const fur_parameter *p, const fur_tensor_info *info,
                     fur_file_layout layout);
/* The parameter is the tensor from now on. Errors: as fur_tensor_source_map; FUR_E_NONFINITE names the tensor. */
fur_status fur_coded_open(fur_error *error, const fur_tensor_source *source, const fur_tensor_info *info,
                          const fur_parameter *p, fur_file_layout layout, fur_model *model);
/* After they were read: where one of two tensors of a map is coded and the other is not, both become f32. */
void fur_coded_end(fur_model *model);
void fur_coded_close(fur_model *model); /* also of one that has none */

/* Fills out->coded of a map, unless its weights are in the model's data. */
void fur_coded_map(const fur_model *model, const fur_map_offsets *map, fur_projection *out);
/* NULL: the parameter is in the model's data. */
const fur_coded_rows *fur_coded_parameter(const fur_model *model, const fur_parameter *p);
/* Elements first .. first+count-1 of the matrix, fewer than a page of f32 at a time being best. */
void fur_coded_elements(const fur_coded_rows *rows, int64_t columns, int64_t first, int64_t count, float *out);
/* What fur_model_held_bytes will be of a model of that config once weights from this folder, which may stay coded, are
 * read. */
fur_status fur_coded_forecast(fur_error *error, const char *folder, const fur_model_config *config, int64_t *bytes);
/* Rows first .. first+count-1 as f32. */
void fur_coded_read(const fur_coded_rows *rows, int64_t columns, int64_t first, int64_t count, float *out);
/* Bytes of all that is coded, and of f32 that would be in its place. */
int64_t fur_coded_bytes(const fur_model *model, int64_t *in_place_of);

#endif
