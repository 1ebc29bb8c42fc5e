/* SPDX-License-Identifier: Apache-2.0 */
/* Linear attention, o_i = sum over seen k of (a_i X k_k) v_k Y, fitted in closed form (arXiv 2410.10101).
 *
 * o_i is linear in the tensor W [d1 d2 d3, dv] = sum over heads of X (x) Y, with the features a_i (x) M_i, M_i = sum of
 * k_k v_k^T over what row i sees: least squares for W (which no local minimum can hide), then the singular vectors of W
 * as a [d1 d2, d3 dv] matrix are the heads. Where keys and values are the same rows, M_i is symmetric and W determined
 * only up to exchanging its two indices: features and W are packed, and the heads are then made exact by solving for Y
 * with X fixed and for X with Y fixed in turn. The least squares' own loss is a lower bound for any number of heads. */
#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "base/size.h"
#include "fit/la.h"
#include "fit/run.h"

enum { MOST_FEATURES = 8192, BLOCK = 256, MOST_TURNS = 200 };

typedef struct linear {
    fit_run *run;
    const fit_problem *p;
    bool symmetric;
    int64_t features;         /* of a row */
    int64_t pairs;            /* of M, packed or not */
    double *m;                /* [d2, d3]: M of the row at hand */
    double *r, *stack, *work; /* R so far [w, w], R over a block of rows, QR's own */
    double *w;                /* [features, dv] */
    double *tensor;           /* [d1 d2, d3 dv] */
    double *svd;
    double *x, *y; /* [d1, H d2], [H d3, dv] */
    double *u;     /* [d3] or [d2 dv] of a row */
} linear;

/* ---- least squares by a QR of what was seen so far --------------------------------------------------------------- */

typedef void (*row_fn)(linear *z, int64_t row, int64_t part, double *out); /* features, then the targets */

static int64_t stack_rows(int64_t w)
{
    return w + BLOCK;
}

/* R of all rows of the training set, `parts` rows of width w each; a little of the unit matrix first, so that what no
 * row determines stays 0. */
static fur_status accumulate(linear *z, int64_t w, int64_t unknowns, int64_t parts, row_fn make)
{
    const fit_problem *p = z->p;
    const fit_data *data = p->data;
    int64_t filled = 0;
    bool good = true;
    memset(z->r, 0, (size_t)(w * w) * sizeof *z->r);
    for (int64_t i = 0; i < unknowns; i++)
        z->r[i * w + i] = 1e-10 * sqrt((double)p->n);
    for (int64_t s = 0; s < data->sequences && good; s++) {
        int64_t from = data->queries[s], to = fur_min_i64(data->queries[s + 1], p->n), key = data->keys[s];
        memset(z->m, 0, (size_t)(p->d2 * p->d3) * sizeof *z->m);
        for (int64_t row = from; row < to && good; row++) {
            int64_t end = p->causal ? data->keys[s] + row - from + 1 : data->keys[s + 1];
            for (; key < end; key++) {
                const fit_scratch *c = &p->scratch[0];
                const double *k = fit_rows(&p->k, key, 1, c->raw, c->k), *v = fit_rows(&p->v, key, 1, c->raw, c->v);
                for (int64_t i = 0; i < p->d2; i++)
                    for (int64_t j = 0; j < p->d3; j++)
                        z->m[i * p->d3 + j] += k[i] * v[j];
            }
            for (int64_t part = 0; part < parts && good; part++) {
                make(z, row, part, z->stack + (w + filled++) * w);
                if (filled < BLOCK)
                    continue;
                memcpy(z->stack, z->r, (size_t)(w * w) * sizeof *z->r);
                good = fur_la_qr(w + filled, w, z->stack, z->r, z->work);
                filled = 0;
            }
        }
    }
    if (filled > 0 && good) {
        memcpy(z->stack, z->r, (size_t)(w * w) * sizeof *z->r);
        good = fur_la_qr(w + filled, w, z->stack, z->r, z->work);
    }
    return good ? FUR_OK : fur_error_set(p->exec->error, FUR_E_INTERNAL, "QR of the features failed");
}

/* out [unknowns, targets] from R; returns half the sum of squares that is left. */
static double back_solve(const linear *z, int64_t w, int64_t unknowns, double *out)
{
    int64_t targets = w - unknowns;
    double left = 0;
    for (int64_t i = 0; i < unknowns; i++)
        memcpy(out + i * targets, z->r + i * w + unknowns, (size_t)targets * sizeof *out);
    fur_la_upper_solve(false, unknowns, z->r, w, targets, out, targets);
    for (int64_t i = unknowns; i < w; i++)
        for (int64_t c = unknowns; c < w; c++)
            left += 0.5 * z->r[i * w + c] * z->r[i * w + c];
    return left;
}

static const double *a_row(const linear *z, int64_t row)
{
    return fit_rows(&z->p->a, row, 1, z->p->scratch[0].raw, z->p->scratch[0].a);
}

static void targets_of(const linear *z, int64_t row, double *out)
{
    for (int64_t c = 0; c < z->p->dv; c++)
        out[c] = fit_root_w(z->p, row) * fit_array_get(&z->p->data->b, row * z->p->dv + c);
}

/* ---- the tensor -------------------------------------------------------------------------------------------------- */

static void tensor_row(linear *z, int64_t row, int64_t part, double *out)
{
    const fit_problem *p = z->p;
    const double *a = a_row(z, row);
    double weight = fit_root_w(p, row);
    (void)part;
    for (int64_t e = 0; e < p->d1; e++)
        for (int64_t i = 0; i < p->d2; i++)
            for (int64_t j = z->symmetric ? i : 0; j < p->d3; j++)
                *out++ = weight * a[e] * z->m[i * p->d3 + j] * (z->symmetric && j > i ? 2 : 1);
    targets_of(z, row, out);
}

/* W as [d1 d2, d3 dv]; where packed, shared equally between its two halves. */
static void unpack(const linear *z)
{
    const fit_problem *p = z->p;
    int64_t at = 0, width = p->d3 * p->dv;
    for (int64_t e = 0; e < p->d1; e++)
        for (int64_t i = 0; i < p->d2; i++)
            for (int64_t j = z->symmetric ? i : 0; j < p->d3; j++, at++)
                for (int64_t c = 0; c < p->dv; c++) {
                    z->tensor[(e * p->d2 + i) * width + j * p->dv + c] = z->w[at * p->dv + c];
                    if (z->symmetric)
                        z->tensor[(e * p->d2 + j) * width + i * p->dv + c] = z->w[at * p->dv + c];
                }
}

static fur_status heads_of_tensor(linear *z)
{
    const fit_problem *p = z->p;
    int64_t rows = p->d1 * p->d2, width = p->d3 * p->dv, full = fur_min_i64(rows, width);
    fit_svd svd;
    unpack(z);
    FUR_TRY(fit_svd_of(p->exec->error, rows, width, z->tensor, width, z->svd, &svd));
    for (int64_t h = 0; h < p->heads && h < full; h++) {
        double root = sqrt(svd.s[h]);
        for (int64_t e = 0; e < p->d1; e++)
            for (int64_t i = 0; i < p->d2; i++)
                z->x[e * fit_d2(p) + h * p->d2 + i] = root * svd.u[(e * p->d2 + i) * full + h];
        for (int64_t i = 0; i < width; i++)
            z->y[h * width + i] = root * svd.v[i * full + h];
    }
    return FUR_OK;
}

/* ---- Y for X, X for Y -------------------------------------------------------------------------------------------- */

/* (a X_h M) of each head */
static void row_for_y(linear *z, int64_t row, int64_t part, double *out)
{
    const fit_problem *p = z->p;
    const double *a = a_row(z, row);
    double weight = fit_root_w(p, row);
    (void)part;
    for (int64_t h = 0; h < p->heads; h++) {
        memset(out + h * p->d3, 0, (size_t)p->d3 * sizeof *out);
        for (int64_t i = 0; i < p->d2; i++) {
            double t = 0;
            for (int64_t e = 0; e < p->d1; e++)
                t += a[e] * z->x[e * fit_d2(p) + h * p->d2 + i];
            for (int64_t j = 0; j < p->d3; j++)
                out[h * p->d3 + j] += weight * t * z->m[i * p->d3 + j];
        }
    }
    targets_of(z, row, out + fit_d3(p));
}

/* a (x) (M Y_h) for value `part` */
static void row_for_x(linear *z, int64_t row, int64_t part, double *out)
{
    const fit_problem *p = z->p;
    const double *a = a_row(z, row);
    double weight = fit_root_w(p, row);
    for (int64_t h = 0; h < p->heads; h++)
        for (int64_t i = 0; i < p->d2; i++) {
            double my = 0;
            for (int64_t j = 0; j < p->d3; j++)
                my += z->m[i * p->d3 + j] * z->y[(h * p->d3 + j) * p->dv + part];
            for (int64_t e = 0; e < p->d1; e++)
                out[e * fit_d2(p) + h * p->d2 + i] = weight * a[e] * my;
        }
    out[p->d1 * fit_d2(p)] = weight * fit_array_get(&p->data->b, row * p->dv + part);
}

static fur_status take_turns(linear *z, double lower, double *loss, int64_t *turns, fur_fit_end *end)
{
    const fit_problem *p = z->p;
    double before = (double)INFINITY;
    double tolerance = z->run->result->tolerance * p->l0;
    *end = FUR_FIT_LIMIT;
    for (*turns = 0; *turns < MOST_TURNS; ++*turns) {
        FUR_TRY(accumulate(z, fit_d3(p) + p->dv, fit_d3(p), 1, row_for_y));
        *loss = back_solve(z, fit_d3(p) + p->dv, fit_d3(p), z->y);
        bool done = *loss <= tolerance || *loss <= lower * (1 + 1e-9);
        if (done || before - *loss < 1e-9 * *loss || atomic_load(&z->run->context->stop)) {
            *end = *loss <= tolerance                        ? FUR_FIT_TOLERANCE
                   : !done && before - *loss >= 1e-9 * *loss ? FUR_FIT_STOPPED
                                                             : FUR_FIT_GRADIENT;
            return FUR_OK;
        }
        before = *loss;
        FUR_TRY(accumulate(z, p->d1 * fit_d2(p) + 1, p->d1 * fit_d2(p), p->dv, row_for_x));
        (void)back_solve(z, p->d1 * fit_d2(p) + 1, p->d1 * fit_d2(p), z->x);
    }
    return FUR_OK;
}

/* ---- measuring --------------------------------------------------------------------------------------------------- */

/* Half the weighted squares and the largest residual over rows first .. end-1, all of one kind. */
static void residual(linear *z, int64_t first, int64_t end, double *square, double *largest)
{
    const fit_problem *p = z->p;
    const fit_data *data = p->data;
    *square = *largest = 0;
    for (int64_t s = 0; s < data->sequences; s++) {
        int64_t key = data->keys[s];
        memset(z->m, 0, (size_t)(p->d2 * p->d3) * sizeof *z->m);
        for (int64_t row = data->queries[s]; row < fur_min_i64(data->queries[s + 1], end); row++) {
            int64_t last = p->causal ? data->keys[s] + row - data->queries[s] + 1 : data->keys[s + 1];
            for (; key < last; key++) {
                const fit_scratch *c = &p->scratch[0];
                const double *k = fit_rows(&p->k, key, 1, c->raw, c->k), *v = fit_rows(&p->v, key, 1, c->raw, c->v);
                for (int64_t i = 0; i < p->d2; i++)
                    for (int64_t j = 0; j < p->d3; j++)
                        z->m[i * p->d3 + j] += k[i] * v[j];
            }
            if (row < first)
                continue;
            row_for_y(z, row, 0, z->u);
            for (int64_t c = 0; c < p->dv; c++) {
                double o = -z->u[fit_d3(p) + c];
                for (int64_t j = 0; j < fit_d3(p); j++)
                    o += z->u[j] * z->y[j * p->dv + c];
                *square += 0.5 * o * o;
                *largest = fmax(*largest, fabs(o));
            }
        }
    }
}

/* ---- the whole --------------------------------------------------------------------------------------------------- */

static fur_status lay_out(fit_run *run, fur_arena *arena, linear *z)
{
    const fur_fit_settings *s = &run->settings;
    fit_shape shape = {.heads = s->heads, .held_out = s->held_out, .causal = s->causal, .cut = s->cut};
    FUR_TRY(fit_problem_make(&run->exec, arena, run->data, &shape, &run->p));
    const fit_problem *p = z->p = &run->p;
    z->run = run;
    z->symmetric = run->data->a2.shared && run->data->a3.shared && p->d2 == p->d3;
    z->pairs = z->symmetric ? p->d2 * (p->d2 + 1) / 2 : p->d2 * p->d3;
    z->features = p->d1 * z->pairs;
    if (run->data->a1.width * run->data->a2.width * run->data->a3.width > (int64_t)2 * MOST_FEATURES)
        return fur_error_set(
            p->exec->error, FUR_E_UNSUPPORTED,
            "linear attention in closed form has %lld features a row, the product of the three widths; "
            "expected at most %d",
            (long long)(run->data->a1.width * run->data->a2.width * run->data->a3.width), 2 * MOST_FEATURES);
    int64_t w = fur_max_i64(z->features + p->dv, fur_max_i64(p->d1 * fit_d2(p) + 1, fit_d3(p) + p->dv));
    z->m = fur_arena_push(arena, p->d2 * p->d3 * 8);
    z->r = fur_arena_push(arena, w * w * 8);
    z->stack = fur_arena_push(arena, stack_rows(w) * w * 8);
    z->work = fur_arena_push(arena, fur_la_qr_work(w) * 8);
    z->w = fur_arena_push(arena, z->features * p->dv * 8);
    z->tensor = fur_arena_push(arena, p->d1 * p->d2 * p->d3 * p->dv * 8);
    z->svd = fur_arena_push(arena, fit_svd_doubles(p->d1 * p->d2, p->d3 * p->dv) * 8);
    z->x = fur_arena_push(arena, p->d1 * fit_d2(p) * 8);
    z->y = fur_arena_push(arena, fit_d3(p) * p->dv * 8);
    z->u = fur_arena_push(arena, (fit_d3(p) + p->dv) * 8);
    run->svd = fur_arena_push(arena, fit_svd_doubles(run->data->a1.width, run->data->a2.width) * 8);
    run->given = fur_arena_push(arena, (s->heads + 1) * run->data->a1.width * run->data->a2.width * 8);
    return arena->failed ? fur_error_set(p->exec->error, FUR_E_INTERNAL, "the arena of a fit is too small") : FUR_OK;
}

static fur_status make_arenas(fit_run *run, linear *z)
{
    fur_arena arena = fur_arena_counting();
    fur_error *error = &run->context->error;
    int64_t widest = fur_max_i64(run->data->a1.width, fur_max_i64(run->data->a2.width, run->data->a3.width));
    FUR_TRY(lay_out(run, &arena, z));
    int64_t workspace = fit_whiten_bytes(widest) + FUR_ARENA_ALIGN;
    int64_t all = arena.peak + workspace + fur_context_process_bytes(run->context) + fit_data_bytes(run->data);
    run->result->planned_peak_bytes = all;
    if (run->settings.memory_bytes > 0 && all > run->settings.memory_bytes)
        return fur_error_set(error, FUR_E_DOES_NOT_FIT, "the fit needs %lld bytes (%.1f MiB), the limit is %lld",
                             (long long)all, (double)all / 1048576, (long long)run->settings.memory_bytes);
    FUR_TRY(fur_arena_create(error, arena.peak, &run->arena));
    FUR_TRY(fur_arena_create(error, workspace, &run->workspace));
    run->exec.workspace = &run->workspace;
    return lay_out(run, &run->arena, z);
}

fur_status fit_linear(fit_run *run)
{
    linear z = {0};
    fur_fit_result *r = run->result;
    double lower, loss;
    if (run->settings.rank > 0 || run->settings.ridge > 0 || run->settings.max_logit > 0)
        return fur_error_set(&run->context->error, FUR_E_UNSUPPORTED,
                             "linear attention in closed form has no rank, ridge or bound on logits");
    FUR_TRY(make_arenas(run, &z));
    fit_describe(run);
    r->linear = true;
    const fit_problem *p = z.p;
    r->equations = p->n * p->dv;
    r->unknowns = z.features * p->dv;
    if (p->n < z.features)
        return fur_error_set(&run->context->error, FUR_E_SHAPE,
                             "%lld rows for %lld features of linear attention: too few equations", (long long)p->n,
                             (long long)z.features);
    r->tolerance = run->settings.tolerance >= 0 ? run->settings.tolerance
                                                : fmax(1e-20, 16 * run->data->epsilon * run->data->epsilon);
    FUR_TRY(accumulate(&z, z.features + p->dv, z.features, 1, tensor_row));
    lower = back_solve(&z, z.features + p->dv, z.features, z.w);
    FUR_TRY(heads_of_tensor(&z));
    FUR_TRY(take_turns(&z, lower, &loss, &r->steps, &r->end));
    residual(&z, 0, p->n, &loss, &r->largest_error);
    r->loss = loss / p->l0;
    r->r2 = 1 - r->loss;
    r->lower_bound = lower / p->l0;
    r->held_out_loss = r->loss_before_rank = r->held_out_before_rank = r->held_out_plain = (double)NAN;
    r->captured = 1;
    if (p->held > 0 && p->l0_test > 0) {
        double largest;
        residual(&z, p->n, p->n + p->held, &loss, &largest);
        r->held_out_loss = loss / p->l0_test;
    }
    r->starts[0] = (fur_fit_start){.loss = r->loss, .steps = r->steps, .end = r->end, .kept = true};
    r->start_count = 1;
    r->spread = 1;
    return fit_answer(run, z.x, z.y, 0);
}
