/* SPDX-License-Identifier: Apache-2.0 */
/* The polynomial in place of e^t: least squares where that is positive, minimax where not, and a bound that holds.
 * Figures to compare with: sup relative errors of the minimax polynomial by linear programming, and of least squares at
 * the distributions that heads have. */
#include "kit/kit.h"

#include <math.h>

#include "attention/far_fit.h"

static double value_of(const float *c, int64_t degree, double t)
{
    double p = 0;
    for (int64_t l = degree; l >= 0; l--)
        p = p * t + (double)c[l];
    return p;
}

static double sup(const float *c, int64_t degree, double range, double *least)
{
    double worst = 0;
    *least = (double)INFINITY;
    for (int n = 0; n <= 100000; n++) {
        double t = range * (n / 50000.0 - 1), p = value_of(c, degree, t);
        worst = fmax(worst, fabs(p * exp(-t) - 1));
        *least = fmin(*least, p);
    }
    return worst;
}

/* No sample at all: the safe form. Within 5 % of the optimum, which linear programming found to two digits. */
static void test_minimax(void **state)
{
    (void)state;
    static const struct {
        double bound;
        int64_t degree;
        double optimum;
    } known[] = {{0.5, 2, 5.2e-3}, {0.5, 3, 3.2e-4}, {1, 2, 4.0e-2}, {1, 3, 5.0e-3}, {1, 4, 5.0e-4},
                 {1, 5, 4.2e-5},   {2, 4, 1.5e-2},   {2, 5, 2.5e-3}, {2, 6, 3.6e-4}, {4, 6, 3.3e-2}};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        float c[7];
        double least, t = 0, weight = 0;
        assert_int_equal(fur_far_fit(0, &t, &weight, known[i].bound, known[i].degree, c), 1);
        double worst = sup(c, known[i].degree, known[i].bound, &least);
        print_message("bound %g, degree %d: %.2e, optimum %.1e\n", known[i].bound, (int)known[i].degree, worst,
                      known[i].optimum);
        assert_true(worst <= 1.05 * known[i].optimum && least > 0);
    }
}

/* The bound is above the error everywhere and, where it is not lost in e^range, near it. Positive for every degree. */
static void test_bound(void **state)
{
    (void)state;
    static const double bounds[] = {0.1, 0.5, 1, 2, 4, 8, 16};
    for (size_t b = 0; b < sizeof bounds / sizeof bounds[0]; b++)
        for (int64_t degree = 1; degree <= 6; degree++)
            for (int dim = 8; dim <= 64; dim *= 2) {
                float c[7];
                double least;
                fur_far_fit_normal(bounds[b] / sqrt(dim), bounds[b], degree, c);
                double worst = sup(c, degree, bounds[b], &least), bound = fur_far_relative_error(c, degree, bounds[b]);
                if (!(least > 0 && bound >= worst && isfinite(bound)))
                    fail_msg("bound %g, degree %d, width %d: least %g, error %g, bound %g", bounds[b], (int)degree, dim,
                             least, worst, bound);
                if (bounds[b] <= 2 && worst > 1e-2)
                    assert_true(bound <= 1.3 * worst);
            }
    assert_true(isinf(fur_far_relative_error((float[]){1, NAN}, 1, 1)));
}

/* Least squares at degree 2 for unit vectors of 32 that point anywhere: mean error of weights 2e-3 or below. */
static void test_least_squares(void **state)
{
    (void)state;
    float c[3];
    double sigma = 1 / sqrt(32.0), squares = 0, weights = 0;
    assert_int_equal(fur_far_fit_normal(sigma, 1, 2, c), 0);
    for (int n = -3000; n <= 3000; n++) {
        double t = n / 3000.0, w = exp(-0.5 * t * t / (sigma * sigma)), e = value_of(c, 2, t) - exp(t);
        squares += w * e * e;
        weights += w;
    }
    print_message("root mean square error of weights %.2e\n", sqrt(squares / weights));
    assert_true(sqrt(squares / weights) < 4e-3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_minimax),
        cmocka_unit_test(test_bound),
        cmocka_unit_test(test_least_squares),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
