/* SPDX-License-Identifier: Apache-2.0 */
/* The definition of correct: the formulas of attention.h with double accumulators, one rounding per result. */
#include <math.h>

#include "op/attention/attention_kernel.h"

static int64_t no_scratch(int64_t head_dim)
{
    (void)head_dim;
    return 0;
}

static double dot(const float *a, const float *b, int64_t count)
{
    double sum = 0;
    for (int64_t d = 0; d < count; d++)
        sum += (double)a[d] * (double)b[d];
    return sum;
}

static const float *key_row(const fur_attention_call *call, const fur_key_span *span, int64_t kv_head, int64_t j,
                            float *wide_D)
{
    const fur_attention_args *a = call->args;
    return fur_bf16_row(span->k_SKD, span->k_bf16_SKD, j * a->ldk + kv_head * a->head_dim, a->head_dim, wide_D);
}

static const float *value_row(const fur_attention_call *call, const fur_key_span *span, int64_t kv_head, int64_t j,
                              float *wide_D)
{
    const fur_attention_args *a = call->args;
    return fur_bf16_row(span->v_SKD, span->v_bf16_SKD, j * a->ldk + kv_head * a->head_dim, a->head_dim, wide_D);
}

/* Walks over the keys that virtual row v sees. */
typedef struct seen {
    const fur_attention_call *call;
    const fur_attention_rows *rows;
    fur_attention_range range;
    int64_t span, j;                                                      /* of the present key */
    const float *k_D, *v_D;                                               /* likewise */
    float wide_k[FUR_ATTENTION_HEAD_DIM], wide_v[FUR_ATTENTION_HEAD_DIM]; /* where they lie if stored in bf16 */
    int64_t key_position;
} seen;

/* The rows are large and stay as they are. */
static void seen_begin(seen *s, const fur_attention_call *call, const fur_attention_rows *rows, int64_t v)
{
    s->call = call;
    s->rows = rows;
    s->range = fur_attention_range_of(call, rows->piece, v, v + 1);
    s->span = 0;
    s->j = -1;
}

static int seen_next(seen *s)
{
    const fur_query_piece *piece = s->rows->piece;
    for (s->j++; s->span < piece->span_count; s->span++, s->j = 0) {
        const fur_key_span *span = &piece->spans[s->span];
        s->key_position = span->first_position + s->j;
        if (s->key_position >= s->range.sink_end && s->key_position < s->range.low) {
            s->j += s->range.low - s->key_position;
            s->key_position = s->range.low;
        }
        if (s->j >= span->count)
            continue;
        if (s->key_position >= s->range.sink_end && s->key_position >= s->range.end)
            return 0;
        s->k_D = key_row(s->call, span, s->rows->kv_head, s->j, s->wide_k);
        s->v_D = value_row(s->call, span, s->rows->kv_head, s->j, s->wide_v);
        return 1;
    }
    return 0;
}

static int64_t head_of(const fur_attention_call *call, const fur_attention_rows *rows, int64_t v)
{
    return rows->kv_head * call->group + v % call->group;
}

/* s_ij as it goes into the exponential, and its derivative by scale q . k */
static double score(const fur_attention_call *call, const fur_attention_rows *rows, int64_t v, const float *k_D,
                    int64_t key_position, double *slope)
{
    const fur_attention_args *a = call->args;
    double s = (double)a->scale * dot(a->q_THD + fur_attention_offset(call, rows, v, a->ldq), k_D, a->head_dim);
    *slope = 1;
    if (a->features.softcap > 0) {
        double cap = (double)a->features.softcap, t = tanh(s / cap);
        s = cap * t;
        *slope = 1 - t * t;
    }
    if (a->features.alibi)
        s -= fur_attention_slope_of(call, rows, v) *
             fabs((double)(fur_attention_position(call, rows->piece, v) - key_position));
    return s;
}

/* M_ij */
static double keep(const fur_attention_call *call, const fur_attention_rows *rows, int64_t v, int64_t key_position)
{
    if (!(call->args->features.dropout > 0))
        return 1;
    return (double)fur_attention_keep(
        call, fur_attention_draw(call->args->features.dropout_key, fur_attention_head(call, rows, v),
                                 rows->piece->first_token + v / call->group, key_position));
}

static void forward_row(const fur_attention_call *call, const fur_attention_rows *rows, int64_t v)
{
    const fur_attention_args *a = call->args;
    float *o_D = a->o_THD + fur_attention_offset(call, rows, v, a->ldo);
    double m = -(double)INFINITY, l = 0, sum_D[FUR_ATTENTION_HEAD_DIM] = {0}, slope;
    seen x;
    if (a->features.sink_H)
        m = (double)a->features.sink_H[head_of(call, rows, v)];
    double sink = m;
    seen_begin(&x, call, rows, v);
    while (seen_next(&x)) {
        double s = score(call, rows, v, x.k_D, x.key_position, &slope);
        m = s > m || isnan(s) ? s : m; /* a NaN stays */
    }
    int blind = m == -(double)INFINITY;
    if (a->features.sink_H && !blind)
        l = exp(sink - m);
    seen_begin(&x, call, rows, v);
    while (!blind && seen_next(&x)) {
        double p = exp(score(call, rows, v, x.k_D, x.key_position, &slope) - m);
        double kept = p * keep(call, rows, v, x.key_position);
        l += p;
        for (int64_t d = 0; d < a->head_dim; d++)
            sum_D[d] += kept * (double)x.v_D[d];
    }
    for (int64_t d = 0; d < a->head_dim; d++)
        o_D[d] = blind ? 0.0f : (float)(sum_D[d] / l);
    *fur_attention_lse(call, rows, v) = blind ? -INFINITY : (float)(m + log(l));
}

static void forward(const fur_attention_call *call, const fur_attention_rows *rows, void *scratch)
{
    (void)scratch;
    for (int64_t v = rows->begin; v < rows->end; v++)
        forward_row(call, rows, v);
}

/* P M and dS of one pair. */
static void pair(const fur_attention_call *call, const fur_attention_rows *rows, int64_t v, const float *k_D,
                 const float *v_D, int64_t key_position, double *p, double *ds)
{
    const fur_attention_args *a = call->args;
    const float *o_D = a->o_THD + fur_attention_offset(call, rows, v, a->ldo);
    const float *do_D = a->do_THD + fur_attention_offset(call, rows, v, a->lddo);
    double lse = (double)*fur_attention_lse(call, rows, v), slope, kept = keep(call, rows, v, key_position);
    double t = score(call, rows, v, k_D, key_position, &slope) - lse;
    *p = lse == -(double)INFINITY ? 0 : exp(t > 0 ? 0 : t);
    *ds = *p * slope * (kept * dot(do_D, v_D, a->head_dim) - dot(do_D, o_D, a->head_dim));
    *p *= kept;
}

/* dk and dv of key j of a span, over all pieces [first, last) that have the span. */
static void key_gradient(const fur_attention_call *call, int64_t kv_head, int64_t first, int64_t last,
                         const fur_key_span *span, int64_t j)
{
    const fur_attention_args *a = call->args;
    int64_t to = j * a->lddk + kv_head * a->head_dim;
    int64_t position = span->first_position + j;
    float wide_k[FUR_ATTENTION_HEAD_DIM], wide_v[FUR_ATTENTION_HEAD_DIM];
    const float *k_D = key_row(call, span, kv_head, j, wide_k), *v_D = value_row(call, span, kv_head, j, wide_v);
    double dk_D[FUR_ATTENTION_HEAD_DIM] = {0}, dv_D[FUR_ATTENTION_HEAD_DIM] = {0};
    for (int64_t r = first; r < last; r++) {
        fur_attention_rows rows = fur_attention_rows_of(call, &call->runs[r], kv_head);
        int64_t end = fur_min_i64(rows.end, fur_attention_after_seeing(call, rows.piece, position));
        for (int64_t v = fur_max_i64(0, fur_attention_first_seeing(call, rows.piece, position)); v < end; v++) {
            const float *q_D = a->q_THD + fur_attention_offset(call, &rows, v, a->ldq);
            const float *do_D = a->do_THD + fur_attention_offset(call, &rows, v, a->lddo);
            double p, ds;
            pair(call, &rows, v, k_D, v_D, position, &p, &ds);
            for (int64_t d = 0; d < a->head_dim; d++) {
                dk_D[d] += (double)a->scale * ds * (double)q_D[d];
                dv_D[d] += p * (double)do_D[d];
            }
        }
    }
    for (int64_t d = 0; d < a->head_dim; d++) {
        span->dk_SKD[to + d] = (float)((double)span->dk_SKD[to + d] + dk_D[d]);
        span->dv_SKD[to + d] = (float)((double)span->dv_SKD[to + d] + dv_D[d]);
    }
}

static void keys(const fur_attention_call *call, int64_t kv_head, int64_t chunk, void *scratch)
{
    (void)scratch;
    for (int64_t r = 0, next; r < call->run_count; r = next) {
        const fur_query_piece *piece = call->runs[r].piece;
        next = fur_attention_next_keys(call, r);
        for (int64_t i = 0; i < piece->span_count; i++)
            for (int64_t j = 0; j < piece->spans[i].count; j++)
                if (fur_attention_owns(call, &call->runs[r], piece->spans[i].first_position + j, chunk))
                    key_gradient(call, kv_head, r, next, &piece->spans[i], j);
    }
}

static void finish(const fur_attention_call *call, const fur_attention_rows *rows)
{
    const fur_attention_args *a = call->args;
    for (int64_t v = rows->begin; v < rows->end; v++) {
        float *dq_D = a->dq_THD + fur_attention_offset(call, rows, v, a->lddq);
        double sum_D[FUR_ATTENTION_HEAD_DIM] = {0};
        seen x;
        seen_begin(&x, call, rows, v);
        while (seen_next(&x)) {
            double p, ds;
            pair(call, rows, v, x.k_D, x.v_D, x.key_position, &p, &ds);
            for (int64_t d = 0; d < a->head_dim; d++)
                sum_D[d] += (double)a->scale * ds * (double)x.k_D[d];
        }
        for (int64_t d = 0; d < a->head_dim; d++)
            dq_D[d] = (float)sum_D[d];
    }
}

const fur_attention_kernel fur_attention_ref = {
    .forward_floats = no_scratch,
    .forward = forward,
    .backward_floats = no_scratch,
    .keys = keys,
    .finish = finish,
};
