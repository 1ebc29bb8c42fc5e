/* SPDX-License-Identifier: Apache-2.0 */
/* What running a template shares with its filters, tests and methods. */
#ifndef FUR_TEXT_JINJA_RUN_H
#define FUR_TEXT_JINJA_RUN_H

#include "text/jinja_parts.h"

#define FUR_JARGUMENTS 8

typedef struct fur_jarguments {
    fur_jvalue values[FUR_JARGUMENTS];
    const char *names[FUR_JARGUMENTS]; /* NULL: by position */
    int count;
} fur_jarguments;

typedef struct fur_jrun {
    fur_error *error;
    const fur_jinja *jinja;
    fur_pool pool;
    fur_jinja_output *out;
    fur_jinja_output scratch; /* texts in the making */
    struct fur_jscope *scope;
    unsigned char mark; /* of what the template itself says, in {% generation %} */
    int64_t steps;
    int depth;
} fur_jrun;

/* "NAME: line N: text" */
fur_status fur_jrefuse(const fur_jrun *run, const fur_jnode *node, fur_status status, const char *format, ...)
    FUR_PRINTF(4, 5);

fur_status fur_jfilter(fur_jrun *run, const fur_jnode *node, const fur_jvalue *of, const fur_jarguments *arguments,
                       fur_jvalue *out);
fur_status fur_jtest(fur_jrun *run, const fur_jnode *node, const char *name, const fur_jvalue *of,
                     const fur_jarguments *arguments, bool *out);
/* of.name(arguments) */
fur_status fur_jmethod(fur_jrun *run, const fur_jnode *node, const fur_jvalue *of, const char *name,
                       const fur_jarguments *arguments, fur_jvalue *out);
/* name(arguments) */
fur_status fur_jfunction(fur_jrun *run, const fur_jnode *node, const char *name, const fur_jarguments *arguments,
                         fur_jvalue *out);
/* Items of a list, keys of a dictionary, none of what is undefined. */
fur_status fur_jitems(fur_jrun *run, const fur_jnode *node, const fur_jvalue *of, fur_jvalue *out);
fur_jvalue fur_jattribute(const fur_jvalue *of, const char *name);
fur_status fur_jlist(fur_jrun *run, int64_t count, fur_jvalue **items, fur_jvalue *out);
fur_jvalue fur_jslice(const fur_jvalue *string, int64_t first, int64_t end);
bool fur_jcontains(const fur_jvalue *in, const fur_jvalue *what);

#endif
