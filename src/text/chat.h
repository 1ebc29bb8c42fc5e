/* SPDX-License-Identifier: Apache-2.0 */
/* Messages into text and ids; furlong/chat.h for callers inside the library. */
#ifndef FUR_TEXT_CHAT_H
#define FUR_TEXT_CHAT_H

#include "furlong/chat.h"
#include "text/jinja.h"
#include "text/tokenizer.h"

typedef struct fur_chat_text {
    fur_string text;
    fur_chat_span *spans; /* rising */
    int64_t span_count;
} fur_chat_text;
void fur_chat_text_clear(fur_chat_text *chat); /* also of a zeroed struct */

/* The tokenizer's template; FUR_E_FORMAT where it has none. Destroy with fur_jinja_destroy. */
fur_status fur_chat_template_parse(fur_error *error, const fur_tokenizer *tokenizer, fur_jinja **out);
/* variables: an object, which is left as it is. */
fur_status fur_chat_make(fur_error *error, const fur_tokenizer *tokenizer, const fur_jinja *jinja,
                         const json_t *variables, fur_chat_text *out);
/* Appends the ids of the text, and a byte for each: 1 in an answer, else 0. */
fur_status fur_chat_ids(fur_error *error, const fur_tokenizer *tokenizer, const fur_chat_text *chat, fur_ids *ids,
                        fur_string *answer);

#endif
