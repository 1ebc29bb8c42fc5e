/* SPDX-License-Identifier: Apache-2.0 */
/* UTF-8 that may be broken. Inside the tokenizers a byte b that is part of no character is written as the lone
 * surrogate U+DC00 + b, three bytes that no valid text holds: what is cut, normalised and matched is then always a
 * sequence of code points, and the byte can be had back. */
#ifndef FUR_TEXT_UTF8_H
#define FUR_TEXT_UTF8_H

#include <stdbool.h>

#include "text/buffer.h"

/* Bytes of the character that starts with this byte, in text known to be whole. */
static inline int64_t fur_utf8_length(const char *at)
{
    unsigned char c = (unsigned char)*at;
    return c < 0x80 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
}

/* The code point at `at`, in text known to be whole. */
static inline int32_t fur_utf8_get(const char *at)
{
    const unsigned char *c = (const unsigned char *)at;
    if (c[0] < 0x80)
        return c[0];
    if (c[0] < 0xe0)
        return (c[0] & 0x1f) << 6 | (c[1] & 0x3f);
    if (c[0] < 0xf0)
        return (c[0] & 0x0f) << 12 | (c[1] & 0x3f) << 6 | (c[2] & 0x3f);
    return (c[0] & 0x07) << 18 | (c[1] & 0x3f) << 12 | (c[2] & 0x3f) << 6 | (c[3] & 0x3f);
}

/* Writes 1 to 4 bytes; returns how many. */
static inline int fur_utf8_put(int32_t code, char out[4])
{
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    if (code < 0x800) {
        out[0] = (char)(0xc0 | code >> 6);
        out[1] = (char)(0x80 | (code & 0x3f));
        return 2;
    }
    if (code < 0x10000) {
        out[0] = (char)(0xe0 | code >> 12);
        out[1] = (char)(0x80 | (code >> 6 & 0x3f));
        out[2] = (char)(0x80 | (code & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | code >> 18);
    out[1] = (char)(0x80 | (code >> 12 & 0x3f));
    out[2] = (char)(0x80 | (code >> 6 & 0x3f));
    out[3] = (char)(0x80 | (code & 0x3f));
    return 4;
}

/* The byte that a lone surrogate stands for, -1: another character. */
static inline int fur_utf8_stray(int32_t code)
{
    return code >= 0xdc80 && code <= 0xdcff ? code - 0xdc00 : -1;
}

/* Where the first byte lies that is part of no character; `bytes`: nowhere. *length: how many bytes from there are
 * the beginning of a character cut short, or 1 (the "maximal subpart" that Unicode, and Python, replace by one
 * U+FFFD). */
int64_t fur_utf8_check(const char *text, int64_t bytes, int64_t *length);

/* Appends `text`, with what is no character as lone surrogates, or, with `replace`, as U+FFFD for each subpart. */
fur_status fur_utf8_make_whole(fur_error *error, const char *text, int64_t bytes, bool replace, fur_string *out);

/* Appends text made whole without `replace` as the bytes it came from. */
fur_status fur_utf8_restore(fur_error *error, const char *text, int64_t bytes, fur_string *out);

/* Unicode's White_Space, and its General_Category Nd, Nl, No. */
bool fur_utf8_is_space(int32_t code);
bool fur_utf8_is_number(int32_t code);
/* ASCII punctuation and symbols, or General_Category P*. */
bool fur_utf8_is_punctuation(int32_t code);
/* What a word is made of: letters, marks, decimal numbers, connectors, and the two joiners. */
bool fur_utf8_is_word(int32_t code);

#endif
