/* SPDX-License-Identifier: Apache-2.0 */
/* Look-up projections on arrays of the caller, whose tables lie as anybody would lay them out, [K][R][O]. That is the
 * operator's layout for a few tokens; for many, and for gradients, tables are copied to tiles and back. */
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <string.h>

#include "api/operators.h"
#include "base/size.h"
#include "op/lookup/lookup.h"

/* As in decoding: rows where they lie. */
#define FEW_TOKENS 16

void fur_operator_lookup_defaults(fur_operator_lookup *s)
{
    memset(s, 0, sizeof *s);
    s->struct_size = sizeof *s;
}

typedef struct lookup_run {
    fur_exec exec;
    fur_arena arena;
    fur_lookup map; /* as the caller has it: rows */
    fur_lookup tiled;
    fur_lookup_codes codes;
    int tiles, backward;
    float *table, *dtable; /* in tiles */
    uint8_t *touched;
    char what[FUR_OPERATOR_TEXT];
} lookup_run;

static fur_status check(fur_context *context, const fur_operator_lookup *s, lookup_run *r)
{
    fur_error *error = &context->error;
    FUR_TRY(fur_operator_check_size(error, "fur_operator_lookup", s->struct_size, sizeof *s));
    memset(r, 0, sizeof *r);
    snprintf(r->what, sizeof r->what, "look-up projection of x[%lld,%lld] to [%lld,%lld] by %lld bits",
             (long long)s->tokens, (long long)s->in, (long long)s->tokens, (long long)s->out, (long long)s->bits);
    if (s->tokens < 0 || s->tokens > (int64_t)1 << 40 || s->in < 1 || s->in > (int64_t)1 << 24 || s->out < 1 ||
        s->out > (int64_t)1 << 24)
        return fur_error_set(error, FUR_E_SHAPE, "%s: expected 0 to 2^40 tokens, widths of 1 to 2^24", r->what);
    if (s->bits < 1 || s->bits > FUR_LOOKUP_MOST_BITS || s->in % s->bits)
        return fur_error_set(error, FUR_E_SHAPE, "%s: expected 1 to %d bits that divide the width", r->what,
                             FUR_LOOKUP_MOST_BITS);
    int probability = s->temperature > 0 || s->temperature < 0 || isnan(s->temperature);
    if (probability && !(s->temperature >= 1e-6 && s->temperature <= 1e3))
        return fur_error_set(error, FUR_E_ARGUMENT, "%s: temperature %g, expected 0, or 1e-6 to 1000", r->what,
                             s->temperature);
    r->map = (fur_lookup){.in = s->in,
                          .out = s->out,
                          .bits = s->bits,
                          .score = probability ? FUR_LOOKUP_PROBABILITY : FUR_LOOKUP_MAGNITUDE,
                          .temperature = (float)s->temperature,
                          .two_rows = s->two_rows,
                          .layout = FUR_LOOKUP_ROWS};
    r->tiled = r->map;
    r->tiled.layout = FUR_LOOKUP_TILES;
    FUR_TRY(fur_lookup_check(error, &r->map));
    FUR_TRY(fur_lookup_check(error, &r->tiled));
    return FUR_OK;
}

static void lay_out(lookup_run *r, int64_t tokens, fur_arena *arena)
{
    int64_t elements = fur_lookup_table_elements(&r->tiled);
    int64_t table_bytes = elements > INT64_MAX / 4 ? INT64_MAX : elements * (int64_t)sizeof(float);
    void *codes = fur_arena_push(arena, fur_lookup_codes_bytes(&r->map, tokens));
    fur_lookup_codes_place(&r->map, tokens, codes, &r->codes);
    r->table = fur_arena_push(arena, r->tiles ? table_bytes : 0);
    r->dtable = fur_arena_push(arena, r->backward ? table_bytes : 0);
    r->touched = fur_arena_push(arena, r->backward ? fur_lookup_tables(&r->map) * fur_lookup_rows(&r->map) : 0);
}

static fur_status measure(fur_context *context, const fur_operator_lookup *s, int backward, lookup_run *r,
                          int64_t *bytes)
{
    FUR_TRY(check(context, s, r));
    r->exec = context->exec;
    r->backward = backward;
    r->tiles = backward || s->tokens > FEW_TOKENS;
    fur_arena counting = fur_arena_counting();
    lay_out(r, s->tokens, &counting);
    int64_t work = fur_max_i64(fur_lookup_workspace(&r->exec, &r->map, s->tokens, 0),
                               fur_lookup_workspace(&r->exec, &r->tiled, s->tokens, backward));
    if (counting.failed || !fur_add_ok(counting.peak, work, bytes) || !fur_add_ok(*bytes, FUR_ARENA_ALIGN, bytes))
        return fur_error_set(&context->error, FUR_E_SHAPE, "%s: more bytes of workspace than can be counted", r->what);
    return FUR_OK;
}

fur_status fur_operator_lookup_bytes(fur_context *context, const fur_operator_lookup *settings, bool backward,
                                     int64_t *out)
{
    lookup_run r;
    return measure(context, settings, backward, &r, out);
}

static fur_status begin(fur_context *context, const fur_operator_lookup *s, int backward, const float *x_TI,
                        const float *table_KRO, lookup_run *r)
{
    int64_t bytes;
    FUR_TRY(measure(context, s, backward, r, &bytes));
    FUR_TRY(fur_operator_arena(&context->error, r->what, bytes, s->memory_bytes, &r->arena));
    lay_out(r, s->tokens, &r->arena);
    r->exec.workspace = &r->arena;
    r->map.table = table_KRO;
    fur_status status = fur_lookup_hash(&r->exec, &r->map, x_TI, s->in, &r->codes);
    if (status == FUR_OK && r->tiles)
        status = fur_lookup_pack(&r->exec, &r->map, FUR_LOOKUP_TILES, FUR_LOOKUP_F32, r->table, NULL);
    r->tiled.table = r->table;
    return status;
}

fur_status fur_operator_lookup_forward(fur_context *context, const fur_operator_lookup *settings, const float *x_TI,
                                       const float *table_KRO, const float *bias_O, float *y_TO)
{
    lookup_run r = {0};
    fur_status status = begin(context, settings, 0, x_TI, table_KRO, &r);
    if (status == FUR_OK) {
        fur_lookup map = r.tiles ? r.tiled : r.map;
        map.bias_O = bias_O;
        status = fur_lookup_forward(&r.exec, &map, &r.codes, 0, y_TO, settings->out);
    }
    fur_arena_destroy(&r.arena);
    return status;
}

static fur_status table_backward(lookup_run *r, const float *dy_TO, float *dtable_KRO, float *dbias_O)
{
    int64_t elements = fur_lookup_table_elements(&r->tiled);
    int64_t rows = fur_lookup_tables(&r->map) * fur_lookup_rows(&r->map);
    if (dbias_O)
        memset(dbias_O, 0, (size_t)r->map.out * sizeof *dbias_O);
    memset(r->dtable, 0, (size_t)elements * sizeof *r->dtable);
    memset(r->touched, 1, (size_t)rows); /* every row begins at zero, whether a token reads it or not */
    FUR_TRY(
        fur_lookup_backward_tables(&r->exec, &r->tiled, &r->codes, dy_TO, r->map.out, r->dtable, r->touched, dbias_O));
    if (!dtable_KRO)
        return FUR_OK;
    fur_lookup gradient = r->tiled;
    gradient.table = r->dtable;
    return fur_lookup_pack(&r->exec, &gradient, FUR_LOOKUP_ROWS, FUR_LOOKUP_F32, dtable_KRO, NULL);
}

fur_status fur_operator_lookup_backward(fur_context *context, const fur_operator_lookup *settings, const float *x_TI,
                                        const float *table_KRO, const float *dy_TO, float *dx_TI, float *dtable_KRO,
                                        float *dbias_O)
{
    lookup_run r = {0};
    fur_status status = begin(context, settings, 1, x_TI, table_KRO, &r);
    if (status == FUR_OK && (dtable_KRO || dbias_O))
        status = table_backward(&r, dy_TO, dtable_KRO, dbias_O);
    if (status == FUR_OK && dx_TI)
        status = fur_lookup_backward_input(&r.exec, &r.tiled, &r.codes, x_TI, r.map.in, dy_TO, r.map.out, 0, dx_TI,
                                           r.map.in);
    fur_arena_destroy(&r.arena);
    return status;
}

/* ---- f64 --------------------------------------------------------------------------------------------------------- */

/* A chunk of a token: the row its signs name and its weight, and where two rows are read, the one across the least
 * coordinate. */
typedef struct chunk {
    int64_t code, flipped, least;
    double weight, flipped_weight;
    double P, s, edge; /* product, sum of sizes, e^(-2 m_least / t) */
    double t;
} chunk;

/* temperature: the map has it in f32 */
static chunk chunk_of(const fur_lookup *map, double temperature, const double *z)
{
    int magnitude = map->score == FUR_LOOKUP_MAGNITUDE;
    chunk c = {.P = 1, .t = magnitude ? 1 : temperature};
    for (int64_t i = 0; i < map->bits; i++) {
        double m = fabs(z[i]);
        c.code = c.code << 1 | (z[i] >= 0);
        c.s += m;
        c.P /= 1 + exp(-2 * m / c.t);
        c.least = m < fabs(z[c.least]) ? i : c.least;
    }
    double m = fabs(z[c.least]);
    c.edge = exp(-2 * m / c.t);
    c.flipped = c.code ^ ((int64_t)1 << (map->bits - 1 - c.least));
    c.weight = magnitude ? c.s * c.P : c.P;
    c.flipped_weight = magnitude ? (c.s - 2 * m) * c.P * c.edge : c.P * c.edge;
    return c;
}

static const double *row_at(const fur_lookup *map, const double *table, int64_t k, int64_t code)
{
    return table + (k * fur_lookup_rows(map) + code) * map->out;
}

static double dot(const double *a, const double *b, int64_t count)
{
    double sum = 0;
    for (int64_t i = 0; i < count; i++)
        sum += a[i] * b[i];
    return sum;
}

static int first_not_finite(const double *x, int64_t rows, int64_t width, int64_t *row)
{
    for (int64_t i = 0; i < rows * width; i++)
        if (!isfinite(x[i])) {
            *row = i / width;
            return 1;
        }
    return 0;
}

static fur_status begin_f64(fur_context *context, const fur_operator_lookup *s, const double *x_TI, lookup_run *r)
{
    int64_t row;
    FUR_TRY(check(context, s, r));
    if (first_not_finite(x_TI, s->tokens, s->in, &row))
        return fur_error_set(&context->error, FUR_E_NONFINITE, "%s: row %lld of x is not finite", r->what,
                             (long long)row);
    return FUR_OK;
}

fur_status fur_operator_lookup_forward_f64(fur_context *context, const fur_operator_lookup *settings,
                                           const double *x_TI, const double *table_KRO, const double *bias_O,
                                           double *y_TO)
{
    lookup_run r;
    FUR_TRY(begin_f64(context, settings, x_TI, &r));
    const fur_lookup *map = &r.map;
    int64_t tables = fur_lookup_tables(map), T = settings->tokens;
#pragma omp parallel for schedule(static) num_threads(context->exec.threads) if (T > 1)
    for (int64_t t = 0; t < T; t++) {
        double *y = y_TO + t * map->out;
        for (int64_t o = 0; o < map->out; o++)
            y[o] = bias_O ? bias_O[o] : 0;
        for (int64_t k = 0; k < tables; k++) {
            chunk c = chunk_of(map, settings->temperature, x_TI + t * map->in + k * map->bits);
            const double *row = row_at(map, table_KRO, k, c.code), *flipped = row_at(map, table_KRO, k, c.flipped);
            for (int64_t o = 0; o < map->out; o++)
                y[o] += c.weight * row[o] + (map->two_rows ? c.flipped_weight * flipped[o] : 0);
        }
    }
    return FUR_OK;
}

/* dz of one chunk, added: through a weight whose row makes g with dy. flipped: through the flipped row's. */
static void chunk_backward(const fur_lookup *map, const chunk *c, const double *z, double g, int flipped, double *dz)
{
    int magnitude = map->score == FUR_LOOKUP_MAGNITUDE;
    double P = flipped ? c->P * c->edge : c->P, s = flipped ? c->s - 2 * fabs(z[c->least]) : c->s;
    for (int64_t i = 0; i < map->bits; i++) {
        double q = 1 / (1 + exp(2 * fabs(z[i]) / c->t)), sign = z[i] >= 0 ? 1 : -1;
        if (flipped && i == c->least) {
            q = 1 - q;
            sign = -sign;
        }
        dz[i] += sign * g * P * (magnitude ? 1 + 2 * s * q : 2 / c->t * q);
    }
}

/* One table: of all its tokens in turn. */
static void backward_of_table(const fur_lookup *map, double temperature, int64_t k, int64_t T, const double *x_TI,
                              const double *table_KRO, const double *dy_TO, double *dx_TI, double *dtable_KRO)
{
    for (int64_t t = 0; t < T; t++) {
        const double *z = x_TI + t * map->in + k * map->bits, *dy = dy_TO + t * map->out;
        double dz[FUR_LOOKUP_MOST_BITS] = {0};
        chunk c = chunk_of(map, temperature, z);
        for (int flipped = 0; flipped <= map->two_rows; flipped++) {
            int64_t code = flipped ? c.flipped : c.code;
            double weight = flipped ? c.flipped_weight : c.weight;
            double *row = dtable_KRO ? dtable_KRO + (k * fur_lookup_rows(map) + code) * map->out : NULL;
            for (int64_t o = 0; row && o < map->out; o++)
                row[o] += weight * dy[o];
            chunk_backward(map, &c, z, dot(dy, row_at(map, table_KRO, k, code), map->out), flipped, dz);
        }
        if (dx_TI)
            memcpy(dx_TI + t * map->in + k * map->bits, dz, (size_t)map->bits * sizeof *dz);
    }
}

fur_status fur_operator_lookup_backward_f64(fur_context *context, const fur_operator_lookup *settings,
                                            const double *x_TI, const double *table_KRO, const double *dy_TO,
                                            double *dx_TI, double *dtable_KRO, double *dbias_O)
{
    lookup_run r;
    FUR_TRY(begin_f64(context, settings, x_TI, &r));
    const fur_lookup *map = &r.map;
    int64_t tables = fur_lookup_tables(map), T = settings->tokens;
    if (dtable_KRO)
        memset(dtable_KRO, 0, (size_t)(tables * fur_lookup_rows(map) * map->out) * sizeof *dtable_KRO);
    if (dbias_O)
        memset(dbias_O, 0, (size_t)map->out * sizeof *dbias_O);
    for (int64_t i = 0; dbias_O && i < T * map->out; i++)
        dbias_O[i % map->out] += dy_TO[i];
#pragma omp parallel for schedule(dynamic, 1) num_threads(context->exec.threads) if (tables > 1)
    for (int64_t k = 0; k < tables; k++)
        backward_of_table(map, settings->temperature, k, T, x_TI, table_KRO, dy_TO, dx_TI, dtable_KRO);
    return FUR_OK;
}
