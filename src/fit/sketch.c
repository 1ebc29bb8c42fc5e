/* SPDX-License-Identifier: Apache-2.0 */
/* Approximate Newton: the curvature of a step from some of the rows, drawn anew in each step, or from a CountSketch.
 *
 * A sample keeps m rows with weights that make the mean of the sampled J^T J the whole one. Uniform: m of n without
 * repetition. Leverage: m draws with probability |a_j|^2 / sum, which are the leverage scores of A1 (its rows are
 * white); rows drawn twice count twice. CountSketch (Clarkson and Woodruff, 2013): every row is added to one of m
 * buckets with a sign, both drawn; dense, since a sum of rows a_j (x) G_j is no such product any more. */
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "base/size.h"
#include "fit/la.h"
#include "fit/lm.h"

/* Streams of random numbers, so that no two uses share one. */
enum { STREAM_SAMPLE = 101, STREAM_BUCKET = 102 };

static uint64_t stream(const fit_solver *s, int what, uint64_t step)
{
    return (uint64_t)what + 1000 * (step + 1000 * (uint64_t)s->start);
}

static int64_t draw_uniform(const fit_solver *s, uint64_t step, int64_t *rows, double *scale)
{
    const fit_problem *p = s->p;
    int64_t m = s->sample_rows, count = 0;
    for (int64_t row = 0; row < p->n && count < m; row++) { /* each row with what is left to draw over what is left */
        double u = fur_random_uniform(s->settings->seed, stream(s, STREAM_SAMPLE, step), (uint64_t)row);
        if (u * (double)(p->n - row) < (double)(m - count))
            rows[count++] = row;
    }
    for (int64_t i = 0; i < count; i++)
        scale[i] = sqrt((double)p->n / (double)count);
    return count;
}

static int64_t draw_leverage(const fit_solver *s, uint64_t step, int64_t *rows, double *scale)
{
    const fit_problem *p = s->p;
    double *sum = s->scores, total = 0;
    int64_t m = s->sample_rows, count = 0;
    for (int64_t row = 0; row < p->n; row++) {
        fit_scratch *z = &p->scratch[0];
        const double *a = fit_rows(&p->a, row, 1, z->raw, z->a);
        for (int64_t c = 0; c < p->d1; c++)
            total += a[c] * a[c];
        sum[row] = total;
    }
    /* sorted draws at once: one in each m-th of the total (stratified, so with less variance than m free ones) */
    int64_t row = 0;
    for (int64_t i = 0; i < m; i++) {
        double u = fur_random_uniform(s->settings->seed, stream(s, STREAM_SAMPLE, step), (uint64_t)i);
        double at = ((double)i + u) / (double)m * total;
        while (row + 1 < p->n && sum[row] < at)
            row++;
        double share = (sum[row] - (row > 0 ? sum[row - 1] : 0)) / total;
        double weight = 1 / ((double)m * share);
        if (count > 0 && rows[count - 1] == row) {
            scale[count - 1] = sqrt(scale[count - 1] * scale[count - 1] + weight);
        } else {
            rows[count] = row;
            scale[count++] = sqrt(weight);
        }
    }
    return count;
}

fur_status fit_sample_draw(fit_solver *s, uint64_t step)
{
    const fit_problem *p = s->p;
    int64_t *rows = (int64_t *)(void *)(s->scores + p->n);
    double *scale = s->scores + 2 * p->n;
    bool leverage = s->settings->method == FUR_FIT_SKETCHED_NEWTON && s->settings->sketch == FUR_FIT_LEVERAGE;
    int64_t count = leverage ? draw_leverage(s, step, rows, scale) : draw_uniform(s, step, rows, scale);
    if (count < fit_d3(p))
        return fur_error_set(p->exec->error, FUR_E_SHAPE,
                             "a sample of %lld different rows for %lld values a row, expected more rows",
                             (long long)count, (long long)fit_d3(p));
    fit_sample_set(p, count, rows, scale, &s->c.sample);
    return FUR_OK;
}

/* ---- CountSketch ------------------------------------------------------------------------------------------------- */

int64_t fit_count_sketch_bytes(const fit_solver *s)
{
    const fit_problem *p = s->p;
    int64_t D2 = fit_d2(p), D3 = fit_d3(p);
    int64_t own = D2 * p->dv + D3 * D3 + D3 * s->N;
    return own * 8 + fit_tall_qr_bytes(p->exec, s->sample_rows, D3) + (int64_t)4 * FUR_ARENA_ALIGN;
}

/* SJ [m, dv, N] and Sq [m, D3] */
static void sketch_rows(fit_solver *s, uint64_t step, double *g, double *sj, double *sq)
{
    const fit_problem *p = s->p;
    int64_t D2 = fit_d2(p), D3 = fit_d3(p), m = s->sample_rows;
    fit_scratch *z = &p->scratch[0];
    memset(sj, 0, (size_t)(m * p->dv * s->N) * sizeof *sj);
    memset(sq, 0, (size_t)(m * D3) * sizeof *sq);
    for (int64_t t = 0; t < p->train.count; t++)
        for (int64_t i = 0; i < p->train.at[t].rows; i++) {
            const fit_tile *tile = &p->train.at[t];
            int64_t row = tile->row + i;
            uint64_t word = fur_random_u64(s->settings->seed, stream(s, STREAM_BUCKET, step), (uint64_t)row);
            int64_t bucket = (int64_t)((word >> 1) % (uint64_t)m);
            double sign = (word & 1) ? 1 : -1;
            s->c.real->rows(p, &s->at, &s->c, tile, 1, &i, NULL, 0, g);
            const double *a = fit_rows(&p->a, row, 1, z->raw, z->a);
            double *to = sj + bucket * p->dv * s->N;
            for (int64_t v = 0; v < p->dv; v++)
                for (int64_t b = 0; b < p->d1; b++)
                    for (int64_t c = 0; c < D2; c++)
                        to[v * s->N + b * D2 + c] += sign * a[b] * g[c * p->dv + v];
            for (int64_t b = 0; b < D3; b++)
                sq[bucket * D3 + b] += sign * s->at.q[row * D3 + b];
        }
}

fur_status fit_count_sketch(fit_solver *s, uint64_t step)
{
    const fit_problem *p = s->p;
    fur_arena *arena = p->exec->workspace;
    int64_t mark = fur_arena_mark(arena), D2 = fit_d2(p), D3 = fit_d3(p), m = s->sample_rows, N = s->N;
    double *g = fur_arena_push(arena, D2 * p->dv * 8), *r = fur_arena_push(arena, D3 * D3 * 8);
    double *part = fur_arena_push(arena, D3 * N * 8);
    double *sj = s->sketch, *sq = s->sketch + m * p->dv * N;
    if (arena->failed)
        return fur_error_set(p->exec->error, FUR_E_INTERNAL, "workspace of a sketch too small");
    sketch_rows(s, step, g, sj, sq);
    FUR_TRY(fit_tall_qr(p->exec, m, D3, sq, r));
    memset(s->S, 0, (size_t)(N * N) * sizeof *s->S);
    for (int64_t v = 0; v < p->dv; v++) { /* rows of one value: every dv-th of SJ, what Y explains taken out */
        fur_la_gemm_f64(true, false, D3, N, m, 1, sq, D3, sj + v * N, p->dv * N, 0, part, N);
        fur_la_gemm_f64(false, false, m, N, D3, -1, sq, D3, part, N, 1, sj + v * N, p->dv * N);
    }
    fur_la_syrk(true, N, m * p->dv, 1, sj, N, 0, s->S, N);
    for (int64_t i = 0; i < N; i++)
        for (int64_t j = 0; j < i; j++)
            s->S[j * N + i] = s->S[i * N + j];
    fur_arena_release(arena, mark);
    return FUR_OK;
}
