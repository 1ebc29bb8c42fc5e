/* SPDX-License-Identifier: Apache-2.0 */
#include "attention/far_sample.h"

#include <string.h>

#include "attention/far_sums.h"
#include "attention/keys.h"
#include "base/bf16.h"
#include "base/random.h"

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
    out->moment_BHP = fur_arena_push_f32(arena, block * H * (fur_max_i64(shape->far.degree, shape->fine.degree) + 1));
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

static float polynomial(const fur_far *far, int64_t kv_head, float t)
{
    const float *c = far->coefficient_KP + kv_head * (far->degree + 1);
    float p = 0;
    for (int64_t l = far->degree; l >= 0; l--)
        p = p * t + c[l];
    return p;
}

/* ---- queries ----------------------------------------------------------------------------------------------------- */

static void add_moments(const fur_far_sample *s, query_bounds *b, int64_t row, int64_t head, const float *q, float lse,
                        double distance)
{
    const fur_attention_shape *shape = s->shape;
    int64_t D = shape->head_dim, kv_head = head / fur_far_group(s->shape), power = moment_power(s, kv_head);
    const float *moment = s->moment_BHP + (row * shape->heads + head) * moments_of_query(s);
    if (power == 0)
        return;
    float factor = s->factor_BH[row * shape->heads + head];
    double f = (double)bound_of(s->shape) * (double)factor * (double)dot(q, shape->far.key_mean_KD + kv_head * D, D);
    double share = exp(f + (double)fur_far_bias(shape, head) - (double)lse);
    /* a little more than the sums: they are rounded */
    double x = 1.001 * share * (double)moment[0], y = 1.001 * share * fmax(0, (double)moment[power]), d = 1;
    b->x += x;
    b->y += y;
    b->most_x = fmax(b->most_x, x);
    b->most_y = fmax(b->most_y, y);
    for (int i = 0; i < 3; i++) {
        b->xx[i] += d * x * x;
        b->xy[i] += d * x * y;
        b->yy[i] += d * y * y;
        d *= distance;
    }
}

static void bound_queries(fur_far_sample *s, int64_t first, int64_t count, int64_t head, const float *q_THD,
                          const float *o_THD, const float *lse_TH)
{
    const fur_attention_shape *shape = s->shape;
    int64_t D = shape->head_dim, kv_head = head / fur_far_group(s->shape), from, to;
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
            add_moments(s, b, row, head, q, lse_TH[row * shape->heads + head], distance);
        }
    }
}

/* What queries of a block add to exact dk and dv of one sampled key: P and dS with the run's own lse and o. */
static void add_to_key(fur_far_sample *s, int64_t first, int64_t count, int64_t m, int64_t kv_head, const float *q_THD,
                       const float *lse_TH, const float *do_THD)
{
    const fur_attention_shape *shape = s->shape;
    int64_t D = shape->head_dim, H = shape->heads, group = fur_far_group(s->shape), token = s->token[m];
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
                slope = bound_of(s->shape) * s->factor_BH[at];
                logit = slope * key_factor * product + fur_far_bias(shape, head);
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
        bound_queries(s, first, count, head, q_THD, o_THD, lse_TH);
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
    float logit[TILE], slope[TILE];
    float rest[TILE], value[TILE]; /* the polynomial's weight: value e^rest in place of e^logit */
} tile;

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
        out->value[j] = 1;
        if (!out->far[j]) {
            out->rest[j] = out->logit[j] = near_logit(shape, product, &out->slope[j]);
            continue;
        }
        float logit = query->slope * s->factor_BH[at] * product;
        out->slope[j] = s->factor_BH[at]; /* of the unit key in the sums */
        out->logit[j] = logit + query->bias;
        float t = logit - query->centring - bound_of(shape) * s->delta_BH[at];
        out->rest[j] = out->logit[j] - t;
        out->value[j] = polynomial(&shape->far, query->kv_head, t);
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
            float w = t->value[j] * expf(t->rest[j] - (float)*sums->maximum);
            *sums->assumed_total += (double)w;
            add_row(w, v, D, part + 5 * D);
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
