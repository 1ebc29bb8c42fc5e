/* SPDX-License-Identifier: Apache-2.0 */
/* Stop strings: whatever the pieces, what comes out is the text before the first of them. */
#include "kit/kit.h"

#include <string.h>

#include "cli/stop.h"

/* The same by looking at the whole. */
static size_t end_of(const char *text, const cli_list *words)
{
    size_t end = strlen(text);
    for (int64_t i = 0; i < words->count; i++) {
        const char *at = strstr(text, words->items[i]);
        if (at && (size_t)(at - text) < end)
            end = (size_t)(at - text);
    }
    return end;
}

static void check(const char *text, const cli_list *words)
{
    size_t length = strlen(text), end = end_of(text, words);
    for (size_t piece = 1; piece <= length; piece++) {
        cli_stop stop = {.words = words};
        cli_string out = {NULL, 0, 0};
        for (size_t at = 0; at < length; at += piece) {
            cli_stop_add(&stop, text + at, at + piece < length ? piece : length - at, &out);
            assert_true(out.length <= end); /* nothing that would have to be taken back */
        }
        cli_stop_end(&stop, &out);
        assert_int_equal(out.length, end);
        assert_memory_equal(out.text != NULL ? out.text : "", text, end);
        assert_int_equal(stop.found, end < length);
        cli_stop_clear(&stop);
        cli_string_clear(&out);
    }
}

static void pieces_do_not_matter(void **state)
{
    (void)state;
    const char *words[] = {"\nUser:", "</s>", "aab", "abcX", "bc"};
    const cli_list none = {words, 0}, one = {words, 1}, all = {words, 5};
    static const char *const texts[] = {"hello", "hello\nUser: more", "\nUse\nUser:", "a</s", "</s>", "\n\nUser\nUse",
                                        "aaaab", "aaaaaaac",          "xaab</s>",     "abc",  "abcX", "xxabcbc"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        check(texts[i], &none);
        check(texts[i], &one);
        check(texts[i], &all);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(pieces_do_not_matter)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
