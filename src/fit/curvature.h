/* SPDX-License-Identifier: Apache-2.0 */
/* Products with the Hessian by X after Y was eliminated, S = J^T (1 - q q^T) J in the Gauss-Newton form, J the Jacobian
 * of sqrt(w) O by X. Row j of J maps D [d1, D2] to G_j^T D^T a_j, with G_j = sqrt(w_j) Cov_{P_j}(k, v Y) [D2, dv].
 *
 * Three forms: matrix-free (softmax weights of each tile made again in every product, or kept where the sequences are
 * short: never above FIT_KEPT_WEIGHTS a row), stored (all G_j, or those of a
 * sample of rows), dense (S itself; dense.c). Operands are f32 or f64, sums over rows f64. With the second-order term
 * (Newton), matrix-free alone: the derivative of the reduced gradient, exactly. */
#ifndef FUR_FIT_CURVATURE_H
#define FUR_FIT_CURVATURE_H

#include "fit/loss.h"

/* Rows that the curvature is taken from, ascending, and what each counts: all rows, or a sample. */
typedef struct fit_sample {
    int64_t count;
    int64_t *row;  /* [count] */
    double *scale; /* [count]; NULL: 1 */
    int64_t *at;   /* [training tiles + 1]: first of each tile in `row` */
} fit_sample;

typedef struct fit_real_scratch {
    void *s, *e, *t, *acc, *left; /* tiles */
    void *ds, *ck, *left_r;       /* those of Newton's terms */
    void *gram;                   /* [D2, D2] */
    void *kr, *cov, *mk, *mv;     /* of G: keys x values, their weighted sums and means */
    void *square;                 /* [d2, d2]: covariance of the keys of one row */
    void *a, *q;                  /* [rows, d1], [rows, D3] of a tile */
    void *part;                   /* what a tile adds to a sum */
} fit_real_scratch;

typedef struct fit_curvature fit_curvature;

/* What f32 and f64 provide. */
typedef struct fit_real {
    int64_t bytes; /* of a number */
    void (*narrow)(const double *from, int64_t count, void *to);
    /* keys once, then u = a X and v Y for this point */
    void (*refresh)(const fit_problem *p, const double *x, const fit_point *point, fit_curvature *c);
    /* G of `count` rows, offsets within the tile, [count, D2, dv], times scale[i] where it is not NULL */
    void (*rows)(const fit_problem *p, const fit_point *point, const fit_curvature *c, const fit_tile *tile,
                 int64_t count, const int64_t *row, const double *scale, int thread, void *g);
    /* adds G G^T [D2, D2] of each row to block */
    void (*gram)(const fit_problem *p, const fit_curvature *c, int64_t count, const void *g, int thread, double *block);
    /* softmax weights of a tile, to be kept */
    void (*keep)(const fit_problem *p, const fit_point *point, const fit_curvature *c, const fit_tile *tile);
    /* first sweep: J c->d into c->j and its sum q^T J d; second: out += J^T (J d - q c->w) */
    void (*free_first)(const fit_problem *p, const fit_point *point, const fit_curvature *c, const fit_tile *tile,
                       int thread, double *w1, double *w2);
    void (*free_second)(const fit_problem *p, const fit_point *point, const fit_curvature *c, const double *dy,
                        const fit_tile *tile, int thread, double *out);
    void (*stored_first)(const fit_problem *p, const fit_curvature *c, int64_t tile, int thread, double *w1);
    void (*stored_second)(const fit_problem *p, const fit_curvature *c, int64_t tile, int thread, double *out);
} fit_real;
extern const fit_real fit_real_f32, fit_real_f64;

struct fit_curvature {
    const fit_real *real;
    fur_fit_route route;
    bool newton;
    bool keys_ready;
    void *k;             /* [m, d2] */
    void *vy;            /* [m, H dv] */
    bool twice;          /* keys and values are the same rows: G = Cov(k, k) turn, of half as many products */
    void *turn;          /* [H, d2, dv]: v Y = k turn + a constant */
    double *given;       /* [H, width of v, dv]: Y as given, on the way to `turn` */
    void *v;             /* [m, d3]; Newton alone */
    void *u;             /* [n, D2] */
    void *o;             /* [n, H dv]: sqrt(w) O_h */
    void *d, *w;         /* of a product: [d1, D2], [D3, dv] */
    void *j;             /* [rows of the sample or n, dv] */
    double *mean;        /* [n]; Newton: of ds, from the first sweep to the second */
    void *weights;       /* matrix-free: those of every tile, head and piece of its keys [rows, K]; NULL: not kept */
    int64_t *weights_at; /* [training tiles]: of one head */
    void *g;             /* stored: [sample rows, D2, dv] */
    double *q;           /* stored sample: [sample rows, D3] orthonormal; NULL: the point's */
    fit_sample sample;   /* of the stored route */
    fit_sample probe;    /* of the preconditioner, where no rows are stored */
    double *block;       /* [D2, D2]: sum over rows of G G^T, from the probe or from some of the rows stored */
    fit_real_scratch *scratch; /* one a thread */
    int64_t cov_rows;          /* rows whose G is made at once */
    int64_t value_columns;     /* columns of v Y of a KR tile */
    void *probe_g;             /* one a thread: [cov_rows, D2, dv] */
};

enum { FIT_PROBE_ROWS = 512, FIT_KEPT_WEIGHTS = 2048 };

typedef struct fit_curvature_shape {
    fur_fit_route route;
    bool f64, newton;
    bool keep_weights;   /* where there are few enough */
    int64_t sample_rows; /* of the stored route; 0: all rows */
} fit_curvature_shape;

/* Numbers of softmax weights that would be kept; 0: too many. */
int64_t fit_kept_weights(const fit_problem *p);
/* What does not depend on the point. */
fur_status fit_curvature_push(const fit_problem *p, fur_arena *arena, const fit_curvature_shape *shape,
                              fit_curvature *out);
/* Bytes of workspace of the functions below. */
int64_t fit_curvature_bytes(const fit_problem *p);
int64_t fit_dense_bytes(const fit_problem *p);
/* Everything of one point: u, v Y, the preconditioner's block, and the stored rows where there are. */
fur_status fit_curvature_prepare(const fit_problem *p, const double *x, const fit_point *point, fit_curvature *c);
/* S itself, [d1 D2, d1 D2], both triangles, Gauss-Newton, from tiles of f64; index (i D2 + j) as in X. */
fur_status fit_curvature_dense(const fit_problem *p, const fit_point *point, const fit_curvature *c, double *S);
/* out [d1, D2] = S d + ridge d */
fur_status fit_curvature_product(const fit_problem *p, const fit_point *point, const fit_curvature *c, const double *d,
                                 double *out);
/* Rows of the sample become those of `row` (count of them, ascending), each times scale. */
void fit_sample_set(const fit_problem *p, int64_t count, const int64_t *row, const double *scale, fit_sample *sample);

#endif
