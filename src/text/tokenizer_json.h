/* SPDX-License-Identifier: Apache-2.0 */
/* tokenizer.json of Hugging Face: what is known is read, everything else is refused by name. */
#ifndef FUR_TEXT_TOKENIZER_JSON_H
#define FUR_TEXT_TOKENIZER_JSON_H

#include "io/json.h"
#include "text/pipeline.h"

/* From the file's content. */
fur_status fur_tokenizer_from_json(fur_error *error, const fur_json *json, fur_tokenizer **out);

/* Parts of it: what lies around the model (tokenizer_json_steps.c), the model and its tokens (tokenizer_json_model.c).
 * The first decides whether tokens are byte-level. */
fur_status fur_tokenizer_json_steps(fur_error *error, const fur_json *json, fur_pipeline *pipeline);
fur_status fur_tokenizer_json_model(fur_error *error, const fur_json *json, fur_pipeline *pipeline);

/* A part of a document under a name of its own, for the functions of io/json.h. */
typedef struct fur_json_part {
    fur_json json;
    char name[512];
} fur_json_part;
/* index -1: none. */
void fur_json_part_make(const fur_json *whole, const char *key, int64_t index, json_t *value, fur_json_part *out);

#endif
