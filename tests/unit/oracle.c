/* SPDX-License-Identifier: Apache-2.0 */
/* The oracle of whole models is itself checked: its gradient along random directions, one parameter tensor at a time,
 * against four-point central differences of its own loss in double.
 *
 * Error of the difference: h^4 |f'''''| / 30 + 1.5 eps |f| / h. With h = 1e-3 along a direction of length 1 the first
 * is about 1e-13 |f'''''|, the second 3e-13 |f|. Relative to the sum of absolute terms of the derivative, 1e-8 leaves
 * two orders for curvature, and is four orders below any slip of formula. Look-up tables jump where a number changes
 * its sign: a step of 1e-6 meets such a place once in a thousand tokens or so, and errs by 3e-10 |f|, which is taken
 * off. */
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "kit/model.h"
#include "kit/oracle.h"

typedef struct check {
    const kit_model_case *at;
    fur_context *context;
    fur_model *model;
    oracle *o;
    kit_row row;
    oracle_loss_fn loss;
    double step, bound;
} check;

static double loss_of(const check *c)
{
    oracle_output out;
    oracle_run(c->o, ORACLE_DOUBLE, &c->row.row, c->loss, NULL, 1.0, 0, &out);
    double loss = out.loss;
    oracle_output_clear(&out);
    return loss;
}

/* A smooth loss of the whole row that no term by term loss is: log of the sum of all squares, and a linear part. */
static double odd_loss(void *user, int64_t tokens, int64_t width, const double *h, double *dh)
{
    double squares = 1, linear = 0;
    (void)user;
    for (int64_t i = 0; i < tokens * width; i++) {
        squares += h[i] * h[i];
        linear += h[i] * (double)(i % 7 - 3) / 100;
    }
    for (int64_t i = 0; i < tokens * width; i++)
        dh[i] = 2 * h[i] / squares + (double)(i % 7 - 3) / 100;
    return log(squares) + linear;
}

static void move(const check *c, int64_t index, const double *direction, double step)
{
    for (int64_t j = 0; j < c->o->info[index].count; j++)
        c->o->value[index][j] += step * direction[j];
}

/* (8 (f(h) - f(-h)) - (f(2h) - f(-2h))) / 12 h */
static double slope_along(const check *c, int64_t index, const double *direction)
{
    const double h = c->step;
    move(c, index, direction, h);
    double near = loss_of(c);
    move(c, index, direction, h);
    double far = loss_of(c);
    move(c, index, direction, -3 * h);
    near -= loss_of(c);
    move(c, index, direction, -h);
    far -= loss_of(c);
    move(c, index, direction, 2 * h);
    return (8 * near - far) / (12 * h);
}

static double check_parameter(const check *c, const oracle_output *out, int64_t index)
{
    int64_t count = c->o->info[index].count;
    double *direction = calloc((size_t)count, sizeof *direction);
    assert_non_null(direction);
    double length = 0, expected = 0, terms = 0;
    for (int64_t j = 0; j < count; j++) {
        direction[j] = fur_random_uniform(7, (uint64_t)index, (uint64_t)j) - 0.5;
        length += direction[j] * direction[j];
    }
    for (int64_t j = 0; j < count; j++) {
        direction[j] /= sqrt(length);
        expected += direction[j] * out->gradient[index][j];
        terms += fabs(direction[j]) * out->terms[index][j];
    }
    double got = slope_along(c, index, direction), rounding = 4 * DBL_EPSILON * fabs(out->loss) / c->step;
    double error = fmax(0, fabs(got - expected) - rounding) / terms;
    if (!(error <= c->bound))
        fail_msg("%s, %s: slope %.12g, gradient %.12g, error %.3g of its terms", c->at->name, c->o->info[index].name,
                 got, expected, error);
    free(direction);
    return error;
}

/* The gradient by the input, along one direction of the real vectors. Floats cannot be moved by 1e-3 exactly, so the
 * step is what the floats make of it. */
static void check_input(check *c, const oracle_output *out)
{
    int64_t count = c->row.tokens * c->o->config.features;
    double f[2], expected = 0;
    float *kept = malloc((size_t)count * sizeof *kept), *moved[2];
    assert_non_null(kept);
    memcpy(kept, c->row.x, (size_t)count * sizeof *kept);
    for (int side = 0; side < 2; side++) {
        moved[side] = malloc((size_t)count * sizeof(float));
        assert_non_null(moved[side]);
        for (int64_t i = 0; i < count; i++) {
            double step = (fur_random_uniform(9, 1, (uint64_t)i) - 0.5) * 1e-3;
            c->row.x[i] = moved[side][i] = (float)((double)kept[i] + (side ? -step : step));
        }
        f[side] = loss_of(c);
    }
    for (int64_t i = 0; i < count; i++)
        expected += out->dx_TI[i] * ((double)moved[0][i] - (double)moved[1][i]);
    memcpy(c->row.x, kept, (size_t)count * sizeof *kept);
    /* two-point difference: its error is of third order in the step, and second where the floats are not symmetric */
    if (!(fabs(f[0] - f[1] - expected) <= 1e-5 * fabs(expected) + 1e-12))
        fail_msg("%s: input: difference %.12g, gradient %.12g", c->at->name, f[0] - f[1], expected);
    free(kept);
    free(moved[0]);
    free(moved[1]);
}

static void check_case(const kit_model_case *at, oracle_loss_fn loss)
{
    static const int64_t short_lengths[] = {7, 1, 9, 0}, long_lengths[] = {27, 1, 21, 0};
    const int64_t *lengths = at->config.far_degree ? long_lengths : short_lengths; /* far keys want longer ones */
    bool jumps = at->config.lookup_bits > 0;
    check c = {
        .at = at, .context = kit_context(1), .loss = loss, .step = jumps ? 1e-6 : 1e-3, .bound = jumps ? 1e-6 : 1e-9};
    fur_model_config config = at->config;
    config.context = at->config.far_degree ? 32 : 16;
    config.layers = 2;
    for (int64_t layer = 0; at->config.far_degree && layer < 2; layer++)
        config.window[layer] = config.window[layer] < 3 ? config.window[layer] : 3;
    c.model = kit_model(c.context, &config, 11);
    c.o = oracle_create(c.model);
    kit_row_create(&config, lengths, 1, 12, &c.row);
    oracle_output out;
    oracle_run(c.o, ORACLE_DOUBLE, &c.row.row, loss, NULL, 1.0, 1, &out);
    double worst = 0;
    for (int64_t i = 0; i < c.o->parameters; i++)
        if (!c.o->info[i].constant &&
            !(loss && i == c.o->head.index && !config.tied)) /* a loss of the hidden state has no gradient there */
            worst = fmax(worst, check_parameter(&c, &out, i));
    if (config.features)
        check_input(&c, &out);
    print_message("%-50s%s worst error %.2g of the terms\n", at->name, loss ? ", whole-row loss," : ",", worst);
    oracle_output_clear(&out);
    kit_row_destroy(&c.row);
    oracle_destroy(c.o);
    fur_model_destroy(c.model);
    fur_context_destroy(c.context);
}

static void oracle_gradients_are_slopes_of_its_loss(void **state)
{
    (void)state;
    for (int i = 0; i < kit_model_case_count; i++) {
        check_case(&kit_model_cases[i], NULL);
        check_case(&kit_model_cases[i], odd_loss);
    }
}

/* weight and mask, where a slip would not show above: twice the weight is twice the gradient; masked positions' targets
 * do not matter. */
static void oracle_weight_and_mask(void **state)
{
    (void)state;
    fur_context *context = kit_context(1);
    fur_model_config config = kit_model_cases[0].config;
    fur_model *model = kit_model(context, &config, 3);
    oracle *o = oracle_create(model);
    kit_row row;
    static const int64_t lengths[] = {12, 8, 0};
    kit_row_create(&config, lengths, 1, 4, &row);
    oracle_output a, b;
    oracle_run(o, ORACLE_DOUBLE, &row.row, NULL, NULL, 1.0, 1, &a);
    oracle_run(o, ORACLE_DOUBLE, &row.row, NULL, NULL, 2.0, 1, &b);
    assert_true(a.loss == b.loss);
    for (int64_t i = 0; i < o->parameters; i++)
        for (int64_t j = 0; j < o->info[i].count; j++)
            assert_true(fabs(b.gradient[i][j] - 2 * a.gradient[i][j]) <= 1e-13 * b.terms[i][j]);
    double sum = 0;
    int64_t counted = 0;
    for (int64_t t = 0; t < row.tokens; t++) {
        assert_int_equal(isnan(a.nll_T[t]) != 0, row.targets[t] < 0);
        sum += row.targets[t] < 0 ? 0 : a.nll_T[t];
        counted += row.targets[t] >= 0;
    }
    assert_true(counted < row.tokens && fabs(sum / (double)counted - a.loss) < 1e-14 * sum);
    oracle_output_clear(&a);
    oracle_output_clear(&b);
    kit_row_destroy(&row);
    oracle_destroy(o);
    fur_model_destroy(model);
    fur_context_destroy(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(oracle_gradients_are_slopes_of_its_loss),
        cmocka_unit_test(oracle_weight_and_mask),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
