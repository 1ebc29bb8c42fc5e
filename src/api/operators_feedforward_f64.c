/* SPDX-License-Identifier: Apache-2.0 */
/* The feedforward in double, token by token, as its formulas stand (op/norm/norm.h, op/activation/activation.h). */
#include <math.h>
#include <string.h>

#include "api/operators_feedforward.h"

typedef struct f64_run {
    fur_operator_feedforward_job job;
    fur_arena arena;
    const fur_operator_feedforward_weights_f64 *w;
    const fur_operator_feedforward_gradients_f64 *g; /* NULL forward */
    double *h, *dh;                                  /* C of the token */
    double *gate, *up, *inner, *d_inner;             /* F */
} f64_run;

static double *push(fur_arena *arena, int64_t count)
{
    return fur_arena_push(arena, count * (int64_t)sizeof(double));
}

static void lay_out(f64_run *r, fur_arena *arena)
{
    int64_t C = r->job.s.width, F = r->job.s.hidden;
    r->h = push(arena, C);
    r->dh = push(arena, C);
    r->gate = push(arena, F);
    r->up = push(arena, F);
    r->inner = push(arena, F);
    r->d_inner = push(arena, F);
}

#define PARTS(p)                                                                                                       \
    {                                                                                                                  \
        (p)->norm_C, (p)->norm_bias_C, (p)->gate_FC, (p)->gate_bias_F, (p)->up_FC, (p)->up_bias_F, (p)->inner_F,       \
            (p)->inner_bias_F, (p)->down_CF, (p)->down_bias_C                                                          \
    }

static fur_status begin(fur_context *context, const fur_operator_feedforward *settings, f64_run *r)
{
    static const fur_operator_feedforward_gradients_f64 nothing = {0};
    const fur_operator_feedforward_gradients_f64 *g = r->g ? r->g : &nothing;
    const fur_operator_feedforward_parts have = PARTS(r->w), wanted = PARTS(g);
    FUR_TRY(fur_operator_feedforward_check(context, settings, &have, &wanted, &r->job));
    fur_arena counting = fur_arena_counting();
    lay_out(r, &counting);
    FUR_TRY(fur_operator_arena(&context->error, r->job.what, counting.peak, settings->memory_bytes, &r->arena));
    lay_out(r, &r->arena);
    return FUR_OK;
}

/* ---- rows -------------------------------------------------------------------------------------------------------- */

static void map_forward(int64_t in, int64_t out, const double *w, const double *bias, const double *x, double *y)
{
    for (int64_t o = 0; o < out; o++) {
        double sum = bias ? bias[o] : 0;
        for (int64_t i = 0; i < in; i++)
            sum += w[o * in + i] * x[i];
        y[o] = sum;
    }
}

static void map_backward(int64_t in, int64_t out, const double *w, const double *x, const double *dy, double *dw,
                         double *dbias, int add, double *dx)
{
    if (!add)
        memset(dx, 0, (size_t)in * sizeof *dx);
    for (int64_t o = 0; o < out; o++) {
        for (int64_t i = 0; i < in; i++)
            dx[i] += w[o * in + i] * dy[o];
        for (int64_t i = 0; dw && i < in; i++)
            dw[o * in + i] += dy[o] * x[i];
        if (dbias)
            dbias[o] += dy[o];
    }
}

typedef struct moments {
    double mean, factor;
} moments;

static moments moments_of(int rms, int64_t C, double eps, const double *x)
{
    moments m = {0, 0};
    for (int64_t c = 0; !rms && c < C; c++)
        m.mean += x[c] / (double)C;
    double square = 0;
    for (int64_t c = 0; c < C; c++)
        square += (x[c] - m.mean) * (x[c] - m.mean);
    m.factor = 1 / sqrt(square / (double)C + eps);
    return m;
}

static void norm_forward(int rms, int64_t C, double eps, const double *x, const double *w, const double *b, double *y)
{
    moments m = moments_of(rms, C, eps, x);
    for (int64_t c = 0; c < C; c++)
        y[c] = (x[c] - m.mean) * m.factor * w[c] + (b ? b[c] : 0);
}

/* dx may be dy. */
static void norm_backward(int rms, int64_t C, double eps, const double *x, const double *w, const double *dy,
                          double *dx, double *dw, double *db)
{
    moments m = moments_of(rms, C, eps, x);
    double mean = 0, along = 0;
    for (int64_t c = 0; c < C; c++) {
        double xh = (x[c] - m.mean) * m.factor;
        mean += rms ? 0 : dy[c] * w[c] / (double)C;
        along += dy[c] * w[c] * xh / (double)C;
        if (dw)
            dw[c] += dy[c] * xh;
        if (db)
            db[c] += dy[c];
    }
    for (int64_t c = 0; c < C; c++)
        dx[c] = m.factor * (dy[c] * w[c] - mean - (x[c] - m.mean) * m.factor * along);
}

static double logistic(double z)
{
    return 1 / (1 + exp(-z));
}

/* u s(z) and its derivative by u. */
static double gelu(double u, double *slope)
{
    double c = 2 * sqrt(2 / 3.14159265358979323846), s = logistic(c * (u + 0.044715 * u * u * u));
    *slope = s + u * s * (1 - s) * c * (1 + 3 * 0.044715 * u * u);
    return u * s;
}

/* u s(u) likewise. */
static double silu(double u, double *slope)
{
    double s = logistic(u);
    *slope = s + u * s * (1 - s);
    return u * s;
}

static double gate_of(const f64_run *r, double gate, double *slope)
{
    return r->job.gelu ? gelu(gate, slope) : silu(gate, slope);
}

/* ---- a token ----------------------------------------------------------------------------------------------------- */

/* Up to g; returns what the maps read. */
static const double *inner_forward(const f64_run *r, const double *x)
{
    const fur_operator_feedforward *s = &r->job.s;
    const double *h = x;
    double slope;
    if (s->has_norm) {
        norm_forward(r->job.rms, s->width, s->norm_eps, x, r->w->norm_C, r->w->norm_bias_C, r->h);
        h = r->h;
    }
    map_forward(s->width, s->hidden, r->w->up_FC, r->w->up_bias_F, h, r->up);
    if (r->job.inner)
        norm_forward(0, s->hidden, s->norm_eps, r->up, r->w->inner_F, r->w->inner_bias_F, r->inner);
    if (r->job.gated)
        map_forward(s->width, s->hidden, r->w->gate_FC, r->w->gate_bias_F, h, r->gate);
    for (int64_t f = 0; !r->job.inner && f < s->hidden; f++)
        r->inner[f] = r->job.gated ? gate_of(r, r->gate[f], &slope) * r->up[f] : gelu(r->up[f], &slope);
    return h;
}

static void forward_token(const f64_run *r, const double *x, double *y)
{
    const fur_operator_feedforward *s = &r->job.s;
    inner_forward(r, x);
    map_forward(s->hidden, s->width, r->w->down_CF, r->w->down_bias_C, r->inner, y);
    for (int64_t c = 0; s->residual && c < s->width; c++)
        y[c] += x[c];
}

/* d_inner becomes the gradient by `up`, `gate` that by itself. */
static void activation_backward(const f64_run *r)
{
    int64_t F = r->job.s.hidden;
    if (r->job.inner) {
        norm_backward(0, F, r->job.s.norm_eps, r->up, r->w->inner_F, r->d_inner, r->d_inner, r->g->inner_F,
                      r->g->inner_bias_F);
        return;
    }
    for (int64_t f = 0; f < F; f++) {
        double dg = r->d_inner[f], slope;
        if (!r->job.gated) {
            gelu(r->up[f], &slope);
            r->d_inner[f] = dg * slope;
            continue;
        }
        r->d_inner[f] = dg * gate_of(r, r->gate[f], &slope);
        r->gate[f] = dg * r->up[f] * slope;
    }
}

static void backward_token(const f64_run *r, const double *x, const double *dy, double *dx)
{
    const fur_operator_feedforward *s = &r->job.s;
    const fur_operator_feedforward_weights_f64 *w = r->w;
    const fur_operator_feedforward_gradients_f64 *g = r->g;
    const double *h = inner_forward(r, x);
    map_backward(s->hidden, s->width, w->down_CF, r->inner, dy, g->down_CF, g->down_bias_C, 0, r->d_inner);
    activation_backward(r);
    map_backward(s->width, s->hidden, w->up_FC, h, r->d_inner, g->up_FC, g->up_bias_F, 0, r->dh);
    if (r->job.gated)
        map_backward(s->width, s->hidden, w->gate_FC, h, r->gate, g->gate_FC, g->gate_bias_F, 1, r->dh);
    if (s->has_norm)
        norm_backward(r->job.rms, s->width, s->norm_eps, x, w->norm_C, r->dh, r->dh, g->norm_C, g->norm_bias_C);
    for (int64_t c = 0; dx && c < s->width; c++)
        dx[c] = r->dh[c] + (s->residual ? dy[c] : 0);
}

fur_status fur_operator_feedforward_forward_f64(fur_context *context, const fur_operator_feedforward *settings,
                                                const fur_operator_feedforward_weights_f64 *weights, const double *x_TC,
                                                double *y_TC)
{
    f64_run r = {.w = weights};
    fur_status status = begin(context, settings, &r);
    for (int64_t t = 0; status == FUR_OK && t < settings->tokens; t++)
        forward_token(&r, x_TC + t * settings->width, y_TC + t * settings->width);
    fur_arena_destroy(&r.arena);
    return status;
}

static void zero(double *x, int64_t count)
{
    if (x)
        memset(x, 0, (size_t)count * sizeof *x);
}

fur_status fur_operator_feedforward_backward_f64(fur_context *context, const fur_operator_feedforward *settings,
                                                 const fur_operator_feedforward_weights_f64 *weights,
                                                 const double *x_TC, const double *dy_TC,
                                                 const fur_operator_feedforward_gradients_f64 *out)
{
    f64_run r = {.w = weights, .g = out};
    fur_status status = begin(context, settings, &r);
    if (status == FUR_OK) {
        int64_t C = settings->width, F = settings->hidden;
        double *narrow[] = {out->norm_C, out->norm_bias_C, out->down_bias_C},
               *wide[] = {out->gate_bias_F, out->up_bias_F, out->inner_F, out->inner_bias_F},
               *whole[] = {out->gate_FC, out->up_FC, out->down_CF};
        for (int i = 0; i < 4; i++)
            zero(wide[i], F);
        for (int i = 0; i < 3; i++) {
            zero(narrow[i], C);
            zero(whole[i], C * F);
        }
    }
    for (int64_t t = 0; status == FUR_OK && t < settings->tokens; t++) {
        int64_t at = t * settings->width;
        backward_token(&r, x_TC + at, dy_TC + at, out->dx_TC ? out->dx_TC + at : NULL);
    }
    fur_arena_destroy(&r.arena);
    return status;
}
