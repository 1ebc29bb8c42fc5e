/* SPDX-License-Identifier: Apache-2.0 */
/* Counts, tiles, weights and whitening of a problem. */
#include "fit/problem.h"

#include <math.h>
#include <omp.h>
#include <string.h>

#include "base/size.h"
#include "fit/la.h"

/* ---- rows that are held out -------------------------------------------------------------------------------------- */

/* Whole sequences from the end where the share makes at least one of two or more; else the last rows of all, which
 * then belong to the last sequence or few. */
static void split(const fit_shape *shape, const fit_data *data, fit_problem *p)
{
    int64_t S = data->sequences, rows = data->a1.rows;
    int64_t whole = (int64_t)(shape->held_out * (double)S + 0.5);
    p->n = rows;
    p->m = data->a2.rows;
    if (!(shape->held_out > 0))
        return;
    if (whole >= 1 && whole < S) {
        p->n = data->queries[S - whole];
        p->m = data->keys[S - whole];
    } else {
        p->n = rows - fur_max_i64(1, (int64_t)(shape->held_out * (double)rows + 0.5));
    }
    p->held = rows - p->n;
}

/* ---- tiles ------------------------------------------------------------------------------------------------------- */

/* Tiles of rows first .. end-1; at NULL: counted only. */
static int64_t cut_tiles(const fit_problem *p, int64_t first, int64_t end, fit_tile *at, int64_t *pairs,
                         int64_t *numbers)
{
    const fit_data *data = p->data;
    int64_t count = 0;
    for (int64_t s = 0; s < data->sequences; s++) {
        int64_t from = data->queries[s], to = data->queries[s + 1];
        for (int64_t row = fur_max_i64(from, first); row < fur_min_i64(to, end); row += p->tile_rows, count++) {
            fit_tile tile = {.row = row, .rows = fur_min_i64(p->tile_rows, fur_min_i64(to, end) - row)};
            tile.key = data->keys[s];
            tile.keys = p->causal ? row + tile.rows - from : data->keys[s + 1] - tile.key;
            for (int64_t i = 0; i < tile.rows; i++)
                *pairs += fit_visible(p, &tile, i);
            *numbers += tile.rows * tile.keys;
            if (at)
                at[count] = tile;
        }
    }
    return count;
}

static void make_tiles(const fit_problem *p, fur_arena *arena, int64_t first, int64_t end, fit_tiles *out,
                       int64_t *pairs)
{
    int64_t again[2] = {0, 0};
    *pairs = out->numbers = 0;
    out->count = cut_tiles(p, first, end, NULL, pairs, &out->numbers);
    out->at = fur_arena_push(arena, fur_max_i64(1, out->count) * (int64_t)sizeof *out->at);
    if (out->at)
        (void)cut_tiles(p, first, end, out->at, &again[0], &again[1]);
}

/* ---- weights and targets ----------------------------------------------------------------------------------------- */

/* Half the weighted sum of squares about the mean of rows first .. end-1. mean has dv numbers. */
static double spread_of(const fit_problem *p, int64_t first, int64_t end, double *mean)
{
    const fit_array *b = &p->data->b;
    double weight = 0, sum = 0;
    memset(mean, 0, (size_t)p->dv * sizeof *mean);
    for (int64_t i = first; i < end; i++) {
        double w = fit_root_w(p, i) * fit_root_w(p, i);
        weight += w;
        for (int64_t c = 0; c < p->dv; c++)
            mean[c] += w * fit_array_get(b, i * p->dv + c);
    }
    for (int64_t c = 0; c < p->dv && weight > 0; c++)
        mean[c] /= weight;
    for (int64_t i = first; i < end; i++)
        for (int64_t c = 0; c < p->dv; c++) {
            double off = fit_root_w(p, i) * (fit_array_get(b, i * p->dv + c) - mean[c]);
            sum += 0.5 * off * off;
        }
    return sum;
}

static fur_status measure_targets(fit_problem *p, double *mean)
{
    p->l0 = spread_of(p, 0, p->n, mean);
    p->l0_test = spread_of(p, p->n, p->n + p->held, mean);
    double size = 0; /* rounding alone is no target */
    for (int64_t c = 0; c < p->dv; c++)
        size += mean[c] * mean[c];
    if (!(p->l0 > 1e-28 * size * (double)p->n))
        return fur_error_set(p->exec->error, FUR_E_SHAPE,
                             "array \"b\" is the same in every row%s: there is nothing to fit",
                             p->data->weights ? " of any weight" : "");
    return FUR_OK;
}

static fur_status check(const fur_exec *exec, const fit_data *data, const fit_shape *shape)
{
    int64_t widest =
        fur_max_i64(fur_max_i64(data->a1.width, data->a2.width), fur_max_i64(data->a3.width, data->b.width));
    if (data->a1.rows > INT32_MAX / 2 || data->a2.rows > INT32_MAX / 2)
        return fur_error_set(exec->error, FUR_E_SHAPE, "%lld queries and %lld keys, expected at most 2^30",
                             (long long)data->a1.rows, (long long)data->a2.rows);
    if (widest > 8192 || shape->heads < 1 || shape->heads > 256 || widest * shape->heads > 65536)
        return fur_error_set(exec->error, FUR_E_SHAPE, "%lld heads of width %lld, expected at most 8192 in all",
                             (long long)shape->heads, (long long)widest);
    if (!shape->causal)
        return FUR_OK;
    for (int64_t s = 0; s < data->sequences; s++)
        if (data->queries[s + 1] - data->queries[s] != data->keys[s + 1] - data->keys[s])
            return fur_error_set(exec->error, FUR_E_SHAPE,
                                 "causal: sequence %lld has %lld queries and %lld keys, expected as many", (long long)s,
                                 (long long)(data->queries[s + 1] - data->queries[s]),
                                 (long long)(data->keys[s + 1] - data->keys[s]));
    return FUR_OK;
}

/* ---- the whole --------------------------------------------------------------------------------------------------- */

static void push_side(fur_arena *arena, const fit_array *raw, bool centred, bool stored, fit_side *side)
{
    int64_t w = raw->width;
    double *mean = centred ? fur_arena_push(arena, w * 8) : NULL;
    *side = (fit_side){.raw = raw, .width = w, .mean = mean};
    side->map = fur_arena_push(arena, w * w * 8);
    side->back = fur_arena_push(arena, w * w * 8);
    side->values = fur_arena_push(arena, w * 8);
    side->stored = stored ? fur_arena_push(arena, raw->rows * w * 8) : NULL;
}

static void mean_of(const fit_array *raw, int64_t rows, double *mean)
{
    memset(mean, 0, (size_t)raw->width * sizeof *mean);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t c = 0; c < raw->width; c++)
            mean[c] += fit_array_get(raw, i * raw->width + c) / (double)rows;
}

static void store_rows(const fur_exec *exec, fit_side *side, const fit_scratch *scratch, double *stored)
{
    int64_t rows = side->raw->rows, tiles = fur_div_up(rows, FIT_ROWS);
    if (!stored)
        return;
    side->stored = NULL;
#pragma omp parallel for schedule(static) num_threads(exec->threads)
    for (int64_t t = 0; t < tiles; t++)
        (void)fit_rows(side, t * FIT_ROWS, fur_min_i64(FIT_ROWS, rows - t * FIT_ROWS),
                       scratch[omp_get_thread_num()].raw, stored + t * FIT_ROWS * side->width);
    side->stored = stored;
}

static void push_scratch(fit_problem *p, fur_arena *arena)
{
    int64_t R = p->tile_rows, K = p->tile_keys, most = fur_max_i64(R, K);
    int64_t raw = fur_max_i64(p->data->a1.width, fur_max_i64(p->data->a2.width, p->data->a3.width));
    p->scratch = fur_arena_push(arena, p->exec->threads * (int64_t)sizeof *p->scratch);
    for (int i = 0; i < p->exec->threads; i++) {
        fit_scratch s = {.raw = fur_arena_push(arena, fur_max_i64(most, FIT_ROWS) * raw * 8),
                         .a = fur_arena_push(arena, R * p->d1 * 8),
                         .u = fur_arena_push(arena, R * fit_d2(p) * 8),
                         .k = fur_arena_push(arena, fur_max_i64(K * p->d2, R * p->d3) * 8),
                         .v = fur_arena_push(arena, fur_max_i64(K * p->d3, R * p->dv) * 8),
                         .s = fur_arena_push(arena, R * K * 8),
                         .e = fur_arena_push(arena, R * K * 8),
                         .acc = fur_arena_push(arena, R * fur_max_i64(p->d3, fur_max_i64(p->d2, p->dv)) * 8),
                         .left = fur_arena_push(arena, R * fur_max_i64(p->d3, p->dv) * 8),
                         .o = fur_arena_push(arena, R * p->dv * 8),
                         .m = fur_arena_push(arena, R * 8),
                         .l = fur_arena_push(arena, R * 8),
                         .c = fur_arena_push(arena, R * 8)};
        if (p->scratch)
            p->scratch[i] = s;
    }
}

fur_status fit_problem_make(const fur_exec *exec, fur_arena *arena, const fit_data *data, const fit_shape *shape,
                            fit_problem *out)
{
    FUR_TRY(check(exec, data, shape));
    fit_problem p = {.exec = exec,
                     .data = data,
                     .rowexp = fur_rowexp_of(exec->isa),
                     .d1 = data->a1.width,
                     .d2 = data->a2.width,
                     .d3 = data->a3.width,
                     .dv = data->b.width,
                     .heads = shape->heads,
                     .causal = shape->causal,
                     .tile_rows = shape->tile_rows > 0 ? shape->tile_rows : FIT_ROWS,
                     .tile_keys = shape->tile_keys > 0 ? shape->tile_keys : FIT_KEYS};
    int64_t pairs_test;
    split(shape, data, &p);
    if (p.n < 1)
        return fur_error_set(exec->error, FUR_E_SHAPE, "%lld rows, all of them held out", (long long)data->a1.rows);
    make_tiles(&p, arena, 0, p.n, &p.train, &p.pairs);
    make_tiles(&p, arena, p.n, p.n + p.held, &p.test, &pairs_test);
    int64_t sum = fur_max_i64(p.d1 * fit_d2(&p), fit_d3(&p) * p.dv); /* numbers of a partial sum: 32 MiB for all */
    p.chunks = fur_max_i64(1, fur_min_i64(p.train.count, fur_max_i64(4, fur_min_i64(32, ((int64_t)4 << 20) / sum))));
    p.root_w = data->weights ? fur_arena_push(arena, data->a1.rows * 8) : NULL;
    push_side(arena, &data->a1, false, shape->store_whitened, &p.a);
    push_side(arena, &data->a2, shape->centre, shape->store_whitened, &p.k);
    push_side(arena, &data->a3, false, shape->store_whitened && !data->a3.shared, &p.v);
    push_scratch(&p, arena);
    double *mean = fur_arena_push(arena, p.dv * 8);
    if (arena->failed)
        return fur_error_set(exec->error, FUR_E_INTERNAL, "the arena of a fit is too small for its problem");
    if (arena->base) {
        for (int64_t i = 0; p.root_w && i < data->a1.rows; i++)
            p.root_w[i] = sqrt(data->weights[i]);
        FUR_TRY(measure_targets(&p, mean));
        double cut = shape->cut > 0 ? shape->cut : fmax(1e-9, 16 * data->epsilon);
        if (p.k.mean)
            mean_of(&data->a2, p.m, (double *)p.k.mean);
        double *stored[3] = {p.a.stored, p.k.stored, p.v.stored};
        p.a.stored = p.k.stored = p.v.stored = NULL;
        FUR_TRY(fit_whiten(exec, p.n, cut, data->a2.shared ? "x" : "a1", &p.a));
        FUR_TRY(fit_whiten(exec, p.m, cut, data->a2.shared ? "x" : "a2", &p.k));
        if (data->a3.shared) { /* rows and keys are the same: one map serves both */
            p.v = p.a;
        } else {
            FUR_TRY(fit_whiten(exec, p.m, cut, "a3", &p.v));
        }
        p.d1 = p.a.width;
        p.d2 = p.k.width;
        p.d3 = p.v.width;
        store_rows(exec, &p.a, p.scratch, stored[0]);
        store_rows(exec, &p.k, p.scratch, stored[1]);
        if (data->a3.shared)
            p.v.stored = p.a.stored;
        else
            store_rows(exec, &p.v, p.scratch, stored[2]);
    }
    *out = p;
    return FUR_OK;
}

/* ---- coordinates ------------------------------------------------------------------------------------------------- */

void fit_x_given(const fit_problem *p, const double *x, double *given, double *work)
{
    int64_t D2 = fit_d2(p), r1 = p->a.raw->width, r2 = p->k.raw->width;
    for (int64_t h = 0; h < p->heads; h++) {
        fur_la_gemm_f64(false, false, r1, p->d2, p->d1, 1, p->a.map, p->d1, x + h * p->d2, D2, 0, work, p->d2);
        fur_la_gemm_f64(false, true, r1, r2, p->d2, 1, work, p->d2, p->k.map, p->d2, 0, given + h * r1 * r2, r2);
    }
}

void fit_x_whitened(const fit_problem *p, const double *given, double *x, double *work)
{
    int64_t D2 = fit_d2(p), r1 = p->a.raw->width, r2 = p->k.raw->width;
    for (int64_t h = 0; h < p->heads; h++) {
        fur_la_gemm_f64(false, false, r1, p->d2, r2, 1, given + h * r1 * r2, r2, p->k.back, p->d2, 0, work, p->d2);
        fur_la_gemm_f64(true, false, p->d1, p->d2, r1, 1, p->a.back, p->d1, work, p->d2, 0, x + h * p->d2, D2);
    }
}

void fit_y_given(const fit_problem *p, const double *y, double *given)
{
    for (int64_t h = 0; h < p->heads; h++)
        fur_la_gemm_f64(false, false, p->v.raw->width, p->dv, p->d3, 1, p->v.map, p->d3, y + h * p->d3 * p->dv, p->dv,
                        0, given + h * p->v.raw->width * p->dv, p->dv);
}

void fit_y_whitened(const fit_problem *p, const double *given, double *y)
{
    for (int64_t h = 0; h < p->heads; h++)
        fur_la_gemm_f64(true, false, p->d3, p->dv, p->v.raw->width, 1, p->v.back, p->d3,
                        given + h * p->v.raw->width * p->dv, p->dv, 0, y + h * p->d3 * p->dv, p->dv);
}
