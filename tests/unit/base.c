/* SPDX-License-Identifier: Apache-2.0 */
/* base: checked sizes, the arena, random numbers, error text, the allocator's fault injection. */
#include "kit/kit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/random.h"
#include "base/size.h"

static void test_sizes(void **state)
{
    (void)state;
    int64_t out = 7;
    assert_true(fur_mul_ok(INT64_MAX, 1, &out) && out == INT64_MAX);
    assert_true(fur_mul_ok((int64_t)1 << 31, (int64_t)1 << 31, &out) && out == (int64_t)1 << 62);
    assert_true(fur_mul_ok(INT64_MAX, 0, &out) && out == 0);
    out = 7;
    assert_false(fur_mul_ok((int64_t)1 << 32, (int64_t)1 << 31, &out));
    assert_false(fur_mul_ok(-1, 1, &out));
    assert_false(fur_mul_ok(0, -1, &out));
    assert_false(fur_add_ok(INT64_MAX, 1, &out));
    assert_false(fur_add_ok(-1, 1, &out));
    assert_int_equal(out, 7);
    assert_true(fur_add_ok(INT64_MAX - 1, 1, &out) && out == INT64_MAX);
    assert_int_equal(fur_div_up(0, 5), 0);
    assert_int_equal(fur_div_up(10, 5), 2);
    assert_int_equal(fur_div_up(11, 5), 3);
    assert_int_equal(fur_div_up(INT64_MAX, 2), (int64_t)1 << 62);
    assert_int_equal(fur_round_up(65, 64), 128);
    assert_int_equal(fur_round_up(64, 64), 64);
}

static void test_arena(void **state)
{
    (void)state;
    const int64_t align = FUR_ARENA_ALIGN;
    fur_error error = {0};
    fur_arena arena, counting = fur_arena_counting();
    assert_int_equal(fur_arena_create(&error, 4 * align, &arena), FUR_OK);
    fur_arena *both[2] = {&arena, &counting};
    for (int i = 0; i < 2; i++) {
        fur_arena *a = both[i];
        int64_t mark = fur_arena_mark(a);
        unsigned char *one = fur_arena_push(a, 1), *two = fur_arena_push(a, align + 1);
        assert_int_equal(a->used, 3 * align);
        if (a->base) {
            assert_int_equal((uintptr_t)one % FUR_ARENA_ALIGN, 0);
            assert_ptr_equal(two, one + align);
            memset(one, 1, (size_t)(4 * align));
        } else {
            assert_null(one);
            assert_null(two);
        }
        fur_arena_release(a, mark);
        assert_int_equal(a->used, 0);
        assert_int_equal(a->peak, 3 * align);
        assert_int_equal(a->failed, 0);
    }
    /* one piece may fill it to the last byte; nothing fits behind; a failed push takes nothing */
    assert_non_null(fur_arena_push(&arena, 4 * align));
    assert_int_equal(arena.failed, 0);
    assert_null(fur_arena_push(&arena, 1));
    assert_int_equal(arena.failed, 1);
    assert_int_equal(arena.used, 4 * align);
    arena.failed = 0;
    assert_null(fur_arena_push(&arena, -1));
    assert_int_equal(arena.failed, 1);
    assert_null(fur_arena_push(&counting, INT64_MAX));
    assert_int_equal(counting.failed, 1);
    fur_arena_destroy(&arena);
    assert_null(arena.base);
}

static void test_arena_refused(void **state)
{
    (void)state;
    fur_error error = {0};
    fur_arena arena;
    int64_t live = fur_alloc_live();
    fur_alloc_fail_at(1);
    assert_int_equal(fur_arena_create(&error, 1000, &arena), FUR_E_MEMORY);
    assert_non_null(strstr(error.text, "1000 bytes"));
    assert_int_equal(fur_arena_create(&error, -1, &arena), FUR_E_INTERNAL);
    fur_arena_destroy(&arena); /* of one that was refused: nothing */
    assert_int_equal(fur_alloc_live(), live);
}

/* The known answers of philox4x32-10 in kat_vectors of the authors' library, Random123. */
static void test_philox(void **state)
{
    (void)state;
    static const struct {
        uint64_t counter, stream, seed;
        uint32_t words[4];
    } known[] = {
        {0, 0, 0, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {UINT64_MAX, UINT64_MAX, UINT64_MAX, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {0x85a308d3243f6a88, 0x0370734413198a2e, 0x299f31d0a4093822, {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        uint32_t words[4];
        fur_random_words(known[i].seed, known[i].stream, known[i].counter, words);
        kit_check_same_bits("philox", words, known[i].words, sizeof words);
        assert_true(fur_random_u64(known[i].seed, known[i].stream, known[i].counter) ==
                    ((uint64_t)words[0] << 32 | words[1]));
    }
}

/* Mean and variance of n draws within 5 standard deviations of what they estimate; a fixed seed, so that it holds
 * always or never. */
static void test_random_moments(void **state)
{
    (void)state;
    enum { N = 200000 };
    double mean = 0, square = 0, least = 1, greatest = 0;
    for (uint64_t i = 0; i < N; i++) {
        double x = fur_random_uniform(5, 6, i);
        assert_true(x >= 0 && x < 1);
        mean += x / N;
        least = fmin(least, x);
        greatest = fmax(greatest, x);
    }
    assert_true(fabs(mean - 0.5) < 5 * sqrt(1.0 / 12 / N));
    assert_true(least < 1e-4 && greatest > 1 - 1e-4);
    float *x = malloc(N * sizeof *x), first[5];
    assert_non_null(x);
    fur_random_normal(5, 7, 3, x, N);
    mean = 0;
    for (int i = 0; i < N; i++) {
        assert_true(isfinite(x[i]));
        mean += (double)x[i] / N;
        square += (double)x[i] * (double)x[i] / N;
    }
    assert_true(fabs(mean) < 5 * 3 / sqrt(N));
    assert_true(fabs(square - 9) < 5 * 9 * sqrt(2.0 / N));
    fur_random_normal(5, 7, 3, first, 5);
    kit_check_same_bits("a shorter draw", first, x, sizeof first);
    free(x);
}

static void test_error_text(void **state)
{
    (void)state;
    fur_error error = {0};
    assert_int_equal(fur_error_set(&error, FUR_E_FORMAT, "file \"%s\", byte %d", "a\nb\x7f\xc3\xa9", 12), FUR_E_FORMAT);
    assert_int_equal(error.status, FUR_E_FORMAT);
    assert_string_equal(error.text, "file \"a?b?\xc3\xa9\", byte 12");
    assert_int_equal(fur_error_prefix(&error, "layer %d", 3), FUR_E_FORMAT);
    assert_string_equal(error.text, "layer 3: file \"a?b?\xc3\xa9\", byte 12");
    char text[2000];
    memset(text, 'x', sizeof text);
    text[sizeof text - 1] = 0;
    assert_int_equal(fur_error_set(&error, FUR_E_IO, "%s", text), FUR_E_IO);
    assert_int_equal(strlen(error.text), sizeof error.text - 1);
    /* the present text as an argument of the next */
    fur_error_set(&error, FUR_E_IO, "inner");
    fur_error_set(&error, FUR_E_IO, "outer (%s)", error.text);
    assert_string_equal(error.text, "outer (inner)");
    assert_int_equal(fur_error_set(NULL, FUR_E_SHAPE, "nobody asks"), FUR_E_SHAPE);
}

static void test_status_names(void **state)
{
    (void)state;
    assert_string_equal(fur_status_name(FUR_OK), "ok");
    assert_string_equal(fur_status_name(FUR_E_DOES_NOT_FIT), "does not fit");
    assert_string_equal(fur_status_name(FUR_E_INTERNAL), "internal error");
    assert_string_equal(fur_status_name((fur_status)(FUR_E_INTERNAL + 1)), "unknown status");
    for (int i = FUR_OK; i <= FUR_E_INTERNAL; i++)
        for (int j = FUR_OK; j < i; j++)
            assert_string_not_equal(fur_status_name((fur_status)i), fur_status_name((fur_status)j));
}

static void test_allocator(void **state)
{
    (void)state;
    int64_t live = fur_alloc_live();
    char *text = fur_strdup("furlong");
    int *zeros = fur_calloc(3, sizeof *zeros);
    void *nothing = fur_malloc(0);
    assert_non_null(text);
    assert_non_null(zeros);
    assert_non_null(nothing);
    assert_string_equal(text, "furlong");
    kit_check_same_bits("zeros", zeros, (int[3]){0}, 3 * sizeof *zeros);
    assert_int_equal(fur_alloc_live(), live + 3);
    text = fur_realloc(text, 100);
    assert_non_null(text);
    assert_string_equal(text, "furlong");
    assert_int_equal(fur_alloc_live(), live + 3);
    fur_free(text);
    fur_free(zeros);
    fur_free(nothing);
    fur_free(NULL);
    assert_int_equal(fur_alloc_live(), live);

    fur_alloc_fail_at(2);
    void *first = fur_malloc(1), *second = fur_malloc(1), *third = fur_malloc(1);
    assert_true(first && !second && third);
    fur_alloc_fail_at(1);
    fur_alloc_fail_at(0);
    assert_non_null(second = fur_malloc(1));
    fur_alloc_fail_at(1);
    assert_null(fur_realloc(first, 10)); /* and first stays the caller's */
    fur_free(first);
    fur_free(second);
    fur_free(third);
    assert_int_equal(fur_alloc_live(), live);

    unsigned char *pages = fur_pages_map(10000);
    assert_non_null(pages);
    assert_true(pages[0] == 0 && pages[9999] == 0);
    assert_int_equal(fur_alloc_live(), live + 1);
    fur_pages_unmap(pages, 10000);
    fur_pages_unmap(NULL, 5);
    assert_int_equal(fur_alloc_live(), live);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes),          cmocka_unit_test(test_arena),      cmocka_unit_test(test_arena_refused),
        cmocka_unit_test(test_philox),         cmocka_unit_test(test_error_text), cmocka_unit_test(test_status_names),
        cmocka_unit_test(test_random_moments), cmocka_unit_test(test_allocator),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
