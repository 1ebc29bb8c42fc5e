/* SPDX-License-Identifier: Apache-2.0 */
/* The vocabulary of a GGUF file as the tokenizer.json and tokenizer_config.json that mean the same, and back. A file
 * names the way it splits text; those that are known are a table (gguf_splits.h), and what is not is never guessed. */
#ifndef FUR_TEXT_GGUF_VOCABULARY_H
#define FUR_TEXT_GGUF_VOCABULARY_H

#include "io/gguf.h"
#include "io/json.h"

/* Whether the file has one: tokens, of a model that is not "no_vocab". */
bool fur_gguf_has_vocabulary(const fur_gguf *file);

/* Byte-level BPE (tokenizer.ggml.model gpt2) and BPE of SentencePiece (llama). The caller owns both references.
 * FUR_E_UNSUPPORTED: another model, or a split (tokenizer.ggml.pre) that is not in the table. FUR_E_FORMAT: a token
 * that is not UTF-8 or there twice, an id beyond the tokens, arrays of other lengths. */
fur_status fur_gguf_vocabulary_json(fur_error *error, const fur_gguf *file, json_t **tokenizer, json_t **config);

/* Both as documents named after the file; FUR_E_UNSUPPORTED besides: the file has no vocabulary. Clear both. */
fur_status fur_gguf_vocabulary_open(fur_error *error, const char *path, fur_json *tokenizer, fur_json *config);

/* Values of the tokenizer of a folder in Hugging Face form, for `rows` tokens, into `to`. *why, where it has none that
 * GGUF could name: the reason, and `to` says that there is no vocabulary; else "". FUR_E_FORMAT: a file that is
 * damaged, or has more tokens than rows. */
typedef struct fur_gguf_reason {
    char text[160];
} fur_gguf_reason;
fur_status fur_gguf_vocabulary_values(fur_error *error, const char *folder, int64_t rows, fur_gguf_builder *to,
                                      fur_gguf_reason *why);
/* Those of a file that has them (its tokenizer.* keys), as they are. */
fur_status fur_gguf_vocabulary_copy(fur_error *error, const fur_gguf *file, fur_gguf_builder *to);

#endif
