/* SPDX-License-Identifier: Apache-2.0 */
#include "text/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <string.h>

#include "base/alloc.h"
#include "io/file.h"
#include "text/regex_syntax.h"
#include "text/utf8.h"

/* Steps of one match. Those of the usual expressions end within the length of a word; 2 million take some 10 ms. */
#define MATCH_LIMIT 2000000
#define DEPTH_LIMIT 100000
#define HEAP_KIB    65536
#define STACK_FIRST 32768
#define STACK_MOST  (8 << 20)
#define MOST_BYTES  65536 /* of a pattern */

struct fur_regex {
    char *where;
    char *literal; /* [literal_bytes], or NULL */
    int64_t literal_bytes;
    bool looks_behind, compiled; /* compiled: to machine code */
    bool out_of_memory;          /* an allocation of PCRE2 failed */
    pcre2_general_context *general;
    pcre2_match_context *match;
    pcre2_code *code;
    pcre2_match_data *data;
    pcre2_jit_stack *stack;
};

static void *allocate(size_t bytes, void *user)
{
    void *pointer = fur_malloc(bytes);
    if (!pointer)
        ((fur_regex *)user)->out_of_memory = true;
    return pointer;
}

static void release(void *pointer, void *user)
{
    (void)user;
    fur_free(pointer);
}

/* PCRE2 41 and later take a bare script name for its extensions, and know "sc:" for the script itself. */
static bool names_scripts(void)
{
    char version[64] = {0};
    int major = 0, minor = 0;
    if (pcre2_config(PCRE2_CONFIG_VERSION, NULL) > (int)sizeof version)
        return false;
    pcre2_config(PCRE2_CONFIG_VERSION, version);
    const char *at = version;
    for (; *at >= '0' && *at <= '9'; at++)
        major = 10 * major + (*at - '0');
    if (*at == '.')
        for (at++; *at >= '0' && *at <= '9'; at++)
            minor = 10 * minor + (*at - '0');
    return major > 10 || (major == 10 && minor >= 40);
}

static fur_status compile_translated(fur_error *error, fur_regex *regex, const fur_string *pattern)
{
    int number;
    PCRE2_SIZE offset;
    pcre2_compile_context *how = pcre2_compile_context_create(regex->general);
    if (!how)
        return fur_memory_error(error, 256, regex->where);
    pcre2_set_newline(how, PCRE2_NEWLINE_LF);
    uint32_t options = PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C | PCRE2_NO_UTF_CHECK;
    regex->code = pcre2_compile((PCRE2_SPTR)pattern->data, (PCRE2_SIZE)pattern->length, options, &number, &offset, how);
    pcre2_compile_context_free(how);
    if (regex->code)
        return FUR_OK;
    if (regex->out_of_memory)
        return fur_memory_error(error, pattern->length, regex->where);
    unsigned char why[160] = {0};
    pcre2_get_error_message(number, why, sizeof why);
    return fur_error_set(error, FUR_E_FORMAT, "%s: regular expression: %s (as %.100s)", regex->where, (const char *)why,
                         pattern->data);
}

static fur_status compile(fur_error *error, fur_regex *regex, const char *pattern, int64_t bytes)
{
    fur_string translated = {0};
    regex->general = pcre2_general_context_create(allocate, release, regex);
    if (!regex->general)
        return fur_memory_error(error, 64, regex->where);
    fur_status status =
        fur_regex_translate(error, regex->where, pattern, bytes, names_scripts(), &translated, &regex->looks_behind);
    if (status == FUR_OK)
        status = fur_string_add(error, &translated, "", 1);
    if (status == FUR_OK) {
        translated.length--;
        status = compile_translated(error, regex, &translated);
    }
    fur_string_clear(&translated);
    FUR_TRY(status);
    /* without machine code (no pages for it, another processor) the interpreter gives the same matches */
    regex->compiled = pcre2_jit_compile(regex->code, PCRE2_JIT_COMPLETE | PCRE2_JIT_PARTIAL_HARD) == 0;
    if (!regex->out_of_memory)
        regex->match = pcre2_match_context_create(regex->general);
    if (regex->match)
        regex->data = pcre2_match_data_create(1, regex->general);
    if (regex->data && regex->compiled)
        regex->stack = pcre2_jit_stack_create(STACK_FIRST, STACK_MOST, regex->general);
    if (!regex->data || regex->out_of_memory)
        return fur_memory_error(error, 4096, regex->where);
    pcre2_set_match_limit(regex->match, MATCH_LIMIT);
    pcre2_set_depth_limit(regex->match, DEPTH_LIMIT);
    pcre2_set_heap_limit(regex->match, HEAP_KIB);
    if (regex->stack)
        pcre2_jit_stack_assign(regex->match, NULL, regex->stack);
    return FUR_OK;
}

fur_status fur_regex_compile(fur_error *error, const char *where, const char *pattern, int64_t bytes, bool literal,
                             fur_regex **out)
{
    if (bytes < 1 || bytes > MOST_BYTES)
        return fur_error_set(error, FUR_E_FORMAT, "%s: a pattern of %lld bytes, expected 1 to %d", where,
                             (long long)bytes, MOST_BYTES);
    fur_regex *regex = fur_calloc(1, sizeof *regex);
    if (!regex)
        return fur_memory_error(error, (int64_t)sizeof *regex, where);
    regex->where = fur_strdup(where);
    fur_status status = regex->where ? FUR_OK : fur_memory_error(error, (int64_t)strlen(where), "a name");
    if (status == FUR_OK && literal) {
        regex->literal = fur_malloc((size_t)bytes);
        if (!regex->literal)
            status = fur_memory_error(error, bytes, where);
        else
            memcpy(regex->literal, pattern, (size_t)bytes);
        regex->literal_bytes = bytes;
    } else if (status == FUR_OK) {
        status = compile(error, regex, pattern, bytes);
    }
    if (status != FUR_OK) {
        fur_regex_destroy(regex);
        return status;
    }
    *out = regex;
    return FUR_OK;
}

void fur_regex_destroy(fur_regex *regex)
{
    if (!regex)
        return;
    pcre2_jit_stack_free(regex->stack);
    pcre2_match_data_free(regex->data);
    pcre2_match_context_free(regex->match);
    pcre2_code_free(regex->code);
    pcre2_general_context_free(regex->general);
    fur_free(regex->literal);
    fur_free(regex->where);
    fur_free(regex);
}

bool fur_regex_looks_ahead_only(const fur_regex *regex)
{
    return !regex->looks_behind;
}

int64_t fur_regex_literal_bytes(const fur_regex *regex)
{
    return regex->literal_bytes;
}

bool fur_regex_is_character(const fur_regex *regex)
{
    return regex->literal && fur_utf8_length(regex->literal) == regex->literal_bytes;
}

static fur_regex_found find_literal(const fur_regex *regex, const char *text, int64_t bytes, int64_t from,
                                    int64_t *first, int64_t *end)
{
    int64_t length = regex->literal_bytes;
    while (bytes - from >= length) {
        const char *at = memchr(text + from, regex->literal[0], (size_t)(bytes - length + 1 - from));
        if (!at)
            break;
        *first = at - text;
        *end = *first + length;
        if (memcmp(at, regex->literal, (size_t)length) == 0)
            return FUR_REGEX_MATCH;
        from = *first + 1;
    }
    return FUR_REGEX_NONE;
}

fur_status fur_regex_find(fur_error *error, const fur_regex *regex, const char *text, int64_t bytes, int64_t from,
                          bool more, fur_regex_found *found, int64_t *first, int64_t *end)
{
    if (regex->literal) {
        *found = find_literal(regex, text, bytes, from, first, end);
        return FUR_OK;
    }
    uint32_t options = PCRE2_NO_UTF_CHECK | (more ? PCRE2_PARTIAL_HARD : 0);
    int result = regex->compiled ? pcre2_jit_match(regex->code, (PCRE2_SPTR)text, (PCRE2_SIZE)bytes, (PCRE2_SIZE)from,
                                                   options & ~PCRE2_NO_UTF_CHECK, regex->data, regex->match)
                                 : pcre2_match(regex->code, (PCRE2_SPTR)text, (PCRE2_SIZE)bytes, (PCRE2_SIZE)from,
                                               options, regex->data, regex->match);
    if (result == PCRE2_ERROR_NOMATCH) {
        *found = FUR_REGEX_NONE;
        return FUR_OK;
    }
    if (result == PCRE2_ERROR_PARTIAL) {
        *found = FUR_REGEX_UNSURE;
        return FUR_OK;
    }
    if (result == PCRE2_ERROR_NOMEMORY || regex->out_of_memory)
        return fur_memory_error(error, STACK_MOST, regex->where);
    if (result < 0)
        return fur_error_set(error, FUR_E_FORMAT,
                             "%s: regular expression: given up at byte %lld of a text, after more steps than any "
                             "tokenizer needs",
                             regex->where, (long long)from);
    const PCRE2_SIZE *ends = pcre2_get_ovector_pointer(regex->data);
    *found = FUR_REGEX_MATCH;
    *first = (int64_t)ends[0];
    *end = (int64_t)ends[1];
    return FUR_OK;
}
