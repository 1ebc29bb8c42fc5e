/* SPDX-License-Identifier: Apache-2.0 */
/* Tokens and expressions of templates (jinja_expression.c), for the parser of what is between them (jinja_parse.c). */
#ifndef FUR_TEXT_JINJA_EXPRESSION_H
#define FUR_TEXT_JINJA_EXPRESSION_H

#include "text/jinja_parts.h"

#define FUR_JDEPTH 100 /* of what lies within each other */

typedef enum fur_jtoken_kind {
    JT_END,
    JT_NAME,
    JT_STRING,
    JT_INT,
    JT_OPERATOR,
    JT_CLOSE
} fur_jtoken_kind; /* JT_CLOSE: }} or %} */

typedef struct fur_jtoken {
    fur_jtoken_kind kind;
    const char *text; /* of a name or operator */
    int64_t bytes;
    int64_t number;
} fur_jtoken;

typedef struct fur_jparser {
    fur_error *error;
    fur_jinja *jinja;
    const char *text; /* the template, lines ending in \n */
    int64_t bytes, at;
    int64_t line;
    fur_jtoken now;
    bool line_starts; /* the tag before ended a line */
    int depth;
} fur_jparser;

/* "NAME: line N: what", and what was met where something else was wanted. */
fur_status fur_jparse_refuse(const fur_jparser *p, fur_status status, const char *what);
fur_status fur_jparse_unexpected(const fur_jparser *p, const char *wanted);
fur_status fur_jnode_new(fur_jparser *p, fur_jnode_kind kind, fur_jnode **out);
fur_status fur_jparse_copy(fur_jparser *p, const char *text, int64_t bytes, const char **out);

/* The next token within a tag becomes the present one. */
fur_status fur_jparse_next(fur_jparser *p);
bool fur_jis_operator(const fur_jparser *p, const char *text);
bool fur_jis_word(const fur_jparser *p, const char *text);
fur_status fur_jparse_accept(fur_jparser *p, const char *text); /* an operator */
fur_status fur_jparse_name(fur_jparser *p, const char **out);
fur_status fur_jparse_expression(fur_jparser *p, fur_jnode **out);
/* without "if" */
fur_status fur_jparse_logic(fur_jparser *p, bool or, fur_jnode **out);

#endif
