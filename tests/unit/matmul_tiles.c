/* SPDX-License-Identifier: Apache-2.0 */
/* The AMX kernel of bf16 products on tiles in plain C (tests/tiles), against the reference with double sums; bound as
 * in op/matmul/matmul.h. 77: this machine has no AVX2, with which the operands are packed. */
#include "kit/kit.h"

#include <math.h>
#include <string.h>

#include "base/bf16.h"
#include "op/matmul/matmul.h"

fur_status tiles_matmul(const fur_exec *exec, const fur_matmul_args *args);
int64_t tiles_matmul_workspace(const fur_exec *exec);

#if FUR_HAVE_AVX2
static void test_products_of_tiles(void **state)
{
    (void)state;
    static const int64_t sizes[][3] = {{1, 1, 1},    {16, 17, 31},   {33, 65, 64},  {129, 130, 257},
                                       {1, 200, 96}, {100, 70, 500}, {64, 64, 5000}};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        for (int mode = 0; mode < 12; mode++) {
            int64_t m = sizes[i][0], n = sizes[i][1], k = sizes[i][2];
            int ta = mode & 1, tb = mode >> 1 & 1, accumulate = mode >> 2 & 1, bias = mode >> 3 & 1 && !accumulate;
            float *a = kit_guard_filled(m * k, KIT_NORMAL, i), *b = kit_guard_filled(n * k, KIT_NORMAL, i + 1);
            float *c = kit_guard_filled(m * n, KIT_NORMAL, i + 2), *want = kit_guard_copy(c, m * n);
            float *bias_N = kit_guard_filled(n, KIT_NORMAL, i + 3);
            fur_matmul_args args = {.m = m,
                                    .n = n,
                                    .k = k,
                                    .a = a,
                                    .lda = ta ? m : k,
                                    .a_transposed = ta,
                                    .b = b,
                                    .ldb = tb ? k : n,
                                    .b_transposed = tb,
                                    .c = c,
                                    .ldc = n,
                                    .accumulate = accumulate,
                                    .bias_N = bias ? bias_N : NULL};
            kit_exec kit;
            kit_exec_init(&kit, FUR_ISA_AMX, 2, tiles_matmul_workspace(NULL));
            kit.exec.compute = FUR_COMPUTE_BF16;
            assert_int_equal(tiles_matmul(&kit.exec, &args), FUR_OK);
            args.c = want;
            fur_matmul_bf16_ref(&args);
            for (int64_t at = 0; at < m * n; at++) {
                double terms = fabs((double)want[at]) + 2;
                for (int64_t p = 0; p < k; p++)
                    terms += fabs((double)fur_bf16_round(a[ta ? p * m + at / n : at / n * k + p]) *
                                  (double)fur_bf16_round(b[tb ? at % n * k + p : p * n + at % n]));
                assert_true(fabs((double)c[at] - (double)want[at]) <= (double)(k + 10) * KIT_U * terms);
            }
            kit_exec_clear(&kit);
            kit_guard_free_all();
        }
}

int main(void)
{
    if (kit_best_isa() < FUR_ISA_AVX2)
        return 77;
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_products_of_tiles)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
#else
int main(void)
{
    return 77;
}
#endif
