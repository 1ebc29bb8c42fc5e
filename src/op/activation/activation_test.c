/* SPDX-License-Identifier: Apache-2.0 */
/* The activations against their formulas in double; the formulas' slopes against central differences.
 *
 * Bounds, u = 2^-24. z of gelu is a product of terms of one sign: relative error 4 u (0 for swiglu, where z = gate).
 * e^-z then has relative error r = (4 |z| + 2 + 1) u, s = 1 / (1 + e^-z) has (1 - s) r + 2 u, and 1 - s the absolute
 * error s (1 - s) r + 2 s u + u. The rest follows term by term. Where e^-z overflows, s is 0 instead of at most 2^-127.
 */
#include "kit/kit.h"

#include <math.h>
#include <string.h>

#include "op/activation/activation.h"

#define TINY 1.1754943508222875e-38 /* 2^-126 */

typedef struct value {
    double g, slope, g_bound, slope_bound; /* of u s(z) and its derivative */
} value;

static double z_of(double x, int gelu)
{
    return gelu ? 2 * sqrt(2 / acos(-1.0)) * (x + 0.044715 * x * x * x) : x;
}

static double function(double x, int gelu)
{
    return x / (1 + exp(-z_of(x, gelu)));
}

static value value_of(double x, int gelu)
{
    double u = KIT_U, z = z_of(x, gelu), e = exp(-z), s = 1 / (1 + e), rest = isinf(e) ? 1 : e / (1 + e);
    double dz = gelu ? 2 * sqrt(2 / acos(-1.0)) * (1 + 3 * 0.044715 * x * x) : 1;
    double r = ((gelu ? 4 * fabs(z) : 0) + 3) * u, s_error = rest * r + 2 * u;
    value v = {.g = x * s};
    v.g_bound = fabs(v.g) * (s_error + u) + TINY * (fabs(x) + 1);
    v.slope = s + (s == 0 ? 0 : v.g * rest * dz);
    v.slope_bound = s * s_error + 2 * u * fabs(v.slope) + TINY * (fabs(x) + 1) * (fabs(x) + 1) * (fabs(x) + 1);
    if (s != 0)
        v.slope_bound += fabs(v.g) * dz * (rest * (s_error + 5 * u) + s * rest * r + 2 * s * u + u);
    return v;
}

static void test_slopes_are_differences(void **state)
{
    (void)state;
    for (int gelu = 0; gelu < 2; gelu++) {
        for (int i = -192; i <= 192; i++) {
            double x = i / 16.0, h = 1e-3, got = value_of(x, gelu).slope;
            double want = (function(x - 2 * h, gelu) - 8 * function(x - h, gelu) + 8 * function(x + h, gelu) -
                           function(x + 2 * h, gelu)) /
                          (12 * h);
            /* fifth derivatives are below 30: truncation h^4 / 30 * 30; rounding 2^-53 |x| 18 / (12 h) */
            assert_true(fabs(got - want) < 1e-12 + 2e-13 * (1 + fabs(x)));
        }
    }
}

static const int64_t sizes[] = {0, 1, 7, 8, 9, 15, 16, 17, 31, 33, 257, 20000};
enum { SIZES = sizeof sizes / sizeof sizes[0] };

/* Normal values times 4 (both tails of the functions), with some far out. */
static float *inputs(int64_t count, uint64_t seed)
{
    static const float far[] = {-1e30f, -100.0f, -88.8f, -20.0f, -13.0f, -0.0f, 1e-30f, 12.0f, 40.0f, 90.0f, 1e30f};
    float *x = kit_guard_filled(count, KIT_NORMAL, seed);
    for (int64_t i = 0; i < count; i++)
        x[i] *= 4;
    for (int64_t i = 0; i < 11 && count > 200; i++)
        x[17 * i + (int64_t)seed] = far[i];
    return x;
}

static void check_one(const char *what, int64_t i, float got, double want, double bound)
{
    if (!(fabs((double)got - want) <= bound))
        fail_msg("%s: element %lld is %.9g, wanted %.9g within %.3g", what, (long long)i, (double)got, want, bound);
}

static void check_gelu(int64_t n, fur_isa isa)
{
    size_t bytes = (size_t)n * sizeof(float);
    float *u = inputs(n, 1), *dg = kit_guard_filled(n, KIT_NORMAL, 2), *g1 = NULL, *du1 = NULL;
    for (int threads = 1; threads <= 3; threads++) {
        kit_exec kit;
        kit_exec_init(&kit, isa, threads, FUR_ARENA_ALIGN);
        float *g = kit_guard_f32(n), *du = kit_guard_f32(n), *again = kit_guard_f32(n);
        assert_int_equal(fur_gelu_forward(&kit.exec, n, u, g), FUR_OK);
        assert_int_equal(fur_gelu_backward(&kit.exec, n, u, dg, du, again), FUR_OK);
        kit_check_same_bits("g of backward", again, g, bytes);
        memcpy(again, u, bytes);
        assert_int_equal(fur_gelu_forward(&kit.exec, n, again, again), FUR_OK);
        kit_check_same_bits("g in place", again, g, bytes);
        memcpy(again, dg, bytes);
        assert_int_equal(fur_gelu_backward(&kit.exec, n, u, again, again, NULL), FUR_OK);
        kit_check_same_bits("du in place", again, du, bytes);
        g1 = g1 ? g1 : g;
        du1 = du1 ? du1 : du;
        kit_check_same_bits("g, threads", g, g1, bytes);
        kit_check_same_bits("du, threads", du, du1, bytes);
        kit_exec_clear(&kit);
    }
    for (int64_t i = 0; i < n; i++) {
        value v = value_of((double)u[i], 1);
        double d = (double)dg[i];
        check_one("gelu", i, g1[i], v.g, v.g_bound);
        /* + 1 in TINY's factor: du itself may be subnormal */
        check_one("gelu gradient", i, du1[i], d * v.slope, fabs(d) * (v.slope_bound + KIT_U * fabs(v.slope)) + TINY);
    }
    kit_guard_free_all();
}

/* The two gated functions. */
static const struct {
    const char *name;
    int gelu;
    fur_status (*forward)(const fur_exec *, int64_t, int64_t, const float *, const float *, int64_t, float *);
    fur_status (*backward)(const fur_exec *, int64_t, int64_t, const float *, const float *, int64_t, const float *,
                           float *, float *, int64_t, float *);
} gated[] = {{"swiglu", 0, fur_swiglu_forward, fur_swiglu_backward},
             {"geglu", 1, fur_geglu_forward, fur_geglu_backward}};

static void check_gated(int which, int64_t T, int64_t F, fur_isa isa)
{
    int64_t n = T * F, ld = 2 * F, wide = T * ld;
    size_t bytes = (size_t)n * sizeof(float), wide_bytes = (size_t)wide * sizeof(float);
    float *both = inputs(wide, 3), *dg = kit_guard_filled(n, KIT_NORMAL, 4), *g1 = NULL, *dboth1 = NULL;
    for (int threads = 1; threads <= 3; threads++) {
        kit_exec kit;
        kit_exec_init(&kit, isa, threads, FUR_ARENA_ALIGN);
        float *g = kit_guard_f32(n), *again = kit_guard_f32(n), *dboth = kit_guard_f32(wide);
        assert_int_equal(gated[which].forward(&kit.exec, T, F, both, both + F, ld, g), FUR_OK);
        assert_int_equal(gated[which].backward(&kit.exec, T, F, both, both + F, ld, dg, dboth, dboth + F, ld, again),
                         FUR_OK);
        kit_check_same_bits("g of backward", again, g, bytes);
        float *place = kit_guard_copy(both, wide);
        memcpy(again, dg, bytes);
        assert_int_equal(
            gated[which].backward(&kit.exec, T, F, place, place + F, ld, again, place, place + F, ld, again), FUR_OK);
        kit_check_same_bits("gradients in place", place, dboth, wide_bytes);
        kit_check_same_bits("g in dg's place", again, g, bytes);
        g1 = g1 ? g1 : g;
        dboth1 = dboth1 ? dboth1 : dboth;
        kit_check_same_bits("g, threads", g, g1, bytes);
        kit_check_same_bits("gradients, threads", dboth, dboth1, wide_bytes);
        kit_exec_clear(&kit);
    }
    for (int64_t i = 0; i < n; i++) {
        int64_t at = i / F * ld + i % F;
        value v = value_of((double)both[at], gated[which].gelu);
        double b = (double)both[at + F], d = (double)dg[i];
        check_one(gated[which].name, i, g1[i], v.g * b, fabs(b) * (v.g_bound + KIT_U * fabs(v.g)) + TINY);
        check_one("dup", i, dboth1[at + F], d * v.g, fabs(d) * (v.g_bound + KIT_U * fabs(v.g)) + TINY);
        check_one("dgate", i, dboth1[at], d * b * v.slope,
                  fabs(d * b) * (v.slope_bound + 2 * KIT_U * fabs(v.slope)) + TINY);
    }
    kit_guard_free_all();
}

static void test_gelu(void **state)
{
    (void)state;
    for (fur_isa isa = FUR_ISA_REF; isa <= kit_best_isa(); isa++)
        for (int i = 0; i < SIZES; i++)
            check_gelu(sizes[i], isa);
}

static void test_gated(void **state)
{
    (void)state;
    for (int which = 0; which < 2; which++)
        for (fur_isa isa = FUR_ISA_REF; isa <= kit_best_isa(); isa++) {
            for (int i = 0; i < SIZES; i++)
                check_gated(which, 1 + i % 3, sizes[i], isa);
            check_gated(which, 100, 333, isa);
        }
}

/* The exponential over the whole range where it is a normal number, without a z whose own error hides it. */
static void test_exponential(void **state)
{
    (void)state;
    enum { N = 30000 };
    float *gate = kit_guard_f32(N), *one = kit_guard_f32(N), *g = kit_guard_f32(N);
    for (int i = 0; i < N; i++) {
        gate[i] = (float)(20 - 107.0 * i / N);
        one[i] = 1;
    }
    for (fur_isa isa = FUR_ISA_REF; isa <= kit_best_isa(); isa++) {
        kit_exec kit;
        kit_exec_init(&kit, isa, 1, FUR_ARENA_ALIGN);
        assert_int_equal(fur_swiglu_forward(&kit.exec, 1, N, gate, one, N, g), FUR_OK);
        for (int i = 0; i < N; i++) {
            double z = (double)gate[i], s = 1 / (1 + exp(-z));
            /* e^-z: 2 u; the sum, the quotient, the product: u each */
            check_one("z / (1 + e^-z)", i, g[i], z * s, KIT_U * fabs(z * s) * (2 * (1 - s) + 3) * 1.001);
        }
        kit_exec_clear(&kit);
    }
    kit_guard_free_all();
}

/* NaN comes out where it goes in, and nowhere else; the far ends are exact. */
static void test_special_values(void **state)
{
    (void)state;
    enum { N = 19 };
    for (fur_isa isa = FUR_ISA_REF; isa <= kit_best_isa(); isa++) {
        kit_exec kit;
        kit_exec_init(&kit, isa, 1, FUR_ARENA_ALIGN);
        float *u = kit_guard_filled(N, KIT_NORMAL, 1), *one = kit_guard_f32(N);
        float *g = kit_guard_f32(N), *du = kit_guard_f32(N), *dup = kit_guard_f32(N);
        for (int i = 0; i < N; i++)
            one[i] = 1;
        u[2] = NAN;
        u[18] = NAN;
        u[3] = INFINITY;
        u[4] = 3e38f;
        u[5] = -3e38f;
        assert_int_equal(fur_gelu_backward(&kit.exec, N, u, one, du, g), FUR_OK);
        for (int i = 0; i < N; i++)
            assert_true(isnan(g[i]) == (i == 2 || i == 18));
        assert_true(isnan(du[2]) && isnan(du[18]) && isinf(g[3]));
        assert_true(g[4] == 3e38f && du[4] == 1 && g[5] == 0 && du[5] == 0);
        assert_int_equal(fur_swiglu_backward(&kit.exec, 1, N, u, one, N, one, du, dup, N, g), FUR_OK);
        for (int i = 0; i < N; i++)
            assert_true(isnan(g[i]) == (i == 2 || i == 18));
        assert_true(isnan(du[2]) && isnan(dup[18]) && isinf(g[3]));
        assert_true(g[4] == 3e38f && du[4] == 1 && g[5] == 0 && du[5] == 0);
        kit_guard_free_all();
        kit_exec_clear(&kit);
    }
}

static void test_refused(void **state)
{
    (void)state;
    float x[4] = {0};
    kit_exec kit;
    kit_exec_init(&kit, FUR_ISA_REF, 1, FUR_ARENA_ALIGN);
    assert_int_equal(fur_gelu_forward(&kit.exec, -1, x, x), FUR_E_SHAPE);
    assert_int_equal(fur_gelu_backward(&kit.exec, -1, x, x, x, NULL), FUR_E_SHAPE);
    assert_int_equal(fur_swiglu_forward(&kit.exec, 1, 4, x, x, 3, x), FUR_E_SHAPE);
    assert_int_equal(fur_geglu_forward(&kit.exec, -1, 4, x, x, 4, x), FUR_E_SHAPE);
    assert_int_equal(fur_geglu_backward(&kit.exec, 1, 4, x, x, 4, x, x, x, 3, NULL), FUR_E_SHAPE);
    assert_int_equal(fur_swiglu_backward(&kit.exec, 1, 4, x, x, 4, x, x, x, 3, NULL), FUR_E_SHAPE);
    assert_string_equal(kit.error.text, "gated function of 1 rows of 4 columns, 4 and 3 apart");
    kit_exec_clear(&kit);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_slopes_are_differences),
        cmocka_unit_test(test_gelu),
        cmocka_unit_test(test_gated),
        cmocka_unit_test(test_exponential),
        cmocka_unit_test(test_special_values),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
