/* SPDX-License-Identifier: Apache-2.0 */
#include "fit/curvature.h"

#include <omp.h>
#include <string.h>

#include "base/size.h"
#include "fit/la.h"

/* ---- layout ------------------------------------------------------------------------------------------------------ */

static void push_sample(const fit_problem *p, fur_arena *arena, int64_t rows, bool scaled, fit_sample *out)
{
    out->row = fur_arena_push(arena, rows * 8);
    out->scale = scaled ? fur_arena_push(arena, rows * 8) : NULL;
    out->at = fur_arena_push(arena, (p->train.count + 1) * 8);
}

void fit_sample_set(const fit_problem *p, int64_t count, const int64_t *row, const double *scale, fit_sample *sample)
{
    int64_t i = 0;
    sample->count = count;
    memmove(sample->row, row, (size_t)count * sizeof *row);
    if (sample->scale)
        memcpy(sample->scale, scale, (size_t)count * sizeof *scale);
    for (int64_t t = 0; t < p->train.count; t++) {
        sample->at[t] = i;
        while (i < count && row[i] < p->train.at[t].row + p->train.at[t].rows)
            i++;
    }
    sample->at[p->train.count] = i;
}

static void every(const fit_problem *p, int64_t stride, fit_sample *sample)
{
    int64_t count = 0;
    for (int64_t row = stride / 2; row < p->n; row += stride)
        sample->row[count++] = row;
    fit_sample_set(p, count, sample->row, NULL, sample);
}

static int64_t probe_stride(const fit_problem *p, int64_t rows)
{
    return fur_max_i64(1, rows / fur_max_i64(FIT_PROBE_ROWS, 2 * fit_d2(p)));
}

/* Multiply-adds of all G from keys alone, a product of d2 x d2 a row included (which counts double, being small),
 * against those from keys and values. With a coarse cut (f16, bf16) what is left out of keys and of values differs. */
static bool twice_pays(const fit_problem *p)
{
    double pairs = (double)p->pairs, d2 = (double)p->d2, dv = (double)p->dv;
    return p->data->a3.shared && p->k.mean && p->data->epsilon < 1e-6 &&
           pairs * (d2 + 1) / 2 + 2 * (double)p->n * d2 * dv < pairs * dv;
}

static void push_scratch(const fit_problem *p, fur_arena *arena, fit_curvature *c)
{
    int64_t R = p->tile_rows, K = p->tile_keys, D2 = fit_d2(p), B = c->real->bytes;
    int64_t widest = fur_max_i64(p->d2, fur_max_i64(p->d3, p->dv));
    c->scratch = fur_arena_push(arena, p->exec->threads * (int64_t)sizeof *c->scratch);
    for (int i = 0; i < p->exec->threads; i++) {
        fit_real_scratch s = {.s = fur_arena_push(arena, R * K * B),
                              .e = fur_arena_push(arena, R * K * B),
                              .t = fur_arena_push(arena, R * D2 * B),
                              .acc = fur_arena_push(arena, (R * widest + D2) * B),
                              .left = fur_arena_push(arena, R * widest * B),
                              .gram = fur_arena_push(arena, D2 * D2 * B),
                              .kr = fur_arena_push(arena, K * p->d2 * c->value_columns * B),
                              .cov = fur_arena_push(arena, c->cov_rows * p->d2 * p->dv * B),
                              .a = fur_arena_push(arena, R * p->d1 * B),
                              .q = fur_arena_push(arena, R * fit_d3(p) * B),
                              .part = fur_arena_push(arena, fur_max_i64(p->d1 * D2, fit_d3(p) * p->dv) * B),
                              .square = fur_arena_push(arena, p->d2 * p->d2 * B),
                              .mk = fur_arena_push(arena, c->cov_rows * p->d2 * B),
                              .mv = fur_arena_push(arena, c->cov_rows * p->dv * B)};
        if (c->newton) {
            s.ds = fur_arena_push(arena, R * K * B);
            s.ck = fur_arena_push(arena, R * K * B);
            s.left_r = fur_arena_push(arena, R * p->d3 * B);
        }
        if (c->scratch)
            c->scratch[i] = s;
    }
}

int64_t fit_kept_weights(const fit_problem *p)
{
    int64_t numbers;
    bool few = fur_mul_ok(p->train.numbers, p->heads, &numbers) && numbers / FIT_KEPT_WEIGHTS < p->n;
    return few ? numbers : 0;
}

static void push_weights(const fit_problem *p, fur_arena *arena, fit_curvature *c)
{
    int64_t at = 0, numbers = fit_kept_weights(p);
    if (numbers == 0)
        return;
    c->weights = fur_arena_push(arena, numbers * c->real->bytes);
    c->weights_at = fur_arena_push(arena, p->train.count * 8);
    for (int64_t t = 0; t < p->train.count && c->weights_at; t++) {
        c->weights_at[t] = at;
        at += p->heads * p->train.at[t].rows * p->train.at[t].keys;
    }
}

fur_status fit_curvature_push(const fit_problem *p, fur_arena *arena, const fit_curvature_shape *shape,
                              fit_curvature *out)
{
    int64_t D2 = fit_d2(p), wide = p->d2 * p->dv, sample_rows = shape->sample_rows;
    fur_fit_route route = shape->route;
    bool newton = shape->newton;
    fit_curvature c = {.real = shape->f64 ? &fit_real_f64 : &fit_real_f32, .route = route, .newton = newton};
    int64_t B = c.real->bytes, rows = sample_rows > 0 ? sample_rows : p->n, most;
    if (!fur_mul_ok(rows, D2 * p->dv * B, &most))
        return fur_error_set(p->exec->error, FUR_E_DOES_NOT_FIT, "the curvature of %lld rows overflows",
                             (long long)rows);
    int64_t d2 = p->k.raw->width, full = d2 * p->dv; /* before the cut: the plan knows no other */
    /* a KR tile of 512 KB stays in the second-level cache; the sums of all G in work, 4 MB, in the third */
    c.value_columns = fur_max_i64(1, fur_min_i64(p->dv, ((int64_t)512 << 10) / (p->tile_keys * d2 * B)));
    c.cov_rows = fur_max_i64(1, fur_min_i64(p->tile_rows, ((int64_t)4 << 20) / (full * B)));
    c.k = fur_arena_push(arena, p->m * p->d2 * B);
    c.vy = fur_arena_push(arena, p->m * p->heads * p->dv * B);
    c.v = newton ? fur_arena_push(arena, p->m * p->d3 * B) : NULL;
    c.mean = newton ? fur_arena_push(arena, p->n * 8) : NULL;
    c.u = fur_arena_push(arena, p->n * D2 * B);
    c.o = fur_arena_push(arena, p->n * p->heads * p->dv * B);
    c.d = fur_arena_push(arena, p->d1 * D2 * B);
    c.w = fur_arena_push(arena, fit_d3(p) * p->dv * B);
    c.j = fur_arena_push(arena, p->n * p->dv * B);
    push_scratch(p, arena, &c);
    c.twice = twice_pays(p);
    c.turn = fur_arena_push(arena, p->heads * wide * B);
    c.given = fur_arena_push(arena, p->heads * p->v.raw->width * p->dv * 8);
    c.block = fur_arena_push(arena, D2 * D2 * 8);
    if (route != FUR_FIT_STORED) {
        c.probe_g = fur_arena_push(arena, p->exec->threads * c.cov_rows * p->heads * wide * B);
        push_sample(p, arena, p->n / probe_stride(p, p->n) + 1, false, &c.probe);
        if (route == FUR_FIT_MATRIX_FREE && shape->keep_weights)
            push_weights(p, arena, &c);
    } else {
        c.g = fur_arena_push(arena, most);
        push_sample(p, arena, rows, sample_rows > 0, &c.sample);
        c.q = sample_rows > 0 ? fur_arena_push(arena, rows * fit_d3(p) * 8) : NULL;
    }
    if (arena->failed)
        return fur_error_set(p->exec->error, FUR_E_INTERNAL, "the arena of a fit is too small for its curvature");
    if (arena->base) {
        if (route != FUR_FIT_STORED)
            every(p, probe_stride(p, p->n), &c.probe);
        else if (sample_rows == 0)
            every(p, 1, &c.sample);
    }
    *out = c;
    return FUR_OK;
}

static int64_t dense_chunks(const fit_problem *p)
{
    int64_t N = p->a.raw->width * p->heads * p->k.raw->width;
    return fur_max_i64(1, fur_min_i64(p->chunks, ((int64_t)8 << 20) / (N * N + 1)));
}

int64_t fit_curvature_bytes(const fit_problem *p)
{
    int64_t D2 = fit_d2(p), N = p->d1 * D2, w = fit_d3(p) * p->dv, C = p->chunks;
    int64_t product = (C * fur_max_i64(N, 2 * w) + 3 * w) * 8, block = C * D2 * D2 * 8;
    return fur_max_i64(product, block) + (int64_t)8 * FUR_ARENA_ALIGN;
}

static fur_status too_small(const fit_problem *p)
{
    return fur_error_set(p->exec->error, FUR_E_INTERNAL, "workspace of a fit's curvature too small");
}

/* ---- preparing --------------------------------------------------------------------------------------------------- */

/* Adds G G^T of the probed rows of a tile: of those stored every stride-th, else of the probe, made for it. */
static void block_of_tile(const fit_problem *p, const fit_point *point, const fit_curvature *c, int64_t t,
                          int64_t stride, int thread, double *block)
{
    int64_t row_bytes = fit_d2(p) * p->dv * c->real->bytes, rows[FIT_ROWS];
    if (c->route == FUR_FIT_STORED) {
        for (int64_t at = c->sample.at[t]; at < c->sample.at[t + 1]; at++)
            if (at % stride == stride / 2)
                c->real->gram(p, c, 1, (const unsigned char *)c->g + at * row_bytes, thread, block);
        return;
    }
    unsigned char *g = (unsigned char *)c->probe_g + thread * c->cov_rows * row_bytes;
    for (int64_t at = c->probe.at[t]; at < c->probe.at[t + 1];) {
        int64_t now = 0;
        for (; at < c->probe.at[t + 1] && now < fur_min_i64(c->cov_rows, FIT_ROWS); at++)
            rows[now++] = c->probe.row[at] - p->train.at[t].row;
        c->real->rows(p, point, c, &p->train.at[t], now, rows, NULL, thread, g);
        c->real->gram(p, c, now, g, thread, block);
    }
}

/* sum over probed rows of G G^T, times rows over rows probed. */
static fur_status make_block(const fit_problem *p, const fit_point *point, fit_curvature *c)
{
    fur_arena *arena = p->exec->workspace;
    int64_t mark = fur_arena_mark(arena), D2 = fit_d2(p), count = D2 * D2, C = p->chunks;
    bool stored = c->route == FUR_FIT_STORED;
    int64_t stride = stored ? probe_stride(p, c->sample.count) : 1, probed = stored ? 0 : c->probe.count;
    double *partial = fur_arena_push(arena, C * count * 8);
    if (arena->failed)
        return too_small(p);
#pragma omp parallel for schedule(dynamic) num_threads(p->exec->threads)
    for (int64_t i = 0; i < C; i++) {
        memset(partial + i * count, 0, (size_t)count * sizeof *partial);
        for (int64_t t = fit_chunk_at(p->train.count, C, i); t < fit_chunk_at(p->train.count, C, i + 1); t++)
            block_of_tile(p, point, c, t, stride, omp_get_thread_num(), partial + i * count);
    }
    fit_sum_chunks(p, count, partial, c->block);
    for (int64_t at = stride / 2; stored && at < c->sample.count; at += stride)
        probed++;
    double share = (double)(stored ? c->sample.count : p->n) / (double)probed;
    for (int64_t i = 0; i < count; i++)
        c->block[i] *= share;
    fur_arena_release(arena, mark);
    return FUR_OK;
}

/* Orthonormal columns of the sampled rows of sqrt(w) Phi = q fac. */
static fur_status make_sample_q(const fit_problem *p, const fit_point *point, const fit_curvature *c)
{
    fur_arena *arena = p->exec->workspace;
    int64_t mark = fur_arena_mark(arena), D3 = fit_d3(p);
    double *r = fur_arena_push(arena, D3 * D3 * 8);
    if (arena->failed)
        return too_small(p);
    for (int64_t i = 0; i < c->sample.count; i++)
        for (int64_t b = 0; b < D3; b++)
            c->q[i * D3 + b] = c->sample.scale[i] * point->q[c->sample.row[i] * D3 + b];
    fur_status status = fit_tall_qr(p->exec, c->sample.count, D3, c->q, r);
    for (int64_t b = 0; b < D3; b++) /* a column that is empty has no direction to take out */
        for (int64_t i = 0; i < c->sample.count && !(r[b * D3 + b] * r[b * D3 + b] > 1e-24); i++)
            c->q[i * D3 + b] = 0;
    fur_arena_release(arena, mark);
    return status;
}

static void keep_weights(const fit_problem *p, const fit_point *point, const fit_curvature *c)
{
#pragma omp parallel for schedule(dynamic) num_threads(p->exec->threads)
    for (int64_t t = p->train.count - 1; t >= 0; t--)
        c->real->keep(p, point, c, &p->train.at[t]);
}

static void store(const fit_problem *p, const fit_point *point, fit_curvature *c)
{
    int64_t row_bytes = fit_d2(p) * p->dv * c->real->bytes;
#pragma omp parallel for schedule(dynamic) num_threads(p->exec->threads)
    for (int64_t t = p->train.count - 1; t >= 0; t--) {
        const fit_sample *sample = &c->sample;
        int64_t rows[FIT_ROWS];
        for (int64_t at = sample->at[t]; at < sample->at[t + 1];) {
            int64_t from = at, now = 0;
            for (; at < sample->at[t + 1] && now < FIT_ROWS; at++)
                rows[now++] = sample->row[at] - p->train.at[t].row;
            c->real->rows(p, point, c, &p->train.at[t], now, rows, sample->scale ? sample->scale + from : NULL,
                          omp_get_thread_num(), (unsigned char *)c->g + from * row_bytes);
        }
    }
}

fur_status fit_curvature_prepare(const fit_problem *p, const double *x, const fit_point *point, fit_curvature *c)
{
    c->real->refresh(p, x, point, c);
    if (c->route == FUR_FIT_STORED)
        store(p, point, c);
    if (c->weights)
        keep_weights(p, point, c);
    FUR_TRY(make_block(p, point, c));
    if (c->route != FUR_FIT_STORED)
        return FUR_OK;
    if (c->sample.scale)
        return make_sample_q(p, point, c);
    c->q = point->q;
    return FUR_OK;
}

/* ---- products ---------------------------------------------------------------------------------------------------- */

fur_status fit_curvature_product(const fit_problem *p, const fit_point *point, const fit_curvature *c, const double *d,
                                 double *out)
{
    fur_arena *arena = p->exec->workspace;
    int64_t mark = fur_arena_mark(arena), D3 = fit_d3(p), w = D3 * p->dv, N = p->d1 * fit_d2(p), C = p->chunks;
    bool stored = c->route == FUR_FIT_STORED;
    int64_t both = c->newton ? 2 * w : w;
    double *sums = fur_arena_push(arena, C * fur_max_i64(N, 2 * w) * 8), *total = fur_arena_push(arena, 2 * w * 8);
    double *dy = fur_arena_push(arena, w * 8);
    if (arena->failed)
        return too_small(p);
    c->real->narrow(d, N, c->d);
#pragma omp parallel for schedule(dynamic) num_threads(p->exec->threads)
    for (int64_t i = C - 1; i >= 0; i--) {
        double *w1 = sums + i * both;
        int thread = omp_get_thread_num();
        memset(w1, 0, (size_t)both * sizeof *w1);
        for (int64_t t = fit_chunk_at(p->train.count, C, i); t < fit_chunk_at(p->train.count, C, i + 1); t++) {
            if (stored)
                c->real->stored_first(p, c, t, thread, w1);
            else
                c->real->free_first(p, point, c, &p->train.at[t], thread, w1, c->newton ? w1 + w : NULL);
        }
    }
    fit_sum_chunks(p, both, sums, total);
    if (c->newton) { /* q^T J d + yfac^T dPhi^T r, and the change of Y it stands for */
        fur_la_gemm_f64(true, false, D3, p->dv, D3, 1, point->yfac, D3, total + w, p->dv, 1, total, p->dv);
        fur_la_gemm_f64(false, false, D3, p->dv, D3, 1, point->yfac, D3, total, p->dv, 0, dy, p->dv);
    }
    c->real->narrow(total, w, c->w);
#pragma omp parallel for schedule(dynamic) num_threads(p->exec->threads)
    for (int64_t i = C - 1; i >= 0; i--) {
        int thread = omp_get_thread_num();
        memset(sums + i * N, 0, (size_t)N * sizeof *sums);
        for (int64_t t = fit_chunk_at(p->train.count, C, i); t < fit_chunk_at(p->train.count, C, i + 1); t++) {
            if (stored)
                c->real->stored_second(p, c, t, thread, sums + i * N);
            else
                c->real->free_second(p, point, c, dy, &p->train.at[t], thread, sums + i * N);
        }
    }
    fit_sum_chunks(p, N, sums, out);
    for (int64_t i = 0; i < N; i++)
        out[i] += p->ridge * d[i];
    fur_arena_release(arena, mark);
    return FUR_OK;
}

/* ---- dense ------------------------------------------------------------------------------------------------------- */

/* Of a chunk of rows: H += (a a^T packed)^T (G G^T packed), W += (q x a)^T G. */
typedef struct dense_work {
    double *g, *aa, *gg, *qa;
} dense_work;

static int64_t packed(int64_t n)
{
    return n * (n + 1) / 2;
}

static void pack_outer(int64_t n, const double *x, double *out)
{
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j <= i; j++)
            *out++ = x[i] * x[j];
}

static void dense_rows(const fit_problem *p, const fit_point *point, const fit_curvature *c, const fit_tile *tile,
                       int64_t first, int64_t count, int thread, const dense_work *z, double *H, double *W)
{
    int64_t D2 = fit_d2(p), D3 = fit_d3(p), row[FIT_ROWS], P1 = packed(p->d1), P2 = packed(D2);
    fit_scratch *s = &p->scratch[thread];
    const double *a = fit_rows(&p->a, tile->row + first, count, s->raw, s->a);
    for (int64_t i = 0; i < count; i++)
        row[i] = first + i;
    fit_real_f64.rows(p, point, c, tile, count, row, NULL, thread, z->g);
    for (int64_t i = 0; i < count; i++) {
        const double *g = z->g + i * D2 * p->dv, *q = point->q + (tile->row + first + i) * D3;
        double *gg = z->gg + i * P2;
        pack_outer(p->d1, a + i * p->d1, z->aa + i * P1);
        for (int64_t b = 0; b < D2; b++)
            for (int64_t e = 0; e <= b; e++) {
                *gg = 0;
                for (int64_t v = 0; v < p->dv; v++)
                    *gg += g[b * p->dv + v] * g[e * p->dv + v];
                gg++;
            }
        for (int64_t b = 0; b < D3; b++)
            for (int64_t e = 0; e < p->d1; e++)
                z->qa[(i * D3 + b) * p->d1 + e] = q[b] * a[i * p->d1 + e];
    }
    fur_la_gemm_f64(true, false, P1, P2, count, 1, z->aa, P1, z->gg, P2, 1, H, P2);
    fur_la_gemm_f64(true, false, D3 * p->d1, D2 * p->dv, count, 1, z->qa, D3 * p->d1, z->g, D2 * p->dv, 1, W,
                    D2 * p->dv);
}

int64_t fit_dense_bytes(const fit_problem *p)
{
    int64_t D2 = fit_d2(p), D3 = fit_d3(p), N = p->d1 * D2, C = dense_chunks(p), rows = FIT_ROWS;
    int64_t HW = packed(p->d1) * packed(D2) + D3 * p->d1 * D2 * p->dv;
    int64_t work = rows * (D2 * p->dv + packed(p->d1) + packed(D2) + D3 * p->d1), threads = p->exec->threads;
    return (C * HW + threads * work + D3 * p->dv * N) * 8 + (8 + 5 * threads) * FUR_ARENA_ALIGN;
}

/* S [N, N] from packed H and from W [D3 d1, D2 dv], turned into rows (q, value) of N columns. */
static void assemble(const fit_problem *p, const double *H, const double *W, double *turned, double *S)
{
    int64_t D2 = fit_d2(p), D3 = fit_d3(p), N = p->d1 * D2, P2 = packed(D2);
    for (int64_t i = 0; i < p->d1; i++)
        for (int64_t j = 0; j < p->d1; j++) {
            const double *block = H + (i >= j ? packed(i) + j : packed(j) + i) * P2;
            for (int64_t a = 0; a < D2; a++)
                for (int64_t b = 0; b < D2; b++)
                    S[(i * D2 + a) * N + j * D2 + b] = block[a >= b ? packed(a) + b : packed(b) + a];
        }
    for (int64_t q = 0; q < D3; q++)
        for (int64_t i = 0; i < p->d1; i++)
            for (int64_t a = 0; a < D2; a++)
                for (int64_t v = 0; v < p->dv; v++)
                    turned[(q * p->dv + v) * N + i * D2 + a] = W[((q * p->d1 + i) * D2 + a) * p->dv + v];
    fur_la_syrk(true, N, D3 * p->dv, -1, turned, N, 1, S, N);
    for (int64_t i = 0; i < N; i++)
        for (int64_t j = 0; j < i; j++)
            S[j * N + i] = S[i * N + j];
}

fur_status fit_curvature_dense(const fit_problem *p, const fit_point *point, const fit_curvature *c, double *S)
{
    fur_arena *arena = p->exec->workspace;
    int64_t mark = fur_arena_mark(arena), D2 = fit_d2(p), D3 = fit_d3(p), C = dense_chunks(p);
    int64_t nH = packed(p->d1) * packed(D2), nW = D3 * p->d1 * D2 * p->dv;
    double *sums = fur_arena_push(arena, C * (nH + nW) * 8);
    double *turned = fur_arena_push(arena, D3 * p->dv * p->d1 * D2 * 8);
    dense_work *work = fur_arena_push(arena, p->exec->threads * (int64_t)sizeof *work);
    for (int i = 0; i < p->exec->threads; i++) {
        dense_work z = {.g = fur_arena_push(arena, FIT_ROWS * D2 * p->dv * 8),
                        .aa = fur_arena_push(arena, FIT_ROWS * packed(p->d1) * 8),
                        .gg = fur_arena_push(arena, FIT_ROWS * packed(D2) * 8),
                        .qa = fur_arena_push(arena, FIT_ROWS * D3 * p->d1 * 8)};
        if (!arena->failed)
            work[i] = z;
    }
    if (arena->failed)
        return too_small(p);
#pragma omp parallel for schedule(dynamic) num_threads(p->exec->threads)
    for (int64_t i = C - 1; i >= 0; i--) {
        double *H = sums + i * (nH + nW);
        int thread = omp_get_thread_num();
        memset(H, 0, (size_t)(nH + nW) * sizeof *H);
        for (int64_t t = fit_chunk_at(p->train.count, C, i); t < fit_chunk_at(p->train.count, C, i + 1); t++)
            for (int64_t at = 0; at < p->train.at[t].rows; at += FIT_ROWS)
                dense_rows(p, point, c, &p->train.at[t], at, fur_min_i64(FIT_ROWS, p->train.at[t].rows - at), thread,
                           &work[thread], H, H + nH);
    }
    for (int64_t i = 1; i < C; i++)
        for (int64_t j = 0; j < nH + nW; j++)
            sums[j] += sums[i * (nH + nW) + j];
    assemble(p, sums, sums + nH, turned, S);
    fur_arena_release(arena, mark);
    return FUR_OK;
}
