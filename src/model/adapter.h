/* SPDX-License-Identifier: Apache-2.0 */
/* Adapters (furlong/config.h, lora_rank): their files, and the model that they are added to. */
#ifndef FUR_MODEL_ADAPTER_H
#define FUR_MODEL_ADAPTER_H

#include "model/run.h"

fur_status fur_config_check_lora(fur_error *error, const fur_model_config *config);

/* The config of a folder, adapters included. *base: of adapters, the folder of the model that they are added to, freed
 * with fur_free; else NULL. */
fur_status fur_folder_config(fur_context *context, const char *folder, fur_model_config *out, char **base);

/* Bytes of the weights of a folder's model with adapters as `config` says, in memory. */
fur_status fur_model_frozen_bytes(fur_context *context, const char *folder, const fur_model_config *config,
                                  int64_t *bytes);

/* A by the random generator, B stays 0: the model is what it was. */
void fur_model_draw_adapters(fur_model *model, uint64_t seed);
/* Into a model that has them, or from it: adapter_config.json and adapter_model.safetensors. */
fur_status fur_adapters_read(fur_error *error, const char *folder, fur_model *model);
fur_status fur_adapters_write(fur_error *error, const fur_model *model, const char *folder);

#endif
