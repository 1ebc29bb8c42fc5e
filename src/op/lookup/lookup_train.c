/* SPDX-License-Identifier: Apache-2.0 */
/* Checks, workspace, threads of lookup's gradients and of the update of its tables. */
#include <math.h>
#include <omp.h>
#include <string.h>

#include "op/chunk.h"
#include "op/lookup/lookup_kernel.h"

/* ---- workspace -------------------------------------------------------------------------------------------------- */

typedef struct space {
    fur_lookup_sorted sorted;
    float *scratch; /* of each thread */
    int64_t scratch_floats;
    int fits;
} space;

static space lay_out(const fur_exec *exec, fur_arena *arena, const fur_lookup *map, int64_t tokens)
{
    int64_t K = fur_lookup_tables(map), block = fur_min_i64(tokens, FUR_LOOKUP_BLOCK);
    space out = {.scratch_floats = block * fur_lookup_kernel_of(exec)->strip};
    fur_lookup_sorted *s = &out.sorted;
    s->entries = block * (map->two_rows ? 2 : 1);
    s->start_KN = fur_arena_push(arena, K * (fur_lookup_rows(map) + 1) * (int64_t)sizeof *s->start_KN);
    s->token_KE = fur_arena_push(arena, K * s->entries * (int64_t)sizeof *s->token_KE);
    s->weight_KE = fur_arena_push_f32(arena, K * s->entries);
    out.scratch = fur_arena_push_f32(arena, out.scratch_floats * exec->threads);
    out.fits = s->start_KN && s->token_KE && s->weight_KE && out.scratch;
    return out;
}

typedef struct input_space {
    float *g_TS;
    float *scratch; /* of each thread */
    int64_t scratch_floats;
    fur_lookup_plan plan;
    int fits;
} input_space;

static input_space lay_out_input(const fur_exec *exec, fur_arena *arena, const fur_lookup *map, int64_t tokens)
{
    int64_t block = fur_min_i64(tokens, FUR_LOOKUP_BLOCK);
    input_space out = {.scratch_floats = block * FUR_LOOKUP_TILE};
    out.g_TS = fur_arena_push_f32(arena, block * fur_lookup_score_stride(map));
    out.scratch = fur_arena_push_f32(arena, out.scratch_floats * exec->threads);
    int64_t group = fur_lookup_kernel_of(exec)->score_group;
    out.fits = fur_lookup_plan_push(arena, map, block, group, 0, &out.plan) && out.g_TS && out.scratch;
    return out;
}

/* Of the update: factors of rows, gains of columns. */
typedef struct update_space {
    fur_lookup_row *row_KR;
    float *gain_O;
} update_space;

static update_space lay_out_update(fur_arena *arena, const fur_lookup *map)
{
    int64_t rows = fur_lookup_tables(map) * fur_lookup_rows(map);
    update_space out = {.row_KR = fur_arena_push(arena, rows * (int64_t)sizeof *out.row_KR)};
    out.gain_O = fur_arena_push_f32(arena, fur_lookup_columns(map));
    return out;
}

/* Sums of squares: of rows, and of the columns of each table apart. */
typedef struct square_space {
    double *row_KR, *column_KO;
} square_space;

static square_space lay_out_squares(fur_arena *arena, const fur_lookup *map)
{
    int64_t K = fur_lookup_tables(map), of_double = (int64_t)sizeof(double);
    square_space out = {.row_KR = fur_arena_push(arena, K * fur_lookup_rows(map) * of_double)};
    out.column_KO = fur_arena_push(arena, K * fur_lookup_columns(map) * of_double);
    return out;
}

int64_t fur_lookup_workspace(const fur_exec *exec, const fur_lookup *map, int64_t tokens, int backward)
{
    int64_t most = fur_lookup_forward_workspace(exec, map, tokens);
    if (!backward)
        return most;
    fur_arena tables = fur_arena_counting(), input = fur_arena_counting(), squares = fur_arena_counting(),
              update = fur_arena_counting();
    lay_out(exec, &tables, map, tokens);
    lay_out_input(exec, &input, map, tokens);
    lay_out_squares(&squares, map);
    lay_out_update(&update, map);
    most = fur_max_i64(fur_max_i64(most, tables.peak), fur_max_i64(input.peak, fur_max_i64(squares.peak, update.peak)));
    return fur_round_up(most, FUR_ARENA_ALIGN);
}

static fur_status too_small(const fur_exec *exec, int64_t mark, const fur_lookup *map)
{
    fur_arena_release(exec->workspace, mark);
    return fur_error_set(exec->error, FUR_E_MEMORY, "lookup of %lld to %lld columns: workspace too small",
                         (long long)map->in, (long long)map->out);
}

/* ---- gradient of the tables ------------------------------------------------------------------------------------- */

/* Counting sort of one table's entries: by row, within it by token, then by slot. */
static void sort_table(const fur_lookup *map, const fur_lookup_codes *codes, int64_t first, int64_t k,
                       const fur_lookup_sorted *out)
{
    int64_t R = fur_lookup_rows(map), K = fur_lookup_tables(map), slots = map->two_rows ? 2 : 1, T = codes->tokens;
    int32_t *start = out->start_KN + k * (R + 1), sum = 0;
    memset(start, 0, (size_t)(R + 1) * sizeof *start);
    for (int64_t n = 0; n < slots; n++) {
        const uint16_t *code = codes->code_ST + (k + n * K) * T + first;
        for (int64_t t = 0; t < out->tokens; t++)
            start[code[t]]++;
    }
    for (int64_t r = 0; r <= R; r++) {
        int32_t count = start[r];
        start[r] = sum;
        sum += count;
    }
    uint16_t *token = out->token_KE + k * out->entries;
    float *weight = out->weight_KE + k * out->entries;
    for (int64_t t = 0; t < out->tokens; t++)
        for (int64_t n = 0; n < slots; n++) {
            int64_t at = (k + n * K) * T + first + t;
            int32_t to = start[codes->code_ST[at]]++;
            token[to] = (uint16_t)t;
            weight[to] = codes->weight_ST[at];
        }
    /* each start has moved on to the next row's */
    memmove(start + 1, start, (size_t)R * sizeof *start);
    start[0] = 0;
}

static void touch(const fur_lookup *map, const fur_lookup_sorted *sorted, uint8_t *touched_KR)
{
    int64_t K = fur_lookup_tables(map), R = fur_lookup_rows(map);
    for (int64_t k = 0; k < K; k++)
        for (int64_t r = 0; r < R; r++) {
            const int32_t *start = sorted->start_KN + k * (R + 1) + r;
            touched_KR[k * R + r] |= start[1] > start[0];
        }
}

static fur_status check_gradient(const fur_exec *exec, const fur_lookup *map, const fur_lookup_codes *codes,
                                 int64_t lddy)
{
    FUR_TRY(fur_lookup_check(exec->error, map));
    if (codes->tokens < 0 || lddy < map->out)
        return fur_error_set(exec->error, FUR_E_SHAPE, "lookup backward of %lld rows of %lld columns, %lld apart",
                             (long long)codes->tokens, (long long)map->out, (long long)lddy);
    return FUR_OK;
}

fur_status fur_lookup_backward_tables(const fur_exec *exec, const fur_lookup *map, const fur_lookup_codes *codes,
                                      const float *dy_TO, int64_t lddy, float *dtable, uint8_t *touched_KR,
                                      float *dbias_O)
{
    FUR_TRY(check_gradient(exec, map, codes, lddy));
    const fur_lookup_kernel *kernel = fur_lookup_kernel_of(exec);
    int64_t mark = fur_arena_mark(exec->workspace), K = fur_lookup_tables(map);
    space at = lay_out(exec, exec->workspace, map, codes->tokens);
    if (!at.fits)
        return too_small(exec, mark, map);
    int64_t strips = fur_lookup_tiles(map) * (FUR_LOOKUP_TILE / kernel->strip);
    for (int64_t first = 0; first < codes->tokens; first += FUR_LOOKUP_BLOCK) {
        at.sorted.tokens = fur_min_i64(FUR_LOOKUP_BLOCK, codes->tokens - first);
#pragma omp parallel num_threads(exec->threads) if (exec->threads > 1)
        {
#pragma omp for schedule(static)
            for (int64_t k = 0; k < K; k++)
                sort_table(map, codes, first, k, &at.sorted);
#pragma omp for schedule(dynamic, 1)
            for (int64_t n = 0; n < strips; n++)
                kernel->table_gradient(map, &at.sorted, n * kernel->strip, dy_TO + first * lddy, lddy, dtable,
                                       touched_KR, dbias_O, at.scratch + omp_get_thread_num() * at.scratch_floats);
        }
        touch(map, &at.sorted, touched_KR);
    }
    fur_arena_release(exec->workspace, mark);
    return FUR_OK;
}

/* ---- gradient of the input -------------------------------------------------------------------------------------- */

static fur_status check_trained(const fur_exec *exec, const fur_lookup *map)
{
    FUR_TRY(fur_lookup_check(exec->error, map));
    if (map->type != FUR_LOOKUP_F32 || map->layout != FUR_LOOKUP_TILES)
        return fur_error_set(exec->error, FUR_E_UNSUPPORTED, "lookup: only f32 tables in tiles have gradients");
    return FUR_OK;
}

fur_status fur_lookup_backward_input(const fur_exec *exec, const fur_lookup *map, const fur_lookup_codes *codes,
                                     const float *x_TI, int64_t ldx, const float *dy_TO, int64_t lddy, int add,
                                     float *dx_TI, int64_t lddx)
{
    FUR_TRY(check_trained(exec, map));
    FUR_TRY(check_gradient(exec, map, codes, lddy));
    if (ldx < map->in || lddx < map->in)
        return fur_error_set(exec->error, FUR_E_SHAPE, "lookup backward to %lld columns, %lld and %lld apart",
                             (long long)map->in, (long long)ldx, (long long)lddx);
    const fur_lookup_kernel *kernel = fur_lookup_kernel_of(exec);
    int64_t mark = fur_arena_mark(exec->workspace), S = fur_lookup_slots(map), stride = fur_lookup_score_stride(map);
    input_space at = lay_out_input(exec, exec->workspace, map, codes->tokens);
    if (!at.fits)
        return too_small(exec, mark, map);
    /* a range of slots a thread: each copies all tiles of dy */
    fur_chunks slots = fur_chunks_of(fur_div_up(S, FUR_LOOKUP_SCORES), 1, exec->threads);
    slots.size *= FUR_LOOKUP_SCORES;
    for (int64_t first = 0; first < codes->tokens; first += FUR_LOOKUP_BLOCK) {
        int64_t tokens = fur_min_i64(FUR_LOOKUP_BLOCK, codes->tokens - first);
        const float *dy = dy_TO + first * lddy, *x = x_TI + first * ldx;
        float *dx = dx_TI + first * lddx;
        fur_chunks part = fur_chunks_of(tokens, 64, fur_div_up(exec->threads, slots.count));
        fur_chunks rows = fur_chunks_of_rows(tokens, map->in);
        at.plan.tokens = tokens;
        fur_lookup_plan_make(exec, map, codes, first, kernel->score_group, &at.plan);
#pragma omp parallel num_threads(exec->threads) if (exec->threads > 1)
        {
#pragma omp for schedule(dynamic, 1)
            for (int64_t n = 0; n < slots.count * part.count; n++) {
                int64_t s = n / part.count * slots.size, begin = n % part.count * part.size;
                kernel->scores(map, codes, first, &at.plan, s, fur_min_i64(s + slots.size, S), begin,
                               begin + fur_chunk_items(part, n % part.count, tokens), dy, lddy, at.g_TS,
                               at.scratch + omp_get_thread_num() * at.scratch_floats);
            }
#pragma omp for schedule(static)
            for (int64_t n = 0; n < rows.count; n++) {
                int64_t t = n * rows.size;
                kernel->input(map, fur_chunk_items(rows, n, tokens), x + t * ldx, ldx, at.g_TS + t * stride, add,
                              dx + t * lddx, lddx);
            }
        }
    }
    fur_arena_release(exec->workspace, mark);
    return FUR_OK;
}

/* ---- update ----------------------------------------------------------------------------------------------------- */

static void set_even(const fur_lookup *map, double total, const double *column_KO, float *even_O)
{
    int64_t K = fur_lookup_tables(map), columns = fur_lookup_columns(map);
    for (int64_t o = 0; o < columns; o++) {
        double sum = 0;
        for (int64_t k = 0; k < K; k++)
            sum += column_KO[k * columns + o];
        even_O[o] = sum > 0 ? (float)fmin(sqrt(total / (double)map->out / sum), FUR_LOOKUP_MOST_EVEN) : 1;
    }
}

fur_status fur_lookup_sum_squares(const fur_exec *exec, const fur_lookup *map, const float *dtable,
                                  const uint8_t *touched_KR, float *square_KR, float *even_O, double *sum)
{
    FUR_TRY(fur_lookup_check(exec->error, map));
    const fur_lookup_kernel *kernel = fur_lookup_kernel_of(exec);
    int64_t K = fur_lookup_tables(map), R = fur_lookup_rows(map), columns = fur_lookup_columns(map);
    int64_t mark = fur_arena_mark(exec->workspace);
    square_space at = lay_out_squares(exec->workspace, map);
    if (!at.row_KR || !at.column_KO)
        return too_small(exec, mark, map);
#pragma omp parallel for schedule(static) num_threads(exec->threads)
    for (int64_t k = 0; k < K; k++) {
        double *row = at.row_KR + k * R, *column = at.column_KO + k * columns;
        memset(row, 0, (size_t)R * sizeof *row);
        memset(column, 0, (size_t)columns * sizeof *column);
        for (int64_t tile = 0; tile < fur_lookup_tiles(map); tile++) {
            const float *d = dtable + fur_lookup_tile_at(map, tile, k);
            for (int64_t r = 0; r < R; r++)
                if (touched_KR[k * R + r])
                    row[r] += kernel->square(d + r * FUR_LOOKUP_TILE, column + tile * FUR_LOOKUP_TILE);
        }
    }
    *sum = 0;
    for (int64_t n = 0; n < K * R; n++) {
        square_KR[n] = (float)at.row_KR[n];
        *sum += at.row_KR[n];
    }
    set_even(map, *sum, at.column_KO, even_O);
    fur_arena_release(exec->workspace, mark);
    return FUR_OK;
}

static fur_status check_factors(const fur_exec *exec, const fur_lookup *map, const fur_lookup_update *a)
{
    FUR_TRY(check_trained(exec, map));
    if (!(a->lr >= 0 && isfinite(a->lr)) || !(a->beta1 >= 0 && a->beta1 <= 0.99) || !(a->beta2 >= 0 && a->beta2 < 1) ||
        !(a->eps > 0 && isfinite(a->eps)) || !(a->weight_decay >= 0 && a->lr * a->weight_decay <= 1) || a->step < 1 ||
        a->step > UINT32_MAX || !isfinite(a->grad_scale))
        return fur_error_set(
            exec->error, FUR_E_ARGUMENT,
            "lookup update: lr %g, betas %g (at most 0.99) and %g, eps %g, weight decay %g, step %lld, "
            "scale %g: one is out of range",
            a->lr, a->beta1, a->beta2, a->eps, a->weight_decay, (long long)a->step, (double)a->grad_scale);
    return FUR_OK;
}

/* What a step without a gradient does: of the steps that a row can have missed, the latest first. */
typedef struct missed_step {
    double keep, rate, root; /* 1 - lr weight_decay; lr / (1 - beta1^s); 1 / sqrt(1 - beta2^s) */
} missed_step;

static void list_missed(const fur_lookup_update *a, missed_step out[FUR_LOOKUP_BEHIND])
{
    for (int64_t i = 0; i < fur_min_i64(a->step - 1, FUR_LOOKUP_BEHIND); i++) {
        double step = (double)(a->step - 1 - i), lr = a->lr_before[i];
        out[i] = (missed_step){.keep = 1 - lr * a->weight_decay,
                               .rate = lr / (1 - pow(a->beta1, step)),
                               .root = 1 / sqrt(1 - pow(a->beta2, step))};
    }
}

/* All of `gap` steps: w <- keep w - rate m, m <- decay m. */
static fur_lookup_row missed_by(const fur_lookup_update *a, const missed_step *missed, int64_t gap, double v)
{
    double keep = 1, moved = 0, m = 1, root = sqrt(v), shrink = sqrt(a->beta2);
    for (int64_t i = gap - 1; i >= 0; i--) {
        const missed_step *s = &missed[i];
        m *= a->beta1;
        root *= shrink;
        keep *= s->keep;
        moved = moved * s->keep + s->rate * m / (root * s->root + a->eps);
    }
    return (fur_lookup_row){.keep = (float)keep, .decay = (float)m, .rate = (float)moved};
}

static void catch_up_row(const fur_lookup_kernel *kernel, const fur_lookup *map, const fur_lookup_update *a,
                         const missed_step *missed, int64_t n, float *table, const fur_lookup_moments *moments)
{
    int64_t R = fur_lookup_rows(map), gap = a->step - 1 - (int64_t)moments->last_KR[n];
    if (gap == 0)
        return;
    double v = (double)moments->v_KR[n];
    fur_lookup_row row = missed_by(a, missed, gap, v);
    for (int64_t tile = 0; tile < fur_lookup_tiles(map); tile++) {
        int64_t at = fur_lookup_tile_at(map, tile, n / R) + n % R * FUR_LOOKUP_TILE;
        kernel->catch_up(&row, table + at, moments->m + at);
    }
    moments->v_KR[n] = (float)(pow(a->beta2, (double)gap) * v);
    moments->last_KR[n] = (uint32_t)(a->step - 1);
}

fur_status fur_lookup_catch_up(const fur_exec *exec, const fur_lookup *map, const fur_lookup_codes *codes, float *table,
                               const fur_lookup_moments *moments, const fur_lookup_update *args)
{
    FUR_TRY(check_factors(exec, map, args));
    int64_t K = fur_lookup_tables(map), R = fur_lookup_rows(map), slots = map->two_rows ? 2 : 1;
    for (int64_t n = 0; n < K * R; n++) {
        int64_t gap = args->step - 1 - (int64_t)moments->last_KR[n];
        if (gap < 0 || gap > FUR_LOOKUP_BEHIND)
            return fur_error_set(exec->error, FUR_E_ARGUMENT,
                                 "lookup update: before step %lld row %lld was updated at %lld, expected at most %d "
                                 "steps before",
                                 (long long)args->step, (long long)n, (long long)moments->last_KR[n],
                                 FUR_LOOKUP_BEHIND);
    }
    const fur_lookup_kernel *kernel = fur_lookup_kernel_of(exec);
    missed_step missed[FUR_LOOKUP_BEHIND];
    list_missed(args, missed);
#pragma omp parallel for schedule(static) num_threads(exec->threads) if (exec->threads > 1)
    for (int64_t k = 0; k < K; k++) {
        for (int64_t r = 0; !codes && r < R; r++)
            catch_up_row(kernel, map, args, missed, k * R + r, table, moments);
        for (int64_t i = 0; codes && i < slots * codes->tokens; i++) {
            int64_t slot = k + i / codes->tokens * K, t = i % codes->tokens;
            catch_up_row(kernel, map, args, missed, k * R + codes->code_ST[slot * codes->tokens + t], table, moments);
        }
    }
    return FUR_OK;
}

static fur_status check_update(const fur_exec *exec, const fur_lookup *map, const uint8_t *touched_KR,
                               const fur_lookup_moments *moments, const fur_lookup_update *a)
{
    FUR_TRY(check_factors(exec, map, a));
    int64_t rows = fur_lookup_tables(map) * fur_lookup_rows(map);
    for (int64_t n = 0; n < rows; n++)
        if (touched_KR[n] && (int64_t)moments->last_KR[n] != a->step - 1)
            return fur_error_set(exec->error, FUR_E_ARGUMENT,
                                 "lookup update: step %lld, but row %lld is that of step %lld", (long long)a->step,
                                 (long long)n, (long long)moments->last_KR[n]);
    return FUR_OK;
}

/* Factors of a row, and its second moment with the sum of its gradient's squares. */
static fur_lookup_row move_row(const fur_lookup *map, const fur_lookup_moments *moments, const fur_lookup_update *a,
                               int64_t n, double square)
{
    fur_lookup_row row = {.keep = (float)(1 - a->lr * a->weight_decay), .decay = (float)a->beta1};
    double scale = (double)a->grad_scale, v = a->beta2 * (double)moments->v_KR[n];
    v += (1 - a->beta2) * scale * scale * square / (double)map->out;
    double below = sqrt(v / (1 - pow(a->beta2, (double)a->step))) + a->eps;
    row.rate = (float)(a->lr / (1 - pow(a->beta1, (double)a->step)) / below);
    moments->v_KR[n] = (float)v;
    moments->last_KR[n] = (uint32_t)a->step;
    return row;
}

fur_status fur_lookup_update_lazy(const fur_exec *exec, const fur_lookup *map, float *table, const float *dtable,
                                  const uint8_t *touched_KR, const float *square_KR, const float *even_O,
                                  const fur_lookup_moments *moments, const fur_lookup_update *args)
{
    FUR_TRY(check_update(exec, map, touched_KR, moments, args));
    const fur_lookup_kernel *kernel = fur_lookup_kernel_of(exec);
    int64_t K = fur_lookup_tables(map), R = fur_lookup_rows(map), mark = fur_arena_mark(exec->workspace);
    update_space of = lay_out_update(exec->workspace, map);
    if (!of.row_KR || !of.gain_O)
        return too_small(exec, mark, map);
    for (int64_t o = 0; o < fur_lookup_columns(map); o++)
        of.gain_O[o] = (float)((1 - args->beta1) * (double)args->grad_scale * (double)even_O[o]);
#pragma omp parallel num_threads(exec->threads) if (exec->threads > 1)
    {
#pragma omp for schedule(static)
        for (int64_t n = 0; n < K * R; n++)
            if (touched_KR[n])
                of.row_KR[n] = move_row(map, moments, args, n, (double)square_KR[n]);
#pragma omp for schedule(static)
        for (int64_t n = 0; n < fur_lookup_tiles(map) * K; n++) {
            int64_t at = fur_lookup_tile_at(map, n / K, n % K), first = n % K * R;
            const float *gain = of.gain_O + n / K * FUR_LOOKUP_TILE;
            for (int64_t r = 0; r < R; r++, at += FUR_LOOKUP_TILE)
                if (touched_KR[first + r])
                    kernel->update(&of.row_KR[first + r], gain, dtable + at, table + at, moments->m + at);
        }
    }
    fur_arena_release(exec->workspace, mark);
    return FUR_OK;
}
