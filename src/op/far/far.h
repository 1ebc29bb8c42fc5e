/* SPDX-License-Identifier: Apache-2.0 */
/* The far field of almost-linear attention: keys that a query does not see one by one, but through a sum of polynomial
 * features whose size does not depend on how many they are. One softmax over both fields:
 *
 *   q^ = q / |q|,  k^ = k / |k|                   unit norm, so that far logits are at most B in size
 *   q~ = q^ - qbar,  k~ = k^ - kbar               centred: B q^.k^ = B q~.k~ + B q^.kbar + B qbar.k~, exactly
 *   P(t) = sum_l c_l t^l                          in place of e^t, for t = B q~.k~
 *   a_j = exp(B qbar.k~_j),  f_i = B q^_i.kbar + b_h
 *   U_i = sum over far j of a_j P(t_ij) [v_j, 1]  = S phi(q~_i),   S = sum over far j of w o phi(k~_j) a_j [v_j, 1]
 *   Z_i = e^near_i + e^f_i U_i[D],                lse_i = log Z_i
 *   o_i = (e^near_i onear_i + e^f_i U_i[0..D-1]) / Z_i
 *
 * phi(x): the R = C(D + p, p) monomials of degree at most p; w = c_l B^l l! / (product of factorials of exponents), so
 * that sum over m of w_m phi_m(x) phi_m(y) = P(B x.y). near and onear are lse and o of the near field, from
 * op/attention. With dU_i = e^(f_i - lse_i) [do_i, -do_i.o_i] and G = sum over the i for which j is far of
 * w o phi(q~_i) dU_i:
 *   dq~ = (d phi(q~))^T (S^T dU),   df = dU.U,   dk~ = (d phi(k~))^T (G^T a [v, 1]),   dv = a (G phi(k~))[0..D-1]
 * and through centring, norm and a_j to dq, dk and db. Sources: arXiv 2302.13214 and 2402.04497 (polynomial features
 * for bounded entries, forward and gradient), 2408.13233 (any loss, many layers); docs/PAPERS.md.
 *
 * A *state* S or G is f32, [K][2][R][DV + 1]: the last column is that of the 1. The second half is what rounding left
 * of the sums in the first, which are what is read: errors do not grow with the number of calls, and what is subtracted
 * leaves nothing behind. Features are formed in cache, a few at a time, and consumed by the product: R x T never
 * exists. Query head h reads key head h / (H / K), whose features its group shares. Rows of queries are contiguous, [T,
 * H, D]; o and do [T, H, DV], v [K, DV]; lse [T, H]. The width of values DV is free here; a layer has DV = D, since
 * op/attention, which has the near field, knows one width.
 *
 * With exec->compute bf16 the operands of products with the features of degree p, most of all, are rounded to bf16
 * (nearest, ties to even): phi, the rows of S or G, a [v, 1] and dU. Sums, states and features of lower degrees, which
 * are the larger terms, stay f32, and so does the way from dphi to dq~ and dk~. So each such term of a sum, and each
 * that is read, is off by at most 2 u_b of itself, u_b = 2^-8: of o 4 u_b. The reference rounds so, and AVX512-BF16
 * does; other instruction sets keep f32 operands. */
#ifndef FUR_OP_FAR_H
#define FUR_OP_FAR_H

#include "base/exec.h"

#define FUR_FAR_MOST_DEGREE   6
#define FUR_FAR_MOST_DIM      128
#define FUR_FAR_MOST_FEATURES ((int64_t)1 << 20)

/* The function. Constants are per key head and belong to the caller. */
typedef struct fur_far {
    int64_t heads, kv_heads;
    int64_t head_dim, value_dim;              /* D, DV, both 1..FUR_FAR_MOST_DIM */
    int64_t degree;                           /* p, 1..FUR_FAR_MOST_DEGREE */
    float bound;                              /* B; 0: rows as they are, logits scale q.k, no norm */
    float scale;                              /* with bound 0 only */
    const float *query_mean_KD, *key_mean_KD; /* qbar, kbar */
    const float *coefficient_KP;              /* c, [K, degree + 1] */
    const float *bias_H;                      /* b; NULL: 0 */
    const float *exact_K;                     /* above 0: no call does anything for this key head; NULL: for all */
} fur_far;

/* Consecutive keys, rows [K, D] and [K, DV]; in f32 or in bf16, the other NULL. */
typedef struct fur_far_keys {
    const float *k_SKD, *v_SKV;
    const uint16_t *k_bf16_SKD, *v_bf16_SKV;
    float *dk_SKD, *dv_SKV; /* backward adds to them */
    int64_t count;
} fur_far_keys;

typedef struct fur_far_queries {
    int64_t count;
    const float *q_THD;
    float *o_THV, *lse_TH; /* forward: the near field's on entry, both fields' on return. Backward: read */
    const float *do_THV;
    float *dq_THD;  /* backward adds to it */
    float *dbias_H; /* added to; NULL where there is no bias */
} fur_far_queries;

/* C(D + p, p), or INT64_MAX where that is above FUR_FAR_MOST_FEATURES. */
int64_t fur_far_features(int64_t head_dim, int64_t degree);
int64_t fur_far_state_floats(int64_t kv_heads, int64_t head_dim, int64_t value_dim, int64_t degree);
/* Bytes pushed on exec->workspace at most by any call with so many queries, or keys, or fewer, of a function with these
 * heads, widths and degree. */
int64_t fur_far_workspace(const fur_exec *exec, const fur_far *far, int64_t rows);

/* What is done with a state, or by it. Every step takes 2 R (DV + 1) flops a row and head, FUR_FAR_KEY_BACKWARD twice
 * that.
 */
typedef enum fur_far_step_type {
    /* S += sign times the keys' sum, sign 1 or -1. Summation order: as the keys lie, in blocks of 32 to 128. Error,
     * relative to the sum of absolute terms: 129 u for the sum, and (degree + 4) u for each term. */
    FUR_FAR_ADD_KEYS,
    FUR_FAR_QUERY,          /* o and lse become those of both fields, by S */
    FUR_FAR_QUERY_BACKWARD, /* dq and dbias, by S */
    FUR_FAR_ADD_QUERIES,    /* G += the queries' sum, with errors as of FUR_FAR_ADD_KEYS */
    FUR_FAR_KEY_BACKWARD,   /* dk and dv by G, times sign */
    /* moment_THP [T, H, degree + 1] = sum over far j of a_j t_ij^l, l = 0..degree, summed in double from the last
     * column of S; degrees whose coefficient is 0 give 0. For bounds on an error; in plain C on every instruction set.
     */
    FUR_FAR_MOMENTS
} fur_far_step_type;

typedef struct fur_far_step {
    fur_far_step_type type;
    float *state_KRE;        /* S or G; written by sums only */
    fur_far_keys keys;       /* of the types that name keys */
    fur_far_queries queries; /* of the others */
    float sign;
    float *moment_THP;
} fur_far_step;

/* Steps one after the other, for each key head by itself: with enough key heads, one goes through all steps while its
 * state is in cache. Parallel over key heads, or over parts of a step; the same bits for any thread count. Errors:
 * FUR_E_SHAPE, FUR_E_ARGUMENT, FUR_E_MEMORY before anything is done; FUR_E_NONFINITE, after all is, names the first row
 * whose Z is not positive. Workspace: fur_far_workspace of the longest step. */
fur_status fur_far_run(const fur_exec *exec, const fur_far *far, const fur_far_step *list, int64_t count);

#endif
