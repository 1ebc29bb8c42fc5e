/* SPDX-License-Identifier: Apache-2.0 */
#include "text/regex_syntax.h"

#include <string.h>

#include "io/file.h"
#include "text/utf8.h"

/* Unicode's White_Space: PCRE2 counts U+180E too. Oniguruma's word characters: what is Alphabetic, marks, decimal
 * digits, connectors; outside classes also six of Latin-1, superscripts and fractions. */
#define SPACES "\\x09-\\x0d\\x20\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"
#define WORDS                                                                                                          \
    "\\p{L}\\p{M}\\p{Nl}\\p{Nd}\\p{Pc}\\x{24b6}-\\x{24e9}\\x{1f130}-\\x{1f149}\\x{1f150}-\\x{1f169}\\x{1f170}-\\x{1f189}"
#define LATIN_WORDS "\\x{b2}\\x{b3}\\x{b9}\\x{bc}-\\x{be}"
#define HEX         "0-9A-Fa-f"

typedef struct translation {
    fur_error *error;
    const char *where;
    const char *pattern;
    int64_t bytes, at;
    bool names_scripts;
    fur_string *out;
    bool *looks_behind;
} translation;

static fur_status refuse(const translation *t, int64_t at, const char *what)
{
    return fur_error_set(t->error, FUR_E_UNSUPPORTED, "%s: regular expression, offset %lld: %s is not read here",
                         t->where, (long long)at, what);
}

static fur_status refuse_part(const translation *t, int64_t at, int64_t bytes)
{
    char part[16] = {0};
    int64_t left = t->bytes - at;
    bytes = bytes < left ? bytes : left;
    memcpy(part, t->pattern + at, (size_t)bytes);
    return refuse(t, at, part);
}

static fur_status put(const translation *t, const char *text)
{
    return fur_string_add(t->error, t->out, text, (int64_t)strlen(text));
}

static int peek(const translation *t, int64_t ahead)
{
    return t->at + ahead < t->bytes ? (unsigned char)t->pattern[t->at + ahead] : -1;
}

static bool starts(const translation *t, const char *text)
{
    int64_t length = (int64_t)strlen(text);
    return t->bytes - t->at >= length && memcmp(t->pattern + t->at, text, (size_t)length) == 0;
}

/* Copies `bytes` as they are. */
static fur_status copy(translation *t, int64_t bytes)
{
    FUR_TRY(fur_string_add(t->error, t->out, t->pattern + t->at, bytes));
    t->at += bytes;
    return FUR_OK;
}

/* A set of characters given by ranges, inside or outside brackets. */
static fur_status put_set(const translation *t, const char *ranges, bool negated, bool in_class)
{
    if (in_class && negated)
        return refuse_part(t, t->at, 2);
    if (!in_class)
        FUR_TRY(put(t, negated ? "[^" : "["));
    FUR_TRY(put(t, ranges));
    return in_class ? FUR_OK : put(t, "]");
}

static bool is_hex(int c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

/* \p{NAME}, \P{NAME}: general categories have one or two letters, everything longer is a script. */
static fur_status property(translation *t)
{
    int64_t at = t->at, name = at + 3;
    const char *close = peek(t, 2) == '{' ? memchr(t->pattern + at, '}', (size_t)(t->bytes - at)) : NULL;
    if (!close || close - t->pattern - name > 40)
        return refuse_part(t, at, 3);
    int64_t end = close - t->pattern;
    bool negated = name < end && t->pattern[name] == '^';
    bool script = end - name - negated > 2 && t->names_scripts &&
                  !(end - name - negated == 3 && memcmp(t->pattern + name + negated, "Any", 3) == 0);
    FUR_TRY(fur_string_add(t->error, t->out, t->pattern + at, 3 + negated));
    if (script)
        FUR_TRY(put(t, "sc:"));
    FUR_TRY(fur_string_add(t->error, t->out, t->pattern + name + negated, end + 1 - name - negated));
    t->at = end + 1;
    return FUR_OK;
}

/* \xHH, \x{H...}, \uHHHH */
static fur_status code_point(translation *t)
{
    int64_t first = t->at + 2, count = 0;
    bool braces = peek(t, 1) == 'x' && peek(t, 2) == '{';
    int64_t most = peek(t, 1) == 'u' ? 4 : braces ? 8 : 2;
    first += braces;
    int64_t value = 0;
    while (count < most && first + count < t->bytes && is_hex((unsigned char)t->pattern[first + count])) {
        int c = (unsigned char)t->pattern[first + count++];
        value = value * 16 + (c <= '9' ? c - '0' : (c & 7) + 9);
    }
    bool closed = !braces || (first + count < t->bytes && t->pattern[first + count] == '}');
    bool whole = most == 8 ? count >= 1 : count == most;
    /* a byte, not a character, from 0x80 on */
    if (!whole || !closed || value > 0x10ffff || (value >= 0xd800 && value < 0xe000) || (most == 2 && value >= 0x80))
        return refuse_part(t, t->at, 4);
    FUR_TRY(put(t, "\\x{"));
    FUR_TRY(fur_string_add(t->error, t->out, t->pattern + first, count));
    FUR_TRY(put(t, "}"));
    t->at = first + count + braces;
    return FUR_OK;
}

static fur_status escape(translation *t, bool in_class)
{
    int c = peek(t, 1);
    if (c < 0)
        return refuse(t, t->at, "a backslash at the end");
    bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    if (!letter)
        return copy(t, 1 + fur_utf8_length(t->pattern + t->at + 1));
    switch (c) {
    case 's':
    case 'S': FUR_TRY(put_set(t, SPACES, c == 'S', in_class)); break;
    case 'w':
    case 'W': FUR_TRY(put_set(t, in_class ? WORDS : WORDS LATIN_WORDS, c == 'W', in_class)); break;
    case 'h':
    case 'H': FUR_TRY(put_set(t, HEX, c == 'H', in_class)); break;
    case 'd': FUR_TRY(put(t, "\\p{Nd}")); break;
    case 'D': FUR_TRY(put(t, "\\P{Nd}")); break;
    case 'v': FUR_TRY(put(t, "\\x0b")); break;
    case 't':
    case 'n':
    case 'r':
    case 'f':
    case 'a':
    case 'e': return copy(t, 2);
    case 'p':
    case 'P': return property(t);
    case 'x':
    case 'u': return code_point(t);
    case 'A':
    case 'z':
        if (in_class)
            return refuse_part(t, t->at, 2);
        *t->looks_behind = true;
        return copy(t, 2);
    default: return refuse_part(t, t->at, 2);
    }
    t->at += 2;
    return FUR_OK;
}

static fur_status bracket(translation *t)
{
    int64_t open = t->at;
    FUR_TRY(copy(t, 1));
    if (peek(t, 0) == '^')
        FUR_TRY(copy(t, 1));
    if (peek(t, 0) == ']')
        return refuse(t, t->at, "a ']' first in a class");
    while (peek(t, 0) != ']') {
        int c = peek(t, 0);
        if (c < 0)
            return fur_error_set(t->error, FUR_E_FORMAT, "%s: regular expression, offset %lld: a class without its ]",
                                 t->where, (long long)open);
        if (c == '[')
            return refuse(t, t->at, "a class within a class");
        if (c == '&' && peek(t, 1) == '&')
            return refuse(t, t->at, "&& in a class");
        FUR_TRY(c == '\\' ? escape(t, true) : copy(t, fur_utf8_length(t->pattern + t->at)));
    }
    return copy(t, 1);
}

static fur_status group(translation *t)
{
    static const char *const same[] = {"(?:", "(?=", "(?!", "(?>", "(?i:", "(?i)", "(?<=", "(?<!"};
    if (peek(t, 1) == '*')
        return refuse_part(t, t->at, 2);
    if (peek(t, 1) != '?')
        return copy(t, 1);
    for (size_t i = 0; i < sizeof same / sizeof same[0]; i++) {
        if (!starts(t, same[i]))
            continue;
        if (i == 5 && t->at != 0)
            return refuse(t, t->at, "(?i) after the beginning");
        *t->looks_behind = *t->looks_behind || i >= 6;
        return copy(t, (int64_t)strlen(same[i]));
    }
    return refuse_part(t, t->at, 4);
}

/* {n}, {n,}, {n,m}: what follows the brace means other things there. Any other { is a character. */
static fur_status interval(translation *t)
{
    int64_t length = 1, digits = 0, commas = 0;
    for (int c; c = peek(t, length), (c >= '0' && c <= '9') || c == ','; length++) {
        digits += c != ',' && commas == 0;
        commas += c == ',';
    }
    if (peek(t, length) != '}' || (digits == 0 && commas == 0))
        return put(t, "\\{") == FUR_OK ? (t->at++, FUR_OK) : FUR_E_MEMORY;
    if (digits == 0 || commas > 1)
        return refuse_part(t, t->at, length + 1);
    if (peek(t, length + 1) == '+' || peek(t, length + 1) == '?')
        return refuse_part(t, t->at, length + 2);
    return copy(t, length + 1);
}

fur_status fur_regex_translate(fur_error *error, const char *where, const char *pattern, int64_t bytes,
                               bool names_scripts, fur_string *out, bool *looks_behind)
{
    translation t = {.error = error,
                     .where = where,
                     .pattern = pattern,
                     .bytes = bytes,
                     .names_scripts = names_scripts,
                     .out = out,
                     .looks_behind = looks_behind};
    *looks_behind = false;
    while (t.at < bytes) {
        switch (pattern[t.at]) {
        case '\\': FUR_TRY(escape(&t, false)); break;
        case '[': FUR_TRY(bracket(&t)); break;
        case '(': FUR_TRY(group(&t)); break;
        case '{': FUR_TRY(interval(&t)); break;
        case '^':
        case '$':
            *looks_behind = true;
            FUR_TRY(copy(&t, 1));
            break;
        default: FUR_TRY(copy(&t, fur_utf8_length(pattern + t.at)));
        }
    }
    return FUR_OK;
}
