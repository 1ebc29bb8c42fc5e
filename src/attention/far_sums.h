/* SPDX-License-Identifier: Apache-2.0 */
/* The sums of a sample, for far_sample.c, which gathers them, and far_result.c, which reads them. */
#ifndef FUR_ATTENTION_FAR_SUMS_H
#define FUR_ATTENTION_FAR_SUMS_H

#include <math.h>

#include "attention/far_field.h"
#include "attention/far_sample.h"

/* ---- sums -------------------------------------------------------------------------------------------------------- */

/* Of a sampled query and head, each times e^-maximum. In d S = P (dP - delta): with P = weight, dP = do . v. */
typedef struct query_sums {
    double *maximum, *total, *far_total, *assumed_total; /* of weights; of far ones; with the polynomial's */
    double *o, *near_k, *near_dk, *far_k, *far_dk;       /* sums of P v; P k, P dP k; the same of unit keys */
    double *assumed_o;
} query_sums;

static inline int64_t query_doubles(int64_t D)
{
    return 6 * D + 4;
}

static inline query_sums query_sums_at(const fur_far_sample *s, int64_t m, int64_t head)
{
    int64_t D = s->shape->head_dim;
    double *at = s->query_sums + (m * s->shape->heads + head) * query_doubles(D), *v = at + 4;
    return (query_sums){at, at + 1, at + 2, at + 3, v, v + D, v + 2 * D, v + 3 * D, v + 4 * D, v + 5 * D};
}

/* What a certificate is made of. */
typedef struct query_bounds {
    double longest_centred, longest, squares; /* squares: of outputs, over all rows; what follows over those with far
                                                 keys, d the distance of an output from the point among values */
    double far_rows, distance, distance_squares;
    /* x and y: shares of the normaliser, sum over far j of a_j and of a_j t^power */
    double x, y, most_x, most_y;
    double xx[3], xy[3], yy[3]; /* sums of x^2, x y, y^2, times 1, d, d^2 */
} query_bounds;
typedef struct key_bounds {
    double longest_centred, longest, value_distance;
} key_bounds;

static inline query_bounds *query_bounds_of(const fur_far_sample *s, int64_t head)
{
    return (query_bounds *)(void *)s->query_bounds + head;
}

static inline key_bounds *key_bounds_of(const fur_far_sample *s, int64_t kv_head)
{
    return (key_bounds *)(void *)s->key_bounds + kv_head;
}

/* ---- logits ------------------------------------------------------------------------------------------------------ */

static inline float dot(const float *a, const float *b, int64_t count)
{
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < count; i++)
        sum += a[i] * b[i];
    return sum;
}

/* y += w x */
static inline void add_row(float w, const float *x, int64_t count, float *y)
{
#pragma omp simd
    for (int64_t i = 0; i < count; i++)
        y[i] += w * x[i];
}

static inline float bound_of(const fur_attention_shape *shape)
{
    return fur_far_is_bounded(shape) ? shape->far.bound : 1;
}

/* What makes a row the far field's: 1 / its norm, or with logits that are not bounded `scale`. */
static inline float unit_factor(const fur_far_sample *s, const float *row, float scale)
{
    return fur_far_is_bounded(s->shape) ? fur_far_unit_factor(row, s->shape->head_dim) : scale;
}

/* |factor row - mean| */
static inline double centred_length(const float *row, float factor, const float *mean, int64_t count)
{
    double sum = 0;
    for (int64_t d = 0; d < count; d++) {
        double x = (double)factor * (double)row[d] - (double)mean[d];
        sum += x * x;
    }
    return sqrt(sum);
}

/* Which keys a query sees, by rows of the batch: [from, to), of which [far_from, far_to) and [far_again, to) are far.
 */
typedef struct sight {
    int64_t from, to, far_from, far_to, far_again;
} sight;

static inline sight sight_of(const fur_attention_shape *shape, int64_t token, int64_t start, int64_t length)
{
    int64_t chunk = (token - start) / shape->chunk;
    sight out = {.from = start, .to = shape->causal ? token + 1 : start + length};
    out.far_from = start + fur_far_sinks(shape);
    out.far_to = start + fur_far_before(shape, chunk);
    out.far_again = shape->causal ? out.to : start + fur_far_behind(shape, length, chunk);
    return out;
}

static inline int is_far(const sight *see, int64_t row)
{
    return (row >= see->far_from && row < see->far_to) || row >= see->far_again;
}

/* Near logit of a product; *slope: its derivative by that. */
static inline float near_logit(const fur_attention_shape *shape, float product, float *slope)
{
    float s = shape->scale * product, cap = shape->features.softcap;
    *slope = shape->scale;
    if (cap > 0) {
        float t = tanhf(s / cap);
        *slope *= 1 - t * t;
        s = cap * t;
    }
    return s;
}

/* Moments of one query and head: of degrees up to that of backward's polynomial. */
static inline int64_t moments_of_query(const fur_far_sample *s)
{
    return (s->shape->fine.degree ? s->shape->fine.degree : s->shape->far.degree) + 1;
}

/* The even power whose mean under far keys the sums know; 0: none. */
static inline int64_t moment_power(const fur_far_sample *s, int64_t kv_head)
{
    int64_t degree = s->shape->far.degree, power = degree - degree % 2;
    const float *c = s->shape->far.coefficient_KP + kv_head * (degree + 1);
    while (power > 0 && !(fabsf(c[power]) > 0))
        power -= 2;
    return s->assumed || !(fabsf(c[0]) > 0) ? 0 : power;
}

/* One sampled query and head, and what of its far logits does not depend on the key. */
typedef struct sampled_query {
    int64_t head, kv_head;
    const float *q, *d_o;
    sight see;
    float slope, bias, centring; /* bound x factor; B (q^.kbar - qbar.kbar) */
} sampled_query;

static inline sampled_query sampled_query_of(const fur_far_sample *s, int64_t m, int64_t head)
{
    const fur_attention_shape *shape = s->shape;
    int64_t D = shape->head_dim, kv_head = head / fur_far_group(s->shape), at = (m * shape->heads + head) * D;
    const float *q = s->q_MHD + at, *key_mean = shape->far.key_mean_KD + kv_head * D;
    float factor = unit_factor(s, q, shape->far.scale), bound = bound_of(s->shape);
    return (sampled_query){
        .head = head,
        .kv_head = kv_head,
        .q = q,
        .d_o = s->do_MHD + at,
        .see = sight_of(shape, s->token[m], s->start[m], s->length[m]),
        .slope = bound * factor,
        .bias = fur_far_bias(shape, head),
        .centring = bound * (factor * dot(q, key_mean, D) - dot(shape->far.query_mean_KD + kv_head * D, key_mean, D))};
}

#endif
