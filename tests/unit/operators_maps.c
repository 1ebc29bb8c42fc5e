/* SPDX-License-Identifier: Apache-2.0 */
/* Look-up projections, the feedforward and cross-entropy of operators.h: in double their gradients are slopes; in float
 * they are as near to that as rounding allows; the same bits for any number of threads; memory as stated; refusals.
 *
 * Bounds, u = 2^-24. Look-up: a weight is a product of `bits` factors, each off by 6 u, times a sum of as many, so
 * (7 bits + 12) u; e^(-2 m / t) of the flipped row by 2 m / t more, and its s - 2 m, with 3 bits or more at least a
 * fifth of s + 2 m, five times as much; sums of n terms n u. Cross-entropy: a logit errs by L = (C + 8) u sum |h w|;
 * a row's loss by 2 L and what op/xent/xent.h says; dlogit by p (e^2L - 1) more.
 * Feedforward: a sum of n terms of random sign errs by less than sqrt(n) u of its own size, in one standard deviation;
 * at most six such sums follow one another, each passed on by a factor of 2 at most where norms and activations are of
 * order 1: 16 sqrt(n) u of each array, as a whole, n the longest sum. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/random.h"
#include "furlong/furlong.h"
#include "kit/kit.h"
#include "kit/model.h"

static double *doubles(int64_t count)
{
    double *x = calloc((size_t)count + 1, sizeof *x);
    assert_non_null(x);
    return x;
}

static double *widened(const float *x, int64_t count)
{
    double *y = doubles(count);
    for (int64_t i = 0; i < count; i++)
        y[i] = (double)x[i];
    return y;
}

static double *absolute(const double *x, int64_t count)
{
    double *y = doubles(count);
    for (int64_t i = 0; i < count; i++)
        y[i] = fabs(x[i]);
    return y;
}

static double direction(uint64_t of, int64_t i)
{
    return fur_random_uniform(91, of, (uint64_t)i) - 0.5;
}

/* One array of a function: moved along its direction while a slope is taken. */
typedef struct moving {
    double *x;
    const double *gradient;
    int64_t count;
} moving;

static void move(const moving *list, int count, double step)
{
    for (int a = 0; a < count; a++)
        for (int64_t i = 0; list[a].x && i < list[a].count; i++)
            list[a].x[i] += step * direction((uint64_t)a, i);
}

typedef double (*value_fn)(void *user);

/* Four-point difference against the gradients, relative to the sum of their terms' sizes. */
static double slope_error(const moving *list, int count, double h, value_fn value, void *user)
{
    static const double steps[] = {1, 1, -3, -1}; /* to h, 2h, -h, -2h */
    double f[4], expected = 0, size = 0;
    for (int a = 0; a < count; a++)
        for (int64_t i = 0; list[a].x && i < list[a].count; i++) {
            expected += list[a].gradient[i] * direction((uint64_t)a, i);
            size += fabs(list[a].gradient[i] * direction((uint64_t)a, i));
        }
    for (int i = 0; i < 4; i++) {
        move(list, count, steps[i] * h);
        f[i] = value(user);
    }
    move(list, count, 2 * h);
    return fabs((8 * (f[0] - f[2]) - (f[1] - f[3])) / (12 * h) - expected) / size;
}

static double dot(const double *a, const double *b, int64_t count)
{
    double sum = 0;
    for (int64_t i = 0; i < count; i++)
        sum += a[i] * b[i];
    return sum;
}

/* ---- look-up ----------------------------------------------------------------------------------------------------- */

static const fur_operator_lookup lookups[] = {
    {.tokens = 1, .in = 8, .out = 3, .bits = 4},
    {.tokens = 16, .in = 24, .out = 70, .bits = 8},
    {.tokens = 100, .in = 24, .out = 70, .bits = 6, .two_rows = true},
    {.tokens = 100, .in = 24, .out = 64, .bits = 4, .temperature = 0.7},
    {.tokens = 33, .in = 12, .out = 130, .bits = 3, .temperature = 1.5, .two_rows = true},
    {.tokens = 70, .in = 5, .out = 7, .bits = 1},
};
enum { LOOKUPS = sizeof lookups / sizeof *lookups };

typedef struct lookup_arrays {
    fur_context *context;
    fur_operator_lookup s;
    int64_t x_count, table_count, y_count;
    float *x, *table, *bias, *dy;
    double *x64, *table64, *bias64, *dy64, *y64;
} lookup_arrays;

/* A chunk away from where y jumps, for the differences: changes of sign, and of which coordinate is the least. */
static void set_apart(float *z, int64_t bits)
{
    int64_t least = 0;
    for (int64_t i = 0; i < bits; i++) {
        z[i] += z[i] < 0 ? -0.05f : 0.05f;
        least = fabsf(z[i]) < fabsf(z[least]) ? i : least;
    }
    z[least] *= 0.5f;
}

static lookup_arrays lookup_arrays_of(fur_context *context, const fur_operator_lookup *s)
{
    lookup_arrays a = {.context = context, .s = *s};
    a.s.struct_size = sizeof a.s;
    a.x_count = s->tokens * s->in;
    a.y_count = s->tokens * s->out;
    a.table_count = (s->in / s->bits << s->bits) * s->out;
    a.x = kit_guard_filled(a.x_count, KIT_NORMAL, 1);
    for (int64_t i = 0; i < a.x_count; i += s->bits)
        set_apart(a.x + i, s->bits);
    a.table = kit_guard_filled(a.table_count, KIT_NORMAL, 2);
    a.bias = kit_guard_filled(s->out, KIT_NORMAL, 3);
    a.dy = kit_guard_filled(a.y_count, KIT_NORMAL, 4);
    a.x64 = widened(a.x, a.x_count);
    a.table64 = widened(a.table, a.table_count);
    a.bias64 = widened(a.bias, s->out);
    a.dy64 = widened(a.dy, a.y_count);
    a.y64 = doubles(a.y_count);
    return a;
}

static void lookup_clear(lookup_arrays *a)
{
    kit_guard_free_all();
    double *all[] = {a->x64, a->table64, a->bias64, a->dy64, a->y64};
    for (int i = 0; i < 5; i++)
        free(all[i]);
}

static double lookup_value(void *user)
{
    lookup_arrays *a = user;
    kit_ok(a->context, fur_operator_lookup_forward_f64(a->context, &a->s, a->x64, a->table64, a->bias64, a->y64));
    return dot(a->dy64, a->y64, a->y_count);
}

static void lookup_slopes(void **state)
{
    (void)state;
    fur_context *context = kit_context(2);
    for (int i = 0; i < LOOKUPS; i++) {
        lookup_arrays a = lookup_arrays_of(context, &lookups[i]);
        double *dx = doubles(a.x_count), *dtable = doubles(a.table_count), *dbias = doubles(a.s.out);
        kit_ok(context, fur_operator_lookup_backward_f64(context, &a.s, a.x64, a.table64, a.dy64, dx, dtable, dbias));
        const moving list[] = {{a.x64, dx, a.x_count}, {a.table64, dtable, a.table_count}, {a.bias64, dbias, a.s.out}};
        double error = slope_error(list, 3, 1e-4, lookup_value, &a);
        if (!(error <= 1e-9))
            fail_msg("look-up %d: slope off by %.3g", i, error);
        free(dx);
        free(dtable);
        free(dbias);
        lookup_clear(&a);
    }
    fur_context_destroy(context);
}

static void scale(double *x, double factor, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        x[i] = factor * fabs(x[i]) + 1e-37;
}

static void lookup_near(fur_context *context, const fur_operator_lookup *s)
{
    lookup_arrays a = lookup_arrays_of(context, s);
    fur_operator_lookup single = a.s;
    single.two_rows = false;
    float *y = kit_guard_f32(a.y_count), *dx = kit_guard_f32(a.x_count), *dtable = kit_guard_f32(a.table_count),
          *dbias = kit_guard_f32(s->out);
    double *abs_table = absolute(a.table64, a.table_count), *abs_dy = absolute(a.dy64, a.y_count),
           *abs_bias = absolute(a.bias64, s->out), *bound_y = doubles(a.y_count), *bound_table = doubles(a.table_count),
           *bound_x = doubles(a.x_count), *bound_bias = doubles(s->out), *one = doubles(a.x_count),
           *dx64 = doubles(a.x_count), *dtable64 = doubles(a.table_count), *dbias64 = doubles(s->out);
    kit_ok(context, fur_operator_lookup_forward(context, &a.s, a.x, a.table, a.bias, y));
    kit_ok(context, fur_operator_lookup_backward(context, &a.s, a.x, a.table, a.dy, dx, dtable, dbias));
    kit_ok(context, fur_operator_lookup_backward_f64(context, &a.s, a.x64, a.table64, a.dy64, dx64, dtable64, dbias64));
    lookup_value(&a);
    kit_ok(context, fur_operator_lookup_forward_f64(context, &a.s, a.x64, abs_table, abs_bias, bound_y));
    kit_ok(context,
           fur_operator_lookup_backward_f64(context, &a.s, a.x64, abs_table, abs_dy, bound_x, bound_table, bound_bias));
    kit_ok(context, fur_operator_lookup_backward_f64(context, &single, a.x64, abs_table, abs_dy, one, NULL, NULL));
    double t = s->temperature > 0 ? s->temperature : 1, rows = s->two_rows ? 2 : 1;
    double weight = (s->two_rows ? 5 : 1) * (7 * (double)s->bits + 12 + (s->two_rows ? 8 / t : 0));
    for (int64_t i = 0; i < a.x_count; i++)
        bound_x[i] = fabs(one[i]) + fabs(bound_x[i] - one[i]);
    scale(bound_y, KIT_U * (weight + rows * (double)s->in / (double)s->bits + 2), a.y_count);
    scale(bound_table, KIT_U * (weight + rows * (double)s->tokens + 2), a.table_count);
    scale(bound_bias, KIT_U * (double)(s->tokens + 2), s->out);
    scale(bound_x, KIT_U * (2 * weight + (double)s->out + 8), a.x_count);
    kit_check_bound("y", y, a.y64, bound_y, 1, a.y_count);
    kit_check_bound("dtable", dtable, dtable64, bound_table, 1, a.table_count);
    kit_check_bound("dbias", dbias, dbias64, bound_bias, 1, s->out);
    kit_check_bound("dx", dx, dx64, bound_x, 1, a.x_count);
    double *all[] = {abs_table,  abs_dy, abs_bias, bound_y,  bound_table, bound_x,
                     bound_bias, one,    dx64,     dtable64, dbias64};
    for (int i = 0; i < 11; i++)
        free(all[i]);
    lookup_clear(&a);
}

static void lookup_is_near(void **state)
{
    (void)state;
    fur_context *context = kit_context(2);
    for (int i = 0; i < LOOKUPS; i++)
        lookup_near(context, &lookups[i]);
    fur_context_destroy(context);
}

/* ---- feedforward ------------------------------------------------------------------------------------------------- */

enum { PARTS = 10 };

typedef struct feedforward_case {
    fur_operator_feedforward s;
    unsigned parts; /* bit i: part i is there, in the order of the struct */
} feedforward_case;

/* norm, its bias; gate, its bias; up, its bias; inner, its bias; down, its bias */
static const feedforward_case feedforwards[] = {
    {{.tokens = 1, .width = 1, .hidden = 1}, 0x110},
    {{.tokens = 37, .width = 20, .hidden = 50, .has_norm = true, .residual = true}, 0x333},
    {{.tokens = 600,
      .width = 24,
      .hidden = 40,
      .activation = FUR_ACTIVATION_SWIGLU,
      .has_norm = true,
      .norm = FUR_NORM_RMSNORM,
      .residual = true},
     0x115},
    {{.tokens = 40, .width = 33, .hidden = 70, .activation = FUR_ACTIVATION_SWIGLU}, 0x33c},
    {{.tokens = 40, .width = 12, .hidden = 30, .activation = FUR_ACTIVATION_GEGLU}, 0x114},
    {{.tokens = 50, .width = 16, .hidden = 33, .activation = FUR_ACTIVATION_NORM, .has_norm = true, .norm_eps = 1e-3},
     0x1d3},
};
enum { FEEDFORWARDS = sizeof feedforwards / sizeof *feedforwards };

typedef struct feedforward_arrays {
    fur_context *context;
    fur_operator_feedforward s;
    int64_t x_count, count[PARTS];
    float *x, *dy, *w[PARTS], *g[PARTS], *y, *dx;
    double *x64, *dy64, *w64[PARTS], *g64[PARTS], *y64, *dx64;
} feedforward_arrays;

static feedforward_arrays feedforward_arrays_of(fur_context *context, const feedforward_case *c)
{
    int64_t C = c->s.width, F = c->s.hidden;
    feedforward_arrays a = {
        .context = context, .s = c->s, .x_count = c->s.tokens * C, .count = {C, C, C * F, F, C * F, F, F, F, C * F, C}};
    a.s.struct_size = sizeof a.s;
    a.x = kit_guard_filled(a.x_count, KIT_NORMAL, 1);
    a.dy = kit_guard_filled(a.x_count, KIT_NORMAL, 2);
    a.y = kit_guard_f32(a.x_count);
    a.dx = kit_guard_f32(a.x_count);
    a.x64 = widened(a.x, a.x_count);
    a.dy64 = widened(a.dy, a.x_count);
    a.y64 = doubles(a.x_count);
    a.dx64 = doubles(a.x_count);
    for (int i = 0; i < PARTS; i++) {
        if (!(c->parts >> i & 1))
            continue;
        a.w[i] = kit_guard_filled(a.count[i], KIT_NORMAL, 10 + (uint64_t)i);
        double size = i == 8 ? 1 / sqrt((double)F) : i == 2 || i == 4 ? 1 / sqrt((double)C) : 0.3;
        for (int64_t j = 0; j < a.count[i]; j++)
            a.w[i][j] = (float)(size * (double)a.w[i][j] + (i == 0 || i == 6));
        a.g[i] = kit_guard_f32(a.count[i]);
        a.w64[i] = widened(a.w[i], a.count[i]);
        a.g64[i] = doubles(a.count[i]);
    }
    return a;
}

static void feedforward_clear(feedforward_arrays *a)
{
    kit_guard_free_all();
    double *all[] = {a->x64, a->dy64, a->y64, a->dx64};
    for (int i = 0; i < 4; i++)
        free(all[i]);
    for (int i = 0; i < PARTS; i++) {
        free(a->w64[i]);
        free(a->g64[i]);
    }
}

#define ALL_PARTS(p) (p)[0], (p)[1], (p)[2], (p)[3], (p)[4], (p)[5], (p)[6], (p)[7], (p)[8], (p)[9]

static double feedforward_value(void *user)
{
    feedforward_arrays *a = user;
    const fur_operator_feedforward_weights_f64 w = {ALL_PARTS(a->w64)};
    kit_ok(a->context, fur_operator_feedforward_forward_f64(a->context, &a->s, &w, a->x64, a->y64));
    return dot(a->dy64, a->y64, a->x_count);
}

static void feedforward_backward64(feedforward_arrays *a)
{
    const fur_operator_feedforward_weights_f64 w = {ALL_PARTS(a->w64)};
    const fur_operator_feedforward_gradients_f64 g = {a->dx64, ALL_PARTS(a->g64)};
    kit_ok(a->context, fur_operator_feedforward_backward_f64(a->context, &a->s, &w, a->x64, a->dy64, &g));
}

static void run_feedforward(feedforward_arrays *a)
{
    const fur_operator_feedforward_weights w = {ALL_PARTS(a->w)};
    const fur_operator_feedforward_gradients g = {a->dx, ALL_PARTS(a->g)};
    kit_ok(a->context, fur_operator_feedforward_forward(a->context, &a->s, &w, a->x, a->y));
    kit_ok(a->context, fur_operator_feedforward_backward(a->context, &a->s, &w, a->x, a->dy, &g));
}

static void feedforward_slopes(void **state)
{
    (void)state;
    fur_context *context = kit_context(1);
    for (int i = 0; i < FEEDFORWARDS; i++) {
        feedforward_arrays a = feedforward_arrays_of(context, &feedforwards[i]);
        feedforward_backward64(&a);
        moving list[PARTS + 1] = {{a.x64, a.dx64, a.x_count}};
        for (int p = 0; p < PARTS; p++)
            list[p + 1] = (moving){a.w64[p], a.g64[p], a.count[p]};
        double error = slope_error(list, PARTS + 1, 1e-4, feedforward_value, &a);
        if (!(error <= 1e-9))
            fail_msg("feedforward %d: slope off by %.3g", i, error);
        feedforward_clear(&a);
    }
    fur_context_destroy(context);
}

static void check_whole(const char *what, int number, const float *got, const double *want, int64_t count, double limit)
{
    double error = 0, size = 0;
    for (int64_t i = 0; i < count; i++) {
        double e = (double)got[i] - want[i];
        error += e * e;
        size += want[i] * want[i];
    }
    if (!(sqrt(error) <= limit * sqrt(size)))
        fail_msg("%s of feedforward %d: off by %.3g, bound %.3g", what, number, sqrt(error / size), limit);
}

static void feedforward_is_near(void **state)
{
    (void)state;
    fur_context *context = kit_context(2);
    for (int i = 0; i < FEEDFORWARDS; i++) {
        feedforward_arrays a = feedforward_arrays_of(context, &feedforwards[i]);
        feedforward_value(&a);
        feedforward_backward64(&a);
        run_feedforward(&a);
        double n = fmax((double)a.s.tokens, (double)(a.s.width + a.s.hidden)), limit = 16 * sqrt(n) * KIT_U;
        check_whole("y", i, a.y, a.y64, a.x_count, limit);
        check_whole("dx", i, a.dx, a.dx64, a.x_count, limit);
        for (int p = 0; p < PARTS; p++)
            if (a.w[p])
                check_whole("a weight's gradient", i, a.g[p], a.g64[p], a.count[p], limit);
        feedforward_clear(&a);
    }
    fur_context_destroy(context);
}

/* What is not wanted is not computed, and changes no bit of what is. */
static void feedforward_of_frozen_weights(void **state)
{
    (void)state;
    fur_context *context = kit_context(2);
    feedforward_arrays a = feedforward_arrays_of(context, &feedforwards[1]);
    run_feedforward(&a);
    float *dx = kit_guard_f32(a.x_count), *dbias = kit_guard_f32(a.count[5]);
    const fur_operator_feedforward_weights w = {ALL_PARTS(a.w)};
    const fur_operator_feedforward_gradients none = {.dx_TC = dx, .up_bias_F = dbias}, no_input = {.up_bias_F = dbias};
    kit_ok(context, fur_operator_feedforward_backward(context, &a.s, &w, a.x, a.dy, &none));
    kit_check_same_bits("dx", dx, a.dx, (size_t)a.x_count * sizeof *dx);
    kit_check_same_bits("dbias", dbias, a.g[5], (size_t)a.count[5] * sizeof *dbias);
    kit_ok(context, fur_operator_feedforward_backward(context, &a.s, &w, a.x, a.dy, &no_input));
    kit_check_same_bits("dbias", dbias, a.g[5], (size_t)a.count[5] * sizeof *dbias);
    feedforward_clear(&a);
    fur_context_destroy(context);
}

/* ---- cross-entropy ----------------------------------------------------------------------------------------------- */

static const fur_operator_cross_entropy entropies[] = {
    {.tokens = 1, .width = 1, .vocabulary = 1},
    {.tokens = 70, .width = 24, .vocabulary = 300},
    {.tokens = 1100, .width = 8, .vocabulary = 50, .sum = true},
    {.tokens = 5, .width = 3, .vocabulary = 300000}, /* more columns than a tile has */
};
enum { ENTROPIES = sizeof entropies / sizeof *entropies };

typedef struct entropy_arrays {
    fur_context *context;
    fur_operator_cross_entropy s;
    int64_t h_count, w_count;
    float *h, *w, *dh, *dw, *nll;
    double *h64, *w64, *dh64, *dw64, *nll64, loss, loss64;
    int32_t *target;
} entropy_arrays;

static entropy_arrays entropy_arrays_of(fur_context *context, const fur_operator_cross_entropy *s)
{
    entropy_arrays a = {
        .context = context, .s = *s, .h_count = s->tokens * s->width, .w_count = s->vocabulary * s->width};
    a.s.struct_size = sizeof a.s;
    a.h = kit_guard_filled(a.h_count, KIT_NORMAL, 1);
    a.w = kit_guard_filled(a.w_count, KIT_NORMAL, 2);
    a.dh = kit_guard_f32(a.h_count);
    a.dw = kit_guard_f32(a.w_count);
    a.nll = kit_guard_f32(s->tokens);
    a.h64 = widened(a.h, a.h_count);
    a.w64 = widened(a.w, a.w_count);
    a.dh64 = doubles(a.h_count);
    a.dw64 = doubles(a.w_count);
    a.nll64 = doubles(s->tokens);
    a.target = kit_guard((size_t)s->tokens * sizeof *a.target);
    for (int64_t t = 0; t < s->tokens; t++)
        a.target[t] = t % 7 == 3 ? -100 : (int32_t)(t * 77773 % s->vocabulary);
    return a;
}

static void entropy_clear(entropy_arrays *a)
{
    kit_guard_free_all();
    double *all[] = {a->h64, a->w64, a->dh64, a->dw64, a->nll64};
    for (int i = 0; i < 5; i++)
        free(all[i]);
}

static double entropy_value(void *user)
{
    entropy_arrays *a = user;
    double loss;
    kit_ok(a->context,
           fur_operator_cross_entropy_run_f64(a->context, &a->s, a->h64, a->w64, a->target, &loss, NULL, NULL, NULL));
    return loss;
}

static void run_entropy(entropy_arrays *a)
{
    kit_ok(a->context,
           fur_operator_cross_entropy_run(a->context, &a->s, a->h, a->w, a->target, &a->loss, a->nll, a->dh, a->dw));
}

static void run_entropy64(entropy_arrays *a)
{
    kit_ok(a->context, fur_operator_cross_entropy_run_f64(a->context, &a->s, a->h64, a->w64, a->target, &a->loss64,
                                                          a->nll64, a->dh64, a->dw64));
}

static void entropy_slopes(void **state)
{
    (void)state;
    fur_context *context = kit_context(1);
    for (int i = 1; i < ENTROPIES; i++) { /* the first has one word: no gradient */
        entropy_arrays a = entropy_arrays_of(context, &entropies[i]);
        run_entropy64(&a);
        const moving list[] = {{a.h64, a.dh64, a.h_count}, {a.w64, a.dw64, a.w_count}};
        double error = slope_error(list, 2, 1e-3, entropy_value, &a);
        if (!(error <= 1e-8)) /* fifth derivatives of a softmax */
            fail_msg("cross-entropy %d: slope off by %.3g", i, error);
        entropy_clear(&a);
    }
    fur_context_destroy(context);
}

/* Logits, their probabilities and what these err by, row by row, in loops of the test's own. */
static void entropy_near(fur_context *context, const fur_operator_cross_entropy *s)
{
    entropy_arrays a = entropy_arrays_of(context, s);
    run_entropy(&a);
    run_entropy64(&a);
    int64_t C = s->width, V = s->vocabulary, counted = 0;
    for (int64_t t = 0; t < s->tokens; t++)
        counted += a.target[t] >= 0;
    double *logit = doubles(V), *error = doubles(V), *bound_h = doubles(a.h_count), *bound_w = doubles(a.w_count),
           weight = s->sum ? 1 : 1 / (double)counted, loss = 0, loss_bound = 0;
    for (int64_t t = 0; t < s->tokens; t++) {
        if (a.target[t] < 0) {
            assert_true(isnan(a.nll[t]) && isnan(a.nll64[t]));
            continue;
        }
        double max = -(double)INFINITY, sum = 0, L = 0, range = 0;
        for (int64_t v = 0; v < V; v++) {
            double terms = 0;
            logit[v] = dot(a.h64 + t * C, a.w64 + v * C, C);
            for (int64_t c = 0; c < C; c++)
                terms += fabs(a.h64[t * C + c] * a.w64[v * C + c]);
            L = fmax(L, (double)(C + 8) * KIT_U * terms);
            max = fmax(max, logit[v]);
        }
        for (int64_t v = 0; v < V; v++) {
            sum += exp(logit[v] - max);
            range = fmax(range, max - logit[v]);
        }
        double lse = max + log(sum), nll = lse - logit[a.target[t]];
        double bound = 2 * L + KIT_U * ((double)V / 8 + 32 + range + 2 * fabs(lse) + 2 * fabs(nll));
        kit_check_bound("nll", &a.nll[t], &nll, &bound, 0, 1);
        assert_true(fabs(a.nll64[t] - nll) <= 1e-12 * (1 + fabs(nll)));
        loss += weight * nll;
        loss_bound += weight * bound;
        for (int64_t v = 0; v < V; v++) {
            double p = exp(logit[v] - lse), d = fabs(p - (v == a.target[t]));
            error[v] = weight * (p * (exp(2 * bound) - 1 + KIT_U * (range + 6)) + 3 * KIT_U * d);
            for (int64_t c = 0; c < C; c++) {
                bound_h[t * C + c] += (error[v] + (double)(V + 8) * KIT_U * weight * d) * fabs(a.w64[v * C + c]);
                bound_w[v * C + c] +=
                    (error[v] + (double)(s->tokens + 8) * KIT_U * weight * d) * fabs(a.h64[t * C + c]);
            }
        }
    }
    assert_true(fabs(a.loss64 - loss) <= 1e-12 * fabs(loss));
    assert_true(fabs(a.loss - loss) <= loss_bound);
    kit_check_bound("dh", a.dh, a.dh64, bound_h, 1, a.h_count);
    kit_check_bound("dw", a.dw, a.dw64, bound_w, 1, a.w_count);
    double *all[] = {logit, error, bound_h, bound_w};
    for (int i = 0; i < 4; i++)
        free(all[i]);
    entropy_clear(&a);
}

static void entropy_is_near(void **state)
{
    (void)state;
    fur_context *context = kit_context(2);
    for (int i = 0; i < ENTROPIES; i++)
        entropy_near(context, &entropies[i]);
    fur_context_destroy(context);
}

/* ---- threads, memory, refusals ----------------------------------------------------------------------------------- */

static void same_bits(void **state)
{
    (void)state;
    for (int type = 0; type < 2; type++)
        for (int i = 0; i < FEEDFORWARDS; i++) {
            fur_context *one = kit_context_of(1, type ? "bf16" : "f32"),
                        *three = kit_context_of(3, type ? "bf16" : "f32");
            feedforward_arrays a = feedforward_arrays_of(one, &feedforwards[i]),
                               b = feedforward_arrays_of(three, &feedforwards[i]);
            run_feedforward(&a);
            run_feedforward(&b);
            kit_check_same_bits("y", a.y, b.y, (size_t)a.x_count * sizeof(float));
            kit_check_same_bits("dx", a.dx, b.dx, (size_t)a.x_count * sizeof(float));
            for (int p = 0; p < PARTS; p++)
                if (a.g[p])
                    kit_check_same_bits("g", a.g[p], b.g[p], (size_t)a.count[p] * sizeof(float));
            b.context = one; /* its guarded arrays go with those of a */
            feedforward_clear(&a);
            feedforward_clear(&b);
            fur_context_destroy(one);
            fur_context_destroy(three);
        }
    for (int i = 0; i < ENTROPIES; i++) {
        fur_context *one = kit_context(1), *three = kit_context(3);
        entropy_arrays a = entropy_arrays_of(one, &entropies[i]), b = entropy_arrays_of(three, &entropies[i]);
        run_entropy(&a);
        run_entropy(&b);
        assert_true(a.loss == b.loss || isnan(a.loss));
        kit_check_same_bits("dh", a.dh, b.dh, (size_t)a.h_count * sizeof(float));
        kit_check_same_bits("dw", a.dw, b.dw, (size_t)a.w_count * sizeof(float));
        entropy_clear(&a);
        entropy_clear(&b);
        fur_context_destroy(one);
        fur_context_destroy(three);
    }
    for (int i = 0; i < LOOKUPS; i++) {
        fur_context *one = kit_context(1), *three = kit_context(3);
        lookup_arrays a = lookup_arrays_of(one, &lookups[i]);
        float *y[2], *dx[2], *dtable[2];
        for (int n = 0; n < 2; n++) {
            fur_context *context = n ? three : one;
            y[n] = kit_guard_f32(a.y_count);
            dx[n] = kit_guard_f32(a.x_count);
            dtable[n] = kit_guard_f32(a.table_count);
            kit_ok(context, fur_operator_lookup_forward(context, &a.s, a.x, a.table, a.bias, y[n]));
            kit_ok(context, fur_operator_lookup_backward(context, &a.s, a.x, a.table, a.dy, dx[n], dtable[n], NULL));
        }
        kit_check_same_bits("y", y[0], y[1], (size_t)a.y_count * sizeof(float));
        kit_check_same_bits("dx", dx[0], dx[1], (size_t)a.x_count * sizeof(float));
        kit_check_same_bits("dtable", dtable[0], dtable[1], (size_t)a.table_count * sizeof(float));
        lookup_clear(&a);
        fur_context_destroy(one);
        fur_context_destroy(three);
    }
}

/* Runs with the limit as stated, then with one byte less, then without memory. */
static void check_memory(int64_t *limit, int64_t bytes, fur_status (*run)(void *), void *user)
{
    int64_t live = fur_alloc_live();
    *limit = bytes;
    assert_int_equal(run(user), FUR_OK);
    *limit = bytes - 1;
    assert_int_equal(run(user), FUR_E_DOES_NOT_FIT);
    *limit = 0;
    fur_alloc_fail_at(1);
    assert_int_equal(run(user), FUR_E_MEMORY);
    fur_alloc_fail_at(0);
    assert_int_equal(fur_alloc_live(), live);
}

static fur_status lookup_once(void *user)
{
    lookup_arrays *a = user;
    float *dx = kit_guard_f32(a->x_count);
    fur_status status = fur_operator_lookup_backward(a->context, &a->s, a->x, a->table, a->dy, dx, NULL, NULL);
    kit_guard_free(dx);
    return status;
}

static fur_status feedforward_once(void *user)
{
    feedforward_arrays *a = user;
    const fur_operator_feedforward_weights w = {ALL_PARTS(a->w)};
    const fur_operator_feedforward_gradients g = {a->dx, ALL_PARTS(a->g)};
    return fur_operator_feedforward_backward(a->context, &a->s, &w, a->x, a->dy, &g);
}

static fur_status entropy_once(void *user)
{
    entropy_arrays *a = user;
    return fur_operator_cross_entropy_run(a->context, &a->s, a->h, a->w, a->target, &a->loss, NULL, a->dh, a->dw);
}

static void memory_is_stated(void **state)
{
    (void)state;
    fur_context *context = kit_context(2);
    int64_t bytes;
    for (int i = 0; i < LOOKUPS; i++) {
        lookup_arrays a = lookup_arrays_of(context, &lookups[i]);
        kit_ok(context, fur_operator_lookup_bytes(context, &a.s, true, &bytes));
        check_memory(&a.s.memory_bytes, bytes, lookup_once, &a);
        lookup_clear(&a);
    }
    for (int i = 0; i < FEEDFORWARDS; i++) {
        feedforward_arrays a = feedforward_arrays_of(context, &feedforwards[i]);
        kit_ok(context, fur_operator_feedforward_bytes(context, &a.s, true, &bytes));
        check_memory(&a.s.memory_bytes, bytes, feedforward_once, &a);
        feedforward_clear(&a);
    }
    for (int i = 0; i < ENTROPIES; i++) {
        entropy_arrays a = entropy_arrays_of(context, &entropies[i]);
        kit_ok(context, fur_operator_cross_entropy_bytes(context, &a.s, true, &bytes));
        check_memory(&a.s.memory_bytes, bytes, entropy_once, &a);
        entropy_clear(&a);
    }
    fur_context_destroy(context);
}

static void expect(fur_context *context, fur_status got, fur_status wanted, const char *words)
{
    if (got != wanted || !strstr(fur_context_error(context), words))
        fail_msg("%s: %s, expected %s", fur_status_name(got), fur_context_error(context), words);
}

static void what_is_refused(void **state)
{
    (void)state;
    fur_context *context = kit_context(1);
    float x[64] = {0}, nan[8] = {0, 0, 0, 0, 0, NAN, 0, 0};
    double x64[64] = {0};
    static const struct {
        fur_operator_lookup s;
        fur_status status;
        const char *words;
    } maps[] = {
        {{.tokens = 2, .in = 4, .out = 2, .bits = 3}, FUR_E_SHAPE, "x[2,4] to [2,2] by 3 bits"},
        {{.tokens = 2, .in = 26, .out = 2, .bits = 13}, FUR_E_SHAPE, "1 to 12 bits"},
        {{.tokens = 2, .in = 4, .out = 2, .bits = 0}, FUR_E_SHAPE, "0 bits"},
        {{.tokens = -1, .in = 4, .out = 2, .bits = 2}, FUR_E_SHAPE, "x[-1,4]"},
        {{.tokens = 2, .in = 4, .out = 0, .bits = 2}, FUR_E_SHAPE, "[2,0]"},
        {{.tokens = 2, .in = 4, .out = 2, .bits = 2, .temperature = -1}, FUR_E_ARGUMENT, "temperature -1"},
        {{.tokens = 2, .in = 4, .out = 2, .bits = 2, .temperature = (double)NAN}, FUR_E_ARGUMENT, "temperature nan"},
        {{.tokens = 2, .in = 4, .out = 2, .bits = 1, .two_rows = true}, FUR_E_ARGUMENT, ""},
        {{.tokens = 2, .in = 4, .out = 2, .bits = 2, .memory_bytes = -5}, FUR_E_ARGUMENT, "memory_bytes is -5"},
    };
    for (size_t i = 0; i < sizeof maps / sizeof *maps; i++) {
        fur_operator_lookup s = maps[i].s;
        s.struct_size = sizeof s;
        expect(context, fur_operator_lookup_forward(context, &s, x, x, NULL, x + 32), maps[i].status, maps[i].words);
    }
    fur_operator_lookup map;
    fur_operator_lookup_defaults(&map);
    map.tokens = 2, map.in = 4, map.out = 2, map.bits = 2;
    expect(context, fur_operator_lookup_forward(context, &map, nan, x, NULL, x + 32), FUR_E_NONFINITE, "row 1");
    map.struct_size--;
    expect(context, fur_operator_lookup_forward(context, &map, x, x, NULL, x + 32), FUR_E_ARGUMENT, "bytes");

    fur_operator_feedforward f;
    fur_operator_feedforward_defaults(&f);
    f.tokens = 2, f.width = 2, f.hidden = 3;
    fur_operator_feedforward_weights w = {.up_FC = x};
    fur_operator_feedforward_gradients g = {.up_bias_F = x};
    expect(context, fur_operator_feedforward_forward(context, &f, &w, x, x + 32), FUR_E_ARGUMENT,
           "x[2,2] through 3: down_CF is missing");
    w.down_CF = x;
    w.gate_FC = x;
    expect(context, fur_operator_feedforward_forward(context, &f, &w, x, x + 32), FUR_E_ARGUMENT,
           "gate_FC is of no use");
    w.gate_FC = NULL;
    expect(context, fur_operator_feedforward_backward(context, &f, &w, x, x, &g), FUR_E_ARGUMENT,
           "a gradient of up_bias_F, which is not there");
    f.norm_eps = -1;
    expect(context, fur_operator_feedforward_forward(context, &f, &w, x, x + 32), FUR_E_ARGUMENT, "norm_eps -1");
    f.norm_eps = 0;
    f.width = 0;
    expect(context, fur_operator_feedforward_forward(context, &f, &w, x, x + 32), FUR_E_SHAPE, "x[2,0]");
    f.width = 2;
    f.activation = (fur_activation)77;
    expect(context, fur_operator_feedforward_forward(context, &f, &w, x, x + 32), FUR_E_ARGUMENT, "activation 77");

    fur_operator_cross_entropy e;
    fur_operator_cross_entropy_defaults(&e);
    e.tokens = 2, e.width = 2, e.vocabulary = 3;
    int32_t target[] = {2, 3};
    double loss;
    expect(context, fur_operator_cross_entropy_run(context, &e, x, x, target, &loss, NULL, NULL, NULL), FUR_E_ARGUMENT,
           "h[2,2] by w[3,2]: target 3 at row 1");
    expect(context, fur_operator_cross_entropy_run_f64(context, &e, x64, x64, target, &loss, NULL, NULL, NULL),
           FUR_E_ARGUMENT, "target 3 at row 1");
    target[1] = -1;
    expect(context, fur_operator_cross_entropy_run(context, &e, x, x, target, &loss, NULL, NULL, x + 32),
           FUR_E_ARGUMENT, "dw without dh");
    e.vocabulary = 0;
    expect(context, fur_operator_cross_entropy_run(context, &e, x, x, target, &loss, NULL, NULL, NULL), FUR_E_SHAPE,
           "w[0,2]");
    fur_context_destroy(context);
}

static void rows_that_do_not_count(void **state)
{
    (void)state;
    fur_context *context = kit_context(1);
    fur_operator_cross_entropy e = {.struct_size = sizeof e, .tokens = 2, .width = 2, .vocabulary = 3};
    float h[] = {1, NAN, 2, 3}, w[] = {1, 2, 3, 4, 5, 6}, dh[4], dw[6];
    const int32_t none[] = {-1, -1}, one[] = {-1, 2};
    double loss;
    kit_ok(context, fur_operator_cross_entropy_run(context, &e, h, w, none, &loss, NULL, dh, dw));
    assert_true(loss == 0);
    for (int i = 0; i < 4; i++)
        assert_true(dh[i] == 0);
    h[1] = 1;
    kit_ok(context, fur_operator_cross_entropy_run(context, &e, h, w, one, &loss, NULL, dh, dw));
    assert_true(loss > 0 && dh[0] == 0 && dh[1] == 0 && dh[2] != 0);
    fur_context_destroy(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lookup_slopes),
        cmocka_unit_test(lookup_is_near),
        cmocka_unit_test(feedforward_slopes),
        cmocka_unit_test(feedforward_is_near),
        cmocka_unit_test(entropy_slopes),
        cmocka_unit_test(entropy_is_near),
        cmocka_unit_test(same_bits),
        cmocka_unit_test(feedforward_of_frozen_weights),
        cmocka_unit_test(memory_is_stated),
        cmocka_unit_test(what_is_refused),
        cmocka_unit_test(rows_that_do_not_count),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
