/* SPDX-License-Identifier: Apache-2.0 */
#include "attention/far_fit.h"

#include <math.h>
#include <string.h>

#define PI 3.14159265358979323846
enum { MOST = 7, NODES = 513, GRID = 1 << 16, LAWSON_STEPS = 200 };

static double value_of(const float *c, int64_t degree, double t)
{
    double p = 0;
    for (int64_t l = degree; l >= 0; l--)
        p = p * t + (double)c[l];
    return p;
}

/* Sums of w s^(i+j) and of w s^i f, of a polynomial in s = t / scale. */
typedef struct normal_equations {
    int64_t size;
    double scale, a[MOST][MOST], b[MOST];
} normal_equations;

static void gather(normal_equations *e, double t, double weight, double row_factor, double f)
{
    double power[MOST], s = t / e->scale;
    power[0] = row_factor;
    for (int64_t i = 1; i < e->size; i++)
        power[i] = power[i - 1] * s;
    for (int64_t i = 0; i < e->size; i++) {
        for (int64_t j = 0; j < e->size; j++)
            e->a[i][j] += weight * power[i] * power[j];
        e->b[i] += weight * power[i] * f;
    }
}

/* Cholesky, with a ridge of a few roundings of the diagonal: points may be fewer than coefficients. */
static void solve(normal_equations *e, float *c)
{
    double x[MOST];
    for (int64_t j = 0; j < e->size; j++) {
        e->a[j][j] += 1e-13 * e->a[0][0] + 1e-13 * e->a[j][j];
        for (int64_t k = 0; k < j; k++)
            e->a[j][j] -= e->a[j][k] * e->a[j][k];
        e->a[j][j] = sqrt(fmax(e->a[j][j], 1e-300));
        for (int64_t i = j + 1; i < e->size; i++) {
            for (int64_t k = 0; k < j; k++)
                e->a[i][j] -= e->a[i][k] * e->a[j][k];
            e->a[i][j] /= e->a[j][j];
        }
    }
    for (int64_t i = 0; i < e->size; i++) {
        x[i] = e->b[i];
        for (int64_t k = 0; k < i; k++)
            x[i] -= e->a[i][k] * x[k];
        x[i] /= e->a[i][i];
    }
    for (int64_t i = e->size - 1; i >= 0; i--) {
        for (int64_t k = i + 1; k < e->size; k++)
            x[i] -= e->a[k][i] * x[k];
        x[i] /= e->a[i][i];
    }
    double power = 1;
    for (int64_t i = 0; i < e->size; i++) {
        c[i] = (float)(x[i] / power);
        power *= e->scale;
    }
}

/* Lawson's iteration: least squares of P / e^t - 1, weights multiplied by what is left, tend to the minimax polynomial.
 */
static void fit_minimax(double range, int64_t degree, float *c)
{
    double weight[NODES], t[NODES], least = (double)INFINITY;
    float trial[MOST];
    for (int n = 0; n < NODES; n++) {
        t[n] = range * cos(PI * n / (NODES - 1));
        weight[n] = 1.0 / NODES;
    }
    for (int step = 0; step < LAWSON_STEPS; step++) {
        normal_equations e = {.size = degree + 1, .scale = range};
        double sum = 0, worst = 0;
        for (int n = 0; n < NODES; n++)
            gather(&e, t[n], weight[n], exp(-t[n]), 1);
        solve(&e, trial);
        for (int n = 0; n < NODES; n++) {
            double error = fabs(value_of(trial, degree, t[n]) * exp(-t[n]) - 1);
            worst = fmax(worst, error);
            weight[n] *= error;
            sum += weight[n];
        }
        if (worst < least) {
            least = worst;
            memcpy(c, trial, (size_t)(degree + 1) * sizeof *c);
        }
        for (int n = 0; n < NODES && sum > 0; n++)
            weight[n] /= sum;
    }
}

static int is_positive(const float *c, int64_t degree, double range)
{
    for (int n = 0; n <= GRID; n++)
        if (!(value_of(c, degree, range * (2.0 * n / GRID - 1)) > 0))
            return 0;
    return 1;
}

int fur_far_fit(int64_t count, const double *t, const double *weight, double range, int64_t degree, float *c)
{
    double squares = 0, sum = 0;
    for (int64_t n = 0; n < count; n++) {
        squares += weight[n] * t[n] * t[n];
        sum += weight[n];
    }
    normal_equations fit = {.size = degree + 1, .scale = fmax(fmax(sqrt(squares / sum), 1e-6 * range), 1e-12)}, e = fit;
    for (int64_t n = 0; n < count; n++)
        gather(&fit, t[n], weight[n] / sum, 1, exp(t[n]));
    e = fit;
    solve(&e, c);
    if (count > 0 && (range <= 0 || is_positive(c, degree, range)))
        return 0;
    /* relative errors all over the range beside, of as little weight as makes it positive */
    double share = 1e-9;
    while (count > 0 && share < 2) {
        e = fit;
        for (int n = 0; n < NODES; n++) {
            double node = range * cos(PI * n / (NODES - 1));
            gather(&e, node, share / NODES, exp(-node), 1);
        }
        solve(&e, c);
        if (is_positive(c, degree, range))
            return 0;
        share *= 4;
    }
    fit_minimax(range, degree, c);
    return 1;
}

int fur_far_fit_normal(double deviation, double range, int64_t degree, float *c)
{
    double t[NODES], weight[NODES];
    for (int n = 0; n < NODES; n++) {
        double sigma = fmin(deviation, range);
        t[n] = fmin(range, 6 * sigma) * (2.0 * n / (NODES - 1) - 1);
        weight[n] = exp(-0.5 * t[n] * t[n] / (sigma * sigma));
    }
    return fur_far_fit(NODES, t, weight, range, degree, c);
}

double fur_far_relative_error(const float *c, int64_t degree, double range)
{
    double worst = 0, step = 2 * range / GRID, size = 0, power = 1;
    for (int64_t l = 0; l <= degree; l++) {
        size += fabs((double)c[l]) * power * (1 + (double)l / range);
        power *= range;
    }
    for (int n = 0; n <= GRID; n++) {
        double t = -range + step * n;
        worst = fmax(worst, fabs(value_of(c, degree, t) * exp(-t) - 1));
    }
    /* |d/dt P e^-t| <= (|P| + |P'|) e^range */
    double error = worst + 0.5 * step * size * exp(range);
    return isfinite(error) ? error : (double)INFINITY;
}

/* |P''| + e^t for |.| up to `size`: how far P - e^t may bend. */
static double bend(const float *c, int64_t degree, double size)
{
    double sum = 0; /* Horner */
    for (int64_t l = degree; l >= 2; l--)
        sum = sum * size + (double)(l * (l - 1)) * fabs((double)c[l]);
    return exp(size) + sum;
}

void fur_far_majorant(const float *c, int64_t degree, double range, int64_t power, double mean, double *alpha,
                      double *beta)
{
    enum { CELLS = 2048, TRIALS = 48 };
    double off[CELLS], height[CELLS], step = 2 * range / CELLS, most = 0;
    for (int n = 0; n < CELLS; n++) { /* a chord, and what lies above it; 0 is between two cells */
        double a = -range + step * n, b = n == CELLS - 1 ? range : a + step, size = fmax(fabs(a), fabs(b));
        off[n] = fmax(fabs(value_of(c, degree, a) - exp(a)), fabs(value_of(c, degree, b) - exp(b))) +
                 step * step / 8 * bend(c, degree, size);
        height[n] = pow(fmin(fabs(a), fabs(b)), (double)power);
        most = isfinite(off[n]) ? fmax(most, off[n]) : (double)INFINITY;
    }
    *alpha = most;
    *beta = 0;
    for (int trial = 0; trial < TRIALS && power > 0 && isfinite(most); trial++) {
        double slope = 2 * most / pow(range, (double)power) * pow(0.75, trial), rest = 0;
        for (int n = 0; n < CELLS; n++)
            rest = fmax(rest, off[n] - slope * height[n]);
        if (rest + slope * mean < *alpha + *beta * mean) {
            *alpha = rest;
            *beta = slope;
        }
    }
}
