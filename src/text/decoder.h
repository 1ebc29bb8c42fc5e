/* SPDX-License-Identifier: Apache-2.0 */
/* Tokens back to text: the "decoder" of tokenizer.json. */
#ifndef FUR_TEXT_DECODER_H
#define FUR_TEXT_DECODER_H

#include "text/regex.h"
#include "text/splitter.h"

typedef enum fur_decode_kind {
    FUR_DECODE_BYTE_LEVEL,    /* each character back to the byte it is written for */
    FUR_DECODE_REPLACE,       /* every `pattern` by `content` */
    FUR_DECODE_BYTE_FALLBACK, /* <0xHH> to the byte */
    FUR_DECODE_METASPACE,     /* every `content` to a space; in the first token to nothing, unless never prepended */
    FUR_DECODE_STRIP,         /* at most `left` and `right` of `content` at the ends */
    FUR_DECODE_FUSE           /* what comes after works on the whole text */
} fur_decode_kind;

typedef struct fur_decode_step {
    fur_decode_kind kind;
    fur_regex *pattern;
    fur_string content;
    int64_t left, right;
    fur_prepend_scheme scheme;
} fur_decode_step;

typedef struct fur_decoder {
    fur_decode_step *steps;
    int64_t count;
    int64_t whole_from; /* steps from here on work on the whole text: only FUR_DECODE_STRIP */
    bool first_differs; /* the first token of a text has other bytes than later ones */
} fur_decoder;

/* Takes what the step holds, also when it fails. */
fur_status fur_decoder_add(fur_error *error, fur_decoder *decoder, const char *where, fur_decode_step step);
void fur_decoder_clear(fur_decoder *decoder);

/* Appends the bytes of one token. */
fur_status fur_decoder_piece(fur_error *error, const fur_decoder *decoder, const char *token, int64_t bytes, bool first,
                             fur_string *out);
/* What is done to the whole text, in place. */
void fur_decoder_finish(const fur_decoder *decoder, fur_string *text, int64_t from);

/* The printable characters that byte-level tokens are written in. byte_of: -1 for other characters. */
int32_t fur_byte_level_character(int byte);
int fur_byte_level_byte_of(int32_t code);
/* Appends the bytes that a token's characters stand for; false, and nothing appended, if one of them is no such
 * character. */
bool fur_byte_level_decode(const char *token, int64_t bytes, char *out, int64_t *length);
/* The byte of a token <0xHH>, -1: another. */
int fur_byte_token_value(const char *token, int64_t bytes);

#endif
