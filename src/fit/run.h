/* SPDX-License-Identifier: Apache-2.0 */
/* A whole fit: what run.c, finish.c and linear.c share. */
#ifndef FUR_FIT_RUN_H
#define FUR_FIT_RUN_H

#include "fit/lm.h"

typedef struct fit_run {
    fur_context *context;
    const fit_data *data;
    fur_fit_settings settings;
    fur_fit_result *result;
    fur_exec exec;
    fur_arena arena, workspace;
    fit_problem p;
    fit_solver s;
    double *best;  /* [N]: unknowns of the best start */
    double *y;     /* [D3, dv]: Y of the answer */
    double *svd;   /* of one head's X: fit_svd_doubles */
    double *given; /* [heads][d1][d2] as given, and work of as much */
    double began;
} fit_run;

/* Of a head's X [d1, d2]: u [d1, r], s [r], v [d2, r], r = min(d1, d2), and work behind them. */
typedef struct fit_svd {
    double *u, *s, *v;
} fit_svd;
int64_t fit_svd_doubles(int64_t d1, int64_t d2);
/* x has leading dimension ldx. */
fur_status fit_svd_of(fur_error *error, int64_t d1, int64_t d2, const double *x, int64_t ldx, double *space,
                      fit_svd *out);

/* What the result says of the data, once they are whitened. */
void fit_describe(fit_run *run);
/* Held-out relative loss of X (whitened) and Y; NaN where nothing is held out. */
fur_status fit_held_out(fit_run *run, const double *x, const double *y, double *loss);
/* The rank, the polish, and everything the result says. */
fur_status fit_finish(fit_run *run);
/* Arrays of the result from X and Y in whitened coordinates; `rank` 0: all singular values. */
fur_status fit_answer(fit_run *run, const double *x, const double *y, int64_t rank);
/* Instead of all of that: no softmax. */
fur_status fit_linear(fit_run *run);

#endif
