/* SPDX-License-Identifier: Apache-2.0 */
/* Hugging Face form of a model: config.json and model.safetensors of its family. */
#ifndef FUR_MODEL_FAMILY_H
#define FUR_MODEL_FAMILY_H

#include "io/json.h"
#include "model/run.h"

/* config.json's content; the caller owns the reference. NULL when out of memory. */
json_t *fur_config_to_json(const fur_model_config *config);
/* Weights into an allocated model from a folder; and to PATH, tables as config.table_type says. */
fur_status fur_weights_read(fur_error *error, const char *folder, fur_model *model);
fur_status fur_weights_write(fur_error *error, const fur_model *model, const float *data, const char *path,
                             uint64_t *hash);
/* Numbers in the order of the family's file become those of ours, in place. */
fur_status fur_parameter_from_file(fur_error *error, const fur_parameter *p, const fur_model_config *config,
                                   float *data);
/* Of a model's table, from where it is; the caller sets row and coded. */
fur_table_writer fur_model_table_writer(const fur_model *model, const fur_parameter *p, const float *data,
                                        fur_table_type type);

#endif
