/* SPDX-License-Identifier: Apache-2.0 */
/* A fit from its settings to the best of its starts: checks, plan, arenas, starts, ridge. */
#include "fit/run.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/random.h"
#include "base/size.h"
#include "io/file.h"

void fur_fit_settings_defaults(fur_fit_settings *s)
{
    memset(s, 0, sizeof *s);
    s->struct_size = sizeof *s;
    s->heads = 1;
    s->held_out = 0.1;
    s->tolerance = -1;
    s->max_steps = 60;
    s->starts = 4;
    s->seed = 1;
}

const char *fur_fit_end_name(fur_fit_end end)
{
    static const char *const names[] = {"tolerance", "minimum", "stalled", "limit", "stopped"};
    return names[end];
}

void fur_fit_result_clear(fur_fit_result *result)
{
    fur_free(result->x);
    fur_free(result->y);
    fur_free(result->q);
    fur_free(result->k);
    fur_free(result->spectrum);
    fur_free(result->history);
    memset(result, 0, sizeof *result);
}

/* ---- checks ------------------------------------------------------------------------------------------------------ */

static fur_status bad(const fit_run *run, const char *what, double got, const char *expected)
{
    return fur_error_set(&run->context->error, FUR_E_ARGUMENT, "%s %g, expected %s", what, got, expected);
}

static fur_status check_settings(const fit_run *run)
{
    const fur_fit_settings *s = &run->settings;
    fur_error *error = &run->context->error;
    int64_t most = fur_min_i64(run->data->a1.width, run->data->a2.width);
    if (s->struct_size != sizeof *s)
        return fur_error_set(error, FUR_E_ARGUMENT, "fur_fit_settings has %zu bytes, this library expects %zu",
                             s->struct_size, sizeof *s);
    if (s->heads < 1 || s->heads > 256)
        return bad(run, "heads", (double)s->heads, "1 to 256");
    if (!(s->held_out >= 0 && s->held_out <= 0.9))
        return bad(run, "held-out share", s->held_out, "0 to 0.9");
    if (!(s->tolerance < 1))
        return bad(run, "tolerance", s->tolerance, "below 1");
    if (s->max_steps < 0 || s->max_steps > 100000)
        return bad(run, "steps", (double)s->max_steps, "0 to 100000");
    if (s->starts < 1 || s->starts > FUR_FIT_MAX_STARTS)
        return bad(run, "starts", (double)s->starts, "1 to 32");
    if (!(s->ridge >= 0 && s->ridge < 1e6))
        return bad(run, "ridge", s->ridge, "0 or more");
    if (!(s->max_logit >= 0))
        return bad(run, "largest logit", s->max_logit, "0 or more");
    if (s->rank < 0 || s->rank > most)
        return fur_error_set(error, FUR_E_ARGUMENT, "rank %lld, expected at most the width of the inputs, %lld",
                             (long long)s->rank, (long long)most);
    if (s->factored && s->rank == 0)
        return fur_error_set(error, FUR_E_ARGUMENT, "factored unknowns want a rank");
    if (s->method == FUR_FIT_NEWTON && s->heads > 1)
        return fur_error_set(error, FUR_E_UNSUPPORTED, "Newton's second-order term is of one head: use gauss-newton");
    if (s->method == FUR_FIT_NEWTON && s->route != FUR_FIT_AUTO && s->route != FUR_FIT_MATRIX_FREE)
        return fur_error_set(error, FUR_E_UNSUPPORTED, "Newton's second-order term is matrix-free alone");
    if (s->curvature_rows < 0 || (s->curvature_rows > 0 && s->method == FUR_FIT_NEWTON))
        return fur_error_set(error, FUR_E_UNSUPPORTED,
                             "curvature of a sample of rows is of gauss-newton and sketched-newton");
    return FUR_OK;
}

/* Rows and unknowns, once the cut is known. */
static fur_status check_counts(fit_run *run)
{
    const fit_problem *p = &run->p;
    const fur_fit_settings *s = &run->settings;
    fur_fit_result *r = run->result;
    int64_t x = s->factored ? (p->d1 + p->d2) * s->rank : p->d1 * p->d2;
    r->equations = p->n * p->dv;
    r->unknowns = p->heads * (x + p->d3 * p->dv);
    if (p->n < fit_d3(p))
        return fur_error_set(&run->context->error, FUR_E_SHAPE,
                             "%lld rows to fit for %lld values a row: too few equations", (long long)p->n,
                             (long long)fit_d3(p));
    if (r->equations < r->unknowns && !(s->ridge > 0))
        return fur_error_set(&run->context->error, FUR_E_SHAPE,
                             "%lld equations for %lld unknowns: too few; give more rows, or a ridge (--ridge)",
                             (long long)r->equations, (long long)r->unknowns);
    if (s->rank > fur_min_i64(p->d1, p->d2))
        return fur_error_set(&run->context->error, FUR_E_ARGUMENT,
                             "rank %lld, but the inputs have rank %lld once directions below the cut are left out",
                             (long long)s->rank, (long long)fur_min_i64(p->d1, p->d2));
    return FUR_OK;
}

/* ---- plan -------------------------------------------------------------------------------------------------------- */

typedef struct layout {
    fur_fit_route route;
    int points;
    bool stored_rows; /* whitened ones, and softmax weights */
    int64_t bytes;    /* arena and workspace */
} layout;

/* The arena's content; counting or real. */
static fur_status lay_out(fit_run *run, fur_arena *arena, const layout *plan)
{
    const fur_fit_settings *s = &run->settings;
    fit_shape shape = {.heads = s->heads,
                       .held_out = s->held_out,
                       .causal = s->causal,
                       .tile_rows = s->tile_rows,
                       .tile_keys = s->tile_keys,
                       .cut = s->cut,
                       .store_whitened = plan->stored_rows,
                       .centre = true};
    double clock = fur_clock_seconds();
    FUR_TRY(fit_problem_make(&run->exec, arena, run->data, &shape, &run->p));
    run->s.seconds[FIT_PHASE_WHITEN] += fur_clock_seconds() - clock;
    run->s.p = &run->p;
    run->s.context = run->context;
    run->s.settings = &run->settings;
    run->s.route = plan->route;
    run->s.sample_rows = s->curvature_rows;
    if (s->curvature_rows > run->p.n)
        run->s.sample_rows = run->p.n;
    FUR_TRY(fit_solver_push(&run->s, arena, plan->points, plan->stored_rows));
    int64_t X = run->data->a1.width * run->data->a2.width, D2 = fit_d2(&run->p);
    run->best =
        fur_arena_push(arena, fur_max_i64(run->p.d1 * D2, run->p.heads * (run->p.d1 + run->p.d2) * s->rank) * 8);
    run->y = fur_arena_push(arena, fit_d3(&run->p) * run->p.dv * 8);
    run->svd = fur_arena_push(arena, fit_svd_doubles(run->data->a1.width, run->data->a2.width) * 8);
    run->given = fur_arena_push(arena, (s->heads + 1) * X * 8);
    return arena->failed ? fur_error_set(&run->context->error, FUR_E_INTERNAL, "the arena of a fit is too small")
                         : FUR_OK;
}

static int64_t workspace_bytes(const fit_run *run)
{
    int64_t widest = fur_max_i64(run->data->a1.width, fur_max_i64(run->data->a2.width, run->data->a3.width));
    return fur_max_i64(fit_solver_bytes(&run->s), fit_whiten_bytes(widest)) + (int64_t)4 * FUR_ARENA_ALIGN;
}

static fur_status count(fit_run *run, layout *plan)
{
    fur_arena arena = fur_arena_counting();
    FUR_TRY(lay_out(run, &arena, plan));
    plan->bytes = arena.peak + workspace_bytes(run);
    return FUR_OK;
}

/* Multiply-adds of a step, as measured: one in f32 of a good matrix product is the unit, f64 is 2, a byte read 3. A
 * step takes about 40 products far from and near the solution together. */
static double cost_of(const fit_run *run, fur_fit_route route)
{
    const fit_problem *p = &run->p;
    double pairs = (double)p->pairs * (double)p->heads, n = (double)p->n, D2 = (double)fit_d2(p);
    double d2 = (double)p->d2, dv = (double)p->dv, N = (double)p->d1 * D2;
    double f64 = run->settings.curvature_f64 ? 2 : 1;
    switch (route) {
    case FUR_FIT_DENSE:
        return 2 * (pairs * d2 * dv + n * (N * N / 4 + (double)(p->d1 * fit_d3(p)) * D2 * dv) +
                    N * N * ((double)fit_d3(p) * dv / 2 + N / 3));
    case FUR_FIT_STORED: return f64 * (pairs * d2 * dv + 40 * 2 * n * D2 * dv * 4 * 3);
    default: return f64 * 40 * pairs * (fit_kept_weights(p) > 0 ? 2 * d2 + 2 * dv : 4 * d2 + 2 * dv);
    }
}

static bool may_take(const fit_run *run, fur_fit_route route)
{
    const fur_fit_settings *s = &run->settings;
    bool sketch = s->method == FUR_FIT_SKETCHED_NEWTON && s->sketch == FUR_FIT_COUNT_SKETCH;
    if (s->route != FUR_FIT_AUTO && s->route != route)
        return false;
    if (route == FUR_FIT_DENSE)
        return !s->factored && s->method != FUR_FIT_NEWTON && (sketch || s->curvature_rows == 0) &&
               (s->route == route || sketch || run->data->a1.width * run->data->a2.width * s->heads <= 1024);
    if (route == FUR_FIT_STORED)
        return s->method != FUR_FIT_NEWTON && !sketch;
    return s->curvature_rows == 0; /* a sample is stored */
}

static int64_t room(const fit_run *run)
{
    int64_t limit = run->settings.memory_bytes;
    return limit > 0 ? limit - fur_context_process_bytes(run->context) - fit_data_bytes(run->data) : INT64_MAX;
}

/* The cheapest route that fits, with all the rest where there is room for it. */
static fur_status choose(fit_run *run, layout *best)
{
    static const fur_fit_route routes[] = {FUR_FIT_DENSE, FUR_FIT_STORED, FUR_FIT_MATRIX_FREE};
    fur_error *error = &run->context->error;
    double least = (double)INFINITY;
    int64_t smallest = INT64_MAX;
    bool any = false;
    *best = (layout){.bytes = -1};
    for (int i = 0; i < 3; i++) {
        if (!may_take(run, routes[i]))
            continue;
        any = true;
        for (int lean = 0; lean < 4; lean++) { /* all; rows whitened when needed; two points; one */
            layout plan = {.route = routes[i], .points = lean < 2 ? 3 : 4 - lean, .stored_rows = lean < 1};
            FUR_TRY(count(run, &plan));
            smallest = fur_min_i64(smallest, plan.bytes);
            if (plan.bytes > room(run))
                continue;
            if (cost_of(run, routes[i]) < least) {
                least = cost_of(run, routes[i]);
                *best = plan;
            }
            break;
        }
    }
    if (!any)
        return fur_error_set(
            error, FUR_E_UNSUPPORTED, "this method has no such route: dense is for %s",
            "gauss-newton of X, stored for all but newton and count-sketch, matrix-free without a sample");
    if (best->bytes >= 0)
        return FUR_OK;
    int64_t all = smallest + fur_context_process_bytes(run->context) + fit_data_bytes(run->data);
    return fur_error_set(error, FUR_E_DOES_NOT_FIT,
                         "the fit needs %lld bytes (%.1f MiB), of them %lld for the data, the limit is %lld (%.1f MiB)",
                         (long long)all, (double)all / 1048576, (long long)fit_data_bytes(run->data),
                         (long long)run->settings.memory_bytes, (double)run->settings.memory_bytes / 1048576);
}

#define START_RMS 0.3 /* of a head's logits */

/* ---- starts ------------------------------------------------------------------------------------------------------ */

static double drawn(const fit_run *run, int64_t start, int64_t i)
{
    float pair[2];
    fur_random_normal(fur_random_u64(run->settings.seed, 11 + (uint64_t)start, (uint64_t)i), 12, 1, pair, 2);
    return (double)pair[0];
}

static bool goes_coarse_to_fine(int64_t start)
{
    return start % 2 == 1;
}

/* Random in whitened coordinates; for a start from coarse to fine in given ones (turned to those of the singular
 * vectors, where they are as random), so that directions in which the inputs hardly vary begin with little in them.
 * Never 0, where all rows of Phi would be the same. */
static void draw_start(fit_run *run, int64_t start)
{
    const fit_problem *p = &run->p;
    fit_solver *s = &run->s;
    int64_t r = s->rank, D2 = fit_d2(p), split = p->heads * p->d1 * r;
    bool coarse = goes_coarse_to_fine(start);
    double square = 0, *x = s->x;
    for (int64_t i = 0; i < s->N; i++) {
        bool query = r == 0 || i < split;
        int64_t row = r == 0 ? i / D2 : query ? i / r % p->d1 : (i - split) / r % p->d2;
        s->z[i] = drawn(run, start, i);
        if (coarse)
            s->z[i] *= query ? p->a.values[row] : p->k.values[row];
        if (coarse && r == 0)
            s->z[i] *= p->k.values[i % D2 % p->d2];
    }
    fit_solver_x(s, s->z, x);
    for (int64_t i = 0; i < p->d1 * D2; i++)
        square += x[i] * x[i] / (double)p->heads;
    double scale = START_RMS / sqrt(square);
    for (int64_t i = 0; i < s->N; i++)
        s->z[i] *= r == 0 ? scale : sqrt(scale);
}

/* The start of the file; for factors its best ones of that rank. */
static fur_status take_start(fit_run *run)
{
    const fit_problem *p = &run->p;
    fit_solver *s = &run->s;
    if (run->data->start_heads != p->heads)
        return fur_error_set(&run->context->error, FUR_E_SHAPE, "the start in the file has %lld heads, asked for %lld",
                             (long long)run->data->start_heads, (long long)p->heads);
    fit_x_whitened(p, run->data->x, s->rank > 0 ? s->x : s->z, run->given);
    for (int64_t h = 0; h < p->heads && s->rank > 0; h++) {
        fit_svd svd;
        FUR_TRY(fit_svd_of(&run->context->error, p->d1, p->d2, s->x + h * p->d2, fit_d2(p), run->svd, &svd));
        int64_t full = fur_min_i64(p->d1, p->d2), r = s->rank;
        for (int64_t c = 0; c < r; c++) {
            for (int64_t i = 0; i < p->d1; i++)
                s->z[(h * p->d1 + i) * r + c] = svd.u[i * full + c] * sqrt(svd.s[c]);
            for (int64_t i = 0; i < p->d2; i++)
                s->z[(p->heads * p->d1 + h * p->d2 + i) * r + c] = svd.v[i * full + c] * sqrt(svd.s[c]);
        }
    }
    return FUR_OK;
}

/* A few steps towards the end of a start, out of those it may take. */
static fur_status approach(fit_run *run, int64_t steps, double enough, fit_outcome *out)
{
    fit_solver *s = &run->s;
    double tolerance = s->tolerance;
    steps = fur_min_i64(steps, run->settings.max_steps - s->first_step);
    if (steps == 0)
        return FUR_OK;
    s->tolerance = 0;
    s->enough = enough;
    fur_status status = fit_solve(s, steps, NULL, NULL, out);
    s->tolerance = tolerance;
    s->enough = 0;
    s->first_step += out->steps;
    return status;
}

static int64_t directions_above(const fit_side *side, double share)
{
    int64_t count = 0;
    while (count < side->width && side->values[count] >= share * side->values[0])
        count++;
    return count;
}

/* From coarse to fine: X first in the directions in which the inputs vary most, then in more of them. With activations
 * of a trained model, a head of width 32 in a width of 128, a start in all directions at once ends in minima that fit
 * the rows at hand with directions that others see differently. */
static fur_status coarse_to_fine(fit_run *run, fit_outcome *out)
{
    static const double shares[] = {0.1, 0.03, 0.01};
    fit_solver *s = &run->s;
    const fit_problem *p = &run->p;
    int64_t before = 0;
    for (size_t i = 0; i < sizeof shares / sizeof shares[0] && s->rank == 0; i++) {
        s->lead1 = directions_above(&p->a, shares[i]);
        s->lead2 = directions_above(&p->k, shares[i]);
        if (s->lead1 * s->lead2 == p->d1 * p->d2)
            break; /* that is all of them */
        if (s->lead1 * s->lead2 > before) {
            for (int64_t e = 0; e < s->N && i == 0; e++)
                if (e / fit_d2(p) >= s->lead1 || e % fit_d2(p) % p->d2 >= s->lead2)
                    s->z[e] = 0;
            FUR_TRY(approach(run, 12, 0.03, out));
        }
        before = s->lead1 * s->lead2;
        if (out->end == FUR_FIT_STOPPED)
            break;
    }
    s->lead1 = s->lead2 = 0;
    return FUR_OK;
}

/* With continuation, first a few steps at each of some larger ridges. Every second random start goes from coarse to
 * fine: planted inputs of spectrum 1/i are those where that ends in a minimum of its own. */
static fur_status solve_start(fit_run *run, bool given, fit_outcome *out)
{
    double asked = run->settings.ridge * run->p.l0, ridge = 0.1;
    run->s.first_step = 0;
    while (run->settings.continuation && ridge > fmax(run->settings.ridge, 5e-5) && out->end != FUR_FIT_STOPPED) {
        run->p.ridge = ridge * run->p.l0;
        FUR_TRY(approach(run, 6, 0, out));
        ridge *= 0.1;
    }
    run->p.ridge = asked;
    if (!given && goes_coarse_to_fine(run->s.start))
        FUR_TRY(coarse_to_fine(run, out));
    FUR_TRY(fit_solve(&run->s, run->settings.max_steps - run->s.first_step, NULL, NULL, out));
    out->steps += run->s.first_step;
    run->s.first_step = 0;
    return FUR_OK;
}

static fur_status run_starts(fit_run *run)
{
    fit_solver *s = &run->s;
    fur_fit_result *r = run->result;
    bool given = run->data->x != NULL;
    int64_t starts = given ? 1 : run->settings.starts, kept = -1, held = 0;
    fur_fit_step *histories[2];
    double least = (double)INFINITY, worst = 0;
    for (int i = 0; i < 2; i++)
        histories[i] = fur_calloc((size_t)run->settings.max_steps + 2, sizeof *histories[i]);
    fur_status status = histories[0] && histories[1]
                            ? FUR_OK
                            : fur_memory_error(&run->context->error, run->settings.max_steps, "the history of a fit");
    for (int64_t i = 0; i < starts && status == FUR_OK; i++) {
        fit_outcome out = {.end = FUR_FIT_LIMIT};
        s->start = i;
        s->history = histories[1 - held];
        s->history_count = 0;
        if (given)
            status = take_start(run);
        else
            draw_start(run, i);
        if (status == FUR_OK)
            status = solve_start(run, given, &out);
        if (status != FUR_OK)
            break;
        r->starts[r->start_count++] =
            (fur_fit_start){.loss = out.loss, .steps = out.steps, .end = out.end, .given = given};
        worst = fmax(worst, out.loss);
        if (kept < 0 || s->at.objective < least) {
            kept = i;
            least = s->at.objective;
            held = 1 - held;
            r->history_count = s->history_count;
            r->end = out.end;
            r->steps = out.steps;
            r->gradient = out.gradient;
            r->first_gradient = out.first_gradient;
            memcpy(run->best, s->z, (size_t)s->N * sizeof *run->best);
        }
        if (out.end == FUR_FIT_TOLERANCE || out.end == FUR_FIT_STOPPED ||
            (run->settings.max_seconds > 0 && fur_clock_seconds() - run->began > run->settings.max_seconds))
            break;
    }
    if (status == FUR_OK) {
        r->starts[kept].kept = true;
        r->spread = r->starts[kept].loss > 0 ? worst / r->starts[kept].loss : 1;
        r->history = histories[held];
        histories[held] = NULL;
    }
    s->history = NULL;
    fur_free(histories[0]);
    fur_free(histories[1]);
    return status;
}

/* ---- the bound on logits ----------------------------------------------------------------------------------------- */

static fur_status largest_logit(fit_run *run, double *out)
{
    fit_measure measure;
    fit_solver_x(&run->s, run->s.z, run->s.x);
    FUR_TRY(fit_measure_tiles(&run->p, &run->p.train, run->s.x, run->s.at.y, &measure));
    *out = measure.logit_max;
    return FUR_OK;
}

static fur_status solve_with_ridge(fit_run *run, double ridge, double *logit)
{
    fit_outcome out;
    run->p.ridge = ridge * run->p.l0;
    run->s.tolerance = 0;
    memcpy(run->s.z, run->best, (size_t)run->s.N * sizeof *run->best);
    FUR_TRY(fit_solve(&run->s, 12, NULL, NULL, &out));
    run->result->steps += out.steps;
    run->result->gradient = out.gradient;
    return largest_logit(run, logit);
}

/* The least ridge, to a few per cent, under which no logit is larger than asked. */
static fur_status bound_logits(fit_run *run)
{
    enum { RISES = 24, HALVINGS = 6 };
    double most = run->settings.max_logit, logit, low = run->settings.ridge, high;
    memcpy(run->s.z, run->best, (size_t)run->s.N * sizeof *run->best);
    FUR_TRY(fit_evaluate(&run->p, (fit_solver_x(&run->s, run->s.z, run->s.x), run->s.x), &run->s.at));
    FUR_TRY(largest_logit(run, &logit));
    if (logit <= most)
        return FUR_OK;
    high = fmax(2 * low, 1e-6);
    for (int i = 0;; i++) {
        FUR_TRY(solve_with_ridge(run, high, &logit));
        memcpy(run->best, run->s.z, (size_t)run->s.N * sizeof *run->best); /* the next begins there */
        if (logit <= most)
            break;
        if (i == RISES)
            return fur_error_set(&run->context->error, FUR_E_ARGUMENT,
                                 "no ridge brings the largest logit, %.3g, down to %.3g", logit, most);
        low = high;
        high *= 4;
    }
    for (int i = 0; i < HALVINGS && high > 1.02 * low && low > 0; i++) {
        double middle = sqrt(low * high);
        FUR_TRY(solve_with_ridge(run, middle, &logit));
        if (logit <= most) {
            high = middle;
            memcpy(run->best, run->s.z, (size_t)run->s.N * sizeof *run->best);
        } else {
            low = middle;
        }
    }
    run->settings.ridge = high;
    run->p.ridge = high * run->p.l0;
    run->result->end = FUR_FIT_GRADIENT;
    return FUR_OK;
}

/* ---- the whole --------------------------------------------------------------------------------------------------- */

void fit_describe(fit_run *run)
{
    fur_fit_result *r = run->result;
    const fit_problem *p = &run->p;
    const fit_data *data = run->data;
    r->heads = p->heads;
    r->d1 = data->a1.width;
    r->d2 = data->a2.width;
    r->d3 = data->a3.width;
    r->dv = data->b.width;
    r->target_loss = p->l0;
    r->rows = p->n;
    r->held_out_rows = p->held;
    r->sequences = data->sequences;
    r->pairs = p->pairs;
    r->kept1 = p->d1;
    r->kept2 = p->d2;
    r->kept3 = p->d3;
    r->cut = run->settings.cut > 0 ? run->settings.cut : fmax(1e-9, 16 * data->epsilon);
    r->condition1 = p->a.values[0] / p->a.values[p->d1 - 1];
    r->condition2 = p->k.values[0] / p->k.values[p->d2 - 1];
    r->input_bytes = fit_data_bytes(data);
    for (int64_t s = 0; s < data->sequences; s++)
        r->held_out_sequences = r->held_out_sequences || (p->held > 0 && data->queries[s] == p->n);
    r->not_identified = data->sequences == 1 && !p->causal;
    (void)snprintf(r->mask, sizeof r->mask, "%s", p->causal ? "causal" : "none");
    (void)snprintf(r->type, sizeof r->type, "%s", data->stored_type);
}

static fur_status solve_all(fit_run *run)
{
    layout plan;
    if (run->settings.method == FUR_FIT_SKETCHED_NEWTON && run->settings.curvature_rows == 0)
        run->settings.curvature_rows = fur_max_i64(
            4 * fur_max_i64(run->data->a1.width, run->data->a3.width * run->settings.heads), run->data->a1.rows / 8);
    FUR_TRY(choose(run, &plan));
    FUR_TRY(count(run, &plan));
    int64_t workspace = workspace_bytes(run), arena = plan.bytes - workspace;
    run->result->planned_peak_bytes = plan.bytes + fur_context_process_bytes(run->context) + fit_data_bytes(run->data);
    run->result->route = plan.route;
    FUR_TRY(fur_arena_create(&run->context->error, arena, &run->arena));
    FUR_TRY(fur_arena_create(&run->context->error, workspace, &run->workspace));
    run->exec.workspace = &run->workspace;
    memset(run->s.seconds, 0, sizeof run->s.seconds);
    FUR_TRY(lay_out(run, &run->arena, &plan));
    fit_describe(run);
    FUR_TRY(check_counts(run));
    run->s.began = run->began;
    run->s.tolerance = run->settings.tolerance >= 0 ? run->settings.tolerance
                                                    : fmax(1e-24, 16 * run->data->epsilon * run->data->epsilon);
    run->result->tolerance = run->s.tolerance;
    run->p.ridge = run->settings.ridge * run->p.l0;
    FUR_TRY(run_starts(run));
    if (run->settings.max_logit > 0 && run->result->end != FUR_FIT_STOPPED)
        FUR_TRY(bound_logits(run));
    return fit_finish(run);
}

fur_status fur_fit_run(fur_context *context, const fur_fit_data *data, const fur_fit_settings *settings,
                       fur_fit_result *result)
{
    memset(result, 0, sizeof *result);
    fit_run run = {.context = context, .data = data, .settings = *settings, .result = result, .exec = context->exec};
    run.began = fur_clock_seconds();
    fur_status status = check_settings(&run);
    if (status == FUR_OK)
        status = settings->method == FUR_FIT_LINEAR ? fit_linear(&run) : solve_all(&run);
    result->seconds = fur_clock_seconds() - run.began;
    result->peak_rss_bytes = fur_process_peak_rss_bytes();
    fur_arena_destroy(&run.arena);
    fur_arena_destroy(&run.workspace);
    if (status != FUR_OK)
        fur_fit_result_clear(result);
    return status;
}
