/* SPDX-License-Identifier: Apache-2.0 */
/* Text of a template into its tree: what is between tags, and statements. */
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/size.h"
#include "io/file.h"
#include "text/jinja_expression.h"
#include "text/utf8.h"

/* ---- what is between tags ------------------------------------------------------------------------------------- */

static bool all_space(const char *text, int64_t bytes)
{
    for (int64_t at = 0; at < bytes; at += fur_utf8_length(text + at))
        if (!fur_jis_space(fur_utf8_get(text + at)))
            return false;
    return true;
}

/* Appends the text up to the next tag, without the space that the tag takes; *sign: what follows "{" there, 0: none. */
static fur_status take_data(fur_jparser *p, fur_jnode ***last, char *sign)
{
    int64_t start = p->at, end = start;
    while (end < p->bytes &&
           !(p->text[end] == '{' && end + 1 < p->bytes && strchr("{%#", p->text[end + 1]) && p->text[end + 1]))
        end++;
    *sign = (char)(end < p->bytes ? p->text[end + 1] : 0);
    char modifier = (char)(*sign && end + 2 < p->bytes ? p->text[end + 2] : 0);
    int64_t kept = end;
    if (*sign && modifier == '-') {
        while (kept > start) {
            int64_t before = kept - 1;
            while (before > start && ((unsigned char)p->text[before] & 0xc0) == 0x80)
                before--;
            if (!fur_jis_space(fur_utf8_get(p->text + before)))
                break;
            kept = before;
        }
    } else if ((*sign == '%' || *sign == '#') && modifier != '+') { /* lstrip_blocks */
        int64_t line = end;
        while (line > start && p->text[line - 1] != '\n')
            line--;
        if ((line > start || p->line_starts) && all_space(p->text + line, end - line))
            kept = line;
    }
    if (kept > start) {
        fur_jnode *data;
        const char *copy;
        FUR_TRY(fur_jnode_new(p, JN_DATA, &data));
        FUR_TRY(fur_jparse_copy(p, p->text + start, kept - start, &copy));
        data->literal = fur_jstring(copy, kept - start);
        **last = data;
        *last = &data->next;
    }
    for (int64_t i = start; i < end; i++)
        p->line += p->text[i] == '\n';
    p->at = *sign ? end + 2 + (modifier == '-' || (modifier == '+' && *sign != '{')) : end;
    return FUR_OK;
}

/* What a tag takes behind it: all space after "-", one newline after a block (trim_blocks). */
static void skip_after(fur_jparser *p, bool minus, bool newline)
{
    int64_t start = p->at;
    if (minus) {
        while (p->at < p->bytes && fur_jis_space(fur_utf8_get(p->text + p->at)))
            p->at += fur_utf8_length(p->text + p->at);
    } else if (newline && p->at < p->bytes && p->text[p->at] == '\n') {
        p->at++;
    }
    for (int64_t i = start; i < p->at; i++)
        p->line += p->text[i] == '\n';
    p->line_starts = p->at > start && p->text[p->at - 1] == '\n';
}

/* The end of a tag is the present token. */
static fur_status close_tag(fur_jparser *p, bool block)
{
    if (p->now.kind != JT_CLOSE || (p->now.text[p->now.bytes - 2] == '%') != block)
        return fur_jparse_unexpected(p, block ? "'%}'" : "'}}'");
    skip_after(p, p->now.text[0] == '-', block && p->now.text[0] != '+');
    return FUR_OK;
}

static fur_status skip_comment(fur_jparser *p)
{
    for (; p->at + 1 < p->bytes; p->at++) {
        p->line += p->text[p->at] == '\n';
        if (p->text[p->at] != '#' || p->text[p->at + 1] != '}')
            continue;
        char before = p->text[p->at - 1];
        p->at += 2;
        skip_after(p, before == '-', before != '+');
        return FUR_OK;
    }
    return fur_jparse_refuse(p, FUR_E_FORMAT, "a comment without its #}");
}

/* ---- statements ----------------------------------------------------------------------------------------------- */

static fur_status parse_body(fur_jparser *p, const char *const *ends, fur_jnode **out);

/* The name that ended a body is the present token; the rest of its tag goes. */
static fur_status end_block(fur_jparser *p)
{
    FUR_TRY(fur_jparse_next(p));
    return close_tag(p, true);
}

static fur_status parse_if(fur_jparser *p, fur_jnode *node)
{
    static const char *const ends[] = {"elif", "else", "endif", NULL}, *const last[] = {"endif", NULL};
    FUR_TRY(fur_jparse_next(p));
    FUR_TRY(fur_jparse_expression(p, &node->a));
    FUR_TRY(close_tag(p, true));
    FUR_TRY(parse_body(p, ends, &node->b));
    if (fur_jis_word(p, "elif")) {
        if (++p->depth > FUR_JDEPTH)
            return fur_jparse_refuse(p, FUR_E_UNSUPPORTED, "blocks nested too deep");
        FUR_TRY(fur_jnode_new(p, JN_IF, &node->c));
        FUR_TRY(parse_if(p, node->c));
        p->depth--;
        return FUR_OK;
    }
    if (fur_jis_word(p, "else")) {
        FUR_TRY(end_block(p));
        FUR_TRY(parse_body(p, last, &node->c));
    }
    return end_block(p);
}

static fur_status parse_for(fur_jparser *p, fur_jnode *node)
{
    static const char *const ends[] = {"else", "endfor", NULL}, *const last[] = {"endfor", NULL};
    FUR_TRY(fur_jparse_next(p));
    FUR_TRY(fur_jparse_name(p, &node->name));
    if (fur_jis_operator(p, ",")) {
        FUR_TRY(fur_jparse_next(p));
        FUR_TRY(fur_jparse_name(p, &node->second));
    }
    if (!fur_jis_word(p, "in"))
        return fur_jparse_unexpected(p, "'in'");
    FUR_TRY(fur_jparse_next(p));
    FUR_TRY(fur_jparse_logic(p, true, &node->a));
    if (fur_jis_word(p, "if")) {
        FUR_TRY(fur_jparse_next(p));
        FUR_TRY(fur_jparse_expression(p, &node->d));
    }
    if (fur_jis_word(p, "recursive"))
        return fur_jparse_refuse(p, FUR_E_UNSUPPORTED, "recursive is not known here");
    FUR_TRY(close_tag(p, true));
    FUR_TRY(parse_body(p, ends, &node->b));
    if (fur_jis_word(p, "else")) {
        FUR_TRY(end_block(p));
        FUR_TRY(parse_body(p, last, &node->c));
    }
    return end_block(p);
}

static fur_status parse_set(fur_jparser *p, fur_jnode *node)
{
    FUR_TRY(fur_jparse_next(p));
    FUR_TRY(fur_jparse_name(p, &node->name));
    if (fur_jis_operator(p, ".")) {
        fur_jnode *attribute;
        FUR_TRY(fur_jparse_next(p));
        FUR_TRY(fur_jnode_new(p, JN_ATTRIBUTE, &attribute));
        FUR_TRY(fur_jnode_new(p, JN_NAME, &attribute->a));
        attribute->a->name = node->name;
        FUR_TRY(fur_jparse_name(p, &attribute->name));
        node->a = attribute;
    }
    if (!fur_jis_operator(p, "="))
        return fur_jparse_refuse(p, FUR_E_UNSUPPORTED, "set without = is not known here");
    FUR_TRY(fur_jparse_next(p));
    FUR_TRY(fur_jparse_expression(p, &node->b));
    return close_tag(p, true);
}

static fur_status parse_generation(fur_jparser *p, fur_jnode *node)
{
    static const char *const ends[] = {"endgeneration", NULL};
    FUR_TRY(end_block(p));
    FUR_TRY(parse_body(p, ends, &node->b));
    return end_block(p);
}

static fur_status parse_statement(fur_jparser *p, fur_jnode **out)
{
    static const struct {
        const char *name;
        fur_jnode_kind kind;
        fur_status (*parse)(fur_jparser *p, fur_jnode *node);
    } statements[] = {{"if", JN_IF, parse_if},
                      {"for", JN_FOR, parse_for},
                      {"set", JN_SET, parse_set},
                      {"generation", JN_GENERATION, parse_generation}};
    for (size_t i = 0; i < sizeof statements / sizeof statements[0]; i++) {
        if (fur_jis_word(p, statements[i].name)) {
            FUR_TRY(fur_jnode_new(p, statements[i].kind, out));
            return statements[i].parse(p, *out);
        }
    }
    char what[80];
    snprintf(what, sizeof what, "{%% %.*s %%} is not known here", (int)fur_min_i64(p->now.bytes, 40), p->now.text);
    return p->now.kind == JT_NAME ? fur_jparse_refuse(p, FUR_E_UNSUPPORTED, what)
                                  : fur_jparse_unexpected(p, "a statement");
}

/* Up to a tag that begins with one of `ends`, which is the present token then; or the end, where ends is NULL. */
static fur_status parse_body(fur_jparser *p, const char *const *ends, fur_jnode **out)
{
    fur_jnode **last = out;
    *out = NULL;
    if (++p->depth > FUR_JDEPTH)
        return fur_jparse_refuse(p, FUR_E_UNSUPPORTED, "blocks nested too deep");
    for (;;) {
        char sign;
        FUR_TRY(take_data(p, &last, &sign));
        p->line_starts = false;
        if (sign == 0) {
            p->depth--;
            p->now = (fur_jtoken){.kind = JT_END};
            return ends ? fur_jparse_unexpected(p, *ends) : FUR_OK;
        }
        if (sign == '#') {
            FUR_TRY(skip_comment(p));
            continue;
        }
        FUR_TRY(fur_jparse_next(p));
        if (sign == '{') {
            FUR_TRY(fur_jnode_new(p, JN_PRINT, last));
            FUR_TRY(fur_jparse_expression(p, &(*last)->a));
            FUR_TRY(close_tag(p, false));
            last = &(*last)->next;
            continue;
        }
        for (const char *const *end = ends; end && *end; end++) {
            if (fur_jis_word(p, *end)) {
                p->depth--;
                return FUR_OK;
            }
        }
        FUR_TRY(parse_statement(p, last));
        last = &(*last)->next;
    }
}

/* ---- all of it ------------------------------------------------------------------------------------------------ */

/* Lines end in \n; the last one's is not part of the template. */
static fur_status join_lines(fur_error *error, const char *text, int64_t bytes, fur_string *out)
{
    FUR_TRY(fur_string_reserve(error, out, bytes + 4));
    for (int64_t i = 0; i < bytes; i++) {
        bool carriage = text[i] == '\r';
        out->data[out->length++] = (char)(carriage ? '\n' : text[i]);
        i += carriage && i + 1 < bytes && text[i + 1] == '\n';
    }
    if (out->length > 0 && out->data[out->length - 1] == '\n')
        out->length--;
    memset(out->data + out->length, 0, 4); /* looked at, never taken */
    return FUR_OK;
}

fur_status fur_jinja_parse(fur_error *error, const char *name, const char *text, int64_t bytes, fur_jinja **out)
{
    int64_t broken;
    if (fur_utf8_check(text, bytes, &broken) != bytes)
        return fur_error_set(error, FUR_E_FORMAT, "%s: not UTF-8", name);
    fur_jinja *jinja = fur_calloc(1, sizeof *jinja);
    if (!jinja)
        return fur_memory_error(error, (int64_t)sizeof *jinja, name);
    fur_string lines = {0};
    jinja->pool.error = error;
    jinja->name = fur_strdup(name);
    fur_status status =
        jinja->name ? join_lines(error, text, bytes, &lines) : fur_memory_error(error, (int64_t)strlen(name), "a name");
    if (status == FUR_OK) {
        fur_jparser p = {
            .error = error, .jinja = jinja, .text = lines.data, .bytes = lines.length, .line = 1, .line_starts = true};
        status = parse_body(&p, NULL, &jinja->body);
    }
    fur_string_clear(&lines);
    jinja->pool.error = NULL;
    if (status != FUR_OK) {
        fur_jinja_destroy(jinja);
        return status;
    }
    *out = jinja;
    return FUR_OK;
}

void fur_jinja_destroy(fur_jinja *jinja)
{
    if (!jinja)
        return;
    fur_pool_clear(&jinja->pool);
    fur_free(jinja->name);
    fur_free(jinja);
}
