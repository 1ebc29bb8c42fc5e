/* SPDX-License-Identifier: Apache-2.0 */
/* Tokenizer files in Hugging Face form, so that a checkpoint loads there with its tokenizer. */
#ifndef FUR_TEXT_TOKENIZER_FILES_H
#define FUR_TEXT_TOKENIZER_FILES_H

#include <stdint.h>

#include <jansson.h>

#include "base/error.h"

/* The byte tokenizer as a byte-level BPE without merges: tokenizer.json and tokenizer_config.json in `folder`. */
fur_status fur_tokenizer_files_write_bytes(fur_error *error, const char *folder, int64_t context);

/* The files of a tokenizer, in memory: a run puts them beside every checkpoint, whatever becomes of where they were. */
#define FUR_TOKENIZER_FILES 5
extern const char *const fur_tokenizer_file_names[FUR_TOKENIZER_FILES];
typedef struct fur_tokenizer_files {
    char *content[FUR_TOKENIZER_FILES]; /* in the order of the names; NULL: not there */
    int64_t bytes[FUR_TOKENIZER_FILES];
} fur_tokenizer_files;
/* From a folder, or tokenizer.json alone from a file, or what a GGUF file's vocabulary is as such. */
fur_status fur_tokenizer_files_read(fur_error *error, const char *path, fur_tokenizer_files *out);
fur_status fur_tokenizer_files_write(fur_error *error, const fur_tokenizer_files *files, const char *folder);
void fur_tokenizer_files_clear(fur_tokenizer_files *files); /* also of a zeroed struct */

/* What tokenizer.json then holds; the caller's, NULL when out of memory. */
json_t *fur_tokenizer_files_bytes(void);

#endif
