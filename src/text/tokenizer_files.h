/* SPDX-License-Identifier: Apache-2.0 */
/* Tokenizer files in Hugging Face form, so that a checkpoint loads there with its tokenizer. */
#ifndef FUR_TEXT_TOKENIZER_FILES_H
#define FUR_TEXT_TOKENIZER_FILES_H

#include <stdint.h>

#include <jansson.h>

#include "base/error.h"

/* The byte tokenizer as a byte-level BPE without merges: tokenizer.json and tokenizer_config.json in `folder`. */
fur_status fur_tokenizer_files_write_bytes(fur_error *error, const char *folder, int64_t context);

/* What tokenizer.json then holds; the caller's, NULL when out of memory. */
json_t *fur_tokenizer_files_bytes(void);

#endif
