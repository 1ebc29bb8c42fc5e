/* SPDX-License-Identifier: Apache-2.0 */
/* softcap against its formula in double, within the bound of softcap.h, and the same bits for any number of threads. */
#include "kit/kit.h"

#include <math.h>
#include <string.h>

#include "op/softcap/softcap.h"

static const int64_t sizes[] = {0, 1, 7, 8, 15, 16, 17, 31, 33, 257, 30001};

static void check(int64_t n, float cap, fur_isa isa)
{
    float *x = kit_guard_filled(n, KIT_NORMAL, 1), *first = NULL;
    for (int64_t i = 0; i < n; i++)
        x[i] *= i % 3 == 0 ? 1e-3f * cap : i % 3 == 1 ? cap : 30 * cap; /* where it is x, where it bends, and flat */
    for (int threads = 1; threads <= 3; threads++) {
        kit_exec kit;
        kit_exec_init(&kit, isa, threads, FUR_ARENA_ALIGN);
        float *y = kit_guard_copy(x, n);
        assert_int_equal(fur_softcap(&kit.exec, n, cap, y), FUR_OK);
        for (int64_t i = 0; i < n; i++) {
            double want = (double)cap * tanh((double)x[i] / (double)cap);
            if (!(fabs((double)y[i] - want) <= 14 * KIT_U * fabs(want)))
                fail_msg("element %lld: %.9g, wanted %.9g", (long long)i, (double)y[i], want);
        }
        first = first ? first : y;
        kit_check_same_bits("threads", y, first, (size_t)n * sizeof *y);
        kit_exec_clear(&kit);
    }
    kit_guard_free_all();
}

static void test_cases(void **state)
{
    (void)state;
    for (fur_isa isa = FUR_ISA_REF; isa <= kit_best_isa(); isa++)
        for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
            check(sizes[s], 30, isa);
            check(sizes[s], 0.7f, isa);
        }
}

static void test_special_values(void **state)
{
    (void)state;
    for (fur_isa isa = FUR_ISA_REF; isa <= kit_best_isa(); isa++) {
        kit_exec kit;
        kit_exec_init(&kit, isa, 1, FUR_ARENA_ALIGN);
        float x[5] = {0, INFINITY, -INFINITY, 3e38f, NAN};
        assert_int_equal(fur_softcap(&kit.exec, 5, 30, x), FUR_OK);
        assert_true(x[0] == 0 && x[1] == 30 && x[2] == -30 && x[3] == 30 && isnan(x[4]));
        kit_exec_clear(&kit);
    }
}

static void test_refused(void **state)
{
    (void)state;
    float x[1] = {0};
    kit_exec kit;
    kit_exec_init(&kit, FUR_ISA_REF, 1, FUR_ARENA_ALIGN);
    assert_int_equal(fur_softcap(&kit.exec, -1, 1, x), FUR_E_SHAPE);
    assert_int_equal(fur_softcap(&kit.exec, 1, 0, x), FUR_E_SHAPE);
    assert_string_equal(kit.error.text, "softcap of 1 elements at 0");
    assert_int_equal(fur_softcap(&kit.exec, 1, NAN, x), FUR_E_SHAPE);
    kit_exec_clear(&kit);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_cases), cmocka_unit_test(test_special_values),
                                       cmocka_unit_test(test_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
