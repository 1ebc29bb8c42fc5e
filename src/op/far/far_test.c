/* SPDX-License-Identifier: Apache-2.0 */
/* far against its formulas pair by pair, in double: P(t) by Horner's rule, no features anywhere. The formulas' gradient
 * is itself checked against central differences.
 *
 * Error per element: steps * u * (sum of absolute terms). A centred coordinate errs by 4 u (|unit| + |mean|), which the
 * terms carry in place of |unit - mean|; a product of features of degree l then by 2 l such factors; a sum over n keys,
 * in blocks of at most 128 and of what these left, by 129 roundings at most, one over R features by R, one over DV + 1
 * rows by DV + 1, and what is around them by 16 (exponential, division, norm).
 *
 * With compute bf16, u_b = 2^-8 in the place of u for the operands of the highest degree. Each term of o, and of Z,
 * meets four of them: phi and a [v, 1] where it is summed, S and phi where it is read. In backward a term of dU S, or
 * of G a [v, 1], meets four of its own; dU has the error of Z, four times Z's absolute terms over Z, and that of do.o,
 * four again. Without a coefficient of the highest degree there are none, and the bound is that of f32. */
#include "kit/kit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/bf16.h"
#include "base/random.h"
#include "op/far/far.h"

/* ---- single steps ------------------------------------------------------------------------------------------------ */

static fur_status run_add_keys(const fur_exec *exec, const fur_far *far, const fur_far_keys *keys, float sign,
                               float *state_KRE)
{
    const fur_far_step step = {.type = FUR_FAR_ADD_KEYS, .state_KRE = state_KRE, .keys = *keys, .sign = sign};
    return fur_far_run(exec, far, &step, 1);
}

static fur_status run_key_backward(const fur_exec *exec, const fur_far *far, float *gradient_KRE,
                                   const fur_far_keys *keys, float sign)
{
    const fur_far_step step = {.type = FUR_FAR_KEY_BACKWARD, .state_KRE = gradient_KRE, .keys = *keys, .sign = sign};
    return fur_far_run(exec, far, &step, 1);
}

static fur_status run_queries(const fur_exec *exec, const fur_far *far, fur_far_step_type type, float *state_KRE,
                              const fur_far_queries *queries)
{
    const fur_far_step step = {.type = type, .state_KRE = state_KRE, .queries = *queries};
    return fur_far_run(exec, far, &step, 1);
}

static fur_status run_query(const fur_exec *exec, const fur_far *far, float *state_KRE, const fur_far_queries *queries)
{
    return run_queries(exec, far, FUR_FAR_QUERY, state_KRE, queries);
}

static fur_status run_query_backward(const fur_exec *exec, const fur_far *far, float *state_KRE,
                                     const fur_far_queries *queries)
{
    return run_queries(exec, far, FUR_FAR_QUERY_BACKWARD, state_KRE, queries);
}

static fur_status run_add_queries(const fur_exec *exec, const fur_far *far, const fur_far_queries *queries,
                                  float *gradient_KRE)
{
    return run_queries(exec, far, FUR_FAR_ADD_QUERIES, gradient_KRE, queries);
}

typedef struct shape {
    int64_t heads, kv_heads, D, V, degree, keys, queries;
    double bound;
    int bias, bf16; /* keys and values stored in bf16 */
} shape;

static const shape cases[] = {
    {1, 1, 1, 1, 1, 1, 1, 1, 0, 0},       {2, 1, 8, 8, 6, 70, 33, 2, 1, 0},    {4, 2, 16, 16, 3, 64, 31, 1, 0, 0},
    {3, 3, 32, 32, 2, 130, 9, 1, 1, 0},   {2, 2, 33, 33, 2, 65, 40, 1, 0, 1},  {1, 1, 64, 64, 2, 20, 35, 0.5, 0, 0},
    {4, 1, 8, 8, 4, 129, 17, 4, 1, 1},    {9, 9, 24, 24, 1, 33, 5, 1, 1, 0},   {1, 1, 16, 16, 4, 66, 32, 1, 0, 0},
    {2, 1, 5, 5, 5, 7, 64, 1, 1, 0},      {1, 1, 32, 32, 3, 40, 36, 1, 0, 0},  {2, 2, 12, 12, 2, 100, 20, 0, 1, 0},
    {1, 1, 128, 128, 1, 10, 10, 1, 0, 0}, {6, 2, 3, 3, 6, 200, 11, 1, 0, 0},   {2, 1, 32, 8, 2, 70, 40, 1, 1, 0},
    {2, 2, 32, 48, 2, 131, 33, 1, 0, 1},  {1, 1, 32, 128, 2, 65, 20, 1, 1, 0}, {2, 1, 7, 65, 3, 50, 19, 1, 1, 0},
    {1, 1, 16, 1, 4, 90, 31, 1, 0, 0},
};
enum { CASES = sizeof cases / sizeof cases[0] };

/* ---- the formulas, in double ------------------------------------------------------------------------------------- */

typedef struct problem {
    shape s;
    float *q, *k, *v, *near, *o_near, *d_o, *q_mean, *k_mean, *c, *b; /* what the operator reads */
    uint16_t *k_bf16, *v_bf16;
    double *x[4]; /* q, k, v, b, free to move */
} problem;

enum { Q, K, V, B };

static int64_t count_of(const shape *s, int which)
{
    return which == Q   ? s->queries * s->heads * s->D
           : which == K ? s->keys * s->kv_heads * s->D
           : which == V ? s->keys * s->kv_heads * s->V
                        : s->heads;
}

/* Elements of o. */
static int64_t outputs(const shape *s)
{
    return s->queries * s->heads * s->V;
}

static double factor_of(const shape *s)
{
    return s->bound > 0 ? s->bound : 1;
}

static double scale_of(const shape *s)
{
    return s->bound > 0 ? 1 : 1 / sqrt((double)s->D);
}

/* unit row and 1 / norm */
static double unit_of(const shape *s, const double *row, double scale, double *unit)
{
    double squares = 1e-12, r = scale;
    for (int64_t d = 0; d < s->D; d++)
        squares += row[d] * row[d];
    if (s->bound > 0)
        r = 1 / sqrt(squares);
    for (int64_t d = 0; d < s->D; d++)
        unit[d] = r * row[d];
    return r;
}

/* One (query, head): everything about its row. Arrays [keys][.] */
typedef struct row {
    double unit_q[128], r_q, f, lse, weight_near, delta, delta_abs, sum_abs;
    double *unit_k, *r_k, *a, *p, *slope, *p_abs, *slope_abs; /* [keys][D]; [keys] */
} row;

static void row_create(const shape *s, row *r)
{
    r->unit_k = calloc((size_t)(s->keys * (s->D + 6)), sizeof(double));
    assert_non_null(r->unit_k);
    r->r_k = r->unit_k + s->keys * s->D;
    r->a = r->r_k + s->keys;
    r->p = r->a + s->keys;
    r->slope = r->p + s->keys;
    r->p_abs = r->slope + s->keys;
    r->slope_abs = r->p_abs + s->keys;
}

static void polynomial(const problem *x, int64_t kv_head, double t, int absolute, double *value, double *slope)
{
    const float *c = x->c + kv_head * (x->s.degree + 1);
    *value = *slope = 0;
    for (int64_t l = x->s.degree; l >= 0; l--) {
        *slope = *slope * t + *value;
        *value = *value * t + (absolute ? fabs((double)c[l]) : (double)c[l]);
    }
}

/* o [D] and, where wanted, its terms */
static void forward_row(const problem *x, int64_t i, int64_t h, row *r, double *o, double *o_abs)
{
    const shape *s = &x->s;
    int64_t D = s->D, g = h / (s->heads / s->kv_heads);
    const float *qm = x->q_mean + g * D, *km = x->k_mean + g * D;
    r->r_q = unit_of(s, x->x[Q] + (i * s->heads + h) * D, scale_of(s), r->unit_q);
    r->f = s->bias ? x->x[B][h] : 0;
    for (int64_t d = 0; d < D; d++)
        r->f += factor_of(s) * r->unit_q[d] * (double)km[d];
    double near = (double)x->near[i * s->heads + h], m = fmax(near, r->f), z = exp(near - m);
    for (int64_t j = 0; j < s->keys; j++) {
        double *u = r->unit_k + j * D, t = 0, t_abs = 0, e = 0;
        r->r_k[j] = unit_of(s, x->x[K] + (j * s->kv_heads + g) * D, 1, u);
        for (int64_t d = 0; d < D; d++) {
            t += factor_of(s) * (r->unit_q[d] - (double)qm[d]) * (u[d] - (double)km[d]);
            t_abs += factor_of(s) * (fabs(r->unit_q[d]) + fabs((double)qm[d])) * (fabs(u[d]) + fabs((double)km[d]));
            e += factor_of(s) * (double)qm[d] * (u[d] - (double)km[d]);
        }
        r->a[j] = exp(e);
        polynomial(x, g, t, 0, &r->p[j], &r->slope[j]);
        polynomial(x, g, t_abs, 1, &r->p_abs[j], &r->slope_abs[j]);
        z += exp(r->f - m) * r->a[j] * r->p[j];
    }
    r->lse = m + log(z);
    r->weight_near = exp(near - r->lse);
    double far = exp(r->f - r->lse);
    r->delta = r->delta_abs = 0;
    r->sum_abs = r->weight_near;
    for (int64_t j = 0; j < s->keys; j++)
        r->sum_abs += far * r->a[j] * r->p_abs[j];
    for (int64_t d = 0; d < s->V; d++) {
        int64_t at = (i * s->heads + h) * s->V + d;
        o[d] = r->weight_near * (double)x->o_near[at];
        o_abs[d] = fabs(o[d]);
        for (int64_t j = 0; j < s->keys; j++) {
            double v = x->x[V][(j * s->kv_heads + g) * s->V + d], w = far * r->a[j];
            o[d] += w * r->p[j] * v;
            o_abs[d] += w * r->p_abs[j] * fabs(v);
        }
        o_abs[d] += fabs(o[d]) * r->sum_abs; /* the normaliser's own error */
        r->delta += (double)x->d_o[at] * o[d];
        r->delta_abs += fabs((double)x->d_o[at]) * o_abs[d];
    }
}

static double loss_of(const problem *x)
{
    row r;
    double o[128], o_abs[128], loss = 0;
    row_create(&x->s, &r);
    for (int64_t i = 0; i < x->s.queries; i++)
        for (int64_t h = 0; h < x->s.heads; h++) {
            forward_row(x, i, h, &r, o, o_abs);
            loss += r.delta;
        }
    free(r.unit_k);
    return loss;
}

typedef struct result {
    double most_abs; /* absolute terms of Z over Z, of the worst row */
    double *o, *o_abs, *lse, *lse_abs, *dx[4], *dx_abs[4];
} result;

/* dx of a raw row from d of its unit row. */
static void project(const shape *s, const double *unit, double r, const double *d_unit, const double *d_abs, double *dx,
                    double *dx_abs)
{
    double along = 0, along_abs = 0;
    for (int64_t d = 0; d < s->D; d++) {
        along += d_unit[d] * unit[d];
        along_abs += d_abs[d] * fabs(unit[d]);
    }
    if (!(s->bound > 0))
        along = along_abs = 0;
    for (int64_t d = 0; d < s->D; d++) {
        dx[d] += r * (d_unit[d] - along * unit[d]);
        dx_abs[d] += r * (d_abs[d] + along_abs * fabs(unit[d]));
    }
}

static void backward_row(const problem *x, int64_t i, int64_t h, const row *r, const result *out)
{
    const shape *s = &x->s;
    int64_t D = s->D, g = h / (s->heads / s->kv_heads);
    const float *qm = x->q_mean + g * D, *km = x->k_mean + g * D;
    double far = exp(r->f - r->lse), df = 0, df_abs = 0, dq[128] = {0}, dq_abs[128] = {0}, F = factor_of(s);
    const float *d_o = x->d_o + (i * s->heads + h) * s->V;
    for (int64_t j = 0; j < s->keys; j++) {
        int64_t at = (j * s->kv_heads + g) * D, at_v = (j * s->kv_heads + g) * s->V;
        const double *u = r->unit_k + j * D;
        double dw = -r->delta, dw_abs = r->delta_abs, dk[128], dk_abs[128];
        for (int64_t d = 0; d < s->V; d++) {
            double v = x->x[V][at_v + d];
            dw += (double)d_o[d] * v;
            dw_abs += fabs((double)d_o[d] * v);
            out->dx[V][at_v + d] += far * r->a[j] * r->p[j] * (double)d_o[d];
            out->dx_abs[V][at_v + d] += far * r->a[j] * r->p_abs[j] * fabs((double)d_o[d]);
        }
        double w = far * r->a[j], ds = w * r->slope[j] * dw, ds_abs = w * r->slope_abs[j] * dw_abs;
        double dlog = w * r->p[j] * dw, dlog_abs = w * r->p_abs[j] * dw_abs; /* by f, and by log a_j */
        df += dlog;
        df_abs += dlog_abs;
        for (int64_t d = 0; d < D; d++) {
            dq[d] += F * ds * (u[d] - (double)km[d]);
            dq_abs[d] += F * ds_abs * (fabs(u[d]) + fabs((double)km[d]));
            dk[d] = F * (ds * (r->unit_q[d] - (double)qm[d]) + dlog * (double)qm[d]);
            dk_abs[d] = F * (ds_abs * (fabs(r->unit_q[d]) + fabs((double)qm[d])) + dlog_abs * fabs((double)qm[d]));
        }
        project(s, u, r->r_k[j], dk, dk_abs, out->dx[K] + at, out->dx_abs[K] + at);
    }
    for (int64_t d = 0; d < D; d++) {
        dq[d] += F * df * (double)km[d];
        dq_abs[d] += F * df_abs * fabs((double)km[d]);
    }
    int64_t at = (i * s->heads + h) * D;
    project(s, r->unit_q, r->r_q, dq, dq_abs, out->dx[Q] + at, out->dx_abs[Q] + at);
    out->dx[B][h] += df;
    out->dx_abs[B][h] += df_abs;
}

static void solve(const problem *x, result *out)
{
    const shape *s = &x->s;
    row r;
    row_create(s, &r);
    out->most_abs = 0;
    out->o = calloc((size_t)(2 * outputs(s)), sizeof(double));
    out->lse = calloc((size_t)(2 * s->queries * s->heads), sizeof(double));
    assert_non_null(out->o);
    assert_non_null(out->lse);
    out->o_abs = out->o + outputs(s);
    out->lse_abs = out->lse + s->queries * s->heads;
    for (int n = 0; n < 4; n++) {
        out->dx[n] = calloc((size_t)(2 * count_of(s, n)), sizeof(double));
        assert_non_null(out->dx[n]);
        out->dx_abs[n] = out->dx[n] + count_of(s, n);
    }
    for (int64_t i = 0; i < s->queries; i++)
        for (int64_t h = 0; h < s->heads; h++) {
            int64_t at = i * s->heads + h;
            forward_row(x, i, h, &r, out->o + at * s->V, out->o_abs + at * s->V);
            out->lse[at] = r.lse;
            out->most_abs = fmax(out->most_abs, r.sum_abs);
            out->lse_abs[at] = 1 + fabs(r.lse) + fabs(r.f);
            for (int64_t j = 0; j < s->keys; j++)
                out->lse_abs[at] += exp(r.f - r.lse) * r.a[j] * r.p_abs[j];
            backward_row(x, i, h, &r, out);
        }
    free(r.unit_k);
}

static void result_destroy(result *r)
{
    free(r->o);
    free(r->lse);
    for (int n = 0; n < 4; n++)
        free(r->dx[n]);
}

/* ---- problems ---------------------------------------------------------------------------------------------------- */

/* Coefficients near those of e^t; with an even degree the polynomial stays positive. */
static void make_problem(const shape *s, problem *x)
{
    *x = (problem){.s = *s};
    int64_t q = count_of(s, Q), k = count_of(s, K), v = count_of(s, V), means = s->kv_heads * s->D;
    x->q = kit_guard_filled(q, KIT_NORMAL, 1);
    x->k = kit_guard_filled(k, KIT_NORMAL, 2);
    x->v = kit_guard_filled(v, KIT_NORMAL, 3);
    x->o_near = kit_guard_filled(outputs(s), KIT_NORMAL, 4);
    x->d_o = kit_guard_filled(outputs(s), KIT_NORMAL, 5);
    x->near = kit_guard_filled(s->queries * s->heads, KIT_NORMAL, 6);
    x->q_mean = kit_guard_filled(means, KIT_NORMAL, 7);
    x->k_mean = kit_guard_filled(means, KIT_NORMAL, 8);
    x->b = kit_guard_filled(s->heads, KIT_NORMAL, 9);
    x->c = kit_guard_f32(s->kv_heads * (s->degree + 1));
    for (int64_t i = 0; i < means; i++) {
        x->q_mean[i] *= 0.1f;
        x->k_mean[i] *= 0.1f;
    }
    for (int64_t i = 0; i < q && !(s->bound > 0); i++)
        x->q[i] *= 0.25f;
    for (int64_t h = 0; h < s->kv_heads; h++) {
        double c = 1;
        for (int64_t l = 0; l <= s->degree; l++) {
            x->c[h * (s->degree + 1) + l] = (float)(c * (1 + 0.02 * (double)(h + l)));
            c /= (double)(l + 1);
        }
    }
    if (s->bound > 0 && s->queries > 1) /* a row of zeros has a unit row of zeros */
        memset(x->q, 0, (size_t)s->D * sizeof *x->q);
    if (s->bf16) {
        x->k_bf16 = kit_guard((size_t)k * sizeof *x->k_bf16);
        x->v_bf16 = kit_guard((size_t)v * sizeof *x->v_bf16);
        for (int64_t i = 0; i < k; i++)
            x->k[i] = fur_bf16_value(x->k_bf16[i] = fur_bf16_of(x->k[i]));
        for (int64_t i = 0; i < v; i++)
            x->v[i] = fur_bf16_value(x->v_bf16[i] = fur_bf16_of(x->v[i]));
    }
    float *from[4] = {x->q, x->k, x->v, x->b};
    for (int n = 0; n < 4; n++) {
        x->x[n] = calloc((size_t)count_of(s, n), sizeof(double));
        assert_non_null(x->x[n]);
        for (int64_t i = 0; i < count_of(s, n); i++)
            x->x[n][i] = (double)from[n][i];
    }
}

static void problem_destroy(problem *x)
{
    for (int n = 0; n < 4; n++)
        free(x->x[n]);
    kit_guard_free_all();
}

/* Slope of the loss along one random direction of each array against the formulas' gradient. */
static void test_formulas(void **state)
{
    (void)state;
    const double h = 1e-5;
    for (size_t at = 0; at < CASES; at++) {
        problem x;
        result r;
        make_problem(&cases[at], &x);
        solve(&x, &r);
        for (int n = 0; n < (x.s.bias ? 4 : 3); n++) {
            double want = 0, terms = 0, f[2];
            int64_t first = n == Q ? x.s.D : 0; /* the row of zeros bends at the scale of its norm */
            for (int64_t i = first; i < count_of(&x.s, n); i++) {
                double d = fur_random_uniform(at, (uint64_t)n, (uint64_t)i) - 0.5;
                want += d * r.dx[n][i];
                terms += fabs(d) * r.dx_abs[n][i];
            }
            for (int side = 0; side < 2; side++) {
                for (int64_t i = first; i < count_of(&x.s, n); i++)
                    x.x[n][i] += (side ? -2 * h : h) * (fur_random_uniform(at, (uint64_t)n, (uint64_t)i) - 0.5);
                f[side] = loss_of(&x);
            }
            for (int64_t i = first; i < count_of(&x.s, n); i++)
                x.x[n][i] += h * (fur_random_uniform(at, (uint64_t)n, (uint64_t)i) - 0.5);
            double got = (f[0] - f[1]) / (2 * h);
            if (!(fabs(got - want) <= 1e-8 * terms + 1e-12))
                fail_msg("case %zu, array %d: slope %.12g, gradient %.12g, terms %.3g", at, n, got, want, terms);
        }
        result_destroy(&r);
        problem_destroy(&x);
    }
}

/* ---- the operator ------------------------------------------------------------------------------------------------ */

typedef struct output {
    float *o, *lse, *dq, *dk, *dv, *db;
} output;

static fur_far far_of(const problem *x)
{
    const shape *s = &x->s;
    return (fur_far){.heads = s->heads,
                     .kv_heads = s->kv_heads,
                     .head_dim = s->D,
                     .value_dim = s->V,
                     .degree = s->degree,
                     .bound = (float)s->bound,
                     .scale = (float)scale_of(s),
                     .query_mean_KD = x->q_mean,
                     .key_mean_KD = x->k_mean,
                     .coefficient_KP = x->c,
                     .bias_H = s->bias ? x->b : NULL};
}

static float *zeros(int64_t count)
{
    float *x = kit_guard_f32(count);
    memset(x, 0, (size_t)count * sizeof *x);
    return x;
}

static void run(const problem *x, fur_isa isa, fur_compute compute, int threads, output *out)
{
    const shape *s = &x->s;
    fur_far far = far_of(x);
    fur_exec ask = {.threads = threads, .isa = isa, .compute = compute};
    int64_t most = s->keys > s->queries ? s->keys : s->queries;
    int64_t bytes = fur_far_workspace(&ask, &far, most);
    int64_t floats = fur_far_state_floats(s->kv_heads, s->D, s->V, s->degree);
    kit_exec kit;
    kit_exec_init(&kit, isa, threads, bytes);
    kit.exec.compute = compute;
    float *sum = zeros(floats), *gradient = zeros(floats);
    *out = (output){kit_guard_copy(x->o_near, outputs(s)),
                    kit_guard_copy(x->near, s->queries * s->heads),
                    zeros(count_of(s, Q)),
                    zeros(count_of(s, K)),
                    zeros(count_of(s, V)),
                    zeros(s->heads)};
    fur_far_keys keys = {.k_SKD = s->bf16 ? NULL : x->k,
                         .v_SKV = s->bf16 ? NULL : x->v,
                         .k_bf16_SKD = x->k_bf16,
                         .v_bf16_SKV = x->v_bf16,
                         .dk_SKD = out->dk,
                         .dv_SKV = out->dv,
                         .count = s->keys};
    fur_far_queries queries = {.count = s->queries,
                               .q_THD = x->q,
                               .o_THV = out->o,
                               .lse_TH = out->lse,
                               .do_THV = x->d_o,
                               .dq_THD = out->dq,
                               .dbias_H = s->bias ? out->db : NULL};
    if (threads == 2) { /* all steps in one call: the same bits */
        const fur_far_step steps[] = {{FUR_FAR_ADD_KEYS, sum, keys, {0}, 1, NULL},
                                      {FUR_FAR_QUERY, sum, {0}, queries, 0, NULL},
                                      {FUR_FAR_QUERY_BACKWARD, sum, {0}, queries, 0, NULL},
                                      {FUR_FAR_ADD_QUERIES, gradient, {0}, queries, 0, NULL},
                                      {FUR_FAR_KEY_BACKWARD, gradient, keys, {0}, 1, NULL}};
        assert_int_equal(fur_far_run(&kit.exec, &far, steps, 5), FUR_OK);
    } else {
        assert_int_equal(run_add_keys(&kit.exec, &far, &keys, 1, sum), FUR_OK);
        assert_int_equal(run_query(&kit.exec, &far, sum, &queries), FUR_OK);
        assert_int_equal(run_query_backward(&kit.exec, &far, sum, &queries), FUR_OK);
        assert_int_equal(run_add_queries(&kit.exec, &far, &queries, gradient), FUR_OK);
        assert_int_equal(run_key_backward(&kit.exec, &far, gradient, &keys, 1), FUR_OK);
    }
    assert_int_equal(kit.workspace.used, 0);
    assert_true(kit.workspace.peak <= bytes);
    kit_exec_clear(&kit);
}

static void check_terms(const char *what, const float *got, const double *want, const double *terms, double relative,
                        int64_t count)
{
    double *bound = calloc((size_t)count, sizeof *bound);
    assert_non_null(bound);
    for (int64_t i = 0; i < count; i++)
        bound[i] = relative * terms[i] + 1e-36;
    kit_check_bound(what, got, want, bound, 1, count);
    free(bound);
}

/* What operands of a case are, and whether there is a highest degree for those of bf16 to be in. */
typedef enum mode { IN_F32, IN_BF16, IN_BF16_LOWER, MODES } mode;

/* (1 + u_b)^count - 1 */
static double rounded(mode m, double count)
{
    return m == IN_BF16 ? pow(1 + 0x1p-8, count) - 1 : 0;
}

static void check_case(size_t at, fur_isa isa, mode m)
{
    problem x;
    result want;
    output got, again;
    fur_compute compute = m == IN_F32 ? FUR_COMPUTE_F32 : FUR_COMPUTE_BF16;
    make_problem(&cases[at], &x);
    const shape *s = &x.s;
    for (int64_t i = 0; i < s->kv_heads * (s->degree + 1) && m == IN_BF16_LOWER; i++) { /* stays positive */
        int64_t l = i % (s->degree + 1);
        x.c[i] = l == s->degree ? 0 : x.c[i] * powf(12, -(float)l);
    }
    solve(&x, &want);
    run(&x, isa, compute, 1, &got);
    double n = (double)s->keys, R = (double)fur_far_features(s->D, s->degree);
    double forward = fmin(n, 128) + 1 + R + 8 * (double)s->degree + 16;
    double backward = forward + fmin(n, 128) + 1 + (double)s->V + 8 * (double)s->degree + 16;
    forward = forward * KIT_U + rounded(m, 4);
    backward = backward * KIT_U + rounded(m, 8 + 4 * want.most_abs);
    check_terms("o", got.o, want.o, want.o_abs, forward, outputs(s));
    check_terms("lse", got.lse, want.lse, want.lse_abs, forward, s->queries * s->heads);
    check_terms("dv", got.dv, want.dx[V], want.dx_abs[V], backward, count_of(s, V));
    check_terms("dk", got.dk, want.dx[K], want.dx_abs[K], backward, count_of(s, K));
    check_terms("dq", got.dq, want.dx[Q], want.dx_abs[Q], backward, count_of(s, Q));
    if (s->bias)
        check_terms("db", got.db, want.dx[B], want.dx_abs[B], backward, s->heads);
    for (int threads = 2; threads <= 3; threads++) {
        run(&x, isa, compute, threads, &again);
        kit_check_same_bits("o", again.o, got.o, (size_t)outputs(s) * sizeof(float));
        kit_check_same_bits("dq", again.dq, got.dq, (size_t)count_of(s, Q) * sizeof(float));
        kit_check_same_bits("dk", again.dk, got.dk, (size_t)count_of(s, K) * sizeof(float));
        kit_check_same_bits("dv", again.dv, got.dv, (size_t)count_of(s, V) * sizeof(float));
        kit_check_same_bits("db", again.db, got.db, (size_t)s->heads * sizeof(float));
    }
    result_destroy(&want);
    problem_destroy(&x);
}

static void test_cases(void **state)
{
    (void)state;
    for (fur_isa isa = FUR_ISA_REF; isa <= kit_best_isa(); isa++)
        for (size_t at = 0; at < CASES; at++)
            for (mode m = IN_F32; m < MODES; m++)
                check_case(at, isa, m);
}

/* What is subtracted again leaves what rounding left; a gradient taken away again likewise. */
static void test_sign(void **state)
{
    (void)state;
    for (unsigned variant = 0; variant < 2 * ((unsigned)kit_best_isa() + 1); variant++) {
        problem x;
        make_problem(&cases[3], &x);
        const shape *s = &x.s;
        fur_far far = far_of(&x);
        kit_exec kit;
        kit_exec_init(&kit, (fur_isa)(variant / 2), 1, 1 << 22);
        kit.exec.compute = (fur_compute)(variant % 2);
        int64_t floats = fur_far_state_floats(s->kv_heads, s->D, s->V, s->degree);
        float *sum = zeros(floats), *dk = zeros(count_of(s, K)), *dv = zeros(count_of(s, V));
        fur_far_keys keys = {.k_SKD = x.k, .v_SKV = x.v, .dk_SKD = dk, .dv_SKV = dv, .count = s->keys};
        assert_int_equal(run_add_keys(&kit.exec, &far, &keys, 1, sum), FUR_OK);
        float *full = kit_guard_copy(sum, floats);
        assert_int_equal(run_key_backward(&kit.exec, &far, full, &keys, 1), FUR_OK);
        double before = 0, after = 0;
        for (int64_t i = 0; i < count_of(s, K); i++)
            before = fmax(before, fabs((double)dk[i]) + fabs((double)dv[i]));
        assert_int_equal(run_key_backward(&kit.exec, &far, full, &keys, -1), FUR_OK);
        assert_int_equal(run_add_keys(&kit.exec, &far, &keys, -1, sum), FUR_OK);
        for (int64_t i = 0; i < count_of(s, K); i++)
            after = fmax(after, fabs((double)dk[i]) + fabs((double)dv[i]));
        assert_true(before > 1 && after <= 4 * KIT_U * before);
        for (int64_t i = 0; i < floats; i++)
            assert_true(fabs((double)sum[i]) <= 256 * KIT_U * (double)s->keys);
        kit_exec_clear(&kit);
        problem_destroy(&x);
    }
}

static void centred_unit(const shape *s, const float *values, const float *mean, double factor, double *unit,
                         double *centred)
{
    double squares = 1e-12;
    for (int64_t d = 0; d < s->D; d++)
        squares += (double)values[d] * (double)values[d];
    for (int64_t d = 0; d < s->D; d++) {
        unit[d] = (double)values[d] * (s->bound > 0 ? 1 / sqrt(squares) : factor);
        centred[d] = unit[d] - (double)mean[d];
    }
}

/* Sums of a t^l over all keys, and a head that is left out keeps what it had. */
static void test_moments(void **state)
{
    (void)state;
    for (size_t at = 0; at < CASES; at++) {
        problem x;
        if (cases[at].bf16)
            continue;
        make_problem(&cases[at], &x);
        const shape *s = &x.s;
        fur_far far = far_of(&x);
        float *exact = zeros(s->kv_heads);
        int64_t floats = fur_far_state_floats(s->kv_heads, s->D, s->V, s->degree), P = s->degree + 1;
        double bound = s->bound > 0 ? s->bound : 1;
        kit_exec kit;
        kit_exec_init(&kit, kit_best_isa(), 2, 1 << 26);
        float *sum = zeros(floats), *moment = zeros(s->queries * s->heads * P);
        fur_far_keys keys = {.k_SKD = x.k, .v_SKV = x.v, .count = s->keys};
        fur_far_queries queries = {.count = s->queries, .q_THD = x.q};
        assert_int_equal(run_add_keys(&kit.exec, &far, &keys, 1, sum), FUR_OK);
        const fur_far_step step = {.type = FUR_FAR_MOMENTS, .state_KRE = sum, .queries = queries, .moment_THP = moment};
        assert_int_equal(fur_far_run(&kit.exec, &far, &step, 1), FUR_OK);
        for (int64_t i = 0; i < s->queries * s->heads; i++) {
            int64_t g = i % s->heads * s->kv_heads / s->heads;
            double q[FUR_FAR_MOST_DIM], k[FUR_FAR_MOST_DIM], unit[FUR_FAR_MOST_DIM], want[8] = {0}, size[8] = {0};
            centred_unit(s, x.q + i * s->D, x.q_mean + g * s->D, scale_of(s), unit, q);
            for (int64_t j = 0; j < s->keys; j++) {
                double t = 0, longest = 0, a = 0, power = 1, most = 1;
                centred_unit(s, x.k + (j * s->kv_heads + g) * s->D, x.k_mean + g * s->D, 1, unit, k);
                for (int64_t d = 0; d < s->D; d++) {
                    t += bound * q[d] * k[d];
                    longest += bound * fabs(q[d] * k[d]);
                    a += bound * (double)x.q_mean[g * s->D + d] * k[d];
                }
                for (int64_t l = 0; l < P; l++) {
                    want[l] += exp(a) * power;
                    size[l] += exp(a) * most;
                    power *= t;
                    most *= longest;
                }
            }
            for (int64_t l = 0; l < P; l++)
                assert_true(!(fabsf(x.c[g * P + l]) > 0) ||
                            fabs((double)moment[i * P + l] - want[l]) <= 400 * KIT_U * size[l] + 1e-30);
        }
        exact[0] = 1;
        far.exact_K = exact;
        float *before = kit_guard_copy(sum, floats);
        assert_int_equal(run_add_keys(&kit.exec, &far, &keys, 1, sum), FUR_OK);
        kit_check_same_bits("left out", sum, before, (size_t)(floats / s->kv_heads) * sizeof(float));
        kit_exec_clear(&kit);
        problem_destroy(&x);
    }
}

static void test_refused(void **state)
{
    (void)state;
    problem x;
    make_problem(&cases[1], &x);
    fur_far good = far_of(&x), far = good;
    float *sum = zeros(fur_far_state_floats(1, 8, 8, 6));
    fur_far_keys keys = {.k_SKD = x.k, .v_SKV = x.v, .count = 1};
    kit_exec kit;
    kit_exec_init(&kit, FUR_ISA_REF, 1, 1 << 20);
    far.degree = 7;
    assert_int_equal(run_add_keys(&kit.exec, &far, &keys, 1, sum), FUR_E_SHAPE);
    far = good;
    far.heads = 3;
    far.kv_heads = 2;
    assert_int_equal(run_add_keys(&kit.exec, &far, &keys, 1, sum), FUR_E_SHAPE);
    far = good;
    far.head_dim = 128;
    assert_int_equal(run_add_keys(&kit.exec, &far, &keys, 1, sum), FUR_E_SHAPE);
    assert_string_equal(kit.error.text, "far field: more than 1048576 features at width 128, degree 6");
    far = good;
    far.value_dim = 0;
    assert_int_equal(run_add_keys(&kit.exec, &far, &keys, 1, sum), FUR_E_SHAPE);
    assert_string_equal(kit.error.text,
                        "far field of 1 rows, 2 heads on 1 key heads of width 8, values of 0, degree 6: key heads must "
                        "divide heads, widths be 1..128, degree 1..6");
    far = good;
    far.bound = -1;
    assert_int_equal(run_add_keys(&kit.exec, &far, &keys, 1, sum), FUR_E_ARGUMENT);
    far = good;
    x.c[3] = NAN;
    assert_int_equal(run_add_keys(&kit.exec, &far, &keys, 1, sum), FUR_E_ARGUMENT);
    assert_string_equal(kit.error.text, "far field: coefficient 3 of key head 0 is nan");
    /* a polynomial that is negative everywhere leaves no positive normaliser */
    for (int64_t l = 0; l <= 6; l++)
        x.c[l] = l ? 0 : -1e6f;
    fur_far_queries queries = {.count = 1, .q_THD = x.q, .o_THV = x.o_near, .lse_TH = x.near};
    assert_int_equal(run_add_keys(&kit.exec, &far, &keys, 1, sum), FUR_OK);
    assert_int_equal(run_query(&kit.exec, &far, sum, &queries), FUR_E_NONFINITE);
    assert_string_equal(kit.error.text, "far field: the normaliser of head 0 is not positive at row 0 of the call");
    kit_exec_clear(&kit);
    kit_exec_init(&kit, FUR_ISA_REF, 1, 64);
    assert_int_equal(run_add_keys(&kit.exec, &good, &keys, 1, sum), FUR_E_MEMORY);
    kit_exec_clear(&kit);
    problem_destroy(&x);
    assert_true(fur_far_features(32, 2) == 561 && fur_far_features(64, 3) == 47905);
    assert_true(fur_far_features(128, 6) == INT64_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_formulas), cmocka_unit_test(test_cases),   cmocka_unit_test(test_sign),
        cmocka_unit_test(test_moments),  cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
