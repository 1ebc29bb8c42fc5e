/* SPDX-License-Identifier: Apache-2.0 */
/* Forward, over the vocabularies of op/simd and lookup_words. Each element is summed over slots in ascending order, in
 * whatever groups: its bits depend on its row alone.
 *
 * Tiles: so many slots at a time that their rows of the tile fill half of a 1 MB cache (GROUP_*), for all tokens; the
 * sums wait in `scratch`, in the order of columns in which the type's registers come (`finish` puts them right). */
#include <string.h>

#include "base/bf16.h"
#include "op/lookup/lookup_ahead_simd.h"

#define VECTORS    (FUR_LOOKUP_TILE / VL)
#define GROUP_F32  8
#define GROUP_BF16 12
#define GROUP_I8   24
#define GROUPS                                                                                                         \
    {                                                                                                                  \
        GROUP_F32, GROUP_BF16, GROUP_I8                                                                                \
    }

FUR_ALWAYS_INLINE void load_sums(V y[VECTORS], const float *from)
{
    FUR_UNROLL
    for (int64_t i = 0; i < VECTORS; i++)
        y[i] = vload(from + i * VL);
}

FUR_ALWAYS_INLINE void store_sums(float *to, const V y[VECTORS])
{
    FUR_UNROLL
    for (int64_t i = 0; i < VECTORS; i++)
        vstore(to + i * VL, y[i]);
}

FUR_ALWAYS_INLINE void add_f32(V y[VECTORS], const float *row, V w)
{
    FUR_UNROLL
    for (int64_t i = 0; i < VECTORS; i++)
        y[i] = vfma(w, vload(row + i * VL), y[i]);
}

/* Registers of even columns, then of odd ones. */
FUR_ALWAYS_INLINE void add_bf16(V y[VECTORS], const uint16_t *row, V w)
{
    FUR_UNROLL
    for (int64_t i = 0; i < VECTORS; i += 2) {
        W pairs = wload((const uint32_t *)(const void *)(row + i * VL));
        y[i] = vfma(w, wfirst(pairs), y[i]);
        y[i + 1] = vfma(w, wsecond(pairs), y[i + 1]);
    }
}

/* code and weight: of the first of the tokens, `group` a token, of which `slots` count. rows: of the tile. start: the
 * sums' first values, the same for all tokens; NULL: those in scratch. */
FUR_ALWAYS_INLINE void group_f32(const void *const *rows, int64_t slots, int64_t tokens, const uint16_t *code,
                                 const float *weight, const float *start, ahead *next, float *scratch)
{
    for (int64_t t = 0; t < tokens; t++, scratch += FUR_LOOKUP_TILE, code += GROUP_F32, weight += GROUP_F32) {
        V y[VECTORS];
        fetch(next);
        load_sums(y, start ? start : scratch);
        for (int64_t i = 0; i < slots; i++)
            add_f32(y, (const float *)rows[i] + code[i] * FUR_LOOKUP_TILE, vset(weight[i]));
        store_sums(scratch, y);
    }
}

FUR_ALWAYS_INLINE void group_bf16(const void *const *rows, int64_t slots, int64_t tokens, const uint16_t *code,
                                  const float *weight, const float *start, ahead *next, float *scratch)
{
    for (int64_t t = 0; t < tokens; t++, scratch += FUR_LOOKUP_TILE, code += GROUP_BF16, weight += GROUP_BF16) {
        V y[VECTORS];
        fetch(next);
        load_sums(y, start ? start : scratch);
        for (int64_t i = 0; i < slots; i++)
            add_bf16(y, (const uint16_t *)rows[i] + code[i] * FUR_LOOKUP_TILE, vset(weight[i]));
        store_sums(scratch, y);
    }
}

FUR_ALWAYS_INLINE void group_i8(const void *const *rows, int64_t slots, int64_t tokens, const uint16_t *code,
                                const uint16_t *whole, const float *unit_T, const float *start, ahead *next,
                                float *scratch)
{
    for (int64_t t = 0; t < tokens; t++, scratch += FUR_LOOKUP_TILE, code += GROUP_I8, whole += GROUP_I8) {
        whole_sum sum;
        fetch(next);
        memset(&sum, 0, sizeof sum);
        for (int64_t i = 0; i < slots; i += 4) {
            const int8_t *row[4];
            FUR_UNROLL
            for (int n = 0; n < 4; n++)
                row[n] = (const int8_t *)rows[i + n] + code[i + n] * FUR_LOOKUP_TILE;
            whole_add(&sum, row, whole + i);
        }
        V unit = vset(unit_T[t]);
        FUR_UNROLL
        for (int64_t v = 0; v < VECTORS; v++)
            vstore(scratch + v * VL, vfma(unit, whole_part(&sum, v), vload((start ? start : scratch) + v * VL)));
    }
}

/* Where the columns of a type's registers lie: y[4 n ..] are four of register v, lane l. */
static void place_sums(fur_lookup_type type, const float *from, float *to)
{
    if (type == FUR_LOOKUP_F32)
        memcpy(to, from, FUR_LOOKUP_TILE * sizeof *to);
    if (type == FUR_LOOKUP_BF16)
        for (int64_t i = 0; i < FUR_LOOKUP_TILE; i += 2 * VL)
            wstore_mixed((uint32_t *)(void *)(to + i), wload((const uint32_t *)(const void *)(from + i)),
                         wload((const uint32_t *)(const void *)(from + i + VL)));
    if (type == FUR_LOOKUP_I8)
        for (int64_t v = 0; v < VECTORS; v++)
            for (int64_t l = 0; l < VL / 4; l++)
                memcpy(to + FOUR(v, l), from + v * VL + 4 * l, 4 * sizeof *to);
}

/* The reverse, for the bias. */
static void take_sums(fur_lookup_type type, const float *from, float *to)
{
    if (type == FUR_LOOKUP_F32)
        memcpy(to, from, FUR_LOOKUP_TILE * sizeof *to);
    for (int64_t i = 0; type == FUR_LOOKUP_BF16 && i < FUR_LOOKUP_TILE; i++)
        to[i / (2 * VL) * 2 * VL + i % 2 * VL + i % (2 * VL) / 2] = from[i];
    if (type == FUR_LOOKUP_I8)
        for (int64_t v = 0; v < VECTORS; v++)
            for (int64_t l = 0; l < VL / 4; l++)
                memcpy(to + v * VL + 4 * l, from + FOUR(v, l), 4 * sizeof *to);
}

static void finish(const fur_lookup_call *c, int64_t tile, int64_t begin, int64_t end, const float *scratch)
{
    int64_t column = tile * FUR_LOOKUP_TILE, columns = fur_min_i64(FUR_LOOKUP_TILE, c->map->out - column);
    float part[FUR_LOOKUP_TILE];
    for (int64_t t = begin; t < end; t++, scratch += FUR_LOOKUP_TILE) {
        float *y = c->y_TO + t * c->ldy + column;
        if (columns == FUR_LOOKUP_TILE && !c->add) {
            place_sums(c->map->type, scratch, y);
            continue;
        }
        place_sums(c->map->type, scratch, part);
        for (int64_t i = 0; i < columns; i++)
            y[i] = c->add ? y[i] + part[i] : part[i];
    }
}

/* Slots s .. s+group-1 of the tile. */
static void forward_group(const fur_lookup_call *c, int64_t tile, int64_t s, int64_t group, int64_t begin, int64_t end,
                          const float *start, float *scratch)
{
    const fur_lookup *map = c->map;
    const void *rows[GROUP_I8];
    int64_t S = fur_lookup_slots(map), slots = fur_min_i64(group, S - s), tokens = end - begin;
    for (int64_t i = 0; i < group; i++) { /* beyond the last slot: its rows again */
        int64_t at = fur_lookup_tile_at(map, tile, fur_lookup_table_of(map, fur_min_i64(s + i, S - 1)));
        rows[i] = (const unsigned char *)map->table + at * fur_lookup_type_bytes(map->type);
    }
    ahead next = s + group < S ? ahead_of(map, tile, s + group, s + 2 * group, tokens)
                               : ahead_of(map, tile + 1, 0, group, tokens);
    int64_t at = s * c->plan.tokens + begin * group;
    const uint16_t *code = c->plan.code + at;
    if (map->type == FUR_LOOKUP_F32 && slots == GROUP_F32)
        group_f32(rows, GROUP_F32, tokens, code, c->plan.weight + at, start, &next, scratch);
    else if (map->type == FUR_LOOKUP_F32)
        group_f32(rows, slots, tokens, code, c->plan.weight + at, start, &next, scratch);
    else if (map->type == FUR_LOOKUP_BF16 && slots == GROUP_BF16)
        group_bf16(rows, GROUP_BF16, tokens, code, c->plan.weight + at, start, &next, scratch);
    else if (map->type == FUR_LOOKUP_BF16)
        group_bf16(rows, slots, tokens, code, c->plan.weight + at, start, &next, scratch);
    else
        group_i8(rows, slots, tokens, code, c->plan.whole + at, c->plan.unit_T + begin, start, &next, scratch);
}

static void forward_tile(const fur_lookup_call *c, int64_t tile, int64_t begin, int64_t end, float *scratch)
{
    static const int64_t groups[] = GROUPS;
    const fur_lookup *map = c->map;
    int64_t S = fur_lookup_slots(map), group = groups[map->type];
    float bias[FUR_LOOKUP_TILE] = {0}, start[FUR_LOOKUP_TILE];
    for (int64_t i = 0; map->bias_O && i < FUR_LOOKUP_TILE && tile * FUR_LOOKUP_TILE + i < map->out; i++)
        bias[i] = map->bias_O[tile * FUR_LOOKUP_TILE + i];
    take_sums(map->type, bias, start);
    for (int64_t s = 0; s < S; s += group)
        forward_group(c, tile, s, group, begin, end, s == 0 ? start : NULL, scratch);
    finish(c, tile, begin, end, scratch);
}

/* ---- plan ------------------------------------------------------------------------------------------------------- */

/* The largest weight times scale of tokens t0 .. t0+count-1 of the block. */
static void largest_weights(const fur_lookup *map, const fur_lookup_codes *codes, int64_t t0, int64_t count,
                            float *largest)
{
    for (int64_t s = 0; s < fur_lookup_slots(map); s++) {
        const float *scale = map->row_scale_KR + (fur_lookup_table_of(map, s) << map->bits);
        const uint16_t *code = codes->code_ST + s * codes->tokens + t0;
        const float *weight = codes->weight_ST + s * codes->tokens + t0;
        for (int64_t t = 0; t < count; t++) {
            float w = weight[t] * scale[code[t]];
            largest[t] = w > largest[t] ? w : largest[t];
        }
    }
}

/* Nearest of 0 .. FUR_LOOKUP_WHOLE_MOST; 0 for NaN */
static inline uint32_t whole_of(float w)
{
    w = w > 0 ? w : 0;
    return (uint32_t)(w < FUR_LOOKUP_WHOLE_MOST ? w + 0.5f : FUR_LOOKUP_WHOLE_MOST);
}

/* Four slots from s on. */
static void plan_whole(const fur_lookup *map, const fur_lookup_codes *codes, int64_t t0, int64_t count, int64_t s,
                       const float *inverse, int64_t group, uint16_t *out)
{
    int64_t most = fur_lookup_slots(map) - s;
    for (int64_t t = 0; t < count; t++) {
        uint32_t w[4] = {0};
        for (int64_t n = 0; n < fur_min_i64(4, most); n++) {
            int64_t at = (s + n) * codes->tokens + t0 + t, row = fur_lookup_table_of(map, s + n) << map->bits;
            w[n] = whole_of(codes->weight_ST[at] * map->row_scale_KR[row + codes->code_ST[at]] * inverse[t]);
        }
        whole_place(w, out + t * group);
    }
}

static void plan(const fur_lookup *map, const fur_lookup_codes *codes, int64_t first, int64_t begin, int64_t end,
                 int64_t group, const fur_lookup_plan *out)
{
    enum { STRETCH = 64 };
    int64_t S = fur_lookup_slots(map);
    for (int64_t t0 = begin; t0 < end; t0 += STRETCH) {
        int64_t count = fur_min_i64(STRETCH, end - t0);
        float largest[STRETCH] = {0}, inverse[STRETCH];
        if (out->whole)
            largest_weights(map, codes, first + t0, count, largest);
        for (int64_t t = 0; out->whole && t < count; t++) {
            int counts = largest[t] > FUR_LOOKUP_WHOLE_LEAST; /* so that the inverse is finite */
            inverse[t] = counts ? FUR_LOOKUP_WHOLE_MOST / largest[t] : 0;
            out->unit_T[t0 + t] = counts ? largest[t] / FUR_LOOKUP_WHOLE_MOST : 0;
        }
        for (int64_t s = 0; s < fur_round_up(S, group); s++) {
            int64_t from = fur_min_i64(s, S - 1) * codes->tokens + first + t0;
            int64_t to = s / group * group * out->tokens + t0 * group + s % group;
            for (int64_t t = 0; t < count; t++)
                out->code[to + t * group] = codes->code_ST[from + t];
            for (int64_t t = 0; out->weight && t < count; t++)
                out->weight[to + t * group] = codes->weight_ST[from + t];
            if (out->whole && s % 4 == 0)
                plan_whole(map, codes, first + t0, count, s, inverse, group, out->whole + to);
        }
    }
}

/* ---- rows: few tokens ------------------------------------------------------------------------------------------- */

/* Columns summed at a time, slots whose places are found together (so that the misses of codes and scales overlap), and
 * bytes of rows asked for ahead of their turn. */
#define STRETCH_COLUMNS 4096
#define PLACES          128
#define AHEAD_BYTES     4096

typedef struct places {
    int64_t slots;
    const char *row[PLACES];
    float weight[PLACES];
} places;

static inline V load_as(fur_lookup_type type, const void *row, int64_t i)
{
    return type == FUR_LOOKUP_F32    ? vload((const float *)row + i)
           : type == FUR_LOOKUP_BF16 ? wload_row((const uint16_t *)row + i)
                                     : vload_i8((const int8_t *)row + i);
}

static void ask_for(const char *row, int64_t bytes)
{
    for (int64_t i = 0; i < bytes; i += 64)
        _mm_prefetch(row + i, _MM_HINT_T0);
}

/* Rows to ask for ahead: whole fours. */
static int64_t rows_ahead(int64_t bytes)
{
    return fur_max_i64(4, fur_round_up(AHEAD_BYTES / fur_max_i64(bytes, 64), 4));
}

/* Asks for the first rows and for all scales before it waits for a scale. */
static void find_places(const fur_lookup_call *c, int64_t t, int64_t s, int64_t column, int64_t columns, places *out)
{
    const fur_lookup *map = c->map;
    int64_t size = fur_lookup_type_bytes(map->type), ahead_rows = rows_ahead(columns * size);
    int64_t stride = c->codes->tokens, at = s * stride + c->first + t;
    const float *scale[PLACES];
    out->slots = fur_min_i64(PLACES, fur_lookup_slots(map) - s);
    for (int64_t i = 0; i < out->slots; i++) {
        int64_t row = (fur_lookup_table_of(map, s + i) << map->bits) + c->codes->code_ST[at + i * stride];
        out->row[i] = (const char *)map->table + (row * map->out + column) * size;
        scale[i] = map->row_scale_KR + row;
        if (map->type == FUR_LOOKUP_I8)
            _mm_prefetch((const char *)scale[i], _MM_HINT_T0);
        if (i < ahead_rows)
            ask_for(out->row[i], columns * size);
    }
    for (int64_t i = 0; i < out->slots; i++)
        out->weight[i] = c->codes->weight_ST[at + i * stride] * (map->type == FUR_LOOKUP_I8 ? *scale[i] : 1);
}

/* sum[0 .. columns-1] += weights times n rows, n <= 4; of later rows, a line for each line read. */
FUR_ALWAYS_INLINE void add_rows(fur_lookup_type type, int64_t n, const char *const *row, const float *weight,
                                const char *const *later, int64_t later_rows, int64_t columns, float *sum)
{
    const int64_t size = type == FUR_LOOKUP_F32 ? 4 : type == FUR_LOOKUP_BF16 ? 2 : 1, line = 64 / size;
    int64_t i = 0;
    V w[4];
    for (int64_t j = 0; j < n; j++)
        w[j] = vset(weight[j]);
    for (; i + line <= columns; i += line) {
        for (int64_t j = 0; j < later_rows; j++)
            _mm_prefetch(later[j] + i * size, _MM_HINT_T0);
        FUR_UNROLL
        for (int64_t v = 0; v < line; v += VL) {
            V y = vload(sum + i + v);
            for (int64_t j = 0; j < n; j++)
                y = vfma(w[j], load_as(type, row[j], i + v), y);
            vstore(sum + i + v, y);
        }
    }
    for (; i < columns; i++)
        for (int64_t j = 0; j < n; j++) {
            float value = type == FUR_LOOKUP_F32    ? ((const float *)(const void *)row[j])[i]
                          : type == FUR_LOOKUP_BF16 ? fur_bf16_value(((const uint16_t *)(const void *)row[j])[i])
                                                    : (float)((const int8_t *)row[j])[i];
            sum[i] = fmaf(weight[j], value, sum[i]);
        }
}

FUR_ALWAYS_INLINE void sum_rows(fur_lookup_type type, const places *p, int64_t columns, float *sum)
{
    int64_t ahead_rows = rows_ahead(columns * fur_lookup_type_bytes(type));
    for (int64_t s = 0; s < p->slots; s += 4) {
        int64_t n = fur_min_i64(4, p->slots - s), later = fur_max_i64(0, fur_min_i64(4, p->slots - s - ahead_rows));
        if (n == 4 && later == 4)
            add_rows(type, 4, p->row + s, p->weight + s, p->row + s + ahead_rows, 4, columns, sum);
        else
            add_rows(type, n, p->row + s, p->weight + s, p->row + s + ahead_rows, later, columns, sum);
    }
}

static void forward_rows(const fur_lookup_call *c, int64_t from, int64_t to, int64_t begin, int64_t end)
{
    float sum[STRETCH_COLUMNS];
    for (int64_t t = begin; t < end; t++)
        for (int64_t column = from; column < to; column += STRETCH_COLUMNS) {
            int64_t columns = fur_min_i64(STRETCH_COLUMNS, to - column);
            for (int64_t i = 0; i < columns; i++)
                sum[i] = c->map->bias_O ? c->map->bias_O[column + i] : 0;
            for (int64_t s = 0; s < fur_lookup_slots(c->map); s += PLACES) {
                places p;
                find_places(c, t, s, column, columns, &p);
                if (c->map->type == FUR_LOOKUP_F32)
                    sum_rows(FUR_LOOKUP_F32, &p, columns, sum);
                else if (c->map->type == FUR_LOOKUP_BF16)
                    sum_rows(FUR_LOOKUP_BF16, &p, columns, sum);
                else
                    sum_rows(FUR_LOOKUP_I8, &p, columns, sum);
            }
            float *y = c->y_TO + t * c->ldy + column;
            for (int64_t i = 0; i < columns; i++)
                y[i] = c->add ? y[i] + sum[i] : sum[i];
        }
}
