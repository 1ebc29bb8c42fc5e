/* SPDX-License-Identifier: Apache-2.0 */
/* Gradients and the update of tables, over the vocabularies of op/simd and lookup_words. */
#include <string.h>

#include "op/lookup/lookup_ahead_simd.h"

/* ---- gradient of the tables ------------------------------------------------------------------------------------- */

/* 8,192 tokens of 32 columns fill a cache of 1 MB: 2.7 us a token for 96 tables and 768 columns, against 3.5 with 16
 * and 3.0 with 64 columns (Zen 5). */
#define STRIP         ((int64_t)32)
#define STRIP_VECTORS (STRIP / VL)

/* dy[t][column ..], 0 beyond `columns`; its sums over tokens, 64 of them at a time, to dbias. */
static void pack_strip(int64_t tokens, int64_t columns, const float *dy, int64_t lddy, float *strip, float *dbias)
{
    V total[STRIP_VECTORS], sum[STRIP_VECTORS];
    for (int64_t i = 0; i < STRIP_VECTORS; i++)
        total[i] = sum[i] = vset(0);
    for (int64_t t = 0; t < tokens; t++)
        for (int64_t i = 0; i < STRIP_VECTORS; i++) {
            int64_t n = fur_max_i64(0, fur_min_i64(VL, columns - i * VL));
            V row = n == VL ? vload(dy + t * lddy + i * VL) : n > 0 ? vload_part(dy + t * lddy + i * VL, n) : vset(0);
            vstore(strip + t * STRIP + i * VL, row);
            sum[i] = vadd(sum[i], row);
            if (t % 64 == 63 || t == tokens - 1) {
                total[i] = vadd(total[i], sum[i]);
                sum[i] = vset(0);
            }
        }
    float sums[STRIP];
    for (int64_t i = 0; i < STRIP_VECTORS; i++)
        vstore(sums + i * VL, total[i]);
    for (int64_t i = 0; dbias && i < columns; i++)
        dbias[i] += sums[i];
}

static void table_gradient(const fur_lookup *map, const fur_lookup_sorted *sorted, int64_t column, const float *dy_TO,
                           int64_t lddy, float *dtable, const uint8_t *touched_KR, float *dbias_O, float *scratch)
{
    int64_t K = map->in / map->bits, R = (int64_t)1 << map->bits;
    int64_t columns = fur_max_i64(0, fur_min_i64(STRIP, map->out - column));
    pack_strip(sorted->tokens, columns, dy_TO + column, lddy, scratch, dbias_O ? dbias_O + column : NULL);
    for (int64_t k = 0; k < K; k++) {
        const int32_t *start = sorted->start_KN + k * (R + 1);
        const uint16_t *token = sorted->token_KE + k * sorted->entries;
        const float *weight = sorted->weight_KE + k * sorted->entries;
        float *d = dtable + fur_lookup_tile_at(map, column / FUR_LOOKUP_TILE, k) + column % FUR_LOOKUP_TILE;
        for (int64_t r = 0; r < R; r++, d += FUR_LOOKUP_TILE) {
            if (start[r] == start[r + 1])
                continue;
            V sum[STRIP_VECTORS];
            int touched = touched_KR[k * R + r];
            FUR_UNROLL
            for (int64_t i = 0; i < STRIP_VECTORS; i++)
                sum[i] = touched ? vload(d + i * VL) : vset(0);
            for (int64_t n = start[r]; n < start[r + 1]; n++) {
                V w = vset(weight[n]);
                const float *row = scratch + token[n] * STRIP;
                FUR_UNROLL
                for (int64_t i = 0; i < STRIP_VECTORS; i++)
                    sum[i] = vfma(w, vload(row + i * VL), sum[i]);
            }
            FUR_UNROLL
            for (int64_t i = 0; i < STRIP_VECTORS; i++)
                vstore(d + i * VL, sum[i]);
        }
    }
}

/* ---- score gradient --------------------------------------------------------------------------------------------- */

#define SCORE_VECTORS (FUR_LOOKUP_TILE / VL)
#define SCORE_TOKENS  (VL / FUR_LOOKUP_SCORES) /* whose products are summed over lanes together */

static void pack_tile(const fur_lookup *map, int64_t tile, int64_t begin, int64_t end, const float *dy_TO, int64_t lddy,
                      float *out)
{
    int64_t column = tile * FUR_LOOKUP_TILE, columns = fur_min_i64(FUR_LOOKUP_TILE, map->out - column);
    for (int64_t t = begin; t < end; t++, out += FUR_LOOKUP_TILE) {
        memcpy(out, dy_TO + t * lddy + column, (size_t)columns * sizeof *out);
        if (columns < FUR_LOOKUP_TILE)
            memset(out + columns, 0, (size_t)(FUR_LOOKUP_TILE - columns) * sizeof *out);
    }
}

/* Products of a token with eight rows, not yet summed over lanes. rows: of the tile. */
FUR_ALWAYS_INLINE void score_products(const float *const rows[FUR_LOOKUP_SCORES], const uint16_t *code, const float *dy,
                                      V out[FUR_LOOKUP_SCORES])
{
    V y[SCORE_VECTORS];
    FUR_UNROLL
    for (int64_t i = 0; i < SCORE_VECTORS; i++)
        y[i] = vload(dy + i * VL);
    FUR_UNROLL
    for (int64_t n = 0; n < FUR_LOOKUP_SCORES; n++) {
        const float *row = rows[n] + code[n] * FUR_LOOKUP_TILE;
        V sum = vmul(y[0], vload(row));
        FUR_UNROLL
        for (int64_t i = 1; i < SCORE_VECTORS; i++)
            sum = vfma(y[i], vload(row + i * VL), sum);
        out[n] = sum;
    }
}

/* One tile of eight slots; code, dy, g: of the first of the tokens. */
static void score_tile(const float *const rows[FUR_LOOKUP_SCORES], int64_t tokens, const uint16_t *code,
                       const float *dy, int first, ahead *next, float *g_TS, int64_t stride)
{
    for (int64_t t = 0; t < tokens; t += SCORE_TOKENS) {
        V product[VL];
        float sums[VL];
        for (int64_t n = 0; n < SCORE_TOKENS; n++)
            fetch(next);
        FUR_UNROLL
        for (int64_t n = 0; n < SCORE_TOKENS; n++) { /* beyond the last token: it again */
            int64_t at = fur_min_i64(t + n, tokens - 1);
            score_products(rows, code + at * FUR_LOOKUP_SCORES, dy + at * FUR_LOOKUP_TILE,
                           product + n * FUR_LOOKUP_SCORES);
        }
        vstore(sums, vsums(product));
        for (int64_t n = 0; n < fur_min_i64(SCORE_TOKENS, tokens - t); n++) {
            float *to = g_TS + (t + n) * stride;
            __m256 s = _mm256_loadu_ps(sums + n * FUR_LOOKUP_SCORES);
            _mm256_storeu_ps(to, first ? s : _mm256_add_ps(_mm256_loadu_ps(to), s));
        }
    }
}

static void scores(const fur_lookup *map, const fur_lookup_codes *codes, int64_t first, const fur_lookup_plan *plan,
                   int64_t s, int64_t e, int64_t begin, int64_t end, const float *dy_TO, int64_t lddy, float *g_TS,
                   float *scratch)
{
    (void)codes;
    (void)first;
    int64_t stride = fur_lookup_score_stride(map);
    for (int64_t tile = 0; tile < fur_lookup_tiles(map); tile++) {
        pack_tile(map, tile, begin, end, dy_TO, lddy, scratch);
        for (int64_t at = s; at < e; at += FUR_LOOKUP_SCORES) {
            const float *rows[FUR_LOOKUP_SCORES];
            for (int64_t i = 0; i < FUR_LOOKUP_SCORES; i++) { /* beyond the last slot: its rows again */
                int64_t table = fur_lookup_table_of(map, fur_min_i64(at + i, e - 1));
                rows[i] = (const float *)map->table + fur_lookup_tile_at(map, tile, table);
            }
            int64_t coming = at + FUR_LOOKUP_SCORES;
            ahead next = coming < e ? ahead_of(map, tile, coming, coming + FUR_LOOKUP_SCORES, end - begin)
                                    : ahead_of(map, tile + 1, s, s + FUR_LOOKUP_SCORES, end - begin);
            score_tile(rows, end - begin, plan->code + at * plan->tokens + begin * FUR_LOOKUP_SCORES, scratch,
                       tile == 0, &next, g_TS + begin * stride + at, stride);
        }
    }
}

/* ---- update ----------------------------------------------------------------------------------------------------- */

static double square(const float *dtable, double *column)
{
    VD sum = vdzero();
    for (int64_t i = 0; i < FUR_LOOKUP_TILE; i += VL, column += VL) {
        V a = vload(dtable + i);
        VD low = vdlow(a), high = vdhigh(a);
        sum = vdfma(low, low, vdfma(high, high, sum));
        vdstore(column, vdfma(low, low, vdload(column)));
        vdstore(column + VL / 2, vdfma(high, high, vdload(column + VL / 2)));
    }
    return vdsum(sum);
}

static void update(const fur_lookup_row *row, const float *gain, const float *dtable, float *table, uint16_t *m)
{
    V keep = vset(row->keep), decay = vset(row->decay), rate = vset(row->rate);
    for (int64_t i = 0; i < FUR_LOOKUP_TILE; i += VL) {
        V moment = vfma(vload(gain + i), vload(dtable + i), vmul(decay, wload_row(m + i)));
        vstore(table + i, vfnma(rate, moment, vmul(keep, vload(table + i))));
        wstore_row(m + i, moment);
    }
}

static void catch_up(const fur_lookup_row *row, float *table, uint16_t *m)
{
    V keep = vset(row->keep), decay = vset(row->decay), rate = vset(row->rate);
    for (int64_t i = 0; i < FUR_LOOKUP_TILE; i += VL) {
        V moment = wload_row(m + i);
        vstore(table + i, vfnma(rate, moment, vmul(keep, vload(table + i))));
        wstore_row(m + i, vmul(decay, moment));
    }
}
