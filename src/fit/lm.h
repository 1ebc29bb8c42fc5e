/* SPDX-License-Identifier: Apache-2.0 */
/* Levenberg-Marquardt on X, or on Q and K with X_h = Q_h K_h^T, with Y eliminated.
 *
 * (S + mu tr(S) / N) D = -g by Cholesky of the dense S or by conjugate gradients, preconditioned with 1 (x) sum of G
 * G^T (the rows of A1 are white), to min(0.1, sqrt(loss)) of |g|: superlinear. A step is taken where the objective
 * falls; where it does not, earlier iterates of the conjugate gradients are tried first, which are as if there were
 * more damping and cost an evaluation each. It then goes on with the gradient where it has come to and the curvature
 * that is there already, as long as that pays: each such stage adds an order of convergence for an evaluation and a
 * solve (Fan, Math. Comp. 81, 2012). */
#ifndef FUR_FIT_LM_H
#define FUR_FIT_LM_H

#include "fit/curvature.h"

enum { FIT_PATH = 5 };

typedef struct fit_solver {
    fit_problem *p;
    const fur_context *context; /* its stop */
    const fur_fit_settings *settings;
    fit_curvature c;
    fur_fit_route route;
    int64_t sample_rows;           /* 0: all */
    int64_t rank;                  /* of Q and K; 0: X itself */
    int64_t N;                     /* unknowns; arrays have room for those of either kind */
    fit_point at, other;           /* `other` holds what is tried; without one (q NULL) it takes the place of `at` */
    fit_point base;                /* where the curvature is from, once the step goes on; q NULL: it does not */
    const fit_point *bent;         /* where the curvature is from: &at or &base */
    double *z, *tried;             /* [N]: X, or Q [heads][d1][rank] and then K [heads][d2][rank] */
    double *x, *dx, *gx;           /* [d1, D2] */
    double *g, *d, *r, *m, *s, *h; /* [N]: gradient, step, and what conjugate gradients work with */
    double *S, *L;                 /* dense: [N, N] */
    double *path;                  /* [FIT_PATH, N]: d after 8, 16, 32, .. products of the last solve */
    int64_t path_count;
    double path_promised[FIT_PATH];
    double *block, *inverse, *small; /* preconditioner: [D2, D2] twice, [heads][2][rank, rank] */
    double *scores;                  /* sampling by leverage: [n] */
    double *sketch;                  /* CountSketch */
    /* of this run of it */
    int64_t lead1, lead2; /* X may change in so many leading directions of a and of k; 0: all. Not of factors */
    double damping;       /* of the step that was last solved for, times the mean of the diagonal */
    double enough;        /* ends where a step gains less than this share of the objective; 0: never */
    int64_t first_step;   /* steps of this start before this run of the solver, for the log */
    int64_t start;        /* number of the start, for the log */
    double began;
    double tolerance;
    fur_fit_step *history; /* [max_steps + 1], written from the first; NULL: not kept */
    int64_t history_count;
    /* sums over runs */
    int64_t products, rejected, evaluations;
    double seconds[FUR_FIT_PHASES];
} fit_solver;

enum { FIT_PHASE_WHITEN, FIT_PHASE_LOSS, FIT_PHASE_GRADIENT, FIT_PHASE_CURVATURE, FIT_PHASE_SOLVE };

typedef struct fit_outcome {
    fur_fit_end end;
    int64_t steps;
    double loss; /* relative */
    double gradient, first_gradient;
} fit_outcome;

/* The unknowns become X (0) or factors of this rank, at most that of the settings. */
void fit_solver_rank(fit_solver *s, int64_t rank);
/* Everything but p, context, settings, route and sample_rows, which the caller sets. */
fur_status fit_solver_push(fit_solver *s, fur_arena *arena, int points, bool keep_weights);
int64_t fit_solver_bytes(const fit_solver *s);

/* From s->z for at most so many steps; s->z, s->x and s->at are then the best. `watch`, where not NULL, is called after
 * each step and ends the run by returning true (the polish, which looks at what is held out). */
typedef bool (*fit_watch)(void *user, fit_solver *s, fur_status *status);
fur_status fit_solve(fit_solver *s, int64_t max_steps, fit_watch watch, void *user, fit_outcome *out);

/* X from z. */
void fit_solver_x(const fit_solver *s, const double *z, double *x);

/* Rows for the curvature of this step (sketch.c). */
fur_status fit_sample_draw(fit_solver *s, uint64_t step);
/* S from a CountSketch of the rows of J (sketch.c). */
fur_status fit_count_sketch(fit_solver *s, uint64_t step);
int64_t fit_count_sketch_bytes(const fit_solver *s);

#endif
