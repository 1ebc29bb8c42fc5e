/* SPDX-License-Identifier: Apache-2.0 */
/* Tokenizers: text to ids and back, behind one table of functions per kind. A new kind is a new file and a line in
 * tokenizer.c. */
#ifndef FUR_TEXT_TOKENIZER_H
#define FUR_TEXT_TOKENIZER_H

#include "base/error.h"
#include "furlong/data.h"

typedef struct fur_tokenizer_kind {
    const char *name;
    int64_t (*vocabulary)(const fur_tokenizer *tokenizer);
    /* As fur_tokenizer_encode. */
    fur_status (*encode)(fur_error *error, const fur_tokenizer *tokenizer, const char *text, int64_t bytes,
                         int32_t *ids, int64_t capacity, int64_t *count);
    /* The longest beginning of `text` that has the same ids whatever follows it, and after which encoding may start
     * afresh; 0 if there is none yet. Lets a corpus be encoded in pieces with the ids of the whole. */
    int64_t (*safe_prefix)(const fur_tokenizer *tokenizer, const char *text, int64_t bytes);
    /* id is from 0 to vocabulary - 1. */
    void (*piece)(const fur_tokenizer *tokenizer, int32_t id, const char **text, int64_t *bytes);
    void (*close)(fur_tokenizer *tokenizer);
} fur_tokenizer_kind;

/* First member of every kind's struct. */
struct fur_tokenizer {
    const fur_tokenizer_kind *kind;
};

/* One id per byte, 0 to 255: any text and any file, back to the same bytes. */
fur_status fur_tokenizer_bytes_create(fur_error *error, fur_tokenizer **out);

/* fur_tokenizer_open. A folder is one whose tokenizer.json is that of a kind we have (text/tokenizer_files.h). */
fur_status fur_tokenizer_make(fur_error *error, const char *name, fur_tokenizer **out);

#endif
