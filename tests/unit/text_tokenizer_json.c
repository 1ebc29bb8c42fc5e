/* SPDX-License-Identifier: Apache-2.0 */
/* Tokenizers from tokenizer.json: ids and texts as Hugging Face tokenizers gives them (golden/tokenizers), in one
 * window and in many, bytes that are no UTF-8, and files that are not to be read. */
#include "kit/files.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/context.h"
#include "io/file.h"
#include "io/json.h"
#include "text/tokenizer.h"

static struct fur_context context;

/* ---- golden --------------------------------------------------------------------------------------------------- */

static char *from_hex(const char *hex, int64_t *bytes)
{
    *bytes = (int64_t)strlen(hex) / 2;
    char *out = malloc((size_t)*bytes + 1);
    for (int64_t i = 0; i < *bytes; i++) {
        unsigned value;
        assert_int_equal(sscanf(hex + 2 * i, "%2x", &value), 1);
        out[i] = (char)value;
    }
    return out;
}

static void expect_ids(const char *style, const char *hex, const json_t *wanted, const int32_t *ids, int64_t count)
{
    bool same = (size_t)count == json_array_size(wanted);
    for (int64_t i = 0; same && i < count; i++)
        same = json_integer_value(json_array_get(wanted, (size_t)i)) == ids[i];
    if (same)
        return;
    printf("%s, text %s: got", style, hex);
    for (int64_t i = 0; i < count; i++)
        printf(" %d", ids[i]);
    printf(", wanted %s\n", json_dumps(wanted, JSON_COMPACT));
    fail();
}

static void expect_text(const fur_tokenizer *tokenizer, const char *style, int flags, const json_t *ids,
                        const json_t *wanted)
{
    int32_t list[4096];
    char text[8192];
    int64_t count = (int64_t)json_array_size(ids), bytes;
    for (int64_t i = 0; i < count; i++)
        list[i] = (int32_t)json_integer_value(json_array_get(ids, (size_t)i));
    kit_expect_ok(&context.error,
                  fur_tokenizer_decode(&context, tokenizer, flags, list, count, text, sizeof text, &bytes));
    if (bytes == (int64_t)json_string_length(wanted) && memcmp(text, json_string_value(wanted), (size_t)bytes) == 0)
        return;
    fail_msg("%s: decoded \"%.*s\", wanted \"%s\"", style, (int)bytes, text, json_string_value(wanted));
}

static void check_text(const fur_tokenizer *tokenizer, const char *style, json_t *entry)
{
    int32_t ids[4096];
    int64_t bytes, count;
    const char *hex = json_string_value(json_object_get(entry, "hex"));
    char *text = from_hex(hex, &bytes);
    json_t *complete = json_object_get(entry, "complete"), *wanted = json_object_get(entry, "ids");
    kit_expect_ok(&context.error, fur_tokenizer_encode(&context, tokenizer, text, bytes, ids, 4096, &count));
    expect_ids(style, hex, wanted, ids, count);
    if (complete) {
        int flags = FUR_TOKENS_SPECIAL | FUR_TOKENS_COMPLETE;
        kit_expect_ok(&context.error,
                      fur_tokenizer_encode_as(&context, tokenizer, flags, text, bytes, ids, 4096, &count));
        expect_ids(style, hex, complete, ids, count);
        expect_text(tokenizer, style, FUR_TOKENS_SPECIAL, wanted, json_object_get(entry, "decoded"));
        expect_text(tokenizer, style, 0, wanted, json_object_get(entry, "skipped"));
    }
    free(text);
}

static bool has_kind(json_t *entry, const char *kind)
{
    return strcmp(json_string_value(json_object_get(entry, "kind")), kind) == 0;
}

/* Bytes come back, whatever they are. */
static void check_round_trip(const fur_tokenizer *tokenizer)
{
    char text[1024], back[4096];
    int32_t ids[4096];
    for (int i = 0; i < 1024; i++)
        text[i] = (char)(i * i / 7 + i);
    int64_t count, bytes;
    kit_expect_ok(&context.error, fur_tokenizer_encode(&context, tokenizer, text, 1024, ids, 4096, &count));
    kit_expect_ok(&context.error,
                  fur_tokenizer_decode(&context, tokenizer, FUR_TOKENS_SPECIAL, ids, count, back, sizeof back, &bytes));
    assert_int_equal(bytes, 1024);
    assert_memory_equal(back, text, 1024);
}

/* Windows of every size have the ids of the whole. */
static void check_windows(const fur_tokenizer *tokenizer, const char *style, json_t *texts)
{
    fur_string all = {0};
    fur_ids whole = {0}, parts = {0};
    size_t i;
    json_t *entry;
    json_array_foreach(texts, i, entry)
    {
        int64_t bytes;
        char *text = from_hex(json_string_value(json_object_get(entry, "hex")), &bytes);
        kit_expect_ok(NULL, fur_string_add(NULL, &all, text, bytes));
        kit_expect_ok(NULL, fur_string_add(NULL, &all, i % 3 ? " and\n" : "; ", i % 3 ? 5 : 2));
        free(text);
    }
    fur_encoding input = {.text = all.data, .bytes = all.length, .begins = true, .ends = true, .specials = true};
    int64_t used;
    kit_expect_ok(&context.error, tokenizer->kind->encode(&context.error, tokenizer, &input, &whole, &used));
    assert_int_equal(used, all.length);
    int64_t cuts = 0;
    for (int64_t size = 40; size < all.length; size += size / 3) {
        parts.length = 0;
        int64_t now = size;
        for (int64_t at = 0; at < all.length; at += used) {
            now = now < all.length - at ? now : all.length - at;
            fur_encoding window = {.text = all.data + at,
                                   .bytes = now,
                                   .begins = at == 0,
                                   .ends = at + now == all.length,
                                   .specials = true};
            kit_expect_ok(&context.error, tokenizer->kind->encode(&context.error, tokenizer, &window, &parts, &used));
            assert_true(used <= now);
            cuts += used > 0;
            now = used > 0 ? size : 2 * now;
        }
        assert_int_equal(parts.length, whole.length);
        assert_memory_equal(parts.data, whole.data, (size_t)whole.length * sizeof *whole.data);
    }
    printf("%s: %lld windows\n", style, (long long)cuts);
    fur_string_clear(&all);
    fur_ids_clear(&whole);
    fur_ids_clear(&parts);
}

static void test_golden(void **state)
{
    (void)state;
    kit_folder folder;
    fur_json cases;
    fur_error error = {0};
    size_t i, j;
    json_t *entry, *text;
    kit_folder_init(&folder);
    char *content;
    int64_t bytes;
    kit_expect_ok(&error, fur_file_read(&error, FUR_TEST_DATA "/golden/tokenizers/cases.json", FUR_JSON_MAX_FILE,
                                        &content, &bytes));
    kit_expect_ok(&error, fur_json_parse(&error, "cases.json", content, bytes, &cases));
    fur_free(content);
    assert_true(json_array_size(cases.root) >= 8);
    json_array_foreach(cases.root, i, entry)
    {
        fur_tokenizer *tokenizer;
        const char *style = json_string_value(json_object_get(entry, "style"));
        json_t *texts = json_object_get(entry, "texts");
        const char *path = kit_path(&folder, "tokenizer.json");
        kit_expect_ok(&error, fur_json_write(&error, path, json_object_get(entry, "tokenizer"), 0));
        kit_expect_ok(&context.error, fur_tokenizer_open(&context, i % 2 ? folder.path : path, &tokenizer));
        json_array_foreach(texts, j, text) check_text(tokenizer, style, text);
        fur_tokenizer_info info = {.struct_size = sizeof info};
        kit_expect_ok(&context.error, fur_tokenizer_info_read(&context, tokenizer, &info));
        assert_true(info.round_trip ==
                    (has_kind(entry, "bytes") && strcmp(style, "Qwen") != 0 && strcmp(style, "words alone") != 0));
        if (info.round_trip)
            check_round_trip(tokenizer);
        check_windows(tokenizer, style, texts);
        fur_tokenizer_close(tokenizer);
    }
    fur_json_clear(&cases);
    kit_folder_clear(&folder);
}

/* ---- small ones ----------------------------------------------------------------------------------------------- */

#define DECODER ", \"decoder\": {\"type\": \"ByteLevel\"}"
#define MODEL                                                                                                          \
    "\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0, \"b\": 1, \"ab\": 2, \"c\": 3}, \"merges\": [\"a b\"]}"

static fur_status open_text(fur_error *error, const char *json, fur_tokenizer **out)
{
    kit_folder folder;
    kit_folder_init(&folder);
    fur_status status = fur_tokenizer_make(error, kit_write(&folder, "tokenizer.json", json, -1), out);
    kit_folder_clear(&folder);
    return status;
}

static void refuse(const char *json, fur_status wanted, const char *part)
{
    fur_tokenizer *tokenizer = NULL;
    fur_error error = {0};
    int64_t live = fur_alloc_live();
    kit_expect(&error, open_text(&error, json, &tokenizer), wanted, part);
    assert_int_equal(fur_alloc_live(), live);
}

/* Group 4 of the hostile inputs. */
static void test_refused_files(void **state)
{
    (void)state;
    refuse("{\"model\": {\"type\": \"BPE\"", FUR_E_FORMAT, "not valid JSON");
    refuse("{" MODEL "}", FUR_E_UNSUPPORTED, "\"decoder\" is missing");
    refuse("{\"model\": {\"vocab\": {\"a\": 0}, \"merges\": [\"a b\"]}" DECODER "}", FUR_E_FORMAT,
           "merges[0]: \"b\" is no token");
    refuse("{\"model\": {\"vocab\": {\"a\": 0, \"b\": 1}, \"merges\": [[\"a\", \"b\"]]}" DECODER "}", FUR_E_FORMAT,
           "merges[0]: \"ab\" is no token");
    refuse("{\"model\": {\"vocab\": {\"a\": 0}, \"merges\": [\"a\"]}" DECODER "}", FUR_E_FORMAT, "two tokens");
    refuse("{\"model\": {\"vocab\": {\"a\": 0}, \"merges\": [[\"a\"]]}" DECODER "}", FUR_E_FORMAT, "two tokens");
    refuse("{\"model\": {\"vocab\": {\"a\": 0, \"b\": 0}, \"merges\": []}" DECODER "}", FUR_E_FORMAT,
           "\"b\" has id 0, as another token has");
    refuse("{\"model\": {\"vocab\": {\"a\": -1}, \"merges\": []}" DECODER "}", FUR_E_FORMAT, "\"a\" has no id");
    refuse("{\"model\": {\"vocab\": {\"a\": 1e3}, \"merges\": []}" DECODER "}", FUR_E_FORMAT, "\"a\" has no id");
    refuse("{\"model\": {\"vocab\": {\"a\": 4000000}, \"merges\": []}" DECODER "}", FUR_E_FORMAT, "\"a\" has no id");
    refuse("{\"model\": {\"vocab\": {}, \"merges\": []}" DECODER "}", FUR_E_FORMAT, "0 tokens");
    refuse("{\"model\": {\"vocab\": [], \"merges\": []}" DECODER "}", FUR_E_FORMAT, "expected an object");
    refuse("{\"model\": {\"type\": \"WordPiece\", \"vocab\": {}}" DECODER "}", FUR_E_UNSUPPORTED, "\"WordPiece\"");
    refuse("{\"model\": 3" DECODER "}", FUR_E_FORMAT, "model: expected an object");
    refuse("{\"model\": {\"vocab\": {\"a\": 0}, \"merges\": [], \"dropout\": 0.1}" DECODER "}", FUR_E_UNSUPPORTED,
           "dropout");
    refuse("{\"model\": {\"vocab\": {\"a\": 0}, \"merges\": [], \"end_of_word_suffix\": \"</w>\"}" DECODER "}",
           FUR_E_UNSUPPORTED, "</w>");
    refuse("{\"model\": {\"vocab\": {\"a\": 0}, \"merges\": [], \"unk_token\": \"u\"}" DECODER "}", FUR_E_FORMAT,
           "\"unk_token\" is \"u\"");
    refuse("{\"added_tokens\": [{\"id\": 4, \"content\": \"\"}], " MODEL DECODER "}", FUR_E_FORMAT,
           "added_tokens[0]: \"content\" is empty");
    refuse("{\"added_tokens\": [{\"id\": 7, \"content\": \"x\"}], " MODEL DECODER "}", FUR_E_FORMAT,
           "\"x\" has id 7, the tokens before make it 4");
    refuse("{\"added_tokens\": [{\"id\": 1, \"content\": \"a\"}], " MODEL DECODER "}", FUR_E_FORMAT,
           "\"a\" has id 1, the tokens before make it 0");
    refuse("{\"added_tokens\": [{\"id\": 4, \"content\": \"x\"}, {\"id\": 4, \"content\": \"x\"}], " MODEL DECODER "}",
           FUR_E_FORMAT, "added_tokens[1]: \"x\" is there before");
    refuse("{\"added_tokens\": [{\"id\": 4, \"content\": \"\\ud800\"}], " MODEL DECODER "}", FUR_E_FORMAT,
           "not valid JSON");
    refuse("{\"normalizer\": {\"type\": \"Precompiled\"}, " MODEL DECODER "}", FUR_E_UNSUPPORTED,
           "normalizer: type \"Precompiled\"");
    refuse("{\"pre_tokenizer\": {\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"ByteLevel\", "
           "\"add_prefix_space\": false}, {\"type\": \"Digits\"}]}, " MODEL DECODER "}",
           FUR_E_UNSUPPORTED, "pretokenizers[1]: comes after ByteLevel");
    refuse("{\"decoder\": {\"type\": \"CTC\"}, " MODEL "}", FUR_E_UNSUPPORTED, "decoder: type \"CTC\"");
    refuse(
        "{\"decoder\": {\"type\": \"Sequence\", \"decoders\": [{\"type\": \"Fuse\"}, {\"type\": \"ByteFallback\"}]}, " MODEL
        "}",
        FUR_E_UNSUPPORTED, "ByteFallback after Fuse");
    refuse("{\"post_processor\": {\"type\": \"TemplateProcessing\", \"single\": [{\"SpecialToken\": {\"id\": \"x\"}}], "
           "\"special_tokens\": {\"x\": {\"ids\": [99]}}}, " MODEL DECODER "}",
           FUR_E_FORMAT, "text 0 times");
    refuse("{\"post_processor\": {\"type\": \"TemplateProcessing\", \"single\": [{\"SpecialToken\": {\"id\": \"x\"}}, "
           "{\"Sequence\": {\"id\": \"A\"}}], \"special_tokens\": {\"x\": {\"ids\": [99]}}}, " MODEL DECODER "}",
           FUR_E_FORMAT, "id 99, expected below 4");
}

static void refuse_pattern(const char *pattern, fur_status wanted, const char *part)
{
    char json[1024];
    snprintf(json, sizeof json,
             "{\"pre_tokenizer\": {\"type\": \"Split\", \"pattern\": {\"Regex\": \"%s\"}, \"behavior\": \"Isolated\", "
             "\"invert\": false}, " MODEL DECODER "}",
             pattern);
    refuse(json, wanted, part);
}

/* What Oniguruma and PCRE2 read differently. */
static void test_refused_patterns(void **state)
{
    (void)state;
    refuse_pattern("[a", FUR_E_FORMAT, "a class without its ]");
    refuse_pattern("(a", FUR_E_FORMAT, "regular expression: missing closing parenthesis");
    refuse_pattern("a{2}+", FUR_E_UNSUPPORTED, "{2}+ is not read here");
    refuse_pattern("a{,2}", FUR_E_UNSUPPORTED, "{,2} is not read here");
    refuse_pattern("[a&&b]", FUR_E_UNSUPPORTED, "&& in a class");
    refuse_pattern("[[:alpha:]]", FUR_E_UNSUPPORTED, "a class within a class");
    refuse_pattern("(?m)a", FUR_E_UNSUPPORTED, "(?m)");
    refuse_pattern("a(?i)b", FUR_E_UNSUPPORTED, "(?i) after the beginning");
    refuse_pattern("\\\\bword", FUR_E_UNSUPPORTED, "\\b is not read here");
    refuse_pattern("(a)\\\\1", FUR_E_UNSUPPORTED, "\\1 is not read here");
    refuse_pattern("[\\\\S]", FUR_E_UNSUPPORTED, "\\S is not read here");
    refuse_pattern("\\\\x{110000}", FUR_E_UNSUPPORTED, "offset 0");
    refuse_pattern("\\\\p{Nothing}", FUR_E_FORMAT, "unknown property");
    refuse_pattern("(*SKIP)", FUR_E_UNSUPPORTED, "(*");
    refuse_pattern("", FUR_E_FORMAT, "a pattern of 0 bytes");
}

/* An expression that takes for ever is given up, with a word. */
static void test_endless_pattern(void **state)
{
    (void)state;
    fur_tokenizer *tokenizer;
    fur_error error = {0};
    kit_expect_ok(&error, open_text(&error,
                                    "{\"pre_tokenizer\": {\"type\": \"Split\", \"pattern\": {\"Regex\": "
                                    "\"(?:a+)+(?:a+)+[bc]\"}, \"behavior\": \"Isolated\"}, " MODEL DECODER "}",
                                    &tokenizer));
    char text[400];
    memset(text, 'a', sizeof text);
    fur_ids ids = {0};
    fur_encoding input = {.text = text, .bytes = sizeof text, .begins = true, .ends = true};
    kit_expect(&error, fur_tokenizer_encode_all(&error, tokenizer, input, &ids), FUR_E_FORMAT, "given up");
    fur_ids_clear(&ids);
    fur_tokenizer_close(tokenizer);
}

/* Ids may have gaps; they decode to nothing. Without unk_token what is unknown is left out. */
static void test_gaps(void **state)
{
    (void)state;
    fur_tokenizer *tokenizer;
    const char *piece;
    int64_t bytes, count;
    int32_t ids[8];
    fur_error error = {0};
    kit_expect_ok(
        &error,
        open_text(&error, "{\"model\": {\"vocab\": {\"a\": 5, \"b\": 9, \"ab\": 2}, \"merges\": [\"a b\"]}" DECODER "}",
                  &tokenizer));
    assert_int_equal(fur_tokenizer_vocabulary(tokenizer), 10);
    kit_expect_ok(&context.error, fur_tokenizer_encode(&context, tokenizer, "xbaxabq", 7, ids, 8, &count));
    assert_int_equal(count, 3); /* x goes, so that b, a and ab are left */
    assert_true(ids[0] == 9 && ids[1] == 5 && ids[2] == 2);
    kit_expect_ok(&context.error, fur_tokenizer_piece(&context, tokenizer, 3, &piece, &bytes));
    assert_int_equal(bytes, 0);
    kit_expect(&context.error, fur_tokenizer_piece(&context, tokenizer, 10, &piece, &bytes), FUR_E_ARGUMENT,
               "token id 10, expected 0 to 9");
    kit_expect(&context.error, fur_tokenizer_encode_as(&context, tokenizer, 8, "a", 1, ids, 8, &count), FUR_E_ARGUMENT,
               "flags 8");
    assert_int_equal(fur_tokenizer_find(tokenizer, "ab"), -1); /* not an added one */
    fur_tokenizer_close(tokenizer);
}

/* ---- beside it ------------------------------------------------------------------------------------------------ */

static void test_config(void **state)
{
    (void)state;
    kit_folder folder;
    kit_folder_init(&folder);
    kit_write(&folder, "tokenizer.json",
              "{\"added_tokens\": [{\"id\": 4, \"content\": \"<s>\", \"special\": true}, {\"id\": 5, \"content\": "
              "\"</s>\", \"special\": true}], " MODEL DECODER "}",
              -1);
    kit_write(
        &folder, "tokenizer_config.json",
        "{\"bos_token\": {\"content\": \"<s>\"}, \"eos_token\": \"</s>\", \"chat_template\": [{\"name\": \"tool\", "
        "\"template\": \"no\"}, {\"name\": \"default\", \"template\": \"{{ bos_token }}\"}]}",
        -1);
    fur_tokenizer *tokenizer;
    fur_tokenizer_info info = {.struct_size = sizeof info};
    kit_expect_ok(&context.error, fur_tokenizer_open(&context, folder.path, &tokenizer));
    kit_expect_ok(&context.error, fur_tokenizer_info_read(&context, tokenizer, &info));
    assert_true(info.bos == 4 && info.eos == 5 && info.added == 2 && info.special == 2 && info.merges == 1);
    assert_string_equal(info.chat_template, "{{ bos_token }}");
    assert_int_equal(fur_tokenizer_find(tokenizer, "</s>"), 5);
    fur_tokenizer_close(tokenizer);
    kit_write(&folder, "chat_template.jinja", "{{ eos_token }}", -1);
    kit_expect_ok(&context.error, fur_tokenizer_open(&context, folder.path, &tokenizer));
    kit_expect_ok(&context.error, fur_tokenizer_info_read(&context, tokenizer, &info));
    assert_string_equal(info.chat_template, "{{ eos_token }}");
    fur_tokenizer_close(tokenizer);
    kit_folder_clear(&folder);
}

/* ---- memory --------------------------------------------------------------------------------------------------- */

static fur_status open_and_encode(void *user, fur_error *error)
{
    fur_tokenizer *tokenizer;
    fur_ids ids = {0};
    fur_string text = {0};
    FUR_TRY(fur_tokenizer_make(error, user, &tokenizer));
    static const char given[] = "A na\xc3\xafve \xff ab <s> text of several words, 1234";
    fur_encoding input = {.text = given, .bytes = sizeof given - 1, .begins = true, .ends = true, .specials = true};
    fur_status status = fur_tokenizer_encode_all(error, tokenizer, input, &ids);
    if (status == FUR_OK)
        status = tokenizer->kind->decode(error, tokenizer, ids.data, ids.length, true, &text);
    fur_ids_clear(&ids);
    fur_string_clear(&text);
    fur_tokenizer_close(tokenizer);
    return status;
}

static void test_memory(void **state)
{
    (void)state;
    static const char *const files[] = {
        "{\"normalizer\": {\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"NFC\"}, {\"type\": \"Replace\", "
        "\"pattern\": {\"Regex\": \" +\"}, \"content\": \" \"}]}, \"pre_tokenizer\": {\"type\": \"ByteLevel\", "
        "\"add_prefix_space\": true}, \"added_tokens\": [{\"id\": 4, \"content\": \"<s>\", \"special\": true}], " MODEL
            DECODER "}",
        "{\"pre_tokenizer\": {\"type\": \"Metaspace\"}, \"decoder\": {\"type\": \"Metaspace\"}, \"model\": {\"type\": "
        "\"Unigram\", \"unk_id\": 0, \"vocab\": [[\"<unk>\", 0], [\"a\", -1], [\"\xe2\x96\x81\", -2.5], [\"ab\", -3]]}}",
    };
    for (int i = 0; i < 2; i++) {
        kit_folder folder;
        kit_folder_init(&folder);
        char path[600];
        snprintf(path, sizeof path, "%s", kit_write(&folder, "tokenizer.json", files[i], -1));
        assert_true(kit_each_allocation_fails(open_and_encode, path) > 50);
        kit_folder_clear(&folder);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden),
        cmocka_unit_test(test_refused_files),
        cmocka_unit_test(test_refused_patterns),
        cmocka_unit_test(test_endless_pattern),
        cmocka_unit_test(test_gaps),
        cmocka_unit_test(test_config),
        cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
