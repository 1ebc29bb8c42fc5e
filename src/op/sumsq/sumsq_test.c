/* SPDX-License-Identifier: Apache-2.0 */
/* sumsq against a sum in long double, within the bound of sumsq.h: at most max(count / 256, 8192) terms go into a
 * chunk, one after the other in the reference, then at most 256 chunks into one. */
#include "kit/kit.h"

#include <math.h>

#include "op/sumsq/sumsq.h"

static const struct {
    int64_t count;
    kit_fill fill;
} cases[] = {
    {0, KIT_NORMAL},    {1, KIT_NORMAL},   {7, KIT_NORMAL},       {8, KIT_TINY},  {15, KIT_HUGE},
    {16, KIT_NORMAL},   {17, KIT_NORMAL},  {31, KIT_NORMAL},      {33, KIT_ZERO}, {257, KIT_NORMAL},
    {8193, KIT_NORMAL}, {50000, KIT_HUGE}, {3000001, KIT_NORMAL},
};

static void test_cases(void **state)
{
    (void)state;
    for (fur_isa isa = FUR_ISA_REF; isa <= kit_best_isa(); isa++) {
        for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
            int64_t n = cases[c].count;
            float *x = kit_guard_filled(n, cases[c].fill, 1);
            long double want = 0;
            double got[3];
            for (int64_t i = 0; i < n; i++)
                want += (long double)x[i] * (long double)x[i];
            for (int threads = 1; threads <= 3; threads++) {
                kit_exec kit;
                kit_exec_init(&kit, isa, threads, FUR_ARENA_ALIGN);
                assert_int_equal(fur_sum_squares(&kit.exec, n, x, &got[threads - 1]), FUR_OK);
                kit_exec_clear(&kit);
            }
            kit_check_same_bits("2 threads", &got[1], &got[0], sizeof got[0]);
            kit_check_same_bits("3 threads", &got[2], &got[0], sizeof got[0]);
            double terms = fmax((double)n / 256, 8192) + 300;
            assert_true(fabsl((long double)got[0] - want) <= (long double)terms * 0x1p-53L * want);
            kit_guard_free_all();
        }
    }
}

static void test_not_finite_shows(void **state)
{
    (void)state;
    for (fur_isa isa = FUR_ISA_REF; isa <= kit_best_isa(); isa++) {
        kit_exec kit;
        kit_exec_init(&kit, isa, 2, FUR_ARENA_ALIGN);
        float *x = kit_guard_filled(20003, KIT_NORMAL, 1);
        double sum;
        x[9000] = -INFINITY;
        assert_int_equal(fur_sum_squares(&kit.exec, 20003, x, &sum), FUR_OK);
        assert_true(isinf(sum) && sum > 0);
        x[20002] = NAN;
        assert_int_equal(fur_sum_squares(&kit.exec, 20003, x, &sum), FUR_OK);
        assert_true(isnan(sum));
        x[9000] = 3e38f;
        x[20002] = 3e38f;
        assert_int_equal(fur_sum_squares(&kit.exec, 20003, x, &sum), FUR_OK);
        assert_true(isfinite(sum) && sum > 1e76);
        assert_int_equal(fur_sum_squares(&kit.exec, -1, x, &sum), FUR_E_SHAPE);
        kit_guard_free_all();
        kit_exec_clear(&kit);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_cases), cmocka_unit_test(test_not_finite_shows)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
