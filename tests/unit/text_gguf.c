/* SPDX-License-Identifier: Apache-2.0 */
/* text/gguf_vocabulary.h: vocabularies of folders into GGUF files and back, and those that cannot be. */
#include "kit/gguf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "text/gguf_splits.h"
#include "text/gguf_vocabulary.h"
#include "text/tokenizer.h"
#include "text/tokenizer_files.h"

#define LEVEL "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true,\"use_regex\":%s}"
#define SPACE "\xe2\x96\x81"

/* A tokenizer.json of byte-level BPE with three tokens, two merges and two added ones. */
static void write_level(const kit_folder *folder, const char *pre, const char *normalizer, const char *post)
{
    char text[4096];
    snprintf(text, sizeof text,
             "{\"version\":\"1.0\",\"added_tokens\":[{\"id\":5,\"content\":\"<end>\",\"special\":true},"
             "{\"id\":6,\"content\":\"<tool>\",\"special\":false}],\"normalizer\":%s,\"pre_tokenizer\":%s,"
             "\"post_processor\":%s,\"decoder\":" LEVEL ",\"model\":{\"type\":\"BPE\",\"unk_token\":null,"
             "\"byte_fallback\":false,\"vocab\":{\"a\":0,\"b\":1,\"\\u0120\":2,\"ab\":3,\"\\u0120ab\":4},"
             "\"merges\":[[\"a\",\"b\"],\"\\u0120 ab\"]}}",
             normalizer, pre, post, "true");
    kit_write(folder, "tokenizer.json", text, -1);
    kit_write(folder, "tokenizer_config.json",
              "{\"bos_token\":{\"content\":\"<end>\"},\"eos_token\":\"<end>\",\"chat_template\":\"{{ x }}\"}", -1);
}

/* SentencePiece's, with bytes; "ab" merges before "b" and "c". */
static void write_pieces(const kit_folder *folder)
{
    kit_write(folder, "tokenizer.json",
              "{\"added_tokens\":[{\"id\":0,\"content\":\"<unk>\",\"special\":true},{\"id\":1,\"content\":\"<s>\","
              "\"special\":true}],\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Prepend\","
              "\"prepend\":\"" SPACE "\"},{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"" SPACE
              "\"}]},\"pre_tokenizer\":null,\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":"
              "[{\"SpecialToken\":{\"id\":\"<s>\",\"type_id\":0}},{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}]},"
              "\"decoder\":{\"type\":\"Sequence\",\"decoders\":[]},\"model\":{\"type\":\"BPE\",\"unk_token\":\"<unk>\","
              "\"fuse_unk\":true,\"byte_fallback\":true,\"vocab\":{\"<unk>\":0,\"<s>\":1,\"<0x0A>\":2,\"" SPACE
              "\":3,\"a\":4,\"b\":5,\"c\":6,\"ab\":7,\"bc\":8,\"abc\":9},\"merges\":[\"a b\",\"b c\",\"ab c\","
              "\"a bc\"]}}",
              -1);
    kit_write(folder, "tokenizer_config.json", "{\"bos_token\":\"<s>\",\"unk_token\":\"<unk>\"}", -1);
}

/* The folder's vocabulary in a file of one tensor; "" or why it has none. */
static fur_gguf_reason save(const kit_folder *folder, int64_t rows, fur_gguf **out)
{
    fur_error error = {0};
    fur_gguf_builder values = {0};
    fur_gguf_reason why;
    fur_gguf_put_text(&values, "general.architecture", "llama");
    fur_gguf_put_u32(&values, "llama.context_length", 512);
    kit_expect_ok(&error, fur_gguf_vocabulary_values(&error, folder->path, rows, &values, &why));
    const char *path = kit_path(folder, "v.gguf");
    kit_expect_ok(&error, fur_gguf_write(&error, path, &values, NULL, 0));
    fur_gguf_builder_clear(&values);
    kit_expect_ok(&error, fur_gguf_open(&error, path, out));
    return why;
}

static void expect_json(const json_t *got, const char *want)
{
    json_error_t error;
    json_t *wanted = json_loads(want, JSON_DECODE_ANY, &error);
    assert_non_null(wanted);
    char *text = json_dumps(got, JSON_ENCODE_ANY | JSON_SORT_KEYS);
    if (!json_equal(got, wanted))
        fail_msg("%s, expected %s", text, want);
    fur_free(text);
    json_decref(wanted);
}

static void expect_int(const fur_gguf *file, const char *key, int64_t want)
{
    fur_error error = {0};
    int64_t got;
    kit_expect_ok(&error, fur_gguf_int(&error, file, key, 0, 1000, &got));
    assert_int_equal(got, want);
}

static void expect_text(const fur_gguf *file, const char *key, const char *want)
{
    fur_error error = {0};
    char *got;
    kit_expect_ok(&error, fur_gguf_text(&error, file, key, &got));
    assert_string_equal(got, want);
    fur_free(got);
}

static void test_byte_level(void **state)
{
    (void)state;
    static const char *const names[] = {"gpt-2", "smollm", "llama-bpe", "qwen2"};
    kit_folder folder;
    kit_folder_init(&folder);
    for (size_t i = 0; i < 4; i++) {
        fur_error error = {0};
        fur_gguf *file;
        json_t *pre = fur_gguf_split_json(fur_gguf_split_find(names[i])), *tokenizer, *config;
        char *text = json_dumps(pre, 0);
        int32_t types[8];
        bool adds;
        write_level(&folder, text, i == 3 ? "{\"type\":\"NFC\"}" : "null", "null");
        assert_string_equal(save(&folder, 8, &file).text, "");
        expect_text(file, "tokenizer.ggml.model", "gpt2");
        expect_text(file, "tokenizer.ggml.pre", names[i]);
        expect_int(file, "tokenizer.ggml.bos_token_id", 5);
        expect_int(file, "tokenizer.ggml.eos_token_id", 5);
        expect_text(file, "tokenizer.chat_template", "{{ x }}");
        kit_expect_ok(&error, fur_gguf_bool_or(&error, file, "tokenizer.ggml.add_bos_token", true, &adds));
        assert_false(adds);
        kit_expect_ok(&error, fur_gguf_array_read(&error, file, "tokenizer.ggml.token_type", FUR_GGUF_I32, 8, types));
        assert_memory_equal(types, ((int32_t[]){1, 1, 1, 1, 1, 3, 4, 5}), sizeof types);
        kit_expect_ok(&error, fur_gguf_vocabulary_json(&error, file, &tokenizer, &config));
        expect_json(json_object_get(tokenizer, "pre_tokenizer"), text);
        json_t *model = json_object_get(tokenizer, "model");
        expect_json(json_object_get(model, "vocab"),
                    "{\"a\":0,\"b\":1,\"\\u0120\":2,\"ab\":3,\"\\u0120ab\":4,\"<end>\":5,\"<tool>\":6,\"[PAD7]\":7}");
        expect_json(json_object_get(model, "merges"), "[[\"a\",\"b\"],[\"\\u0120\",\"ab\"]]");
        assert_int_equal(json_is_true(json_object_get(model, "ignore_merges")), i == 2);
        assert_int_equal(json_array_size(json_object_get(tokenizer, "added_tokens")), 2);
        expect_json(config, "{\"tokenizer_class\":\"PreTrainedTokenizerFast\",\"clean_up_tokenization_spaces\":false,"
                            "\"bos_token\":\"<end>\",\"eos_token\":\"<end>\",\"model_max_length\":512,"
                            "\"chat_template\":\"{{ x }}\"}");
        json_decref(tokenizer);
        json_decref(config);
        json_decref(pre);
        fur_free(text);
        fur_gguf_close(file);
    }
    kit_folder_clear(&folder);
}

static void test_pieces(void **state)
{
    (void)state;
    kit_folder folder;
    kit_folder_init(&folder);
    fur_error error = {0};
    fur_gguf *file;
    json_t *tokenizer, *config;
    int32_t types[10];
    float scores[10];
    bool adds;
    write_pieces(&folder);
    assert_string_equal(save(&folder, 10, &file).text, "");
    expect_text(file, "tokenizer.ggml.model", "llama");
    kit_expect_ok(&error, fur_gguf_bool_or(&error, file, "tokenizer.ggml.add_bos_token", false, &adds));
    assert_true(adds);
    kit_expect_ok(&error, fur_gguf_array_read(&error, file, "tokenizer.ggml.token_type", FUR_GGUF_I32, 10, types));
    assert_memory_equal(types, ((int32_t[]){2, 3, 6, 1, 1, 1, 1, 1, 1, 1}), sizeof types);
    kit_expect_ok(&error, fur_gguf_array_read(&error, file, "tokenizer.ggml.scores", FUR_GGUF_F32, 10, scores));
    assert_true(scores[7] > scores[8] && scores[8] > scores[9] && scores[9] > scores[4]);
    kit_expect_ok(&error, fur_gguf_vocabulary_json(&error, file, &tokenizer, &config));
    json_t *model = json_object_get(tokenizer, "model");
    assert_true(json_is_true(json_object_get(model, "byte_fallback")));
    /* of the two that make abc the file does not say which comes first: it has one score for both */
    expect_json(json_object_get(model, "merges"), "[[\"a\",\"b\"],[\"b\",\"c\"],[\"a\",\"bc\"],[\"ab\",\"c\"]]");
    expect_json(json_object_get(tokenizer, "normalizer"),
                "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Prepend\",\"prepend\":\"" SPACE
                "\"},{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"" SPACE "\"}]}");
    json_decref(tokenizer);
    json_decref(config);
    fur_gguf_close(file);
    kit_folder_clear(&folder);
}

/* The bytes: no merges, and so no split. */
static void test_bytes(void **state)
{
    (void)state;
    kit_folder folder;
    kit_folder_init(&folder);
    fur_error error = {0};
    fur_gguf *file;
    kit_expect_ok(&error, fur_tokenizer_files_write_bytes(&error, folder.path, 512));
    assert_string_equal(save(&folder, 256, &file).text, "");
    expect_text(file, "tokenizer.ggml.model", "gpt2");
    assert_int_equal(fur_gguf_value_find(file, "tokenizer.ggml.tokens")->count, 256);
    assert_int_equal(fur_gguf_value_find(file, "tokenizer.ggml.merges")->count, 0);
    assert_true(fur_gguf_has_vocabulary(file));
    fur_gguf_close(file);
    fur_tokenizer *tokenizer;
    fur_ids ids = {0};
    const char *text = "naive \xff \xc3\xaf\n 12";
    kit_expect_ok(&error, fur_tokenizer_make(&error, kit_path(&folder, "v.gguf"), &tokenizer));
    assert_int_equal(fur_tokenizer_vocabulary(tokenizer), 256);
    fur_encoding whole = {.text = text, .bytes = (int64_t)strlen(text), .begins = true, .ends = true};
    kit_expect_ok(&error, fur_tokenizer_encode_all(&error, tokenizer, whole, &ids));
    assert_int_equal(ids.length, whole.bytes);
    for (int64_t i = 0; i < ids.length; i++)
        assert_int_equal(ids.data[i], (unsigned char)text[i]);
    fur_ids_clear(&ids);
    fur_tokenizer_close(tokenizer);
    kit_folder_clear(&folder);
}

/* Merges, special tokens, the first token and the template, through the file. */
static void test_tokenizer(void **state)
{
    (void)state;
    kit_folder folder;
    kit_folder_init(&folder);
    fur_error error = {0};
    fur_gguf *file;
    fur_tokenizer *tokenizer;
    fur_ids ids = {0};
    const char *text = "abca<s>";
    write_pieces(&folder);
    assert_string_equal(save(&folder, 10, &file).text, "");
    fur_gguf_close(file);
    kit_expect_ok(&error, fur_tokenizer_make(&error, kit_path(&folder, "v.gguf"), &tokenizer));
    assert_int_equal(tokenizer->bos, 1);
    fur_encoding whole = {.text = text,
                          .bytes = (int64_t)strlen(text),
                          .begins = true,
                          .ends = true,
                          .specials = true,
                          .first = true,
                          .last = true};
    kit_expect_ok(&error, fur_tokenizer_encode_all(&error, tokenizer, whole, &ids));
    static const int32_t want[] = {1, 3, 9, 4, 1}; /* <s>, space, abc, a, <s> */
    assert_int_equal(ids.length, 5);
    assert_memory_equal(ids.data, want, sizeof want);
    fur_ids_clear(&ids);
    fur_tokenizer_close(tokenizer);
    kit_expect(&error, fur_tokenizer_make(&error, kit_write(&folder, "x.gguf", "GGUF", -1), &tokenizer), FUR_E_FORMAT,
               "the file of 4 bytes");
    kit_folder_clear(&folder);
}

static void test_none(void **state)
{
    (void)state;
    static const struct {
        const char *pre, *normalizer, *why;
    } cases[] = {{"{\"type\":\"Whitespace\"}", "null", "the way it splits text has no name in GGUF"},
                 {"{\"type\":\"ByteLevel\",\"add_prefix_space\":true}", "null", "the way it splits text"},
                 {"{\"type\":\"ByteLevel\",\"add_prefix_space\":false}", "{\"type\":\"Lowercase\"}", "its normalizer"}};
    kit_folder folder;
    kit_folder_init(&folder);
    fur_gguf *file;
    assert_string_equal(save(&folder, 8, &file).text, "the folder has no tokenizer.json");
    assert_false(fur_gguf_has_vocabulary(file));
    expect_text(file, "tokenizer.ggml.model", "no_vocab");
    fur_gguf_close(file);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        write_level(&folder, cases[i].pre, cases[i].normalizer, "null");
        fur_gguf_reason why = save(&folder, 8, &file);
        if (!strstr(why.text, cases[i].why))
            fail_msg("\"%s\", expected \"%s\"", why.text, cases[i].why);
        assert_false(fur_gguf_has_vocabulary(file));
        fur_gguf_close(file);
    }
    kit_write(&folder, "tokenizer.json", "{\"model\":{\"type\":\"Unigram\"}}", -1);
    assert_non_null(strstr(save(&folder, 8, &file).text, "no BPE"));
    fur_gguf_close(file);
    kit_folder_clear(&folder);
}

static void test_refused(void **state)
{
    (void)state;
    kit_folder folder;
    kit_folder_init(&folder);
    fur_error error = {0};
    fur_gguf_builder values = {0};
    fur_gguf_reason why;
    write_level(&folder, "{\"type\":\"ByteLevel\",\"add_prefix_space\":false}", "null", "null");
    kit_expect(&error, fur_gguf_vocabulary_values(&error, folder.path, 5, &values, &why), FUR_E_FORMAT,
               "token \"<end>\" has id 5, expected one of the 5 rows");
    fur_gguf_builder_clear(&values);
    kit_write(&folder, "tokenizer.json", "{\"model\":", -1);
    kit_expect(&error, fur_gguf_vocabulary_values(&error, folder.path, 5, &values, &why), FUR_E_FORMAT,
               "not valid JSON");
    kit_folder_clear(&folder);
}

/* ---- files of others ----------------------------------------------------------------------------------------------
 */

/* Tokens and merges that follow each other in the list, up to NULL. */
static void put_texts(kit_bytes *b, const char *key, const char *const *texts)
{
    uint64_t count = 0;
    while (texts[count])
        count++;
    kit_put_text(b, key);
    kit_put_u32(b, FUR_GGUF_ARRAY);
    kit_put_u32(b, FUR_GGUF_TEXT);
    kit_put_u64(b, count);
    for (uint64_t i = 0; i < count; i++)
        kit_put_text(b, texts[i]);
}

static void test_files(void **state)
{
    (void)state;
    static const struct {
        const char *model, *pre;
        const char *tokens[4], *merges[2];
        uint32_t bos;
        fur_status status;
        const char *part;
    } cases[] = {
        {"gpt2", "gpt-2", {"a", "b", "ab"}, {"a b"}, 0, FUR_OK, NULL},
        {"gpt2", "smollm", {"a", "b", "ab"}, {"a b"}, 3, FUR_E_FORMAT, "bos_token_id\": it is 3, expected 0 to 2"},
        {"gpt2", "tekken", {"a", "b", "ab"}, {"a b"}, 0, FUR_E_UNSUPPORTED, "\"tokenizer.ggml.pre\": tekken"},
        {"bert", "gpt-2", {"a", "b", "ab"}, {"a b"}, 0, FUR_E_UNSUPPORTED, "\"tokenizer.ggml.model\": bert"},
        {"gpt2", "gpt-2", {"a", "b", "a"}, {"a b"}, 0, FUR_E_FORMAT, "token 2, \"a\", is there twice"},
        {"gpt2", "gpt-2", {"a", "b", "\xff"}, {"a b"}, 0, FUR_E_FORMAT, "token 2 is not UTF-8"},
        {"gpt2", "gpt-2", {"a", "b", "ab"}, {"ab"}, 0, FUR_E_FORMAT, "merges\": 0 is not two tokens"},
    };
    kit_folder folder;
    kit_folder_init(&folder);
    kit_bytes *b = calloc(1, sizeof *b);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        fur_error error = {0};
        fur_gguf *file;
        json_t *tokenizer = NULL, *config = NULL;
        kit_put_gguf(b, 0, 6);
        kit_put_value_text(b, "general.architecture", "llama");
        kit_put_value_text(b, "tokenizer.ggml.model", cases[i].model);
        kit_put_value_text(b, "tokenizer.ggml.pre", cases[i].pre);
        kit_put_value_u32(b, "tokenizer.ggml.bos_token_id", cases[i].bos);
        put_texts(b, "tokenizer.ggml.tokens", cases[i].tokens);
        put_texts(b, "tokenizer.ggml.merges", cases[i].merges);
        kit_expect_ok(&error, fur_gguf_open(&error, kit_write_bytes(&folder, "x.gguf", b), &file));
        fur_status status = fur_gguf_vocabulary_json(&error, file, &tokenizer, &config);
        if (cases[i].status == FUR_OK)
            kit_expect_ok(&error, status);
        else
            kit_expect(&error, status, cases[i].status, cases[i].part);
        json_decref(tokenizer);
        json_decref(config);
        fur_gguf_close(file);
    }
    free(b);
    kit_folder_clear(&folder);
}

static fur_status read_vocabulary(void *user, fur_error *error)
{
    json_t *tokenizer = NULL, *config = NULL;
    fur_gguf *file = NULL;
    FUR_TRY(fur_gguf_open(error, user, &file));
    fur_status status = fur_gguf_vocabulary_json(error, file, &tokenizer, &config);
    fur_gguf_close(file);
    json_decref(tokenizer);
    json_decref(config);
    return status;
}

/* Out of a file alone: jansson 2.14 writes past a string that it could not make longer while it parses. */
static void test_memory(void **state)
{
    (void)state;
    kit_folder folder;
    kit_folder_init(&folder);
    fur_gguf *file;
    char path[600];
    write_pieces(&folder);
    assert_string_equal(save(&folder, 10, &file).text, "");
    fur_gguf_close(file);
    snprintf(path, sizeof path, "%s", kit_path(&folder, "v.gguf"));
    assert_true(kit_each_allocation_fails(read_vocabulary, path) > 100);
    kit_folder_clear(&folder);
}

static int setup(void **state)
{
    (void)state;
    fur_json_setup();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_byte_level), cmocka_unit_test(test_pieces), cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_tokenizer),  cmocka_unit_test(test_none),   cmocka_unit_test(test_refused),
        cmocka_unit_test(test_files),      cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
