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
    return fur_attention_row(span->k_SKD, span->k_bf16_SKD, j * a->ldk + kv_head * a->head_dim, a->head_dim, wide_D);
}

static const float *value_row(const fur_attention_call *call, const fur_key_span *span, int64_t kv_head, int64_t j,
                              float *wide_D)
{
    const fur_attention_args *a = call->args;
    return fur_attention_row(span->v_SKD, span->v_bf16_SKD, j * a->ldk + kv_head * a->head_dim, a->head_dim, wide_D);
}

/* Keys of the span that virtual row v sees: a prefix. */
static int64_t visible(const fur_attention_call *call, const fur_query_piece *piece, const fur_key_span *span,
                       int64_t v)
{
    if (!call->args->causal)
        return span->count;
    int64_t last = fur_attention_position(call, piece, v) - span->first_position;
    return fur_max_i64(0, fur_min_i64(span->count, last + 1));
}

static void forward_row(const fur_attention_call *call, const fur_attention_rows *rows, int64_t v)
{
    const fur_attention_args *a = call->args;
    const fur_query_piece *piece = rows->piece;
    const float *q_D = a->q_THD + fur_attention_offset(call, rows, v, a->ldq);
    float *o_D = a->o_THD + fur_attention_offset(call, rows, v, a->ldo);
    float wide_D[FUR_ATTENTION_HEAD_DIM];
    double m = -(double)INFINITY, l = 0, sum_D[FUR_ATTENTION_HEAD_DIM] = {0};
    for (int64_t i = 0; i < piece->span_count; i++)
        for (int64_t j = 0; j < visible(call, piece, &piece->spans[i], v); j++) {
            double s =
                (double)a->scale * dot(q_D, key_row(call, &piece->spans[i], rows->kv_head, j, wide_D), a->head_dim);
            m = s > m || isnan(s) ? s : m; /* a NaN stays */
        }
    for (int64_t i = 0; i < piece->span_count && m != -(double)INFINITY; i++)
        for (int64_t j = 0; j < visible(call, piece, &piece->spans[i], v); j++) {
            double s =
                (double)a->scale * dot(q_D, key_row(call, &piece->spans[i], rows->kv_head, j, wide_D), a->head_dim);
            double p = exp(s - m);
            const float *v_D = value_row(call, &piece->spans[i], rows->kv_head, j, wide_D);
            l += p;
            for (int64_t d = 0; d < a->head_dim; d++)
                sum_D[d] += p * (double)v_D[d];
        }
    int blind = m == -(double)INFINITY;
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

/* P and dS of one pair. */
static void pair(const fur_attention_call *call, const fur_attention_rows *rows, int64_t v, const float *k_D,
                 const float *v_D, double *p, double *ds)
{
    const fur_attention_args *a = call->args;
    const float *q_D = a->q_THD + fur_attention_offset(call, rows, v, a->ldq);
    const float *o_D = a->o_THD + fur_attention_offset(call, rows, v, a->ldo);
    const float *do_D = a->do_THD + fur_attention_offset(call, rows, v, a->lddo);
    double lse = (double)*fur_attention_lse(call, rows, v);
    double t = (double)a->scale * dot(q_D, k_D, a->head_dim) - lse;
    *p = lse == -(double)INFINITY ? 0 : exp(t > 0 ? 0 : t);
    *ds = *p * (dot(do_D, v_D, a->head_dim) - dot(do_D, o_D, a->head_dim));
}

/* dk and dv of key j of a span, over all pieces [first, last) that have the span. */
static void key_gradient(const fur_attention_call *call, int64_t kv_head, int64_t first, int64_t last,
                         const fur_key_span *span, int64_t j)
{
    const fur_attention_args *a = call->args;
    int64_t to = j * a->lddk + kv_head * a->head_dim;
    float wide_k[FUR_ATTENTION_HEAD_DIM], wide_v[FUR_ATTENTION_HEAD_DIM];
    const float *k_D = key_row(call, span, kv_head, j, wide_k), *v_D = value_row(call, span, kv_head, j, wide_v);
    double dk_D[FUR_ATTENTION_HEAD_DIM] = {0}, dv_D[FUR_ATTENTION_HEAD_DIM] = {0};
    for (int64_t r = first; r < last; r++) {
        fur_attention_rows rows = fur_attention_rows_of(call, &call->runs[r], kv_head);
        int64_t seeing = fur_attention_first_seeing(call, rows.piece, span->first_position + j);
        for (int64_t v = fur_max_i64(0, seeing); v < rows.end; v++) {
            const float *q_D = a->q_THD + fur_attention_offset(call, &rows, v, a->ldq);
            const float *do_D = a->do_THD + fur_attention_offset(call, &rows, v, a->lddo);
            double p, ds;
            pair(call, &rows, v, k_D, v_D, &p, &ds);
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
        int64_t number = 0; /* of the key */
        next = fur_attention_next_keys(call, r);
        for (int64_t i = 0; i < piece->span_count; i++)
            for (int64_t j = 0; j < piece->spans[i].count; j++, number++)
                if (fur_attention_owns(call, &call->runs[r], number / FUR_ATTENTION_KEYS, chunk))
                    key_gradient(call, kv_head, r, next, &piece->spans[i], j);
    }
}

static void finish(const fur_attention_call *call, const fur_attention_rows *rows)
{
    const fur_attention_args *a = call->args;
    float wide_k[FUR_ATTENTION_HEAD_DIM], wide_v[FUR_ATTENTION_HEAD_DIM];
    for (int64_t v = rows->begin; v < rows->end; v++) {
        float *dq_D = a->dq_THD + fur_attention_offset(call, rows, v, a->lddq);
        double sum_D[FUR_ATTENTION_HEAD_DIM] = {0};
        for (int64_t i = 0; i < rows->piece->span_count; i++) {
            const fur_key_span *span = &rows->piece->spans[i];
            for (int64_t j = 0; j < visible(call, rows->piece, span, v); j++) {
                const float *k_D = key_row(call, span, rows->kv_head, j, wide_k);
                double p, ds;
                pair(call, rows, v, k_D, value_row(call, span, rows->kv_head, j, wide_v), &p, &ds);
                for (int64_t d = 0; d < a->head_dim; d++)
                    sum_D[d] += (double)a->scale * ds * (double)k_D[d];
            }
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
