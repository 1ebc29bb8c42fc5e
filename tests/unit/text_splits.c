/* SPDX-License-Identifier: Apache-2.0 */
/* Pre-tokenizers and normalizers one by one: the pieces and texts of Hugging Face tokenizers (golden/splits), also
 * where a text is cut in two windows wherever that can be. */
#include "kit/files.h"

#include <string.h>

#include "base/alloc.h"
#include "io/file.h"
#include "text/tokenizer_json.h"

static int wrong;

static void fail_pieces(const json_t *what, const char *text, const fur_string *pieces_text, const fur_spans *pieces)
{
    char *described = json_dumps(what, JSON_COMPACT);
    printf("%s\n  text \"%s\", pieces:", described, text);
    fur_free(described);
    for (int64_t i = 0; i < pieces->length; i++)
        printf(" \"%.*s\"", (int)(pieces->data[i].end - pieces->data[i].first),
               pieces_text->data + pieces->data[i].first);
    printf("\n");
    wrong++;
}

static bool is_piece(const fur_string *text, const fur_span *span, const json_t *wanted)
{
    int64_t bytes = span->end - span->first;
    return bytes == (int64_t)json_string_length(wanted) &&
           memcmp(text->data + span->first, json_string_value(wanted), (size_t)bytes) == 0;
}

/* Every beginning of the text as a window that goes on: its certain pieces are the first ones of the whole. */
static void check_windows(fur_pipeline *pipeline, const json_t *what, const json_t *entry)
{
    json_t *wanted = json_object_get(entry, "pieces");
    const char *whole = json_string_value(json_object_get(entry, "text"));
    int64_t bytes = (int64_t)json_string_length(json_object_get(entry, "text"));
    fur_string text = {0};
    fur_spans pieces = {0};
    for (int64_t end = 1; end < bytes && fur_splitter_may_cut(&pipeline->splitter); end++) {
        fur_split_window window = {.begins = true, .first = true, .more = true};
        if (((unsigned char)whole[end] & 0xc0) == 0x80)
            continue;
        text.length = pieces.length = 0;
        kit_expect_ok(NULL, fur_string_add(NULL, &text, whole, end));
        kit_expect_ok(NULL, fur_spans_add(NULL, &pieces, (fur_span){.end = end, .id = -1}));
        kit_expect_ok(NULL, fur_splitter_run(NULL, &pipeline->splitter, &text, &pieces, &window));
        for (int64_t i = 0; i < pieces.length - window.open; i++)
            if (!is_piece(&text, &pieces.data[i], json_array_get(wanted, (size_t)i)))
                fail_pieces(what, whole, &text, &pieces);
    }
    fur_string_clear(&text);
    fur_spans_clear(&pieces);
}

static void check_text(fur_pipeline *pipeline, const json_t *what, const json_t *entry, bool normal)
{
    json_t *given = json_object_get(entry, "text"), *wanted = json_object_get(entry, "pieces");
    fur_error error = {0};
    fur_string text = {0};
    fur_spans pieces = {0};
    int64_t bytes = (int64_t)json_string_length(given);
    if (normal) {
        kit_expect_ok(&error,
                      fur_normalizer_run(&error, &pipeline->normalizer, json_string_value(given), bytes, true, &text));
        kit_expect_ok(&error, fur_spans_add(&error, &pieces, (fur_span){.end = text.length, .id = -1}));
    } else {
        fur_split_window window = {.begins = true, .first = true};
        kit_expect_ok(&error, fur_string_add(&error, &text, json_string_value(given), bytes));
        if (bytes > 0)
            kit_expect_ok(&error, fur_spans_add(&error, &pieces, (fur_span){.end = bytes, .id = -1}));
        kit_expect_ok(&error, fur_splitter_run(&error, &pipeline->splitter, &text, &pieces, &window));
    }
    bool same = pieces.length == (int64_t)json_array_size(wanted);
    for (int64_t i = 0; same && i < pieces.length; i++)
        same = is_piece(&text, &pieces.data[i], json_array_get(wanted, (size_t)i));
    if (!same)
        fail_pieces(what, json_string_value(given), &text, &pieces);
    fur_string_clear(&text);
    fur_spans_clear(&pieces);
    if (!normal)
        check_windows(pipeline, what, entry);
}

static void test_golden(void **state)
{
    (void)state;
    fur_error error = {0};
    fur_json cases;
    char *content;
    int64_t bytes;
    size_t i, j;
    json_t *entry, *text;
    kit_expect_ok(
        &error, fur_file_read(&error, FUR_TEST_DATA "/golden/splits/cases.json", FUR_JSON_MAX_FILE, &content, &bytes));
    kit_expect_ok(&error, fur_json_parse(&error, "cases.json", content, bytes, &cases));
    fur_free(content);
    assert_true(json_array_size(cases.root) > 200);
    json_array_foreach(cases.root, i, entry)
    {
        fur_pipeline *pipeline;
        bool normal = json_object_get(entry, "normalizer") != NULL;
        json_object_set_new(entry, "decoder", json_pack("{s:s}", "type", "Fuse"));
        fur_json json = {.root = entry, .name = cases.name};
        kit_expect_ok(&error, fur_pipeline_create(&error, "t", &pipeline));
        kit_expect_ok(&error, fur_tokenizer_json_steps(&error, &json, pipeline));
        json_array_foreach(json_object_get(entry, "texts"), j, text)
            check_text(pipeline, json_object_get(entry, normal ? "normalizer" : "pre_tokenizer"), text, normal);
        fur_pipeline_close(pipeline);
    }
    fur_json_clear(&cases);
    assert_int_equal(wrong, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_golden)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
