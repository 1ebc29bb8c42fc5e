/* SPDX-License-Identifier: Apache-2.0 */
/* From the best X to the answer: singular values, a smaller rank, the polish that what is held out ends, measures. */
#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/size.h"
#include "fit/la.h"
#include "fit/run.h"
#include "io/file.h"

/* ---- singular values --------------------------------------------------------------------------------------------- */

int64_t fit_svd_doubles(int64_t d1, int64_t d2)
{
    int64_t m = fur_max_i64(d1, d2), n = fur_min_i64(d1, d2);
    return 2 * m * n + m * n + n * n + n + fur_la_svd_work(m, n);
}

fur_status fit_svd_of(fur_error *error, int64_t d1, int64_t d2, const double *x, int64_t ldx, double *space,
                      fit_svd *out)
{
    bool tall = d1 >= d2;
    int64_t m = fur_max_i64(d1, d2), n = fur_min_i64(d1, d2);
    double *a = space, *u = a + m * n, *vt = u + m * n, *s = vt + n * n, *v = s + n, *work = v + n * n;
    for (int64_t i = 0; i < d1; i++)
        for (int64_t j = 0; j < d2; j++)
            a[tall ? i * n + j : j * n + i] = x[i * ldx + j];
    if (!fur_la_svd(m, n, a, u, s, vt, work))
        return fur_error_set(error, FUR_E_NONFINITE, "the singular values of X did not converge");
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++)
            v[i * n + j] = vt[j * n + i];
    *out = tall ? (fit_svd){u, s, v} : (fit_svd){v, s, u};
    return FUR_OK;
}

/* ---- the answer -------------------------------------------------------------------------------------------------- */

static fur_status allocate(fit_run *run, int64_t rank, int64_t full)
{
    fur_fit_result *r = run->result;
    int64_t H = r->heads;
    r->rank = rank;
    r->x = fur_malloc((size_t)(H * r->d1 * r->d2) * 8);
    r->y = fur_malloc((size_t)(H * r->d3 * r->dv) * 8);
    r->q = fur_malloc((size_t)(H * r->d1 * rank) * 8);
    r->k = fur_malloc((size_t)(H * r->d2 * rank) * 8);
    r->spectrum_count = H * full;
    r->spectrum = fur_malloc((size_t)r->spectrum_count * 8);
    return r->x && r->y && r->q && r->k && r->spectrum
               ? FUR_OK
               : fur_memory_error(&run->context->error, H * r->d1 * r->d2 * 8, "the result of a fit");
}

/* X and its factors with as much of the scale in each: Q^T cov Q = K^T cov K. */
fur_status fit_answer(fit_run *run, const double *x, const double *y, int64_t rank)
{
    const fit_problem *p = &run->p;
    fur_fit_result *r = run->result;
    int64_t full = fur_min_i64(p->d1, p->d2);
    rank = rank > 0 ? fur_min_i64(rank, full) : full;
    FUR_TRY(allocate(run, rank, full));
    for (int64_t h = 0; h < p->heads; h++) {
        fit_svd svd;
        FUR_TRY(fit_svd_of(&run->context->error, p->d1, p->d2, x + h * p->d2, fit_d2(p), run->svd, &svd));
        memcpy(r->spectrum + h * full, svd.s, (size_t)full * sizeof *svd.s);
        for (int64_t c = 0; c < full; c++) {
            double root = sqrt(svd.s[c]);
            for (int64_t i = 0; i < p->d1; i++)
                svd.u[i * full + c] *= root;
            for (int64_t i = 0; i < p->d2; i++)
                svd.v[i * full + c] *= root;
        }
        fur_la_gemm_f64(false, false, r->d1, rank, p->d1, 1, p->a.map, p->d1, svd.u, full, 0, r->q + h * r->d1 * rank,
                        rank);
        fur_la_gemm_f64(false, false, r->d2, rank, p->d2, 1, p->k.map, p->d2, svd.v, full, 0, r->k + h * r->d2 * rank,
                        rank);
    }
    fit_x_given(p, x, r->x, run->given);
    fit_y_given(p, y, r->y);
    return FUR_OK;
}

/* ---- measures ---------------------------------------------------------------------------------------------------- */

fur_status fit_held_out(fit_run *run, const double *x, const double *y, double *loss)
{
    fit_measure measure;
    *loss = (double)NAN;
    if (run->p.held == 0)
        return FUR_OK;
    FUR_TRY(fit_measure_tiles(&run->p, &run->p.test, x, y, &measure));
    *loss = run->p.l0_test > 0 ? 0.5 * measure.square / run->p.l0_test : (double)NAN;
    return FUR_OK;
}

static fur_status measure(fit_run *run, const double *x, const double *y)
{
    fur_fit_result *r = run->result;
    fit_measure of_train;
    FUR_TRY(fit_measure_tiles(&run->p, &run->p.train, x, y, &of_train));
    r->loss = 0.5 * of_train.square / run->p.l0;
    r->r2 = 1 - r->loss;
    r->largest_error = of_train.largest;
    r->logit_max = of_train.logit_max;
    r->logit_rms = sqrt(of_train.logit_square / (double)fur_max_i64(1, of_train.pairs));
    return fit_held_out(run, x, y, &r->held_out_loss);
}

/* ---- a smaller rank ---------------------------------------------------------------------------------------------- */

/* What cutting the weights themselves would do: singular values of X in given coordinates, Y left as it is. */
static fur_status measure_plain(fit_run *run, int64_t rank)
{
    fit_problem *p = &run->p;
    int64_t r1 = run->data->a1.width, r2 = run->data->a2.width, full = fur_min_i64(r1, r2), X = r1 * r2;
    double *given = run->given, *work = given + p->heads * X;
    fit_x_given(p, run->s.x, given, work);
    for (int64_t h = 0; h < p->heads; h++) {
        fit_svd svd;
        double *x = given + h * X;
        FUR_TRY(fit_svd_of(&run->context->error, r1, r2, x, r2, run->svd, &svd));
        for (int64_t i = 0; i < r1; i++)
            for (int64_t j = 0; j < r2; j++) {
                x[i * r2 + j] = 0;
                for (int64_t c = 0; c < rank; c++)
                    x[i * r2 + j] += svd.u[i * full + c] * svd.s[c] * svd.v[j * full + c];
            }
    }
    fit_x_whitened(p, given, run->s.dx, work);
    return fit_held_out(run, run->s.dx, run->s.at.y, &run->result->held_out_plain);
}

typedef struct polish {
    fit_run *run;
    double *best; /* unknowns */
    double least;
    int64_t worse; /* steps since */
} polish;

/* Ends where two steps in turn made what is held out no better. */
static bool watch_polish(void *user, fit_solver *s, fur_status *status)
{
    polish *w = user;
    double loss;
    *status = fit_held_out(w->run, s->x, s->at.y, &loss);
    if (*status != FUR_OK)
        return true;
    if (loss < w->least) {
        w->least = loss;
        w->worse = 0;
        memcpy(w->best, s->z, (size_t)s->N * sizeof *w->best);
        return false;
    }
    return ++w->worse >= 2;
}

/* X cut to the rank in whitened coordinates, where a singular value is the mean square of logits; Y fitted again; then
 * Q and K together, as long as it helps rows that were not fitted (or for a few steps, where none are held out). */
static fur_status cut_rank(fit_run *run)
{
    enum { POLISH_STEPS = 20, BLIND_STEPS = 8 };
    fit_problem *p = &run->p;
    fit_solver *s = &run->s;
    fur_fit_result *r = run->result;
    int64_t rank = run->settings.rank, full = fur_min_i64(p->d1, p->d2);
    double kept = 0, all = 0;
    r->loss_before_rank = s->at.loss / p->l0;
    FUR_TRY(fit_held_out(run, s->x, s->at.y, &r->held_out_before_rank));
    FUR_TRY(measure_plain(run, fur_min_i64(rank, full)));
    fit_solver_rank(s, rank);
    for (int64_t h = 0; h < p->heads; h++) {
        fit_svd svd;
        FUR_TRY(fit_svd_of(&run->context->error, p->d1, p->d2, s->x + h * p->d2, fit_d2(p), run->svd, &svd));
        for (int64_t c = 0; c < full; c++) {
            all += svd.s[c] * svd.s[c];
            kept += c < rank ? svd.s[c] * svd.s[c] : 0;
        }
        for (int64_t c = 0; c < rank; c++) {
            double root = sqrt(svd.s[c]);
            for (int64_t i = 0; i < p->d1; i++)
                s->z[(h * p->d1 + i) * rank + c] = svd.u[i * full + c] * root;
            for (int64_t i = 0; i < p->d2; i++)
                s->z[(p->heads * p->d1 + h * p->d2 + i) * rank + c] = svd.v[i * full + c] * root;
        }
    }
    r->captured = all > 0 ? kept / all : 1;
    if (s->route == FUR_FIT_DENSE) { /* factors are solved for by conjugate gradients */
        s->route = FUR_FIT_MATRIX_FREE;
        s->c.route = FUR_FIT_MATRIX_FREE;
    }
    fit_outcome out;
    polish watch = {.run = run, .best = run->best, .least = (double)INFINITY};
    s->start = -1;
    FUR_TRY(fit_solve(s, p->held > 0 ? POLISH_STEPS : BLIND_STEPS, p->held > 0 ? watch_polish : NULL, &watch, &out));
    r->polish_steps = out.steps;
    if (out.end == FUR_FIT_STOPPED)
        r->end = out.end;
    if (p->held > 0)
        memcpy(s->z, run->best, (size_t)s->N * sizeof *s->z);
    fit_solver_x(s, s->z, s->x);
    return fit_evaluate(p, s->x, &s->at);
}

/* ---- the whole --------------------------------------------------------------------------------------------------- */

fur_status fit_finish(fit_run *run)
{
    fit_solver *s = &run->s;
    fur_fit_result *r = run->result;
    r->loss_before_rank = r->held_out_before_rank = r->held_out_plain = (double)NAN;
    r->captured = 1;
    memcpy(s->z, run->best, (size_t)s->N * sizeof *s->z);
    fit_solver_x(s, s->z, s->x);
    FUR_TRY(fit_evaluate(&run->p, s->x, &s->at));
    if (run->settings.rank > 0 && !run->settings.factored)
        FUR_TRY(cut_rank(run));
    memcpy(run->y, s->at.y, (size_t)(fit_d3(&run->p) * run->p.dv) * sizeof *run->y);
    FUR_TRY(measure(run, s->x, run->y));
    r->ridge = run->settings.ridge;
    r->products = s->products;
    r->rejected = s->rejected;
    r->evaluations = s->evaluations;
    memcpy(r->phase_seconds, s->seconds, sizeof r->phase_seconds);
    return fit_answer(run, s->x, run->y, run->settings.rank);
}
