/* SPDX-License-Identifier: Apache-2.0 */
/* The feedforward on arrays of the caller, tile by tile of tokens as in the sweep (src/model/sweep_forward.c): what is
 * F wide exists for one tile. */
#include "api/operators_feedforward.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/size.h"
#include "op/activation/activation.h"
#include "op/add/add.h"
#include "op/bias/bias.h"
#include "op/matmul/matmul.h"
#include "op/norm/norm.h"
#include "projection/kind.h"

/* As training has them (plan.c). */
#define TILE_ROWS 512

#define DEFAULT_EPS 1e-5

void fur_operator_feedforward_defaults(fur_operator_feedforward *s)
{
    memset(s, 0, sizeof *s);
    s->struct_size = sizeof *s;
}

static fur_status check_settings(fur_context *context, const fur_operator_feedforward *settings,
                                 fur_operator_feedforward_job *job)
{
    fur_error *error = &context->error;
    FUR_TRY(fur_operator_check_size(error, "fur_operator_feedforward", settings->struct_size, sizeof *settings));
    memset(job, 0, sizeof *job);
    job->s = *settings;
    fur_operator_feedforward *s = &job->s;
    snprintf(job->what, sizeof job->what, "feedforward of x[%lld,%lld] through %lld", (long long)s->tokens,
             (long long)s->width, (long long)s->hidden);
    if (s->tokens < 0 || s->tokens > (int64_t)1 << 40 || s->width < 1 || s->width > (int64_t)1 << 20 || s->hidden < 1 ||
        s->hidden > (int64_t)1 << 24)
        return fur_error_set(error, FUR_E_SHAPE, "%s: expected 0 to 2^40 tokens, widths of 1 to 2^20 and 2^24",
                             job->what);
    job->gated = s->activation == FUR_ACTIVATION_SWIGLU || s->activation == FUR_ACTIVATION_GEGLU;
    job->gelu = s->activation == FUR_ACTIVATION_GEGLU;
    job->inner = s->activation == FUR_ACTIVATION_NORM;
    if ((!job->gated && !job->inner && s->activation != FUR_ACTIVATION_GELU_TANH) ||
        (s->norm != FUR_NORM_LAYERNORM && s->norm != FUR_NORM_RMSNORM))
        return fur_error_set(error, FUR_E_ARGUMENT, "%s: no activation %d or norm %d", job->what, (int)s->activation,
                             (int)s->norm);
    s->norm_eps = s->norm_eps > 0 || s->norm_eps < 0 ? s->norm_eps : DEFAULT_EPS;
    if (!(s->norm_eps > 0 && s->norm_eps < 1))
        return fur_error_set(error, FUR_E_ARGUMENT, "%s: norm_eps %g, expected above 0, below 1", job->what,
                             s->norm_eps);
    job->rms = s->norm == FUR_NORM_RMSNORM;
    return FUR_OK;
}

fur_status fur_operator_feedforward_check(fur_context *context, const fur_operator_feedforward *settings,
                                          const fur_operator_feedforward_parts *have,
                                          const fur_operator_feedforward_parts *wanted,
                                          fur_operator_feedforward_job *job)
{
    FUR_TRY(check_settings(context, settings, job));
    int norm = settings->has_norm, gated = job->gated, inner = job->inner;
    const struct {
        const char *name;
        int must, may;
        const void *have, *wanted;
    } list[] = {
        {"norm_C", norm, norm, have->norm, wanted->norm},
        {"norm_bias_C", norm && !job->rms, norm && !job->rms, have->norm_bias, wanted->norm_bias},
        {"gate_FC", gated, gated, have->gate, wanted->gate},
        {"gate_bias_F", 0, gated, have->gate_bias, wanted->gate_bias},
        {"up_FC", 1, 1, have->up, wanted->up},
        {"up_bias_F", 0, 1, have->up_bias, wanted->up_bias},
        {"inner_F", inner, inner, have->inner, wanted->inner},
        {"inner_bias_F", inner, inner, have->inner_bias, wanted->inner_bias},
        {"down_CF", 1, 1, have->down, wanted->down},
        {"down_bias_C", 0, 1, have->down_bias, wanted->down_bias},
    };
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        if (list[i].must && !list[i].have)
            return fur_error_set(&context->error, FUR_E_ARGUMENT, "%s: %s is missing", job->what, list[i].name);
        if (!list[i].may && list[i].have)
            return fur_error_set(&context->error, FUR_E_ARGUMENT, "%s: %s is of no use with these settings", job->what,
                                 list[i].name);
        if (!list[i].have && list[i].wanted)
            return fur_error_set(&context->error, FUR_E_ARGUMENT, "%s: a gradient of %s, which is not there", job->what,
                                 list[i].name);
    }
    return FUR_OK;
}

/* ---- f32 --------------------------------------------------------------------------------------------------------- */

typedef struct feedforward_run {
    fur_operator_feedforward_job job;
    fur_exec exec;
    fur_arena arena;
    int64_t tile;
    const fur_operator_feedforward_weights *w;
    const fur_operator_feedforward_gradients *g;
    float *h, *dh;                      /* [tile, C] */
    float *gate, *up, *inner, *d_inner; /* [tile, F] */
} feedforward_run;

static fur_projection map_of(int64_t in, int64_t out, const float *weight, const float *bias)
{
    return (fur_projection){.kind = &fur_projection_dense, .in = in, .out = out, .weight = weight, .bias = bias};
}

static void lay_out(feedforward_run *r, int backward, fur_arena *arena)
{
    const fur_operator_feedforward *s = &r->job.s;
    int64_t narrow = r->tile * s->width, wide = r->tile * s->hidden;
    r->h = fur_arena_push_f32(arena, s->has_norm ? narrow : 0);
    r->dh = fur_arena_push_f32(arena, backward ? narrow : 0);
    r->gate = fur_arena_push_f32(arena, r->job.gated ? wide : 0);
    r->up = fur_arena_push_f32(arena, wide);
    r->inner = fur_arena_push_f32(arena, wide);
    r->d_inner = fur_arena_push_f32(arena, backward ? wide : 0);
}

static int64_t workspace(const feedforward_run *r)
{
    const fur_operator_feedforward *s = &r->job.s;
    int64_t widest = fur_max_i64(s->width, s->hidden);
    return fur_max_i64(fur_matmul_workspace(&r->exec), fur_max_i64(fur_bias_workspace(&r->exec, r->tile, widest),
                                                                   fur_norm_workspace(&r->exec, r->tile, widest)));
}

static fur_status measure(fur_context *context, int backward, feedforward_run *r, int64_t *bytes)
{
    r->exec = context->exec;
    r->tile = fur_min_i64(TILE_ROWS, r->job.s.tokens);
    fur_arena counting = fur_arena_counting();
    lay_out(r, backward, &counting);
    *bytes = counting.peak + workspace(r) + FUR_ARENA_ALIGN; /* widths are small enough */
    return FUR_OK;
}

fur_status fur_operator_feedforward_bytes(fur_context *context, const fur_operator_feedforward *settings, bool backward,
                                          int64_t *out)
{
    feedforward_run r = {0};
    FUR_TRY(check_settings(context, settings, &r.job));
    return measure(context, backward, &r, out);
}

#define PARTS(p)                                                                                                       \
    {                                                                                                                  \
        (p)->norm_C, (p)->norm_bias_C, (p)->gate_FC, (p)->gate_bias_F, (p)->up_FC, (p)->up_bias_F, (p)->inner_F,       \
            (p)->inner_bias_F, (p)->down_CF, (p)->down_bias_C                                                          \
    }

static fur_status begin(fur_context *context, const fur_operator_feedforward *settings,
                        const fur_operator_feedforward_weights *w, const fur_operator_feedforward_gradients *g,
                        feedforward_run *r)
{
    const fur_operator_feedforward_parts have = PARTS(w), none = {0};
    int64_t bytes;
    if (g) {
        const fur_operator_feedforward_parts wanted = PARTS(g);
        FUR_TRY(fur_operator_feedforward_check(context, settings, &have, &wanted, &r->job));
    } else {
        FUR_TRY(fur_operator_feedforward_check(context, settings, &have, &none, &r->job));
    }
    FUR_TRY(measure(context, g != NULL, r, &bytes));
    FUR_TRY(fur_operator_arena(&context->error, r->job.what, bytes, settings->memory_bytes, &r->arena));
    lay_out(r, g != NULL, &r->arena);
    r->exec.workspace = &r->arena;
    r->w = w;
    r->g = g;
    return FUR_OK;
}

static fur_status map_forward(const feedforward_run *r, const fur_projection *map, int64_t count, const float *x,
                              int add, float *y)
{
    fur_projection_input input;
    FUR_TRY(map->kind->prepare(&r->exec, map, count, x, map->in, &input));
    return map->kind->forward(&r->exec, map, &input, add, y, map->out);
}

/* Up to g, in `inner`; *h: what the maps read. */
static fur_status inner_forward(const feedforward_run *r, int64_t count, const float *x, const float **h)
{
    const fur_operator_feedforward *s = &r->job.s;
    const fur_operator_feedforward_weights *w = r->w;
    *h = x;
    if (s->has_norm) {
        FUR_TRY(fur_norm_forward(&r->exec, r->job.rms, count, s->width, (float)s->norm_eps, x, w->norm_C,
                                 w->norm_bias_C, r->h, NULL));
        *h = r->h;
    }
    fur_projection up = map_of(s->width, s->hidden, w->up_FC, w->up_bias_F);
    fur_projection gate = map_of(s->width, s->hidden, w->gate_FC, w->gate_bias_F);
    FUR_TRY(map_forward(r, &up, count, *h, 0, r->up));
    if (r->job.gated) {
        FUR_TRY(map_forward(r, &gate, count, *h, 0, r->gate));
        return (r->job.gelu ? fur_geglu_forward : fur_swiglu_forward)(&r->exec, count, s->hidden, r->gate, r->up,
                                                                      s->hidden, r->inner);
    }
    if (r->job.inner)
        return fur_norm_forward(&r->exec, 0, count, s->hidden, (float)s->norm_eps, r->up, w->inner_F, w->inner_bias_F,
                                r->inner, NULL);
    return fur_gelu_forward(&r->exec, count * s->hidden, r->up, r->inner);
}

static fur_status forward_tile(const feedforward_run *r, int64_t count, const float *x, float *y)
{
    const fur_operator_feedforward *s = &r->job.s;
    fur_projection down = map_of(s->hidden, s->width, r->w->down_CF, r->w->down_bias_C);
    const float *h;
    FUR_TRY(inner_forward(r, count, x, &h));
    if (s->residual)
        memcpy(y, x, (size_t)(count * s->width) * sizeof *y);
    return map_forward(r, &down, count, r->inner, s->residual, y);
}

fur_status fur_operator_feedforward_forward(fur_context *context, const fur_operator_feedforward *settings,
                                            const fur_operator_feedforward_weights *weights, const float *x_TC,
                                            float *y_TC)
{
    feedforward_run r = {0};
    fur_status status = begin(context, settings, weights, NULL, &r);
    for (int64_t t = 0; status == FUR_OK && t < settings->tokens; t += r.tile)
        status = forward_tile(&r, fur_min_i64(r.tile, settings->tokens - t), x_TC + t * settings->width,
                              y_TC + t * settings->width);
    fur_arena_destroy(&r.arena);
    return status;
}

/* Gradients by weights and bias, those that are wanted, and by x. The product of a weight that is frozen is not taken.
 */
static fur_status map_backward(const feedforward_run *r, const fur_projection *map, int64_t count, const float *x,
                               const float *dy, float *dweight, float *dbias, int add, float *dx)
{
    fur_projection_input input;
    const fur_gradient_sink sink = {.weight = dweight, .bias = dbias};
    FUR_TRY(map->kind->prepare(&r->exec, map, count, x, map->in, &input));
    FUR_TRY(map->kind->backward(&r->exec, map, &input, dy, map->out, add, dx, map->in, dweight ? &sink : NULL));
    return !dweight && dbias ? fur_bias_backward(&r->exec, count, map->out, dy, dbias) : FUR_OK;
}

/* d_inner becomes the gradient by `up` (in *d_up), and `gate` that by itself. */
static fur_status activation_backward(const feedforward_run *r, int64_t count, const float **d_up)
{
    const fur_operator_feedforward *s = &r->job.s;
    *d_up = r->up;
    if (r->job.gated)
        return (r->job.gelu ? fur_geglu_backward : fur_swiglu_backward)(
            &r->exec, count, s->hidden, r->gate, r->up, s->hidden, r->d_inner, r->gate, r->up, s->hidden, NULL);
    if (!r->job.inner)
        return fur_gelu_backward(&r->exec, count * s->hidden, r->up, r->d_inner, r->up, NULL);
    *d_up = r->d_inner;
    return fur_norm_backward(&r->exec, 0, count, s->hidden, (float)s->norm_eps, r->up, r->w->inner_F, NULL, r->d_inner,
                             r->d_inner, 0, r->g->inner_F, r->g->inner_bias_F);
}

/* dx of a tile from dh, which its maps read. */
static fur_status input_backward(const feedforward_run *r, int64_t count, const float *x, const float *dy, float *dx)
{
    const fur_operator_feedforward *s = &r->job.s;
    size_t bytes = (size_t)(count * s->width) * sizeof *dx;
    float *out = dx ? dx : r->dh;
    if (s->has_norm)
        FUR_TRY(fur_norm_backward(&r->exec, r->job.rms, count, s->width, (float)s->norm_eps, x, r->w->norm_C, NULL,
                                  r->dh, out, 0, r->g->norm_C, r->g->norm_bias_C));
    else if (dx)
        memcpy(dx, r->dh, bytes);
    return dx && s->residual ? fur_add(&r->exec, count * s->width, dy, dx) : FUR_OK;
}

static fur_status backward_tile(const feedforward_run *r, int64_t count, const float *x, const float *dy, float *dx)
{
    const fur_operator_feedforward *s = &r->job.s;
    const fur_operator_feedforward_weights *w = r->w;
    const fur_operator_feedforward_gradients *g = r->g;
    fur_projection down = map_of(s->hidden, s->width, w->down_CF, w->down_bias_C);
    fur_projection up = map_of(s->width, s->hidden, w->up_FC, w->up_bias_F);
    fur_projection gate = map_of(s->width, s->hidden, w->gate_FC, w->gate_bias_F);
    const float *h, *d_up;
    FUR_TRY(inner_forward(r, count, x, &h));
    FUR_TRY(map_backward(r, &down, count, r->inner, dy, g->down_CF, g->down_bias_C, 0, r->d_inner));
    FUR_TRY(activation_backward(r, count, &d_up));
    FUR_TRY(map_backward(r, &up, count, h, d_up, g->up_FC, g->up_bias_F, 0, r->dh));
    if (r->job.gated)
        FUR_TRY(map_backward(r, &gate, count, h, r->gate, g->gate_FC, g->gate_bias_F, 1, r->dh));
    return input_backward(r, count, x, dy, dx);
}

static void zero(float *x, int64_t count)
{
    if (x)
        memset(x, 0, (size_t)count * sizeof *x);
}

fur_status fur_operator_feedforward_backward(fur_context *context, const fur_operator_feedforward *settings,
                                             const fur_operator_feedforward_weights *weights, const float *x_TC,
                                             const float *dy_TC, const fur_operator_feedforward_gradients *out)
{
    feedforward_run r = {0};
    fur_status status = begin(context, settings, weights, out, &r);
    if (status == FUR_OK) {
        int64_t C = settings->width, F = settings->hidden;
        float *narrow[] = {out->norm_C, out->norm_bias_C, out->down_bias_C},
              *wide[] = {out->gate_bias_F, out->up_bias_F, out->inner_F, out->inner_bias_F},
              *whole[] = {out->gate_FC, out->up_FC, out->down_CF};
        for (int i = 0; i < 4; i++)
            zero(wide[i], F);
        for (int i = 0; i < 3; i++) {
            zero(narrow[i], C);
            zero(whole[i], C * F);
        }
    }
    for (int64_t t = 0; status == FUR_OK && t < settings->tokens; t += r.tile) {
        int64_t at = t * settings->width;
        status = backward_tile(&r, fur_min_i64(r.tile, settings->tokens - t), x_TC + at, dy_TC + at,
                               out->dx_TC ? out->dx_TC + at : NULL);
    }
    fur_arena_destroy(&r.arena);
    return status;
}
