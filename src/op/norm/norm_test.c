/* SPDX-License-Identifier: Apache-2.0 */
/* norm against its formula in double; gradients against central differences of that formula.
 *
 * Bounds, u = 2^-24. A sum of C terms in any order of at least 8 partial sums is off by at most k u (sum of absolute
 * terms), k = C / 8 + 12 (the 12: the sum over lanes, the terms' own rounding). With A = mean|x| (0 for rms), so that m
 * is off by k u A, and with r off by (k / 2 + 4) u + (k u A r)^2 / 2 relatively, xh is off by
 *   e_c = k u (A r + |xh_c|) + |xh_c| (k u A r)^2,
 * and the rest follows term by term below. */
#include "kit/kit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "op/norm/norm.h"

typedef struct test_case {
    int64_t T, C;
    double offset; /* added to x: a mean far from 0 */
    kit_fill fill;
} test_case;

static const test_case cases[] = {
    {1, 1, 0, KIT_NORMAL},    {3, 2, 0, KIT_NORMAL},     {2, 7, 0, KIT_NORMAL},    {5, 8, 0, KIT_NORMAL},
    {2, 15, 3, KIT_NORMAL},   {4, 16, 0, KIT_NORMAL},    {3, 17, 0, KIT_NORMAL},   {2, 31, 0, KIT_NORMAL},
    {3, 33, -20, KIT_NORMAL}, {70, 64, 0.5, KIT_NORMAL}, {131, 47, 0, KIT_NORMAL}, {2049, 9, 0, KIT_NORMAL},
    {3, 257, 1, KIT_NORMAL},  {2, 768, 0, KIT_NORMAL},   {3, 100, 0, KIT_TINY},    {3, 100, 0, KIT_HUGE},
    {2, 40, 0, KIT_ZERO},
};
enum { CASES = sizeof cases / sizeof cases[0] };
static const float eps = 1e-5f;

typedef struct arrays {
    float *x, *w, *b, *dy, *dx_old, *dw_old, *db_old; /* inputs */
    double *y, *y_bound, *dx, *dx_bound, *dw, *dw_bound, *db, *db_bound;
} arrays;

static double *doubles(int64_t count)
{
    double *x = calloc((size_t)count, sizeof *x);
    assert_non_null(x);
    return x;
}

static void row_statistics(int rms, int64_t C, const double *x, double *mean, double *rstd)
{
    double sum = 0, squares = 0;
    for (int64_t c = 0; c < C; c++)
        sum += x[c];
    *mean = rms ? 0 : sum / (double)C;
    for (int64_t c = 0; c < C; c++)
        squares += (x[c] - *mean) * (x[c] - *mean);
    *rstd = 1 / sqrt(squares / (double)C + (double)eps);
}

/* What is stored, and what multiplies. */
static double weight(int rms, float w)
{
    return rms == FUR_NORM_RMS_OFFSET ? 1 + (double)w : (double)w;
}

/* sum over c of dy y: what the differences are taken of */
static double row_loss(int rms, int64_t C, const double *x, const float *w, const float *b, const float *dy)
{
    double mean, rstd, loss = 0;
    row_statistics(rms, C, x, &mean, &rstd);
    for (int64_t c = 0; c < C; c++)
        loss += (double)dy[c] * ((x[c] - mean) * rstd * weight(rms, w[c]) + (rms ? 0 : (double)b[c]));
    return loss;
}

static double derivative(int rms, int64_t C, double *x, int64_t at, double h, const float *w, const float *b,
                         const float *dy)
{
    double keep = x[at], value[4];
    static const double step[4] = {-2, -1, 1, 2};
    for (int i = 0; i < 4; i++) {
        x[at] = keep + step[i] * h;
        value[i] = row_loss(rms, C, x, w, b, dy);
    }
    x[at] = keep;
    return (value[0] - 8 * value[1] + 8 * value[2] - value[3]) / (12 * h);
}

static void expect_row(int rms, const test_case *c, int64_t t, arrays *a)
{
    int64_t C = c->C;
    double *x = doubles(C), mean, rstd, size = 0, mean_g = 0, mean_gx = 0, mean_ge = 0, sum_gx = 0;
    double k = (double)C / 8 + 12, u = KIT_U;
    const float *dy = a->dy + t * C;
    for (int64_t i = 0; i < C; i++) {
        x[i] = (double)a->x[t * C + i];
        size += rms ? 0 : fabs(x[i]) / (double)C;
    }
    row_statistics(rms, C, x, &mean, &rstd);
    double *e = doubles(C);
    for (int64_t i = 0; i < C; i++) {
        double xh = (x[i] - mean) * rstd, kar = k * u * size * rstd, g = (double)dy[i] * weight(rms, a->w[i]);
        e[i] = k * u * (size * rstd + fabs(xh)) + fabs(xh) * kar * kar;
        double w = fabs(weight(rms, a->w[i])), b = rms ? 0 : (double)a->b[i];
        a->y[t * C + i] = xh * weight(rms, a->w[i]) + b;
        a->y_bound[t * C + i] = w * e[i] + (rms == FUR_NORM_RMS_OFFSET ? 3 : 2) * u * (fabs(xh) * w + fabs(b));
        mean_g += rms ? 0 : fabs(g) / (double)C;
        mean_gx += fabs(g * xh) / (double)C;
        mean_ge += fabs(g) * e[i] / (double)C;
        sum_gx += g * xh / (double)C;
        a->dw[i] += (double)dy[i] * xh;
        a->dw_bound[i] += fabs((double)dy[i]) * (e[i] + (double)(c->T + 4) * u * fabs(xh));
        a->db[i] += (double)dy[i];
        a->db_bound[i] += fabs((double)dy[i]) * (double)(c->T + 4) * u;
    }
    /* step of the differences: small against both x's spread and the scale sqrt(eps) on which r changes */
    double h = 1e-3 * fmax(1 / rstd, 1e-3);
    for (int64_t i = 0; i < C; i++) {
        double xh = (x[i] - mean) * rstd, g = fabs((double)dy[i] * weight(rms, a->w[i])),
               old = (double)a->dx_old[t * C + i];
        double terms = g + mean_g + fabs(xh) * mean_gx;
        a->dx[t * C + i] = derivative(rms, C, x, i, h, a->w, a->b, dy);
        a->dx_bound[t * C + i] = rstd * (2 * k * u * terms + e[i] * fabs(sum_gx) + fabs(xh) * mean_ge) +
                                 2 * u * fabs(old) + 1e-9 * rstd * (terms + mean_g * (double)C);
    }
    free(e);
    free(x);
}

static void setup(int rms, const test_case *c, arrays *a)
{
    int64_t n = c->T * c->C;
    a->x = kit_guard_filled(n, c->fill, 1);
    for (int64_t i = 0; i < n; i++)
        a->x[i] = (float)((double)a->x[i] + c->offset);
    a->w = kit_guard_filled(c->C, KIT_NORMAL, 2);
    a->b = rms ? NULL : kit_guard_filled(c->C, KIT_NORMAL, 3);
    a->dy = kit_guard_filled(n, KIT_NORMAL, 4);
    a->dx_old = kit_guard_filled(n, KIT_NORMAL, 5);
    a->dw_old = kit_guard_filled(c->C, KIT_NORMAL, 6);
    a->db_old = kit_guard_filled(c->C, KIT_NORMAL, 7);
    double **all[] = {&a->y, &a->y_bound, &a->dx, &a->dx_bound, &a->dw, &a->dw_bound, &a->db, &a->db_bound};
    for (int i = 0; i < 8; i++)
        *all[i] = doubles(i < 4 ? n : c->C);
    for (int64_t t = 0; t < c->T; t++)
        expect_row(rms, c, t, a);
    for (int64_t i = 0; i < c->C; i++) {
        a->dw[i] += (double)a->dw_old[i];
        a->dw_bound[i] += (double)(c->T + 4) * KIT_U * fabs((double)a->dw_old[i]);
        a->db[i] += (double)a->db_old[i];
        a->db_bound[i] += (double)(c->T + 4) * KIT_U * fabs((double)a->db_old[i]);
    }
}

static void teardown(arrays *a)
{
    double *all[] = {a->y, a->y_bound, a->dx, a->dx_bound, a->dw, a->dw_bound, a->db, a->db_bound};
    for (int i = 0; i < 8; i++)
        free(all[i]);
    kit_guard_free_all();
}

static void run_case(int rms, const test_case *c, fur_isa isa, int threads, const arrays *a, float *y, float *dx,
                     float *dw, float *db)
{
    int64_t T = c->T, C = c->C, n = T * C;
    kit_exec kit;
    kit_exec_init(&kit, isa, threads, fur_norm_workspace(NULL, T, C) + FUR_ARENA_ALIGN);
    float *stat = kit_guard_f32(2 * T);
    assert_int_equal(fur_norm_forward(&kit.exec, rms, T, C, eps, a->x, a->w, a->b, y, stat), FUR_OK);
    memcpy(dx, a->dx_old, (size_t)n * sizeof *dx);
    memcpy(dw, a->dw_old, (size_t)C * sizeof *dw);
    memcpy(db, a->db_old, (size_t)C * sizeof *db);
    assert_int_equal(fur_norm_backward(&kit.exec, rms, T, C, eps, a->x, a->w, stat, a->dy, dx, 0, dw, db), FUR_OK);
    assert_int_equal(kit.workspace.used, 0);
    assert_int_equal(kit.workspace.peak, fur_norm_workspace(&kit.exec, T, C));

    /* in place forward; recomputed statistics and dx in dy's place: the same bits */
    float *x2 = kit_guard_copy(a->x, n), *dy2 = kit_guard_copy(a->dy, n);
    assert_int_equal(fur_norm_forward(&kit.exec, rms, T, C, eps, x2, a->w, a->b, x2, NULL), FUR_OK);
    kit_check_same_bits("y in place", x2, y, (size_t)n * sizeof(float));
    assert_int_equal(fur_norm_backward(&kit.exec, rms, T, C, eps, a->x, a->w, NULL, dy2, dy2, 0, NULL, NULL), FUR_OK);
    kit_check_same_bits("dx in place, recomputed", dy2, dx, (size_t)n * sizeof(float));
    kit_guard_free(x2);
    kit_guard_free(dy2);
    kit_guard_free(stat);
    kit_exec_clear(&kit);
}

static void check_kind(int rms)
{
    for (int i = 0; i < CASES; i++) {
        const test_case *c = &cases[i];
        int64_t n = c->T * c->C;
        for (fur_isa isa = FUR_ISA_REF; isa <= kit_best_isa(); isa++) {
            arrays a;
            setup(rms, c, &a);
            float *y = kit_guard_f32(n), *dx = kit_guard_f32(n), *dw = kit_guard_f32(c->C), *db = kit_guard_f32(c->C);
            run_case(rms, c, isa, 1, &a, y, dx, dw, db);
            kit_check_bound("y", y, a.y, a.y_bound, 1, n);
            kit_check_bound("dx", dx, a.dx, a.dx_bound, 1, n);
            kit_check_bound("dw", dw, a.dw, a.dw_bound, 1, c->C);
            if (rms)
                kit_check_same_bits("db", db, a.db_old, (size_t)c->C * sizeof(float));
            else
                kit_check_bound("db", db, a.db, a.db_bound, 1, c->C);
            for (int threads = 2; threads <= 3; threads++) {
                float *y2 = kit_guard_f32(n), *dx2 = kit_guard_f32(n);
                float *dw2 = kit_guard_f32(c->C), *db2 = kit_guard_f32(c->C);
                run_case(rms, c, isa, threads, &a, y2, dx2, dw2, db2);
                kit_check_same_bits("y, threads", y2, y, (size_t)n * sizeof(float));
                kit_check_same_bits("dx, threads", dx2, dx, (size_t)n * sizeof(float));
                kit_check_same_bits("dw, threads", dw2, dw, (size_t)c->C * sizeof(float));
                kit_check_same_bits("db, threads", db2, db, (size_t)c->C * sizeof(float));
            }
            teardown(&a);
        }
    }
}

static void test_layer(void **state)
{
    (void)state;
    check_kind(0);
}

static void test_rms(void **state)
{
    (void)state;
    check_kind(1);
}

static void test_rms_offset(void **state)
{
    (void)state;
    check_kind(FUR_NORM_RMS_OFFSET);
}

/* add: old + gradient, the gradient itself being tested above */
static void test_add(void **state)
{
    (void)state;
    enum { T = 5, C = 37, N = T * C };
    for (fur_isa isa = FUR_ISA_REF; isa <= kit_best_isa(); isa++) {
        kit_exec kit;
        kit_exec_init(&kit, isa, 1, fur_norm_workspace(NULL, T, C) + FUR_ARENA_ALIGN);
        float *x = kit_guard_filled(N, KIT_NORMAL, 1), *w = kit_guard_filled(C, KIT_NORMAL, 2);
        float *dy = kit_guard_filled(N, KIT_NORMAL, 3), *dx = kit_guard_f32(N);
        float *sum = kit_guard_filled(N, KIT_NORMAL, 4);
        double want[N], bound[N];
        assert_int_equal(fur_norm_backward(&kit.exec, 1, T, C, eps, x, w, NULL, dy, dx, 0, NULL, NULL), FUR_OK);
        for (int i = 0; i < N; i++) {
            want[i] = (double)sum[i] + (double)dx[i];
            bound[i] = KIT_U * (fabs(want[i]) + fabs((double)dx[i])) * 1.001;
        }
        assert_int_equal(fur_norm_backward(&kit.exec, 1, T, C, eps, x, w, NULL, dy, sum, 1, NULL, NULL), FUR_OK);
        kit_check_bound("dx +=", sum, want, bound, 1, N);
        kit_guard_free_all();
        kit_exec_clear(&kit);
    }
}

/* A NaN stays in its row, and shows there. */
static void test_nan_stays_in_its_row(void **state)
{
    (void)state;
    enum { T = 3, C = 35, N = T * C };
    for (fur_isa isa = FUR_ISA_REF; isa <= kit_best_isa(); isa++) {
        for (int rms = 0; rms <= FUR_NORM_RMS_OFFSET; rms++) {
            kit_exec kit;
            kit_exec_init(&kit, isa, 1, fur_norm_workspace(NULL, T, C) + FUR_ARENA_ALIGN);
            float *x = kit_guard_filled(N, KIT_NORMAL, 1), *w = kit_guard_filled(C, KIT_NORMAL, 2);
            float *y = kit_guard_f32(N);
            x[C + 34] = NAN;
            assert_int_equal(fur_norm_forward(&kit.exec, rms, T, C, eps, x, w, w, y, NULL), FUR_OK);
            for (int i = 0; i < N; i++)
                assert_true(isnan(y[i]) == (i / C == 1));
            kit_guard_free_all();
            kit_exec_clear(&kit);
        }
    }
}

static void test_refused(void **state)
{
    (void)state;
    float x[4] = {0};
    kit_exec kit;
    kit_exec_init(&kit, FUR_ISA_REF, 1, 64);
    assert_int_equal(fur_norm_forward(&kit.exec, 1, -1, 4, eps, x, x, NULL, x, NULL), FUR_E_SHAPE);
    assert_int_equal(fur_norm_forward(&kit.exec, 1, 1, 0, eps, x, x, NULL, x, NULL), FUR_E_SHAPE);
    assert_int_equal(fur_norm_forward(&kit.exec, 0, 1, 4, eps, x, x, NULL, x, NULL), FUR_E_SHAPE);
    assert_int_equal(fur_norm_backward(&kit.exec, 0, 1000, 4, eps, x, x, NULL, x, x, 0, x, x), FUR_E_MEMORY);
    assert_string_equal(kit.error.text, "norm backward needs 1024 bytes of workspace");
    assert_int_equal(fur_norm_backward(&kit.exec, 0, 0, 4, eps, x, x, NULL, x, x, 0, x, x), FUR_OK);
    kit_exec_clear(&kit);
}

/* What is planned for many rows serves fewer, which are cut into more chunks at some sizes. */
static void test_workspace_grows(void **state)
{
    (void)state;
    int64_t before = 0;
    for (int64_t T = 0; T < 9000; T++) {
        int64_t bytes = fur_norm_workspace(NULL, T, 8);
        assert_true(bytes >= before);
        before = bytes;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_layer),
        cmocka_unit_test(test_rms),
        cmocka_unit_test(test_rms_offset),
        cmocka_unit_test(test_add),
        cmocka_unit_test(test_nan_stays_in_its_row),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_workspace_grows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
