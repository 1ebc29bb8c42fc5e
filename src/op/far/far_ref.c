/* SPDX-License-Identifier: Apache-2.0 */
/* The far field as its formulas stand, features in a table, sums in double. */
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "op/far/far_kernel.h"

/* Doubles of scratch: features and their gradient; unit and centred row, its gradient; [U], of one row. */
typedef struct workspace {
    double *phi, *dphi, *unit, *x, *dx, *u;
} workspace;

static int64_t doubles(const fur_far_layout *l)
{
    return 2 * l->features + 3 * l->dim + l->columns;
}

static int64_t scratch_floats(const fur_far_layout *l)
{
    return 2 * doubles(l) + l->dim + l->value_dim; /* and rows widened from bf16 */
}

static workspace workspace_of(const fur_far_layout *l, float *scratch)
{
    double *at = (double *)(void *)scratch;
    workspace w = {.phi = at, .dphi = at + l->features, .unit = at + 2 * l->features};
    w.x = w.unit + l->dim;
    w.dx = w.x + l->dim;
    w.u = w.dx + l->dim;
    return w;
}

static float *wide_rows(const fur_far_layout *l, float *scratch)
{
    return scratch + 2 * doubles(l);
}

static void form(const fur_far_layout *l, const double *x, double *phi)
{
    phi[0] = 1;
    for (int64_t n = 0; n < l->slice_count; n++) {
        const fur_far_slice *s = &l->slices[n];
        for (int64_t i = 0; i < s->length; i++)
            phi[s->start + i] = x[s->variable] * phi[s->source + i];
    }
}

/* An operand of a product with feature m, as it goes in. */
static double operand(const fur_far_layout *l, int64_t m, double x)
{
    return l->rounded && m >= l->lower ? (double)fur_bf16_round((float)x) : x;
}

/* u = S phi */
static void read_state(const fur_far_layout *l, const float *state_RE, const double *phi, double *u)
{
    for (int64_t e = 0; e < l->columns; e++) {
        u[e] = 0;
        for (int64_t m = 0; m < l->features; m++)
            u[e] += operand(l, m, (double)state_RE[m * l->columns + e]) * operand(l, m, phi[m]);
    }
}

/* dx = (d phi)^T S^T y; returns phi . S^T y */
static double gradient(const fur_far_layout *l, const float *state_RE, const float *y_E, const workspace *w)
{
    double inner = 0;
    for (int64_t m = 0; m < l->features; m++) {
        w->dphi[m] = 0;
        for (int64_t e = 0; e < l->columns; e++)
            w->dphi[m] += operand(l, m, (double)state_RE[m * l->columns + e]) * operand(l, m, (double)y_E[e]);
        inner += w->dphi[m] * w->phi[m];
    }
    memset(w->dx, 0, (size_t)l->dim * sizeof *w->dx);
    for (int64_t n = l->slice_count - 1; n >= 0; n--) {
        const fur_far_slice *s = &l->slices[n];
        for (int64_t i = 0; i < s->length; i++) {
            w->dx[s->variable] += w->dphi[s->start + i] * w->phi[s->source + i];
            w->dphi[s->source + i] += w->dphi[s->start + i] * w->x[s->variable];
        }
    }
    return inner;
}

/* unit = row / its norm, x = unit - mean; returns 1 / norm. Unbounded: unit = factor row, returns factor. */
static double centre(const fur_far_call *call, const float *row_D, double factor, const float *mean_D,
                     const workspace *w)
{
    int64_t D = call->layout.dim;
    double squares = (double)FUR_FAR_SQUARE_EPS;
    for (int64_t d = 0; d < D; d++)
        squares += (double)row_D[d] * (double)row_D[d];
    if (call->far->bound > 0)
        factor = 1 / sqrt(squares);
    for (int64_t d = 0; d < D; d++) {
        w->unit[d] = factor * (double)row_D[d];
        w->x[d] = w->unit[d] - (double)mean_D[d];
    }
    return factor;
}

/* Gradient by the row from that by its unit row, dx + factor mean inner. Added to out, times sign. */
static void uncentre(const fur_far_call *call, double reciprocal, const float *other_mean_D, double inner,
                     const workspace *w, double sign, float *out_D)
{
    int64_t D = call->layout.dim;
    double along = 0;
    for (int64_t d = 0; d < D; d++) {
        w->dx[d] += (double)fur_far_factor(call->far) * (double)other_mean_D[d] * inner;
        along += w->dx[d] * w->unit[d];
    }
    if (!(call->far->bound > 0))
        along = 0;
    for (int64_t d = 0; d < D; d++)
        out_D[d] = (float)((double)out_D[d] + sign * reciprocal * (w->dx[d] - along * w->unit[d]));
}

/* ---- keys -------------------------------------------------------------------------------------------------------- */

/* x = k~ in the workspace, y = a [v, 1]; returns 1 / |k|; *a_out: a */
static double one_key(const fur_far_call *call, int64_t kv_head, int64_t t, const workspace *w, float *scratch,
                      double *a_out, float *y_E)
{
    int64_t D = call->layout.dim, DV = call->layout.value_dim, row = fur_far_key_row(call, kv_head, t);
    const fur_far *far = call->far;
    float *wide = wide_rows(&call->layout, scratch);
    const float *k = fur_bf16_row(call->keys->k_SKD, call->keys->k_bf16_SKD, row * D, D, wide);
    const float *v = fur_bf16_row(call->keys->v_SKV, call->keys->v_bf16_SKV, row * DV, DV, wide + D);
    double reciprocal = centre(call, k, 1, far->key_mean_KD + kv_head * D, w), exponent = 0;
    for (int64_t d = 0; d < D; d++)
        exponent += (double)fur_far_factor(far) * (double)far->query_mean_KD[kv_head * D + d] * w->x[d];
    double a = exp(exponent);
    for (int64_t d = 0; d < DV; d++)
        y_E[d] = (float)(a * (double)v[d]);
    y_E[DV] = (float)a;
    *a_out = a;
    return reciprocal;
}

static void keys(const fur_far_call *call, int64_t kv_head, int64_t first, int64_t count, float *x_TD, float *y_TE,
                 float *scratch)
{
    workspace w = workspace_of(&call->layout, scratch);
    int64_t D = call->layout.dim;
    double a;
    for (int64_t t = 0; t < count; t++) {
        one_key(call, kv_head, first + t, &w, scratch, &a, y_TE + t * call->layout.columns);
        for (int64_t d = 0; d < D; d++)
            x_TD[t * D + d] = (float)w.x[d];
    }
}

static void add(const fur_far_layout *l, int64_t from, int64_t to, int64_t count, const float *x_TD, const float *y_TE,
                const float *w_R, float *state_RE, float *scratch)
{
    workspace w = workspace_of(l, scratch);
    for (int64_t t = 0; t < count; t++) {
        for (int64_t d = 0; d < l->dim; d++)
            w.x[d] = (double)x_TD[t * l->dim + d];
        form(l, w.x, w.phi);
        for (int64_t m = from; m < to; m++)
            for (int64_t e = 0; e < l->columns; e++) {
                float *s = &state_RE[m * l->columns + e], *rest = s + l->features * l->columns;
                double sum = (double)*s + (double)*rest;
                sum += (double)w_R[m] * operand(l, m, w.phi[m]) * operand(l, m, (double)y_TE[t * l->columns + e]);
                *s = (float)sum;
                *rest = (float)(sum - (double)*s);
            }
    }
}

static void key_backward(const fur_far_call *call, int64_t kv_head, int64_t first, int64_t count, float *scratch)
{
    const fur_far_layout *l = &call->layout;
    workspace w = workspace_of(l, scratch);
    const float *state = call->state_KRE + kv_head * fur_far_head_floats(l);
    for (int64_t t = first; t < first + count; t++) {
        float y[FUR_FAR_MOST_DIM + 1] = {0};
        double a, reciprocal = one_key(call, kv_head, t, &w, scratch, &a, y);
        int64_t row = fur_far_key_row(call, kv_head, t);
        form(l, w.x, w.phi);
        read_state(l, state, w.phi, w.u);
        double inner = gradient(l, state, y, &w);
        for (int64_t d = 0; d < l->value_dim; d++) {
            float *dv = &call->keys->dv_SKV[row * l->value_dim + d];
            *dv = (float)((double)*dv + (double)call->sign * a * w.u[d]);
        }
        uncentre(call, reciprocal, call->far->query_mean_KD + kv_head * l->dim, inner, &w, (double)call->sign,
                 call->keys->dk_SKD + row * l->dim);
    }
}

/* ---- queries ----------------------------------------------------------------------------------------------------- */

/* x = q~ in the workspace; returns 1 / |q|; *f_out: f */
static double one_query(const fur_far_call *call, int64_t kv_head, int64_t v, const workspace *w, double *f_out)
{
    int64_t D = call->layout.dim;
    const fur_far *far = call->far;
    double reciprocal = centre(call, call->queries->q_THD + fur_far_query_row(call, kv_head, v) * D, (double)far->scale,
                               far->query_mean_KD + kv_head * D, w);
    double f = far->bias_H ? (double)far->bias_H[kv_head * call->group + v % call->group] : 0;
    for (int64_t d = 0; d < D; d++)
        f += (double)fur_far_factor(far) * (double)far->key_mean_KD[kv_head * D + d] * w->unit[d];
    *f_out = f;
    return reciprocal;
}

static void query(const fur_far_call *call, int64_t kv_head, int64_t begin, int64_t end, float *scratch)
{
    const fur_far_layout *l = &call->layout;
    workspace w = workspace_of(l, scratch);
    const float *state = call->state_KRE + kv_head * fur_far_head_floats(l);
    for (int64_t v = begin; v < end; v++) {
        int64_t row = fur_far_query_row(call, kv_head, v);
        float *o = call->queries->o_THV + row * l->value_dim, *lse = call->queries->lse_TH + row;
        double f, near = (double)*lse;
        one_query(call, kv_head, v, &w, &f);
        form(l, w.x, w.phi);
        read_state(l, state, w.phi, w.u);
        double m = fmax(near, f), z = exp(near - m) + exp(f - m) * w.u[l->value_dim];
        *lse = z > 0 ? (float)(m + log(z)) : NAN;
        for (int64_t d = 0; d < l->value_dim; d++)
            o[d] = (float)((exp(near - m) * (double)o[d] + exp(f - m) * w.u[d]) / z);
    }
}

/* x in the workspace and y = dU; returns 1 / |q| */
static double one_query_backward(const fur_far_call *call, int64_t kv_head, int64_t v, const workspace *w, float *y_E)
{
    int64_t DV = call->layout.value_dim, row = fur_far_query_row(call, kv_head, v);
    const float *d_o = call->queries->do_THV + row * DV, *o = call->queries->o_THV + row * DV;
    double f, reciprocal = one_query(call, kv_head, v, w, &f), delta = 0;
    double beta = exp(f - (double)call->queries->lse_TH[row]);
    for (int64_t d = 0; d < DV; d++) {
        y_E[d] = (float)(beta * (double)d_o[d]);
        delta += (double)d_o[d] * (double)o[d];
    }
    y_E[DV] = (float)(-beta * delta);
    return reciprocal;
}

static void queries(const fur_far_call *call, int64_t kv_head, int64_t begin, int64_t end, float *x_TD, float *y_TE,
                    float *scratch)
{
    workspace w = workspace_of(&call->layout, scratch);
    int64_t D = call->layout.dim;
    for (int64_t v = begin; v < end; v++, x_TD += D, y_TE += call->layout.columns) {
        one_query_backward(call, kv_head, v, &w, y_TE);
        for (int64_t d = 0; d < D; d++)
            x_TD[d] = (float)w.x[d];
    }
}

static void query_backward(const fur_far_call *call, int64_t kv_head, int64_t begin, int64_t end, float *df_T,
                           float *scratch)
{
    const fur_far_layout *l = &call->layout;
    workspace w = workspace_of(l, scratch);
    const float *state = call->state_KRE + kv_head * fur_far_head_floats(l);
    for (int64_t v = begin; v < end; v++) {
        float y[FUR_FAR_MOST_DIM + 1] = {0};
        double reciprocal = one_query_backward(call, kv_head, v, &w, y);
        form(l, w.x, w.phi);
        double inner = gradient(l, state, y, &w);
        df_T[v - begin] = (float)inner;
        uncentre(call, reciprocal, call->far->key_mean_KD + kv_head * l->dim, inner, &w, 1,
                 call->queries->dq_THD + fur_far_query_row(call, kv_head, v) * l->dim);
    }
}

/* First feature of each degree: slices come degree by degree. */
static int64_t first_of_degree(const fur_far_layout *l, int64_t degree)
{
    return degree == 0 ? 0 : degree > l->degree ? l->features : l->slices[(degree - 1) * l->dim].start;
}

static void moments(const fur_far_call *call, int64_t kv_head, int64_t begin, int64_t end, float *moment_THP,
                    float *scratch)
{
    const fur_far_layout *l = &call->layout;
    workspace w = workspace_of(l, scratch);
    const float *ones = call->state_KRE + kv_head * fur_far_head_floats(l) + l->value_dim;
    const float *coefficient = call->far->coefficient_KP + kv_head * (l->degree + 1);
    for (int64_t v = begin; v < end; v++) {
        double f;
        one_query(call, kv_head, v, &w, &f);
        form(l, w.x, w.phi);
        float *out = moment_THP + fur_far_query_row(call, kv_head, v) * (l->degree + 1);
        for (int64_t degree = 0; degree <= l->degree; degree++) {
            double sum = 0;
            for (int64_t m = first_of_degree(l, degree); m < first_of_degree(l, degree + 1); m++)
                sum += (double)ones[m * l->columns] * w.phi[m];
            bool known = fabsf(coefficient[degree]) > 0;
            out[degree] = known ? (float)(sum / (double)coefficient[degree]) : 0;
        }
    }
}

const fur_far_kernel fur_far_ref = {.scratch_floats = scratch_floats,
                                    .keys = keys,
                                    .add = add,
                                    .query = query,
                                    .queries = queries,
                                    .query_backward = query_backward,
                                    .key_backward = key_backward,
                                    .moments = moments};
