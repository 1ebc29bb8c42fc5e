/* SPDX-License-Identifier: Apache-2.0 */
/* Loss and gradient in f64, tile by tile, with Y eliminated.
 *
 * With Phi = (P^1 v, .., P^H v) [n, H d3], w folded in as its root, Phi = q fac by QR and Y = argmin |Phi Y - B|. Where
 * Phi is (nearly) of lower rank, the singular values of its R below 1e-12 of the largest are left out: Y of least norm.
 */
#ifndef FUR_FIT_LOSS_H
#define FUR_FIT_LOSS_H

#include "fit/problem.h"

/* All that belongs to one X. */
typedef struct fit_point {
    double *q;    /* [n, D3]: orthonormal columns, rank of them; 0 beyond */
    double *r;    /* [n, dv]: sqrt(w) (O - B) */
    double *lse;  /* [heads, n]: logarithm of the softmax's denominator */
    double *fac;  /* [D3, D3]: sqrt(w) Phi = q fac */
    double *yfac; /* [D3, D3]: Y = yfac q^T sqrt(w) B */
    double *y;    /* [D3, dv] */
    double *o;    /* [heads, D3, dv]: sqrt(w) O_h = q o_h */
    int64_t rank;
    double loss;      /* 1/2 |r|^2 */
    double objective; /* with the ridge */
} fit_point;

void fit_point_push(const fit_problem *p, fur_arena *arena, fit_point *out);
/* Bytes of workspace that the functions below take. */
int64_t fit_loss_bytes(const fit_problem *p);

/* Phi, QR, Y, residual. NaN or infinity in x gives an objective of infinity, not an error. */
fur_status fit_evaluate(const fit_problem *p, const double *x, fit_point *point);
/* g [d1, D2], the gradient by X of the objective with Y eliminated. */
fur_status fit_gradient(const fit_problem *p, const double *x, const fit_point *point, double *g);

typedef struct fit_measure {
    double square;  /* sum of w r^2 */
    double largest; /* |r| of one number */
    double logit_max, logit_square;
    int64_t pairs;
} fit_measure;
/* Of given X and Y over these tiles. Uses `out_chunks` of the problem only as thread-independent pieces. */
fur_status fit_measure_tiles(const fit_problem *p, const fit_tiles *tiles, const double *x, const double *y,
                             fit_measure *out);
/* Y for a fixed X and the loss with it are fit_evaluate's; this is the loss of any Y. */

/* sum over chunks, in order, of [chunks][count] into out */
void fit_sum_chunks(const fit_problem *p, int64_t count, const double *partial, double *out);

#endif
