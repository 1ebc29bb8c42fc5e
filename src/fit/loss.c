/* SPDX-License-Identifier: Apache-2.0 */
#include "fit/loss.h"

#include <math.h>
#include <omp.h>
#include <string.h>

#include "base/size.h"
#include "fit/la.h"

void fit_point_push(const fit_problem *p, fur_arena *arena, fit_point *out)
{
    int64_t D3 = fit_d3(p);
    out->q = fur_arena_push(arena, p->n * D3 * 8);
    out->r = fur_arena_push(arena, p->n * p->dv * 8);
    out->lse = fur_arena_push(arena, p->heads * p->n * 8);
    out->fac = fur_arena_push(arena, D3 * D3 * 8);
    out->yfac = fur_arena_push(arena, D3 * D3 * 8);
    out->y = fur_arena_push(arena, D3 * p->dv * 8);
    out->o = fur_arena_push(arena, p->heads * D3 * p->dv * 8);
}

int64_t fit_loss_bytes(const fit_problem *p)
{
    int64_t D3 = fit_d3(p), D2 = fit_d2(p), X = p->d1 * D2;
    int64_t qr = fit_tall_qr_bytes(p->exec, p->n, D3);
    int64_t svd = (3 * D3 * D3 + D3 + fur_la_svd_work(D3, D3) + (int64_t)p->exec->threads * 64 * D3) * 8;
    int64_t sums = (p->chunks + 1) * (fur_max_i64(X, D3 * p->dv) + 8) * 8;
    return fur_max_i64(fur_max_i64(qr, svd), sums) + (int64_t)8 * FUR_ARENA_ALIGN;
}

void fit_sum_chunks(const fit_problem *p, int64_t count, const double *partial, double *out)
{
    memcpy(out, partial, (size_t)count * sizeof *out);
    for (int64_t c = 1; c < p->chunks; c++)
        for (int64_t i = 0; i < count; i++)
            out[i] += partial[c * count + i];
}

static fur_status too_small(const fit_problem *p)
{
    return fur_error_set(p->exec->error, FUR_E_INTERNAL, "workspace of a fit too small");
}

/* ---- forward ----------------------------------------------------------------------------------------------------- */

/* The row's running maximum and sum take keys of one tile in; s becomes weights, 0 where the row sees nothing. */
static void absorb_row(const fit_problem *p, double *s, int64_t sees, int64_t keys, double *m, double *l, double *acc)
{
    double most = fmax(*m, p->rowexp->max_f64(sees, s));
    double fade = *l > 0 ? exp(*m - most) : 0;
    double sum = sees > 0 ? p->rowexp->exp_f64(sees, s, most) : 0;
    memset(s + sees, 0, (size_t)(keys - sees) * sizeof *s);
    if (fade < 1 || !(fade <= 1))
        for (int64_t c = 0; c < p->d3; c++)
            acc[c] *= fade;
    *l = *l * fade + sum;
    *m = most;
}

static void note_logits(const double *s, int64_t sees, fit_measure *measure)
{
    for (int64_t i = 0; i < sees; i++) {
        measure->logit_max = fmax(measure->logit_max, fabs(s[i]));
        measure->logit_square += s[i] * s[i];
    }
    measure->pairs += sees;
}

/* phi_h of a tile into s->acc [rows, d3], maxima and sums into s->m and s->l. */
static void forward_tile(const fit_problem *p, fit_scratch *s, const fit_tile *tile, int64_t head, const double *x,
                         const double *a, fit_measure *measure)
{
    int64_t R = tile->rows;
    fur_la_gemm_f64(false, false, R, p->d2, p->d1, 1, a, p->d1, x + head * p->d2, fit_d2(p), 0, s->u, p->d2);
    memset(s->acc, 0, (size_t)(R * p->d3) * sizeof *s->acc);
    for (int64_t i = 0; i < R; i++) {
        s->m[i] = (double)-INFINITY;
        s->l[i] = 0;
    }
    for (int64_t key = 0; key < tile->keys; key += p->tile_keys) {
        int64_t K = fur_min_i64(p->tile_keys, tile->keys - key);
        const double *k = fit_rows(&p->k, tile->key + key, K, s->raw, s->k);
        const double *v = fit_rows(&p->v, tile->key + key, K, s->raw, s->v);
        fur_la_gemm_f64(false, true, R, K, p->d2, 1, s->u, p->d2, k, p->d2, 0, s->s, K);
        for (int64_t i = 0; i < R; i++) {
            int64_t sees = fur_max_i64(0, fur_min_i64(K, fit_visible(p, tile, i) - key));
            if (measure)
                note_logits(s->s + i * K, sees, measure);
            absorb_row(p, s->s + i * K, sees, K, s->m + i, s->l + i, s->acc + i * p->d3);
        }
        fur_la_gemm_f64(false, false, R, p->d3, K, 1, s->s, K, v, p->d3, 1, s->acc, p->d3);
    }
    for (int64_t i = 0; i < R; i++)
        for (int64_t c = 0; c < p->d3; c++)
            s->acc[i * p->d3 + c] /= s->l[i];
}

static void fill_phi(const fit_problem *p, const double *x, fit_point *point)
{
    int64_t D3 = fit_d3(p);
#pragma omp parallel for schedule(dynamic) num_threads(p->exec->threads)
    for (int64_t t = p->train.count - 1; t >= 0; t--) { /* causal: the long ones first */
        const fit_tile *tile = &p->train.at[t];
        fit_scratch *s = &p->scratch[omp_get_thread_num()];
        const double *a = fit_rows(&p->a, tile->row, tile->rows, s->raw, s->a);
        for (int64_t h = 0; h < p->heads; h++) {
            forward_tile(p, s, tile, h, x, a, NULL);
            for (int64_t i = 0; i < tile->rows; i++) {
                double w = fit_root_w(p, tile->row + i), *phi = point->q + (tile->row + i) * D3 + h * p->d3;
                point->lse[h * p->n + tile->row + i] = s->m[i] + log(s->l[i]);
                for (int64_t c = 0; c < p->d3; c++)
                    phi[c] = w * s->acc[i * p->d3 + c];
            }
        }
    }
}

/* ---- Y ----------------------------------------------------------------------------------------------------------- */

/* q and fac turned so that singular values that are rounding alone are left out. */
static fur_status cut_rank(const fit_problem *p, fit_point *point)
{
    enum { STRIP = 64 };
    fur_arena *arena = p->exec->workspace;
    int64_t mark = fur_arena_mark(arena), D3 = fit_d3(p), threads = p->exec->threads;
    double *r = fur_arena_push(arena, D3 * D3 * 8), *u = fur_arena_push(arena, D3 * D3 * 8);
    double *vt = fur_arena_push(arena, D3 * D3 * 8), *values = fur_arena_push(arena, D3 * 8);
    double *work = fur_arena_push(arena, fur_la_svd_work(D3, D3) * 8);
    double *strips = fur_arena_push(arena, threads * STRIP * D3 * 8);
    if (arena->failed)
        return too_small(p);
    memcpy(r, point->fac, (size_t)(D3 * D3) * sizeof *r);
    bool good = fur_la_svd(D3, D3, r, u, values, vt, work);
    point->rank = 0;
    for (int64_t i = 0; i < D3; i++)
        point->rank += values[i] > 1e-12 * values[0];
    memset(point->yfac, 0, (size_t)(D3 * D3) * sizeof *point->yfac);
    memset(point->fac, 0, (size_t)(D3 * D3) * sizeof *point->fac);
    for (int64_t i = 0; i < point->rank; i++)
        for (int64_t c = 0; c < D3; c++) {
            point->fac[i * D3 + c] = values[i] * vt[i * D3 + c];
            point->yfac[c * D3 + i] = vt[i * D3 + c] / values[i];
        }
    for (int64_t i = point->rank; i < D3; i++)
        for (int64_t c = 0; c < D3; c++)
            u[c * D3 + i] = 0;
#pragma omp parallel for schedule(static) num_threads(p->exec->threads)
    for (int64_t at = 0; at < p->n; at += STRIP) {
        int64_t now = fur_min_i64(STRIP, p->n - at);
        double *strip = strips + (int64_t)omp_get_thread_num() * STRIP * D3;
        memcpy(strip, point->q + at * D3, (size_t)(now * D3) * sizeof *strip);
        fur_la_gemm_f64(false, false, now, D3, D3, 1, strip, D3, u, D3, 0, point->q + at * D3, D3);
    }
    fur_arena_release(arena, mark);
    return good ? FUR_OK
                : fur_error_set(p->exec->error, FUR_E_NONFINITE,
                                "the singular values of the attention did not converge");
}

static fur_status factor(const fit_problem *p, fit_point *point)
{
    int64_t D3 = fit_d3(p);
    FUR_TRY(fit_tall_qr(p->exec, p->n, D3, point->q, point->fac));
    double least = (double)INFINITY, most = 0;
    for (int64_t i = 0; i < D3; i++) {
        least = fmin(least, fabs(point->fac[i * D3 + i]));
        most = fmax(most, fabs(point->fac[i * D3 + i]));
    }
    point->rank = D3;
    if (!(least > 1e-9 * most))
        return cut_rank(p, point);
    memset(point->yfac, 0, (size_t)(D3 * D3) * sizeof *point->yfac);
    for (int64_t i = 0; i < D3; i++)
        point->yfac[i * D3 + i] = 1;
    fur_la_upper_solve(false, D3, point->fac, D3, D3, point->yfac, D3);
    return FUR_OK;
}

/* sqrt(w) b of a tile */
static void target_tile(const fit_problem *p, const fit_tile *tile, double *out)
{
    fit_raw_rows(&p->data->b, tile->row, tile->rows, out);
    for (int64_t i = 0; i < tile->rows && p->root_w; i++)
        for (int64_t c = 0; c < p->dv; c++)
            out[i * p->dv + c] *= p->root_w[tile->row + i];
}

static fur_status solve_y(const fit_problem *p, fit_point *point)
{
    fur_arena *arena = p->exec->workspace;
    int64_t mark = fur_arena_mark(arena), D3 = fit_d3(p), count = D3 * p->dv, C = p->chunks;
    double *partial = fur_arena_push(arena, C * count * 8), *qtb = fur_arena_push(arena, count * 8);
    double *losses = fur_arena_push(arena, C * 8);
    if (arena->failed)
        return too_small(p);
#pragma omp parallel for schedule(static) num_threads(p->exec->threads)
    for (int64_t c = 0; c < C; c++) {
        fit_scratch *s = &p->scratch[omp_get_thread_num()];
        memset(partial + c * count, 0, (size_t)count * sizeof *partial);
        for (int64_t t = fit_chunk_at(p->train.count, C, c); t < fit_chunk_at(p->train.count, C, c + 1); t++) {
            const fit_tile *tile = &p->train.at[t];
            target_tile(p, tile, s->o);
            fur_la_gemm_f64(true, false, D3, p->dv, tile->rows, 1, point->q + tile->row * D3, D3, s->o, p->dv, 1,
                            partial + c * count, p->dv);
        }
    }
    fit_sum_chunks(p, count, partial, qtb);
    fur_la_gemm_f64(false, false, D3, p->dv, D3, 1, point->yfac, D3, qtb, p->dv, 0, point->y, p->dv);
    for (int64_t h = 0; h < p->heads; h++)
        fur_la_gemm_f64(false, false, D3, p->dv, p->d3, 1, point->fac + h * p->d3, D3, point->y + h * p->d3 * p->dv,
                        p->dv, 0, point->o + h * count, p->dv);
#pragma omp parallel for schedule(static) num_threads(p->exec->threads)
    for (int64_t c = 0; c < C; c++) {
        double sum = 0;
        for (int64_t t = fit_chunk_at(p->train.count, C, c); t < fit_chunk_at(p->train.count, C, c + 1); t++) {
            const fit_tile *tile = &p->train.at[t];
            double *r = point->r + tile->row * p->dv;
            target_tile(p, tile, r);
            fur_la_gemm_f64(false, false, tile->rows, p->dv, D3, 1, point->q + tile->row * D3, D3, qtb, p->dv, -1, r,
                            p->dv);
            for (int64_t i = 0; i < tile->rows * p->dv; i++)
                sum += r[i] * r[i];
        }
        losses[c] = sum;
    }
    point->loss = 0;
    for (int64_t c = 0; c < C; c++)
        point->loss += 0.5 * losses[c];
    fur_arena_release(arena, mark);
    return FUR_OK;
}

static double ridge_of(const fit_problem *p, const double *x)
{
    double sum = 0;
    for (int64_t i = 0; i < p->d1 * fit_d2(p); i++)
        sum += x[i] * x[i];
    return sum;
}

fur_status fit_evaluate(const fit_problem *p, const double *x, fit_point *point)
{
    double square = ridge_of(p, x);
    point->loss = point->objective = (double)INFINITY;
    if (!(square < 1e150))
        return FUR_OK;
    fill_phi(p, x, point);
    FUR_TRY(factor(p, point));
    FUR_TRY(solve_y(p, point));
    point->objective = point->loss + 0.5 * p->ridge * square;
    if (!isfinite(point->objective))
        point->objective = (double)INFINITY;
    return FUR_OK;
}

/* ---- gradient ---------------------------------------------------------------------------------------------------- */

static void gradient_tile(const fit_problem *p, fit_scratch *s, const fit_tile *tile, int64_t head, const double *x,
                          const fit_point *point, const double *a, double *g)
{
    int64_t R = tile->rows, D3 = fit_d3(p), D2 = fit_d2(p);
    const double *r = point->r + tile->row * p->dv, *lse = point->lse + head * p->n + tile->row;
    fur_la_gemm_f64(false, false, R, p->d2, p->d1, 1, a, p->d1, x + head * p->d2, D2, 0, s->u, p->d2);
    fur_la_gemm_f64(false, true, R, p->d3, p->dv, 1, r, p->dv, point->y + head * p->d3 * p->dv, p->dv, 0, s->left,
                    p->d3);
    fur_la_gemm_f64(false, false, R, p->dv, D3, 1, point->q + tile->row * D3, D3, point->o + head * D3 * p->dv, p->dv,
                    0, s->o, p->dv);
    for (int64_t i = 0; i < R; i++) {
        double w = fit_root_w(p, tile->row + i);
        s->c[i] = 0;
        for (int64_t c = 0; c < p->dv; c++)
            s->c[i] += r[i * p->dv + c] * s->o[i * p->dv + c];
        for (int64_t c = 0; c < p->d3 && p->root_w; c++)
            s->left[i * p->d3 + c] *= w;
    }
    memset(s->acc, 0, (size_t)(R * p->d2) * sizeof *s->acc);
    for (int64_t key = 0; key < tile->keys; key += p->tile_keys) {
        int64_t K = fur_min_i64(p->tile_keys, tile->keys - key);
        const double *k = fit_rows(&p->k, tile->key + key, K, s->raw, s->k);
        const double *v = fit_rows(&p->v, tile->key + key, K, s->raw, s->v);
        fur_la_gemm_f64(false, true, R, K, p->d2, 1, s->u, p->d2, k, p->d2, 0, s->s, K);
        fur_la_gemm_f64(false, true, R, K, p->d3, 1, s->left, p->d3, v, p->d3, 0, s->e, K);
        for (int64_t i = 0; i < R; i++) {
            int64_t sees = fur_max_i64(0, fur_min_i64(K, fit_visible(p, tile, i) - key));
            (void)p->rowexp->exp_mul_f64(sees, s->s + i * K, lse[i], s->e + i * K, s->c[i]);
            memset(s->s + i * K + sees, 0, (size_t)(K - sees) * sizeof *s->s);
        }
        fur_la_gemm_f64(false, false, R, p->d2, K, 1, s->s, K, k, p->d2, 1, s->acc, p->d2);
    }
    fur_la_gemm_f64(true, false, p->d1, p->d2, R, 1, a, p->d1, s->acc, p->d2, 1, g + head * p->d2, D2);
}

fur_status fit_gradient(const fit_problem *p, const double *x, const fit_point *point, double *g)
{
    fur_arena *arena = p->exec->workspace;
    int64_t mark = fur_arena_mark(arena), count = p->d1 * fit_d2(p), C = p->chunks;
    double *partial = fur_arena_push(arena, C * count * 8);
    if (arena->failed)
        return too_small(p);
#pragma omp parallel for schedule(dynamic) num_threads(p->exec->threads)
    for (int64_t c = C - 1; c >= 0; c--) {
        fit_scratch *s = &p->scratch[omp_get_thread_num()];
        memset(partial + c * count, 0, (size_t)count * sizeof *partial);
        for (int64_t t = fit_chunk_at(p->train.count, C, c); t < fit_chunk_at(p->train.count, C, c + 1); t++) {
            const fit_tile *tile = &p->train.at[t];
            const double *a = fit_rows(&p->a, tile->row, tile->rows, s->raw, s->a);
            for (int64_t h = 0; h < p->heads; h++)
                gradient_tile(p, s, tile, h, x, point, a, partial + c * count);
        }
    }
    fit_sum_chunks(p, count, partial, g);
    for (int64_t i = 0; i < count; i++)
        g[i] += p->ridge * x[i];
    fur_arena_release(arena, mark);
    return FUR_OK;
}

/* ---- measuring --------------------------------------------------------------------------------------------------- */

static void measure_tile(const fit_problem *p, fit_scratch *s, const fit_tile *tile, const double *x, const double *y,
                         fit_measure *out)
{
    const double *a = fit_rows(&p->a, tile->row, tile->rows, s->raw, s->a);
    fit_raw_rows(&p->data->b, tile->row, tile->rows, s->o);
    for (int64_t h = 0; h < p->heads; h++) {
        forward_tile(p, s, tile, h, x, a, out);
        fur_la_gemm_f64(false, false, tile->rows, p->dv, p->d3, 1, s->acc, p->d3, y + h * p->d3 * p->dv, p->dv, -1,
                        s->o, p->dv);
        for (int64_t i = 0; i < tile->rows * p->dv && h + 1 < p->heads; i++)
            s->o[i] = -s->o[i]; /* beta -1 turns the sign of what is left each time */
    }
    for (int64_t i = 0; i < tile->rows; i++) {
        double w = fit_root_w(p, tile->row + i);
        for (int64_t c = 0; c < p->dv; c++) {
            double off = s->o[i * p->dv + c];
            out->square += w * w * off * off;
            out->largest = fmax(out->largest, fabs(off));
        }
    }
}

fur_status fit_measure_tiles(const fit_problem *p, const fit_tiles *tiles, const double *x, const double *y,
                             fit_measure *out)
{
    fur_arena *arena = p->exec->workspace;
    int64_t mark = fur_arena_mark(arena), C = fur_max_i64(1, fur_min_i64(p->chunks, tiles->count));
    fit_measure *partial = fur_arena_push(arena, C * (int64_t)sizeof *partial);
    if (arena->failed)
        return too_small(p);
#pragma omp parallel for schedule(dynamic) num_threads(p->exec->threads)
    for (int64_t c = 0; c < C; c++) {
        partial[c] = (fit_measure){0};
        for (int64_t t = fit_chunk_at(tiles->count, C, c); t < fit_chunk_at(tiles->count, C, c + 1); t++)
            measure_tile(p, &p->scratch[omp_get_thread_num()], &tiles->at[t], x, y, &partial[c]);
    }
    *out = (fit_measure){0};
    for (int64_t c = 0; c < C; c++) {
        out->square += partial[c].square;
        out->largest = fmax(out->largest, partial[c].largest);
        out->logit_max = fmax(out->logit_max, partial[c].logit_max);
        out->logit_square += partial[c].logit_square;
        out->pairs += partial[c].pairs;
    }
    fur_arena_release(arena, mark);
    return FUR_OK;
}
