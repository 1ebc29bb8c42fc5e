/* SPDX-License-Identifier: Apache-2.0 */
/* rowexp against exp in long double.
 *
 * Bounds, u the unit round-off (2^-24, 2^-53). s - shift is rounded once: for differences d down to -700 (f64) and -80
 * (f32) that moves exp by |d| u relatively; exp itself may be off by 4 u (2 units in the last place), the product with
 * x - c by 2 u more, c's subtraction included since x - c is rounded relatively. A sum of n terms over L partial sums
 * is off by (n / L + L) u times the sum of the absolute terms. */
#include "kit/kit.h"

#include <math.h>
#include <string.h>

#include "op/rowexp/rowexp.h"

static const int64_t lengths[] = {0, 1, 7, 8, 9, 15, 16, 17, 31, 33, 64, 127, 1000};
enum { LENGTHS = sizeof lengths / sizeof lengths[0] };

static double spread(int64_t i, double low)
{
    return low * fabs(sin(12.9898 * (double)(i + 1))); /* 0 down to low */
}

static void check_f64(const fur_rowexp *k, int64_t n, double low)
{
    const double u = 0x1p-53, shift = 3.25, c = 0.4;
    double *s = kit_guard((size_t)n * sizeof *s), *x = kit_guard((size_t)n * sizeof *x);
    long double sum = 0, size = 0;
    double most = (double)-INFINITY;
    for (int64_t i = 0; i < n; i++) {
        s[i] = shift + spread(i, low);
        x[i] = cos((double)i);
        most = s[i] > most ? s[i] : most;
    }
    assert_true(n == 0 ? isinf(k->max_f64(n, s)) : k->max_f64(n, s) == most);
    for (int mul = 0; mul < 2; mul++) {
        for (int64_t i = 0; i < n; i++)
            s[i] = shift + spread(i, low);
        sum = size = 0;
        double got = mul ? k->exp_mul_f64(n, s, shift, x, c) : k->exp_f64(n, s, shift);
        for (int64_t i = 0; i < n; i++) {
            long double d = (long double)(shift + spread(i, low)) - (long double)shift;
            long double want = expl(d) * (mul ? (long double)x[i] - (long double)c : 1);
            assert_true(fabsl((long double)s[i] - want) <= (fabsl(d) + 6) * (long double)u * fabsl(want));
            sum += (long double)s[i];
            size += fabsl((long double)s[i]);
        }
        assert_true(fabsl((long double)got - sum) <= (long double)(((double)n / 8 + 8) * u) * size);
    }
    kit_guard_free(s);
    kit_guard_free(x);
}

static void check_f32(const fur_rowexp *k, int64_t n, double low)
{
    const double u = 0x1p-24;
    const float shift = 3.25f, c = 0.4f;
    float *s = kit_guard_f32(n), *x = kit_guard_f32(n);
    double sum, size;
    float most = -INFINITY;
    for (int64_t i = 0; i < n; i++) {
        s[i] = (float)((double)shift + spread(i, low));
        x[i] = (float)cos((double)i);
        most = s[i] > most ? s[i] : most;
    }
    assert_true(n == 0 ? isinf(k->max_f32(n, s)) : k->max_f32(n, s) == most);
    for (int mul = 0; mul < 2; mul++) {
        for (int64_t i = 0; i < n; i++)
            s[i] = (float)((double)shift + spread(i, low));
        sum = size = 0;
        float got = mul ? k->exp_mul_f32(n, s, shift, x, c) : k->exp_f32(n, s, shift);
        for (int64_t i = 0; i < n; i++) {
            double d = (double)(float)((double)shift + spread(i, low)) - (double)shift;
            double want = exp(d) * (mul ? (double)x[i] - (double)c : 1);
            assert_true(fabs((double)s[i] - want) <= (fabs(d) + 6) * u * fabs(want));
            sum += (double)s[i];
            size += fabs((double)s[i]);
        }
        assert_true(fabs((double)got - sum) <= ((double)n / 16 + 16) * u * size);
    }
    kit_guard_free(s);
    kit_guard_free(x);
}

static void test_values(void **state)
{
    (void)state;
    for (int isa = FUR_ISA_REF; isa <= (int)kit_best_isa(); isa++) {
        const fur_rowexp *k = fur_rowexp_of((fur_isa)isa);
        for (int i = 0; i < LENGTHS; i++) {
            check_f64(k, lengths[i], -2);
            check_f64(k, lengths[i], -700);
            check_f32(k, lengths[i], -2);
            check_f32(k, lengths[i], -80);
        }
    }
}

/* Far below: a weight that no sum notices, not garbage; NaN is seen. */
static void test_edges(void **state)
{
    (void)state;
    for (int isa = FUR_ISA_REF; isa <= (int)kit_best_isa(); isa++) {
        const fur_rowexp *k = fur_rowexp_of((fur_isa)isa);
        double s[9] = {0, -1e300, (double)-INFINITY, -709, -1e5, 0, 0, 0, -1e300};
        float t[17] = {0, -1e30f, -INFINITY, -88, [16] = -1e30f};
        double sum = k->exp_f64(9, s, 0);
        float sum_f32 = k->exp_f32(17, t, 0);
        assert_true(sum == 4.0 && sum_f32 == 13.0f);
        for (int i = 1; i < 5; i++)
            assert_true(s[i] >= 0 && s[i] < 1e-300 && t[i < 4 ? i : 16] < 1e-37f && t[i < 4 ? i : 16] >= 0);
        for (int at = 0; at < 9; at++) {
            double bad[9] = {0}, x[9] = {0};
            float bad_f32[9] = {0}, x_f32[9] = {0};
            bad[at] = (double)NAN;
            bad_f32[at] = NAN;
            assert_true(isnan(k->exp_f64(9, bad, 0)) && isnan(k->exp_f32(9, bad_f32, 0)));
            memset(bad, 0, sizeof bad);
            memset(bad_f32, 0, sizeof bad_f32);
            x[at] = (double)NAN;
            x_f32[at] = NAN;
            assert_true(isnan(k->exp_mul_f64(9, bad, 0, x, 0)) && isnan(k->exp_mul_f32(9, bad_f32, 0, x_f32, 0)));
        }
    }
}

/* Every vector variant has the same bits. */
static void test_bits(void **state)
{
    (void)state;
    enum { N = 143 };
    double first[N], s[N];
    float first_f32[N], t[N];
    for (int isa = FUR_ISA_AVX2; isa <= (int)kit_best_isa(); isa++) {
        const fur_rowexp *k = fur_rowexp_of((fur_isa)isa);
        for (int i = 0; i < N; i++)
            t[i] = (float)(s[i] = spread(i, -40));
        s[0] = k->exp_f64(N - 1, s + 1, 0.5);
        t[0] = k->exp_f32(N - 1, t + 1, 0.5f);
        if (isa == FUR_ISA_AVX2) {
            memcpy(first, s, sizeof s);
            memcpy(first_f32, t, sizeof t);
        }
        kit_check_same_bits("f64", first, s, sizeof s);
        kit_check_same_bits("f32", first_f32, t, sizeof t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_values), cmocka_unit_test(test_edges),
                                       cmocka_unit_test(test_bits)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
