/* SPDX-License-Identifier: Apache-2.0 */
/* What stands beside tokenizer.json: tokenizer_config.json and chat_template.jinja. */
#ifndef FUR_TEXT_TOKENIZER_CONFIG_H
#define FUR_TEXT_TOKENIZER_CONFIG_H

#include "text/tokenizer.h"

/* Sets the first and last token and the chat template, from what is in the folder. */
fur_status fur_tokenizer_read_config(fur_error *error, const char *folder, fur_tokenizer *tokenizer);

#endif
