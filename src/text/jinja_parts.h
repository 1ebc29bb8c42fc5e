/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of the interpreter share: memory that goes at once, values, and the tree of a template. */
#ifndef FUR_TEXT_JINJA_PARTS_H
#define FUR_TEXT_JINJA_PARTS_H

#include "text/jinja.h"

/* ---- memory --------------------------------------------------------------------------------------------------- */

typedef struct fur_pool {
    fur_error *error;
    struct fur_pool_block *blocks;
    int64_t bytes; /* taken so far, FUR_POOL_MOST at most */
} fur_pool;
#define FUR_POOL_MOST ((int64_t)512 << 20)

fur_status fur_pool_take(fur_pool *pool, int64_t bytes, void **out); /* zeroed */
void fur_pool_clear(fur_pool *pool);

/* ---- values --------------------------------------------------------------------------------------------------- */

typedef enum fur_jkind { J_UNDEFINED, J_NONE, J_BOOL, J_INT, J_STRING, J_LIST, J_DICT } fur_jkind;

typedef struct fur_jvalue fur_jvalue;
typedef struct fur_jdict {
    fur_jvalue *keys, *values; /* in order of insertion */
    int64_t count, capacity;
    bool is_namespace;
} fur_jdict;

struct fur_jvalue {
    fur_jkind kind;
    int64_t number;             /* of J_BOOL and J_INT; bytes of J_STRING, items of J_LIST */
    const char *text;           /* J_STRING; of J_UNDEFINED its name, for errors */
    const unsigned char *marks; /* J_STRING: [number], NULL: none */
    const fur_jvalue *items;    /* J_LIST */
    fur_jdict *dict;            /* J_DICT */
};

fur_jvalue fur_jstring(const char *text, int64_t bytes);
bool fur_jtrue(const fur_jvalue *value);
bool fur_jequal(const fur_jvalue *a, const fur_jvalue *b);
const fur_jvalue *fur_jfind(const fur_jdict *dict, const char *key, int64_t bytes);
fur_status fur_jset(fur_pool *pool, fur_jdict *dict, fur_jvalue key, fur_jvalue value);
/* Text with marks; mark 0 for unmarked. */
fur_status fur_jappend(fur_error *error, fur_jinja_output *out, const fur_jvalue *string);
/* The value in pool memory that the output from `from` on is; the output is cut back. */
fur_status fur_jcollect(fur_pool *pool, fur_jinja_output *out, int64_t from, fur_jvalue *value);
/* What {{ }} prints: lists and dictionaries are refused. */
fur_status fur_jtext(fur_pool *pool, const fur_jvalue *value, fur_jvalue *out);
/* As json.dumps of Python, not ASCII alone; indent -1: in one line. */
fur_status fur_jdump(fur_error *error, const fur_jvalue *value, int64_t indent, int64_t level, fur_jinja_output *out);
bool fur_jis_space(int32_t code); /* as Python's str.isspace */

/* ---- the tree ------------------------------------------------------------------------------------------------- */

typedef enum fur_jnode_kind {
    JN_DATA,
    JN_PRINT,
    JN_IF,         /* a: condition, b: body, c: else */
    JN_FOR,        /* name (and second), a: what, b: body, c: else, d: condition */
    JN_SET,        /* name, or a: an attribute; b: value */
    JN_GENERATION, /* b: body */
    JN_LITERAL,
    JN_NAME,
    JN_ATTRIBUTE, /* a.name */
    JN_ITEM,      /* a[b] */
    JN_SLICE,     /* a[b:c:d], any of the three NULL */
    JN_CALL,      /* a(arguments in b) */
    JN_FILTER,    /* a | name(arguments in b) */
    JN_TEST,      /* a is name(arguments in b) */
    JN_NOT,
    JN_NEGATIVE,
    JN_AND,
    JN_OR,
    JN_BINARY,  /* a op b */
    JN_CHOICE,  /* a if b else c */
    JN_LIST,    /* of a and its siblings */
    JN_DICT,    /* keys and values by turns */
    JN_ARGUMENT /* name or NULL, a: value */
} fur_jnode_kind;

typedef enum fur_joperator {
    JO_ADD,
    JO_SUBTRACT,
    JO_MULTIPLY,
    JO_FLOOR,
    JO_MODULO,
    JO_JOIN,
    JO_EQUAL,
    JO_UNEQUAL,
    JO_LESS,
    JO_LESS_EQUAL,
    JO_GREATER,
    JO_GREATER_EQUAL,
    JO_IN,
    JO_NOT_IN
} fur_joperator;

typedef struct fur_jnode fur_jnode;
struct fur_jnode {
    fur_jnode_kind kind;
    fur_joperator op;
    int64_t line;
    const char *name, *second;
    fur_jvalue literal; /* JN_DATA, JN_LITERAL */
    fur_jnode *a, *b, *c, *d;
    fur_jnode *next; /* sibling */
};

struct fur_jinja {
    char *name;
    fur_pool pool;
    fur_jnode *body;
};

#endif
