/* SPDX-License-Identifier: Apache-2.0 */
#include "text/decoder.h"

#include <string.h>

#include "base/alloc.h"
#include "base/size.h"
#include "io/file.h"
#include "text/utf8.h"

/* ---- bytes as characters -------------------------------------------------------------------------------------- */

static bool is_printable(int byte)
{
    return (byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte <= 0xac) || (byte >= 0xae && byte <= 0xff);
}

/* A byte that is a printable character of Latin-1 is written as it; the 68 others as U+0100 and up, in order. */
int32_t fur_byte_level_character(int byte)
{
    if (is_printable(byte))
        return byte;
    int32_t next = 0x100;
    for (int b = 0; b < byte; b++)
        next += !is_printable(b);
    return next;
}

int fur_byte_level_byte_of(int32_t code)
{
    if (code < 0x100)
        return code >= 0 && is_printable(code) ? code : -1;
    if (code <= 0x120) /* 0 to 0x20 */
        return code - 0x100;
    if (code <= 0x142) /* 0x7f to 0xa0 */
        return code - 0x121 + 0x7f;
    return code == 0x143 ? 0xad : -1;
}

bool fur_byte_level_decode(const char *token, int64_t bytes, char *out, int64_t *length)
{
    int64_t count = 0;
    for (int64_t at = 0; at < bytes; at += fur_utf8_length(token + at)) {
        int byte = fur_byte_level_byte_of(fur_utf8_get(token + at));
        if (byte < 0)
            return false;
        out[count++] = (char)byte;
    }
    *length = count;
    return true;
}

static int hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if ((c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'))
        return (c & 7) + 9;
    return -1;
}

int fur_byte_token_value(const char *token, int64_t bytes)
{
    if (bytes != 6 || memcmp(token, "<0x", 3) != 0 || token[5] != '>' || hex(token[3]) < 0 || hex(token[4]) < 0)
        return -1;
    return hex(token[3]) * 16 + hex(token[4]);
}

/* ---- steps ---------------------------------------------------------------------------------------------------- */

static void clear_step(fur_decode_step *step)
{
    fur_regex_destroy(step->pattern);
    fur_string_clear(&step->content);
}

fur_status fur_decoder_add(fur_error *error, fur_decoder *decoder, const char *where, fur_decode_step step)
{
    static const char *const names[] = {"ByteLevel", "Replace", "ByteFallback", "Metaspace", "Strip", "Fuse"};
    bool whole = decoder->whole_from < decoder->count;
    bool bytes_before = false; /* those of a character may lie in several tokens: what comes next sees one text */
    for (int64_t i = 0; i < decoder->count; i++)
        bytes_before = bytes_before || decoder->steps[i].kind == FUR_DECODE_BYTE_FALLBACK ||
                       decoder->steps[i].kind == FUR_DECODE_BYTE_LEVEL;
    fur_status status = FUR_OK;
    if ((whole && step.kind != FUR_DECODE_STRIP && step.kind != FUR_DECODE_FUSE) ||
        (!whole && bytes_before && step.kind != FUR_DECODE_FUSE))
        status = fur_error_set(error, FUR_E_UNSUPPORTED, "%s: %s after %s is not read here", where, names[step.kind],
                               names[decoder->steps[decoder->count - 1].kind]);
    fur_decode_step *steps = NULL;
    if (status == FUR_OK) {
        steps = fur_realloc(decoder->steps, (size_t)(decoder->count + 1) * sizeof *decoder->steps);
        if (!steps)
            status = fur_memory_error(error, (int64_t)sizeof step, "a decoder");
    }
    if (status != FUR_OK) {
        clear_step(&step);
        return status;
    }
    decoder->steps = steps;
    steps[decoder->count++] = step;
    if (!whole)
        decoder->whole_from = decoder->count - (step.kind == FUR_DECODE_FUSE);
    if (step.kind == FUR_DECODE_METASPACE && step.scheme != FUR_PREPEND_NEVER)
        decoder->first_differs = true;
    return FUR_OK;
}

void fur_decoder_clear(fur_decoder *decoder)
{
    for (int64_t i = 0; i < decoder->count; i++)
        clear_step(&decoder->steps[i]);
    fur_free(decoder->steps);
    *decoder = (fur_decoder){0};
}

static fur_status replace(fur_error *error, const fur_decode_step *step, const char *text, int64_t bytes,
                          const char *by, int64_t by_bytes, fur_string *out)
{
    const char *what = step->content.data;
    int64_t length = step->content.length;
    for (int64_t at = 0; at < bytes;) {
        if (bytes - at >= length && memcmp(text + at, what, (size_t)length) == 0) {
            FUR_TRY(fur_string_add(error, out, by, by_bytes));
            at += length;
        } else {
            FUR_TRY(fur_string_add(error, out, text + at++, 1));
        }
    }
    return FUR_OK;
}

static fur_status replace_pattern(fur_error *error, const fur_decode_step *step, const char *text, int64_t bytes,
                                  fur_string *out)
{
    int64_t from = 0, first, end;
    for (;;) {
        fur_regex_found found;
        FUR_TRY(fur_regex_find(error, step->pattern, text, bytes, from, false, &found, &first, &end));
        if (found != FUR_REGEX_MATCH)
            return fur_string_add(error, out, text + from, bytes - from);
        FUR_TRY(fur_string_add(error, out, text + from, first - from));
        FUR_TRY(fur_string_add(error, out, step->content.data, step->content.length));
        from = end;
    }
}

/* Cuts from both ends: the left keeps what the right may take, as there is one text. */
static void strip(const fur_decode_step *step, const char **text, int64_t *bytes)
{
    int64_t length = step->content.length;
    for (int64_t i = 0; i < step->left && *bytes >= length && memcmp(*text, step->content.data, (size_t)length) == 0;
         i++) {
        *text += length;
        *bytes -= length;
    }
    for (int64_t i = 0; i < step->right && *bytes >= length &&
                        memcmp(*text + *bytes - length, step->content.data, (size_t)length) == 0;
         i++)
        *bytes -= length;
}

static fur_status run_step(fur_error *error, const fur_decode_step *step, const char *text, int64_t bytes, bool first,
                           fur_string *out)
{
    int64_t length;
    switch (step->kind) {
    case FUR_DECODE_REPLACE: return replace_pattern(error, step, text, bytes, out);
    case FUR_DECODE_METASPACE:
        return replace(error, step, text, bytes, " ", first && step->scheme != FUR_PREPEND_NEVER ? 0 : 1, out);
    case FUR_DECODE_STRIP: strip(step, &text, &bytes); return fur_string_add(error, out, text, bytes);
    case FUR_DECODE_BYTE_FALLBACK: {
        int byte = fur_byte_token_value(text, bytes);
        return byte >= 0 ? fur_string_add(error, out, (char[]){(char)byte}, 1)
                         : fur_string_add(error, out, text, bytes);
    }
    case FUR_DECODE_BYTE_LEVEL:
        FUR_TRY(fur_string_reserve(error, out, bytes));
        if (!fur_byte_level_decode(text, bytes, out->data + out->length, &length))
            return fur_string_add(error, out, text, bytes);
        out->length += length;
        return FUR_OK;
    case FUR_DECODE_FUSE: break;
    }
    return fur_string_add(error, out, text, bytes);
}

fur_status fur_decoder_piece(fur_error *error, const fur_decoder *decoder, const char *token, int64_t bytes, bool first,
                             fur_string *out)
{
    fur_string now = {0}, next = {0};
    fur_status status = fur_string_add(error, &now, token, bytes);
    for (int64_t i = 0; i < decoder->whole_from && status == FUR_OK; i++) {
        next.length = 0;
        status = run_step(error, &decoder->steps[i], now.data, now.length, first, &next);
        fur_string swapped = now;
        now = next;
        next = swapped;
    }
    if (status == FUR_OK)
        status = fur_string_add(error, out, now.data, now.length);
    fur_string_clear(&now);
    fur_string_clear(&next);
    return status;
}

void fur_decoder_finish(const fur_decoder *decoder, fur_string *text, int64_t from)
{
    const char *start = text->data + from;
    int64_t bytes = text->length - from;
    for (int64_t i = decoder->whole_from; i < decoder->count; i++)
        if (decoder->steps[i].kind == FUR_DECODE_STRIP && bytes > 0)
            strip(&decoder->steps[i], &start, &bytes);
    if (bytes > 0 && start != text->data + from)
        memmove(text->data + from, start, (size_t)bytes);
    text->length = from + bytes;
}
