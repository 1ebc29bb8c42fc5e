/* SPDX-License-Identifier: Apache-2.0 */
/* embed: forward is a copy; backward is the sum in token order, rounded after every addition, which leaves no freedom:
 * the same bits on every instruction set. The gradient is the formula's, which is linear. */
#include "kit/kit.h"

#include "base/random.h"
#include "op/embed/embed.h"

static const struct {
    int64_t T, C, V;
} cases[] = {{0, 4, 3},   {1, 1, 1},    {5, 7, 3},   {9, 8, 20},  {3, 15, 2},    {17, 16, 5},
             {20, 17, 4}, {33, 31, 50}, {12, 33, 6}, {8, 257, 3}, {300, 100, 40}};
enum { CASES = sizeof cases / sizeof cases[0] };

static void check_case(size_t at, fur_isa isa)
{
    int64_t T = cases[at].T, C = cases[at].C, V = cases[at].V;
    float *w = kit_guard_filled(V * C, KIT_NORMAL, 1), *dx = kit_guard_filled(T * C, KIT_NORMAL, 2);
    float *want = kit_guard_copy(w, V * C);
    int32_t *ids = kit_guard((size_t)T * sizeof *ids);
    for (int64_t t = 0; t < T; t++) {
        ids[t] = (int32_t)(fur_random_u64(3, 0, (uint64_t)t) % (uint64_t)V);
        for (int64_t c = 0; c < C; c++)
            want[ids[t] * C + c] += dx[t * C + c];
    }
    for (int threads = 1; threads <= 3; threads++) {
        kit_exec kit;
        kit_exec_init(&kit, isa, threads, FUR_ARENA_ALIGN);
        float *x = kit_guard_f32(T * C), *dw = kit_guard_copy(w, V * C);
        assert_int_equal(fur_embed_forward(&kit.exec, T, C, V, ids, w, x), FUR_OK);
        for (int64_t i = 0; i < T * C; i++)
            assert_true(x[i] == w[ids[i / C] * C + i % C]);
        assert_int_equal(fur_embed_backward(&kit.exec, T, C, V, ids, dx, dw), FUR_OK);
        kit_check_same_bits("dw", dw, want, (size_t)(V * C) * sizeof *dw);
        kit_exec_clear(&kit);
    }
    kit_guard_free_all();
}

static void test_cases(void **state)
{
    (void)state;
    for (fur_isa isa = FUR_ISA_REF; isa <= kit_best_isa(); isa++)
        for (size_t i = 0; i < CASES; i++)
            check_case(i, isa);
}

static void test_refused(void **state)
{
    (void)state;
    float w[6] = {1, 2, 3, 4, 5, 6}, x[4] = {9, 9, 9, 9};
    int32_t high[2] = {2, 3}, negative[2] = {0, -1};
    kit_exec kit;
    kit_exec_init(&kit, FUR_ISA_REF, 1, FUR_ARENA_ALIGN);
    assert_int_equal(fur_embed_forward(&kit.exec, 2, -1, 3, high, w, x), FUR_E_SHAPE);
    assert_int_equal(fur_embed_backward(&kit.exec, 2, 2, 3, negative, x, w), FUR_E_ARGUMENT);
    assert_string_equal(kit.error.text, "token id -1 at position 1 is outside the vocabulary of 3");
    assert_int_equal(fur_embed_forward(&kit.exec, 2, 2, 3, high, w, x), FUR_E_ARGUMENT);
    assert_string_equal(kit.error.text, "token id 3 at position 1 is outside the vocabulary of 3");
    for (int i = 0; i < 4; i++)
        assert_true(x[i] == 9);
    for (int i = 0; i < 6; i++)
        assert_true(w[i] == (float)(i + 1));
    kit_exec_clear(&kit);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_cases), cmocka_unit_test(test_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
