/* SPDX-License-Identifier: Apache-2.0 */
/* Cross-entropy over a vocabulary on arrays of the caller, by the loss head of training (model/head_xent.h). */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "api/operators.h"
#include "base/size.h"
#include "model/head_xent.h"
#include "op/matmul/matmul.h"

/* Logits at once: 64 MB. Every tile of rows reads the weights twice and, for their gradient, reads and writes it, so
 * that few rows are dear. */
#define LOGITS     ((int64_t)1 << 24)
#define LEAST_ROWS 64
#define MOST_ROWS  1024

void fur_operator_cross_entropy_defaults(fur_operator_cross_entropy *s)
{
    memset(s, 0, sizeof *s);
    s->struct_size = sizeof *s;
}

typedef struct xent_run {
    fur_exec exec;
    fur_arena arena;
    fur_loss_scratch scratch;
    int64_t rows, columns; /* of logits at once */
    char what[FUR_OPERATOR_TEXT];
} xent_run;

static fur_status check(fur_context *context, const fur_operator_cross_entropy *s, xent_run *r)
{
    FUR_TRY(fur_operator_check_size(&context->error, "fur_operator_cross_entropy", s->struct_size, sizeof *s));
    memset(r, 0, sizeof *r);
    snprintf(r->what, sizeof r->what, "cross-entropy of h[%lld,%lld] by w[%lld,%lld]", (long long)s->tokens,
             (long long)s->width, (long long)s->vocabulary, (long long)s->width);
    if (s->tokens < 0 || s->tokens > (int64_t)1 << 40 || s->width < 1 || s->width > (int64_t)1 << 20 ||
        s->vocabulary < 1 || s->vocabulary > (int64_t)1 << 24)
        return fur_error_set(&context->error, FUR_E_SHAPE,
                             "%s: expected 0 to 2^40 tokens, width 1 to 2^20, 1 to 2^24 words", r->what);
    return FUR_OK;
}

static void lay_out(xent_run *r, fur_arena *arena)
{
    r->scratch.logits_tV = fur_arena_push_f32(arena, r->rows * r->columns);
    r->scratch.maximum_t = fur_arena_push_f32(arena, r->rows);
    r->scratch.sum_t = fur_arena_push_f32(arena, r->rows);
    r->scratch.target_logit_t = fur_arena_push_f32(arena, r->rows);
    r->scratch.nll_t = fur_arena_push_f32(arena, r->rows);
}

static fur_status measure(fur_context *context, const fur_operator_cross_entropy *s, xent_run *r, int64_t *bytes)
{
    FUR_TRY(check(context, s, r));
    r->exec = context->exec;
    r->columns = fur_min_i64(s->vocabulary, LOGITS / LEAST_ROWS);
    r->rows = fur_max_i64(1, fur_min_i64(s->tokens, fur_min_i64(MOST_ROWS, LOGITS / r->columns)));
    fur_arena counting = fur_arena_counting();
    lay_out(r, &counting);
    *bytes = counting.peak + fur_matmul_workspace(&r->exec) + FUR_ARENA_ALIGN;
    return FUR_OK;
}

fur_status fur_operator_cross_entropy_bytes(fur_context *context, const fur_operator_cross_entropy *settings,
                                            bool gradient, int64_t *out)
{
    xent_run r;
    (void)gradient; /* takes the place of logits */
    return measure(context, settings, &r, out);
}

/* Number of counted rows. */
static fur_status count_targets(fur_context *context, const fur_operator_cross_entropy *s, const char *what,
                                const int32_t *target_T, int64_t *out)
{
    *out = 0;
    for (int64_t t = 0; t < s->tokens; t++) {
        if (target_T[t] >= s->vocabulary)
            return fur_error_set(&context->error, FUR_E_ARGUMENT, "%s: target %d at row %lld, expected below %lld",
                                 what, (int)target_T[t], (long long)t, (long long)s->vocabulary);
        *out += target_T[t] >= 0;
    }
    return FUR_OK;
}

static double weight_of(const fur_operator_cross_entropy *s, int64_t counted)
{
    return s->sum ? 1.0 : counted ? 1.0 / (double)counted : 0.0;
}

fur_status fur_operator_cross_entropy_run(fur_context *context, const fur_operator_cross_entropy *settings,
                                          const float *h_TC, const float *w_VC, const int32_t *target_T, double *loss,
                                          float *nll_T, float *dh_TC, float *dw_VC)
{
    const fur_operator_cross_entropy *s = settings;
    xent_run r;
    int64_t bytes, counted;
    FUR_TRY(measure(context, s, &r, &bytes));
    if (dw_VC && !dh_TC)
        return fur_error_set(&context->error, FUR_E_ARGUMENT, "%s: dw without dh", r.what);
    FUR_TRY(count_targets(context, s, r.what, target_T, &counted));
    FUR_TRY(fur_operator_arena(&context->error, r.what, bytes, s->memory_bytes, &r.arena));
    lay_out(&r, &r.arena);
    r.exec.workspace = &r.arena;
    if (dw_VC)
        memset(dw_VC, 0, (size_t)(s->vocabulary * s->width) * sizeof *dw_VC);
    const fur_head_xent xent = {
        .head = {.kind = &fur_projection_dense, .in = s->width, .out = s->vocabulary, .weight = w_VC},
        .sink = {.weight = dw_VC},
        .tile = r.columns,
        .scratch = &r.scratch};
    double sum = 0, weight = weight_of(s, counted);
    fur_status status = FUR_OK;
    for (int64_t t = 0; status == FUR_OK && t < s->tokens; t += r.rows) {
        int64_t count = fur_min_i64(r.rows, s->tokens - t);
        status = fur_head_xent_rows(&r.exec, &xent, count, h_TC + t * s->width, target_T + t, (float)weight,
                                    dh_TC ? dh_TC + t * s->width : NULL, &sum);
        if (status == FUR_OK && nll_T)
            memcpy(nll_T + t, r.scratch.nll_t, (size_t)count * sizeof *nll_T);
    }
    *loss = sum * weight;
    fur_arena_destroy(&r.arena);
    return status;
}

/* ---- f64 --------------------------------------------------------------------------------------------------------- */

static double dot(const double *a, const double *b, int64_t count)
{
    double sum = 0;
    for (int64_t i = 0; i < count; i++)
        sum += a[i] * b[i];
    return sum;
}

/* One row: its loss, and unless NULL its gradients, `weight` times those; logits are V doubles of work. */
static double row_f64(const fur_operator_cross_entropy *s, const double *h, const double *w_VC, int32_t target,
                      double weight, double *logits, double *dh, double *dw_VC)
{
    int64_t C = s->width;
    double max = logits[0] = dot(h, w_VC, C), sum = 0;
    for (int64_t v = 1; v < s->vocabulary; v++) {
        logits[v] = dot(h, w_VC + v * C, C);
        max = fmax(max, logits[v]);
    }
    for (int64_t v = 0; v < s->vocabulary; v++)
        sum += exp(logits[v] - max);
    /* cppcheck-suppress invalidFunctionArg ; the largest logit alone adds 1 */
    double lse = max + log(sum);
    for (int64_t v = 0; dh && v < s->vocabulary; v++) {
        double d = weight * (exp(logits[v] - lse) - (v == target));
        for (int64_t c = 0; c < C; c++)
            dh[c] += d * w_VC[v * C + c];
        for (int64_t c = 0; dw_VC && c < C; c++)
            dw_VC[v * C + c] += d * h[c];
    }
    return lse - logits[target];
}

fur_status fur_operator_cross_entropy_run_f64(fur_context *context, const fur_operator_cross_entropy *settings,
                                              const double *h_TC, const double *w_VC, const int32_t *target_T,
                                              double *loss, double *nll_T, double *dh_TC, double *dw_VC)
{
    const fur_operator_cross_entropy *s = settings;
    xent_run r;
    int64_t counted;
    FUR_TRY(check(context, s, &r));
    int64_t bytes = fur_round_up(s->vocabulary * (int64_t)sizeof(double), FUR_ARENA_ALIGN);
    if (dw_VC && !dh_TC)
        return fur_error_set(&context->error, FUR_E_ARGUMENT, "%s: dw without dh", r.what);
    FUR_TRY(count_targets(context, s, r.what, target_T, &counted));
    FUR_TRY(fur_operator_arena(&context->error, r.what, bytes, s->memory_bytes, &r.arena));
    double *logits = fur_arena_push(&r.arena, bytes), sum = 0, weight = weight_of(s, counted);
    if (dw_VC)
        memset(dw_VC, 0, (size_t)(s->vocabulary * s->width) * sizeof *dw_VC);
    if (dh_TC)
        memset(dh_TC, 0, (size_t)(s->tokens * s->width) * sizeof *dh_TC);
    for (int64_t t = 0; t < s->tokens; t++) {
        int64_t at = t * s->width;
        double nll = (double)NAN;
        if (target_T[t] >= 0) {
            nll = row_f64(s, h_TC + at, w_VC, target_T[t], weight, logits, dh_TC ? dh_TC + at : NULL, dw_VC);
            sum += nll;
        }
        if (nll_T)
            nll_T[t] = nll;
    }
    *loss = sum * weight;
    fur_arena_destroy(&r.arena);
    return FUR_OK;
}
