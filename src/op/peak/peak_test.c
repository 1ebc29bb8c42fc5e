/* SPDX-License-Identifier: Apache-2.0 */
/* A rate is not right or wrong; but a wider instruction set is not slower, and two threads are not a thousand. */
#include "kit/kit.h"

#include "op/peak/peak.h"

static void test_rates_are_plausible(void **state)
{
    (void)state;
    double last = 0;
    for (int isa = 0; isa <= (int)kit_best_isa(); isa++) {
        kit_exec kit;
        kit_exec_init(&kit, (fur_isa)isa, 1, 4096);
        double gflops;
        assert_int_equal(fur_peak_f32(&kit.exec, &gflops), FUR_OK);
        assert_true(gflops > 0.05 && gflops < 1e4);
        assert_true(gflops > 0.7 * last);
        last = gflops;
        double bf16;
        assert_int_equal(fur_peak_bf16(&kit.exec, &bf16), FUR_OK);
        assert_true(bf16 > 0.7 * gflops && bf16 < 1e5);
        kit_exec_clear(&kit);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_rates_are_plausible)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
