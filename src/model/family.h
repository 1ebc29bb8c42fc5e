/* SPDX-License-Identifier: Apache-2.0 */
/* Hugging Face form of a model: config.json and model.safetensors of its family. */
#ifndef FUR_MODEL_FAMILY_H
#define FUR_MODEL_FAMILY_H

#include "io/json.h"
#include "model/run.h"

/* As fur_config_read, without adapters and generation_config.json. */
fur_status fur_family_config(fur_context *context, const char *path, fur_model_config *out);
/* config.json's content; the caller owns the reference. NULL when out of memory. */
json_t *fur_config_to_json(const fur_model_config *config);
/* Weights into an allocated model from a folder; and to PATH, tables as config.table_type says. */
fur_status fur_weights_read(fur_error *error, const char *folder, fur_model *model);
fur_status fur_weights_write(fur_error *error, const fur_model *model, const float *data, const char *path,
                             uint64_t *hash);
/* The tensor of a folder or file that a parameter is read from, and how it is laid out there; NULL: it has none. */
const fur_tensor_info *fur_weights_tensor(const fur_tensor_source *source, const fur_model_config *config,
                                          const fur_parameter *p, fur_file_layout *layout);
/* Numbers in the order of the family's file become those of ours, in place. */
fur_status fur_parameter_from_file(fur_error *error, const fur_parameter *p, const fur_model_config *config,
                                   float *data);
/* The same, in the types that tensors have in the folder or file they came from (F64 and blocks: as F32), under the
 * names they have there, or of a GGUF file those of the family. */
fur_status fur_weights_write_as(fur_error *error, const fur_model *model, const char *from, const char *path);
/* Where element `at` of a file's tensor of that layout lies in ours. */
int64_t fur_file_index(fur_file_layout layout, const fur_parameter *p, const fur_model_config *config, int64_t at);
/* Of a model's table, from where it is; the caller sets row and coded. */
fur_table_writer fur_model_table_writer(const fur_model *model, const fur_parameter *p, const float *data,
                                        fur_table_type type);

/* ---- parts of a config.json ------------------------------------------------------------------------------------- */

/* Sizes and numbers of files are at most this. */
#define FUR_FAMILY_MOST_SIZE ((int64_t)1 << 40)

/* FUR_E_UNSUPPORTED naming key, what was found, and what this version has. */
fur_status fur_family_refuse(fur_error *error, const fur_json *json, const char *key, const char *found,
                             const char *expected);

/* generation_config.json: its special tokens, where it has any, take the place of config.json's. */
fur_status fur_family_read_generation(fur_error *error, const char *path, fur_model_config *config);

/* A family of the table (family_keys.c). The caller has zeroed the config. */
fur_status fur_family_read(fur_error *error, const fur_json *j, const fur_family *f, fur_model_config *c);
json_t *fur_family_json(const fur_family *family, const fur_model_config *config);

/* "object.name", for values within objects. */
typedef struct fur_family_key {
    char text[96];
} fur_family_key;
fur_family_key fur_family_key_of(const char *object, const char *name);
/* A RoPE scaling (family_rope.c), described in the object of that key. transformers: of a family of theirs, not our
 * own.
 */
fur_status fur_family_read_scaling(fur_error *error, const fur_json *json, const char *object, bool transformers,
                                   fur_model_config *config);
/* Base and scaling, of windowed layers too where the family has that, in any of the forms that transformers has had. */
fur_status fur_family_read_rope(fur_error *error, const fur_json *json, const fur_family *family,
                                fur_model_config *config);
json_t *fur_family_scaling_json(const fur_model_config *config);

#endif
