/* SPDX-License-Identifier: Apache-2.0 */
#include "text/jinja_run.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/size.h"
#include "io/file.h"
#include "text/utf8.h"

#define STEPS_MOST 10000000
#define DEPTH_MOST 200

/* Names set in one round of a loop, or in the template. */
typedef struct fur_jscope {
    fur_jdict names;
    struct fur_jscope *outer;
} fur_jscope;

fur_status fur_jrefuse(const fur_jrun *run, const fur_jnode *node, fur_status status, const char *format, ...)
{
    char text[300];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    return fur_error_set(run->error, status, "%s: line %lld: %s", run->jinja->name, (long long)node->line, text);
}

static fur_status evaluate(fur_jrun *run, const fur_jnode *node, fur_jvalue *out);

/* ---- values --------------------------------------------------------------------------------------------------- */

static fur_jvalue boolean(bool value)
{
    return (fur_jvalue){.kind = J_BOOL, .number = value};
}

fur_jvalue fur_jattribute(const fur_jvalue *of, const char *name)
{
    const fur_jvalue *found = of->kind == J_DICT ? fur_jfind(of->dict, name, (int64_t)strlen(name)) : NULL;
    return found ? *found : (fur_jvalue){.kind = J_UNDEFINED, .text = name};
}

fur_status fur_jlist(fur_jrun *run, int64_t count, fur_jvalue **items, fur_jvalue *out)
{
    void *memory;
    int64_t bytes;
    if (!fur_mul_ok(count, (int64_t)sizeof **items, &bytes))
        bytes = FUR_POOL_MOST + 1;
    FUR_TRY(fur_pool_take(&run->pool, bytes, &memory));
    *items = memory;
    *out = (fur_jvalue){.kind = J_LIST, .number = count, .items = memory};
    return FUR_OK;
}

fur_jvalue fur_jslice(const fur_jvalue *string, int64_t first, int64_t end)
{
    fur_jvalue part = fur_jstring(string->text + first, end - first);
    part.marks = string->marks ? string->marks + first : NULL;
    return part;
}

bool fur_jcontains(const fur_jvalue *in, const fur_jvalue *what)
{
    if (in->kind == J_STRING && what->kind == J_STRING) {
        for (int64_t i = 0; i + what->number <= in->number; i++)
            if (memcmp(in->text + i, what->text, (size_t)what->number) == 0)
                return true;
        return false;
    }
    if (in->kind == J_DICT)
        return what->kind == J_STRING && fur_jfind(in->dict, what->text, what->number) != NULL;
    for (int64_t i = 0; in->kind == J_LIST && i < in->number; i++)
        if (fur_jequal(&in->items[i], what))
            return true;
    return false;
}

fur_status fur_jitems(fur_jrun *run, const fur_jnode *node, const fur_jvalue *of, fur_jvalue *out)
{
    fur_jvalue *items;
    switch (of->kind) {
    case J_LIST: *out = *of; return FUR_OK;
    case J_UNDEFINED: *out = (fur_jvalue){.kind = J_LIST}; return FUR_OK;
    case J_DICT:
        FUR_TRY(fur_jlist(run, of->dict->count, &items, out));
        if (of->dict->count > 0)
            memcpy(items, of->dict->keys, (size_t)of->dict->count * sizeof *items);
        return FUR_OK;
    default: return fur_jrefuse(run, node, FUR_E_UNSUPPORTED, "going through what is no list is not known here");
    }
}

/* ---- names ---------------------------------------------------------------------------------------------------- */

static fur_jvalue look_up(const fur_jrun *run, const char *name)
{
    for (const fur_jscope *scope = run->scope; scope; scope = scope->outer) {
        const fur_jvalue *found = fur_jfind(&scope->names, name, (int64_t)strlen(name));
        if (found)
            return *found;
    }
    return (fur_jvalue){.kind = J_UNDEFINED, .text = name};
}

static fur_status set(fur_jrun *run, const char *name, fur_jvalue value)
{
    return fur_jset(&run->pool, &run->scope->names, fur_jstring(name, (int64_t)strlen(name)), value);
}

/* ---- operators ------------------------------------------------------------------------------------------------ */

static bool is_number(const fur_jvalue *value)
{
    return value->kind == J_INT || value->kind == J_BOOL;
}

static fur_status join(fur_jrun *run, const fur_jvalue *a, const fur_jvalue *b, fur_jvalue *out)
{
    int64_t from = run->scratch.text.length;
    FUR_TRY(fur_jappend(run->error, &run->scratch, a));
    FUR_TRY(fur_jappend(run->error, &run->scratch, b));
    return fur_jcollect(&run->pool, &run->scratch, from, out);
}

static fur_status add(fur_jrun *run, const fur_jnode *node, const fur_jvalue *a, const fur_jvalue *b, fur_jvalue *out)
{
    fur_jvalue *items;
    if (a->kind == J_STRING && b->kind == J_STRING)
        return join(run, a, b, out);
    if (a->kind == J_LIST && b->kind == J_LIST) {
        FUR_TRY(fur_jlist(run, a->number + b->number, &items, out));
        if (a->number > 0)
            memcpy(items, a->items, (size_t)a->number * sizeof *items);
        if (b->number > 0)
            memcpy(items + a->number, b->items, (size_t)b->number * sizeof *items);
        return FUR_OK;
    }
    if (a->kind == J_UNDEFINED || b->kind == J_UNDEFINED)
        return fur_jrefuse(run, node, FUR_E_FORMAT, "'%s' is undefined", a->kind == J_UNDEFINED ? a->text : b->text);
    return fur_jrefuse(run, node, FUR_E_FORMAT, "+ between a text and something else");
}

static fur_status calculate(fur_jrun *run, const fur_jnode *node, int64_t a, int64_t b, fur_jvalue *out)
{
    const int64_t most = (int64_t)1 << 52;
    if (a > most || a < -most || b > most || b < -most ||
        (node->op == JO_MULTIPLY && a != 0 && (b > most / (a < 0 ? -a : a) || b < -most / (a < 0 ? -a : a))))
        return fur_jrefuse(run, node, FUR_E_UNSUPPORTED, "a number beyond 2^52");
    if (b == 0 && node->op != JO_ADD && node->op != JO_SUBTRACT && node->op != JO_MULTIPLY)
        return fur_jrefuse(run, node, FUR_E_FORMAT, "a division by zero");
    *out = (fur_jvalue){.kind = J_INT};
    switch (node->op) {
    case JO_ADD: out->number = a + b; break;
    case JO_SUBTRACT: out->number = a - b; break;
    case JO_MULTIPLY: out->number = a * b; break;
    case JO_FLOOR: out->number = a / b - (a % b != 0 && (a < 0) != (b < 0)); break;
    default: out->number = a % b + (a % b != 0 && (a < 0) != (b < 0) ? b : 0); break; /* the sign of b, as in Python */
    }
    return FUR_OK;
}

static fur_status compare(fur_jrun *run, const fur_jnode *node, const fur_jvalue *a, const fur_jvalue *b,
                          fur_jvalue *out)
{
    int64_t order;
    if (is_number(a) && is_number(b)) {
        order = a->number < b->number ? -1 : a->number > b->number;
    } else if (a->kind == J_STRING && b->kind == J_STRING) { /* UTF-8 is ordered as its code points */
        order = memcmp(a->text, b->text, (size_t)fur_min_i64(a->number, b->number));
        order = order ? order : a->number - b->number;
    } else {
        return fur_jrefuse(run, node, FUR_E_FORMAT, "a comparison of unlike things");
    }
    switch (node->op) {
    case JO_LESS: *out = boolean(order < 0); break;
    case JO_LESS_EQUAL: *out = boolean(order <= 0); break;
    case JO_GREATER: *out = boolean(order > 0); break;
    default: *out = boolean(order >= 0); break;
    }
    return FUR_OK;
}

static fur_status binary(fur_jrun *run, const fur_jnode *node, fur_jvalue *out)
{
    fur_jvalue a, b;
    FUR_TRY(evaluate(run, node->a, &a));
    FUR_TRY(evaluate(run, node->b, &b));
    switch (node->op) {
    case JO_EQUAL: *out = boolean(fur_jequal(&a, &b)); return FUR_OK;
    case JO_UNEQUAL: *out = boolean(!fur_jequal(&a, &b)); return FUR_OK;
    case JO_IN:
    case JO_NOT_IN:
        if (is_number(&b) || b.kind == J_NONE || (b.kind == J_STRING && a.kind != J_STRING))
            return fur_jrefuse(run, node, FUR_E_FORMAT, "'in' something that holds nothing of the kind");
        *out = boolean(fur_jcontains(&b, &a) == (node->op == JO_IN));
        return FUR_OK;
    case JO_JOIN: {
        fur_jvalue left, right;
        FUR_TRY(fur_jtext(&run->pool, &a, &left));
        FUR_TRY(fur_jtext(&run->pool, &b, &right));
        return join(run, &left, &right, out);
    }
    case JO_LESS:
    case JO_LESS_EQUAL:
    case JO_GREATER:
    case JO_GREATER_EQUAL: return compare(run, node, &a, &b, out);
    default: break;
    }
    if (is_number(&a) && is_number(&b))
        return calculate(run, node, a.number, b.number, out);
    if (node->op == JO_ADD)
        return add(run, node, &a, &b, out);
    return fur_jrefuse(run, node, FUR_E_FORMAT, "arithmetic with what is no number");
}

/* ---- parts ---------------------------------------------------------------------------------------------------- */

/* Byte places of the characters of a text, and its end: count + 1 of them. */
static fur_status characters(fur_jrun *run, const fur_jvalue *string, int64_t **places, int64_t *count)
{
    void *memory;
    FUR_TRY(fur_pool_take(&run->pool, (string->number + 1) * (int64_t)sizeof **places, &memory));
    *places = memory;
    *count = 0;
    for (int64_t at = 0; at < string->number; at += fur_utf8_length(string->text + at))
        (*places)[(*count)++] = at;
    (*places)[*count] = string->number;
    return FUR_OK;
}

static fur_status item(fur_jrun *run, const fur_jnode *node, fur_jvalue *out)
{
    fur_jvalue of, index;
    FUR_TRY(evaluate(run, node->a, &of));
    FUR_TRY(evaluate(run, node->b, &index));
    *out = (fur_jvalue){.kind = J_UNDEFINED, .text = "an item that is not there"};
    if (of.kind == J_UNDEFINED)
        return fur_jrefuse(run, node, FUR_E_FORMAT, "'%s' is undefined", of.text);
    if (of.kind == J_DICT && index.kind == J_STRING) {
        const fur_jvalue *found = fur_jfind(of.dict, index.text, index.number);
        *out = found ? *found : *out;
    } else if (of.kind == J_LIST && is_number(&index)) {
        int64_t at = index.number < 0 ? index.number + of.number : index.number;
        if (at >= 0 && at < of.number)
            *out = of.items[at];
    } else if (of.kind == J_STRING && is_number(&index)) {
        int64_t *places, count;
        FUR_TRY(characters(run, &of, &places, &count));
        int64_t at = index.number < 0 ? index.number + count : index.number;
        if (at >= 0 && at < count)
            *out = fur_jslice(&of, places[at], places[at + 1]);
    }
    return FUR_OK;
}

static fur_status bound(fur_jrun *run, const fur_jnode *node, int64_t count, int64_t least, int64_t most,
                        int64_t fallback, int64_t *out)
{
    fur_jvalue value = {.kind = J_NONE};
    if (node)
        FUR_TRY(evaluate(run, node, &value));
    if (value.kind == J_NONE) {
        *out = fallback;
        return FUR_OK;
    }
    if (!is_number(&value))
        return fur_jrefuse(run, node, FUR_E_FORMAT, "a slice by what is no number");
    *out = value.number < 0 ? value.number + count : value.number;
    *out = fur_max_i64(least, fur_min_i64(most, *out));
    return FUR_OK;
}

static fur_status slice(fur_jrun *run, const fur_jnode *node, fur_jvalue *out)
{
    fur_jvalue of, step = {.kind = J_INT, .number = 1}, *items;
    int64_t first = 0, end = 0, count, *places = NULL;
    FUR_TRY(evaluate(run, node->a, &of));
    if (node->d)
        FUR_TRY(evaluate(run, node->d, &step));
    if (of.kind != J_LIST && of.kind != J_STRING)
        return fur_jrefuse(run, node, FUR_E_FORMAT, "a slice of what is no list and no text");
    if (!is_number(&step) || (step.number != 1 && (step.number != -1 || of.kind != J_LIST)))
        return fur_jrefuse(run, node, FUR_E_UNSUPPORTED, "a slice by other steps than 1, or -1 of a list");
    count = of.number;
    if (of.kind == J_STRING)
        FUR_TRY(characters(run, &of, &places, &count));
    bool back = step.number < 0;
    FUR_TRY(bound(run, node->b, count, back ? -1 : 0, back ? count - 1 : count, back ? count - 1 : 0, &first));
    FUR_TRY(bound(run, node->c, count, back ? -1 : 0, back ? count - 1 : count, back ? -1 : count, &end));
    int64_t taken = fur_max_i64(0, back ? first - end : end - first);
    if (places) {
        *out = fur_jslice(&of, places[first], places[first + taken]);
        return FUR_OK;
    }
    FUR_TRY(fur_jlist(run, taken, &items, out));
    for (int64_t i = 0; i < taken; i++)
        items[i] = of.items[back ? first - i : first + i];
    return FUR_OK;
}

static fur_status arguments_of(fur_jrun *run, const fur_jnode *node, fur_jarguments *out)
{
    out->count = 0;
    for (const fur_jnode *argument = node->b; argument; argument = argument->next) {
        if (out->count == FUR_JARGUMENTS)
            return fur_jrefuse(run, node, FUR_E_UNSUPPORTED, "more than %d arguments", FUR_JARGUMENTS);
        out->names[out->count] = argument->name;
        FUR_TRY(evaluate(run, argument->a, &out->values[out->count++]));
    }
    return FUR_OK;
}

static fur_status call(fur_jrun *run, const fur_jnode *node, fur_jvalue *out)
{
    fur_jarguments arguments;
    fur_jvalue of;
    if (node->a->kind == JN_ATTRIBUTE) {
        FUR_TRY(evaluate(run, node->a->a, &of));
        FUR_TRY(arguments_of(run, node, &arguments));
        return fur_jmethod(run, node, &of, node->a->name, &arguments, out);
    }
    if (node->a->kind != JN_NAME)
        return fur_jrefuse(run, node, FUR_E_UNSUPPORTED, "calling an expression is not known here");
    FUR_TRY(arguments_of(run, node, &arguments));
    return fur_jfunction(run, node, node->a->name, &arguments, out);
}

static fur_status attribute(fur_jrun *run, const fur_jnode *node, fur_jvalue *out)
{
    fur_jvalue of;
    FUR_TRY(evaluate(run, node->a, &of));
    if (of.kind == J_UNDEFINED)
        return fur_jrefuse(run, node, FUR_E_FORMAT, "'%s' is undefined", of.text);
    *out = fur_jattribute(&of, node->name);
    return FUR_OK;
}

static fur_status make_list(fur_jrun *run, const fur_jnode *node, fur_jvalue *out)
{
    int64_t count = 0;
    fur_jvalue *items;
    for (const fur_jnode *part = node->a; part; part = part->next)
        count++;
    FUR_TRY(fur_jlist(run, count, &items, out));
    for (const fur_jnode *part = node->a; part; part = part->next)
        FUR_TRY(evaluate(run, part, items++));
    return FUR_OK;
}

static fur_status make_dict(fur_jrun *run, const fur_jnode *node, fur_jvalue *out)
{
    void *dict;
    FUR_TRY(fur_pool_take(&run->pool, (int64_t)sizeof(fur_jdict), &dict));
    *out = (fur_jvalue){.kind = J_DICT, .dict = dict};
    for (const fur_jnode *part = node->a; part; part = part->next->next) {
        fur_jvalue key, value;
        FUR_TRY(evaluate(run, part, &key));
        FUR_TRY(evaluate(run, part->next, &value));
        if (key.kind != J_STRING)
            return fur_jrefuse(run, node, FUR_E_UNSUPPORTED, "a key that is no text is not known here");
        FUR_TRY(fur_jset(&run->pool, dict, key, value));
    }
    return FUR_OK;
}

static fur_status evaluate_now(fur_jrun *run, const fur_jnode *node, fur_jvalue *out)
{
    fur_jvalue a;
    fur_jarguments arguments;
    bool holds = false;
    switch (node->kind) {
    case JN_LITERAL: *out = node->literal; return FUR_OK;
    case JN_NAME: *out = look_up(run, node->name); return FUR_OK;
    case JN_ATTRIBUTE: return attribute(run, node, out);
    case JN_ITEM: return item(run, node, out);
    case JN_SLICE: return slice(run, node, out);
    case JN_CALL: return call(run, node, out);
    case JN_LIST: return make_list(run, node, out);
    case JN_DICT: return make_dict(run, node, out);
    case JN_BINARY: return binary(run, node, out);
    default: break;
    }
    if (node->kind == JN_CHOICE) {
        FUR_TRY(evaluate(run, node->b, &a));
        *out = (fur_jvalue){.kind = J_UNDEFINED, .text = "a choice without else"};
        if (fur_jtrue(&a))
            return evaluate(run, node->a, out);
        return node->c ? evaluate(run, node->c, out) : FUR_OK;
    }
    FUR_TRY(evaluate(run, node->a, &a));
    switch (node->kind) {
    case JN_FILTER: FUR_TRY(arguments_of(run, node, &arguments)); return fur_jfilter(run, node, &a, &arguments, out);
    case JN_TEST:
        FUR_TRY(arguments_of(run, node, &arguments));
        FUR_TRY(fur_jtest(run, node, node->name, &a, &arguments, &holds));
        *out = boolean(holds);
        return FUR_OK;
    case JN_NOT: *out = boolean(!fur_jtrue(&a)); return FUR_OK;
    case JN_NEGATIVE:
        if (!is_number(&a))
            return fur_jrefuse(run, node, FUR_E_FORMAT, "- before what is no number");
        *out = (fur_jvalue){.kind = J_INT, .number = -a.number};
        return FUR_OK;
    case JN_AND: *out = a; return fur_jtrue(&a) ? evaluate(run, node->b, out) : FUR_OK;
    default: *out = a; return fur_jtrue(&a) ? FUR_OK : evaluate(run, node->b, out); /* JN_OR */
    }
}

static fur_status evaluate(fur_jrun *run, const fur_jnode *node, fur_jvalue *out)
{
    *out = (fur_jvalue){.kind = J_UNDEFINED, .text = ""};
    if (++run->steps > STEPS_MOST)
        return fur_jrefuse(run, node, FUR_E_UNSUPPORTED, "more than %d steps", STEPS_MOST);
    if (++run->depth > DEPTH_MOST)
        return fur_jrefuse(run, node, FUR_E_UNSUPPORTED, "nested too deep");
    fur_status status = evaluate_now(run, node, out);
    run->depth--;
    return status;
}

/* ---- statements ----------------------------------------------------------------------------------------------- */

static fur_status run_body(fur_jrun *run, const fur_jnode *node);

static fur_status print(fur_jrun *run, fur_jvalue value)
{
    int64_t from = run->out->marks.length;
    FUR_TRY(fur_jappend(run->error, run->out, &value));
    if (run->mark && value.number > 0)
        memset(run->out->marks.data + from, run->mark, (size_t)value.number);
    return FUR_OK;
}

/* The variable `loop`. */
static fur_status set_loop(fur_jrun *run, const fur_jvalue *items, int64_t i)
{
    void *dict;
    const fur_jvalue none = {.kind = J_UNDEFINED, .text = "an item beyond the loop"};
    FUR_TRY(fur_pool_take(&run->pool, (int64_t)sizeof(fur_jdict), &dict));
    const struct {
        const char *name;
        fur_jvalue value;
    } parts[] = {{"index0", {.kind = J_INT, .number = i}},
                 {"index", {.kind = J_INT, .number = i + 1}},
                 {"first", boolean(i == 0)},
                 {"last", boolean(i + 1 == items->number)},
                 {"length", {.kind = J_INT, .number = items->number}},
                 {"revindex", {.kind = J_INT, .number = items->number - i}},
                 {"revindex0", {.kind = J_INT, .number = items->number - i - 1}},
                 {"previtem", i > 0 ? items->items[i - 1] : none},
                 {"nextitem", i + 1 < items->number ? items->items[i + 1] : none}};
    for (size_t k = 0; k < sizeof parts / sizeof parts[0]; k++)
        FUR_TRY(fur_jset(&run->pool, dict, fur_jstring(parts[k].name, (int64_t)strlen(parts[k].name)), parts[k].value));
    return set(run, "loop", (fur_jvalue){.kind = J_DICT, .dict = dict});
}

static fur_status set_targets(fur_jrun *run, const fur_jnode *node, const fur_jvalue *value)
{
    if (!node->second)
        return set(run, node->name, *value);
    if (value->kind != J_LIST || value->number != 2)
        return fur_jrefuse(run, node, FUR_E_FORMAT, "two names for what is no pair");
    FUR_TRY(set(run, node->name, value->items[0]));
    return set(run, node->second, value->items[1]);
}

/* The items for which the loop's condition holds. */
static fur_status select_items(fur_jrun *run, const fur_jnode *node, fur_jvalue *items)
{
    fur_jvalue *kept, all = *items;
    if (!node->d)
        return FUR_OK;
    FUR_TRY(fur_jlist(run, all.number, &kept, items));
    items->number = 0;
    for (int64_t i = 0; i < all.number; i++) {
        fur_jvalue holds;
        FUR_TRY(set_targets(run, node, &all.items[i]));
        FUR_TRY(evaluate(run, node->d, &holds));
        if (fur_jtrue(&holds))
            kept[items->number++] = all.items[i];
    }
    return FUR_OK;
}

static fur_status run_for(fur_jrun *run, const fur_jnode *node)
{
    fur_jvalue of, items = {.kind = J_LIST};
    fur_jscope scope = {.outer = run->scope};
    FUR_TRY(evaluate(run, node->a, &of));
    FUR_TRY(fur_jitems(run, node, &of, &items));
    run->scope = &scope;
    fur_status status = select_items(run, node, &items);
    for (int64_t i = 0; i < items.number && status == FUR_OK; i++) {
        scope.names = (fur_jdict){0};
        status = set_targets(run, node, &items.items[i]);
        if (status == FUR_OK)
            status = set_loop(run, &items, i);
        if (status == FUR_OK)
            status = run_body(run, node->b);
    }
    run->scope = scope.outer;
    return status == FUR_OK && items.number == 0 ? run_body(run, node->c) : status;
}

static fur_status run_set(fur_jrun *run, const fur_jnode *node)
{
    fur_jvalue value, of;
    FUR_TRY(evaluate(run, node->b, &value));
    if (!node->a)
        return set(run, node->name, value);
    of = look_up(run, node->name);
    if (of.kind != J_DICT || !of.dict->is_namespace)
        return fur_jrefuse(run, node, FUR_E_FORMAT, "'%s' is no namespace", node->name);
    return fur_jset(&run->pool, of.dict, fur_jstring(node->a->name, (int64_t)strlen(node->a->name)), value);
}

static fur_status run_statement(fur_jrun *run, const fur_jnode *node)
{
    fur_jvalue value, text;
    switch (node->kind) {
    case JN_DATA: return print(run, node->literal);
    case JN_PRINT:
        FUR_TRY(evaluate(run, node->a, &value));
        FUR_TRY(fur_jtext(&run->pool, &value, &text));
        return print(run, text);
    case JN_IF: FUR_TRY(evaluate(run, node->a, &value)); return run_body(run, fur_jtrue(&value) ? node->b : node->c);
    case JN_FOR: return run_for(run, node);
    case JN_SET: return run_set(run, node);
    default: break;
    }
    run->out->generation = true; /* JN_GENERATION */
    run->mark = FUR_JINJA_GENERATION;
    FUR_TRY(run_body(run, node->b));
    run->mark = 0;
    return FUR_OK;
}

static fur_status run_body(fur_jrun *run, const fur_jnode *node)
{
    if (++run->depth > DEPTH_MOST)
        return fur_jrefuse(run, node, FUR_E_UNSUPPORTED, "nested too deep");
    for (; node; node = node->next) {
        if (++run->steps > STEPS_MOST)
            return fur_jrefuse(run, node, FUR_E_UNSUPPORTED, "more than %d steps", STEPS_MOST);
        FUR_TRY(run_statement(run, node));
    }
    run->depth--;
    return FUR_OK;
}

/* ---- variables ------------------------------------------------------------------------------------------------ */

typedef struct place {
    int64_t message;
    const char *role;
} place;

static fur_status from_json(fur_jrun *run, const json_t *json, fur_jinja_mark mark, place at, fur_jvalue *out)
{
    const char *key;
    json_t *value;
    fur_jvalue *items, one;
    void *memory;
    size_t i;
    unsigned char number;
    switch (json_typeof(json)) {
    case JSON_NULL: *out = (fur_jvalue){.kind = J_NONE}; return FUR_OK;
    case JSON_TRUE:
    case JSON_FALSE: *out = boolean(json_is_true(json)); return FUR_OK;
    case JSON_INTEGER: *out = (fur_jvalue){.kind = J_INT, .number = (int64_t)json_integer_value(json)}; return FUR_OK;
    case JSON_REAL:
        return fur_error_set(run->error, FUR_E_UNSUPPORTED, "%s: numbers with a point are not known here",
                             run->jinja->name);
    case JSON_STRING:
        *out = fur_jstring(json_string_value(json), (int64_t)json_string_length(json));
        number = mark && at.message >= 0 ? mark(at.message, at.role) : 0;
        if (!number)
            return FUR_OK;
        FUR_TRY(fur_pool_take(&run->pool, out->number, &memory));
        memset(memory, number, (size_t)out->number);
        out->marks = memory;
        return FUR_OK;
    case JSON_ARRAY:
        FUR_TRY(fur_jlist(run, (int64_t)json_array_size(json), &items, out));
        json_array_foreach(json, i, value) FUR_TRY(from_json(run, value, mark, at, &items[i]));
        return FUR_OK;
    default: break;
    }
    FUR_TRY(fur_pool_take(&run->pool, (int64_t)sizeof(fur_jdict), &memory));
    json_object_foreach((json_t *)json, key, value)
    {
        place within = at;
        if (at.message >= 0 && strcmp(key, "role") == 0)
            within.message = -1; /* the role is not what it says */
        FUR_TRY(from_json(run, value, mark, within, &one));
        FUR_TRY(fur_jset(&run->pool, memory, fur_jstring(key, (int64_t)strlen(key)), one));
    }
    *out = (fur_jvalue){.kind = J_DICT, .dict = memory};
    return FUR_OK;
}

static fur_status set_variables(fur_jrun *run, const json_t *variables, fur_jinja_mark mark)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)variables, key, value)
    {
        fur_jvalue converted, *items;
        bool messages = strcmp(key, "messages") == 0 && json_is_array(value);
        if (!messages) {
            FUR_TRY(from_json(run, value, mark, (place){-1, NULL}, &converted));
        } else {
            FUR_TRY(fur_jlist(run, (int64_t)json_array_size(value), &items, &converted));
            for (size_t i = 0; i < json_array_size(value); i++) {
                const json_t *message = json_array_get(value, i);
                place at = {(int64_t)i, json_string_value(json_object_get(message, "role"))};
                FUR_TRY(from_json(run, message, mark, at, &items[i]));
            }
        }
        FUR_TRY(set(run, key, converted));
    }
    return FUR_OK;
}

fur_status fur_jinja_render(fur_error *error, const fur_jinja *jinja, const json_t *variables, fur_jinja_mark mark,
                            fur_jinja_output *out)
{
    fur_jscope scope = {{0}, NULL};
    fur_jrun run = {.error = error, .jinja = jinja, .pool.error = error, .out = out, .scope = &scope};
    fur_status status = set_variables(&run, variables, mark);
    if (status == FUR_OK)
        status = run_body(&run, jinja->body);
    if (status != FUR_OK && error && strncmp(error->text, jinja->name, strlen(jinja->name)) != 0)
        (void)fur_error_prefix(error, "%s", jinja->name);
    fur_pool_clear(&run.pool);
    fur_string_clear(&run.scratch.text);
    fur_string_clear(&run.scratch.marks);
    return status;
}
