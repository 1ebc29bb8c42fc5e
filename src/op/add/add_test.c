/* SPDX-License-Identifier: Apache-2.0 */
/* add: exactly the rounded sum, on every instruction set and any number of threads. */
#include "kit/kit.h"

#include "op/add/add.h"

static const int64_t sizes[] = {0, 1, 7, 8, 15, 16, 17, 31, 33, 257, 30001};

static void test_cases(void **state)
{
    (void)state;
    for (fur_isa isa = FUR_ISA_REF; isa <= kit_best_isa(); isa++) {
        for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
            int64_t n = sizes[s];
            float *x = kit_guard_filled(n, KIT_NORMAL, 1), *old = kit_guard_filled(n, KIT_NORMAL, 2);
            for (int threads = 1; threads <= 3; threads++) {
                kit_exec kit;
                kit_exec_init(&kit, isa, threads, FUR_ARENA_ALIGN);
                float *y = kit_guard_copy(old, n);
                assert_int_equal(fur_add(&kit.exec, n, x, y), FUR_OK);
                for (int64_t i = 0; i < n; i++)
                    assert_true(y[i] == old[i] + x[i]);
                assert_int_equal(fur_add(&kit.exec, n, y, y), FUR_OK);
                for (int64_t i = 0; i < n; i++)
                    assert_true(y[i] == 2 * (old[i] + x[i]));
                kit_exec_clear(&kit);
            }
            kit_guard_free_all();
        }
    }
}

static void test_refused(void **state)
{
    (void)state;
    float x[1] = {0};
    kit_exec kit;
    kit_exec_init(&kit, FUR_ISA_REF, 1, FUR_ARENA_ALIGN);
    assert_int_equal(fur_add(&kit.exec, -1, x, x), FUR_E_SHAPE);
    assert_string_equal(kit.error.text, "add of -1 elements");
    kit_exec_clear(&kit);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_cases), cmocka_unit_test(test_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
