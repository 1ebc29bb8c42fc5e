/* SPDX-License-Identifier: Apache-2.0 */
/* The list of furlong/choices.h, as its parts see it. Read once; what it holds goes to two spools:
 *
 *      tokens    | prompt 0 | choice 0 | choice 1 | ... | prompt 1 | ...      int32
 *      entries   | of choice 0 | of choice 1 | ...                            fur_choice
 */
#ifndef FUR_TEXT_CHOICES_H
#define FUR_TEXT_CHOICES_H

#include "base/error.h"
#include "furlong/choices.h"
#include "io/spool.h"

typedef struct fur_choice {
    int64_t prompt_first, prompt_count; /* tokens of its item's prompt in the spool */
    int64_t first, count;               /* its own */
    int64_t bytes;                      /* of its text */
    int64_t index, of;                  /* which one of its item, out of how many */
    int64_t right;                      /* 1: it is the answer */
} fur_choice;

typedef struct fur_choices_limits {
    int64_t ram_bytes;  /* of tokens, and of entries */
    int64_t line_bytes; /* longest line */
} fur_choices_limits;
#define FUR_CHOICES_LIMITS ((fur_choices_limits){.ram_bytes = (int64_t)32 << 20, .line_bytes = (int64_t)16 << 20})

struct fur_choices {
    fur_choices_info info; /* complete once open */
    char *name;            /* of the file, for errors */
    int64_t longest_line;  /* of the item that info.longest comes from */
    int64_t vocabulary;    /* of the tokenizer */
    fur_spool *tokens, *entries;
};

/* fur_choices_open with a tokenizer at hand and other limits. */
fur_status fur_choices_make(fur_error *error, const fur_choices_settings *settings, const fur_tokenizer *tokenizer,
                            fur_choices_limits limits, fur_choices **out);
/* Entry of choice 0 to info.choices - 1; and tokens of the spool. */
fur_status fur_choices_entry(fur_error *error, const fur_choices *choices, int64_t index, fur_choice *out);
fur_status fur_choices_ids(fur_error *error, const fur_choices *choices, int64_t first, int64_t count, int32_t *ids);
/* Positions that the choice takes in a row: its last token is predicted, not read. */
int64_t fur_choice_positions(const fur_choice *choice);

#endif
