/* SPDX-License-Identifier: Apache-2.0 */
/* adamw against its formula in double, written in the order of torch.optim.AdamW.
 *
 * Bounds, u = 2^-24, every factor being rounded (u) besides the operations: m within 4 u (|m| + (1 - beta1) (|g'| +
 * |m|)), v within 6 u v' (all terms are positive), the update q = step m / (...) within 10 u q + (error of m) step /
 * (...), the 10: step, correct, eps, sqrt with half of v's 6, product and sum, quotient; w within 3 u |w| + that + u
 * |w'|. */
#include "kit/kit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "op/adamw/adamw.h"

static const int64_t sizes[] = {0, 1, 7, 8, 9, 15, 16, 17, 31, 33, 257, 20001};
enum { SIZES = sizeof sizes / sizeof sizes[0] };
static const fur_adamw_args settings[] = {
    {.lr = 1e-3, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .weight_decay = 0.1, .step = 1, .grad_scale = 1},
    {.lr = 3e-4, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .weight_decay = 0.01, .step = 1000, .grad_scale = 0.37f},
    {.lr = 0.5, .beta1 = 0, .beta2 = 0.5, .eps = 1e-5, .weight_decay = 0, .step = 3, .grad_scale = 2},
};
enum { SETTINGS = sizeof settings / sizeof settings[0] };

typedef struct arrays {
    float *w, *g, *m, *v;
} arrays;

static arrays filled(int64_t n, int first)
{
    arrays a = {.w = kit_guard_filled(n, KIT_NORMAL, 1), .g = kit_guard_filled(n, KIT_NORMAL, 2)};
    a.m = kit_guard_filled(n, first ? KIT_ZERO : KIT_NORMAL, 3);
    a.v = kit_guard_filled(n, first ? KIT_ZERO : KIT_NORMAL, 4);
    for (int64_t i = 0; i < n; i++)
        a.v[i] = fabsf(a.v[i]);
    return a;
}

static void check_result(const fur_adamw_args *s, int64_t n, const arrays *old, const arrays *got)
{
    double u = KIT_U, correct1 = 1 - pow(s->beta1, (double)s->step), correct2 = 1 - pow(s->beta2, (double)s->step);
    for (int64_t i = 0; i < n; i++) {
        double g = (double)old->g[i] * (double)s->grad_scale, w = (double)old->w[i], m = (double)old->m[i];
        double m_bound = 4 * u * (fabs(m) + (1 - s->beta1) * (fabs(g) + fabs(m)));
        w = w * (1 - s->lr * s->weight_decay);
        m = s->beta1 * m + (1 - s->beta1) * g;
        double v = s->beta2 * (double)old->v[i] + (1 - s->beta2) * g * g;
        double rate = s->lr / correct1 / (sqrt(v) / sqrt(correct2) + s->eps);
        double w_bound = 3 * u * fabs(w) + 10 * u * rate * fabs(m) + rate * m_bound;
        w -= rate * m;
        if (!(fabs((double)got->m[i] - m) <= m_bound) || !(fabs((double)got->v[i] - v) <= 6 * u * v) ||
            !(fabs((double)got->w[i] - w) <= w_bound + u * fabs(w)))
            fail_msg("element %lld: w %.9g m %.9g v %.9g, wanted %.9g %.9g %.9g", (long long)i, (double)got->w[i],
                     (double)got->m[i], (double)got->v[i], w, m, v);
    }
}

static void test_cases(void **state)
{
    (void)state;
    for (fur_isa isa = FUR_ISA_REF; isa <= kit_best_isa(); isa++) {
        for (int c = 0; c < SIZES * SETTINGS; c++) {
            int64_t n = sizes[c / SETTINGS];
            const fur_adamw_args *s = &settings[c % SETTINGS];
            arrays old = filled(n, s->step == 1), one = old;
            for (int threads = 1; threads <= 3; threads++) {
                kit_exec kit;
                kit_exec_init(&kit, isa, threads, FUR_ARENA_ALIGN);
                arrays a = filled(n, s->step == 1);
                assert_int_equal(fur_adamw_step(&kit.exec, n, a.w, a.g, a.m, a.v, s), FUR_OK);
                one = threads == 1 ? a : one;
                kit_check_same_bits("w, threads", a.w, one.w, (size_t)n * sizeof(float));
                kit_check_same_bits("m, threads", a.m, one.m, (size_t)n * sizeof(float));
                kit_check_same_bits("v, threads", a.v, one.v, (size_t)n * sizeof(float));
                kit_exec_clear(&kit);
            }
            check_result(s, n, &old, &one);
            kit_guard_free_all();
        }
    }
}

/* What is known of AdamW without computing it: the first step is lr against the gradient's sign, whatever its size; a
 * zero gradient decays alone. */
static void test_first_step(void **state)
{
    (void)state;
    for (fur_isa isa = FUR_ISA_REF; isa <= kit_best_isa(); isa++) {
        kit_exec kit;
        kit_exec_init(&kit, isa, 1, FUR_ARENA_ALIGN);
        float w[3] = {1, 1, 1}, g[3] = {1e3f, -1e-3f, 0}, m[3] = {0}, v[3] = {0};
        fur_adamw_args s = {.lr = 0.125, .beta1 = 0.9, .beta2 = 0.999, .step = 1, .grad_scale = 1, .eps = 1e-20};
        assert_int_equal(fur_adamw_step(&kit.exec, 2, w, g, m, v, &s), FUR_OK);
        assert_true(fabsf(w[0] - 0.875f) < 1e-6f && fabsf(w[1] - 1.125f) < 1e-6f);
        s.weight_decay = 0.5;
        assert_int_equal(fur_adamw_step(&kit.exec, 1, w + 2, g + 2, m + 2, v + 2, &s), FUR_OK);
        assert_true(w[2] == 0.9375f && m[2] == 0 && v[2] == 0);
        g[0] = NAN;
        assert_int_equal(fur_adamw_step(&kit.exec, 2, w, g, m, v, &s), FUR_OK);
        assert_true(isnan(w[0]) && isfinite(w[1]));
        kit_exec_clear(&kit);
    }
}

static void test_refused(void **state)
{
    (void)state;
    float x[1] = {0};
    kit_exec kit;
    kit_exec_init(&kit, FUR_ISA_REF, 1, FUR_ARENA_ALIGN);
    fur_adamw_args s = settings[0];
    assert_int_equal(fur_adamw_step(&kit.exec, -1, x, x, x, x, &s), FUR_E_SHAPE);
    s.step = 0;
    assert_int_equal(fur_adamw_step(&kit.exec, 1, x, x, x, x, &s), FUR_E_ARGUMENT);
    s = settings[0];
    s.beta2 = 1;
    assert_int_equal(fur_adamw_step(&kit.exec, 1, x, x, x, x, &s), FUR_E_ARGUMENT);
    assert_string_equal(kit.error.text, "AdamW with beta1 0.9, beta2 1: expected [0, 1)");
    s = settings[0];
    s.lr = (double)NAN;
    assert_int_equal(fur_adamw_step(&kit.exec, 1, x, x, x, x, &s), FUR_E_ARGUMENT);
    kit_exec_clear(&kit);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cases),
        cmocka_unit_test(test_first_step),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
