/* SPDX-License-Identifier: Apache-2.0 */
/* Tokenizers: text to ids and back, behind one table of functions per kind. A new kind is a new file and a line in
 * tokenizer.c. */
#ifndef FUR_TEXT_TOKENIZER_H
#define FUR_TEXT_TOKENIZER_H

#include "base/error.h"
#include "furlong/data.h"
#include "text/buffer.h"

/* A text, or a window of a longer one. */
typedef struct fur_encoding {
    const char *text;
    int64_t bytes;
    bool begins;   /* nothing came before */
    bool ends;     /* nothing comes after */
    bool specials; /* texts of special tokens become those tokens */
    bool first;    /* with what the tokenizer puts before a whole text */
    bool last;     /* and behind */
} fur_encoding;

typedef struct fur_tokenizer_kind {
    const char *name;
    int64_t (*vocabulary)(const fur_tokenizer *tokenizer);
    /* Appends the ids of the first *used bytes: all of them where the text ends. Else those after which encoding may go
     * on in a window of its own, with the ids of the whole; 0 where there is no such place yet. */
    fur_status (*encode)(fur_error *error, const fur_tokenizer *tokenizer, const fur_encoding *input, fur_ids *out,
                         int64_t *used);
    /* Appends the text of ids from 0 to vocabulary - 1. */
    fur_status (*decode)(fur_error *error, const fur_tokenizer *tokenizer, const int32_t *ids, int64_t count,
                         bool specials, fur_string *out);
    /* id is from 0 to vocabulary - 1. */
    void (*piece)(const fur_tokenizer *tokenizer, int32_t id, const char **text, int64_t *bytes);
    /* The id of an added token, -1: there is none. */
    int32_t (*find)(const fur_tokenizer *tokenizer, const char *text, int64_t bytes);
    /* Bytes of the special token that the text begins with, 0: none. */
    int64_t (*special_at)(const fur_tokenizer *tokenizer, const char *text, int64_t bytes);
    /* Fills in all but kind, bos and eos of a zeroed struct. */
    void (*describe)(const fur_tokenizer *tokenizer, fur_tokenizer_info *out);
    void (*close)(fur_tokenizer *tokenizer);
} fur_tokenizer_kind;

/* First member of every kind's struct. */
struct fur_tokenizer {
    const fur_tokenizer_kind *kind;
    int32_t bos, eos;    /* ids, -1: none */
    char *chat_template; /* NULL: none */
};

/* Encodes a whole text in windows; appends to out. */
fur_status fur_tokenizer_encode_all(fur_error *error, const fur_tokenizer *tokenizer, fur_encoding whole, fur_ids *out);

/* One id per byte, 0 to 255: any text and any file, back to the same bytes. */
fur_status fur_tokenizer_bytes_create(fur_error *error, fur_tokenizer **out);

/* fur_tokenizer_open. */
fur_status fur_tokenizer_make(fur_error *error, const char *name, fur_tokenizer **out);

#endif
