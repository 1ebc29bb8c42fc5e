/* SPDX-License-Identifier: Apache-2.0 */
#include "text/utf8.h"

#include <string.h>

#include <utf8proc.h>

/* Bytes of the character at c, up to `left`; 0: none, and *subpart as in the header. Table 3-7 of the Unicode Standard:
 * the second byte's range depends on the first. */
static int64_t character(const unsigned char *c, int64_t left, int64_t *subpart)
{
    unsigned low = 0x80, high = 0xbf;
    int64_t length;
    *subpart = 1;
    if (c[0] < 0x80)
        return 1;
    if (c[0] < 0xc2 || c[0] > 0xf4)
        return 0;
    if (c[0] < 0xe0)
        length = 2;
    else if (c[0] < 0xf0)
        length = 3;
    else
        length = 4;
    if (c[0] == 0xe0)
        low = 0xa0;
    else if (c[0] == 0xed)
        high = 0x9f;
    else if (c[0] == 0xf0)
        low = 0x90;
    else if (c[0] == 0xf4)
        high = 0x8f;
    for (int64_t i = 1; i < length; i++) {
        *subpart = i;
        if (i == left || c[i] < low || c[i] > high)
            return 0;
        low = 0x80;
        high = 0xbf;
    }
    return length;
}

int64_t fur_utf8_check(const char *text, int64_t bytes, int64_t *length)
{
    const unsigned char *c = (const unsigned char *)text;
    int64_t at = 0;
    *length = 0;
    while (at < bytes) {
        uint64_t eight;
        if (at + 8 <= bytes) {
            memcpy(&eight, c + at, 8);
            if (!(eight & 0x8080808080808080u)) {
                at += 8;
                continue;
            }
        }
        int64_t step = character(c + at, bytes - at, length);
        if (step == 0)
            return at;
        at += step;
    }
    *length = 0;
    return bytes;
}

fur_status fur_utf8_make_whole(fur_error *error, const char *text, int64_t bytes, bool replace, fur_string *out)
{
    FUR_TRY(fur_string_reserve(error, out, bytes));
    while (bytes > 0) {
        int64_t broken, whole = fur_utf8_check(text, bytes, &broken);
        FUR_TRY(fur_string_add(error, out, text, whole));
        for (int64_t i = 0; i < (replace ? broken > 0 : broken); i++) {
            char stand_in[4];
            int32_t code = replace ? 0xfffd : 0xdc00 + (unsigned char)text[whole + i];
            FUR_TRY(fur_string_add(error, out, stand_in, fur_utf8_put(code, stand_in)));
        }
        text += whole + broken;
        bytes -= whole + broken;
    }
    return FUR_OK;
}

fur_status fur_utf8_restore(fur_error *error, const char *text, int64_t bytes, fur_string *out)
{
    FUR_TRY(fur_string_reserve(error, out, bytes));
    for (int64_t at = 0; at < bytes;) {
        int64_t length = fur_utf8_length(text + at);
        int stray = length == 3 ? fur_utf8_stray(fur_utf8_get(text + at)) : -1;
        if (stray >= 0)
            out->data[out->length++] = (char)stray;
        for (int64_t i = 0; stray < 0 && i < length; i++)
            out->data[out->length++] = text[at + i];
        at += length;
    }
    return FUR_OK;
}

bool fur_utf8_is_space(int32_t code)
{
    return (code >= 9 && code <= 13) || code == 0x20 || code == 0x85 || code == 0xa0 || code == 0x1680 ||
           (code >= 0x2000 && code <= 0x200a) || code == 0x2028 || code == 0x2029 || code == 0x202f || code == 0x205f ||
           code == 0x3000;
}

bool fur_utf8_is_number(int32_t code)
{
    if (code < 0x80)
        return code >= '0' && code <= '9';
    utf8proc_category_t category = utf8proc_category(code);
    return category == UTF8PROC_CATEGORY_ND || category == UTF8PROC_CATEGORY_NL || category == UTF8PROC_CATEGORY_NO;
}

bool fur_utf8_is_punctuation(int32_t code)
{
    if (code < 0x80)
        return (code >= '!' && code <= '/') || (code >= ':' && code <= '@') || (code >= '[' && code <= '`') ||
               (code >= '{' && code <= '~');
    utf8proc_category_t category = utf8proc_category(code);
    return category >= UTF8PROC_CATEGORY_PC && category <= UTF8PROC_CATEGORY_PO;
}

bool fur_utf8_is_word(int32_t code)
{
    utf8proc_category_t category = utf8proc_category(code);
    return (category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_ND) || category == UTF8PROC_CATEGORY_NL ||
           category == UTF8PROC_CATEGORY_PC || code == 0x200c || code == 0x200d || (code >= 0x24b6 && code <= 0x24e9) ||
           (code >= 0x1f130 && code <= 0x1f149) || (code >= 0x1f150 && code <= 0x1f169) ||
           (code >= 0x1f170 && code <= 0x1f189);
}
