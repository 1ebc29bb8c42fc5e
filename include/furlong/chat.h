/* SPDX-License-Identifier: Apache-2.0 */
/* Chat templates: messages into the text a model was taught them in, by the template that came with its tokenizer
 * (tokenizer_config.json, or chat_template.jinja), which is run as transformers runs it. The part of Jinja that the
 * templates of Llama, Qwen, SmolLM2, Gemma and Mistral use is known (docs/TOKENIZERS.md); what is not is refused by
 * name where it is met. `strftime_now` is not defined: what a template makes must not depend on the day. */
#ifndef FURLONG_CHAT_H
#define FURLONG_CHAT_H

#include "furlong/tokenizer.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Bytes first..end-1 of a text are the answer of an assistant's message and the special token that ends it: what there
 * is to be learned. Of a template with {% generation %} blocks: what such a block made, and message is -1. */
typedef struct fur_chat_span {
    int64_t first, end;
    int64_t message; /* index */
} fur_chat_span;

/* variables: a JSON object of what the template reads, {"messages": [{"role": ..., "content": ...}, ...],
 * "add_generation_prompt": true, ...}. bos_token and eos_token are the tokenizer's, tools and documents none, unless
 * they are given there. Writes at most `capacity` bytes of text and `span_capacity` spans, and sets *bytes and
 * *span_count to the numbers there are. */
FUR_API fur_status fur_chat_render(fur_context *context, const fur_tokenizer *tokenizer, const char *variables,
                                   int64_t variable_bytes, char *text, int64_t capacity, int64_t *bytes,
                                   fur_chat_span *spans, int64_t span_capacity, int64_t *span_count);

/* The ids of that text, and for each whether it is part of an answer (1) or not (0); answer NULL: not wanted. A
 * tokenizer that changes text, so that no token can be found in it again, is refused where spans are to be found. */
FUR_API fur_status fur_chat_encode(fur_context *context, const fur_tokenizer *tokenizer, const char *variables,
                                   int64_t variable_bytes, int32_t *ids, unsigned char *answer, int64_t capacity,
                                   int64_t *count);

#ifdef __cplusplus
}
#endif
#endif
