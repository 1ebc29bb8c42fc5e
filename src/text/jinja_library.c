/* SPDX-License-Identifier: Apache-2.0 */
/* Filters, tests, methods and functions of templates: those that the families' templates use. */
#include <limits.h>
#include <string.h>

#include "base/size.h"
#include "text/jinja_run.h"
#include "text/utf8.h"

enum { NOWHERE = INT_MAX }; /* the place of what is given by name alone */

/* The argument at a place or of a name; NULL: not given. */
static const fur_jvalue *argument(const fur_jarguments *arguments, int place, const char *name)
{
    for (int i = 0; i < arguments->count; i++) {
        const char *its = arguments->names[i];
        if (its == NULL && i == place)
            return &arguments->values[i];
        if (its && name && strcmp(its, name) == 0)
            return &arguments->values[i];
    }
    return NULL;
}

static fur_status wrong(const fur_jrun *run, const fur_jnode *node, const char *name)
{
    return fur_jrefuse(run, node, FUR_E_FORMAT, "%s of a value, or with arguments, that it does not take", name);
}

/* ---- text ----------------------------------------------------------------------------------------------------- */

static bool in_set(const fur_jvalue *set, const char *at, int64_t length)
{
    if (!set)
        return fur_jis_space(fur_utf8_get(at));
    fur_jvalue character = fur_jstring(at, length);
    return fur_jcontains(set, &character);
}

/* set NULL: white space */
static fur_jvalue strip(const fur_jvalue *text, const fur_jvalue *set, bool left, bool right)
{
    int64_t first = 0, end = text->number;
    while (left && first < end) {
        int64_t length = fur_utf8_length(text->text + first);
        if (!in_set(set, text->text + first, length))
            break;
        first += length;
    }
    while (right && end > first) {
        int64_t last = end - 1;
        while (last > first && ((unsigned char)text->text[last] & 0xc0) == 0x80)
            last--;
        if (!in_set(set, text->text + last, end - last))
            break;
        end = last;
    }
    return fur_jslice(text, first, end);
}

/* Where `what` begins in the text from `from` on; -1: nowhere. */
static int64_t find(const fur_jvalue *text, const fur_jvalue *what, int64_t from)
{
    for (int64_t i = from; i + what->number <= text->number; i++)
        if (memcmp(text->text + i, what->text, (size_t)what->number) == 0)
            return i;
    return -1;
}

static fur_status replace(fur_jrun *run, const fur_jnode *node, const fur_jvalue *text, const fur_jarguments *arguments,
                          fur_jvalue *out)
{
    const fur_jvalue *old = argument(arguments, 0, "old"), *new = argument(arguments, 1, "new");
    int64_t from = run->scratch.text.length, at = 0;
    if (arguments->count != 2 || !old || !new || old->kind != J_STRING || new->kind != J_STRING || old->number == 0)
        return wrong(run, node, "replace");
    for (int64_t found; (found = find(text, old, at)) >= 0; at = found + old->number) {
        fur_jvalue part = fur_jslice(text, at, found);
        FUR_TRY(fur_jappend(run->error, &run->scratch, &part));
        FUR_TRY(fur_jappend(run->error, &run->scratch, new));
    }
    fur_jvalue rest = fur_jslice(text, at, text->number);
    FUR_TRY(fur_jappend(run->error, &run->scratch, &rest));
    return fur_jcollect(&run->pool, &run->scratch, from, out);
}

/* By a text, or by runs of white space. */
static fur_status split(fur_jrun *run, const fur_jnode *node, const fur_jvalue *text, const fur_jarguments *arguments,
                        fur_jvalue *out)
{
    const fur_jvalue *by = argument(arguments, 0, "sep"), *limit = argument(arguments, 1, "maxsplit");
    int64_t most = limit ? limit->number : -1, count = 0, at = 0;
    fur_jvalue *items;
    if (!by || by->kind != J_STRING || by->number == 0 || (limit && limit->kind != J_INT))
        return wrong(run, node, "split");
    for (int64_t found = 0; found >= 0; count++)
        found = find(text, by, found + (count ? by->number : 0));
    count = most >= 0 ? fur_min_i64(count, most + 1) : count;
    FUR_TRY(fur_jlist(run, count, &items, out));
    for (int64_t i = 0; i < count; i++) {
        int64_t end = i + 1 < count ? find(text, by, at) : text->number;
        items[i] = fur_jslice(text, at, end);
        at = end + by->number;
    }
    return FUR_OK;
}

/* Of ASCII alone: what other letters become depends on tables that Python and we need not share. */
static fur_status change_case(fur_jrun *run, const fur_jnode *node, const char *name, const fur_jvalue *text,
                              fur_jvalue *out)
{
    char from = strcmp(name, "lower") == 0 ? 'A' : 'a';
    void *memory;
    FUR_TRY(fur_pool_take(&run->pool, text->number, &memory));
    char *copy = memory;
    for (int64_t i = 0; i < text->number; i++) {
        char c = text->text[i];
        if ((unsigned char)c >= 0x80)
            return fur_jrefuse(run, node, FUR_E_UNSUPPORTED, "%s of letters beyond ASCII is not known here", name);
        copy[i] = (char)(c >= from && c <= from + 25 ? c ^ 0x20 : c);
    }
    *out = *text;
    out->text = copy;
    return FUR_OK;
}

static bool has_end(const fur_jvalue *text, const fur_jvalue *part, bool at_end)
{
    int64_t from = at_end ? text->number - part->number : 0;
    return part->number <= text->number && memcmp(text->text + from, part->text, (size_t)part->number) == 0;
}

static fur_status text_method(fur_jrun *run, const fur_jnode *node, const fur_jvalue *of, const char *name,
                              const fur_jarguments *arguments, fur_jvalue *out)
{
    const fur_jvalue *first = argument(arguments, 0, NULL);
    bool left = strcmp(name, "lstrip") == 0, right = strcmp(name, "rstrip") == 0;
    if (left || right || strcmp(name, "strip") == 0) {
        if (first && first->kind != J_STRING && first->kind != J_NONE)
            return wrong(run, node, name);
        *out = strip(of, first && first->kind == J_STRING ? first : NULL, !right, !left);
        return FUR_OK;
    }
    bool ends = strcmp(name, "endswith") == 0;
    if (ends || strcmp(name, "startswith") == 0) {
        if (!first || first->kind != J_STRING || arguments->count != 1)
            return wrong(run, node, name);
        *out = (fur_jvalue){.kind = J_BOOL, .number = has_end(of, first, ends)};
        return FUR_OK;
    }
    if (strcmp(name, "split") == 0)
        return split(run, node, of, arguments, out);
    if (strcmp(name, "replace") == 0)
        return replace(run, node, of, arguments, out);
    if (strcmp(name, "upper") == 0 || strcmp(name, "lower") == 0)
        return change_case(run, node, name, of, out);
    return fur_jrefuse(run, node, FUR_E_UNSUPPORTED, ".%s() of a text is not known here", name);
}

/* ---- dictionaries --------------------------------------------------------------------------------------------- */

static fur_status items_of(fur_jrun *run, const fur_jdict *dict, bool keys, bool values, fur_jvalue *out)
{
    fur_jvalue *list, *pair;
    FUR_TRY(fur_jlist(run, dict->count, &list, out));
    for (int64_t i = 0; i < dict->count; i++) {
        if (keys && values) {
            FUR_TRY(fur_jlist(run, 2, &pair, &list[i]));
            pair[0] = dict->keys[i];
            pair[1] = dict->values[i];
        } else {
            list[i] = keys ? dict->keys[i] : dict->values[i];
        }
    }
    return FUR_OK;
}

static fur_status dict_method(fur_jrun *run, const fur_jnode *node, const fur_jvalue *of, const char *name,
                              const fur_jarguments *arguments, fur_jvalue *out)
{
    const fur_jvalue *first = argument(arguments, 0, NULL), *second = argument(arguments, 1, NULL);
    if (strcmp(name, "items") == 0)
        return items_of(run, of->dict, true, true, out);
    if (strcmp(name, "keys") == 0)
        return items_of(run, of->dict, true, false, out);
    if (strcmp(name, "values") == 0)
        return items_of(run, of->dict, false, true, out);
    if (strcmp(name, "get") != 0)
        return fur_jrefuse(run, node, FUR_E_UNSUPPORTED, ".%s() of a dictionary is not known here", name);
    if (!first || first->kind != J_STRING)
        return wrong(run, node, "get");
    const fur_jvalue *found = fur_jfind(of->dict, first->text, first->number);
    const fur_jvalue none = {.kind = J_NONE};
    *out = found ? *found : second ? *second : none;
    return FUR_OK;
}

fur_status fur_jmethod(fur_jrun *run, const fur_jnode *node, const fur_jvalue *of, const char *name,
                       const fur_jarguments *arguments, fur_jvalue *out)
{
    if (of->kind == J_STRING)
        return text_method(run, node, of, name, arguments, out);
    if (of->kind == J_DICT)
        return dict_method(run, node, of, name, arguments, out);
    if (of->kind == J_UNDEFINED)
        return fur_jrefuse(run, node, FUR_E_FORMAT, "'%s' is undefined", of->text);
    return fur_jrefuse(run, node, FUR_E_UNSUPPORTED, ".%s() is not known here", name);
}

/* ---- functions ------------------------------------------------------------------------------------------------ */

static fur_status make_namespace(fur_jrun *run, const fur_jnode *node, const fur_jarguments *arguments, fur_jvalue *out)
{
    void *memory;
    FUR_TRY(fur_pool_take(&run->pool, (int64_t)sizeof(fur_jdict), &memory));
    fur_jdict *dict = memory;
    dict->is_namespace = true;
    for (int i = 0; i < arguments->count; i++) {
        if (!arguments->names[i])
            return wrong(run, node, "namespace");
        FUR_TRY(fur_jset(&run->pool, dict, fur_jstring(arguments->names[i], (int64_t)strlen(arguments->names[i])),
                         arguments->values[i]));
    }
    *out = (fur_jvalue){.kind = J_DICT, .dict = dict};
    return FUR_OK;
}

static fur_status make_range(fur_jrun *run, const fur_jnode *node, const fur_jarguments *arguments, fur_jvalue *out)
{
    int64_t ends[2] = {0, 0};
    fur_jvalue *items;
    if (arguments->count < 1 || arguments->count > 2)
        return wrong(run, node, "range");
    for (int i = 0; i < arguments->count; i++) {
        if (arguments->values[i].kind != J_INT)
            return wrong(run, node, "range");
        ends[arguments->count == 1 ? 1 : i] = arguments->values[i].number;
    }
    int64_t count = fur_max_i64(0, ends[1] - ends[0]);
    if (count > 100000) /* as in the sandbox of Jinja */
        return fur_jrefuse(run, node, FUR_E_UNSUPPORTED, "a range of more than 100,000");
    FUR_TRY(fur_jlist(run, count, &items, out));
    for (int64_t i = 0; i < count; i++)
        items[i] = (fur_jvalue){.kind = J_INT, .number = ends[0] + i};
    return FUR_OK;
}

fur_status fur_jfunction(fur_jrun *run, const fur_jnode *node, const char *name, const fur_jarguments *arguments,
                         fur_jvalue *out)
{
    if (strcmp(name, "namespace") == 0)
        return make_namespace(run, node, arguments, out);
    if (strcmp(name, "range") == 0)
        return make_range(run, node, arguments, out);
    if (strcmp(name, "raise_exception") != 0)
        return fur_jrefuse(run, node, FUR_E_UNSUPPORTED, "%s() is not known here", name);
    const fur_jvalue *why = argument(arguments, 0, "message");
    return fur_jrefuse(run, node, FUR_E_FORMAT, "the template says: %.*s",
                       why && why->kind == J_STRING ? (int)fur_min_i64(why->number, 200) : 0,
                       why && why->kind == J_STRING ? why->text : "");
}

/* ---- tests ---------------------------------------------------------------------------------------------------- */

fur_status fur_jtest(fur_jrun *run, const fur_jnode *node, const char *name, const fur_jvalue *of,
                     const fur_jarguments *arguments, bool *out)
{
    const fur_jvalue *other = argument(arguments, 0, NULL);
    const struct {
        const char *name;
        bool holds;
    } plain[] = {
        {"defined", of->kind != J_UNDEFINED},
        {"undefined", of->kind == J_UNDEFINED},
        {"none", of->kind == J_NONE},
        {"string", of->kind == J_STRING},
        {"mapping", of->kind == J_DICT && !of->dict->is_namespace},
        {"iterable", of->kind == J_STRING || of->kind == J_LIST || of->kind == J_UNDEFINED ||
                         (of->kind == J_DICT && !of->dict->is_namespace)},
        {"sequence", of->kind == J_STRING || of->kind == J_LIST || of->kind == J_UNDEFINED ||
                         (of->kind == J_DICT && !of->dict->is_namespace)},
        {"number", of->kind == J_INT || of->kind == J_BOOL},
        {"integer", of->kind == J_INT},
        {"boolean", of->kind == J_BOOL},
        {"true", of->kind == J_BOOL && of->number == 1},
        {"false", of->kind == J_BOOL && of->number == 0},
        {"odd", (of->kind == J_INT || of->kind == J_BOOL) && of->number % 2 != 0},
        {"even", (of->kind == J_INT || of->kind == J_BOOL) && of->number % 2 == 0},
    };
    for (size_t i = 0; i < sizeof plain / sizeof plain[0]; i++) {
        if (strcmp(name, plain[i].name) != 0)
            continue;
        *out = plain[i].holds;
        return arguments->count == 0 ? FUR_OK : wrong(run, node, name);
    }
    static const char *const equals[] = {"equalto", "eq", "sameas", "ne", "in"};
    for (size_t i = 0; i < sizeof equals / sizeof equals[0]; i++) {
        if (strcmp(name, equals[i]) != 0)
            continue;
        if (!other)
            return wrong(run, node, name);
        *out = strcmp(name, "in") == 0 ? fur_jcontains(other, of) : fur_jequal(of, other) == (strcmp(name, "ne") != 0);
        if (strcmp(name, "sameas") != 0)
            return FUR_OK;
        *out = *out && of->kind == other->kind; /* one and the same, which equal texts need not be */
        return of->kind <= J_BOOL ? FUR_OK : wrong(run, node, name);
    }
    return fur_jrefuse(run, node, FUR_E_UNSUPPORTED, "the test '%s' is not known here", name);
}

/* ---- filters -------------------------------------------------------------------------------------------------- */

static int64_t length_of(const fur_jvalue *of)
{
    int64_t count = 0;
    if (of->kind == J_DICT)
        return of->dict->count;
    if (of->kind == J_UNDEFINED)
        return 0;
    for (int64_t at = 0; of->kind == J_STRING && at < of->number; at += fur_utf8_length(of->text + at))
        count++;
    return of->kind == J_STRING ? count : of->number;
}

static fur_status dump(fur_jrun *run, const fur_jnode *node, const fur_jvalue *of, const fur_jarguments *arguments,
                       fur_jvalue *out)
{
    const fur_jvalue *indent = NULL;
    int64_t from = run->scratch.text.length;
    for (int i = 0; i < arguments->count; i++) {
        const char *name = arguments->names[i];
        const fur_jvalue *value = &arguments->values[i];
        if (name && strcmp(name, "indent") == 0)
            indent = value;
        else if (!name || strcmp(name, "ensure_ascii") != 0 || fur_jtrue(value))
            return fur_jrefuse(run, node, FUR_E_UNSUPPORTED, "tojson with %s is not known here",
                               name ? name : "an argument without a name");
    }
    if (indent && indent->kind != J_NONE && (indent->kind != J_INT || indent->number < 0 || indent->number > 16))
        return wrong(run, node, "tojson");
    FUR_TRY(fur_jdump(run->error, of, indent && indent->kind == J_INT ? indent->number : -1, 0, &run->scratch));
    return fur_jcollect(&run->pool, &run->scratch, from, out);
}

static fur_status join(fur_jrun *run, const fur_jnode *node, const fur_jvalue *of, const fur_jarguments *arguments,
                       fur_jvalue *out)
{
    const fur_jvalue *by = argument(arguments, 0, "d");
    fur_jvalue items, text;
    int64_t from = run->scratch.text.length;
    if ((by && by->kind != J_STRING) || arguments->count > 1)
        return wrong(run, node, "join");
    FUR_TRY(fur_jitems(run, node, of, &items));
    for (int64_t i = 0; i < items.number; i++) {
        FUR_TRY(fur_jtext(&run->pool, &items.items[i], &text));
        if (i > 0 && by)
            FUR_TRY(fur_jappend(run->error, &run->scratch, by));
        FUR_TRY(fur_jappend(run->error, &run->scratch, &text));
    }
    return fur_jcollect(&run->pool, &run->scratch, from, out);
}

static fur_status terminated(fur_jrun *run, const fur_jvalue *string, const char **out)
{
    void *copy;
    FUR_TRY(fur_pool_take(&run->pool, string->number + 1, &copy));
    if (string->number > 0)
        memcpy(copy, string->text, (size_t)string->number);
    *out = copy;
    return FUR_OK;
}

static fur_jvalue part_of(const fur_jvalue *of, const fur_jvalue *name)
{
    const fur_jvalue *found = of->kind == J_DICT ? fur_jfind(of->dict, name->text, name->number) : NULL;
    return found ? *found : (fur_jvalue){.kind = J_UNDEFINED, .text = "an attribute of an item"};
}

/* select, reject, selectattr, rejectattr: the items for which a test holds, or does not. */
static fur_status select_items(fur_jrun *run, const fur_jnode *node, const fur_jvalue *of,
                               const fur_jarguments *arguments, fur_jvalue *out)
{
    bool keep = strncmp(node->name, "select", 6) == 0;
    int place = strlen(node->name) > 6 ? 1 : 0; /* after the attribute's name */
    const fur_jvalue *attribute = place ? argument(arguments, 0, NULL) : NULL;
    const fur_jvalue *test = argument(arguments, place, NULL), *value = argument(arguments, place + 1, NULL);
    fur_jarguments with = {.count = value ? 1 : 0};
    fur_jvalue items, *kept;
    const char *test_name = NULL;
    if ((place && (!attribute || attribute->kind != J_STRING)) || (test && test->kind != J_STRING))
        return wrong(run, node, node->name);
    if (value)
        with.values[0] = *value;
    if (test)
        FUR_TRY(terminated(run, test, &test_name));
    FUR_TRY(fur_jitems(run, node, of, &items));
    FUR_TRY(fur_jlist(run, items.number, &kept, out));
    out->number = 0;
    for (int64_t i = 0; i < items.number; i++) {
        fur_jvalue part = items.items[i];
        bool holds;
        if (place)
            part = part_of(&part, attribute);
        holds = fur_jtrue(&part);
        if (test)
            FUR_TRY(fur_jtest(run, node, test_name, &part, &with, &holds));
        if (holds == keep)
            kept[out->number++] = items.items[i];
    }
    return FUR_OK;
}

/* map(attribute=NAME) */
static fur_status map(fur_jrun *run, const fur_jnode *node, const fur_jvalue *of, const fur_jarguments *arguments,
                      fur_jvalue *out)
{
    const fur_jvalue *attribute = argument(arguments, NOWHERE, "attribute");
    fur_jvalue items, *list;
    if (!attribute || attribute->kind != J_STRING || arguments->count != 1)
        return wrong(run, node, "map");
    FUR_TRY(fur_jitems(run, node, of, &items));
    FUR_TRY(fur_jlist(run, items.number, &list, out));
    for (int64_t i = 0; i < items.number; i++)
        list[i] = part_of(&items.items[i], attribute);
    return FUR_OK;
}

static fur_status ends(fur_jrun *run, const fur_jnode *node, const fur_jvalue *of, bool last, fur_jvalue *out)
{
    fur_jvalue items;
    FUR_TRY(fur_jitems(run, node, of, &items));
    *out = (fur_jvalue){.kind = J_UNDEFINED, .text = "an item of an empty list"};
    if (items.number > 0)
        *out = items.items[last ? items.number - 1 : 0];
    return FUR_OK;
}

static fur_status text_filter(fur_jrun *run, const fur_jnode *node, const fur_jvalue *of,
                              const fur_jarguments *arguments, fur_jvalue *out)
{
    fur_jvalue text;
    const char *name = node->name;
    FUR_TRY(fur_jtext(&run->pool, of, &text));
    if (strcmp(name, "string") == 0) {
        *out = text;
        return FUR_OK;
    }
    if (strcmp(name, "trim") == 0) {
        const fur_jvalue *set = argument(arguments, 0, "chars");
        if (set && set->kind != J_STRING)
            return wrong(run, node, name);
        *out = strip(&text, set, true, true);
        return FUR_OK;
    }
    return strcmp(name, "replace") == 0 ? replace(run, node, &text, arguments, out)
                                        : change_case(run, node, name, &text, out);
}

static bool is_one_of(const char *name, const char *const *list)
{
    while (*list && strcmp(*list, name) != 0)
        list++;
    return *list != NULL;
}

fur_status fur_jfilter(fur_jrun *run, const fur_jnode *node, const fur_jvalue *of, const fur_jarguments *arguments,
                       fur_jvalue *out)
{
    static const char *const lengths[] = {"length", "count", NULL}, *const defaults[] = {"default", "d", NULL},
                             *const selects[] = {"select", "reject", "selectattr", "rejectattr", NULL},
                             *const texts[] = {"string", "trim", "replace", "upper", "lower", NULL};
    const char *name = node->name;
    if (is_one_of(name, lengths)) {
        if (of->kind == J_NONE || of->kind == J_BOOL || of->kind == J_INT)
            return wrong(run, node, name);
        *out = (fur_jvalue){.kind = J_INT, .number = length_of(of)};
        return FUR_OK;
    }
    if (is_one_of(name, defaults)) {
        const fur_jvalue *other = argument(arguments, 0, "default_value"), *falsy = argument(arguments, 1, "boolean");
        bool missing = of->kind == J_UNDEFINED || (falsy && fur_jtrue(falsy) && !fur_jtrue(of));
        *out = !missing ? *of : other ? *other : fur_jstring("", 0);
        return FUR_OK;
    }
    if (is_one_of(name, selects))
        return select_items(run, node, of, arguments, out);
    if (is_one_of(name, texts))
        return text_filter(run, node, of, arguments, out);
    if (strcmp(name, "tojson") == 0)
        return dump(run, node, of, arguments, out);
    if (strcmp(name, "join") == 0)
        return join(run, node, of, arguments, out);
    if (strcmp(name, "map") == 0)
        return map(run, node, of, arguments, out);
    if (strcmp(name, "list") == 0)
        return fur_jitems(run, node, of, out);
    if (strcmp(name, "items") == 0 && of->kind == J_DICT)
        return items_of(run, of->dict, true, true, out);
    if (strcmp(name, "first") == 0 || strcmp(name, "last") == 0)
        return ends(run, node, of, name[0] == 'l', out);
    return fur_jrefuse(run, node, FUR_E_UNSUPPORTED, "the filter '%s' is not known here", name);
}
