/* SPDX-License-Identifier: Apache-2.0 */
#include "fit/lm.h"

#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "base/size.h"
#include "fit/la.h"

/* A step that brings the objective to this share of itself goes on: before that the curvature changes too much. */
#define MUCH 0.03

enum { MOST_PRODUCTS = 200, LATELY = 10, MOST_TRIES = 12, MOST_STAGES = 4 };

void fit_solver_rank(fit_solver *s, int64_t rank)
{
    const fit_problem *p = s->p;
    s->rank = rank;
    s->N = rank > 0 ? p->heads * (p->d1 + p->d2) * rank : p->d1 * fit_d2(p);
}

static bool is_dense(const fit_solver *s)
{
    return s->route == FUR_FIT_DENSE;
}

static bool counts_sketch(const fit_solver *s)
{
    return s->settings->method == FUR_FIT_SKETCHED_NEWTON && s->settings->sketch == FUR_FIT_COUNT_SKETCH;
}

fur_status fit_solver_push(fit_solver *s, fur_arena *arena, int points, bool keep_weights)
{
    const fit_problem *p = s->p;
    int64_t D2 = fit_d2(p), X = p->d1 * D2, r = s->settings->rank, N = X; /* and of Q and K, in the polish */
    fit_solver_rank(s, s->settings->factored ? r : 0);
    N = fur_max_i64(N, p->heads * (p->d1 + p->d2) * r);
    fit_point_push(p, arena, &s->at);
    s->other = s->base = (fit_point){0};
    if (points > 1)
        fit_point_push(p, arena, &s->other);
    if (points > 2)
        fit_point_push(p, arena, &s->base);
    double **unknowns[] = {&s->z, &s->tried, &s->g, &s->d, &s->r, &s->m, &s->s, &s->h};
    double **wholes[] = {&s->x, &s->dx, &s->gx};
    for (size_t i = 0; i < sizeof unknowns / sizeof unknowns[0]; i++)
        *unknowns[i] = fur_arena_push(arena, N * 8);
    for (size_t i = 0; i < sizeof wholes / sizeof wholes[0]; i++)
        *wholes[i] = fur_arena_push(arena, X * 8);
    s->path = is_dense(s) && r == 0 ? NULL : fur_arena_push(arena, FIT_PATH * N * 8);
    s->block = fur_arena_push(arena, D2 * D2 * 8);
    s->inverse = fur_arena_push(arena, D2 * D2 * 8);
    s->small = r > 0 ? fur_arena_push(arena, p->heads * 2 * r * r * 8) : NULL;
    s->S = is_dense(s) ? fur_arena_push(arena, X * X * 8) : NULL;
    s->L = is_dense(s) ? fur_arena_push(arena, X * X * 8) : NULL;
    s->scores = s->sample_rows > 0 ? fur_arena_push(arena, 3 * p->n * 8) : NULL;
    s->sketch = counts_sketch(s) ? fur_arena_push(arena, s->sample_rows * (p->dv * X + fit_d3(p)) * 8) : NULL;
    fit_curvature_shape shape = {.route = s->route,
                                 .f64 = is_dense(s) || s->settings->curvature_f64,
                                 .newton = s->settings->method == FUR_FIT_NEWTON,
                                 .keep_weights = keep_weights,
                                 .sample_rows = is_dense(s) ? 0 : s->sample_rows};
    return fit_curvature_push(p, arena, &shape, &s->c);
}

int64_t fit_solver_bytes(const fit_solver *s)
{
    const fit_problem *p = s->p;
    int64_t bytes = fur_max_i64(fit_loss_bytes(p), fit_curvature_bytes(p)), r = s->settings->rank;
    if (is_dense(s))
        bytes = fur_max_i64(bytes, counts_sketch(s) ? fit_count_sketch_bytes(s) : fit_dense_bytes(p));
    if (s->sample_rows > 0)
        bytes = fur_max_i64(bytes, fit_tall_qr_bytes(p->exec, s->sample_rows, fit_d3(p)) + fit_d3(p) * fit_d3(p) * 8 +
                                       FUR_ARENA_ALIGN);
    return fur_max_i64(bytes, (fit_d2(p) * r + r * r) * 16 + (int64_t)4 * FUR_ARENA_ALIGN);
}

/* ---- unknowns ---------------------------------------------------------------------------------------------------- */

static double dot(int64_t n, const double *x, const double *y)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += x[i] * y[i];
    return sum;
}

static const double *q_of(const fit_solver *s, const double *z, int64_t head)
{
    return z + head * s->p->d1 * s->rank;
}

static const double *k_of(const fit_solver *s, const double *z, int64_t head)
{
    return z + (s->p->heads * s->p->d1 + head * s->p->d2) * s->rank;
}

void fit_solver_x(const fit_solver *s, const double *z, double *x)
{
    const fit_problem *p = s->p;
    if (s->rank == 0) {
        memcpy(x, z, (size_t)s->N * sizeof *x);
        return;
    }
    for (int64_t h = 0; h < p->heads; h++)
        fur_la_gemm_f64(false, true, p->d1, p->d2, s->rank, 1, q_of(s, z, h), s->rank, k_of(s, z, h), s->rank, 0,
                        x + h * p->d2, fit_d2(p));
}

/* dX of a change dz of the unknowns: dQ K^T + Q dK^T */
static void push_forward(const fit_solver *s, const double *dz, double *dx)
{
    const fit_problem *p = s->p;
    int64_t r = s->rank, D2 = fit_d2(p);
    if (r == 0) {
        memcpy(dx, dz, (size_t)s->N * sizeof *dx);
        return;
    }
    for (int64_t h = 0; h < p->heads; h++) {
        fur_la_gemm_f64(false, true, p->d1, p->d2, r, 1, q_of(s, dz, h), r, k_of(s, s->z, h), r, 0, dx + h * p->d2, D2);
        fur_la_gemm_f64(false, true, p->d1, p->d2, r, 1, q_of(s, s->z, h), r, k_of(s, dz, h), r, 1, dx + h * p->d2, D2);
    }
}

/* Gradient by the unknowns of one by X. */
static void pull_back(const fit_solver *s, const double *gx, double *gz)
{
    const fit_problem *p = s->p;
    int64_t r = s->rank, D2 = fit_d2(p);
    if (r == 0) {
        memcpy(gz, gx, (size_t)s->N * sizeof *gz);
        return;
    }
    for (int64_t h = 0; h < p->heads; h++) {
        double *gq = gz + h * p->d1 * r, *gk = gz + (p->heads * p->d1 + h * p->d2) * r;
        fur_la_gemm_f64(false, false, p->d1, r, p->d2, 1, gx + h * p->d2, D2, k_of(s, s->z, h), r, 0, gq, r);
        fur_la_gemm_f64(true, false, p->d2, r, p->d1, 1, gx + h * p->d2, D2, q_of(s, s->z, h), r, 0, gk, r);
    }
}

static bool leads(const fit_solver *s, int64_t i)
{
    int64_t D2 = fit_d2(s->p);
    return i / D2 < s->lead1 && i % D2 % s->p->d2 < s->lead2;
}

/* Unknowns that may not change yet become 0. */
static void restrict_to_lead(const fit_solver *s, double *z)
{
    for (int64_t i = 0; i < s->N && s->lead1 > 0 && s->rank == 0; i++)
        if (!leads(s, i))
            z[i] = 0;
}

/* out = S d of the unknowns. */
static fur_status apply(fit_solver *s, const double *d, double *out)
{
    s->products++;
    push_forward(s, d, s->dx);
    FUR_TRY(fit_curvature_product(s->p, s->bent, &s->c, s->dx, s->gx));
    pull_back(s, s->gx, out);
    restrict_to_lead(s, out);
    return FUR_OK;
}

/* ---- preconditioner ---------------------------------------------------------------------------------------------- */

/* a [n, n] symmetric becomes (a + shift)^-1; the shift is raised until that has a Cholesky factor. */
static void invert(int64_t n, const double *a, double shift, double *inverse, double *work)
{
    double trace = 0;
    for (int64_t i = 0; i < n; i++)
        trace += a[i * n + i];
    shift = fmax(shift, 1e-12 * trace / (double)n + 1e-300);
    for (int tries = 0; tries < 60; tries++) {
        memcpy(work, a, (size_t)(n * n) * sizeof *work);
        for (int64_t i = 0; i < n; i++)
            work[i * n + i] += shift;
        if (fur_la_cholesky(n, work, n))
            break;
        shift *= 10;
    }
    memset(inverse, 0, (size_t)(n * n) * sizeof *inverse);
    for (int64_t i = 0; i < n; i++)
        inverse[i * n + i] = 1;
    fur_la_cholesky_solve(n, work, n, n, inverse, n);
}

/* Mean of the diagonal of S, which damping is a multiple of. */
static double mean_diagonal(fit_solver *s)
{
    const fit_problem *p = s->p;
    int64_t D2 = fit_d2(p), r = s->rank;
    double trace = 0;
    if (is_dense(s)) {
        for (int64_t i = 0; i < s->N; i++)
            trace += s->S[i * s->N + i];
        return trace / (double)s->N;
    }
    for (int64_t i = 0; i < D2 && r == 0; i++)
        trace += s->c.block[i * D2 + i];
    if (r == 0)
        return trace / (double)D2 + p->ridge;
    for (int64_t h = 0; h < p->heads; h++) {
        const double *q = q_of(s, s->z, h), *k = k_of(s, s->z, h), *b = s->c.block + h * p->d2 * (D2 + 1);
        double of_b = 0;
        for (int64_t i = 0; i < p->d2; i++) {
            of_b += b[i * D2 + i];
            for (int64_t j = 0; j < p->d2; j++)
                trace += b[i * D2 + j] * dot(r, k + i * r, k + j * r) * (double)p->d1;
        }
        trace += of_b * dot(p->d1 * r, q, q);
    }
    return trace / (double)s->N + p->ridge;
}

/* Full: (B + shift)^-1. Factored: of each head ((K^T B K) + shift)^-1, (Q^T Q)^-1 and (B + small)^-1. */
static fur_status make_preconditioner(fit_solver *s, double shift)
{
    const fit_problem *p = s->p;
    int64_t D2 = fit_d2(p), r = s->rank, size = p->d2;
    if (r == 0) {
        invert(D2, s->c.block, shift, s->inverse, s->block);
        return FUR_OK;
    }
    fur_arena *arena = p->exec->workspace;
    int64_t mark = fur_arena_mark(arena);
    double *bk = fur_arena_push(arena, size * r * 8), *kbk = fur_arena_push(arena, r * r * 8);
    double *work = fur_arena_push(arena, r * r * 8);
    if (arena->failed)
        return fur_error_set(p->exec->error, FUR_E_INTERNAL, "workspace of a preconditioner too small");
    for (int64_t h = 0; h < p->heads; h++) {
        const double *q = q_of(s, s->z, h), *k = k_of(s, s->z, h);
        double *inverses = s->small + h * 2 * r * r, *own = s->inverse + h * size * size, *copy = s->block;
        for (int64_t i = 0; i < size; i++)
            memcpy(copy + i * size, s->c.block + (h * size + i) * D2 + h * size, (size_t)size * sizeof *copy);
        fur_la_gemm_f64(false, false, size, r, size, 1, copy, size, k, r, 0, bk, r);
        fur_la_gemm_f64(true, false, r, r, size, 1, k, r, bk, r, 0, kbk, r);
        invert(r, kbk, shift, inverses, work);
        fur_la_gemm_f64(true, false, r, r, p->d1, 1, q, r, q, r, 0, kbk, r);
        invert(r, kbk, 1e-6 * kbk[0], inverses + r * r, work);
        memcpy(own, copy, (size_t)(size * size) * sizeof *own);
        invert(size, own, shift, own, copy);
    }
    fur_arena_release(arena, mark);
    return FUR_OK;
}

static void precondition(const fit_solver *s, const double *r, double *out)
{
    const fit_problem *p = s->p;
    int64_t D2 = fit_d2(p), k = s->rank;
    if (k == 0) {
        fur_la_gemm_f64(false, false, p->d1, D2, D2, 1, r, D2, s->inverse, D2, 0, out, D2);
        restrict_to_lead(s, out);
        return;
    }
    for (int64_t h = 0; h < p->heads; h++) {
        const double *inverses = s->small + h * 2 * k * k;
        int64_t at = (p->heads * p->d1 + h * p->d2) * k;
        fur_la_gemm_f64(false, false, p->d1, k, k, 1, r + h * p->d1 * k, k, inverses, k, 0, out + h * p->d1 * k, k);
        fur_la_gemm_f64(false, false, p->d2, k, k, 1, r + at, k, inverses + k * k, k, 0, s->gx, k);
        fur_la_gemm_f64(false, false, p->d2, k, p->d2, 1, s->inverse + h * p->d2 * p->d2, p->d2, s->gx, k, 0, out + at,
                        k);
    }
}

/* ---- one step ---------------------------------------------------------------------------------------------------- */

static bool stopped(const fit_solver *s)
{
    return atomic_load(&s->context->stop) != 0;
}

/* L of S + damping; false: the curvature is negative there, damp more. */
static bool factor_dense(fit_solver *s)
{
    int64_t N = s->N;
    memcpy(s->L, s->S, (size_t)(N * N) * sizeof *s->L);
    for (int64_t i = 0; i < N; i++)
        s->L[i * N + i] += s->damping;
    return fur_la_cholesky(N, s->L, N);
}

static void solve_dense(fit_solver *s, double *promised)
{
    int64_t N = s->N;
    for (int64_t i = 0; i < N; i++)
        s->d[i] = -s->g[i];
    fur_la_cholesky_solve(N, s->L, N, 1, s->d, 1);
    fur_la_gemv_f64(false, N, N, s->S, s->d, s->h);
    *promised = -dot(N, s->g, s->d) - 0.5 * dot(N, s->d, s->h);
}

static fur_status solve_gradients(fit_solver *s, double target, double *promised, bool *good)
{
    int64_t N = s->N;
    double damping = s->damping;
    FUR_TRY(make_preconditioner(s, damping + s->p->ridge));
    memset(s->d, 0, (size_t)N * sizeof *s->d);
    for (int64_t i = 0; i < N; i++)
        s->r[i] = -s->g[i];
    precondition(s, s->r, s->m);
    memcpy(s->s, s->m, (size_t)N * sizeof *s->s);
    double rm = dot(N, s->r, s->m), first = sqrt(dot(N, s->r, s->r));
    double total = 0, before[LATELY] = {0}; /* decrease of the quadratic model so far; of the last few products */
    s->path_count = 0;
    *good = true;
    for (int k = 0; k < MOST_PRODUCTS && !stopped(s); k++) {
        FUR_TRY(apply(s, s->s, s->h));
        double curve = dot(N, s->s, s->h) + damping * dot(N, s->s, s->s);
        if (!(curve > 0)) { /* Newton far from the solution, or rounding near it: what there is so far */
            *good = k > 0;
            break;
        }
        double step = rm / curve;
        for (int64_t i = 0; i < N; i++) {
            s->d[i] += step * s->s[i];
            s->r[i] -= step * (s->h[i] + damping * s->s[i]);
        }
        total += 0.5 * step * rm;
        /* the norm of the residual rises and falls where directions are badly scaled, the model only falls */
        if (!(sqrt(dot(N, s->r, s->r)) > target * first) ||
            (k >= LATELY && total - before[k % LATELY] < target * target * total))
            break;
        before[k % LATELY] = total;
        if (s->path_count < FIT_PATH && k + 1 == 8 << s->path_count) {
            memcpy(s->path + s->path_count * N, s->d, (size_t)N * sizeof *s->d);
            s->path_promised[s->path_count++] = total;
        }
        precondition(s, s->r, s->m);
        double next = dot(N, s->r, s->m);
        for (int64_t i = 0; i < N; i++)
            s->s[i] = s->m[i] + next / rm * s->s[i];
        rm = next;
    }
    /* r = -g - (S + damping) d, so d S d = -(g + r) d - damping d d */
    double gd = dot(N, s->g, s->d), rd = dot(N, s->r, s->d), dd = dot(N, s->d, s->d);
    *promised = -gd + 0.5 * (gd + rd + damping * dd);
    return FUR_OK;
}

static double phase(fit_solver *s, int which, double since)
{
    double now = fur_clock_seconds();
    s->seconds[which] += now - since;
    return now;
}

/* Step d from the gradient and the decrease it promises. `again`: the curvature and damping are those of the last one.
 */
static fur_status solve(fit_solver *s, double target, bool again, double *promised, bool *good)
{
    double clock = fur_clock_seconds();
    fur_status status = FUR_OK;
    *good = true;
    if (!is_dense(s))
        status = solve_gradients(s, target, promised, good);
    else if (again || (*good = factor_dense(s)))
        solve_dense(s, promised);
    (void)phase(s, FIT_PHASE_SOLVE, clock);
    return status;
}

static fur_status evaluate(fit_solver *s, const double *z, fit_point *point)
{
    double clock = fur_clock_seconds();
    s->evaluations++;
    fit_solver_x(s, z, s->x);
    fur_status status = fit_evaluate(s->p, s->x, point);
    (void)phase(s, FIT_PHASE_LOSS, clock);
    return status;
}

static fur_status prepare(fit_solver *s, int64_t step)
{
    double clock = fur_clock_seconds();
    if (s->sample_rows > 0 && !is_dense(s))
        FUR_TRY(fit_sample_draw(s, (uint64_t)step));
    FUR_TRY(fit_curvature_prepare(s->p, s->x, &s->at, &s->c));
    if (is_dense(s)) {
        if (counts_sketch(s))
            FUR_TRY(fit_count_sketch(s, (uint64_t)step));
        else
            FUR_TRY(fit_curvature_dense(s->p, &s->at, &s->c, s->S));
        for (int64_t i = 0; i < s->N; i++) {
            s->S[i * s->N + i] += s->p->ridge;
            for (int64_t j = 0; j < s->N && s->lead1 > 0; j++)
                if (i != j && !(leads(s, i) && leads(s, j)))
                    s->S[i * s->N + j] = 0;
        }
    }
    (void)phase(s, FIT_PHASE_CURVATURE, clock);
    return FUR_OK;
}

/* Tries the step; true where the objective falls. Without a second point, one that does not fall leaves `at` to be made
 * again. */
static fur_status try_step(fit_solver *s, double now, bool *taken, double *then)
{
    bool two = s->other.q != NULL;
    fit_point *point = two ? &s->other : &s->at;
    for (int64_t i = 0; i < s->N; i++)
        s->tried[i] = s->z[i] + s->d[i];
    FUR_TRY(evaluate(s, s->tried, point));
    *then = point->objective;
    *taken = *then < now;
    if (*taken) {
        double *z = s->z;
        s->z = s->tried;
        s->tried = z;
        if (two) {
            fit_point p = s->at;
            s->at = s->other;
            s->other = p;
        }
        return FUR_OK;
    }
    if (two) {
        fit_solver_x(s, s->z, s->x);
        return FUR_OK;
    }
    return evaluate(s, s->z, &s->at);
}

static void note(fit_solver *s, int64_t step, double gradient, double damping, double gain, int64_t products,
                 int64_t rejected, double before)
{
    if (step == 0 && s->first_step > 0) /* it was said as the last of those before */
        return;
    fur_fit_step one = {.start = s->start,
                        .step = s->first_step + step,
                        .loss = s->at.loss / s->p->l0,
                        .gradient = gradient,
                        .damping = damping,
                        .gain = gain,
                        .products = products,
                        .evaluations = s->evaluations,
                        .rejected = rejected,
                        .contraction = before > 0 ? sqrt(s->at.loss / before) : (double)NAN,
                        .seconds = fur_clock_seconds() - s->began};
    if (s->history)
        s->history[s->history_count++] = one;
    if (s->settings->on_step)
        s->settings->on_step(s->settings->user, &one);
}

/* ---- the loop ---------------------------------------------------------------------------------------------------- */

static double next_damping(double mu, double gain)
{
    mu *= gain > 0.75 ? 0.1 : gain > 0.4 ? 0.4 : gain < 0.2 ? 3 : 1;
    return fmax(mu, 1e-13);
}

/* How well the step is solved for: curvature in f32 is good to some 1e-6, conjugate gradients beyond that solve for its
 * rounding. */
static double target_of(const fit_solver *s)
{
    double least = s->settings->curvature_f64 ? 1e-9 : 1e-5;
    return fmax(least, fmin(0.1, sqrt(s->at.loss / s->p->l0)));
}

/* After a step that did not help: earlier iterates of its conjugate gradients, from the last. Each stands for some four
 * times the damping. */
static fur_status go_back(fit_solver *s, double *mu, double *promised, bool *taken, double *then)
{
    double now = s->at.objective;
    while (!is_dense(s) && !*taken && s->path_count > 0 && !stopped(s)) {
        s->path_count--;
        memcpy(s->d, s->path + s->path_count * s->N, (size_t)s->N * sizeof *s->d);
        *promised = s->path_promised[s->path_count];
        *mu = fmax(*mu * 4, 1e-8);
        FUR_TRY(try_step(s, now, taken, then));
    }
    return FUR_OK;
}

/* One step from a gradient: tries with more and more damping. *taken false: none helps. */
static fur_status step_once(fit_solver *s, double *mu, double *gain, int64_t *rejected, double *promised, bool *taken)
{
    double diagonal = mean_diagonal(s), now = s->at.objective;
    double target = target_of(s),
           raise = 4; /* twice as much after each step that did not help: far too little damping is soon made up for */
    *taken = false;
    for (int tries = 0; tries < MOST_TRIES && !*taken && !stopped(s); tries++) {
        bool good = false;
        double then = now;
        s->damping = *mu * diagonal;
        FUR_TRY(solve(s, target, false, promised, &good));
        if (good)
            FUR_TRY(try_step(s, now, taken, &then));
        if (good && !*taken) {
            FUR_TRY(go_back(s, mu, promised, taken, &then));
            *rejected += *taken;
        }
        if (*taken) {
            *gain = (now - then) / fmax(*promised, 1e-300);
            *mu = next_damping(*mu, *gain);
        } else {
            *mu = fmax(*mu * raise, 1e-8);
            ++*rejected;
        }
        raise *= 2;
    }
    return FUR_OK;
}

/* Why to end before another step; -1: go on. */
static int ended(const fit_solver *s, const fit_outcome *out, int64_t max_steps)
{
    const fur_fit_settings *t = s->settings;
    if (s->at.loss <= s->tolerance * s->p->l0)
        return FUR_FIT_TOLERANCE;
    /* where the target is met exactly the gradient falls like the root of the loss: that is no minimum yet */
    if (out->steps > 0 && out->gradient <= 1e-8 * out->first_gradient * sqrt(s->at.loss / s->p->l0))
        return FUR_FIT_GRADIENT;
    if (out->steps >= max_steps || (t->max_seconds > 0 && fur_clock_seconds() - s->began > t->max_seconds))
        return FUR_FIT_LIMIT;
    return -1;
}

static fur_status gradient(fit_solver *s, double *norm)
{
    double clock = fur_clock_seconds();
    FUR_TRY(fit_gradient(s->p, s->x, &s->at, s->gx));
    pull_back(s, s->gx, s->g);
    restrict_to_lead(s, s->g);
    *norm = sqrt(dot(s->N, s->g, s->g));
    (void)phase(s, FIT_PHASE_GRADIENT, clock);
    return isfinite(*norm) ? FUR_OK
                           : fur_error_set(s->p->exec->error, FUR_E_NONFINITE, "the gradient of the fit is not finite");
}

/* Further stages of a step that took the objective far down, with the curvature it began with, as long as each makes
 * the objective a quarter of what it was. */
static fur_status go_on(fit_solver *s, double target)
{
    fit_point free = s->base;
    s->base = s->other;
    s->other = free;
    s->bent = &s->base;
    for (int stage = 0; stage < MOST_STAGES && !stopped(s) && s->at.loss > s->tolerance * s->p->l0; stage++) {
        double norm, promised, now = s->at.objective, then = now;
        bool good, taken = false;
        FUR_TRY(gradient(s, &norm));
        FUR_TRY(solve(s, 0.3 * target, true, &promised, &good));
        if (good)
            FUR_TRY(try_step(s, now, &taken, &then));
        if (!taken || then > 0.25 * now)
            break;
    }
    return FUR_OK;
}

fur_status fit_solve(fit_solver *s, int64_t max_steps, fit_watch watch, void *user, fit_outcome *out)
{
    double mu = 1e-3, before = 0, gain = (double)NAN, promised = 0;
    int64_t products = 0, rejected = 0, small = 0;
    fur_status status = FUR_OK;
    *out = (fit_outcome){.end = FUR_FIT_LIMIT};
    FUR_TRY(evaluate(s, s->z, &s->at));
    if (!isfinite(s->at.objective))
        return fur_error_set(s->p->exec->error, FUR_E_NONFINITE, "the loss of the start is not finite");
    for (;;) {
        int end;
        FUR_TRY(gradient(s, &out->gradient));
        if (out->steps == 0)
            out->first_gradient = out->gradient;
        note(s, out->steps, out->gradient, mu, gain, products, rejected, before);
        end = ended(s, out, max_steps);
        if (end < 0 && stopped(s))
            end = FUR_FIT_STOPPED;
        if (end < 0 && small >= 3)
            end = FUR_FIT_GRADIENT;
        if (end < 0 && watch && watch(user, s, &status))
            end = FUR_FIT_GRADIENT;
        FUR_TRY(status);
        if (end >= 0) {
            out->end = (fur_fit_end)end;
            break;
        }
        bool taken;
        double objective = s->at.objective;
        int64_t before_products = s->products;
        before = s->at.loss;
        rejected = 0;
        double target = target_of(s);
        s->bent = &s->at;
        FUR_TRY(prepare(s, out->steps));
        FUR_TRY(step_once(s, &mu, &gain, &rejected, &promised, &taken));
        if (taken && s->base.q && !watch && s->at.objective < MUCH * objective &&
            s->settings->method == FUR_FIT_GAUSS_NEWTON)
            FUR_TRY(go_on(s, target));
        products = s->products - before_products;
        s->rejected += rejected;
        if (!taken && stopped(s)) {
            out->end = FUR_FIT_STOPPED;
            break;
        }
        if (!taken) { /* a step that promised no more than rounding was at the minimum */
            out->end = promised < 1e-10 * objective ? FUR_FIT_GRADIENT : FUR_FIT_STALLED;
            break;
        }
        out->steps++;
        if (s->enough > 0 && objective - s->at.objective < s->enough * objective) {
            out->end = FUR_FIT_LIMIT;
            break;
        }
        small = objective - s->at.objective < 1e-10 * objective ? small + 1 : 0;
    }
    out->loss = s->at.loss / s->p->l0;
    return FUR_OK;
}
