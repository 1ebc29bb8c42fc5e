/* SPDX-License-Identifier: Apache-2.0 */
/* Loss, gradient, Hessian and Gauss-Newton products of a fit, against the paper's dense form, in which row j's logits
 * are A_j x with the block A_j [keys, d1 d2] of A1 (x) A2, written out here entry by entry; and against central
 * differences. Small sizes, f64.
 *
 * Central differences with step h are off by h^2 / 6 of the third derivative and by u / h of the value: with h = 1e-4
 * and four points (error h^4) both are below 1e-9 of these functions' sizes; 1e-7 is asked. */
#include "kit/fit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const kit_fit_case cases[] = {
    {1, 12, 0, 3, 3, 3, 3, 1, false, false, 0, 0, 0, 0, 2},    {3, 9, 0, 3, 3, 3, 3, 1, true, false, 4, 3, 0, 0, 3},
    {2, 14, 0, 3, 3, 3, 2, 1, true, true, 5, 4, 0, 0.3, 4},    {2, 10, 7, 2, 4, 3, 2, 1, false, true, 3, 3, 0, 0, 5},
    {3, 20, 0, 3, 3, 3, 4, 2, true, true, 7, 5, 0, 0.1, 6},    {4, 11, 0, 2, 2, 2, 3, 1, true, false, 4, 4, 0.25, 0, 7},
    {1, 30, 0, 3, 3, 3, 3, 1, true, false, 8, 8, 0.2, 0.2, 8}, {1, 60, 0, 3, 3, 3, 4, 1, false, true, 16, 16, 0, 0, 12},
    {2, 50, 0, 2, 2, 2, 4, 2, true, true, 16, 7, 0, 0.1, 13},
};
enum { CASES = sizeof cases / sizeof cases[0] };

/* Whitened rows as plain arrays, and all that the paper's form needs. */
typedef struct dense {
    int64_t n, m, d1, d2, d3, dv, H, N;
    double *a, *k, *v, *b, *w; /* w: root of weights */
    bool *sees;                /* [n, m] */
} dense;

static double *copy_side(const fit_side *side, int64_t rows)
{
    double *out = malloc((size_t)(rows * side->width) * 8), *raw = malloc((size_t)(rows * side->raw->width) * 8);
    const double *in = fit_rows(side, 0, rows, raw, out);
    if (in != out)
        memcpy(out, in, (size_t)(rows * side->width) * 8);
    free(raw);
    return out;
}

static dense dense_of(const kit_fit *kit)
{
    const fit_problem *p = &kit->problem;
    dense z = {
        p->n, p->m, p->d1, p->d2, p->d3, p->dv, p->heads, p->d1 * p->d2 * p->heads, .w = calloc((size_t)p->n, 8)};
    z.a = copy_side(&p->a, p->n);
    z.k = copy_side(&p->k, p->m);
    z.v = copy_side(&p->v, p->m);
    z.b = malloc((size_t)(z.n * z.dv) * 8);
    z.sees = calloc((size_t)(z.n * z.m), sizeof *z.sees);
    for (int64_t i = 0; i < z.n * z.dv; i++)
        z.b[i] = fit_array_get(&kit->data->b, i);
    for (int64_t i = 0; i < z.n; i++)
        z.w[i] = kit->data->weights ? sqrt(kit->data->weights[i]) : 1;
    for (int64_t s = 0; s < kit->data->sequences; s++)
        for (int64_t i = kit->data->queries[s]; i < kit->data->queries[s + 1] && i < z.n; i++)
            for (int64_t k = kit->data->keys[s]; k < kit->data->keys[s + 1]; k++)
                z.sees[i * z.m + k] = !p->causal || k - kit->data->keys[s] <= i - kit->data->queries[s];
    return z;
}

/* The point of x, and its curvature in this form. */
static void at_point(kit_fit *kit, const double *x, fit_curvature_shape shape, fit_curvature *c)
{
    assert_int_equal(fit_evaluate(&kit->problem, x, &kit->point), FUR_OK);
    assert_int_equal(fit_curvature_push(&kit->problem, &kit->arena, &shape, c), FUR_OK);
    assert_int_equal(fit_curvature_prepare(&kit->problem, x, &kit->point, c), FUR_OK);
}

static void dense_clear(dense *z)
{
    free(z->a), free(z->k), free(z->v), free(z->b), free(z->w), free(z->sees);
}

/* softmax(A_j x) of one head: row k of A_j is a_j (x) k_k */
static void weights_of(const dense *z, const double *x, int64_t head, int64_t j, double *f)
{
    double sum = 0;
    for (int64_t k = 0; k < z->m; k++) {
        f[k] = 0;
        for (int64_t p = 0; p < z->d1; p++)
            for (int64_t q = 0; q < z->d2; q++)
                f[k] += z->a[j * z->d1 + p] * z->k[k * z->d2 + q] * x[(p * z->H + head) * z->d2 + q];
        f[k] = z->sees[j * z->m + k] ? exp(f[k]) : 0;
        sum += f[k];
    }
    for (int64_t k = 0; k < z->m; k++)
        f[k] /= sum;
}

/* Residual sqrt(w) (O - b) [n, dv] and, where wanted, J [n dv, N] = A_j^T (diag f - f f^T) h for h = v Y, and
 * sqrt(w) Phi [n, H d3]. */
static void paper(const dense *z, const double *x, const double *y, double *r, double *J, double *phi)
{
    double *f = malloc((size_t)z->m * 8), *h = malloc((size_t)z->m * 8);
    if (J)
        memset(J, 0, (size_t)(z->n * z->dv * z->N) * 8);
    for (int64_t j = 0; j < z->n; j++) {
        for (int64_t i = 0; i < z->dv; i++)
            r[j * z->dv + i] = -z->w[j] * z->b[j * z->dv + i];
        for (int64_t head = 0; head < z->H; head++) {
            weights_of(z, x, head, j, f);
            for (int64_t c = 0; c < z->d3 && phi; c++) {
                double sum = 0;
                for (int64_t k = 0; k < z->m; k++)
                    sum += f[k] * z->v[k * z->d3 + c];
                phi[(j * z->H + head) * z->d3 + c] = z->w[j] * sum;
            }
            for (int64_t i = 0; i < z->dv; i++) {
                double mean = 0;
                for (int64_t k = 0; k < z->m; k++) {
                    h[k] = 0;
                    for (int64_t c = 0; c < z->d3; c++)
                        h[k] += z->v[k * z->d3 + c] * y[(head * z->d3 + c) * z->dv + i];
                    mean += f[k] * h[k];
                }
                r[j * z->dv + i] += z->w[j] * mean;
                for (int64_t p = 0; p < z->d1 && J; p++)
                    for (int64_t q = 0; q < z->d2; q++) {
                        double sum = 0;
                        for (int64_t k = 0; k < z->m; k++)
                            sum += z->a[j * z->d1 + p] * z->k[k * z->d2 + q] * f[k] * (h[k] - mean);
                        J[(j * z->dv + i) * z->N + (p * z->H + head) * z->d2 + q] = z->w[j] * sum;
                    }
            }
        }
    }
    free(f), free(h);
}

static double loss_of(const dense *z, const double *x, const double *y)
{
    double *r = malloc((size_t)(z->n * z->dv) * 8), sum = 0;
    paper(z, x, y, r, NULL, NULL);
    for (int64_t i = 0; i < z->n * z->dv; i++)
        sum += 0.5 * r[i] * r[i];
    free(r);
    return sum;
}

static double ridge_of(const kit_fit *kit, const double *x, int64_t N)
{
    double sum = 0;
    for (int64_t i = 0; i < N; i++)
        sum += 0.5 * kit->problem.ridge * x[i] * x[i];
    return sum;
}

/* The loss is the paper's; Y is its minimum: no direction of Y lowers it to first order. */
static void test_loss(void **state)
{
    (void)state;
    for (int t = 0; t < CASES; t++) {
        kit_fit kit;
        kit_fit_init(&kit, &cases[t], 2);
        dense z = dense_of(&kit);
        double x[64];
        kit_fit_fill(x, z.N, 11);
        assert_int_equal(fit_evaluate(&kit.problem, x, &kit.point), FUR_OK);
        double want = loss_of(&z, x, kit.point.y), g = 0;
        assert_true(fabs(kit.point.loss - want) <= 1e-12 * want);
        assert_true(fabs(kit.point.objective - want - ridge_of(&kit, x, z.N)) <= 1e-12 * want);
        for (int64_t i = 0; i < z.H * z.d3 * z.dv; i++) {
            double keep = kit.point.y[i], h = 1e-4;
            kit.point.y[i] = keep + h;
            double up = loss_of(&z, x, kit.point.y);
            kit.point.y[i] = keep - h;
            double down = loss_of(&z, x, kit.point.y);
            kit.point.y[i] = keep;
            g = fmax(g, fabs(up - down) / (2 * h));
        }
        assert_true(g <= 1e-8 * (1 + want)); /* quadratic in Y: differences are exact but for rounding */
        fit_measure measure;
        assert_int_equal(fit_measure_tiles(&kit.problem, &kit.problem.train, x, kit.point.y, &measure), FUR_OK);
        assert_true(fabs(0.5 * measure.square - want) <= 1e-12 * want);
        assert_int_equal(measure.pairs, kit.problem.pairs * z.H);
        dense_clear(&z);
        kit_fit_clear(&kit);
    }
}

static double reduced(kit_fit *kit, double *x, int64_t at, double step)
{
    double keep = x[at];
    x[at] += step;
    assert_int_equal(fit_evaluate(&kit->problem, x, &kit->point), FUR_OK);
    x[at] = keep;
    return kit->point.objective;
}

static void test_gradient(void **state)
{
    (void)state;
    const double h = 1e-3;
    for (int t = 0; t < CASES; t++) {
        kit_fit kit;
        kit_fit_init(&kit, &cases[t], 2);
        int64_t N = kit.problem.d1 * fit_d2(&kit.problem);
        double x[64], g[64], size = 0;
        kit_fit_fill(x, N, 11);
        assert_int_equal(fit_evaluate(&kit.problem, x, &kit.point), FUR_OK);
        assert_int_equal(fit_gradient(&kit.problem, x, &kit.point, g), FUR_OK);
        for (int64_t i = 0; i < N; i++)
            size = fmax(size, fabs(g[i]));
        for (int64_t i = 0; i < N; i++) {
            double slope = (reduced(&kit, x, i, -2 * h) - 8 * reduced(&kit, x, i, -h) + 8 * reduced(&kit, x, i, h) -
                            reduced(&kit, x, i, 2 * h)) /
                           (12 * h);
            assert_true(fabs(slope - g[i]) <= 1e-7 * size);
        }
        kit_fit_clear(&kit);
    }
}

/* Gauss-Newton: J^T (1 - q q^T) J of the paper's J, by all three forms and both types; where sequences are long beside
 * the width, from keys alone. */
static void test_products(void **state)
{
    (void)state;
    int twice = 0;
    for (int t = 0; t < CASES; t++) {
        kit_fit kit;
        kit_fit_init(&kit, &cases[t], 2);
        const fit_problem *p = &kit.problem;
        dense z = dense_of(&kit);
        int64_t N = z.N, rows = z.n * z.dv, D3 = z.H * z.d3;
        double x[64], d[64], out[64], *J = malloc((size_t)(rows * N) * 8), *r = malloc((size_t)rows * 8);
        double *phi = malloc((size_t)(z.n * D3) * 8), *S = malloc((size_t)(N * N) * 8),
               *want = calloc((size_t)(N * N), 8);
        kit_fit_fill(x, N, 11);
        assert_int_equal(fit_evaluate(p, x, &kit.point), FUR_OK);
        paper(&z, x, kit.point.y, r, J, phi);
        for (int64_t c = 0; c < D3; c++) { /* Gram-Schmidt, twice, on the columns of phi */
            for (int pass = 0; pass < 2; pass++)
                for (int64_t b = 0; b < c; b++) {
                    double dot = 0;
                    for (int64_t j = 0; j < z.n; j++)
                        dot += phi[j * D3 + b] * phi[j * D3 + c];
                    for (int64_t j = 0; j < z.n; j++)
                        phi[j * D3 + c] -= dot * phi[j * D3 + b];
                }
            double norm = 0;
            for (int64_t j = 0; j < z.n; j++)
                norm = hypot(norm, phi[j * D3 + c]);
            for (int64_t j = 0; j < z.n; j++)
                phi[j * D3 + c] /= norm;
        }
        for (int64_t i = 0; i < z.dv; i++)
            for (int64_t e = 0; e < N; e++)
                for (int64_t c = 0; c < D3; c++) {
                    double dot = 0;
                    for (int64_t j = 0; j < z.n; j++)
                        dot += phi[j * D3 + c] * J[(j * z.dv + i) * N + e];
                    for (int64_t j = 0; j < z.n; j++)
                        J[(j * z.dv + i) * N + e] -= dot * phi[j * D3 + c];
                }
        double size = 0;
        for (int64_t e = 0; e < N; e++)
            for (int64_t f = 0; f < N; f++) {
                for (int64_t i = 0; i < rows; i++)
                    want[e * N + f] += J[i * N + e] * J[i * N + f];
                size = fmax(size, fabs(want[e * N + f]));
            }
        /* dense; free, stored, free with weights kept, in f64 and then in f32 */
        for (int form = 0; form < 7; form++) {
            fit_curvature c;
            int64_t mark = fur_arena_mark(&kit.arena);
            fur_fit_route route = form == 0 ? FUR_FIT_DENSE : form % 3 == 2 ? FUR_FIT_STORED : FUR_FIT_MATRIX_FREE;
            at_point(&kit, x, (fit_curvature_shape){route, form<4, false, form> 0 && form % 3 == 0, 0}, &c);
            twice += c.twice;
            if (form == 0)
                assert_int_equal(fit_curvature_dense(p, &kit.point, &c, S), FUR_OK);
            for (int64_t e = 0; e < N; e++) {
                memset(d, 0, sizeof d);
                d[e] = 1;
                if (form > 0)
                    assert_int_equal(fit_curvature_product(p, &kit.point, &c, d, out), FUR_OK);
                for (int64_t f = 0; f < N; f++) {
                    double ridge = form > 0 && e == f ? p->ridge : 0; /* the dense form leaves it out */
                    double got = form > 0 ? out[f] : S[f * N + e];
                    assert_true(fabs(got - ridge - want[f * N + e]) <= (form < 4 ? 1e-11 : 2e-5) * size);
                }
            }
            if (form == 1) { /* the preconditioner: I (x) sum of G G^T is the diagonal block average */
                double trace = 0, sum = 0;
                for (int64_t e = 0; e < fit_d2(p); e++)
                    trace += c.block[e * fit_d2(p) + e];
                for (int64_t e = 0; e < N; e++)
                    sum += want[e * N + e];
                assert_true(trace > 0 && sum <= trace * (double)(p->d1 * p->n));
            }
            fur_arena_release(&kit.arena, mark);
        }
        free(J), free(r), free(phi), free(S), free(want);
        dense_clear(&z);
        kit_fit_clear(&kit);
    }
    assert_true(twice >= 14);
}

/* The whole Hessian of the reduced objective: products against differences of the gradient. */
static void test_newton(void **state)
{
    (void)state;
    const double h = 1e-3;
    for (int t = 0; t < CASES; t++) {
        if (cases[t].heads > 1)
            continue;
        kit_fit kit;
        kit_fit_init(&kit, &cases[t], 2);
        const fit_problem *p = &kit.problem;
        int64_t N = p->d1 * fit_d2(p);
        double x[64], y[64], d[64], out[64], g[4][64], size = 0;
        fit_curvature c;
        kit_fit_fill(x, N, 11);
        kit_fit_fill(d, N, 12);
        for (int i = 0; i < 4; i++) {
            static const double step[4] = {-2, -1, 1, 2};
            for (int64_t e = 0; e < N; e++)
                y[e] = x[e] + step[i] * h * d[e];
            assert_int_equal(fit_evaluate(p, y, &kit.point), FUR_OK);
            assert_int_equal(fit_gradient(p, y, &kit.point, g[i]), FUR_OK);
        }
        at_point(&kit, x, (fit_curvature_shape){FUR_FIT_MATRIX_FREE, true, true, t % 2 == 0, 0}, &c);
        assert_int_equal(fit_curvature_product(p, &kit.point, &c, d, out), FUR_OK);
        for (int64_t e = 0; e < N; e++)
            size = fmax(size, fabs(out[e]));
        for (int64_t e = 0; e < N; e++) {
            double want = (g[0][e] - 8 * g[1][e] + 8 * g[2][e] - g[3][e]) / (12 * h);
            assert_true(fabs(want - out[e]) <= 1e-7 * size);
        }
        kit_fit_clear(&kit);
    }
}

/* One tile for all rows and keys, or many: the same to rounding. */
static void test_blocked(void **state)
{
    (void)state;
    static const int64_t tiles[][2] = {{1000, 1000}, {1, 1}, {7, 5}, {16, 64}};
    kit_fit_case what = {3, 70, 0, 4, 4, 4, 4, 2, true, true, 0, 0, 0, 0.1, 9};
    double first_loss = 0, first_g[64], first_s[64];
    for (int t = 0; t < 4; t++) {
        kit_fit kit;
        fit_curvature c;
        double x[64], d[64], g[64], s[64];
        what.tile_rows = tiles[t][0];
        what.tile_keys = tiles[t][1];
        kit_fit_init(&kit, &what, 2);
        int64_t N = kit.problem.d1 * fit_d2(&kit.problem);
        kit_fit_fill(x, N, 11);
        kit_fit_fill(d, N, 12);
        at_point(&kit, x, (fit_curvature_shape){FUR_FIT_MATRIX_FREE, true, false, t > 1, 0}, &c);
        assert_int_equal(fit_gradient(&kit.problem, x, &kit.point, g), FUR_OK);
        assert_int_equal(fit_curvature_product(&kit.problem, &kit.point, &c, d, s), FUR_OK);
        if (t == 0) {
            first_loss = kit.point.loss;
            memcpy(first_g, g, sizeof g);
            memcpy(first_s, s, sizeof s);
        }
        double size_g = 0, size_s = 0;
        for (int64_t i = 0; i < N; i++) {
            size_g = fmax(size_g, fabs(first_g[i]));
            size_s = fmax(size_s, fabs(first_s[i]));
        }
        assert_true(fabs(kit.point.loss - first_loss) <= 1e-12 * first_loss);
        for (int64_t i = 0; i < N; i++) {
            assert_true(fabs(g[i] - first_g[i]) <= 1e-12 * size_g);
            assert_true(fabs(s[i] - first_s[i]) <= 1e-12 * size_s);
        }
        kit_fit_clear(&kit);
    }
}

/* The same bits for any number of threads. */
static void test_threads(void **state)
{
    (void)state;
    const kit_fit_case what = {5, 90, 0, 5, 5, 5, 5, 1, true, true, 16, 16, 0, 0.1, 10};
    double first[4][64];
    for (int threads = 1; threads <= 3; threads++) {
        kit_fit kit;
        fit_curvature c;
        double x[64], d[64], got[4][64];
        memset(got, 0, sizeof got);
        kit_fit_init(&kit, &what, threads);
        int64_t N = kit.problem.d1 * fit_d2(&kit.problem);
        kit_fit_fill(x, N, 11);
        kit_fit_fill(d, N, 12);
        for (int form = 0; form < 3; form++) {
            fur_fit_route route = form == 0 ? FUR_FIT_STORED : FUR_FIT_MATRIX_FREE;
            at_point(&kit, x, (fit_curvature_shape){route, false, false, form == 2, 0}, &c);
            assert_int_equal(fit_curvature_product(&kit.problem, &kit.point, &c, d, got[1 + form]), FUR_OK);
        }
        assert_int_equal(fit_gradient(&kit.problem, x, &kit.point, got[0]), FUR_OK);
        if (threads == 1)
            memcpy(first, got, sizeof got);
        kit_check_same_bits("gradient and products", first, got, sizeof got);
        kit_fit_clear(&kit);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_loss),     cmocka_unit_test(test_gradient),
                                       cmocka_unit_test(test_products), cmocka_unit_test(test_newton),
                                       cmocka_unit_test(test_blocked),  cmocka_unit_test(test_threads)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
