/* SPDX-License-Identifier: Apache-2.0 */
/* Every shape, transposition, stride and mode against a double sum. Bound per element: an f32 sum of K products in any
 * order errs by at most (K + 8) u sum |a b| to first order (one rounding per fused step, a few for bias, C and store).
 */
#include "kit/kit.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bf16.h"
#include "op/matmul/matmul.h"

typedef struct product_case {
    int64_t m, n, k;
} product_case;

static const product_case cases[] = {
    {1, 1, 1},     {1, 7, 5},      {7, 8, 15},     {16, 17, 31}, {33, 65, 64},   {129, 130, 257}, {1, 768, 256},
    {512, 96, 64}, {200, 700, 40}, {64, 64, 5000}, {5, 3, 0},    {600, 530, 70}, {70, 40, 4097},
};

static double operand(float x, fur_compute compute)
{
    return (double)(compute == FUR_COMPUTE_BF16 ? fur_bf16_round(x) : x);
}

static void run_case(const product_case *s, int mode, fur_isa isa, fur_compute compute, uint64_t seed)
{
    int ta = mode & 1, tb = mode >> 1 & 1, accumulate = mode >> 2 & 1, bias = mode >> 3 & 1 && !accumulate;
    int64_t lda = (ta ? s->m : s->k) + 3, ldb = (tb ? s->k : s->n) + 1, ldc = s->n + 2;
    int64_t a_count = (ta ? s->k : s->m) * lda, b_count = (tb ? s->n : s->k) * ldb, c_count = s->m * ldc;
    float *a = kit_guard_f32(a_count), *b = kit_guard_f32(b_count), *c = kit_guard_f32(c_count);
    float *start = kit_guard_f32(c_count), *again = kit_guard_f32(c_count), *bias_N = kit_guard_f32(s->n);
    double *want = calloc((size_t)c_count + 1, sizeof *want), *bound = calloc((size_t)c_count + 1, sizeof *bound);
    kit_fill_f32(a, a_count, KIT_NORMAL, seed);
    kit_fill_f32(b, b_count, KIT_NORMAL, seed + 1);
    kit_fill_f32(start, c_count, KIT_NORMAL, seed + 2);
    kit_fill_f32(bias_N, s->n, KIT_NORMAL, seed + 3);
    for (int64_t i = 0; i < s->m; i++)
        for (int64_t j = 0; j < ldc; j++) {
            int64_t at = i * ldc + j;
            want[at] = (double)start[at]; /* outside [m, n]: must stay */
            if (j >= s->n)
                continue;
            double sum = (accumulate ? (double)start[at] : 0) + (bias ? (double)bias_N[j] : 0), size = fabs(sum);
            for (int64_t k = 0; k < s->k; k++) {
                double p = operand(a[ta ? k * lda + i : i * lda + k], compute) *
                           operand(b[tb ? j * ldb + k : k * ldb + j], compute);
                sum += p;
                size += fabs(p);
            }
            want[at] = sum;
            bound[at] = (double)(s->k + 8) * KIT_U * size;
        }
    fur_matmul_args args = {.m = s->m,
                            .n = s->n,
                            .k = s->k,
                            .a = a,
                            .lda = lda,
                            .a_transposed = ta,
                            .b = b,
                            .ldb = ldb,
                            .b_transposed = tb,
                            .ldc = ldc,
                            .accumulate = accumulate,
                            .bias_N = bias ? bias_N : NULL};
    char what[96];
    snprintf(what, sizeof what, "isa %d%s [%d,%d,%d] mode %d", (int)isa, compute ? " bf16" : "", (int)s->m, (int)s->n,
             (int)s->k, mode);
    for (int threads = 1; threads <= 3; threads++) {
        kit_exec kit;
        kit_exec_init(&kit, isa, threads, 32 << 20);
        kit.exec.compute = compute;
        args.c = threads == 1 ? c : again;
        memcpy(args.c, start, (size_t)c_count * sizeof(float));
        if (fur_matmul(&kit.exec, &args) != FUR_OK)
            fail_msg("%s: %s", what, kit.error.text);
        assert_true(kit.workspace.used == 0 && kit.workspace.peak <= fur_matmul_workspace(&kit.exec));
        if (threads == 1)
            kit_check_bound(what, c, want, bound, 1, c_count);
        else
            kit_check_same_bits(what, c, again, (size_t)c_count * sizeof(float));
        kit_exec_clear(&kit);
    }
    kit_guard_free(a), kit_guard_free(b), kit_guard_free(c), kit_guard_free(start), kit_guard_free(again);
    kit_guard_free(bias_N);
    free(want), free(bound);
}

static void test_against_double_sum(void **state)
{
    (void)state;
    fur_error error = {0};
    assert_int_equal(fur_matmul_limit_isa(&error, kit_best_isa()), FUR_OK);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        for (int mode = 0; mode < 12; mode++) {
            run_case(&cases[i], mode, FUR_ISA_REF, FUR_COMPUTE_F32, i * 100 + (size_t)mode);
            if (kit_best_isa() > FUR_ISA_REF)
                run_case(&cases[i], mode, kit_best_isa(), FUR_COMPUTE_F32, i * 100 + (size_t)mode);
        }
}

/* Every variant of the bf16 products, against the double sum of rounded operands. */
static void test_bf16_against_double_sum(void **state)
{
    (void)state;
    for (int isa = 0; isa <= (int)kit_best_isa(); isa++)
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
            for (int mode = 0; mode < 12; mode++)
                run_case(&cases[i], mode, (fur_isa)isa, FUR_COMPUTE_BF16, i * 100 + (size_t)mode);
}

/* bf16: an element's bits are those of its row and column, whatever is computed beside it. */
static void test_bf16_bits_do_not_depend_on_the_shape(void **state)
{
    (void)state;
    enum { M = 131, N = 150, K = 700 };
    float *a = kit_guard_filled((int64_t)M * K, KIT_NORMAL, 1), *b = kit_guard_filled((int64_t)N * K, KIT_NORMAL, 2);
    float *whole = kit_guard_f32((int64_t)M * N), *one = kit_guard_f32(1);
    for (int isa = 1; isa <= (int)kit_best_isa(); isa++) {
        kit_exec kit;
        kit_exec_init(&kit, (fur_isa)isa, 2, 32 << 20);
        kit.exec.compute = FUR_COMPUTE_BF16;
        fur_matmul_args args = {
            .m = M, .n = N, .k = K, .a = a, .lda = K, .b = b, .ldb = K, .b_transposed = 1, .c = whole, .ldc = N};
        assert_int_equal(fur_matmul(&kit.exec, &args), FUR_OK);
        for (int64_t at = 0; at < (int64_t)M * N; at += 997) {
            fur_matmul_args alone = args;
            alone.m = alone.n = 1;
            alone.a += at / N * K;
            alone.b += at % N * K;
            alone.c = one;
            assert_int_equal(fur_matmul(&kit.exec, &alone), FUR_OK);
            kit_check_same_bits("one element", one, whole + at, sizeof *one);
        }
        kit_exec_clear(&kit);
    }
    kit_guard_free_all();
}

static void test_refuses_bad_strides(void **state)
{
    (void)state;
    kit_exec kit;
    kit_exec_init(&kit, FUR_ISA_REF, 1, 4096);
    float x[16] = {0};
    fur_matmul_args args = {.m = 2, .n = 2, .k = 4, .a = x, .lda = 3, .b = x, .ldb = 2, .c = x, .ldc = 2};
    assert_int_equal(fur_matmul(&kit.exec, &args), FUR_E_SHAPE);
    assert_non_null(strstr(kit.error.text, "A ld 3"));
    kit_exec_clear(&kit);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_double_sum),
        cmocka_unit_test(test_bf16_against_double_sum),
        cmocka_unit_test(test_bf16_bits_do_not_depend_on_the_shape),
        cmocka_unit_test(test_refuses_bad_strides),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    fur_matmul_cache_clear();
    return failed;
}
