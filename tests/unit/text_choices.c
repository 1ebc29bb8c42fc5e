/* SPDX-License-Identifier: Apache-2.0 */
/* The list of multiple-choice items: what the file holds is what it gives, wherever it is kept; what is no item is
 * refused by line. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/context.h"
#include "kit/files.h"
#include "text/choices.h"
#include "text/tokenizer.h"

typedef struct open_case {
    fur_choices_settings settings;
    fur_choices_limits limits;
    fur_choices *list;
} open_case;

static open_case with_path(const char *path)
{
    open_case c = {.limits = FUR_CHOICES_LIMITS};
    fur_choices_settings_defaults(&c.settings);
    c.settings.path = path;
    return c;
}

static fur_status open_list(open_case *c, fur_error *error)
{
    fur_tokenizer *tokenizer;
    FUR_TRY(fur_tokenizer_make(error, "bytes", &tokenizer));
    fur_status status = fur_choices_make(error, &c->settings, tokenizer, c->limits, &c->list);
    fur_tokenizer_close(tokenizer);
    return status;
}

static fur_status open_and_close(void *user, fur_error *error)
{
    open_case *c = user;
    FUR_TRY(open_list(c, error));
    fur_choices_close(c->list);
    return FUR_OK;
}

static void expect_text(const fur_choices *list, int64_t first, int64_t count, const char *text, size_t bytes)
{
    fur_error error = {0};
    int32_t ids[64];
    assert_int_equal(count, bytes);
    kit_expect_ok(&error, fur_choices_ids(&error, list, first, count, ids));
    for (size_t i = 0; i < bytes; i++)
        assert_int_equal(ids[i], (unsigned char)text[i]);
}

static void expect_choice(const fur_choices *list, int64_t at, const char *prompt, const char *own, size_t bytes,
                          int64_t index, int64_t of, int64_t right)
{
    fur_error error = {0};
    fur_choice c;
    kit_expect_ok(&error, fur_choices_entry(&error, list, at, &c));
    expect_text(list, c.prompt_first, c.prompt_count, prompt, strlen(prompt));
    expect_text(list, c.first, c.count, own, bytes);
    assert_true(c.bytes == (int64_t)bytes && c.index == index && c.of == of && c.right == right);
    assert_int_equal(fur_choice_positions(&c), strlen(prompt) + bytes - 1);
}

static const char items[] = "{\"prompt\": \"The sea\", \"choices\": [\" is wide\", \"\\u0000\"], \"answer\": 1}\r\n"
                            " \t\n"
                            "{\"answer\":0,\"choices\":[\"\\u00e9\\n\",\"b\",\"b\",\"c\"],\"id\":[1],\"prompt\":\"x\"}";

static void expect_items(const fur_choices *list)
{
    fur_choices_info info;
    expect_choice(list, 0, "The sea", " is wide", 8, 0, 2, 0);
    expect_choice(list, 1, "The sea", "", 1, 1, 2, 1);
    expect_choice(list, 2, "x", "\xc3\xa9\n", 3, 0, 4, 1);
    expect_choice(list, 4, "x", "b", 1, 2, 4, 0);
    expect_choice(list, 5, "x", "c", 1, 3, 4, 0);
    fur_choices_info_read(list, &info);
    assert_true(info.items == 2 && info.choices == 6 && info.tokens == 14 + 7 + 3 + 1 + 1 + 1 && info.longest == 14);
    assert_true(fabs(info.chance - (0.5 + 0.25) / 2) < 1e-15 && info.skipped_lines == 0);
    assert_true(list->longest_line == 1 && list->vocabulary == 256);
}

static void test_items(void **state)
{
    (void)state;
    kit_folder folder;
    kit_folder_init(&folder);
    fur_error error = {0};
    const char *paths[] = {kit_write(&folder, "items.jsonl", items, -1),
                           kit_write_zst(&folder, "items.jsonl.zst", items, (int64_t)sizeof items - 1, 0)};
    for (int i = 0; i < 4; i++) {
        open_case c = with_path(paths[i % 2]);
        if (i >= 2)
            c.limits.ram_bytes = 0; /* all of it in files */
        kit_expect_ok(&error, open_list(&c, &error));
        expect_items(c.list);
        assert_true(i < 2 ? c.list->info.bytes_held < 2000 : c.list->info.bytes_held > 0);
        fur_choices_close(c.list);
    }
    open_case c = with_path(paths[0]);
    assert_true(kit_each_allocation_fails(open_and_close, &c) > 20);
    c.limits.ram_bytes = 0;
    assert_true(kit_each_allocation_fails(open_and_close, &c) > 20);
    fur_choices_close(NULL);
    kit_folder_clear(&folder);
}

static void expect_refused(open_case c, fur_status status, const char *part)
{
    int64_t live = fur_alloc_live();
    fur_error error = {0};
    kit_expect(&error, open_list(&c, &error), status, part);
    assert_int_equal(fur_alloc_live(), live);
    assert_null(c.list);
}

static void test_refusals(void **state)
{
    (void)state;
    static const struct {
        const char *line, *part;
    } bad[] = {
        {"{\"prompt\":", "bad.jsonl:2: line 1, column"},
        {"[1]", "bad.jsonl:2: expected a JSON object with \"prompt\", \"choices\" and \"answer\""},
        {"{}", "bad.jsonl:2: \"prompt\" is missing, expected a string of a byte or more"},
        {"{\"prompt\":\"\",\"choices\":[\"a\",\"b\"],\"answer\":0}", "bad.jsonl:2: \"prompt\" is empty"},
        {"{\"prompt\":null,\"choices\":[\"a\",\"b\"],\"answer\":0}", "bad.jsonl:2: \"prompt\" is no string"},
        {"{\"prompt\":\"a\",\"answer\":0}", "bad.jsonl:2: \"choices\" is missing, expected an array of strings"},
        {"{\"prompt\":\"a\",\"choices\":\"ab\",\"answer\":0}", "bad.jsonl:2: \"choices\" is no array"},
        {"{\"prompt\":\"a\",\"choices\":[],\"answer\":0}",
         "bad.jsonl:2: \"choices\" has 0 of them, expected two or more"},
        {"{\"prompt\":\"a\",\"choices\":[\"b\"],\"answer\":0}", "bad.jsonl:2: \"choices\" has 1 of them"},
        {"{\"prompt\":\"a\",\"choices\":[\"b\",\"\"],\"answer\":0}", "bad.jsonl:2: choice 1 is empty"},
        {"{\"prompt\":\"a\",\"choices\":[\"b\",5],\"answer\":0}", "bad.jsonl:2: choice 1 is no string"},
        {"{\"prompt\":\"a\",\"choices\":[\"b\",\"c\"]}",
         "bad.jsonl:2: \"answer\" is missing, expected an integer from 0 to 1"},
        {"{\"prompt\":\"a\",\"choices\":[\"b\",\"c\"],\"answer\":2}",
         "bad.jsonl:2: \"answer\" is 2, expected an integer from 0 to 1"},
        {"{\"prompt\":\"a\",\"choices\":[\"b\",\"c\"],\"answer\":-1}", "bad.jsonl:2: \"answer\" is -1"},
        {"{\"prompt\":\"a\",\"choices\":[\"b\",\"c\"],\"answer\":0.5}",
         "bad.jsonl:2: \"answer\" is a number with a point"},
        {"{\"prompt\":\"a\",\"choices\":[\"b\",\"c\"],\"answer\":\"c\"}", "bad.jsonl:2: \"answer\" is a string"},
        {"{\"prompt\":\"a\",\"choices\":[\"b\",\"c\"],\"answer\":0,\"answer\":1}", "bad.jsonl:2: line 1"},
        {"{\"prompt\":\"\xff\",\"choices\":[\"b\",\"c\"],\"answer\":0}", "bad.jsonl:2: line 1"},
    };
    kit_folder folder;
    kit_folder_init(&folder);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char text[400];
        fur_error error = {0};
        (void)snprintf(text, sizeof text, "{\"prompt\":\"a\",\"choices\":[\"b\",\"c\"],\"answer\":0}\n%s\n",
                       bad[i].line);
        open_case c = with_path(kit_write(&folder, "bad.jsonl", text, -1));
        expect_refused(c, FUR_E_FORMAT, bad[i].part);
        c.settings.skip_bad = true;
        kit_expect_ok(&error, open_list(&c, &error));
        assert_true(c.list->info.items == 1 && c.list->info.choices == 2 && c.list->info.skipped_lines == 1);
        fur_choices_close(c.list);
    }
    expect_refused(with_path(kit_path(&folder, "none.jsonl")), FUR_E_IO, "none.jsonl: cannot open");
    expect_refused(with_path(kit_write(&folder, "empty.jsonl", " \n\n", -1)), FUR_E_FORMAT,
                   "empty.jsonl: empty, expected a line for each item");
    open_case c = with_path(kit_write(&folder, "all.jsonl", "1\n2\n", -1));
    c.settings.skip_bad = true;
    expect_refused(c, FUR_E_FORMAT, "all.jsonl: no items: 2 lines skipped");
    c = with_path(kit_write(&folder, "long.jsonl", items, -1));
    c.limits.line_bytes = 40;
    expect_refused(c, FUR_E_FORMAT, "long.jsonl:1: line of more than 40 bytes");
    expect_refused(with_path(NULL), FUR_E_ARGUMENT, "no file of items");
    c = with_path("x");
    c.settings.struct_size = 3;
    expect_refused(c, FUR_E_ARGUMENT, "choices settings of 3 bytes");
    kit_folder_clear(&folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_items), cmocka_unit_test(test_refusals)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
