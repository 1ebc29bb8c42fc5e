/* SPDX-License-Identifier: Apache-2.0 */
#include "text/jinja_expression.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/size.h"
#include "text/utf8.h"

fur_status fur_jparse_refuse(const fur_jparser *p, fur_status status, const char *what)
{
    return fur_error_set(p->error, status, "%s: line %lld: %s", p->jinja->name, (long long)p->line, what);
}

fur_status fur_jparse_unexpected(const fur_jparser *p, const char *wanted)
{
    char what[160];
    if (p->now.kind == JT_END)
        snprintf(what, sizeof what, "the template ends, expected %s", wanted);
    else
        snprintf(what, sizeof what, "\"%.*s\", expected %s", (int)fur_min_i64(p->now.bytes, 40), p->now.text, wanted);
    return fur_jparse_refuse(p, FUR_E_FORMAT, what);
}

fur_status fur_jnode_new(fur_jparser *p, fur_jnode_kind kind, fur_jnode **out)
{
    void *node;
    FUR_TRY(fur_pool_take(&p->jinja->pool, (int64_t)sizeof **out, &node));
    *out = node;
    (*out)->kind = kind;
    (*out)->line = p->line;
    return FUR_OK;
}

fur_status fur_jparse_copy(fur_jparser *p, const char *text, int64_t bytes, const char **out)
{
    void *copy;
    FUR_TRY(fur_pool_take(&p->jinja->pool, bytes + 1, &copy));
    if (bytes > 0)
        memcpy(copy, text, (size_t)bytes);
    *out = copy;
    return FUR_OK;
}

/* ---- tokens --------------------------------------------------------------------------------------------------- */

static bool is_name(char c, bool first)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (!first && c >= '0' && c <= '9');
}

/* The text between quotes, escapes as in Python. */
static fur_status lex_string(fur_jparser *p)
{
    char quote = p->text[p->at], character[4];
    int64_t end = p->at + 1, length = 0;
    while (end < p->bytes && p->text[end] != quote)
        end += p->text[end] == '\\' ? 2 : 1;
    if (end >= p->bytes)
        return fur_jparse_refuse(p, FUR_E_FORMAT, "a text without its closing quote");
    void *memory;
    FUR_TRY(fur_pool_take(&p->jinja->pool, end - p->at + 4, &memory));
    char *out = memory;
    for (int64_t i = p->at + 1; i < end; i++) {
        static const char letters[] = "n\nt\tr\r\\\\'\'\"\"a\ab\bf\fv\v";
        char c = p->text[i];
        p->line += c == '\n';
        const char *escape = c == '\\' ? strchr(letters, p->text[i + 1]) : NULL;
        if (c != '\\') {
            out[length++] = c;
        } else if (escape && p->text[i + 1] && (escape - letters) % 2 == 0) {
            out[length++] = escape[1];
            i++;
        } else if (p->text[i + 1] == 'u' || p->text[i + 1] == 'x') {
            int digits = p->text[i + 1] == 'u' ? 4 : 2;
            char hex[5] = {0};
            memcpy(hex, p->text + i + 2, (size_t)fur_min_i64(digits, end - i - 2 > 0 ? end - i - 2 : 0));
            unsigned long code = strtoul(hex, NULL, 16);
            if (strspn(hex, "0123456789abcdefABCDEF") != (size_t)digits || (code >= 0xd800 && code < 0xe000))
                return fur_jparse_refuse(p, FUR_E_UNSUPPORTED, "an escape in a text that is not known here");
            int bytes = fur_utf8_put((int32_t)code, character);
            memcpy(out + length, character, (size_t)bytes);
            length += bytes;
            i += 1 + digits;
        } else {
            return fur_jparse_refuse(p, FUR_E_UNSUPPORTED, "an escape in a text that is not known here");
        }
    }
    p->now = (fur_jtoken){.kind = JT_STRING, .text = out, .bytes = length};
    p->at = end + 1;
    return FUR_OK;
}

static fur_status lex_number(fur_jparser *p)
{
    int64_t value = 0, start = p->at;
    for (; p->at < p->bytes && p->text[p->at] >= '0' && p->text[p->at] <= '9'; p->at++)
        if (p->at - start > 15)
            return fur_jparse_refuse(p, FUR_E_UNSUPPORTED, "a number of more than 15 digits");
        else
            value = 10 * value + (p->text[p->at] - '0');
    if (p->at < p->bytes && (p->text[p->at] == '.' || is_name(p->text[p->at], true)))
        return fur_jparse_refuse(p, FUR_E_UNSUPPORTED, "a number that is no integer");
    p->now = (fur_jtoken){.kind = JT_INT, .text = p->text + start, .bytes = p->at - start, .number = value};
    return FUR_OK;
}

/* The next token within a tag. */
fur_status fur_jparse_next(fur_jparser *p)
{
    static const char *const operators[] = {"==", "!=", "<=", ">=", "//", "**", "+", "-", "*", "/", "%", "~", "<",
                                            ">",  "(",  ")",  "[",  "]",  "{",  "}", ",", ".", ":", "|", "="};
    static const char *const closes[] = {"-%}", "+%}", "%}", "-}}", "}}"};
    while (p->at < p->bytes && strchr(" \t\r\n\f\v", p->text[p->at]) && p->text[p->at])
        p->line += p->text[p->at++] == '\n';
    const char *at = p->text + p->at;
    int64_t left = p->bytes - p->at;
    if (left == 0) {
        p->now = (fur_jtoken){.kind = JT_END};
        return FUR_OK;
    }
    if (is_name(*at, true)) {
        int64_t length = 1;
        while (length < left && is_name(at[length], false))
            length++;
        p->now = (fur_jtoken){.kind = JT_NAME, .text = at, .bytes = length};
        p->at += length;
        return FUR_OK;
    }
    if (*at >= '0' && *at <= '9')
        return lex_number(p);
    if (*at == '\'' || *at == '"')
        return lex_string(p);
    for (size_t i = 0; i < sizeof closes / sizeof closes[0]; i++) {
        int64_t length = (int64_t)strlen(closes[i]);
        if (left < length || memcmp(at, closes[i], (size_t)length) != 0)
            continue;
        /* "}}" may end two dictionaries, but templates write a space there */
        p->now = (fur_jtoken){.kind = JT_CLOSE, .text = at, .bytes = length};
        p->at += length;
        return FUR_OK;
    }
    for (size_t i = 0; i < sizeof operators / sizeof operators[0]; i++) {
        int64_t length = (int64_t)strlen(operators[i]);
        if (left < length || memcmp(at, operators[i], (size_t)length) != 0)
            continue;
        p->now = (fur_jtoken){.kind = JT_OPERATOR, .text = at, .bytes = length};
        p->at += length;
        return FUR_OK;
    }
    p->now = (fur_jtoken){.kind = JT_OPERATOR, .text = at, .bytes = 1};
    return fur_jparse_unexpected(p, "an expression");
}

static bool is(const fur_jparser *p, fur_jtoken_kind kind, const char *text)
{
    return p->now.kind == kind && p->now.bytes == (int64_t)strlen(text) &&
           memcmp(p->now.text, text, (size_t)p->now.bytes) == 0;
}

bool fur_jis_operator(const fur_jparser *p, const char *text)
{
    return is(p, JT_OPERATOR, text);
}

bool fur_jis_word(const fur_jparser *p, const char *text)
{
    return is(p, JT_NAME, text);
}

fur_status fur_jparse_accept(fur_jparser *p, const char *text)
{
    char wanted[16];
    snprintf(wanted, sizeof wanted, "'%s'", text);
    return fur_jis_operator(p, text) ? fur_jparse_next(p) : fur_jparse_unexpected(p, wanted);
}

fur_status fur_jparse_name(fur_jparser *p, const char **out)
{
    if (p->now.kind != JT_NAME)
        return fur_jparse_unexpected(p, "a name");
    FUR_TRY(fur_jparse_copy(p, p->now.text, p->now.bytes, out));
    return fur_jparse_next(p);
}

/* ---- expressions ---------------------------------------------------------------------------------------------- */

static fur_status parse_unary(fur_jparser *p, bool filters, fur_jnode **out);

/* Values up to `close`, some with names; the brace, comma or bracket that opened them is taken already. */
static fur_status parse_arguments(fur_jparser *p, const char *close, fur_jnode **out)
{
    fur_jnode **last = out;
    *out = NULL;
    while (!fur_jis_operator(p, close)) {
        fur_jnode *argument;
        FUR_TRY(fur_jnode_new(p, JN_ARGUMENT, &argument));
        FUR_TRY(fur_jparse_expression(p, &argument->a));
        if (fur_jis_operator(p, "=") && argument->a->kind == JN_NAME) {
            argument->name = argument->a->name;
            FUR_TRY(fur_jparse_next(p));
            FUR_TRY(fur_jparse_expression(p, &argument->a));
        }
        *last = argument;
        last = &argument->next;
        if (!fur_jis_operator(p, close))
            FUR_TRY(fur_jparse_accept(p, ","));
    }
    return fur_jparse_next(p);
}

static fur_status parse_dict(fur_jparser *p, fur_jnode *dict)
{
    fur_jnode **last = &dict->a;
    while (!fur_jis_operator(p, "}")) {
        FUR_TRY(fur_jparse_expression(p, last));
        last = &(*last)->next;
        FUR_TRY(fur_jparse_accept(p, ":"));
        FUR_TRY(fur_jparse_expression(p, last));
        last = &(*last)->next;
        if (!fur_jis_operator(p, "}"))
            FUR_TRY(fur_jparse_accept(p, ","));
    }
    return fur_jparse_next(p);
}

static fur_status parse_list(fur_jparser *p, fur_jnode *list)
{
    fur_jnode **last = &list->a;
    while (!fur_jis_operator(p, "]")) {
        FUR_TRY(fur_jparse_expression(p, last));
        last = &(*last)->next;
        if (!fur_jis_operator(p, "]"))
            FUR_TRY(fur_jparse_accept(p, ","));
    }
    return fur_jparse_next(p);
}

static fur_status parse_literal(fur_jparser *p, fur_jnode **out)
{
    static const struct {
        const char *name;
        fur_jvalue value;
    } names[] = {{"true", {.kind = J_BOOL, .number = 1}},
                 {"True", {.kind = J_BOOL, .number = 1}},
                 {"false", {.kind = J_BOOL, .number = 0}},
                 {"False", {.kind = J_BOOL, .number = 0}},
                 {"none", {.kind = J_NONE}},
                 {"None", {.kind = J_NONE}}};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (fur_jis_word(p, names[i].name)) {
            FUR_TRY(fur_jnode_new(p, JN_LITERAL, out));
            (*out)->literal = names[i].value;
            return fur_jparse_next(p);
        }
    }
    FUR_TRY(fur_jnode_new(p, JN_NAME, out));
    return fur_jparse_name(p, &(*out)->name);
}

static fur_status parse_strings(fur_jparser *p, fur_jnode **out)
{
    fur_string all = {0};
    fur_status status = FUR_OK;
    while (status == FUR_OK && p->now.kind == JT_STRING) { /* side by side: one */
        status = fur_string_add(p->error, &all, p->now.text, p->now.bytes);
        if (status == FUR_OK)
            status = fur_jparse_next(p);
    }
    const char *copy = NULL;
    if (status == FUR_OK)
        status = fur_jparse_copy(p, all.data, all.length, &copy);
    if (status == FUR_OK)
        status = fur_jnode_new(p, JN_LITERAL, out);
    if (status == FUR_OK)
        (*out)->literal = fur_jstring(copy, all.length);
    fur_string_clear(&all);
    return status;
}

static fur_status parse_primary(fur_jparser *p, fur_jnode **out)
{
    if (p->now.kind == JT_NAME)
        return parse_literal(p, out);
    if (p->now.kind == JT_STRING)
        return parse_strings(p, out);
    if (p->now.kind == JT_INT) {
        FUR_TRY(fur_jnode_new(p, JN_LITERAL, out));
        (*out)->literal = (fur_jvalue){.kind = J_INT, .number = p->now.number};
        return fur_jparse_next(p);
    }
    if (fur_jis_operator(p, "(")) {
        FUR_TRY(fur_jparse_next(p));
        FUR_TRY(fur_jparse_expression(p, out));
        if (fur_jis_operator(p, ","))
            return fur_jparse_refuse(p, FUR_E_UNSUPPORTED, "a tuple is not known here");
        return fur_jparse_accept(p, ")");
    }
    bool list = fur_jis_operator(p, "[");
    if (!list && !fur_jis_operator(p, "{"))
        return fur_jparse_unexpected(p, "an expression");
    FUR_TRY(fur_jnode_new(p, list ? JN_LIST : JN_DICT, out));
    FUR_TRY(fur_jparse_next(p));
    return list ? parse_list(p, *out) : parse_dict(p, *out);
}

/* After "[": an index, or a slice. */
static fur_status parse_subscript(fur_jparser *p, fur_jnode *of, fur_jnode **out)
{
    fur_jnode *parts[3] = {NULL, NULL, NULL};
    int colons = 0;
    FUR_TRY(fur_jparse_next(p));
    while (!fur_jis_operator(p, "]")) {
        if (fur_jis_operator(p, ":")) {
            if (++colons > 2)
                return fur_jparse_unexpected(p, "']'");
            FUR_TRY(fur_jparse_next(p));
        } else if (parts[colons]) {
            return fur_jparse_unexpected(p, "']'");
        } else {
            FUR_TRY(fur_jparse_expression(p, &parts[colons]));
        }
    }
    if (colons == 0 && !parts[0])
        return fur_jparse_unexpected(p, "an index");
    FUR_TRY(fur_jnode_new(p, colons ? JN_SLICE : JN_ITEM, out));
    (*out)->a = of;
    (*out)->b = parts[0];
    (*out)->c = parts[1];
    (*out)->d = parts[2];
    return fur_jparse_next(p);
}

static fur_status parse_postfix(fur_jparser *p, fur_jnode **node)
{
    for (;;) {
        fur_jnode *outer = NULL;
        if (fur_jis_operator(p, ".")) {
            FUR_TRY(fur_jparse_next(p));
            FUR_TRY(fur_jnode_new(p, JN_ATTRIBUTE, &outer));
            outer->a = *node;
            FUR_TRY(fur_jparse_name(p, &outer->name));
        } else if (fur_jis_operator(p, "[")) {
            FUR_TRY(parse_subscript(p, *node, &outer));
        } else if (fur_jis_operator(p, "(")) {
            FUR_TRY(fur_jparse_next(p));
            FUR_TRY(fur_jnode_new(p, JN_CALL, &outer));
            outer->a = *node;
            FUR_TRY(parse_arguments(p, ")", &outer->b));
        } else {
            return FUR_OK;
        }
        *node = outer;
    }
}

/* Whether what follows a test's name without a bracket is its argument. */
static bool starts_argument(const fur_jparser *p)
{
    static const char *const others[] = {"else", "or", "and", "is", "if", "not", "in"};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        if (fur_jis_word(p, others[i]))
            return false;
    return p->now.kind == JT_NAME || p->now.kind == JT_STRING || p->now.kind == JT_INT || fur_jis_operator(p, "[") ||
           fur_jis_operator(p, "{");
}

static fur_status parse_test(fur_jparser *p, fur_jnode **node)
{
    fur_jnode *test, *negated;
    bool negative = false;
    FUR_TRY(fur_jparse_next(p));
    if (fur_jis_word(p, "not")) {
        negative = true;
        FUR_TRY(fur_jparse_next(p));
    }
    FUR_TRY(fur_jnode_new(p, JN_TEST, &test));
    test->a = *node;
    FUR_TRY(fur_jparse_name(p, &test->name));
    if (fur_jis_operator(p, "(")) {
        FUR_TRY(fur_jparse_next(p));
        FUR_TRY(parse_arguments(p, ")", &test->b));
    } else if (starts_argument(p)) {
        FUR_TRY(fur_jnode_new(p, JN_ARGUMENT, &test->b));
        FUR_TRY(parse_primary(p, &test->b->a));
        FUR_TRY(parse_postfix(p, &test->b->a));
    }
    *node = test;
    if (!negative)
        return FUR_OK;
    FUR_TRY(fur_jnode_new(p, JN_NOT, &negated));
    negated->a = test;
    *node = negated;
    return FUR_OK;
}

static fur_status parse_filters(fur_jparser *p, fur_jnode **node)
{
    for (;;) {
        if (fur_jis_word(p, "is")) {
            FUR_TRY(parse_test(p, node));
            continue;
        }
        if (!fur_jis_operator(p, "|"))
            return FUR_OK;
        fur_jnode *filter;
        FUR_TRY(fur_jparse_next(p));
        FUR_TRY(fur_jnode_new(p, JN_FILTER, &filter));
        filter->a = *node;
        FUR_TRY(fur_jparse_name(p, &filter->name));
        if (fur_jis_operator(p, "(")) {
            FUR_TRY(fur_jparse_next(p));
            FUR_TRY(parse_arguments(p, ")", &filter->b));
        }
        *node = filter;
    }
}

static fur_status parse_unary(fur_jparser *p, bool filters, fur_jnode **out)
{
    if (fur_jis_operator(p, "-") || fur_jis_operator(p, "+")) {
        bool negative = fur_jis_operator(p, "-");
        FUR_TRY(fur_jparse_next(p));
        if (++p->depth > FUR_JDEPTH)
            return fur_jparse_refuse(p, FUR_E_UNSUPPORTED, "an expression nested too deep");
        FUR_TRY(parse_unary(p, false, out));
        p->depth--;
        if (negative) {
            fur_jnode *inner = *out;
            FUR_TRY(fur_jnode_new(p, JN_NEGATIVE, out));
            (*out)->a = inner;
        }
    } else {
        FUR_TRY(parse_primary(p, out));
    }
    FUR_TRY(parse_postfix(p, out));
    FUR_TRY(filters ? parse_filters(p, out) : FUR_OK);
    return fur_jis_operator(p, "**") ? fur_jparse_refuse(p, FUR_E_UNSUPPORTED, "** is not known here") : FUR_OK;
}

typedef struct level {
    const char *text;
    fur_joperator op;
} level;

/* Left to right: sides of one level, loosest first: + and -, ~, * and its kin. */
static fur_status parse_sum(fur_jparser *p, int depth, fur_jnode **out)
{
    static const level levels[3][5] = {{{"+", JO_ADD}, {"-", JO_SUBTRACT}, {NULL, JO_ADD}},
                                       {{"~", JO_JOIN}, {NULL, JO_ADD}},
                                       {{"*", JO_MULTIPLY}, {"//", JO_FLOOR}, {"%", JO_MODULO}, {NULL, JO_ADD}}};
    if (depth == 3)
        return parse_unary(p, true, out);
    FUR_TRY(parse_sum(p, depth + 1, out));
    for (;;) {
        const level *found = levels[depth];
        while (found->text && !fur_jis_operator(p, found->text))
            found++;
        if (!found->text)
            return FUR_OK;
        fur_jnode *binary;
        FUR_TRY(fur_jnode_new(p, JN_BINARY, &binary));
        binary->op = found->op;
        binary->a = *out;
        FUR_TRY(fur_jparse_next(p));
        FUR_TRY(parse_sum(p, depth + 1, &binary->b));
        *out = binary;
    }
}

static fur_status parse_comparison(fur_jparser *p, fur_jnode **out)
{
    static const level operators[] = {{"==", JO_EQUAL},         {"!=", JO_UNEQUAL}, {"<=", JO_LESS_EQUAL},
                                      {">=", JO_GREATER_EQUAL}, {"<", JO_LESS},     {">", JO_GREATER}};
    FUR_TRY(parse_sum(p, 0, out));
    for (int chained = 0;; chained++) {
        int found = -1;
        for (int i = 0; i < 6; i++)
            if (fur_jis_operator(p, operators[i].text))
                found = i;
        bool in = fur_jis_word(p, "in"), negative = fur_jis_word(p, "not");
        if (found < 0 && !in && !negative)
            return FUR_OK;
        if (chained)
            return fur_jparse_refuse(p, FUR_E_UNSUPPORTED, "a chain of comparisons is not known here");
        fur_jnode *binary;
        FUR_TRY(fur_jnode_new(p, JN_BINARY, &binary));
        FUR_TRY(fur_jparse_next(p));
        if (negative && !fur_jis_word(p, "in"))
            return fur_jparse_unexpected(p, "'in'");
        if (negative)
            FUR_TRY(fur_jparse_next(p));
        binary->op = found >= 0 ? operators[found].op : in ? JO_IN : JO_NOT_IN;
        binary->a = *out;
        FUR_TRY(parse_sum(p, 0, &binary->b));
        *out = binary;
    }
}

static fur_status parse_not(fur_jparser *p, fur_jnode **out)
{
    if (!fur_jis_word(p, "not"))
        return parse_comparison(p, out);
    FUR_TRY(fur_jnode_new(p, JN_NOT, out));
    FUR_TRY(fur_jparse_next(p));
    if (++p->depth > FUR_JDEPTH)
        return fur_jparse_refuse(p, FUR_E_UNSUPPORTED, "an expression nested too deep");
    FUR_TRY(parse_not(p, &(*out)->a));
    p->depth--;
    return FUR_OK;
}

fur_status fur_jparse_logic(fur_jparser *p, bool or, fur_jnode **out)
{
    FUR_TRY(or ? fur_jparse_logic(p, false, out) : parse_not(p, out));
    while (fur_jis_word(p, or ? "or" : "and")) {
        fur_jnode *logic;
        FUR_TRY(fur_jnode_new(p, or ? JN_OR : JN_AND, &logic));
        logic->a = *out;
        FUR_TRY(fur_jparse_next(p));
        FUR_TRY(or ? fur_jparse_logic(p, false, &logic->b) : parse_not(p, &logic->b));
        *out = logic;
    }
    return FUR_OK;
}

fur_status fur_jparse_expression(fur_jparser *p, fur_jnode **out)
{
    if (++p->depth > FUR_JDEPTH)
        return fur_jparse_refuse(p, FUR_E_UNSUPPORTED, "an expression nested too deep");
    FUR_TRY(fur_jparse_logic(p, true, out));
    while (fur_jis_word(p, "if")) {
        fur_jnode *choice;
        FUR_TRY(fur_jnode_new(p, JN_CHOICE, &choice));
        choice->a = *out;
        FUR_TRY(fur_jparse_next(p));
        FUR_TRY(fur_jparse_logic(p, true, &choice->b));
        if (fur_jis_word(p, "else")) {
            FUR_TRY(fur_jparse_next(p));
            FUR_TRY(fur_jparse_expression(p, &choice->c));
        }
        *out = choice;
    }
    p->depth--;
    return FUR_OK;
}
