/* SPDX-License-Identifier: Apache-2.0 */
#include "attention/far_sample.h"

#include <math.h>
#include <string.h>

#include "attention/far_field.h"
#include "attention/far_fit.h"
#include "attention/keys.h"
#include "base/bf16.h"
#include "base/random.h"

/* ---- sums -------------------------------------------------------------------------------------------------------- */

/* Of a sampled query and head, each times e^-maximum. In d S = P (dP - delta): with P = weight, dP = do . v. */
typedef struct query_sums {
    double *maximum, *total, *far_total, *assumed_total; /* of weights; of far ones; with the polynomial's */
    double *o, *near_k, *near_dk, *far_k, *far_dk;       /* sums of P v; P k, P dP k; the same of unit keys */
    double *assumed_o;
} query_sums;

static int64_t query_doubles(int64_t D)
{
    return 6 * D + 4;
}

static query_sums query_sums_at(const fur_far_sample *s, int64_t m, int64_t head)
{
    int64_t D = s->shape->head_dim;
    double *at = s->query_sums + (m * s->shape->heads + head) * query_doubles(D), *v = at + 4;
    return (query_sums){at, at + 1, at + 2, at + 3, v, v + D, v + 2 * D, v + 3 * D, v + 4 * D, v + 5 * D};
}

/* What a certificate is made of. */
typedef struct query_bounds {
    double longest_centred, longest, squares, far_rows, distance, distance_squares;
} query_bounds;
typedef struct key_bounds {
    double longest_centred, longest, value_distance;
} key_bounds;

static query_bounds *query_bounds_of(const fur_far_sample *s, int64_t head)
{
    return (query_bounds *)(void *)s->query_bounds + head;
}

static key_bounds *key_bounds_of(const fur_far_sample *s, int64_t kv_head)
{
    return (key_bounds *)(void *)s->key_bounds + kv_head;
}

void fur_far_sample_reserve(const fur_attention_shape *shape, int64_t most, int64_t block, fur_arena *arena,
                            fur_far_sample *out)
{
    int64_t H = shape->heads, K = shape->kv_heads, D = shape->head_dim, doubles = (int64_t)sizeof(double);
    memset(out, 0, sizeof *out);
    out->most = most;
    out->token = fur_arena_push(arena, most * (int64_t)sizeof(int64_t));
    out->start = fur_arena_push(arena, most * (int64_t)sizeof(int64_t));
    out->length = fur_arena_push(arena, most * (int64_t)sizeof(int64_t));
    float **of_heads[] = {&out->q_MHD, &out->do_MHD, &out->o_MHD, &out->dq_MHD};
    float **of_keys[] = {&out->k_MKD, &out->v_MKD, &out->dk_MKD, &out->dv_MKD};
    for (int i = 0; i < 4; i++) {
        *of_heads[i] = fur_arena_push_f32(arena, most * H * D);
        *of_keys[i] = fur_arena_push_f32(arena, most * K * D);
    }
    out->lse_MH = fur_arena_push_f32(arena, most * H);
    out->query_sums = fur_arena_push(arena, most * H * query_doubles(D) * doubles);
    out->key_sums = fur_arena_push(arena, most * K * 3 * D * doubles);
    out->factor_BH = fur_arena_push_f32(arena, block * H);
    out->delta_BH = fur_arena_push_f32(arena, block * H);
    out->query_bounds = fur_arena_push(arena, H * (int64_t)sizeof(query_bounds));
    out->key_bounds = fur_arena_push(arena, K * (int64_t)sizeof(key_bounds));
    out->centre_KD = fur_arena_push_f32(arena, K * D);
    out->point = fur_arena_push(arena, most * fur_max_i64(most, 2) * doubles);
    out->weight = fur_arena_push(arena, most * fur_max_i64(most, 2) * doubles);
}

static int64_t query_width(const fur_far_sample *s)
{
    return s->shape->heads * s->shape->head_dim;
}

static int64_t group_of(const fur_far_sample *s)
{
    return s->shape->heads / s->shape->kv_heads;
}

void fur_far_sample_begin(fur_far_sample *s, const fur_attention_shape *shape, const fur_documents *documents,
                          uint64_t seed, int assumed)
{
    int64_t D = shape->head_dim;
    s->shape = shape;
    s->documents = documents;
    s->tokens = documents->offsets[documents->count];
    s->count = 0;
    s->assumed = assumed;
    /* selection sampling: each token with the chance that leaves every set of so many alike */
    int64_t document = 0, wanted = fur_min_i64(s->most, s->tokens);
    for (int64_t t = 0; t < s->tokens && s->count < wanted; t++) {
        if (fur_random_uniform(seed, 0x6a7, (uint64_t)t) * (double)(s->tokens - t) >= (double)(wanted - s->count))
            continue;
        while (documents->offsets[document + 1] <= t)
            document++;
        s->token[s->count] = t;
        s->start[s->count] = documents->offsets[document];
        s->length[s->count++] = documents->offsets[document + 1] - documents->offsets[document];
    }
    memset(s->query_sums, 0, (size_t)(s->count * shape->heads * query_doubles(D)) * sizeof(double));
    memset(s->key_sums, 0, (size_t)(s->count * shape->kv_heads * 3 * D) * sizeof(double));
    memset(s->query_bounds, 0, (size_t)shape->heads * sizeof(query_bounds));
    memset(s->key_bounds, 0, (size_t)shape->kv_heads * sizeof(key_bounds));
    memset(s->centre_KD, 0, (size_t)(shape->kv_heads * D) * sizeof(float));
    for (int64_t i = 0; i < s->count * shape->heads; i++)
        s->query_sums[i * query_doubles(D)] = -(double)INFINITY;
}

/* ---- logits ------------------------------------------------------------------------------------------------------ */

static float dot(const float *a, const float *b, int64_t count)
{
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < count; i++)
        sum += a[i] * b[i];
    return sum;
}

/* y += w x */
static void add_row(float w, const float *x, int64_t count, float *y)
{
#pragma omp simd
    for (int64_t i = 0; i < count; i++)
        y[i] += w * x[i];
}

static int is_bounded(const fur_far_sample *s)
{
    return s->shape->far.bound > 0;
}

static float bound_of(const fur_far_sample *s)
{
    return is_bounded(s) ? s->shape->far.bound : 1;
}

/* What makes a row the far field's: 1 / its norm, or with logits that are not bounded `scale`. */
static float unit_factor(const fur_far_sample *s, const float *row, float scale)
{
    return is_bounded(s) ? fur_far_unit_factor(row, s->shape->head_dim) : scale;
}

/* |factor row - mean| */
static double centred_length(const float *row, float factor, const float *mean, int64_t count)
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

static sight sight_of(const fur_attention_shape *shape, int64_t token, int64_t start, int64_t length)
{
    int64_t chunk = (token - start) / shape->chunk;
    sight out = {.from = start, .to = shape->causal ? token + 1 : start + length};
    out.far_from = start + fur_far_sinks(shape);
    out.far_to = start + fur_far_before(shape, chunk);
    out.far_again = shape->causal ? out.to : start + fur_far_behind(shape, length, chunk);
    return out;
}

static int is_far(const sight *see, int64_t row)
{
    return (row >= see->far_from && row < see->far_to) || row >= see->far_again;
}

/* Near logit of a product; *slope: its derivative by that. */
static float near_logit(const fur_attention_shape *shape, float product, float *slope)
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

static float bias_of(const fur_attention_shape *shape, int64_t head)
{
    return shape->far.bias_H ? shape->far.bias_H[head] : 0;
}

/* P(t) / e^t */
static float polynomial_share(const fur_far *far, int64_t kv_head, float t)
{
    const float *c = far->coefficient_KP + kv_head * (far->degree + 1);
    float p = 0;
    for (int64_t l = far->degree; l >= 0; l--)
        p = p * t + c[l];
    return p * expf(-t);
}

/* ---- queries ----------------------------------------------------------------------------------------------------- */

static void bound_queries(fur_far_sample *s, int64_t first, int64_t count, int64_t head, const float *q_THD,
                          const float *o_THD)
{
    const fur_attention_shape *shape = s->shape;
    int64_t D = shape->head_dim, kv_head = head / group_of(s), from, to;
    query_bounds *b = query_bounds_of(s, head);
    fur_documents_touched(s->documents, first, count, &from, &to);
    for (int64_t d = from; d <= to; d++) {
        fur_document_part part = fur_document_part_of(s->documents, d, first, count);
        for (int64_t p = part.first; p <= part.last; p++) {
            int64_t row = part.start + p - first;
            const float *q = q_THD + (row * shape->heads + head) * D, *o = o_THD + (row * shape->heads + head) * D;
            float factor = s->factor_BH[row * shape->heads + head];
            b->longest = fmax(b->longest, (double)factor * sqrt((double)dot(q, q, D)));
            b->longest_centred =
                fmax(b->longest_centred, centred_length(q, factor, shape->far.query_mean_KD + kv_head * D, D));
            double squares = (double)dot(o, o, D), distance;
            b->squares += squares;
            if (!fur_far_any(shape, part.length, p / shape->chunk))
                continue;
            distance = centred_length(o, 1, s->centre_KD + kv_head * D, D);
            b->far_rows++;
            b->distance += distance;
            b->distance_squares += distance * distance;
        }
    }
}

/* What queries of a block add to exact dk and dv of one sampled key: P and dS with the run's own lse and o. */
static void add_to_key(fur_far_sample *s, int64_t first, int64_t count, int64_t m, int64_t kv_head, const float *q_THD,
                       const float *lse_TH, const float *do_THD)
{
    const fur_attention_shape *shape = s->shape;
    int64_t D = shape->head_dim, H = shape->heads, group = group_of(s), token = s->token[m];
    const float *k = s->k_MKD + (m * shape->kv_heads + kv_head) * D,
                *v = s->v_MKD + (m * shape->kv_heads + kv_head) * D;
    double *near_dk = s->key_sums + (m * shape->kv_heads + kv_head) * 3 * D, *far_dk = near_dk + D, *dv = far_dk + D;
    float key_factor = unit_factor(s, k, 1), sums[3 * FUR_FAR_MOST_DIM];
    int64_t from = fur_max_i64(first, shape->causal ? token : s->start[m]);
    int64_t to = fur_min_i64(first + count, s->start[m] + s->length[m]);
    memset(sums, 0, (size_t)(3 * D) * sizeof *sums);
    for (int64_t t = from; t < to; t++) {
        sight see = sight_of(shape, t, s->start[m], s->length[m]);
        int far = is_far(&see, token);
        for (int64_t head = kv_head * group; head < (kv_head + 1) * group; head++) {
            int64_t at = (t - first) * H + head;
            const float *q = q_THD + at * D, *d_o = do_THD + at * D;
            float product = dot(q, k, D), slope, logit;
            if (far) {
                slope = bound_of(s) * s->factor_BH[at];
                logit = slope * key_factor * product + bias_of(shape, head);
            } else {
                logit = near_logit(shape, product, &slope);
            }
            float p = expf(logit - lse_TH[at]), ds = p * (dot(d_o, v, D) - s->delta_BH[at]);
            add_row(ds * slope, q, D, far ? sums + D : sums);
            add_row(p, d_o, D, sums + 2 * D);
        }
    }
    for (int64_t d = 0; d < D; d++) {
        near_dk[d] += (double)sums[d];
        far_dk[d] += (double)sums[D + d];
        dv[d] += (double)sums[2 * D + d];
    }
}

void fur_far_sample_queries(const fur_exec *exec, fur_far_sample *s, int64_t first, int64_t count, const float *q_THD,
                            const float *o_THD, const float *lse_TH, const float *do_THD, const float *dq_THD)
{
    const fur_attention_shape *shape = s->shape;
    int64_t D = shape->head_dim, H = shape->heads, K = shape->kv_heads, width = query_width(s);
    size_t bytes = (size_t)width * sizeof(float);
    for (int64_t m = 0; m < s->count; m++) {
        int64_t row = s->token[m] - first;
        if (row < 0 || row >= count)
            continue;
        memcpy(s->q_MHD + m * width, q_THD + row * width, bytes);
        memcpy(s->o_MHD + m * width, o_THD + row * width, bytes);
        memcpy(s->do_MHD + m * width, do_THD + row * width, bytes);
        memcpy(s->dq_MHD + m * width, dq_THD + row * width, bytes);
        memcpy(s->lse_MH + m * H, lse_TH + row * H, (size_t)H * sizeof(float));
    }
#pragma omp parallel for schedule(static) num_threads(exec->threads) if (count * H > 64)
    for (int64_t i = 0; i < count * H; i++) {
        s->factor_BH[i] = unit_factor(s, q_THD + i * D, shape->far.scale);
        s->delta_BH[i] = dot(do_THD + i * D, o_THD + i * D, D);
    }
#pragma omp parallel for schedule(static) num_threads(exec->threads) if (H > 1)
    for (int64_t head = 0; head < H; head++)
        bound_queries(s, first, count, head, q_THD, o_THD);
    if (s->assumed)
        return;
#pragma omp parallel for schedule(dynamic, 1) num_threads(exec->threads) if (s->count * K > 1)
    for (int64_t i = 0; i < s->count * K; i++)
        add_to_key(s, first, count, i / K, i % K, q_THD, lse_TH, do_THD);
}

/* ---- keys -------------------------------------------------------------------------------------------------------- */

static const float *key_row(const fur_far_sample *s, const fur_attention_state *state, int64_t row, int64_t kv_head,
                            float *wide)
{
    int64_t at = fur_keys_offset(s->shape, state, row) + kv_head * s->shape->head_dim;
    return fur_bf16_row(state->k_SKD, state->k_bf16_SKD, at, s->shape->head_dim, wide);
}

static const float *value_row(const fur_far_sample *s, const fur_attention_state *state, int64_t row, int64_t kv_head,
                              float *wide)
{
    int64_t at = fur_keys_offset(s->shape, state, row) + kv_head * s->shape->head_dim;
    return fur_bf16_row(state->v_SKD, state->v_bf16_SKD, at, s->shape->head_dim, wide);
}

void fur_far_sample_keys(fur_far_sample *s, const fur_attention_state *state, int64_t first, int64_t count)
{
    int64_t D = s->shape->head_dim, K = s->shape->kv_heads;
    float wide[FUR_FAR_MOST_DIM];
    for (int64_t m = 0; m < s->count; m++) {
        if (s->token[m] < first || s->token[m] >= first + count)
            continue;
        for (int64_t h = 0; h < K; h++) {
            int64_t at = (m * K + h) * D;
            memcpy(s->k_MKD + at, key_row(s, state, s->token[m], h, wide), (size_t)D * sizeof(float));
            memcpy(s->v_MKD + at, value_row(s, state, s->token[m], h, wide), (size_t)D * sizeof(float));
            add_row(1 / (float)s->count, s->v_MKD + at, D, s->centre_KD + h * D);
        }
    }
}

/* Factors of unit keys, and qbar . k^ where the polynomial is computed here. */
static void bound_keys(fur_far_sample *s, const fur_attention_state *state, int64_t first, int64_t count,
                       int64_t kv_head)
{
    int64_t D = s->shape->head_dim, K = s->shape->kv_heads;
    const float *query_mean = s->shape->far.query_mean_KD + kv_head * D;
    key_bounds *b = key_bounds_of(s, kv_head);
    float wide[FUR_FAR_MOST_DIM];
    for (int64_t t = 0; t < count; t++) {
        const float *k = key_row(s, state, first + t, kv_head, wide);
        float factor = unit_factor(s, k, 1);
        s->factor_BH[t * K + kv_head] = factor;
        s->delta_BH[t * K + kv_head] = s->assumed ? factor * dot(query_mean, k, D) : 0;
        b->longest = fmax(b->longest, (double)factor * sqrt((double)dot(k, k, D)));
        b->longest_centred =
            fmax(b->longest_centred, centred_length(k, factor, s->shape->far.key_mean_KD + kv_head * D, D));
        const float *v = value_row(s, state, first + t, kv_head, wide);
        b->value_distance = fmax(b->value_distance, centred_length(v, 1, s->centre_KD + kv_head * D, D));
    }
}

enum { TILE = 64 };

/* Logits of a tile of keys under one sampled query. */
typedef struct tile {
    int64_t count;
    int far[TILE];
    float logit[TILE], slope[TILE], share[TILE]; /* share: of the polynomial in the exponential */
} tile;

/* One sampled query and head, and what of its far logits does not depend on the key. */
typedef struct sampled_query {
    int64_t head, kv_head;
    const float *q, *d_o;
    sight see;
    float slope, bias, centring; /* bound x factor; B (q^.kbar - qbar.kbar) */
} sampled_query;

static sampled_query sampled_query_of(const fur_far_sample *s, int64_t m, int64_t head)
{
    const fur_attention_shape *shape = s->shape;
    int64_t D = shape->head_dim, kv_head = head / group_of(s), at = (m * shape->heads + head) * D;
    const float *q = s->q_MHD + at, *key_mean = shape->far.key_mean_KD + kv_head * D;
    float factor = unit_factor(s, q, shape->far.scale), bound = bound_of(s);
    return (sampled_query){
        .head = head,
        .kv_head = kv_head,
        .q = q,
        .d_o = s->do_MHD + at,
        .see = sight_of(shape, s->token[m], s->start[m], s->length[m]),
        .slope = bound * factor,
        .bias = bias_of(shape, head),
        .centring = bound * (factor * dot(q, key_mean, D) - dot(shape->far.query_mean_KD + kv_head * D, key_mean, D))};
}

static void logits_of_tile(const fur_far_sample *s, const fur_attention_state *state, const sampled_query *query,
                           int64_t first, int64_t row, tile *out)
{
    const fur_attention_shape *shape = s->shape;
    int64_t D = shape->head_dim, K = shape->kv_heads;
    float wide[FUR_FAR_MOST_DIM];
    for (int64_t j = 0; j < out->count; j++) {
        float product = dot(query->q, key_row(s, state, row + j, query->kv_head, wide), D);
        int64_t at = (row + j - first) * K + query->kv_head;
        out->far[j] = is_far(&query->see, row + j);
        out->share[j] = 1;
        if (!out->far[j]) {
            out->logit[j] = near_logit(shape, product, &out->slope[j]);
            continue;
        }
        float logit = query->slope * s->factor_BH[at] * product;
        out->slope[j] = s->factor_BH[at]; /* of the unit key in the sums */
        out->logit[j] = logit + query->bias;
        if (s->assumed)
            out->share[j] =
                polynomial_share(&shape->far, query->kv_head, logit - query->centring - bound_of(s) * s->delta_BH[at]);
    }
}

static void scale_sums(const query_sums *sums, int64_t doubles, double factor)
{
    for (int64_t i = 1; i < doubles; i++)
        sums->maximum[i] *= factor;
}

static void add_tile(const fur_far_sample *s, const fur_attention_state *state, const sampled_query *query, int64_t row,
                     const tile *t, const query_sums *sums)
{
    int64_t D = s->shape->head_dim;
    float most = t->logit[0], wide[FUR_FAR_MOST_DIM], part[6 * FUR_FAR_MOST_DIM];
    for (int64_t j = 1; j < t->count; j++)
        most = fmaxf(most, t->logit[j]);
    if ((double)most > *sums->maximum) {
        scale_sums(sums, query_doubles(D), exp(*sums->maximum - (double)most));
        *sums->maximum = (double)most;
    }
    memset(part, 0, (size_t)(6 * D) * sizeof *part);
    for (int64_t j = 0; j < t->count; j++) {
        float p = expf(t->logit[j] - (float)*sums->maximum);
        const float *v = value_row(s, state, row + j, query->kv_head, wide);
        *sums->total += (double)p;
        *sums->far_total += t->far[j] ? (double)p : 0;
        add_row(p, v, D, part);
        if (s->assumed) {
            *sums->assumed_total += (double)(p * t->share[j]);
            add_row(p * t->share[j], v, D, part + 5 * D);
            continue;
        }
        float dp = dot(query->d_o, v, D);
        const float *k = key_row(s, state, row + j, query->kv_head, wide);
        float *sum = part + (t->far[j] ? 3 * D : D);
        add_row(p * t->slope[j], k, D, sum);
        add_row(p * t->slope[j] * dp, k, D, sum + D);
    }
    for (int64_t i = 0; i < 6 * D; i++)
        sums->o[i] += (double)part[i];
}

static void stream_keys(const fur_far_sample *s, const fur_attention_state *state, int64_t first, int64_t count,
                        int64_t m, int64_t head)
{
    sampled_query query = sampled_query_of(s, m, head);
    query_sums sums = query_sums_at(s, m, head);
    int64_t to = fur_min_i64(first + count, query.see.to);
    for (int64_t row = fur_max_i64(first, query.see.from); row < to; row += TILE) {
        tile t = {.count = fur_min_i64(TILE, to - row)};
        logits_of_tile(s, state, &query, first, row, &t);
        add_tile(s, state, &query, row, &t, &sums);
    }
}

void fur_far_sample_gradients(const fur_exec *exec, fur_far_sample *s, const fur_attention_state *state, int64_t first,
                              int64_t count, const float *dk_TKD, const float *dv_TKD)
{
    int64_t H = s->shape->heads, K = s->shape->kv_heads, width = K * s->shape->head_dim;
    for (int64_t m = 0; m < s->count; m++) {
        int64_t row = s->token[m] - first;
        if (row < 0 || row >= count)
            continue;
        memcpy(s->dk_MKD + m * width, dk_TKD + row * width, (size_t)width * sizeof(float));
        memcpy(s->dv_MKD + m * width, dv_TKD + row * width, (size_t)width * sizeof(float));
    }
#pragma omp parallel for schedule(static) num_threads(exec->threads) if (K > 1)
    for (int64_t h = 0; h < K; h++)
        bound_keys(s, state, first, count, h);
#pragma omp parallel for schedule(dynamic, 1) num_threads(exec->threads)
    for (int64_t i = 0; i < s->count * H; i++)
        stream_keys(s, state, first, count, i / H, i % H);
}

/* ---- what comes of it -------------------------------------------------------------------------------------------- */

/* sqrt(r), r = sum of `squares` / sum of `of`, from a sample of `count` among `all`. The interval is the jackknife's:
 * of log r with one row left out in turn, (1 - count / all) (count - 1) / count times the sum of squared differences
 * from their mean is the variance. */
static fur_sampled_error ratio_of(int64_t count, int64_t all, const double *squares, const double *of)
{
    double a = 0, b = 0, mean = 0, spread = 0, fourth = 0, n = (double)count;
    for (int64_t i = 0; i < count; i++) {
        a += squares[i];
        b += of[i];
    }
    if (!(b > 0) || !(a > 0) || !isfinite(a)) {
        double value = a > 0 ? (double)INFINITY : 0;
        return (fur_sampled_error){value, value, value};
    }
    fur_sampled_error out = {.value = sqrt(a / b), .low = sqrt(a / b), .high = sqrt(a / b)};
    if (count < 2 || count == all)
        return out;
    for (int pass = 0; pass < 2; pass++)
        for (int64_t i = 0; i < count; i++) { /* a row that is all there is counts as if it were nearly all */
            double rest = log(fmax(a - squares[i], 1e-3 * a) / fmax(b - of[i], 1e-3 * b));
            double square = (rest - mean) * (rest - mean);
            if (pass == 0)
                mean += rest / n;
            spread += pass * square;
            fourth += pass * square * square;
        }
    double rows = spread * spread / fourth;           /* that count */
    double quantile = 1.96 + 2.4 / fmax(1, rows - 1); /* Student's, nearly */
    double reach = 0.5 * quantile * sqrt((1 - n / (double)all) * spread * (n - 1) / n);
    out.low *= exp(-reach);
    out.high *= exp(reach);
    return out;
}

/* The gradient by a row from that by its unit row and that by itself. */
static void through_unit(const fur_far_sample *s, const float *row, float factor, const double *near, double *unit_D,
                         double *out_D)
{
    int64_t D = s->shape->head_dim;
    double along = 0;
    for (int64_t d = 0; d < D && is_bounded(s); d++)
        along += unit_D[d] * (double)factor * (double)row[d];
    for (int64_t d = 0; d < D; d++)
        out_D[d] = near[d] + (double)factor * (unit_D[d] - along * (double)factor * (double)row[d]);
}

static void difference(const float *got, const double *exact, int64_t count, double *squares, double *of)
{
    *squares = *of = 0;
    for (int64_t d = 0; d < count; d++) {
        *squares += ((double)got[d] - exact[d]) * ((double)got[d] - exact[d]);
        *of += exact[d] * exact[d];
    }
}

/* o, dq and the far share of one sampled query from its sums. */
static void finish_query(const fur_far_sample *s, int64_t m, int64_t head, double *o, double *dq, double *far_share)
{
    const fur_attention_shape *shape = s->shape;
    query_sums sums = query_sums_at(s, m, head);
    sampled_query query = sampled_query_of(s, m, head);
    int64_t D = shape->head_dim;
    double total = *sums.total, delta = 0, near[FUR_FAR_MOST_DIM], unit[FUR_FAR_MOST_DIM];
    if (shape->features.sink_H)
        total += exp((double)shape->features.sink_H[head] - *sums.maximum);
    for (int64_t d = 0; d < D; d++) {
        o[d] = sums.o[d] / total;
        delta += o[d] * (double)query.d_o[d];
    }
    for (int64_t d = 0; d < D; d++) {
        near[d] = (sums.near_dk[d] - delta * sums.near_k[d]) / total;
        unit[d] = (double)bound_of(s) * (sums.far_dk[d] - delta * sums.far_k[d]) / total;
    }
    through_unit(s, query.q, query.slope / bound_of(s), near, unit, dq);
    *far_share = *sums.far_total / total;
}

/* What the polynomial would have given, where the layer is exact. */
static void finish_assumed(const fur_far_sample *s, int64_t m, int64_t head, float *o_D)
{
    query_sums sums = query_sums_at(s, m, head);
    double total = *sums.assumed_total;
    if (s->shape->features.sink_H)
        total += exp((double)s->shape->features.sink_H[head] - *sums.maximum);
    for (int64_t d = 0; d < s->shape->head_dim; d++)
        o_D[d] = total > 0 ? (float)(sums.assumed_o[d] / total) : INFINITY;
}

static void query_errors(fur_far_sample *s, int64_t head, fur_head_error *out)
{
    int64_t D = s->shape->head_dim;
    double *o_squares = s->point, *o_of = s->point + s->count, *dq_squares = s->weight, *dq_of = s->weight + s->count;
    double o[FUR_FAR_MOST_DIM], dq[FUR_FAR_MOST_DIM], share, shares = 0;
    float assumed[FUR_FAR_MOST_DIM];
    for (int64_t m = 0; m < s->count; m++) {
        int64_t at = (m * s->shape->heads + head) * D;
        finish_query(s, m, head, o, dq, &share);
        shares += share;
        if (s->assumed)
            finish_assumed(s, m, head, assumed);
        difference(s->assumed ? assumed : s->o_MHD + at, o, D, &o_squares[m], &o_of[m]);
        difference(s->dq_MHD + at, dq, D, &dq_squares[m], &dq_of[m]);
    }
    out->tokens = s->count;
    out->far_share = shares / (double)s->count;
    out->o = ratio_of(s->count, s->tokens, o_squares, o_of);
    out->dq = ratio_of(s->count, s->tokens, dq_squares, dq_of);
}

static void key_errors(fur_far_sample *s, int64_t kv_head, fur_head_error *out)
{
    int64_t D = s->shape->head_dim;
    double *dk_squares = s->point, *dk_of = s->point + s->count, *dv_squares = s->weight, *dv_of = s->weight + s->count;
    for (int64_t m = 0; m < s->count; m++) {
        int64_t at = (m * s->shape->kv_heads + kv_head) * D;
        double *near_dk = s->key_sums + 3 * at, *far_dk = near_dk + D, *dv = far_dk + D, dk[FUR_FAR_MOST_DIM];
        through_unit(s, s->k_MKD + at, unit_factor(s, s->k_MKD + at, 1), near_dk, far_dk, dk);
        difference(s->dk_MKD + at, dk, D, &dk_squares[m], &dk_of[m]);
        difference(s->dv_MKD + at, dv, D, &dv_squares[m], &dv_of[m]);
    }
    out->dk = ratio_of(s->count, s->tokens, dk_squares, dk_of);
    out->dv = ratio_of(s->count, s->tokens, dv_squares, dv_of);
}

/* With weights w~ = w (1 + delta), |delta| <= e, o~ the output computed, c a point, V the longest |v - c|: o~ - o is
 * sum w delta (v - o) / sum w (1 + delta), and o - o~ is sum w~ delta' (v - o~) / (1 - sum w~ delta'), delta' =
 * delta / (1 + delta). Outputs with exact weights are within V of c; with positive ones two of them within 2 V. */
static void certify(const fur_far_sample *s, int64_t head, fur_head_error *out)
{
    const fur_attention_shape *shape = s->shape;
    int64_t D = shape->head_dim, kv_head = head / group_of(s), degree = shape->far.degree;
    const query_bounds *q = query_bounds_of(s, head);
    const key_bounds *k = key_bounds_of(s, kv_head);
    const float *c = shape->far.coefficient_KP + kv_head * (degree + 1);
    double range = fmax(1e-6, (double)bound_of(s) * q->longest_centred * k->longest_centred);
    double error = fur_far_relative_error(c, degree, range), sizes = 0, power = 1;
    for (int64_t l = 0; l <= degree; l++, power *= range)
        sizes += fabs((double)c[l]) * power;
    out->largest = range;
    out->weight_error = isfinite(error) ? error : 1e30;
    /* and what op/far's sums, forward and read, may be off by in f32 */
    error += 2 * (133 + (double)degree) * 0x1p-24 * sizes * exp(range);
    double V = k->value_distance, centre = centred_length(s->centre_KD + kv_head * D, 0, s->centre_KD + kv_head * D, D);
    if (shape->features.sink_H) /* as if 0 were a value */
        V = fmax(V, centre);
    double sum = q->far_rows * V * V + 2 * V * q->distance + q->distance_squares, square = sum;
    if (error < 1) {
        double share = fmin(1, error / (1 - error));
        square = fmin(square, q->far_rows * 4 * V * V * share * share);
    }
    if (error < 0.5)
        square = fmin(square, sum * (error / (1 - 2 * error)) * (error / (1 - 2 * error)));
    out->certificate = q->squares > 0 ? fmin(1e30, sqrt(square / q->squares)) : 0;
}

/* Centred logits t of the far pairs of sampled tokens, and attention's weight of each over e^t. Of one query head, or
 * where that is -1 of those of the group in turn. */
static int64_t far_pairs(const fur_far_sample *s, int64_t kv_head, int64_t only_head, const float *query_mean,
                         const float *key_mean, double *point, double *weight)
{
    const fur_attention_shape *shape = s->shape;
    int64_t D = shape->head_dim, group = group_of(s), pairs = 0;
    for (int64_t i = 0; i < s->count; i++) {
        sight see = sight_of(shape, s->token[i], s->start[i], s->length[i]);
        for (int64_t j = 0; j < s->count; j++) {
            int64_t head = only_head >= 0 ? only_head : kv_head * group + (i + j) % group;
            int64_t row = s->token[j];
            if (row < see.from || row >= see.to || !is_far(&see, row))
                continue;
            const float *q = s->q_MHD + (i * shape->heads + head) * D,
                        *k = s->k_MKD + (j * shape->kv_heads + kv_head) * D;
            float qf = unit_factor(s, q, shape->far.scale), kf = unit_factor(s, k, 1);
            double t = 0, whole = 0;
            for (int64_t d = 0; d < D; d++) {
                double x = (double)qf * (double)q[d], y = (double)kf * (double)k[d];
                whole += x * y;
                t += (x - (double)query_mean[d]) * (y - (double)key_mean[d]);
            }
            double B = (double)bound_of(s), rest = B * (whole - t) + (double)bias_of(shape, head);
            point[pairs] = B * t;
            weight[pairs++] = exp(fmin(600, rest - (double)s->lse_MH[i * shape->heads + head]));
        }
    }
    return pairs;
}

void fur_far_sample_end(fur_far_sample *s, fur_head_error *out_H)
{
    const fur_attention_shape *shape = s->shape;
    int64_t D = shape->head_dim;
    for (int64_t head = 0; head < shape->heads; head++) {
        fur_head_error *out = &out_H[head];
        int64_t kv_head = head / group_of(s);
        const fur_sampled_error unknown = {(double)NAN, (double)NAN, (double)NAN};
        *out = (fur_head_error){.head = head, .dk = unknown, .dv = unknown};
        query_errors(s, head, out);
        if (s->assumed)
            out->dq = unknown;
        else
            key_errors(s, kv_head, out);
        certify(s, head, out);
        int64_t pairs = far_pairs(s, kv_head, head, shape->far.query_mean_KD + kv_head * D,
                                  shape->far.key_mean_KD + kv_head * D, s->point, s->weight);
        double sum = 0, first = 0, second = 0;
        for (int64_t i = 0; i < pairs; i++) {
            double w = s->weight[i] * exp(fmin(600, s->point[i])); /* attention's */
            sum += w;
            first += w * s->point[i];
            second += w * s->point[i] * s->point[i];
        }
        out->deviation = sum > 0 ? sqrt(fmax(0, second / sum - first / sum * (first / sum))) : (double)NAN;
    }
}

int fur_far_sample_fit(fur_far_sample *s, int64_t kv_head, fur_far_constants *out)
{
    const fur_attention_shape *shape = s->shape;
    int64_t D = shape->head_dim, group = group_of(s), degree = shape->far.degree;
    float query_mean[FUR_FAR_MOST_DIM] = {0}, key_mean[FUR_FAR_MOST_DIM] = {0};
    for (int64_t m = 0; m < s->count; m++) {
        const float *k = s->k_MKD + (m * shape->kv_heads + kv_head) * D;
        add_row(unit_factor(s, k, 1) / (float)s->count, k, D, key_mean);
        for (int64_t head = kv_head * group; head < (kv_head + 1) * group; head++) {
            const float *q = s->q_MHD + (m * shape->heads + head) * D;
            add_row(unit_factor(s, q, shape->far.scale) / (float)(s->count * group), q, D, query_mean);
        }
    }
    int64_t pairs = far_pairs(s, kv_head, -1, query_mean, key_mean, s->point, s->weight);
    if (pairs < 4 * (degree + 1))
        return 1;
    double query = 1, key = 1;
    if (!is_bounded(s)) {
        query = 0;
        for (int64_t head = kv_head * group; head < (kv_head + 1) * group; head++)
            query = fmax(query, query_bounds_of(s, head)->longest);
        key = key_bounds_of(s, kv_head)->longest;
    }
    query += sqrt((double)dot(query_mean, query_mean, D));
    key += sqrt((double)dot(key_mean, key_mean, D));
    /* a little more than the product: unit rows are rounded */
    double range = (double)bound_of(s) * query * key * (1 + 1e-5);
    fur_far_fit(pairs, s->point, s->weight, is_bounded(s) ? range : 0, degree, out->coefficient_P);
    memcpy(out->query_mean_D, query_mean, (size_t)D * sizeof(float));
    memcpy(out->key_mean_D, key_mean, (size_t)D * sizeof(float));
    out->range = (float)range;
    return 0;
}
