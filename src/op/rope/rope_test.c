/* SPDX-License-Identifier: Apache-2.0 */
/* rope against its formula in double. The gradient: <dy, rope x> = <rope^-1 dy, x>, and rope is linear, so that the
 * transpose is the whole gradient. */
#include "kit/kit.h"

#include <math.h>
#include <stdlib.h>

#include "op/rope/rope.h"

static const struct {
    int64_t T, heads, D, gap; /* gap: ldx - heads * D */
    int64_t start, step;      /* positions start, start + step, ... */
} cases[] = {
    {1, 1, 2, 0, 0, 1},    {2, 3, 6, 0, 5, 1},         {3, 2, 14, 3, 62, 1},    {5, 1, 16, 0, 1, 7},
    {4, 2, 30, 1, 3, 100}, {33, 3, 32, 0, 1000000, 1}, {40, 2, 34, 5, 63, 1},   {130, 4, 64, 0, 0, 1},
    {35, 2, 66, 0, 10, 0}, {31, 2, 64, 0, 4090, 64},   {64, 1, 514, 0, 0, 333},
};
enum { CASES = sizeof cases / sizeof cases[0] };
static const double theta = 10000;
static const fur_rope plain = {.theta = 10000};

static float *turned(size_t at, fur_isa isa, int threads, int inverse, const float *x, int64_t n)
{
    int64_t *position = malloc((size_t)cases[at].T * sizeof *position);
    assert_non_null(position);
    for (int64_t t = 0; t < cases[at].T; t++)
        position[t] = cases[at].start + t * cases[at].step;
    kit_exec kit;
    fur_exec ask = {.threads = threads};
    int64_t bytes = fur_rope_workspace(&ask, cases[at].T, cases[at].D);
    kit_exec_init(&kit, isa, threads, bytes + FUR_ARENA_ALIGN);
    float *y = kit_guard_copy(x, n);
    assert_int_equal(fur_rope_apply(&kit.exec, cases[at].T, cases[at].heads, cases[at].D, &plain, position, inverse, y,
                                    cases[at].heads * cases[at].D + cases[at].gap),
                     FUR_OK);
    assert_int_equal(kit.workspace.used, 0);
    assert_int_equal(kit.workspace.peak, bytes);
    kit_exec_clear(&kit);
    free(position);
    return y;
}

static void check_case(size_t at, fur_isa isa, int inverse)
{
    int64_t T = cases[at].T, D = cases[at].D, width = cases[at].heads * D, ld = width + cases[at].gap;
    int64_t n = (T - 1) * ld + width;
    float *x = kit_guard_filled(n, KIT_NORMAL, 1), *y = turned(at, isa, 1, inverse, x, n);
    for (int64_t i = 0; i < n; i++) {
        int64_t t = i / ld, d = i % ld % D, pair = d % (D / 2);
        if (i % ld >= width) {
            assert_true(x[i] == y[i]);
            continue;
        }
        double position = (double)(cases[at].start + t * cases[at].step);
        double angle = position * pow(theta, -2.0 * (double)pair / (double)D);
        double c = cos(angle), s = inverse ? -sin(angle) : sin(angle), own = (double)x[i];
        double other = d < D / 2 ? -(double)x[i + D / 2] : (double)x[i - D / 2];
        double bound = (3 * KIT_U + 4 * position * 0x1p-52) * (fabs(own) + fabs(other));
        if (!(fabs((double)y[i] - (own * c + other * s)) <= bound))
            fail_msg("case %zu, element %lld: %.9g, wanted %.9g within %.3g", at, (long long)i, (double)y[i],
                     own * c + other * s, bound);
    }
    for (int threads = 2; threads <= 3; threads++)
        kit_check_same_bits("threads", turned(at, isa, threads, inverse, x, n), y, (size_t)n * sizeof *y);
    kit_guard_free_all();
}

static void test_cases(void **state)
{
    (void)state;
    for (fur_isa isa = FUR_ISA_REF; isa <= kit_best_isa(); isa++)
        for (size_t i = 0; i < CASES; i++)
            for (int inverse = 0; inverse < 2; inverse++)
                check_case(i, isa, inverse);
}

/* The same token alone, and among many: the same bits, although many use the table. */
static void test_bits_of_a_token_alone(void **state)
{
    (void)state;
    enum { T = 100, D = 64, N = T * D };
    const fur_rope rope = {.theta = 5e5, .scaling = {FUR_ROPE_YARN, 8, 4096, 0, 0, 0, 0, 0, false}};
    for (fur_isa isa = FUR_ISA_REF; isa <= kit_best_isa(); isa++) {
        kit_exec kit;
        kit_exec_init(&kit, isa, 1, 1 << 20);
        int64_t position[T];
        float *many = kit_guard_filled(N, KIT_NORMAL, 1), *one = kit_guard_copy(many, N);
        for (int64_t t = 0; t < T; t++)
            position[t] = t < 50 ? 12345 + t : t - 50;
        assert_int_equal(fur_rope_apply(&kit.exec, T, 1, D, &rope, position, 0, many, D), FUR_OK);
        for (int64_t t = 0; t < T; t++)
            assert_int_equal(fur_rope_apply(&kit.exec, 1, 1, D, &rope, position + t, 0, one + t * D, D), FUR_OK);
        kit_check_same_bits("one by one", one, many, N * sizeof(float));
        kit_guard_free_all();
        kit_exec_clear(&kit);
    }
}

/* Frequencies and magnitudes as transformers' modeling_rope_utils gives them in float64 (tools/golden/rope.py). */
static void test_scalings(void **state)
{
    (void)state;
    static const struct {
        fur_rope rope;
        int64_t D;
        double magnitude, frequency[8];
    } golden[] = {
#include "rope_golden.h"
    };
    for (size_t n = 0; n < sizeof golden / sizeof golden[0]; n++) {
        double frequency[8], magnitude;
        fur_rope_frequencies(&golden[n].rope, golden[n].D, frequency, &magnitude);
        assert_true(fabs(magnitude - golden[n].magnitude) <= 1e-15 * golden[n].magnitude);
        for (int64_t i = 0; i < golden[n].D / 2; i++)
            if (!(fabs(frequency[i] - golden[n].frequency[i]) <= 1e-14 * golden[n].frequency[i]))
                fail_msg("case %zu, pair %lld: %.17g, wanted %.17g", n, (long long)i, frequency[i],
                         golden[n].frequency[i]);
    }
}

static void test_refused(void **state)
{
    (void)state;
    float x[4] = {0};
    int64_t good[1] = {0}, bad[2] = {3, -1}, far[1] = {(int64_t)1 << 40};
    kit_exec kit;
    kit_exec_init(&kit, FUR_ISA_REF, 1, 1 << 10);
    assert_int_equal(fur_rope_apply(&kit.exec, 1, 1, 3, &plain, good, 0, x, 3), FUR_E_SHAPE);
    assert_int_equal(fur_rope_apply(&kit.exec, 1, 2, 2, &plain, good, 0, x, 3), FUR_E_SHAPE);
    assert_int_equal(fur_rope_apply(&kit.exec, 1, INT64_MAX, 2, &plain, good, 0, x, 4), FUR_E_SHAPE);
    assert_int_equal(fur_rope_apply(&kit.exec, 1, 1, 2, &(fur_rope){.theta = 0}, good, 0, x, 2), FUR_E_ARGUMENT);
    assert_int_equal(fur_rope_apply(&kit.exec, 1, 1, 2, &(fur_rope){.theta = (double)NAN}, good, 0, x, 2),
                     FUR_E_ARGUMENT);
    const fur_rope dynamic = {.theta = theta, .scaling = {.type = FUR_ROPE_DYNAMIC, .factor = 2}};
    assert_int_equal(fur_rope_apply(&kit.exec, 1, 1, 2, &dynamic, good, 0, x, 2), FUR_E_ARGUMENT);
    assert_int_equal(fur_rope_apply(&kit.exec, 1, 1, 2, &plain, far, 0, x, 2), FUR_E_ARGUMENT);
    assert_int_equal(fur_rope_apply(&kit.exec, 2, 1, 2, &plain, bad, 0, x, 2), FUR_E_ARGUMENT);
    assert_string_equal(kit.error.text, "rope: position -1 of token 1 is not in [0, 2^40)");
    assert_int_equal(fur_rope_apply(&kit.exec, 1, 1, 64, &plain, good, 0, x, 64), FUR_E_MEMORY);
    assert_int_equal(kit.workspace.used, 0);
    kit_exec_clear(&kit);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cases),
        cmocka_unit_test(test_bits_of_a_token_alone),
        cmocka_unit_test(test_scalings),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
