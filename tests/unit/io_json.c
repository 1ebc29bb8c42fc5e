/* SPDX-License-Identifier: Apache-2.0 */
/* io/json.h: what is not exactly what was asked for is refused, and the text says where. */
#include "kit/files.h"

#include <errno.h>
#include <float.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "io/json.h"

static const char sample[] =
    "{\"hidden_size\": 768, \"eps\": 1e-5, \"heads\": \"12\", \"tied\": true, \"none\": null,\n"
    " \"rope_scaling\": {\"type\": \"linear\", \"factor\": 2}, \"huge\": 9223372036854775807,\n"
    " \"real\": 3.0, \"list\": [1], \"nul\": \"a\\u0000b\", \"small\": -1}";

static fur_json parse(const char *text)
{
    fur_error error = {0};
    fur_json json = {0};
    kit_expect_ok(&error, fur_json_parse(&error, "config.json", text, (int64_t)strlen(text), &json));
    return json;
}

static void test_values(void **state)
{
    (void)state;
    fur_error error = {0};
    fur_json json = parse(sample);
    int64_t i = 7;
    double x = 7;
    bool b = false;
    const char *s = "kept";
    kit_expect_ok(&error, fur_json_int(&error, &json, "hidden_size", 1, 768, &i));
    assert_int_equal(i, 768);
    kit_expect_ok(&error, fur_json_int(&error, &json, "huge", 0, INT64_MAX, &i));
    assert_true(i == INT64_MAX);
    kit_expect_ok(&error, fur_json_number(&error, &json, "eps", 0, 1, &x));
    assert_true(x == 1e-5);
    kit_expect_ok(&error, fur_json_number(&error, &json, "rope_scaling.factor", 1, 8, &x));
    assert_true(x == 2);
    kit_expect_ok(&error, fur_json_bool(&error, &json, "tied", &b));
    assert_true(b);
    kit_expect_ok(&error, fur_json_string(&error, &json, "rope_scaling.type", &s));
    assert_string_equal(s, "linear");
    kit_expect_ok(&error, fur_json_int_or(&error, &json, "absent", 1, 2, 99, &i));
    assert_int_equal(i, 99);
    kit_expect_ok(&error, fur_json_int_or(&error, &json, "none", 1, 2, 98, &i)); /* null is absent */
    assert_int_equal(i, 98);
    kit_expect_ok(&error, fur_json_number_or(&error, &json, "hidden_size.x", 1, 2, 0.5, &x));
    assert_true(x == 0.5);
    kit_expect_ok(&error, fur_json_bool_or(&error, &json, "absent", true, &b));
    assert_true(b);
    kit_expect_ok(&error, fur_json_string_or(&error, &json, "absent", NULL, &s));
    assert_null(s);
    fur_json_clear(&json);
}

static void test_refused_values(void **state)
{
    (void)state;
    fur_error error = {0};
    fur_json json = parse(sample);
    int64_t i = 7;
    double x = 7;
    bool b = true;
    const char *s = "kept";
    kit_expect(&error, fur_json_int(&error, &json, "absent", 1, 9, &i), FUR_E_FORMAT,
               "config.json: \"absent\" is missing, expected an integer from 1 to 9");
    kit_expect(&error, fur_json_int(&error, &json, "none", 1, 9, &i), FUR_E_FORMAT, "is missing");
    kit_expect(&error, fur_json_int(&error, &json, "heads", 1, 9, &i), FUR_E_FORMAT, "\"heads\" is a string");
    kit_expect(&error, fur_json_int(&error, &json, "real", 1, 9, &i), FUR_E_FORMAT, "with a point or exponent");
    kit_expect(&error, fur_json_int(&error, &json, "small", 0, 9, &i), FUR_E_FORMAT, "\"small\" is -1");
    kit_expect(&error, fur_json_int(&error, &json, "huge", 0, 65536, &i), FUR_E_FORMAT, "is 9223372036854775807");
    kit_expect(&error, fur_json_int_or(&error, &json, "small", 0, 9, 1, &i), FUR_E_FORMAT, "\"small\" is -1");
    kit_expect(&error, fur_json_int(&error, &json, "rope_scaling.none", 0, 9, &i), FUR_E_FORMAT,
               "\"rope_scaling.none\" is missing");
    kit_expect(&error, fur_json_number(&error, &json, "tied", 0, 9, &x), FUR_E_FORMAT, "is true");
    kit_expect(&error, fur_json_number(&error, &json, "list", 0, 9, &x), FUR_E_FORMAT, "is an array");
    kit_expect(&error, fur_json_number_or(&error, &json, "hidden_size", 0, 9, 1, &x), FUR_E_FORMAT, "is 768");
    kit_expect(&error, fur_json_number(&error, &json, "absent", 0, 9, &x), FUR_E_FORMAT, "\"absent\" is missing");
    kit_expect(&error, fur_json_bool(&error, &json, "absent", &b), FUR_E_FORMAT, "expected true or false");
    kit_expect(&error, fur_json_string(&error, &json, "absent", &s), FUR_E_FORMAT, "expected a string");
    kit_expect(&error, fur_json_bool(&error, &json, "hidden_size", &b), FUR_E_FORMAT, "expected true or false");
    kit_expect(&error, fur_json_bool_or(&error, &json, "heads", true, &b), FUR_E_FORMAT, "expected true or false");
    kit_expect(&error, fur_json_string(&error, &json, "rope_scaling", &s), FUR_E_FORMAT, "is an object");
    kit_expect(&error, fur_json_string_or(&error, &json, "nul", "", &s), FUR_E_FORMAT, "holds a NUL");
    assert_true(i == 7 && x == 7 && b && strcmp(s, "kept") == 0); /* untouched by failures */
    fur_json_clear(&json);
}

static void test_refused_text(void **state)
{
    (void)state;
    static const struct {
        const char *text, *part;
    } cases[] = {
        {"", "config.json: empty"},
        {" ", "line 1"},
        {"nonsense", "line 1, column"},
        {"{\"a\": 1,\n \"b\": }", "config.json: line 2, column"},
        {"{\"a\": 1, \"a\": 2}", "duplicate object key"},
        {"{\"a\": 1} x", "end of file expected"},
        {"{\"a\": NaN}", "not valid JSON"},
        {"{\"a\": -Infinity}", "not valid JSON"},
        {"{\"a\": 1e400}", "real number overflow"},
        {"{\"a\": 9223372036854775808}", "too big integer"},
        {"{\"a\": 01}", "not valid JSON"},
        {"{\"a\": \"\xff\"}", "unable to decode byte 0xff"},
        {"{\"a\": \"\\ud800\"}", "Unicode"},
        {"{\"a\\u0000\": 1}", "NUL"},
        {"{\"a\": 1", "not valid JSON"},
        {"{'a': 1}", "not valid JSON"},
        {"\xef\xbb\xbf{}", "byte order mark"},
        {"\xff\xfe{", "not valid JSON"},
    };
    fur_error error = {0};
    fur_json json = {0};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        kit_expect(&error, fur_json_parse(&error, "config.json", cases[i].text, (int64_t)strlen(cases[i].text), &json),
                   FUR_E_FORMAT, cases[i].part);
    assert_null(json.root);

    char *deep = malloc(200002);
    memset(deep, '[', 100001);
    memset(deep + 100001, ']', 100001);
    kit_expect(&error, fur_json_parse(&error, "deep", deep, 200002, &json), FUR_E_FORMAT,
               "line 1, column 65: nested deeper than 64");
    kit_expect_ok(&error, fur_json_parse(&error, "deep", deep + 100001 - 64, 128, &json));
    fur_json_clear(&json);
    free(deep);

    char *many = malloc(8000003); /* [0,0,0,...] of 4,000,001 values */
    many[0] = '[';
    for (int64_t i = 0; i < 4000001; i++)
        memcpy(many + 1 + 2 * i, "0,", 2);
    many[8000002] = ']';
    kit_expect(&error, fur_json_parse(&error, "many", many, 8000003, &json), FUR_E_FORMAT,
               "more than 4,000,000 values");
    free(many);
}

static void test_file(void **state)
{
    (void)state;
    kit_folder folder;
    kit_folder_init(&folder);
    fur_error error = {0};
    fur_json json = {0};
    kit_expect_ok(&error, fur_json_read(&error, kit_write(&folder, "a", sample, -1), &json));
    assert_string_equal(json.name, kit_path(&folder, "a"));
    fur_json_clear(&json);
    kit_expect(&error, fur_json_read(&error, kit_write(&folder, "a", "[1]", -1), &json), FUR_E_FORMAT,
               "/a: expected a JSON object");
    kit_expect(&error, fur_json_read(&error, kit_path(&folder, "b"), &json), FUR_E_IO, "No such file");
    kit_folder_clear(&folder);
}

static fur_status parse_sample(void *user, fur_error *error)
{
    (void)user;
    fur_json json;
    FUR_TRY(fur_json_parse(error, "config.json", sample, (int64_t)strlen(sample), &json));
    fur_json_clear(&json);
    return FUR_OK;
}

/* A value made with json_pack, then written: parts that could not be made must not be missing from the file. */
static fur_status make_and_write(void *user, fur_error *error)
{
    fur_json_setup();
    json_t *value = json_object();
    for (int i = 0; value && i < 20; i++) {
        char key[2] = {(char)('a' + i), 0};
        json_object_set_new(value, key, json_integer(i));
    }
    fur_status status = fur_json_write(error, kit_path(user, "made.json"), value, 0);
    json_decref(value);
    return status;
}

typedef struct write_case {
    kit_folder folder;
    fur_json json;
} write_case;

static fur_status write_sample(void *user, fur_error *error)
{
    write_case *c = user;
    return fur_json_write(error, kit_path(&c->folder, "out.json"), c->json.root, 2);
}

static void check_whole(void *user, int64_t k)
{
    (void)k;
    write_case *c = user;
    if (kit_entries(c->folder.path) == 0)
        return;
    fur_error error = {0};
    fur_json json;
    kit_expect_ok(&error, fur_json_read(&error, kit_path(&c->folder, "out.json"), &json));
    assert_true(json_equal(json.root, c->json.root)); /* every number comes back as it was */
    fur_json_clear(&json);
}

static void test_faults(void **state)
{
    (void)state;
    assert_true(kit_each_allocation_fails(parse_sample, NULL) > 20);
    write_case c = {.json = parse(sample)};
    kit_folder_init(&c.folder);
    json_object_set_new(c.json.root, "third", json_real(1.0 / 3));
    json_object_set_new(c.json.root, "largest", json_real(DBL_MAX));
    assert_true(kit_each_write_fails(write_sample, &c, ENOSPC, check_whole) >= 4);
    check_whole(&c, 0);
    assert_true(kit_each_allocation_fails(write_sample, &c) >= 3);
    fur_json_clear(&c.json);
    assert_true(kit_each_allocation_fails(make_and_write, &c.folder) > 40);
    fur_error error = {0};
    kit_expect_ok(&error, fur_json_read(&error, kit_path(&c.folder, "made.json"), &c.json));
    assert_int_equal(json_object_size(c.json.root), 20);
    fur_json_clear(&c.json);
    kit_folder_clear(&c.folder);
}

int main(void)
{
    fur_json_setup();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values), cmocka_unit_test(test_refused_values), cmocka_unit_test(test_refused_text),
        cmocka_unit_test(test_file),   cmocka_unit_test(test_faults),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
