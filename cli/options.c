/* SPDX-License-Identifier: Apache-2.0 */
/* The parser of options. */
#include "options.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text.h"

static bool name_is(const char *name, const char *text, size_t length)
{
    return name != NULL && strlen(name) == length && memcmp(name, text, length) == 0;
}

const cli_option *cli_option_find(cli_verb verb, const char *name, size_t length)
{
    for (const cli_option *option = cli_option_table(); option->name != NULL; option++) {
        if ((option->verbs & 1u << verb) != 0 &&
            (name_is(option->name, name, length) || name_is(option->alias, name, length)))
            return option;
    }
    return NULL;
}

/* ---- near names --------------------------------------------------------------------------------------------- */

#define NEAR_LENGTH 40

/* Edits (one letter put in, left out, changed) from one word to another; long words count as far. */
static int distance(const char *a, const char *b)
{
    size_t a_length = strlen(a), b_length = strlen(b);
    if (a_length > NEAR_LENGTH || b_length > NEAR_LENGTH)
        return NEAR_LENGTH;
    int row[NEAR_LENGTH + 1];
    for (size_t j = 0; j <= b_length; j++)
        row[j] = (int)j;
    for (size_t i = 1; i <= a_length; i++) {
        int corner = row[0];
        row[0] = (int)i;
        for (size_t j = 1; j <= b_length; j++) {
            int change = corner + (a[i - 1] != b[j - 1]);
            int leave = (row[j] < row[j - 1] ? row[j] : row[j - 1]) + 1;
            corner = row[j];
            row[j] = change < leave ? change : leave;
        }
    }
    return row[b_length];
}

static void nearest_of(const char *wanted, const char *name, const char **best, int *best_distance)
{
    if (name == NULL)
        return;
    size_t length = strlen(wanted);
    int d = length >= 3 && strncmp(name, wanted, length) == 0 ? 1 : distance(wanted, name);
    if (d < *best_distance) {
        *best_distance = d;
        *best = name;
    }
}

static int near_limit(const char *wanted)
{
    return strlen(wanted) < 4 ? 2 : (int)strlen(wanted) / 3 + 2;
}

const char *cli_option_nearest(cli_verb verb, const char *name)
{
    const char *best = NULL;
    int best_distance = near_limit(name);
    for (const cli_option *option = cli_option_table(); option->name != NULL; option++) {
        if ((option->verbs & 1u << verb) != 0) {
            nearest_of(name, option->name, &best, &best_distance);
            nearest_of(name, option->alias, &best, &best_distance);
        }
    }
    return best;
}

const char *cli_verb_nearest(const char *name)
{
    const char *best = NULL;
    int best_distance = near_limit(name);
    for (int verb = 0; verb < CLI_VERBS; verb++)
        if (!cli_verbs[verb].hidden)
            nearest_of(name, cli_verbs[verb].name, &best, &best_distance);
    return best;
}

cli_verb cli_verb_find(const char *name)
{
    int verb = 0;
    while (verb < CLI_VERBS && strcmp(cli_verbs[verb].name, name) != 0)
        verb++;
    return (cli_verb)verb;
}

/* ---- numbers ------------------------------------------------------------------------------------------------ */

bool cli_parse_real(const char *text, double *out)
{
    char *end = NULL;
    /* strtod also takes "inf", "nan" and hexadecimal, which nobody means here */
    if (text[0] == '\0' || strspn(text, "0123456789+-.eE") != strlen(text))
        return false;
    errno = 0;
    double value = strtod(text, &end);
    if (*end != '\0' || !isfinite(value))
        return false;
    *out = value;
    return true;
}

static bool parse_whole(const char *text, int64_t *out)
{
    char *end = NULL;
    if (text[0] == '\0' || strspn(text, "0123456789") != strlen(text))
        return false;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (errno != 0 || *end != '\0')
        return false;
    *out = value;
    return true;
}

/* A number, whole or with a fraction, times 2^(10 k) for the k-th of `letters`. */
static bool parse_scaled(const char *text, const char *letters, bool bytes, int64_t *out)
{
    char number[CLI_UNIT];
    size_t length = strspn(text, "0123456789.");
    if (length == 0 || length >= sizeof number)
        return false;
    memcpy(number, text, length);
    number[length] = '\0';
    const char *unit = text + length;
    double scale = 1.0;
    if (*unit != '\0') {
        const char *found = strchr(letters, *unit >= 'a' && *unit <= 'z' ? *unit - 'a' + 'A' : *unit);
        if (found != NULL && *found != '\0') {
            scale = ldexp(1.0, 10 * (int)(found - letters + 1));
            unit++;
            if (bytes && *unit == 'i')
                unit++;
        }
        if (bytes && *unit == 'B')
            unit++;
        if (*unit != '\0')
            return false;
    }
    double value;
    int64_t whole;
    if (scale == 1.0) {
        if (!parse_whole(number, &whole))
            return false;
        *out = whole;
        return true;
    }
    if (!cli_parse_real(number, &value) || value * scale >= 9.2e18)
        return false;
    if (!bytes && value * scale != floor(value * scale)) /* of bytes, 2.6G is the whole ones below it */
        return false;
    *out = (int64_t)(value * scale);
    return true;
}

bool cli_parse_size(const char *text, int64_t *out)
{
    return parse_scaled(text, "KMGT", true, out);
}

bool cli_parse_count(const char *text, int64_t *out)
{
    return parse_scaled(text, "KM", false, out);
}

bool cli_parse_ramp(const char *text, cli_ramp *out)
{
    cli_ramp ramp = {0};
    while (*text != '\0') {
        char part[64];
        size_t length = strcspn(text, ",");
        if (length == 0 || length >= sizeof part || ramp.count == FUR_MAX_PHASES)
            return false;
        memcpy(part, text, length);
        part[length] = '\0';
        text += length;
        if (*text == ',' && *++text == '\0')
            return false;
        char *at = strchr(part, '@');
        fur_context_phase *phase = &ramp.phases[ramp.count];
        if (at != NULL)
            *at = '\0';
        char *row = strchr(part, '/');
        if (row != NULL)
            *row = '\0';
        if (row != NULL && (!cli_parse_count(row + 1, &phase->row_tokens) || phase->row_tokens < 1))
            return false;
        if (!cli_parse_count(part, &phase->context) || phase->context < 1)
            return false;
        if ((at != NULL && !cli_parse_count(at + 1, &phase->from_step)) || (at == NULL && ramp.count > 0))
            return false;
        if (ramp.count == 0 ? phase->from_step != 0 : phase->from_step <= phase[-1].from_step)
            return false;
        ramp.count++;
    }
    *out = ramp;
    return ramp.count > 0;
}

/* ---- setting ------------------------------------------------------------------------------------------------ */

static const char *expected(const cli_option *option)
{
    switch (option->type) {
    case CLI_INT: return "a whole number";
    case CLI_COUNT: return "a count such as 4096, 64K or 1M";
    case CLI_SIZE: return "a size such as 8G or 512M";
    case CLI_REAL: return "a number";
    case CLI_RAMP: return "contexts with rising steps such as 512,2048@800,8192@900";
    case CLI_FLAG:
    case CLI_TEXT:
    case CLI_LIST:
    case CLI_CHOICE: break;
    }
    return option->argument != NULL ? option->argument : "true or false";
}

static bool choice_has(const char *choices, const char *text)
{
    size_t length = strlen(text);
    for (const char *at = choices; length > 0; at++) {
        size_t part = strcspn(at, "|");
        if (part == length && memcmp(at, text, length) == 0)
            return true;
        at += part;
        if (*at == '\0')
            break;
    }
    return false;
}

static bool in_range(const cli_option *option, double value, const char *text, const char *where, char error[CLI_ERROR])
{
    if (value >= option->low && value <= option->high)
        return true;
    (void)snprintf(error, CLI_ERROR, "%s: expected %s from %.16g to %.16g, got '%s'", where, expected(option),
                   option->low, option->high, text);
    return false;
}

static void list_add(cli_list *list, const char *item)
{
    list->items = cli_resize(list->items, (size_t)list->count + 1, sizeof *list->items);
    list->items[list->count++] = item;
}

static bool set_number(const cli_option *option, char *field, const char *text, const char *where,
                       char error[CLI_ERROR])
{
    int64_t whole = 0;
    double real = 0.0;
    cli_ramp ramp;
    bool good = false;
    switch (option->type) {
    case CLI_INT: good = parse_whole(text, &whole); break;
    case CLI_COUNT: good = cli_parse_count(text, &whole); break;
    case CLI_SIZE: good = cli_parse_size(text, &whole); break;
    case CLI_REAL: good = cli_parse_real(text, &real); break;
    case CLI_RAMP: good = cli_parse_ramp(text, &ramp); break;
    case CLI_FLAG:
    case CLI_TEXT:
    case CLI_LIST:
    case CLI_CHOICE: break;
    }
    if (!good) {
        (void)snprintf(error, CLI_ERROR, "%s: expected %s, got '%s'", where, expected(option), text);
        return false;
    }
    if (option->type == CLI_RAMP) {
        memcpy(field, &ramp, sizeof ramp);
        return true;
    }
    if (!in_range(option, option->type == CLI_REAL ? real : (double)whole, text, where, error))
        return false;
    if (option->type == CLI_REAL)
        memcpy(field, &real, sizeof real);
    else
        memcpy(field, &whole, sizeof whole);
    return true;
}

bool cli_option_set(cli_options *options, const cli_option *option, const char *text, cli_source source,
                    const char *where, char error[CLI_ERROR])
{
    unsigned char *current = &options->source[option - cli_option_table()];
    if (*current > (unsigned char)source)
        return true;
    char *field = (char *)options + option->offset;
    bool yes = strcmp(text, "true") == 0;
    cli_list *list;
    switch (option->type) {
    case CLI_FLAG:
        if (!yes && strcmp(text, "false") != 0) {
            (void)snprintf(error, CLI_ERROR, "%s: expected true or false, got '%s'", where, text);
            return false;
        }
        memcpy(field, &yes, sizeof yes);
        break;
    case CLI_LIST:
        list = (cli_list *)(void *)field;
        if (*current != (unsigned char)source)
            list->count = 0; /* a stronger source replaces the list of a weaker one */
        list_add(list, text);
        break;
    case CLI_CHOICE:
        if (!choice_has(option->choices, text)) {
            (void)snprintf(error, CLI_ERROR, "%s: expected one of %s, got '%s'", where, option->choices, text);
            return false;
        }
        memcpy(field, &text, sizeof text);
        break;
    case CLI_TEXT:
        if (text[0] == '\0' && option->offset != offsetof(cli_options, prompt)) {
            (void)snprintf(error, CLI_ERROR, "%s: expected %s, got an empty word", where, option->argument);
            return false;
        }
        memcpy(field, &text, sizeof text);
        break;
    case CLI_INT:
    case CLI_COUNT:
    case CLI_SIZE:
    case CLI_REAL:
    case CLI_RAMP:
        if (!set_number(option, field, text, where, error))
            return false;
        break;
    }
    *current = (unsigned char)source;
    return true;
}

cli_source cli_source_of(const cli_options *options, const char *name)
{
    for (const cli_option *option = cli_option_table(); option->name != NULL; option++)
        if (strcmp(option->name, name) == 0)
            return (cli_source)options->source[option - cli_option_table()];
    return CLI_FROM_DEFAULT;
}

bool cli_given(const cli_options *options, const char *name)
{
    return cli_source_of(options, name) != CLI_FROM_DEFAULT;
}

/* ---- the command line --------------------------------------------------------------------------------------- */

static const cli_option *find_letter(cli_verb verb, char letter)
{
    for (const cli_option *option = cli_option_table(); option->name != NULL; option++)
        if (option->letter == letter && letter != 0 && (option->verbs & 1u << verb) != 0)
            return option;
    return NULL;
}

static void unknown_option(cli_verb verb, const char *word, const char *name, char error[CLI_ERROR])
{
    const char *near = cli_option_nearest(verb, name);
    for (int other = 0; other < CLI_VERBS; other++) {
        if (!cli_verbs[other].hidden && cli_option_find((cli_verb)other, name, strlen(name)) != NULL) {
            (void)snprintf(error, CLI_ERROR, "%s is no option of %s, only of others such as %s", word,
                           cli_verbs[verb].name, cli_verbs[other].name);
            return;
        }
    }
    if (near != NULL)
        (void)snprintf(error, CLI_ERROR, "unknown option %s; did you mean --%s?", word, near);
    else
        (void)snprintf(error, CLI_ERROR, "unknown option %s; 'furlong help %s' lists them", word, cli_verbs[verb].name);
}

/* Sets the option of argv[i], with its value from the same word or the next. Returns the words used, 0 on error. */
static int take_option(cli_options *options, int argc, char *const *argv, int i, char error[CLI_ERROR])
{
    const char *word = argv[i], *value = NULL;
    const cli_option *option;
    char where[NEAR_LENGTH + 8];
    if (word[1] == '-') {
        size_t length = strcspn(word + 2, "=");
        (void)snprintf(where, sizeof where, "--%.*s", length > NEAR_LENGTH ? NEAR_LENGTH : (int)length, word + 2);
        option = cli_option_find(options->verb, word + 2, length);
        value = word[2 + length] == '=' ? word + 3 + length : NULL;
    } else {
        (void)snprintf(where, sizeof where, "-%c", word[1]);
        option = find_letter(options->verb, word[1]);
        value = word[2] != '\0' ? word + 2 : NULL;
    }
    if (option == NULL) {
        unknown_option(options->verb, where, where + (word[1] == '-' ? 2 : 1), error);
        return 0;
    }
    int used = 1;
    if (option->type == CLI_FLAG) {
        value = value != NULL ? value : "true";
    } else if (value == NULL) {
        bool there = i + 1 < argc && (argv[i + 1][0] != '-' || argv[i + 1][1] != '-' || argv[i + 1][2] == '\0');
        bool optional = option->argument[0] == '[';
        if (optional && (!there || argv[i + 1][0] == '-'))
            value = "latest";
        else if (!there) {
            (void)snprintf(error, CLI_ERROR, "%s: expected %s after it", where, expected(option));
            return 0;
        } else {
            value = argv[i + 1];
            used = 2;
        }
    }
    return cli_option_set(options, option, value, CLI_FROM_COMMAND, where, error) ? used : 0;
}

static bool take_words(cli_options *options, int argc, char *const *argv, char error[CLI_ERROR])
{
    const char *bare = cli_verbs[options->verb].positional;
    bool only_words = false, seen = false;
    for (int i = 0; i < argc;) {
        if (!only_words && strcmp(argv[i], "--") == 0) {
            only_words = true;
            i++;
        } else if (!only_words && argv[i][0] == '-' && argv[i][1] != '\0') {
            int used = take_option(options, argc, argv, i, error);
            if (used == 0)
                return false;
            i += used;
        } else {
            const cli_option *option = bare != NULL ? cli_option_find(options->verb, bare, strlen(bare)) : NULL;
            if (option == NULL || (seen && option->type != CLI_LIST)) {
                (void)snprintf(error, CLI_ERROR, "unexpected word '%s'; 'furlong help %s' shows what %s takes", argv[i],
                               cli_verbs[options->verb].name, cli_verbs[options->verb].name);
                return false;
            }
            if (!cli_option_set(options, option, argv[i], CLI_FROM_COMMAND, option->argument, error))
                return false;
            seen = true;
            i++;
        }
    }
    return true;
}

/* ---- environment and file ----------------------------------------------------------------------------------- */

static bool take_environment(cli_options *options, char error[CLI_ERROR])
{
    for (const cli_option *option = cli_option_table(); option->name != NULL; option++) {
        const char *text = option->environment != NULL && (option->verbs & 1u << options->verb) != 0
                               ? getenv(option->environment)
                               : NULL;
        if (text != NULL && text[0] != '\0' &&
            !cli_option_set(options, option, text, CLI_FROM_ENVIRONMENT, option->environment, error))
            return false;
    }
    return true;
}

static const char *own_text(cli_options *options, const char *text)
{
    options->owned = cli_resize(options->owned, (size_t)options->owned_count + 1, sizeof *options->owned);
    return options->owned[options->owned_count++] = cli_copy(text);
}

/* One member of the file; lists are arrays. */
static bool take_json(cli_options *options, const char *path, const char *key, const json_t *value,
                      char error[CLI_ERROR])
{
    char name[NEAR_LENGTH + 1], number[64];
    size_t length = strlen(key);
    const cli_option *option = NULL;
    if (length <= NEAR_LENGTH) {
        memcpy(name, key, length + 1);
        for (char *line; (line = strchr(name, '_')) != NULL;)
            *line = '-';
        option = cli_option_find(options->verb, name, length);
    }
    if (option == NULL) {
        const char *near = length <= NEAR_LENGTH ? cli_option_nearest(options->verb, name) : NULL;
        (void)snprintf(error, CLI_ERROR, "%.200s: \"%.60s\" is no option of %s%s%s", path, key,
                       cli_verbs[options->verb].name, near != NULL ? "; did you mean " : "", near != NULL ? near : "");
        return false;
    }
    char where[256];
    (void)snprintf(where, sizeof where, "%.180s: \"%s\"", path, name);
    if (json_is_array(value) && option->type == CLI_LIST) {
        for (size_t i = 0; i < json_array_size(value); i++)
            if (!take_json(options, path, key, json_array_get(value, i), error))
                return false;
        return true;
    }
    const char *text = NULL;
    if (json_is_string(value))
        text = json_string_value(value);
    else if (json_is_boolean(value))
        text = json_is_true(value) ? "true" : "false";
    else if (json_is_integer(value))
        (void)snprintf(number, sizeof number, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
    else if (json_is_real(value))
        (void)snprintf(number, sizeof number, "%.17g", json_real_value(value));
    else {
        (void)snprintf(error, CLI_ERROR, "%s: expected %s", where, expected(option));
        return false;
    }
    text = own_text(options, text != NULL ? text : number);
    return cli_option_set(options, option, text, CLI_FROM_CONFIG, where, error);
}

int cli_options_read(cli_options *options, const char *path, char error[CLI_ERROR])
{
    json_error_t reason;
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        (void)snprintf(error, CLI_ERROR, "%.300s: %s", path, strerror(errno));
        return 3;
    }
    json_t *root = json_loadf(file, JSON_REJECT_DUPLICATES, &reason);
    (void)fclose(file);
    if (!json_is_object(root)) {
        if (root == NULL)
            (void)snprintf(error, CLI_ERROR, "%.200s: line %d: expected a JSON object, but %.150s", path, reason.line,
                           reason.text);
        else
            (void)snprintf(error, CLI_ERROR, "%.300s: expected a JSON object of options", path);
        json_decref(root);
        return 3;
    }
    json_t *program = json_object_get(root, "program"), *value;
    json_t *member = json_object_get(json_is_object(program) ? program : root, "options");
    json_t *object = json_is_object(member) ? member : root;
    const char *key;
    int code = 0;
    json_object_foreach(object, key, value)
    {
        if (code == 0 && !take_json(options, path, key, value, error))
            code = 3;
    }
    json_decref(root);
    return code;
}

int cli_options_parse(cli_options *options, cli_verb verb, int argc, char *const *argv, char error[CLI_ERROR])
{
    memset(options, 0, sizeof *options);
    options->verb = verb;
    error[0] = '\0';
    for (const cli_option *option = cli_option_table(); option->name != NULL; option++) {
        if (option->fallback != NULL && option->fallback[0] != '(' &&
            !cli_option_set(options, option, option->fallback, CLI_FROM_DEFAULT, option->name, error))
            return 2;
    }
    if (!take_words(options, argc, argv, error))
        return 2;
    if (options->help)
        return 0;
    if (!take_environment(options, error))
        return 2;
    return options->config != NULL ? cli_options_read(options, options->config, error) : 0;
}

void cli_options_clear(cli_options *options)
{
    for (int64_t i = 0; i < options->owned_count; i++)
        cli_free(options->owned[i]);
    cli_free(options->owned);
    cli_free(options->files.items);
    cli_free(options->eval_files.items);
    cli_free(options->stops.items);
    memset(options, 0, sizeof *options);
}
