/* SPDX-License-Identifier: Apache-2.0 */
/* Every degree of almost-linear layers, with windows, sink tokens, grouped heads, both directions, one document and
 * several: the formula's gradient, in double, is the slope of its loss along a direction through all parameters, the
 * library's gradient is that of the formula, no further off than twice the plain formula in f32. A model of two layers
 * and 10 numbers a head would need 8,008 features at degree 6; 4 a head make 210. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "attention/far_fit.h"
#include "base/random.h"
#include "kit/model.h"
#include "kit/oracle.h"

typedef struct combination {
    int64_t degree, window, sinks, kv_heads;
    bool causal, packed;
} combination;

static fur_model_config config_of(const combination *x)
{
    return (fur_model_config){.vocabulary = 31,
                              .context = 64,
                              .width = 16,
                              .layers = 2,
                              .heads = 4,
                              .kv_heads = x->kv_heads,
                              .head_dim = 4,
                              .hidden = 20,
                              .norm = FUR_NORM_RMSNORM,
                              .norm_eps = 1e-5,
                              .activation = FUR_ACTIVATION_SWIGLU,
                              .position = FUR_POSITION_ROPE,
                              .rope_theta = 100,
                              .causal = x->causal,
                              .init_std = 0.25,
                              .attention = {1, 1},
                              .window = {x->window, x->window / 2},
                              .sink_tokens = x->sinks,
                              .far_degree = x->degree,
                              .far_bound = 1,
                              .far_chunk = 16,
                              .far_bias = true,
                              .far_max_features = 1 << 16};
}

/* The kit gives means of 0.1 or so, with which logits pass the bound: polynomials that are positive there too. */
static void fit(fur_model *model, const combination *x)
{
    for (int64_t i = 0; i < fur_model_parameters(model); i++) {
        fur_parameter_info p;
        fur_model_parameter(model, i, &p);
        for (int64_t h = 0; strstr(p.name, "far_coefficients") && h < x->kv_heads; h++)
            fur_far_fit_normal(0.5, 2, x->degree, p.data + h * (x->degree + 1));
    }
}

static double loss_of(oracle *o, const kit_row *row)
{
    oracle_output out;
    oracle_run(o, ORACLE_DOUBLE, &row->row, NULL, NULL, 1.0, 0, &out);
    double loss = out.loss;
    oracle_output_clear(&out);
    return loss;
}

static double direction_of(int64_t i, int64_t j)
{
    return fur_random_uniform(77, (uint64_t)i, (uint64_t)j) - 0.5;
}

static void move(oracle *o, double step)
{
    for (int64_t i = 0; i < o->parameters; i++)
        for (int64_t j = 0; j < o->info[i].count && !o->info[i].constant; j++)
            o->value[i][j] += step * direction_of(i, j);
}

/* Four-point difference; returns its relative distance from the gradient. */
static double slope_error(oracle *o, const kit_row *row, const oracle_output *truth)
{
    const double h = 2e-4;
    double expected = 0, f[4];
    static const double steps[] = {1, 1, -3, -1}; /* to h, 2h, -h, -2h */
    for (int64_t i = 0; i < o->parameters; i++)
        for (int64_t j = 0; j < o->info[i].count && !o->info[i].constant; j++)
            expected += direction_of(i, j) * truth->gradient[i][j];
    for (int i = 0; i < 4; i++) {
        move(o, steps[i] * h);
        f[i] = loss_of(o, row);
    }
    move(o, 2 * h);
    double slope = (8 * (f[0] - f[2]) - (f[1] - f[3])) / (12 * h);
    return fabs(slope - expected) / fabs(expected);
}

typedef struct worst {
    double slope, gradient;
    int count;
} worst;

static void check(const combination *x, worst *w)
{
    static const int64_t one[] = {50, 0}, several[] = {41, 1, 16, 33, 0};
    fur_model_config config = config_of(x);
    fur_context *context = kit_context(2);
    fur_model *model = kit_model(context, &config, 5);
    fit(model, x);
    oracle *o = oracle_create(model);
    kit_row row;
    kit_row_create(&config, x->packed ? several : one, 1, 6, &row);
    oracle_output truth, plain;
    oracle_run(o, ORACLE_DOUBLE, &row.row, NULL, NULL, 1.0, 1, &truth);
    oracle_run(o, ORACLE_FLOAT, &row.row, NULL, NULL, 1.0, 1, &plain);
    double slope = slope_error(o, &row, &truth), error = 0, yardstick = 0, size = 0;
    kit_run run;
    kit_gradient g;
    kit_run_create(context, model, &row, 13, FUR_KEEP_NOTHING, &run);
    kit_gradient_create(&run, &row, NULL, 1.0, &g);
    const float *got = g.all;
    for (int64_t i = 0; i < o->parameters; i++)
        for (int64_t j = 0; j < o->info[i].count; j++) {
            double a = (double)*got++ - truth.gradient[i][j], b = plain.gradient[i][j] - truth.gradient[i][j];
            error += a * a;
            yardstick += b * b;
            size += truth.gradient[i][j] * truth.gradient[i][j];
        }
    double ratio = sqrt(error / yardstick);
    if (!(slope <= 1e-6 && ratio <= 2 && error <= 4e-12 * size))
        fail_msg(
            "degree %d, window %d, %d sink tokens, %d key heads, %s, %s: slope off by %.2g, gradient %.2g, plain f32 %.2g",
            (int)x->degree, (int)x->window, (int)x->sinks, (int)x->kv_heads, x->causal ? "causal" : "bidirectional",
            x->packed ? "packed" : "one document", slope, sqrt(error / size), sqrt(yardstick / size));
    w->slope = fmax(w->slope, slope);
    w->gradient = fmax(w->gradient, ratio);
    w->count++;
    kit_gradient_destroy(&g);
    kit_run_destroy(&run);
    oracle_output_clear(&truth);
    oracle_output_clear(&plain);
    kit_row_destroy(&row);
    oracle_destroy(o);
    fur_model_destroy(model);
    fur_context_destroy(context);
}

static void almost_linear_gradients(void **state)
{
    (void)state;
    static const int64_t windows[] = {0, 7, 20}, kv_heads[] = {4, 2, 1};
    worst w = {0, 0, 0};
    for (int64_t degree = 1; degree <= 6; degree++)
        for (int i = 0; i < 3; i++)
            for (int j = 0; j < 3; j++)
                for (int flags = 0; flags < 4; flags++)
                    check(&(combination){degree, windows[i],
                                         (i + j) % 3 == 2   ? 3
                                         : (i + j) % 3 == 1 ? 37
                                                            : 0,
                                         kv_heads[j], flags % 2, flags / 2},
                          &w);
    print_message(
        "%d combinations: slope within %.1g (target 1e-6), gradient off at most %.2f times as far as plain f32\n",
        w.count, w.slope, w.gradient);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(almost_linear_gradients)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
