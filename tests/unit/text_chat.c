/* SPDX-License-Identifier: Apache-2.0 */
/* Chat templates against jinja2 (golden/chat); spans of answers; what is refused. */
#include "kit/files.h"

#include <string.h>

#include "base/alloc.h"
#include "base/context.h"
#include "io/file.h"
#include "io/json.h"
#include "text/chat.h"

#define TOKENS                                                                                                             \
    "{\"added_tokens\": [{\"id\": 4, \"content\": \"<s>\", \"special\": true}, {\"id\": 5, \"content\": \"</s>\", "        \
    "\"special\": true}, {\"id\": 6, \"content\": \"<|im_end|>\", \"special\": true}], \"pre_tokenizer\": {\"type\": "     \
    "\"ByteLevel\", \"add_prefix_space\": false}, \"decoder\": {\"type\": \"ByteLevel\"}, \"model\": {\"type\": \"BPE\", " \
    "\"vocab\": {\"a\": 0, \"b\": 1, \"ab\": 2, \":\": 3}, \"merges\": [\"a b\"]}}"

static struct fur_context context;

static fur_tokenizer *open_tokenizer(const kit_folder *folder, const char *template)
{
    fur_tokenizer *tokenizer;
    kit_write(folder, "tokenizer.json", TOKENS, -1);
    kit_write(folder, "tokenizer_config.json", "{\"bos_token\": \"<s>\", \"eos_token\": \"</s>\"}", -1);
    kit_write(folder, "chat_template.jinja", template, -1);
    kit_expect_ok(&context.error, fur_tokenizer_open(&context, folder->path, &tokenizer));
    return tokenizer;
}

/* ---- golden --------------------------------------------------------------------------------------------------- */

static void check_case(json_t *entry, int *errors)
{
    fur_error error = {0};
    fur_jinja *jinja = NULL;
    fur_jinja_output out = {0};
    const char *name = json_string_value(json_object_get(entry, "name"));
    const char *template = json_string_value(json_object_get(entry, "template"));
    const json_t *wanted = json_object_get(entry, "text");
    json_t *variables = json_object_get(entry, "variables");
    json_object_set_new(variables, "bos_token", json_string("<s>"));
    json_object_set_new(variables, "eos_token", json_string("</s>"));
    if (!json_object_get(variables, "tools"))
        json_object_set_new(variables, "tools", json_null());
    if (!json_object_get(variables, "add_generation_prompt"))
        json_object_set_new(variables, "add_generation_prompt", json_false());
    kit_expect_ok(&error, fur_jinja_parse(&error, name, template, (int64_t)strlen(template), &jinja));
    fur_status status = fur_jinja_render(&error, jinja, variables, NULL, &out);
    /* a list as Python prints it */
    bool printed = wanted && strstr(json_string_value(wanted), "[{'type'") != NULL;
    if (!wanted || printed) {
        assert_int_not_equal(status, FUR_OK);
        const char *said = json_string_value(json_object_get(entry, "error"));
        printf("%s: jinja2 says: %s\n    here: %s\n", name, said ? said : "(prints a list)", error.text);
        assert_true(!printed || strstr(error.text, "printing a list"));
        *errors += !printed;
    } else {
        kit_expect_ok(&error, status);
        assert_int_equal(out.marks.length, out.text.length);
        if (out.text.length != (int64_t)json_string_length(wanted) ||
            memcmp(out.text.data, json_string_value(wanted), (size_t)out.text.length) != 0)
            fail_msg("%s:\n%.*s\nwanted:\n%s", name, (int)out.text.length, out.text.data, json_string_value(wanted));
    }
    fur_string_clear(&out.text);
    fur_string_clear(&out.marks);
    fur_jinja_destroy(jinja);
}

static void test_golden(void **state)
{
    (void)state;
    fur_error error = {0};
    fur_json cases;
    char *content;
    int64_t bytes;
    size_t i;
    json_t *entry;
    int errors = 0;
    kit_expect_ok(&error,
                  fur_file_read(&error, FUR_TEST_DATA "/golden/chat/cases.json", FUR_JSON_MAX_FILE, &content, &bytes));
    kit_expect_ok(&error, fur_json_parse(&error, "cases.json", content, bytes, &cases));
    fur_free(content);
    assert_true(json_array_size(cases.root) >= 60);
    json_array_foreach(cases.root, i, entry) check_case(entry, &errors);
    assert_int_equal(errors, 11);
    fur_json_clear(&cases);
}

/* ---- spans ---------------------------------------------------------------------------------------------------- */

static void render(const fur_tokenizer *tokenizer, const char *variables, char text[512], fur_chat_span *spans,
                   int64_t *span_count)
{
    int64_t bytes;
    kit_expect_ok(&context.error, fur_chat_render(&context, tokenizer, variables, (int64_t)strlen(variables), text, 511,
                                                  &bytes, spans, 8, span_count));
    assert_true(bytes < 512);
    text[bytes] = 0;
}

static void expect_span(const char *text, const fur_chat_span *span, int64_t message, const char *wanted)
{
    char part[512] = {0};
    memcpy(part, text + span->first, (size_t)(span->end - span->first));
    assert_string_equal(part, wanted);
    assert_int_equal(span->message, message);
}

static void test_spans(void **state)
{
    (void)state;
    kit_folder folder;
    kit_folder_init(&folder);
    char text[512];
    fur_chat_span spans[8];
    int64_t count;
    fur_tokenizer *tokenizer = open_tokenizer(
        &folder,
        "{% for m in messages %}{{ m.role[0] + ':' + (m.thought + '|' if m.thought else '') + m.content|trim + "
        "'<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ 'a:' }}{% endif %}");
    render(
        tokenizer,
        "{\"messages\": [{\"role\": \"user\", \"content\": \"ab\"}, {\"role\": \"assistant\", \"content\": \" ab \", "
        "\"thought\": \"b\"}, {\"role\": \"user\", \"content\": \"\"}, {\"role\": \"assistant\", \"content\": \"a\"}, "
        "{\"role\": \"assistant\", \"content\": \"b\"}], \"add_generation_prompt\": true}",
        text, spans, &count);
    assert_string_equal(text, "u:ab<|im_end|>\na:b|ab<|im_end|>\nu:<|im_end|>\na:a<|im_end|>\na:b<|im_end|>\na:");
    assert_int_equal(count, 3);
    expect_span(text, &spans[0], 1, "b|ab<|im_end|>");
    expect_span(text, &spans[1], 3, "a<|im_end|>");
    expect_span(text, &spans[2], 4, "b<|im_end|>");

    fur_tokenizer_close(tokenizer);

    /* the same in tokens: those of which some byte lies in a span */
    int32_t ids[64];
    unsigned char answer[64];
    static const char talk[] = "{\"messages\": [{\"role\": \"user\", \"content\": \"ab\"}, {\"role\": \"assistant\", "
                               "\"content\": \"abb\"}]}";
    static const int32_t wanted[] = {1, 3, 2, 6, 0, 3, 2, 1, 6};
    static const unsigned char answers[] = {0, 0, 0, 0, 0, 0, 1, 1, 1};
    tokenizer =
        open_tokenizer(&folder, "{% for m in messages %}{{ ('b' if m.role == 'user' else 'a') + ':' + m.content + "
                                "'<|im_end|>' }}{% endfor %}");
    kit_expect_ok(&context.error, fur_chat_encode(&context, tokenizer, talk, sizeof talk - 1, ids, answer, 64, &count));
    assert_int_equal(count, 9);
    assert_memory_equal(ids, wanted, sizeof wanted);
    assert_memory_equal(answer, answers, sizeof answers);
    fur_tokenizer_close(tokenizer);
    /* "u" is no token and left out: where the tokens lie is not known */
    tokenizer = open_tokenizer(&folder, "{% for m in messages %}{{ m.role[0] + m.content }}{% endfor %}");
    kit_expect(&context.error, fur_chat_encode(&context, tokenizer, talk, sizeof talk - 1, ids, answer, 64, &count),
               FUR_E_UNSUPPORTED, "the tokenizer changes the text");
    fur_tokenizer_close(tokenizer);

    /* what the template itself says are the answers */
    tokenizer =
        open_tokenizer(&folder, "{% for m in messages %}{% if m.role == 'assistant' %}a:{% generation %}{{ m.content "
                                "}}</s>{% endgeneration %}{% else %}{{ m.content }}{% endif %}{% endfor %}");
    render(tokenizer,
           "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}, {\"role\": \"assistant\", \"content\": \"b\"}]}",
           text, spans, &count);
    assert_string_equal(text, "aa:b</s>");
    assert_int_equal(count, 1);
    expect_span(text, &spans[0], -1, "b</s>");
    fur_tokenizer_close(tokenizer);
    kit_folder_clear(&folder);
}

/* ---- refused -------------------------------------------------------------------------------------------------- */

static void refuse(const char *template, fur_status wanted, const char *part)
{
    fur_error error = {0};
    fur_jinja *jinja = NULL;
    fur_jinja_output out = {0};
    int64_t live = fur_alloc_live();
    fur_status status = fur_jinja_parse(&error, "t", template, (int64_t)strlen(template), &jinja);
    json_t *variables = json_pack("{s:[{s:s}]}", "messages", "role", "user");
    if (status == FUR_OK)
        status = fur_jinja_render(&error, jinja, variables, NULL, &out);
    kit_expect(&error, status, wanted, part);
    fur_jinja_destroy(jinja);
    fur_string_clear(&out.text);
    fur_string_clear(&out.marks);
    json_decref(variables);
    assert_int_equal(fur_alloc_live(), live);
}

static void test_refused(void **state)
{
    (void)state;
    fur_json_setup();
    refuse("{% macro f() %}{% endmacro %}", FUR_E_UNSUPPORTED, "t: line 1: {% macro %} is not known here");
    refuse("\n{{ a | wordwrap }}", FUR_E_UNSUPPORTED, "t: line 2: the filter 'wordwrap'");
    refuse("{{ 1 is divisibleby(2) }}", FUR_E_UNSUPPORTED, "the test 'divisibleby'");
    refuse("{{ strftime_now('%d') }}", FUR_E_UNSUPPORTED, "strftime_now() is not known here");
    refuse("{{ 'a'.encode() }}", FUR_E_UNSUPPORTED, ".encode() of a text");
    refuse("{{ messages.append(1) }}", FUR_E_UNSUPPORTED, ".append() is not known here");
    refuse("{{ messages }}", FUR_E_UNSUPPORTED, "printing a list");
    refuse("{{ x.y }}", FUR_E_FORMAT, "'x' is undefined");
    refuse("{{ 'a' + x }}", FUR_E_FORMAT, "'x' is undefined");
    refuse("{{ 'a' + 1 }}", FUR_E_FORMAT, "+ between a text and something else");
    refuse("{{ 1 // 0 }}", FUR_E_FORMAT, "division by zero");
    refuse("{{ 1 / 2 }}", FUR_E_FORMAT, "expected '}}'");
    refuse("{{ 1.5 }}", FUR_E_UNSUPPORTED, "a number that is no integer");
    refuse("{{ 2 ** 3 }}", FUR_E_UNSUPPORTED, "** is not known here");
    refuse("{{ 1 < 2 < 3 }}", FUR_E_UNSUPPORTED, "a chain of comparisons");
    refuse("{{ (1, 2) }}", FUR_E_UNSUPPORTED, "a tuple");
    refuse("{% for x in y recursive %}{% endfor %}", FUR_E_UNSUPPORTED, "recursive");
    refuse("{% set x %}a{% endset %}", FUR_E_UNSUPPORTED, "set without =");
    refuse("{% if a %}", FUR_E_FORMAT, "the template ends, expected elif");
    refuse("{{ 'a }}", FUR_E_FORMAT, "without its closing quote");
    refuse("{# a", FUR_E_FORMAT, "a comment without its #}");
    refuse("{% for x in messages %}", FUR_E_FORMAT, "the template ends");
    refuse("{% endif %}", FUR_E_UNSUPPORTED, "{% endif %} is not known here");
    refuse("{{ a b }}", FUR_E_FORMAT, "\"b\", expected '}}'");
    refuse("{{ raise_exception('no ' + messages[0].role) }}", FUR_E_FORMAT, "the template says: no user");
    refuse("{% for i in range(9000) %}{% for j in range(9000) %}{% endfor %}{% endfor %}", FUR_E_UNSUPPORTED,
           "in work");
    refuse("\xff", FUR_E_FORMAT, "not UTF-8");
    char deep[1024] = "{{ ";
    memset(deep + 3, '(', 500);
    refuse(deep, FUR_E_UNSUPPORTED, "nested too deep");
}

static void test_public(void **state)
{
    (void)state;
    kit_folder folder;
    kit_folder_init(&folder);
    fur_tokenizer *tokenizer =
        open_tokenizer(&folder, "{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}");
    int64_t bytes, spans;
    kit_expect(&context.error, fur_chat_render(&context, tokenizer, "{}", 2, NULL, 0, &bytes, NULL, 0, &spans),
               FUR_E_FORMAT, "\"messages\"");
    kit_expect(&context.error, fur_chat_render(&context, tokenizer, "{", 1, NULL, 0, &bytes, NULL, 0, &spans),
               FUR_E_FORMAT, "variables: line 1");
    fur_tokenizer *plain;
    kit_expect_ok(&context.error, fur_tokenizer_open(&context, "bytes", &plain));
    kit_expect(&context.error,
               fur_chat_render(&context, plain, "{\"messages\": []}", 16, NULL, 0, &bytes, NULL, 0, &spans),
               FUR_E_FORMAT, "no chat template");
    kit_expect_ok(&context.error, fur_chat_render(&context, tokenizer, "{\"messages\": [{\"content\": \"x\"}]}", 32,
                                                  NULL, 0, &bytes, NULL, 0, &spans));
    assert_true(bytes == 4 && spans == 0);
    fur_tokenizer_close(plain);
    fur_tokenizer_close(tokenizer);
    kit_folder_clear(&folder);
}

static fur_status render_once(void *user, fur_error *error)
{
    static const char template[] =
        "{% set n = namespace(a='') %}{% for m in messages[::-1] %}{% set n.a = n.a + m.content | "
        "tojson %}{{ m.role ~ loop.index }}{% endfor %}{{ n.a }}";
    fur_jinja *jinja = NULL;
    fur_jinja_output out = {0};
    FUR_TRY(fur_jinja_parse(error, "t", template, sizeof template - 1, &jinja));
    fur_status status = fur_jinja_render(error, jinja, user, NULL, &out);
    fur_string_clear(&out.text);
    fur_string_clear(&out.marks);
    fur_jinja_destroy(jinja);
    return status;
}

static void test_memory(void **state)
{
    (void)state;
    fur_json_setup();
    json_t *variables = json_pack("{s:[{s:s, s:s}, {s:s, s:s}]}", "messages", "role", "user", "content", "a", "role",
                                  "assistant", "content", "b");
    assert_true(kit_each_allocation_fails(render_once, variables) > 5);
    json_decref(variables);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden), cmocka_unit_test(test_spans),  cmocka_unit_test(test_refused),
        cmocka_unit_test(test_public), cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
