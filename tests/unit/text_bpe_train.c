/* SPDX-License-Identifier: Apache-2.0 */
/* Byte-pair encoding learned from words, against the definition: count every pair anew for each merge. And the merging
 * of words, few symbols by one way and many by another, against joining the first pair in the list again and again. */
#include "kit/files.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/context.h"
#include "furlong/data.h"
#include "text/bpe.h"
#include "text/bpe_train.h"
#include "text/tokenizer.h"

enum { WORDS = 300, LONGEST = 12, MERGES = 250 };

typedef struct naive_word {
    int32_t ids[LONGEST];
    int length;
    int64_t count;
} naive_word;

static int32_t identity[256];

/* Words of few letters, so that pairs are often as frequent as others. */
static void make_words(naive_word words[WORDS])
{
    uint64_t state = 12345;
    for (int i = 0; i < WORDS; i++) {
        words[i].length = 1 + i % LONGEST;
        words[i].count = 1 + i % 5;
        for (int j = 0; j < words[i].length; j++) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            words[i].ids[j] = 'a' + (int32_t)(state >> 60) % 6;
        }
    }
}

static int naive_merges(naive_word words[WORDS], int32_t pairs[][2])
{
    static int64_t counts[256 + MERGES][256 + MERGES];
    for (int merge = 0; merge < MERGES; merge++) {
        memset(counts, 0, sizeof counts);
        for (int i = 0; i < WORDS; i++)
            for (int j = 0; j + 1 < words[i].length; j++)
                counts[words[i].ids[j]][words[i].ids[j + 1]] += words[i].count;
        int64_t best = 0;
        for (int32_t l = 0; l < 256 + merge; l++) {
            for (int32_t r = 0; r < 256 + merge; r++) {
                if (counts[l][r] <= best)
                    continue;
                best = counts[l][r];
                pairs[merge][0] = l;
                pairs[merge][1] = r;
            }
        }
        if (best == 0)
            return merge;
        for (int i = 0; i < WORDS; i++) {
            naive_word *w = &words[i];
            for (int j = 0; j + 1 < w->length; j++) {
                if (w->ids[j] != pairs[merge][0] || w->ids[j + 1] != pairs[merge][1])
                    continue;
                w->ids[j] = 256 + merge;
                for (int k = j + 1; k + 1 < w->length; k++)
                    w->ids[k] = w->ids[k + 1];
                w->length--;
            }
        }
    }
    return MERGES;
}

static fur_status learn(fur_error *error, const naive_word words[WORDS], fur_ids *pairs)
{
    fur_bpe_trainer *trainer;
    FUR_TRY(fur_bpe_trainer_create(error, identity, &trainer));
    fur_status status = FUR_OK;
    for (int i = 0; i < WORDS && status == FUR_OK; i++) {
        char text[LONGEST];
        for (int j = 0; j < words[i].length; j++)
            text[j] = (char)words[i].ids[j];
        for (int64_t k = 0; k < words[i].count && status == FUR_OK; k++)
            status = fur_bpe_trainer_add(error, trainer, text, words[i].length);
    }
    if (status == FUR_OK)
        status = fur_bpe_trainer_run(error, trainer, MERGES, pairs);
    fur_bpe_trainer_destroy(trainer);
    return status;
}

static void test_merges(void **state)
{
    (void)state;
    static naive_word words[WORDS];
    static int32_t wanted[MERGES][2];
    fur_ids pairs = {0};
    fur_error error = {0};
    make_words(words);
    kit_expect_ok(&error, learn(&error, words, &pairs));
    int count = naive_merges(words, wanted);
    assert_true(count > 100);
    assert_int_equal(pairs.length, 2 * count);
    assert_memory_equal(pairs.data, wanted, (size_t)count * sizeof wanted[0]);
    fur_ids_clear(&pairs);
}

/* Tokens are texts over the letters a to f; a merge is a pair of tokens. */
static void test_encoding(void **state)
{
    (void)state;
    static naive_word words[WORDS];
    fur_ids pairs = {0}, ids = {0};
    fur_error error = {0};
    fur_vocabulary vocabulary;
    fur_bpe bpe = {.by_bytes = true, .unknown = -1, .vocabulary = &vocabulary};
    make_words(words);
    kit_expect_ok(&error, learn(&error, words, &pairs));
    int64_t merges = pairs.length / 2;
    kit_expect_ok(&error, fur_vocabulary_init(&error, &vocabulary, 256 + merges));
    for (int b = 0; b < 256; b++) {
        bpe.byte_ids[b] = b;
        kit_expect_ok(&error, fur_vocabulary_set(&error, &vocabulary, b, (char[]){(char)b}, 1, true));
    }
    kit_expect_ok(&error, fur_bpe_init(&error, &bpe, merges));
    for (int32_t i = 0; i < merges; i++) {
        char text[256];
        int64_t left_bytes, right_bytes;
        const char *left = fur_vocabulary_text(&vocabulary, pairs.data[2 * i], &left_bytes);
        memcpy(text, left, (size_t)left_bytes);
        const char *right = fur_vocabulary_text(&vocabulary, pairs.data[2 * i + 1], &right_bytes);
        memcpy(text + left_bytes, right, (size_t)right_bytes);
        kit_expect_ok(&error, fur_vocabulary_set(&error, &vocabulary, 256 + i, text, left_bytes + right_bytes, true));
        fur_bpe_add_merge(&bpe, pairs.data[2 * i], pairs.data[2 * i + 1], (uint32_t)i, 256 + i);
    }
    kit_expect_ok(&error, fur_bpe_finish(&error, &bpe));
    for (int length = 1; length < 400; length += 1 + length / 9) {
        char text[400];
        int32_t wanted[400];
        int count = length;
        uint64_t random = (uint64_t)length;
        for (int i = 0; i < length; i++) {
            random = random * 6364136223846793005u + 1442695040888963407u;
            wanted[i] = 'a' + (int32_t)(random >> 60) % 6;
            text[i] = (char)wanted[i];
        }
        for (int32_t merge = 0; merge < merges;
             merge++) { /* a pair that comes later cannot make one that comes before */
            for (int i = 0; i + 1 < count; i++) {
                if (wanted[i] != pairs.data[2 * merge] || wanted[i + 1] != pairs.data[2 * merge + 1])
                    continue;
                wanted[i] = 256 + merge;
                for (int k = i + 1; k + 1 < count; k++)
                    wanted[k] = wanted[k + 1];
                count--;
            }
        }
        ids.length = 0;
        kit_expect_ok(&error, fur_bpe_encode(&error, &bpe, text, length, &ids));
        assert_int_equal(ids.length, count);
        assert_memory_equal(ids.data, wanted, (size_t)count * sizeof *wanted);
    }
    fur_bpe_clear(&bpe);
    fur_vocabulary_clear(&vocabulary);
    fur_ids_clear(&pairs);
    fur_ids_clear(&ids);
}

static struct fur_context context;

static fur_status train_folder(void *user, fur_error *error)
{
    const kit_folder *folder = user;
    const char *paths[1] = {kit_path(folder, "a.txt")};
    fur_corpus_settings settings;
    fur_tokenizer_trained trained;
    fur_corpus_settings_defaults(&settings);
    settings.paths = paths;
    settings.path_count = 1;
    fur_status status = fur_tokenizer_train(&context, &settings, 300, kit_path(folder, "out"), &trained);
    *error = context.error;
    if (status != FUR_OK)
        return status;
    assert_int_equal(trained.vocabulary, 300);
    assert_int_equal(trained.merges, 43);
    return FUR_OK;
}

static void test_files(void **state)
{
    (void)state;
    kit_folder folder;
    fur_error error = {0};
    kit_folder_init(&folder);
    enum { BYTES = 200000 };
    static char text[BYTES];
    uint64_t random = 1;
    for (size_t i = 0; i < sizeof text; i++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        text[i] = "the sea \xff and\n\xe4\xb8\x96"[(random >> 40) % 17];
    }
    kit_write(&folder, "a.txt", text, sizeof text);
    kit_expect_ok(&error, train_folder(&folder, &error));
    fur_tokenizer *tokenizer;
    kit_expect_ok(&context.error, fur_tokenizer_open(&context, kit_path(&folder, "out"), &tokenizer));
    int32_t *ids = calloc(BYTES, sizeof *ids);
    char *back = malloc(sizeof text);
    int64_t count, bytes;
    kit_expect_ok(&context.error,
                  fur_tokenizer_encode(&context, tokenizer, text, sizeof text, ids, sizeof text, &count));
    kit_expect_ok(&context.error,
                  fur_tokenizer_decode(&context, tokenizer, FUR_TOKENS_SPECIAL, ids, count, back, sizeof text, &bytes));
    assert_int_equal(bytes, sizeof text);
    assert_memory_equal(back, text, sizeof text);
    assert_int_equal(fur_tokenizer_find(tokenizer, "<|endoftext|>"), 299);
    free(ids);
    free(back);
    fur_tokenizer_close(tokenizer);
    kit_write(&folder, "a.txt", text, 400);
    assert_true(kit_each_allocation_fails(train_folder, &folder) > 100);
    fur_corpus_settings settings;
    fur_tokenizer_trained trained;
    fur_corpus_settings_defaults(&settings);
    kit_expect(&context.error, fur_tokenizer_train(&context, &settings, 256, "x", &trained), FUR_E_ARGUMENT,
               "a vocabulary of 256 tokens, expected 257");
    kit_folder_clear(&folder);
}

int main(void)
{
    for (int i = 0; i < 256; i++)
        identity[i] = i;
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_merges), cmocka_unit_test(test_encoding),
                                       cmocka_unit_test(test_files)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
