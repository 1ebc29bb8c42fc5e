/* SPDX-License-Identifier: Apache-2.0 */
/* The byte tokenizer: any bytes to ids and back, and the file it is known by. */
#include "kit/files.h"

#include <string.h>

#include "base/alloc.h"
#include "base/context.h"
#include "io/json.h"
#include "text/tokenizer.h"
#include "text/tokenizer_files.h"

static void test_bytes(void **state)
{
    (void)state;
    static struct fur_context context;
    fur_tokenizer *tokenizer;
    kit_expect_ok(&context.error, fur_tokenizer_open(&context, "bytes", &tokenizer));
    assert_int_equal(fur_tokenizer_vocabulary(tokenizer), 256);
    char text[256];
    for (int i = 0; i < 256; i++)
        text[i] = (char)(255 - i);
    int32_t ids[256];
    int64_t count;
    kit_expect_ok(&context.error, fur_tokenizer_encode(&context, tokenizer, text, 256, ids, 256, &count));
    assert_int_equal(count, 256);
    for (int i = 0; i < 256; i++) {
        const char *piece;
        int64_t bytes;
        assert_int_equal(ids[i], 255 - i);
        kit_expect_ok(&context.error, fur_tokenizer_piece(&context, tokenizer, ids[i], &piece, &bytes));
        assert_int_equal(bytes, 1);
        assert_int_equal(*piece, text[i]);
    }
    /* a count without room, and room for some */
    ids[3] = 77;
    kit_expect_ok(&context.error, fur_tokenizer_encode(&context, tokenizer, "abcde", 5, NULL, 0, &count));
    assert_int_equal(count, 5);
    kit_expect_ok(&context.error, fur_tokenizer_encode(&context, tokenizer, "abcde", 5, ids, 3, &count));
    assert_int_equal(count, 5);
    assert_true(ids[2] == 'c' && ids[3] == 77);
    const char *piece;
    kit_expect(&context.error, fur_tokenizer_piece(&context, tokenizer, 256, &piece, &count), FUR_E_ARGUMENT,
               "token id 256, expected 0 to 255");
    kit_expect(&context.error, fur_tokenizer_piece(&context, tokenizer, -1, &piece, &count), FUR_E_ARGUMENT,
               "token id -1");
    kit_expect(&context.error, fur_tokenizer_encode(&context, tokenizer, "a", -1, ids, 3, &count), FUR_E_ARGUMENT,
               "-1 bytes of text");
    fur_tokenizer_close(tokenizer);
    fur_tokenizer_close(NULL);
}

static fur_status open_folder(void *user, fur_error *error)
{
    fur_tokenizer *tokenizer;
    FUR_TRY(fur_tokenizer_make(error, user, &tokenizer));
    fur_tokenizer_close(tokenizer);
    return FUR_OK;
}

static void test_folder(void **state)
{
    (void)state;
    kit_folder folder;
    kit_folder_init(&folder);
    fur_error error = {0};
    kit_expect(&error, open_folder(folder.path, &error), FUR_E_IO, "tokenizer.json: cannot open: No such file");
    kit_expect_ok(&error, fur_tokenizer_files_write_bytes(&error, folder.path, 4096));
    kit_expect_ok(&error, open_folder(folder.path, &error));
    assert_true(kit_each_allocation_fails(open_folder, folder.path) > 20);
    /* another vocabulary would give other ids */
    fur_json json;
    kit_expect_ok(&error, fur_json_read(&error, kit_path(&folder, "tokenizer.json"), &json));
    json_t *vocabulary = fur_json_find(&json, "model.vocab");
    assert_int_equal(json_object_size(vocabulary), 256);
    json_object_set_new(vocabulary, "a", json_integer(98));
    kit_expect_ok(&error, fur_json_write(&error, kit_path(&folder, "tokenizer.json"), json.root, 0));
    fur_json_clear(&json);
    kit_expect(&error, open_folder(folder.path, &error), FUR_E_FORMAT, "as another token has");
    kit_write(&folder, "tokenizer.json", "{\"version\": \"1.0\"", -1);
    kit_expect(&error, open_folder(folder.path, &error), FUR_E_FORMAT, "not valid JSON");
    kit_expect(&error, open_folder(NULL, &error), FUR_E_ARGUMENT, "no tokenizer named");
    kit_expect(&error, open_folder((char[]){"byte"}, &error), FUR_E_IO, "byte/tokenizer.json: cannot open");
    kit_folder_clear(&folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_bytes), cmocka_unit_test(test_folder)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
