/* SPDX-License-Identifier: Apache-2.0 */
/* Attention in double, as its formulas stand (op/attention/attention.h, op/far/far.h): for every query and head one
 * logit after the other, of all its keys. A key that is seen one by one has the weight e^s; a far one e^l P(t), with
 *
 *   l = b + B q^.kbar + B qbar.k~,  t = B q~.k~
 *   de^l P = e^l (P dl + P' dt)
 *
 * in which no array of features is; so it says nothing about them, and a test of these functions against the float
 * ones does. */
#include <math.h>
#include <omp.h>
#include <string.h>

#include "api/operators.h"
#include "base/size.h"

typedef struct f64_run {
    fur_operator_attention_job job;
    fur_arena arena;
    int threads;
    int64_t longest; /* document, keys */
    double *scratch; /* of thread 0: pairs of the row, then its work; */
    int64_t doubles; /* of each thread */
    const double *q, *k, *v;
    double *o, *lse; /* written by forward, read by backward; lse may be NULL forward */
    const double *d_o;
    double *dq, *dk, *dv, *dsink, *dbias;
} f64_run;

/* A query: head h of query row `row`, at `position` of a document whose first key is row `start`. */
typedef struct f64_query {
    int64_t row, head, kv_head, position, start, length;
    const double *q;
} f64_query;

/* What a query makes of a key. weight = e^logit * factor; logit -infinity: it does not see it. */
typedef struct f64_pair {
    double logit, factor;
    double slope; /* near: d logit / d (scale q.k). Far: d factor / d t */
    double keep;  /* 0 or 1 / (1 - dropout); without dropout 1 */
    int far;
} f64_pair;

static double dot(const double *a, const double *b, int64_t count)
{
    double sum = 0;
    for (int64_t d = 0; d < count; d++)
        sum += a[d] * b[d];
    return sum;
}

/* Whether the query sees key j of its document: 1 one by one, 2 as a far key, 0 not at all. */
static int sees(const fur_attention_shape *shape, const f64_query *x, int64_t j)
{
    int64_t i = x->position, sinks = shape->features.sink_tokens;
    if (shape->causal && j > i)
        return 0;
    if (shape->far.degree == 0) {
        int64_t window = shape->features.window;
        return !window || j < sinks || (j > i - window && j < i + window);
    }
    int64_t from = i / shape->chunk * shape->chunk - shape->near;
    int64_t to = (i / shape->chunk + 1) * shape->chunk + shape->near;
    return j < sinks || (j >= from && j < to) ? 1 : 2;
}

/* Row of unit norm, and what its middle leaves of it; returns 1 / |row|. */
static double centred(const double *row, const float *mean, int64_t D, double *unit, double *rest)
{
    double factor = 1 / sqrt(dot(row, row, D) + 1e-12);
    for (int64_t d = 0; d < D; d++) {
        unit[d] = row[d] * factor;
        rest[d] = unit[d] - (double)mean[d];
    }
    return factor;
}

static double dot_mean(const float *mean, const double *x, int64_t D)
{
    double sum = 0;
    for (int64_t d = 0; d < D; d++)
        sum += (double)mean[d] * x[d];
    return sum;
}

static void far_pair(const f64_run *r, const f64_query *x, const double *k, f64_pair *out)
{
    const fur_far *far = &r->job.shape.far;
    int64_t D = far->head_dim, at = x->kv_head * D;
    double q_unit[FUR_FAR_MOST_DIM], q_rest[FUR_FAR_MOST_DIM], k_unit[FUR_FAR_MOST_DIM], k_rest[FUR_FAR_MOST_DIM];
    double B = r->job.s.bound;
    centred(x->q, far->query_mean_KD + at, D, q_unit, q_rest);
    centred(k, far->key_mean_KD + at, D, k_unit, k_rest);
    double t = B * dot(q_rest, k_rest, D);
    out->logit = B * dot_mean(far->key_mean_KD + at, q_unit, D) + B * dot_mean(far->query_mean_KD + at, k_rest, D);
    out->logit += far->bias_H ? (double)far->bias_H[x->head] : 0;
    out->factor = out->slope = 0;
    const float *c = far->coefficient_KP + x->kv_head * (far->degree + 1);
    for (int64_t l = far->degree; l >= 0; l--) {
        out->slope = out->slope * t + out->factor;
        out->factor = out->factor * t + (double)c[l];
    }
}

static f64_pair pair_of(const f64_run *r, const f64_query *x, int64_t j)
{
    const fur_attention_shape *shape = &r->job.shape;
    const fur_attention_features *f = &shape->features;
    int64_t D = shape->head_dim;
    const double *k = r->k + ((x->start + j) * shape->kv_heads + x->kv_head) * D;
    f64_pair out = {.logit = -(double)INFINITY, .factor = 1, .slope = 1, .keep = 1};
    int seen = sees(shape, x, j);
    out.far = seen == 2;
    if (out.far)
        far_pair(r, x, k, &out);
    if (seen != 1)
        return out;
    out.logit = r->job.scale * dot(x->q, k, D);
    if (r->job.s.softcap > 0) {
        double t = tanh(out.logit / r->job.s.softcap);
        out.logit = r->job.s.softcap * t;
        out.slope = (1 - t) * (1 + t);
    }
    if (f->alibi)
        out.logit -= fur_attention_slope(shape->heads, x->head) * fabs((double)(x->position - j));
    if (f->dropout > 0) {
        uint32_t draw = fur_attention_draw(f->dropout_key, x->head, x->start + x->position, j);
        out.keep = draw < (uint32_t)fmin((double)f->dropout * 0x1p32, 0xffffffffp0) ? 0 : 1 / (1 - (double)f->dropout);
    }
    return out;
}

/* All pairs of a row, and its log of the sum; NaN where that is not positive. */
static double row_of(const f64_run *r, const f64_query *x, f64_pair *pairs)
{
    const float *sink_H = r->job.shape.features.sink_H;
    double max = sink_H ? (double)sink_H[x->head] : (double)-INFINITY, sum = 0;
    for (int64_t j = 0; j < x->length; j++) {
        pairs[j] = pair_of(r, x, j);
        max = fmax(max, pairs[j].logit);
    }
    if (isinf(max) && max < 0)
        return max;
    for (int64_t j = 0; j < x->length; j++)
        if (!(isinf(pairs[j].logit) && pairs[j].logit < 0))
            sum += exp(pairs[j].logit - max) * pairs[j].factor;
    if (sink_H)
        sum += exp((double)sink_H[x->head] - max);
    return sum > 0 || isnan(sum) ? max + log(sum) : (double)NAN;
}

static int is_seen(const f64_pair *pair)
{
    return !(isinf(pair->logit) && pair->logit < 0);
}

static f64_query query_of(const f64_run *r, int64_t document, const fur_operator_segment *segment, int64_t i,
                          int64_t head)
{
    const fur_operator_attention *s = &r->job.s;
    int64_t start = r->job.documents.offsets[document], row = segment->query + i;
    return (f64_query){.row = row,
                       .head = head,
                       .kv_head = head / (s->heads / s->kv_heads),
                       .position = segment->first + i - start,
                       .start = start,
                       .length = r->job.documents.offsets[document + 1] - start,
                       .q = r->q + (row * s->heads + head) * s->head_dim};
}

static int64_t document_at(const f64_run *r, int64_t key)
{
    int64_t document = 0;
    while (r->job.documents.offsets[document + 1] <= key)
        document++;
    return document;
}

static f64_pair *pairs_of_thread(const f64_run *r)
{
    return (f64_pair *)(void *)(r->scratch + omp_get_thread_num() * r->doubles);
}

static void forward_row(const f64_run *r, const f64_query *x, f64_pair *pairs)
{
    const fur_attention_shape *shape = &r->job.shape;
    int64_t D = shape->head_dim;
    double *o = r->o + (x->row * shape->heads + x->head) * D, lse = row_of(r, x, pairs);
    memset(o, 0, (size_t)D * sizeof *o);
    r->lse[x->row * shape->heads + x->head] = lse;
    for (int64_t j = 0; j < x->length; j++) {
        if (!is_seen(&pairs[j]))
            continue;
        const double *v = r->v + ((x->start + j) * shape->kv_heads + x->kv_head) * D;
        double p = exp(pairs[j].logit - lse) * pairs[j].factor * pairs[j].keep;
        for (int64_t d = 0; d < D && !(pairs[j].keep < 1); d++)
            o[d] += p * v[d];
    }
}

/* Gradient by a row of unit norm becomes one by the row, and is added. */
static void through_norm(const double *row, const double *d_unit, int64_t D, double *out)
{
    double factor = 1 / sqrt(dot(row, row, D) + 1e-12), along = dot(row, d_unit, D) * factor * factor;
    for (int64_t d = 0; d < D; d++)
        out[d] += factor * (d_unit[d] - row[d] * along);
}

/* g: the gradient by the pair's weight times the row's sum, e^-lse of it. */
static void far_backward(const f64_run *r, const f64_query *x, const f64_pair *pair, const double *k, double g,
                         double lse, double *dq, double *dk)
{
    const fur_far *far = &r->job.shape.far;
    int64_t D = far->head_dim, at = x->kv_head * D;
    double q_unit[FUR_FAR_MOST_DIM], q_rest[FUR_FAR_MOST_DIM], k_unit[FUR_FAR_MOST_DIM], k_rest[FUR_FAR_MOST_DIM];
    double B = r->job.s.bound, size = exp(pair->logit - lse) * g, by_l = size * pair->factor, by_t = size * pair->slope;
    centred(x->q, far->query_mean_KD + at, D, q_unit, q_rest);
    centred(k, far->key_mean_KD + at, D, k_unit, k_rest);
    for (int64_t d = 0; d < D; d++) {
        double key_mean = (double)far->key_mean_KD[at + d], query_mean = (double)far->query_mean_KD[at + d];
        q_unit[d] = B * (by_l * key_mean + by_t * k_rest[d]);
        k_unit[d] = B * (by_l * query_mean + by_t * q_rest[d]);
    }
    through_norm(x->q, q_unit, D, dq);
    through_norm(k, k_unit, D, dk);
    if (r->dbias)
        r->dbias[x->head] += by_l;
}

static void backward_row(const f64_run *r, const f64_query *x, f64_pair *pairs)
{
    const fur_attention_shape *shape = &r->job.shape;
    int64_t D = shape->head_dim, at = (x->row * shape->heads + x->head) * D;
    const double *d_o = r->d_o + at;
    double *dq = r->dq + at, delta = dot(d_o, r->o + at, D), lse = r->lse[x->row * shape->heads + x->head];
    row_of(r, x, pairs);
    for (int64_t j = 0; j < x->length; j++) {
        const f64_pair *pair = &pairs[j];
        if (!is_seen(pair))
            continue;
        int64_t key = ((x->start + j) * shape->kv_heads + x->kv_head) * D;
        const double *k = r->k + key, *v = r->v + key;
        int dropped = pair->keep < 1;
        double p = exp(pair->logit - lse) * pair->factor, g = (dropped ? 0 : pair->keep * dot(d_o, v, D)) - delta;
        for (int64_t d = 0; d < D && !dropped; d++)
            r->dv[key + d] += p * pair->keep * d_o[d];
        if (pair->far) {
            far_backward(r, x, pair, k, g, lse, dq, r->dk + key);
            continue;
        }
        double ds = r->job.scale * p * g * pair->slope;
        for (int64_t d = 0; d < D; d++) {
            dq[d] += ds * k[d];
            r->dk[key + d] += ds * x->q[d];
        }
    }
    if (r->dsink)
        r->dsink[x->head] -= exp((double)shape->features.sink_H[x->head] - lse) * delta;
}

/* Queries of one segment and one key head, by each head in turn. */
static void walk(const f64_run *r, const fur_operator_segment *segment, int64_t first_head, int64_t heads,
                 void (*row)(const f64_run *, const f64_query *, f64_pair *))
{
    f64_pair *pairs = pairs_of_thread(r);
    int64_t document = segment->count > 0 ? document_at(r, segment->first) : 0;
    for (int64_t i = 0; i < segment->count; i++) {
        while (r->job.documents.offsets[document + 1] <= segment->first + i)
            document++;
        for (int64_t h = first_head; h < first_head + heads; h++) {
            f64_query x = query_of(r, document, segment, i, h);
            row(r, &x, pairs);
        }
    }
}

static void over_heads(const f64_run *r, void (*row)(const f64_run *, const f64_query *, f64_pair *))
{
    int64_t kv_heads = r->job.s.kv_heads, group = r->job.s.heads / kv_heads;
#pragma omp parallel for schedule(dynamic, 1) num_threads(r->threads) if (kv_heads > 1)
    for (int64_t h = 0; h < kv_heads; h++)
        for (int64_t i = 0; i < r->job.segments; i++) {
            fur_operator_segment segment = fur_operator_segment_of(&r->job, i);
            walk(r, &segment, h * group, group, row);
        }
}

static void lay_out(f64_run *r, int backward, fur_arena *arena)
{
    fur_operator_far_constants(&r->job, arena);
    r->doubles = fur_div_up(r->longest * (int64_t)sizeof(f64_pair), (int64_t)sizeof(double));
    r->scratch = fur_arena_push(arena, r->threads * r->doubles * (int64_t)sizeof(double));
    if (!backward && !r->lse)
        r->lse = fur_arena_push(arena, r->job.s.queries * r->job.s.heads * (int64_t)sizeof(double));
}

static fur_status begin(fur_context *context, const fur_operator_attention *settings, int backward, f64_run *r)
{
    FUR_TRY(fur_operator_attention_check(context, settings, &r->job));
    if (!r->job.documents.offsets)
        r->job.documents.offsets = r->job.whole;
    for (int64_t i = 0; i < r->job.s.documents; i++)
        r->longest = fur_max_i64(r->longest, r->job.documents.offsets[i + 1] - r->job.documents.offsets[i]);
    r->threads = (int)fur_min_i64(context->exec.threads, r->job.s.kv_heads);
    double *lse = r->lse;
    fur_arena counting = fur_arena_counting();
    lay_out(r, backward, &counting);
    r->lse = lse;
    FUR_TRY(fur_operator_arena(&context->error, r->job.what, counting.peak, settings->memory_bytes, &r->arena));
    lay_out(r, backward, &r->arena);
    return FUR_OK;
}

fur_status fur_operator_attention_forward_f64(fur_context *context, const fur_operator_attention *settings,
                                              const double *q_THD, const double *k_SKD, const double *v_SKD,
                                              double *o_THD, double *lse_TH)
{
    f64_run r = {.q = q_THD, .k = k_SKD, .v = v_SKD, .o = o_THD, .lse = lse_TH};
    FUR_TRY(begin(context, settings, 0, &r));
    over_heads(&r, forward_row);
    fur_status status = FUR_OK;
    for (int64_t i = 0; fur_operator_has_far(&r.job) && status == FUR_OK && i < r.job.s.queries * r.job.s.heads; i++)
        if (isnan(r.lse[i]))
            status =
                fur_error_set(&context->error, FUR_E_NONFINITE, "%s: the sum of head %lld is not positive at row %lld",
                              r.job.what, (long long)(i % r.job.s.heads), (long long)(i / r.job.s.heads));
    fur_arena_destroy(&r.arena);
    return status;
}

fur_status fur_operator_attention_backward_f64(fur_context *context, const fur_operator_attention *settings,
                                               const double *q_THD, const double *k_SKD, const double *v_SKD,
                                               const double *o_THD, const double *lse_TH, const double *do_THD,
                                               const fur_operator_attention_gradients_f64 *out)
{
    f64_run r = {.q = q_THD,
                 .k = k_SKD,
                 .v = v_SKD,
                 .o = (double *)(uintptr_t)o_THD, /* read alone */
                 .lse = (double *)(uintptr_t)lse_TH,
                 .d_o = do_THD,
                 .dq = out->dq_THD,
                 .dk = out->dk_SKD,
                 .dv = out->dv_SKD,
                 .dsink = settings->sink_H ? out->dsink_H : NULL,
                 .dbias = settings->bias_H ? out->dbias_H : NULL};
    FUR_TRY(begin(context, settings, 1, &r));
    const fur_operator_attention *s = &r.job.s;
    size_t key_bytes = (size_t)(s->keys * s->kv_heads * s->head_dim) * sizeof(double);
    memset(r.dq, 0, (size_t)(s->queries * s->heads * s->head_dim) * sizeof(double));
    memset(r.dk, 0, key_bytes);
    memset(r.dv, 0, key_bytes);
    if (r.dsink)
        memset(r.dsink, 0, (size_t)s->heads * sizeof(double));
    if (r.dbias)
        memset(r.dbias, 0, (size_t)s->heads * sizeof(double));
    over_heads(&r, backward_row);
    fur_arena_destroy(&r.arena);
    return FUR_OK;
}
