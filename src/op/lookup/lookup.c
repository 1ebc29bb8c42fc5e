/* SPDX-License-Identifier: Apache-2.0 */
/* Checks, sizes, threads and dispatch of lookup: hash, forward, layouts. lookup_train.c has the gradients. */
#include "op/lookup/lookup.h"

#include <float.h>
#include <math.h>
#include <omp.h>
#include <string.h>

#include "base/bf16.h"
#include "op/chunk.h"
#include "op/lookup/lookup_kernel.h"

const fur_lookup_kernel *fur_lookup_kernel_of(const fur_exec *exec)
{
#if FUR_HAVE_AVX512BF16
    if (exec->isa >= FUR_ISA_AVX512BF16)
        return &fur_lookup_avx512bf16;
#endif
#if FUR_HAVE_AVX512
    if (exec->isa >= FUR_ISA_AVX512)
        return &fur_lookup_avx512;
#endif
#if FUR_HAVE_AVX2
    if (exec->isa >= FUR_ISA_AVX2)
        return &fur_lookup_avx2;
#endif
    (void)exec;
    return &fur_lookup_ref;
}

/* ---- sizes ------------------------------------------------------------------------------------------------------ */

int64_t fur_lookup_tables(const fur_lookup *map)
{
    return map->in / map->bits;
}

int64_t fur_lookup_rows(const fur_lookup *map)
{
    return (int64_t)1 << map->bits;
}

int64_t fur_lookup_columns(const fur_lookup *map)
{
    return fur_lookup_tiles(map) * FUR_LOOKUP_TILE;
}

int64_t fur_lookup_slots(const fur_lookup *map)
{
    return map->in / map->bits * (map->two_rows ? 2 : 1);
}

int64_t fur_lookup_table_elements(const fur_lookup *map)
{
    int64_t count, columns = map->out;
    if (map->layout == FUR_LOOKUP_TILES && !fur_mul_ok(fur_lookup_tiles(map), FUR_LOOKUP_TILE, &columns))
        return INT64_MAX;
    if (!fur_mul_ok(fur_lookup_tables(map), fur_lookup_rows(map), &count) || !fur_mul_ok(count, columns, &count))
        return INT64_MAX;
    return count;
}

int64_t fur_lookup_type_bytes(fur_lookup_type type)
{
    return type == FUR_LOOKUP_F32 ? 4 : type == FUR_LOOKUP_BF16 ? 2 : 1;
}

fur_status fur_lookup_check(fur_error *error, const fur_lookup *map)
{
    int64_t bytes;
    if (map->in < 1 || map->out < 1 || map->bits < 1 || map->bits > FUR_LOOKUP_MOST_BITS || map->in % map->bits)
        return fur_error_set(
            error, FUR_E_SHAPE,
            "lookup of %lld to %lld columns in chunks of %lld: chunks must be of 1 to %d bits and divide "
            "the input's width",
            (long long)map->in, (long long)map->out, (long long)map->bits, FUR_LOOKUP_MOST_BITS);
    if (!fur_mul_ok(fur_lookup_table_elements(map), 4, &bytes))
        return fur_error_set(error, FUR_E_SHAPE, "lookup of %lld to %lld columns, chunks of %lld: too many rows",
                             (long long)map->in, (long long)map->out, (long long)map->bits);
    if (map->score == FUR_LOOKUP_PROBABILITY && !(map->temperature > 0 && isfinite(map->temperature)))
        return fur_error_set(error, FUR_E_ARGUMENT, "lookup: temperature %g, expected above 0",
                             (double)map->temperature);
    if (map->score == FUR_LOOKUP_MAGNITUDE && map->two_rows && map->bits < 2)
        return fur_error_set(error, FUR_E_ARGUMENT,
                             "lookup: two rows of the magnitude score need chunks of at least 2");
    if ((map->score != FUR_LOOKUP_MAGNITUDE && map->score != FUR_LOOKUP_PROBABILITY) ||
        (map->layout != FUR_LOOKUP_TILES && map->layout != FUR_LOOKUP_ROWS) || map->type < FUR_LOOKUP_F32 ||
        map->type > FUR_LOOKUP_I8)
        return fur_error_set(error, FUR_E_ARGUMENT, "lookup: score %d, layout %d, type %d: there is none",
                             (int)map->score, (int)map->layout, (int)map->type);
    return FUR_OK;
}

static int64_t code_bytes(const fur_lookup *map, int64_t tokens)
{
    int64_t bytes;
    if (!fur_mul_ok(fur_lookup_slots(map), tokens, &bytes) || bytes > INT64_MAX / 8)
        return INT64_MAX;
    return fur_round_up(bytes * (int64_t)sizeof(uint16_t), FUR_ARENA_ALIGN);
}

int64_t fur_lookup_codes_bytes(const fur_lookup *map, int64_t tokens)
{
    int64_t codes = code_bytes(map, tokens);
    if (codes == INT64_MAX)
        return INT64_MAX;
    int64_t weights = fur_lookup_slots(map) * tokens * (int64_t)sizeof(float);
    return codes + fur_round_up(weights, FUR_ARENA_ALIGN);
}

void fur_lookup_codes_place(const fur_lookup *map, int64_t tokens, void *memory, fur_lookup_codes *out)
{
    unsigned char *at = memory;
    *out = (fur_lookup_codes){.tokens = tokens, .code_ST = memory};
    if (at) /* NULL: counting */
        out->weight_ST = (float *)(void *)(at + code_bytes(map, tokens));
}

/* ---- hash ------------------------------------------------------------------------------------------------------- */

fur_status fur_lookup_hash(const fur_exec *exec, const fur_lookup *map, const float *x_TI, int64_t ldx,
                           fur_lookup_codes *out)
{
    FUR_TRY(fur_lookup_check(exec->error, map));
    if (out->tokens < 0 || ldx < map->in)
        return fur_error_set(exec->error, FUR_E_SHAPE, "hash of %lld rows of %lld columns, %lld apart",
                             (long long)out->tokens, (long long)map->in, (long long)ldx);
    const fur_lookup_kernel *kernel = fur_lookup_kernel_of(exec);
    fur_chunks rows = fur_chunks_of_rows(out->tokens, map->in);
    rows.size = fur_round_up(rows.size, 64); /* threads write whole lines of codes */
    rows.count = fur_div_up(out->tokens, rows.size);
    int64_t bad = INT64_MAX;
#pragma omp parallel for schedule(static) num_threads(exec->threads) if (rows.count > 1) reduction(min : bad)
    for (int64_t n = 0; n < rows.count; n++) {
        int64_t found = kernel->hash(map, n * rows.size, fur_chunk_items(rows, n, out->tokens), x_TI, ldx, out);
        bad = found >= 0 ? fur_min_i64(bad, found) : bad;
    }
    if (bad != INT64_MAX)
        return fur_error_set(exec->error, FUR_E_NONFINITE, "lookup: row %lld of the input is not finite",
                             (long long)bad);
    return FUR_OK;
}

/* ---- plan ------------------------------------------------------------------------------------------------------- */

int fur_lookup_plan_push(fur_arena *arena, const fur_lookup *map, int64_t tokens, int64_t group, int weights,
                         fur_lookup_plan *out)
{
    *out = (fur_lookup_plan){.tokens = tokens};
    if (!group)
        return 1;
    int whole = weights && map->type == FUR_LOOKUP_I8;
    int64_t entries = fur_round_up(fur_lookup_slots(map), group) * tokens;
    out->code = fur_arena_push(arena, entries * (int64_t)sizeof *out->code);
    if (weights && !whole)
        out->weight = fur_arena_push_f32(arena, entries);
    if (whole) {
        out->whole = fur_arena_push(arena, entries * (int64_t)sizeof *out->whole);
        out->unit_T = fur_arena_push_f32(arena, tokens);
    }
    return out->code && (!weights || out->weight || (out->whole && out->unit_T));
}

void fur_lookup_plan_make(const fur_exec *exec, const fur_lookup *map, const fur_lookup_codes *codes, int64_t first,
                          int64_t group, const fur_lookup_plan *plan)
{
    if (!group)
        return;
    const fur_lookup_kernel *kernel = fur_lookup_kernel_of(exec);
    fur_chunks part = fur_chunks_of(plan->tokens, 64, 64);
#pragma omp parallel for schedule(static) num_threads(exec->threads) if (part.count > 1)
    for (int64_t n = 0; n < part.count; n++) {
        int64_t begin = n * part.size;
        kernel->plan(map, codes, first, begin, begin + fur_chunk_items(part, n, plan->tokens), group, plan);
    }
}

/* ---- forward ---------------------------------------------------------------------------------------------------- */

typedef struct space {
    float *scratch; /* of each thread */
    int64_t scratch_floats, group;
    fur_lookup_plan plan;
    int fits;
} space;

static space lay_out(const fur_exec *exec, fur_arena *arena, const fur_lookup *map, int64_t tokens)
{
    int64_t block = fur_min_i64(tokens, FUR_LOOKUP_BLOCK);
    space out = {0};
    if (map->layout == FUR_LOOKUP_TILES) {
        out.scratch_floats = block * FUR_LOOKUP_TILE;
        out.group = fur_lookup_kernel_of(exec)->group[map->type];
    }
    out.scratch = fur_arena_push_f32(arena, out.scratch_floats * exec->threads);
    out.fits = fur_lookup_plan_push(arena, map, block, out.group, 1, &out.plan) && out.scratch;
    return out;
}

int64_t fur_lookup_forward_workspace(const fur_exec *exec, const fur_lookup *map, int64_t tokens)
{
    fur_arena arena = fur_arena_counting();
    lay_out(exec, &arena, map, tokens);
    return arena.peak;
}

static fur_status check_forward(const fur_exec *exec, const fur_lookup *map, const fur_lookup_codes *codes, int64_t ldy)
{
    FUR_TRY(fur_lookup_check(exec->error, map));
    if (codes->tokens < 0 || ldy < map->out)
        return fur_error_set(exec->error, FUR_E_SHAPE, "lookup of %lld rows to %lld columns, %lld apart",
                             (long long)codes->tokens, (long long)map->out, (long long)ldy);
    if (map->type == FUR_LOOKUP_I8 && !map->row_scale_KR)
        return fur_error_set(exec->error, FUR_E_ARGUMENT, "lookup: an int8 table without scales");
    return FUR_OK;
}

/* One block of tokens: tiles, each in as many parts as give every thread one. A thread's tiles follow each other: one
 * asks for the memory of the next. */
static void forward_tiles(const fur_exec *exec, const fur_lookup_call *call, int64_t tokens, const space *at)
{
    const fur_lookup_kernel *kernel = fur_lookup_kernel_of(exec);
    int64_t tiles = fur_lookup_tiles(call->map);
    fur_chunks part = fur_chunks_of(tokens, 64, fur_div_up(exec->threads, tiles));
    fur_lookup_plan_make(exec, call->map, call->codes, call->first, at->group, &call->plan);
#pragma omp parallel for schedule(static) num_threads(exec->threads) if (tiles * part.count > 1)
    for (int64_t n = 0; n < tiles * part.count; n++) {
        int64_t begin = n / tiles * part.size;
        kernel->forward_tile(call, n % tiles, begin, begin + fur_chunk_items(part, n / tiles, tokens),
                             at->scratch + omp_get_thread_num() * at->scratch_floats);
    }
}

/* Rows in bytes for which a thread is started: some microseconds of reading. Threads that wait between the maps of a
 * token still spin; starting one costs about two. */
#define THREAD_BYTES ((int64_t)32 << 10)

/* One block of tokens: by tokens, and where these are few by columns. */
static void forward_rows(const fur_exec *exec, const fur_lookup_call *call, int64_t tokens)
{
    const fur_lookup_kernel *kernel = fur_lookup_kernel_of(exec);
    const fur_lookup *map = call->map;
    int64_t bytes = tokens * fur_lookup_slots(map) * map->out * fur_lookup_type_bytes(map->type);
    int64_t threads = fur_max_i64(1, fur_min_i64(exec->threads, bytes / THREAD_BYTES));
    fur_chunks part = fur_chunks_of(tokens, 1, threads);
    fur_chunks columns = fur_chunks_of(map->out, 256, fur_div_up(threads, fur_max_i64(1, part.count)));
    columns.size = fur_round_up(columns.size, FUR_LOOKUP_TILE);
    columns.count = fur_div_up(map->out, columns.size);
#pragma omp parallel for schedule(static) num_threads(exec->threads) if (columns.count * part.count > 1)
    for (int64_t n = 0; n < part.count * columns.count; n++) {
        int64_t begin = n / columns.count * part.size, from = n % columns.count * columns.size;
        kernel->forward_rows(call, from, from + fur_chunk_items(columns, n % columns.count, map->out), begin,
                             begin + fur_chunk_items(part, n / columns.count, tokens));
    }
}

fur_status fur_lookup_forward(const fur_exec *exec, const fur_lookup *map, const fur_lookup_codes *codes, int add,
                              float *y_TO, int64_t ldy)
{
    FUR_TRY(check_forward(exec, map, codes, ldy));
    int64_t mark = fur_arena_mark(exec->workspace);
    space at = lay_out(exec, exec->workspace, map, codes->tokens);
    if (!at.fits) {
        fur_arena_release(exec->workspace, mark);
        return fur_error_set(exec->error, FUR_E_MEMORY, "lookup of %lld rows: workspace too small",
                             (long long)codes->tokens);
    }
    for (int64_t first = 0; first < codes->tokens; first += FUR_LOOKUP_BLOCK) {
        int64_t tokens = fur_min_i64(FUR_LOOKUP_BLOCK, codes->tokens - first);
        fur_lookup_call call = {.map = map,
                                .codes = codes,
                                .first = first,
                                .plan = at.plan,
                                .add = add,
                                .y_TO = y_TO + first * ldy,
                                .ldy = ldy};
        call.plan.tokens = tokens;
        if (map->layout == FUR_LOOKUP_TILES)
            forward_tiles(exec, &call, tokens, &at);
        else
            forward_rows(exec, &call, tokens);
    }
    fur_arena_release(exec->workspace, mark);
    return FUR_OK;
}

fur_status fur_lookup_count_rows(const fur_exec *exec, const fur_lookup *map, const fur_lookup_codes *codes,
                                 uint32_t *count_KR)
{
    FUR_TRY(fur_lookup_check(exec->error, map));
    for (int64_t s = 0; s < fur_lookup_slots(map); s++) {
        uint32_t *count = count_KR + fur_lookup_table_of(map, s) * fur_lookup_rows(map);
        for (int64_t t = 0; t < codes->tokens; t++)
            count[codes->code_ST[s * codes->tokens + t]]++;
    }
    return FUR_OK;
}

/* ---- layouts and types ------------------------------------------------------------------------------------------ */

/* Nearest even. |x| <= 127 by the choice of the scale, but for its own rounding. Beside 1.5 2^23, an f32 has no digits
 * behind the point: the addition rounds. */
static int8_t int8_of(float x)
{
    const float whole = 12582912.0f;
    float nearest = (x + whole) - whole;
    return (int8_t)(nearest > 127 ? 127 : nearest < -127 ? -127 : nearest);
}

/* `count` elements from one type to another. */
static void convert(fur_lookup_type from, fur_lookup_type to, int64_t count, const void *a, float inverse, void *b)
{
    if (from == to) {
        memcpy(b, a, (size_t)(count * fur_lookup_type_bytes(to)));
        return;
    }
    const float *f = a;
    uint16_t *h = b;
    int8_t *q = b;
    for (int64_t i = 0; to == FUR_LOOKUP_BF16 && i < count; i++)
        h[i] = fur_bf16_of(f[i]);
    for (int64_t i = 0; to == FUR_LOOKUP_I8 && i < count; i++)
        q[i] = int8_of(f[i] * inverse);
}

/* Stretch of a row: columns of a tile, or all; first element and columns of stretch `n`. */
typedef struct stretch {
    int64_t at, column, columns;
} stretch;

static stretch stretch_of(const fur_lookup *map, int64_t k, int64_t r, int64_t tile)
{
    int64_t column = tile * FUR_LOOKUP_TILE, columns = fur_min_i64(FUR_LOOKUP_TILE, map->out - column);
    if (map->layout == FUR_LOOKUP_ROWS)
        return (stretch){((k << map->bits) + r) * map->out + column, column, columns};
    return (stretch){fur_lookup_tile_at(map, tile, k) + r * FUR_LOOKUP_TILE, column, columns};
}

/* max(largest, |x|); infinite where a value is not finite. In lanes, which compilers take side by side. */
static float largest_in(int64_t count, const float *x, float largest)
{
    enum { LANES = 16 };
    float lane[LANES] = {0};
    int bad = 0;
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES)
        for (int l = 0; l < LANES; l++) {
            float size = fabsf(x[i + l]);
            lane[l] = size > lane[l] ? size : lane[l];
            bad |= !(size <= FLT_MAX);
        }
    for (; i < count; i++) {
        lane[0] = fmaxf(lane[0], fabsf(x[i]));
        bad |= !(fabsf(x[i]) <= FLT_MAX);
    }
    for (int l = 0; l < LANES; l++)
        largest = fmaxf(largest, lane[l]);
    return bad ? INFINITY : largest;
}

/* max|row|; infinite where a value is not finite */
static float largest_of(const fur_lookup *from, int64_t k, int64_t r)
{
    float largest = 0;
    for (int64_t tile = 0; tile < fur_lookup_tiles(from); tile++) {
        stretch s = stretch_of(from, k, r, tile);
        largest = largest_in(s.columns, (const float *)from->table + s.at, largest);
    }
    return largest;
}

static float scale_of(float largest)
{
    return largest > 0 ? fmaxf(largest / 127, FLT_MIN) : 1;
}

static fur_status pack_row(const fur_lookup *from, const fur_lookup *to, int64_t k, int64_t r, void *out, float *scale)
{
    float inverse = 0;
    if (from->type != to->type && to->type == FUR_LOOKUP_I8) {
        float largest = largest_of(from, k, r);
        if (!isfinite(largest))
            return FUR_E_NONFINITE;
        *scale = scale_of(largest);
        inverse = 1 / *scale;
    }
    int64_t in_bytes = fur_lookup_type_bytes(from->type), bytes = fur_lookup_type_bytes(to->type);
    for (int64_t tile = 0; tile < fur_lookup_tiles(to); tile++) {
        stretch a = stretch_of(from, k, r, tile), b = stretch_of(to, k, r, tile);
        unsigned char *at = (unsigned char *)out + b.at * bytes;
        convert(from->type, to->type, a.columns, (const unsigned char *)from->table + a.at * in_bytes, inverse, at);
        if (to->layout == FUR_LOOKUP_TILES)
            memset(at + a.columns * bytes, 0, (size_t)((FUR_LOOKUP_TILE - a.columns) * bytes));
    }
    return FUR_OK;
}

fur_status fur_lookup_pack(const fur_exec *exec, const fur_lookup *from, fur_lookup_layout layout, fur_lookup_type type,
                           void *to, float *row_scale_KR)
{
    fur_lookup out = *from;
    out.layout = layout;
    out.type = type;
    FUR_TRY(fur_lookup_check(exec->error, from));
    FUR_TRY(fur_lookup_check(exec->error, &out));
    if (from->type != type && from->type != FUR_LOOKUP_F32)
        return fur_error_set(exec->error, FUR_E_UNSUPPORTED, "lookup: a table of type %d cannot become one of type %d",
                             (int)from->type, (int)type);
    int64_t rows = fur_lookup_tables(from) * fur_lookup_rows(from), bad = INT64_MAX;
#pragma omp parallel for schedule(static) num_threads(exec->threads) if (rows * from->out > FUR_GRAIN)                 \
    reduction(min                                                                                                      \
              : bad)
    for (int64_t n = 0; n < rows; n++) {
        int64_t k = n >> from->bits, r = n - (k << from->bits);
        float unused;
        if (pack_row(from, &out, k, r, to, row_scale_KR ? row_scale_KR + n : &unused) != FUR_OK)
            bad = fur_min_i64(bad, n);
    }
    if (bad != INT64_MAX)
        return fur_error_set(exec->error, FUR_E_NONFINITE, "lookup: row %lld of table %lld is not finite",
                             (long long)(bad - (bad >> from->bits << from->bits)), (long long)(bad >> from->bits));
    return FUR_OK;
}

float fur_lookup_row_scale(fur_lookup_type type, int64_t columns, const float *row_O)
{
    return type == FUR_LOOKUP_I8 ? scale_of(largest_in(columns, row_O, 0)) : 1;
}

void fur_lookup_row_encode(fur_lookup_type type, int64_t columns, const float *row_O, float scale, void *out)
{
    convert(FUR_LOOKUP_F32, type, columns, row_O, 1 / scale, out);
}

void fur_lookup_row_decode(fur_lookup_type type, int64_t columns, const void *row, float scale, float *out_O)
{
    const uint16_t *h = row;
    const int8_t *q = row;
    if (type == FUR_LOOKUP_F32)
        memcpy(out_O, row, (size_t)columns * sizeof(float));
    for (int64_t i = 0; type == FUR_LOOKUP_BF16 && i < columns; i++)
        out_O[i] = fur_bf16_value(h[i]);
    for (int64_t i = 0; type == FUR_LOOKUP_I8 && i < columns; i++)
        out_O[i] = scale * (float)q[i];
}
