/* SPDX-License-Identifier: Apache-2.0 */
/* What makers of a pipeline share. */
#ifndef FUR_TEXT_PIPELINE_PARTS_H
#define FUR_TEXT_PIPELINE_PARTS_H

#include "text/pipeline.h"

/* The words of GPT-2, which the pre-tokenizer ByteLevel cuts by. */
#define FUR_GPT2_WORDS "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"

/* A stage that cuts by a pattern. */
fur_status fur_pipeline_add_pattern(fur_error *error, fur_pipeline *pipeline, const char *where, const char *pattern,
                                    int64_t bytes, bool literal, fur_split_behavior behavior, bool invert);
/* Takes the tokens as written (also when it fails); byte-level ones are kept as bytes. Sets the model's byte_ids. */
fur_status fur_pipeline_take_tokens(fur_error *error, fur_pipeline *pipeline, fur_vocabulary *written);
/* A merge of two tokens, as written; FUR_E_FORMAT names the one that is missing. where: file and place. */
fur_status fur_pipeline_add_merge(fur_error *error, fur_pipeline *pipeline, const fur_vocabulary *written,
                                  const char *where, const char *left, int64_t left_bytes, const char *right,
                                  int64_t right_bytes, uint32_t rank);
/* A step of the decoder without anything of its own, or with a text to be found. */
fur_status fur_pipeline_add_decoding(fur_error *error, fur_pipeline *pipeline, const char *where, fur_decode_kind kind,
                                     const char *pattern, const char *content);

#endif
