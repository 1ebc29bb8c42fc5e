/* SPDX-License-Identifier: Apache-2.0 */
/* The definition of lookup: plain C, in double, results rounded to float. */
#include <math.h>

#include "base/bf16.h"
#include "op/lookup/lookup_kernel.h"

/* ---- chunks ----------------------------------------------------------------------------------------------------- */

typedef struct chunk {
    int64_t bits;
    double t;
    double m[FUR_LOOKUP_MOST_BITS], q[FUR_LOOKUP_MOST_BITS]; /* |z|, 1 / (1 + e^(2 m / t)) */
    double sum, product;                                     /* s, P */
    int64_t least;                                           /* j */
} chunk;

static chunk chunk_of(const fur_lookup *map, const float *z)
{
    chunk c = {.bits = map->bits, .t = map->score == FUR_LOOKUP_MAGNITUDE ? 1.0 : (double)map->temperature};
    c.product = 1;
    for (int64_t i = 0; i < c.bits; i++) {
        c.m[i] = fabs((double)z[i]);
        double e = exp(-2 * c.m[i] / c.t);
        c.q[i] = e / (1 + e);
        c.sum += c.m[i];
        c.product /= 1 + e;
        if (c.m[i] < c.m[c.least])
            c.least = i;
    }
    return c;
}

static int64_t hash(const fur_lookup *map, int64_t first, int64_t count, const float *x_TI, int64_t ldx,
                    const fur_lookup_codes *out)
{
    int64_t K = map->in / map->bits, bad = -1;
    for (int64_t t = first; t < first + count; t++) {
        const float *x = x_TI + t * ldx;
        for (int64_t k = 0; k < K; k++) {
            const float *z = x + k * map->bits;
            chunk c = chunk_of(map, z);
            unsigned code = 0;
            for (int64_t i = 0; i < map->bits; i++)
                code = code << 1 | (z[i] >= 0.0f);
            int magnitude = map->score == FUR_LOOKUP_MAGNITUDE;
            out->code_ST[k * out->tokens + t] = (uint16_t)code;
            out->weight_ST[k * out->tokens + t] = (float)((magnitude ? c.sum : 1) * c.product);
            if (map->two_rows) {
                double m = c.m[c.least], e = exp(-2 * m / c.t);
                out->code_ST[(K + k) * out->tokens + t] = (uint16_t)(code ^ 1u << (map->bits - 1 - c.least));
                out->weight_ST[(K + k) * out->tokens + t] = (float)((magnitude ? c.sum - 2 * m : 1) * c.product * e);
            }
        }
        for (int64_t i = 0; bad < 0 && i < map->in; i++)
            if (!isfinite(x[i]))
                bad = t;
    }
    return bad;
}

/* dz (+)= sgn(z) (g dw/dm + g' dw'/dm) */
static void input(const fur_lookup *map, int64_t count, const float *x_TI, int64_t ldx, const float *g_TS, int add,
                  float *dx_TI, int64_t lddx)
{
    int64_t K = map->in / map->bits, stride = fur_lookup_score_stride(map);
    for (int64_t t = 0; t < count; t++, x_TI += ldx, g_TS += stride, dx_TI += lddx)
        for (int64_t k = 0; k < K; k++) {
            chunk c = chunk_of(map, x_TI + k * map->bits);
            int magnitude = map->score == FUR_LOOKUP_MAGNITUDE;
            double e = exp(-2 * c.m[c.least] / c.t), s = c.sum - 2 * c.m[c.least];
            for (int64_t i = 0; i < map->bits; i++) {
                double q = c.q[i];
                double d = (double)g_TS[k] * c.product * (magnitude ? 1 + 2 * c.sum * q : 2 / c.t * q);
                if (map->two_rows) {
                    double flipped = i == c.least ? -(1 - q) : q, of_s = i == c.least ? -1 : 1;
                    d += (double)g_TS[K + k] * e * c.product * (magnitude ? of_s + 2 * s * flipped : 2 / c.t * flipped);
                }
                float *dx = dx_TI + k * map->bits + i;
                d = x_TI[k * map->bits + i] >= 0.0f ? d : -d;
                *dx = (float)(add ? (double)*dx + d : d);
            }
        }
}

/* ---- forward ---------------------------------------------------------------------------------------------------- */

static int64_t element_of(const fur_lookup *map, int64_t k, int64_t r, int64_t o)
{
    if (map->layout == FUR_LOOKUP_ROWS)
        return ((k << map->bits) + r) * map->out + o;
    return fur_lookup_tile_at(map, o / FUR_LOOKUP_TILE, k) + r * FUR_LOOKUP_TILE + o % FUR_LOOKUP_TILE;
}

static double value_of(const fur_lookup *map, int64_t k, int64_t r, int64_t o)
{
    int64_t at = element_of(map, k, r, o);
    if (map->type == FUR_LOOKUP_F32)
        return (double)((const float *)map->table)[at];
    if (map->type == FUR_LOOKUP_BF16)
        return (double)fur_bf16_value(((const uint16_t *)map->table)[at]);
    return (double)map->row_scale_KR[(k << map->bits) + r] * ((const int8_t *)map->table)[at];
}

static void forward_rows(const fur_lookup_call *c, int64_t from, int64_t to, int64_t begin, int64_t end)
{
    int64_t S = fur_lookup_slots(c->map), T = c->codes->tokens;
    for (int64_t t = begin; t < end; t++)
        for (int64_t o = from; o < to; o++) {
            double sum = c->map->bias_O ? (double)c->map->bias_O[o] : 0;
            for (int64_t s = 0; s < S; s++) {
                int64_t at = s * T + c->first + t;
                sum += (double)c->codes->weight_ST[at] *
                       value_of(c->map, fur_lookup_table_of(c->map, s), c->codes->code_ST[at], o);
            }
            float *y = c->y_TO + t * c->ldy + o;
            *y = (float)(c->add ? (double)*y + sum : sum);
        }
}

static void forward_tile(const fur_lookup_call *c, int64_t tile, int64_t begin, int64_t end, float *scratch)
{
    (void)scratch;
    int64_t from = tile * FUR_LOOKUP_TILE;
    forward_rows(c, from, fur_min_i64(from + FUR_LOOKUP_TILE, c->map->out), begin, end);
}

/* ---- backward --------------------------------------------------------------------------------------------------- */

static void table_gradient(const fur_lookup *map, const fur_lookup_sorted *sorted, int64_t column, const float *dy_TO,
                           int64_t lddy, float *dtable, const uint8_t *touched_KR, float *dbias_O, float *scratch)
{
    (void)scratch;
    int64_t K = map->in / map->bits, R = (int64_t)1 << map->bits;
    for (int64_t o = column; o < column + FUR_LOOKUP_TILE; o++)
        for (int64_t k = 0; k < K; k++)
            for (int64_t r = 0; r < R; r++) {
                const int32_t *start = sorted->start_KN + k * (R + 1) + r;
                float *d =
                    dtable + fur_lookup_tile_at(map, column / FUR_LOOKUP_TILE, k) + r * FUR_LOOKUP_TILE + (o - column);
                if (start[0] == start[1])
                    continue;
                double sum = touched_KR[k * R + r] ? (double)*d : 0;
                for (int64_t i = k * sorted->entries + start[0]; o < map->out && i < k * sorted->entries + start[1];
                     i++)
                    sum += (double)sorted->weight_KE[i] * (double)dy_TO[sorted->token_KE[i] * lddy + o];
                *d = (float)sum;
            }
    for (int64_t o = column; dbias_O && o < fur_min_i64(column + FUR_LOOKUP_TILE, map->out); o++) {
        double sum = (double)dbias_O[o];
        for (int64_t t = 0; t < sorted->tokens; t++)
            sum += (double)dy_TO[t * lddy + o];
        dbias_O[o] = (float)sum;
    }
}

static void scores(const fur_lookup *map, const fur_lookup_codes *codes, int64_t first, const fur_lookup_plan *plan,
                   int64_t s, int64_t e, int64_t begin, int64_t end, const float *dy_TO, int64_t lddy, float *g_TS,
                   float *scratch)
{
    (void)plan;
    (void)scratch;
    int64_t S = fur_lookup_score_stride(map);
    for (int64_t t = begin; t < end; t++)
        for (int64_t slot = s; slot < e; slot++) {
            double sum = 0;
            int64_t row = codes->code_ST[slot * codes->tokens + first + t];
            for (int64_t o = 0; o < map->out; o++)
                sum += (double)dy_TO[t * lddy + o] * value_of(map, fur_lookup_table_of(map, slot), row, o);
            g_TS[t * S + slot] = (float)sum;
        }
}

/* ---- update ----------------------------------------------------------------------------------------------------- */

static double square(const float *dtable, double *column)
{
    double sum = 0;
    for (int64_t i = 0; i < FUR_LOOKUP_TILE; i++) {
        double square = (double)dtable[i] * (double)dtable[i];
        sum += square;
        column[i] += square;
    }
    return sum;
}

static void update(const fur_lookup_row *row, const float *gain, const float *dtable, float *table, uint16_t *m)
{
    for (int64_t i = 0; i < FUR_LOOKUP_TILE; i++) {
        double moment = (double)row->decay * (double)fur_bf16_value(m[i]) + (double)gain[i] * (double)dtable[i];
        table[i] = (float)((double)row->keep * (double)table[i] - (double)row->rate * moment);
        m[i] = fur_bf16_of((float)moment);
    }
}

static void catch_up(const fur_lookup_row *row, float *table, uint16_t *m)
{
    for (int64_t i = 0; i < FUR_LOOKUP_TILE; i++) {
        double moment = (double)fur_bf16_value(m[i]);
        table[i] = (float)((double)row->keep * (double)table[i] - (double)row->rate * moment);
        m[i] = fur_bf16_of((float)((double)row->decay * moment));
    }
}

const fur_lookup_kernel fur_lookup_ref = {.strip = FUR_LOOKUP_TILE,
                                          .hash = hash,
                                          .forward_tile = forward_tile,
                                          .forward_rows = forward_rows,
                                          .table_gradient = table_gradient,
                                          .scores = scores,
                                          .input = input,
                                          .square = square,
                                          .update = update,
                                          .catch_up = catch_up};
