/* SPDX-License-Identifier: Apache-2.0 */
/* What stands beside tokenizer.json: tokenizer_config.json and chat_template.jinja. */
#ifndef FUR_TEXT_TOKENIZER_CONFIG_H
#define FUR_TEXT_TOKENIZER_CONFIG_H

#include "io/json.h"
#include "text/tokenizer.h"

/* Sets the first and last token and the chat template, from what is in the folder. */
fur_status fur_tokenizer_read_config(fur_error *error, const char *folder, fur_tokenizer *tokenizer);
/* The same from the content of a tokenizer_config.json. */
fur_status fur_tokenizer_set_config(fur_error *error, const fur_json *config, fur_tokenizer *tokenizer);

#endif
