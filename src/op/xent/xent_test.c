/* SPDX-License-Identifier: Apache-2.0 */
/* xent against softmax cross-entropy in double, within the bounds of xent.h; the gradient against central differences
 * of the loss, to which the error of lse (a relative error of p) is added. */
#include "kit/kit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "op/xent/xent.h"

static const struct {
    int64_t T, V, tile, gap; /* vocabulary V visited in tiles of `tile`; ld = tile + gap */
    double scale;            /* of the logits */
    float cap;               /* that they came from; 0: none */
} cases[] = {
    {1, 1, 1, 0, 1, 0},    {3, 2, 1, 0, 1, 0},    {2, 7, 7, 0, 3, 0},     {5, 8, 3, 2, 1, 0},
    {4, 15, 15, 0, 10, 0}, {3, 16, 16, 0, 1, 0},  {2, 17, 16, 5, 1, 0},   {3, 33, 32, 0, 30, 0},
    {2, 64, 64, 0, 1, 0},  {7, 100, 31, 0, 1, 0}, {2, 257, 257, 1, 5, 0}, {3, 1000, 256, 0, 1, 0},
    {2, 97, 50, 0, 0, 0},  {3, 33, 32, 0, 1, 4},  {5, 100, 31, 2, 1, 30}, {2, 17, 17, 0, 1, 5},
};
enum { CASES = sizeof cases / sizeof cases[0] };
static const float weight = 0.37f;

typedef struct result {
    float *lse, *target_logit, *grad; /* grad: T x V, contiguous */
    double *exact_lse;                /* from max and sum, in double */
} result;

static double *doubles(int64_t count)
{
    double *x = calloc((size_t)count, sizeof *x);
    assert_non_null(x);
    return x;
}

static float *tile_of(const float *logits, int64_t T, int64_t V, int64_t first, int64_t width, int64_t ld)
{
    float *tile = kit_guard_f32((T - 1) * ld + width);
    for (int64_t t = 0; t < T; t++)
        memcpy(tile + t * ld, logits + t * V + first, (size_t)width * sizeof *tile);
    return tile;
}

static result run_case(size_t at, fur_isa isa, int threads, const float *logits, const int32_t *target)
{
    int64_t T = cases[at].T, V = cases[at].V, ld = cases[at].tile + cases[at].gap;
    kit_exec kit;
    kit_exec_init(&kit, isa, threads, FUR_ARENA_ALIGN);
    result r = {.lse = kit_guard_f32(T), .target_logit = kit_guard_f32(T), .grad = kit_guard_f32(T * V)};
    r.exact_lse = doubles(T);
    float *max = kit_guard_f32(T), *sum = kit_guard_f32(T);
    for (int64_t t = 0; t < T; t++) {
        max[t] = -INFINITY;
        sum[t] = 0;
    }
    for (int64_t v = 0; v < V; v += cases[at].tile) {
        int64_t width = V - v < cases[at].tile ? V - v : cases[at].tile;
        float *tile = tile_of(logits, T, V, v, width, ld);
        assert_int_equal(fur_xent_statistics(&kit.exec, T, width, tile, ld, max, sum, v, target, r.target_logit),
                         FUR_OK);
        kit_guard_free(tile);
    }
    for (int64_t t = 0; t < T; t++) {
        r.exact_lse[t] = (double)max[t] + log((double)sum[t]);
        r.lse[t] = (float)r.exact_lse[t];
    }
    for (int64_t v = 0; v < V; v += cases[at].tile) {
        int64_t width = V - v < cases[at].tile ? V - v : cases[at].tile;
        float *tile = tile_of(logits, T, V, v, width, ld);
        assert_int_equal(fur_xent_gradient(&kit.exec, T, width, tile, ld, r.lse, v, target, weight, cases[at].cap),
                         FUR_OK);
        for (int64_t t = 0; t < T; t++)
            memcpy(r.grad + t * V + v, tile + t * ld, (size_t)width * sizeof *tile);
        kit_guard_free(tile);
    }
    kit_exec_clear(&kit);
    return r;
}

static double lse_of(int64_t V, const double *x)
{
    double max = -(double)INFINITY, sum = 0;
    for (int64_t v = 0; v < V; v++)
        max = fmax(max, x[v]);
    for (int64_t v = 0; v < V; v++)
        sum += exp(x[v] - max);
    return max + log(sum);
}

static void check_row(size_t at, int64_t t, const result *r, const float *logits, int32_t target)
{
    int64_t V = cases[at].V;
    double *x = doubles(V), lse, mean = 0, max = -(double)INFINITY, u = KIT_U, w = (double)weight, h = 1e-3;
    for (int64_t v = 0; v < V; v++) {
        x[v] = (double)logits[t * V + v];
        max = fmax(max, x[v]);
    }
    lse = lse_of(V, x);
    for (int64_t v = 0; v < V; v++)
        mean += exp(x[v] - lse) * (max - x[v]);
    double tiles = ceil((double)V / (double)cases[at].tile);
    double lse_bound = u * (((double)cases[at].tile / 8 + 16) * tiles + mean);
    if (!(fabs(r->exact_lse[t] - lse) <= lse_bound))
        fail_msg("lse of row %lld is %.9g, wanted %.9g", (long long)t, r->exact_lse[t], lse);
    assert_true(r->target_logit[t] == logits[t * V + target]);
    for (int64_t v = 0; v < V; v++) {
        double keep = x[v], value[4];
        for (int i = 0; i < 4; i++) {
            x[v] = keep + (i < 2 ? i - 2 : i - 1) * h;
            value[i] = w * (lse_of(V, x) - x[target]);
        }
        x[v] = keep;
        double want = (value[0] - 8 * value[1] + 8 * value[2] - value[3]) / (12 * h);
        double p = exp(x[v] - lse), one = v == target ? 1 : 0;
        double bound = u * w * (p * (fabs(x[v] - lse) + 3) + 2 * fabs(p - one));
        double ratio = cases[at].cap > 0 ? x[v] / (double)cases[at].cap : 0; /* tanh of what went into the softcap */
        want *= 1 - ratio * ratio;
        bound += cases[at].cap > 0 ? 6 * u * w * fabs(p - one) : 0;
        bound += w * p * (lse_bound + u * fabs(lse)) + 1e-12 * (1 + fabs(lse) + fabs(x[target]));
        double got = (double)r->grad[t * V + v];
        if (!(fabs(got - want) <= bound))
            fail_msg("gradient (%lld, %lld) is %.9g, wanted %.9g within %.3g", (long long)t, (long long)v, got, want,
                     bound);
    }
    free(x);
}

static void check_case(size_t at, fur_isa isa)
{
    int64_t T = cases[at].T, V = cases[at].V;
    float *logits = kit_guard_filled(T * V, KIT_NORMAL, 1);
    int32_t *target = kit_guard((size_t)T * sizeof *target);
    for (int64_t i = 0; i < T * V; i++)
        logits[i] = (float)(cases[at].scale * (double)logits[i]);
    for (int64_t t = 0; t < T; t++)
        target[t] = t % 3 == 2 ? -1 : (int32_t)((t * 31 + 7) % V);
    /* a masked row is not read: NaN in it must not show */
    for (int64_t v = 0; T > 2 && v < V; v++)
        logits[2 * V + v] = NAN;
    result r = run_case(at, isa, 1, logits, target);
    for (int64_t t = 0; t < T; t++) {
        if (target[t] >= 0)
            check_row(at, t, &r, logits, target[t]);
        for (int64_t v = 0; target[t] < 0 && v < V; v++)
            assert_true(r.grad[t * V + v] == 0);
    }
    for (int threads = 2; threads <= 3; threads++) {
        result other = run_case(at, isa, threads, logits, target);
        kit_check_same_bits("lse, threads", other.lse, r.lse, (size_t)T * sizeof(float));
        kit_check_same_bits("gradient, threads", other.grad, r.grad, (size_t)(T * V) * sizeof(float));
        free(other.exact_lse);
    }
    free(r.exact_lse);
    kit_guard_free_all();
}

static void test_cases(void **state)
{
    (void)state;
    for (fur_isa isa = FUR_ISA_REF; isa <= kit_best_isa(); isa++)
        for (size_t i = 0; i < CASES; i++)
            check_case(i, isa);
}

/* Rows: tile of -infinity before a real one; NaN among -infinity; +infinity; a wide range. */
static void test_special_values(void **state)
{
    (void)state;
    enum { T = 4, V = 19, N = T * V };
    for (fur_isa isa = FUR_ISA_REF; isa <= kit_best_isa(); isa++) {
        kit_exec kit;
        kit_exec_init(&kit, isa, 1, FUR_ARENA_ALIGN);
        float *x = kit_guard_f32(N), max[T], sum[T];
        for (int i = 0; i < N; i++)
            x[i] = i / V == 3 ? 1000.0f * (float)(i % V) : -INFINITY;
        x[V + 18] = NAN;
        x[2 * V + 4] = INFINITY;
        for (int t = 0; t < T; t++) {
            max[t] = -INFINITY;
            sum[t] = 0;
        }
        assert_int_equal(fur_xent_statistics(&kit.exec, T, V, x, V, max, sum, 0, NULL, NULL), FUR_OK);
        assert_true(isinf(max[0]) && max[0] < 0 && sum[0] == 0);
        assert_true(isnan(sum[1]) && isnan(sum[2]));
        assert_true(max[3] == 18000 && sum[3] == 1);
        for (int v = 0; v < V; v++)
            x[v] = 2;
        assert_int_equal(fur_xent_statistics(&kit.exec, 1, V, x, V, max, sum, V, NULL, NULL), FUR_OK);
        assert_true(max[0] == 2 && sum[0] == V);
        kit_guard_free_all();
        kit_exec_clear(&kit);
    }
}

static void test_refused(void **state)
{
    (void)state;
    float x[4] = {0};
    int32_t target[1] = {0};
    kit_exec kit;
    kit_exec_init(&kit, FUR_ISA_REF, 1, FUR_ARENA_ALIGN);
    assert_int_equal(fur_xent_statistics(&kit.exec, -1, 4, x, 4, x, x, 0, target, x), FUR_E_SHAPE);
    assert_int_equal(fur_xent_gradient(&kit.exec, 1, 4, x, 3, x, 0, target, 1, 0), FUR_E_SHAPE);
    assert_string_equal(kit.error.text, "cross-entropy of 1 rows of 4 logits, 3 apart");
    kit_exec_clear(&kit);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cases),
        cmocka_unit_test(test_special_values),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
