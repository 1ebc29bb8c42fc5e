/* SPDX-License-Identifier: Apache-2.0 */
/* bias against its formula in double, within the bounds of bias.h. The gradient is the formula's, which is linear: a
 * difference quotient of it would be the same sum. */
#include "kit/kit.h"

#include <math.h>
#include <stdlib.h>

#include "op/bias/bias.h"

static const struct {
    int64_t T, F;
} cases[] = {{1, 1},  {2, 7},   {3, 8},   {4, 15},  {5, 16},  {6, 17},   {7, 31},
             {8, 33}, {9, 257}, {63, 20}, {64, 64}, {65, 40}, {300, 48}, {5000, 19}};

static void check_case(int64_t T, int64_t F, fur_isa isa)
{
    int64_t n = T * F;
    float *b = kit_guard_filled(F, KIT_NORMAL, 1), *y_old = kit_guard_filled(n, KIT_NORMAL, 2);
    float *db_old = kit_guard_filled(F, KIT_NORMAL, 3), *y1 = NULL, *db1 = NULL;
    for (int threads = 1; threads <= 3; threads++) {
        kit_exec kit;
        kit_exec_init(&kit, isa, threads, fur_bias_workspace(NULL, T, F) + FUR_ARENA_ALIGN);
        float *y = kit_guard_copy(y_old, n), *db = kit_guard_copy(db_old, F);
        assert_int_equal(fur_bias_add(&kit.exec, T, F, b, y), FUR_OK);
        assert_int_equal(fur_bias_backward(&kit.exec, T, F, y_old, db), FUR_OK);
        assert_int_equal(kit.workspace.used, 0);
        assert_int_equal(kit.workspace.peak, fur_bias_workspace(&kit.exec, T, F));
        if (threads == 1) {
            y1 = y;
            db1 = db;
        }
        kit_check_same_bits("y, threads", y, y1, (size_t)n * sizeof *y);
        kit_check_same_bits("db, threads", db, db1, (size_t)F * sizeof *db);
        kit_exec_clear(&kit);
    }
    double *want = calloc((size_t)n, sizeof *want), *bound = calloc((size_t)n, sizeof *bound);
    assert_true(want && bound);
    for (int64_t i = 0; i < n; i++) {
        want[i] = (double)y_old[i] + (double)b[i % F];
        bound[i] = KIT_U * fabs(want[i]);
    }
    kit_check_bound("y", y1, want, bound, 1, n);
    for (int64_t f = 0; f < F; f++) {
        want[f] = (double)db_old[f];
        bound[f] = fabs(want[f]);
        for (int64_t t = 0; t < T; t++) {
            want[f] += (double)y_old[t * F + f];
            bound[f] += fabs((double)y_old[t * F + f]);
        }
        bound[f] *= (double)(T + 2) * KIT_U;
    }
    kit_check_bound("db", db1, want, bound, 1, F);
    free(want);
    free(bound);
    kit_guard_free_all();
}

static void test_cases(void **state)
{
    (void)state;
    for (fur_isa isa = FUR_ISA_REF; isa <= kit_best_isa(); isa++)
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
            check_case(cases[i].T, cases[i].F, isa);
}

static void test_refused(void **state)
{
    (void)state;
    float x[4] = {0};
    kit_exec kit;
    kit_exec_init(&kit, FUR_ISA_REF, 1, 64);
    assert_int_equal(fur_bias_add(&kit.exec, -1, 4, x, x), FUR_E_SHAPE);
    assert_int_equal(fur_bias_backward(&kit.exec, 1, 0, x, x), FUR_E_SHAPE);
    assert_string_equal(kit.error.text, "bias over 1 rows of 0 columns");
    assert_int_equal(fur_bias_backward(&kit.exec, 1000, 4, x, x), FUR_E_MEMORY);
    assert_int_equal(fur_bias_backward(&kit.exec, 0, 4, x, x), FUR_OK);
    kit_exec_clear(&kit);
}

/* What is planned for many rows serves fewer, which are cut into more chunks at some sizes. */
static void test_workspace_grows(void **state)
{
    (void)state;
    int64_t before = 0;
    for (int64_t T = 0; T < 9000; T++) {
        int64_t bytes = fur_bias_workspace(NULL, T, 8);
        assert_true(bytes >= before);
        before = bytes;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_cases), cmocka_unit_test(test_refused),
                                       cmocka_unit_test(test_workspace_grows)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
