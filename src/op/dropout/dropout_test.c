/* SPDX-License-Identifier: Apache-2.0 */
/* dropout against its definition, to the bit; the share that is left out; cuts and threads. */
#include "kit/kit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "op/dropout/dropout.h"

static void test_definition(void **state)
{
    (void)state;
    static const int64_t widths[] = {1, 3, 4, 7, 16, 33};
    for (int threads = 1; threads <= 3; threads++)
        for (size_t n = 0; n < sizeof widths / sizeof widths[0]; n++) {
            enum { T = 9 };
            int64_t C = widths[n], first = ((int64_t)1 << 33) + 5;
            kit_exec kit;
            kit_exec_init(&kit, FUR_ISA_REF, threads, 64);
            float *x = kit_guard_filled(T * C, KIT_NORMAL, n), *y = kit_guard_copy(x, T * C);
            assert_int_equal(fur_dropout(&kit.exec, T, C, 0.25, 99, first, y), FUR_OK);
            for (int64_t i = 0; i < (int64_t)T * C; i++) {
                uint32_t words[4];
                fur_random_words(99, (uint64_t)(first + i / C), (uint64_t)(i % C) / 4, words);
                float want = words[i % C % 4] < 0x40000000u ? 0 : x[i] * (float)(1 / 0.75);
                assert_true(y[i] == want);
            }
            float *cut = kit_guard_copy(x, T * C); /* rows one by one */
            for (int64_t t = 0; t < T; t++)
                assert_int_equal(fur_dropout(&kit.exec, 1, C, 0.25, 99, first + t, cut + t * C), FUR_OK);
            kit_check_same_bits("rows one by one", cut, y, (size_t)(T * C) * sizeof(float));
            kit_guard_free_all();
            kit_exec_clear(&kit);
        }
}

static void test_share(void **state)
{
    (void)state;
    enum { T = 200, C = 100 };
    static const double rates[] = {0, 0.1, 0.5, 0.99};
    for (size_t n = 0; n < sizeof rates / sizeof rates[0]; n++) {
        kit_exec kit;
        kit_exec_init(&kit, FUR_ISA_REF, 2, 64);
        float *x = kit_guard_f32((int64_t)T * C);
        int64_t gone = 0;
        for (int64_t i = 0; i < (int64_t)T * C; i++)
            x[i] = 1;
        assert_int_equal(fur_dropout(&kit.exec, T, C, rates[n], n, 0, x), FUR_OK);
        for (int64_t i = 0; i < (int64_t)T * C; i++)
            gone += x[i] == 0.0f;
        double mean = rates[n] * T * C, deviation = sqrt(mean * (1 - rates[n]));
        assert_true(fabs((double)gone - mean) <= 5 * deviation);
        kit_guard_free_all();
        kit_exec_clear(&kit);
    }
}

static void test_refused(void **state)
{
    (void)state;
    float x[4] = {0};
    kit_exec kit;
    kit_exec_init(&kit, FUR_ISA_REF, 1, 64);
    assert_int_equal(fur_dropout(&kit.exec, -1, 4, 0.1, 0, 0, x), FUR_E_SHAPE);
    assert_int_equal(fur_dropout(&kit.exec, 1, 0, 0.1, 0, 0, x), FUR_E_SHAPE);
    assert_int_equal(fur_dropout(&kit.exec, 1, 4, 0.1, 0, -1, x), FUR_E_SHAPE);
    assert_int_equal(fur_dropout(&kit.exec, 1, 4, 1.0, 0, 0, x), FUR_E_ARGUMENT);
    assert_int_equal(fur_dropout(&kit.exec, 1, 4, (double)NAN, 0, 0, x), FUR_E_ARGUMENT);
    kit_exec_clear(&kit);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_definition), cmocka_unit_test(test_share),
                                       cmocka_unit_test(test_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
