/* SPDX-License-Identifier: Apache-2.0 */
/* round: the nearest bf16 by its definition, and the same bits on every instruction set and any number of threads. */
#include "kit/kit.h"

#include <math.h>
#include <string.h>

#include "base/bf16.h"
#include "op/round/round.h"

static const int64_t sizes[] = {0, 1, 7, 8, 15, 16, 17, 31, 33, 257, 30001};

/* Every upper half with lower halves around the tie: the result is one of the two neighbours, and none is nearer. */
static void test_nearest(void **state)
{
    (void)state;
    static const uint32_t lower[] = {0, 1, 0x7fff, 0x8000, 0x8001, 0xffff};
    for (uint32_t upper = 0; upper < 0x10000; upper++)
        for (size_t i = 0; i < sizeof lower / sizeof lower[0]; i++) {
            uint32_t bits = upper << 16 | lower[i];
            float x;
            memcpy(&x, &bits, sizeof x);
            uint16_t got = fur_bf16_of(x);
            if (isnan(x)) {
                assert_true(isnan(fur_bf16_value(got)));
                continue;
            }
            assert_true(got == upper || got == upper + 1);
            uint32_t wanted = lower[i] > 0x8000 || (lower[i] == 0x8000 && upper % 2) ? upper + 1 : upper;
            assert_int_equal(got, wanted);
        }
}

static void test_cases(void **state)
{
    (void)state;
    for (fur_isa isa = FUR_ISA_REF; isa <= kit_best_isa(); isa++) {
        for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
            int64_t n = sizes[s];
            float *x = kit_guard_filled(n, KIT_NORMAL, 1);
            if (n > 17) {
                x[3] = NAN;
                x[9] = -INFINITY;
                x[17] = 3.4e38f;
            }
            for (int threads = 1; threads <= 3; threads++) {
                kit_exec kit;
                kit_exec_init(&kit, isa, threads, FUR_ARENA_ALIGN);
                uint16_t *y = kit_guard((size_t)n * sizeof *y);
                assert_int_equal(fur_round_bf16(&kit.exec, n, x, y), FUR_OK);
                for (int64_t i = 0; i < n; i++)
                    assert_int_equal(y[i], fur_bf16_of(x[i]));
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
    uint16_t y[1];
    kit_exec kit;
    kit_exec_init(&kit, FUR_ISA_REF, 1, FUR_ARENA_ALIGN);
    assert_int_equal(fur_round_bf16(&kit.exec, -1, x, y), FUR_E_SHAPE);
    assert_string_equal(kit.error.text, "round of -1 elements");
    kit_exec_clear(&kit);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_nearest), cmocka_unit_test(test_cases),
                                       cmocka_unit_test(test_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
