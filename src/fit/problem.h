/* SPDX-License-Identifier: Apache-2.0 */
/* The problem of a fit, in the coordinates it is solved in.
 *
 *   minimise over X_h [d1, d2], Y_h [d3, dv]:   1/2 sum_j w_j |o_j - b_j|^2 + ridge / 2 |X|^2,
 *   o_j = sum_h sum_k P^h_jk v_k Y_h,   P^h_j = softmax over the keys k that row j sees of a_j X_h k_k
 *
 * a, k and v are rows of A1, A2 and A3 in whitened coordinates: a = A1 T1 with mean of a a^T = 1, k = (A2 - mean) T2 in
 * the same way (a constant added to all keys does not change a softmax), v = A3 T3. Directions whose singular value is
 * below a cut are left out of each. |X|^2 is then the mean square of the logits of independent rows, so that the ridge
 * is the regulariser 1/2 |W A x|^2 of arXiv 2309.07418 with constant W. Heads lie side by side: X [d1, H d2], Y [H d3,
 * dv], and with G_j = (G_j^1; ..; G_j^H) [H d2, dv] every formula of one head holds for several.
 *
 * Rows are those of documents that see nothing else (sequences, segments), end to end. Training rows come first; rows
 * that are held out follow. */
#ifndef FUR_FIT_PROBLEM_H
#define FUR_FIT_PROBLEM_H

#include "base/exec.h"
#include "fit/data.h"
#include "op/rowexp/rowexp.h"

/* Rows and keys of a tile; one thread's S tile in f64 then takes 256 KB. */
#define FIT_ROWS 128
#define FIT_KEYS 256

typedef struct fit_side {
    const fit_array *raw;
    const double *mean; /* [raw width]; NULL: not centred */
    double *map;        /* [raw width, width]: whitened = (raw - mean) map */
    double *back;       /* [raw width, width]: raw - mean = whitened back^T */
    double *values;     /* singular values over sqrt(rows), falling [raw width] */
    int64_t width;      /* directions kept */
    double *stored;     /* whitened rows [rows, width]; NULL: made when asked for */
} fit_side;

/* Query rows row .. row+rows-1 and the keys they may see. Causal: query i sees keys - rows + 1 + i of them. */
typedef struct fit_tile {
    int64_t row, rows, key, keys;
} fit_tile;

typedef struct fit_tiles {
    fit_tile *at;
    int64_t count;
    int64_t numbers; /* rows times keys of each, summed */
} fit_tiles;

/* What one thread works with. */
typedef struct fit_scratch {
    double *raw, *a, *u, *k, *v, *s, *e, *acc, *left, *o;
    double *m, *l, *c; /* a number a row */
} fit_scratch;

typedef struct fit_problem {
    const fur_exec *exec;
    const fit_data *data;
    const fur_rowexp *rowexp;
    int64_t d1, d2, d3, dv, heads; /* widths after the cut */
    int64_t n, m;                  /* training rows; keys they see */
    int64_t held;                  /* rows held out, n .. n+held-1 */
    int64_t tile_rows, tile_keys;
    bool causal;
    fit_side a, k, v;
    fit_tiles train, test;
    int64_t pairs;        /* of a training row and a key it sees */
    double *root_w;       /* square roots of the weights [n + held]; NULL: all 1 */
    double l0;            /* half the sum of w |b - mean b|^2 over training rows */
    double l0_test;       /* the same over rows held out, their own mean */
    double ridge;         /* on 1/2 |X|^2 */
    int64_t chunks;       /* of tiles, for sums: of the problem alone */
    fit_scratch *scratch; /* one a thread */
} fit_problem;

static inline int64_t fit_d2(const fit_problem *p)
{
    return p->heads * p->d2;
}
static inline int64_t fit_d3(const fit_problem *p)
{
    return p->heads * p->d3;
}
static inline int64_t fit_visible(const fit_problem *p, const fit_tile *tile, int64_t i)
{
    return p->causal ? tile->keys - tile->rows + 1 + i : tile->keys;
}
/* First and last+1 tile of chunk c of `chunks`. */
static inline int64_t fit_chunk_at(int64_t tiles, int64_t chunks, int64_t c)
{
    return tiles * c / chunks;
}
static inline double fit_root_w(const fit_problem *p, int64_t row)
{
    return p->root_w ? p->root_w[row] : 1.0;
}

typedef struct fit_shape {
    int64_t heads;
    double held_out;
    bool causal;
    int64_t tile_rows, tile_keys; /* 0: FIT_ROWS, FIT_KEYS */
    double cut;                   /* of singular values, relative; 0: by the stored type */
    bool store_whitened;
    bool centre; /* keys: false where nothing is a softmax */
} fit_shape;

/* Counts, tiles, weights and the whitening, pushed on the arena; with a counting arena only bytes, as if no direction
 * were cut. Errors of the data: constant targets, rank 0, too few equations. */
fur_status fit_problem_make(const fur_exec *exec, fur_arena *arena, const fit_data *data, const fit_shape *shape,
                            fit_problem *out);

/* Map, back, values and width of a side from its rows [0, n); name is for errors. Pushes on exec->workspace and
 * releases; bytes for rows of w numbers. */
fur_status fit_whiten(const fur_exec *exec, int64_t n, double cut, const char *name, fit_side *side);
int64_t fit_whiten_bytes(int64_t w);

/* Rows first.. of a side, whitened: where they are stored, or made in `out` through `raw`. */
const double *fit_rows(const fit_side *side, int64_t first, int64_t count, double *raw, double *out);
/* Rows as they were given, as doubles. */
void fit_raw_rows(const fit_array *array, int64_t first, int64_t count, double *out);

/* Between whitened and given coordinates: X_given = map_a X map_k^T; Y_given = map_v Y. `heads` blocks side by side (X)
 * and one under the other (Y); given ones are [heads][d1][d2] and [heads][d3][dv]. */
void fit_x_given(const fit_problem *p, const double *x, double *given, double *work);
void fit_x_whitened(const fit_problem *p, const double *given, double *x, double *work);
void fit_y_given(const fit_problem *p, const double *y, double *given);
void fit_y_whitened(const fit_problem *p, const double *given, double *y);

/* Thin QR of a [n, w], in place, R [w, w], by chunks of rows; n >= w. Pushes on exec->workspace and releases. */
fur_status fit_tall_qr(const fur_exec *exec, int64_t n, int64_t w, double *a, double *r);
/* Bytes of workspace that takes. */
int64_t fit_tall_qr_bytes(const fur_exec *exec, int64_t n, int64_t w);

#endif
