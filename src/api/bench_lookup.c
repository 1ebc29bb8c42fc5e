/* SPDX-License-Identifier: Apache-2.0 */
/* Timing of lookup projections, in turn with the dense map of the same shape and, where weights are cold, with plain
 * reads: what slows the machine for a while slows all of them. */
#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/context.h"
#include "base/random.h"
#include "base/size.h"
#include "furlong/furlong.h"
#include "op/lookup/lookup.h"
#include "projection/kind.h"

#define LEAST_ROUNDS  3
#define MOST_ROUNDS   50
#define ENOUGH        2.0 /* seconds */
#define FEW_TOKENS    16  /* up to here rows, not tiles */
#define COLD_TOKENS   512 /* drawn, of which each round takes others */
#define VOCABULARY    4096
#define EVICTED_BYTES ((int64_t)256 << 20) /* read between cold calls: several third-level caches */

typedef struct lookup_bench {
    fur_exec exec, exec_bf16;
    fur_arena arena;
    fur_lookup map;       /* as asked for */
    fur_lookup trained;   /* f32, tiles */
    fur_projection dense; /* f32 */
    fur_projection_input input;
    fur_gradient_sink sink;
    fur_lookup_codes codes;
    int64_t tokens, drawn, round; /* drawn: rows of x */
    int cold;
    float *x, *y, *dx, *table, *dtable, *scale, *weight;
    void *packed, *code_memory;
    uint8_t *touched;
    uint32_t *count;
    unsigned char *elsewhere; /* EVICTED_BYTES */
    int64_t shift; /* of what is read: 1 before a timed call, to have its code but not its weights in cache */
    volatile uint64_t sum;
} lookup_bench;

static int64_t table_bytes(const lookup_bench *b)
{
    return fur_lookup_table_elements(&b->map) * fur_lookup_type_bytes(b->map.type);
}

/* A byte of each line is enough to bring it in. */
static uint64_t read_lines(const unsigned char *at, int64_t bytes)
{
    uint64_t sum = 0;
    for (int64_t i = 0; i < bytes; i += 64)
        sum += at[i];
    return sum;
}

static void read_all(lookup_bench *b, const unsigned char *at, int64_t bytes)
{
    int64_t part = fur_round_up(fur_div_up(bytes, b->exec.threads), 64);
    uint64_t sum = 0;
#pragma omp parallel for schedule(static) num_threads(b->exec.threads) reduction(+ : sum)
    for (int64_t n = 0; n < b->exec.threads; n++)
        sum += read_lines(at + n * part, fur_max_i64(0, fur_min_i64(part, bytes - n * part)));
    b->sum += sum;
}

/* ---- what is timed ---------------------------------------------------------------------------------------------- */

/* Cold: each round takes other rows of x. */
static fur_status run_hash(lookup_bench *b)
{
    int64_t row = (b->round + b->shift) * b->tokens % (b->drawn - b->tokens + 1);
    return fur_lookup_hash(&b->exec, &b->map, b->x + row * b->map.in, b->map.in, &b->codes);
}

static fur_status run_forward(lookup_bench *b)
{
    return fur_lookup_forward(&b->exec, &b->map, &b->codes, 0, b->y, b->map.out);
}

static fur_status run_tables(lookup_bench *b)
{
    memset(b->touched, 0, (size_t)(fur_lookup_tables(&b->map) * fur_lookup_rows(&b->map)));
    return fur_lookup_backward_tables(&b->exec, &b->trained, &b->codes, b->y, b->map.out, b->dtable, b->touched, NULL);
}

static fur_status run_input(lookup_bench *b)
{
    return fur_lookup_backward_input(&b->exec, &b->trained, &b->codes, b->x, b->map.in, b->y, b->map.out, 0, b->dx,
                                     b->map.in);
}

static fur_status run_dense(lookup_bench *b)
{
    b->dense.weight = b->shift ? b->sink.weight : b->weight;
    return fur_projection_generate(&b->exec, &b->dense, &b->input, 0, b->y, b->map.out);
}

static fur_status run_dense_bf16(lookup_bench *b)
{
    return b->dense.kind->forward(&b->exec_bf16, &b->dense, &b->input, 0, b->y, b->map.out);
}

static fur_status run_dense_backward(lookup_bench *b)
{
    return b->dense.kind->backward(&b->exec, &b->dense, &b->input, b->y, b->map.out, 0, b->dx, b->map.in, &b->sink);
}

/* As many bytes in one piece as a dense map of the type has, each time others. */
static fur_status run_stream(lookup_bench *b)
{
    int64_t bytes = b->map.in * b->map.out * fur_lookup_type_bytes(b->map.type);
    read_all(b, b->elsewhere + (b->round + b->shift) % 8 * (EVICTED_BYTES / 8), fur_min_i64(bytes, EVICTED_BYTES / 8));
    return FUR_OK;
}

/* The rows that forward reads, in the same parts: so many side by side, a line of each in turn. */
static fur_status read_rows(lookup_bench *b, int64_t side_by_side)
{
    const fur_lookup *map = &b->map;
    int64_t row = map->out * fur_lookup_type_bytes(map->type), K = fur_lookup_tables(map);
    int64_t part = fur_round_up(fur_div_up(row, b->exec.threads), 64);
    uint64_t sum = 0;
#pragma omp parallel for schedule(static) num_threads(b->exec.threads) reduction(+ : sum)
    for (int64_t n = 0; n < b->exec.threads; n++)
        for (int64_t i = 0; i < K * b->tokens; i += side_by_side) {
            const unsigned char *at[8];
            int64_t count = fur_min_i64(side_by_side, K * b->tokens - i);
            for (int64_t j = 0; j < count; j++) {
                int64_t k = (i + j) % K, code = b->codes.code_ST[k * b->tokens + (i + j) / K];
                at[j] = (const unsigned char *)map->table + ((k << map->bits) + code) * row + n * part;
            }
            for (int64_t line = 0; line < fur_min_i64(part, row - n * part); line += 64)
                for (int64_t j = 0; j < count; j++)
                    sum += at[j][line];
        }
    b->sum += sum;
    return FUR_OK;
}

static fur_status run_rows(lookup_bench *b)
{
    return read_rows(b, 1);
}

static fur_status run_rows_by_eight(lookup_bench *b)
{
    return read_rows(b, 8);
}

typedef struct timed {
    fur_status (*run)(lookup_bench *b);
    double *seconds;
    int wanted;
} timed;

/* Cold: all caches are emptied, then the same code runs on other weights, as it would for the map before. */
static fur_status time_one(lookup_bench *b, const timed *t)
{
    if (b->cold) {
        read_all(b, b->elsewhere, EVICTED_BYTES);
        b->shift = 1;
        FUR_TRY(run_hash(b));
        FUR_TRY(t->run(b));
        b->shift = 0;
        FUR_TRY(run_hash(b));
    }
    double before = fur_clock_seconds();
    FUR_TRY(t->run(b));
    *t->seconds = fmin(*t->seconds, fur_clock_seconds() - before);
    return FUR_OK;
}

static fur_status time_rounds(lookup_bench *b, const timed *list, int count, int *rounds)
{
    double start = fur_clock_seconds();
    for (int i = 0; i < count; i++)
        *list[i].seconds = (double)INFINITY;
    for (*rounds = 0; *rounds < MOST_ROUNDS; ++*rounds) {
        if (*rounds >= LEAST_ROUNDS && fur_clock_seconds() - start > ENOUGH)
            break;
        b->round = *rounds;
        for (int i = 0; i < count; i++)
            if (list[i].wanted)
                FUR_TRY(time_one(b, &list[i]));
    }
    return FUR_OK;
}

/* ---- data ------------------------------------------------------------------------------------------------------- */

/* Rows around one of VOCABULARY points, drawn by Zipf's law: what a first layer sees. */
static void draw_skewed(lookup_bench *b)
{
    for (int64_t t = 0; t < b->drawn; t++) {
        int64_t word = (int64_t)exp(fur_random_uniform(1, 7, (uint64_t)t) * log(VOCABULARY));
        float *row = b->x + t * b->map.in;
        fur_random_normal(2, (uint64_t)word, 1.0, b->y, b->map.in);
        for (int64_t i = 0; i < b->map.in; i++)
            row[i] = b->y[i] + 0.25f * row[i];
    }
}

/* Mean over tables of the entropy of their codes, in bits. */
static double entropy_of(const lookup_bench *b)
{
    int64_t K = fur_lookup_tables(&b->map), R = fur_lookup_rows(&b->map);
    double sum = 0;
    for (int64_t i = 0; i < K * R; i++) {
        double p = (double)b->count[i] / (double)b->tokens;
        sum -= p > 0 ? p * log2(p) : 0;
    }
    return sum / (double)K;
}

static void lay_out(lookup_bench *b, fur_arena *arena)
{
    const fur_lookup *map = &b->map;
    int64_t rows = fur_lookup_tables(map) * fur_lookup_rows(map), elements = fur_lookup_table_elements(&b->trained);
    int64_t out = fur_max_i64(map->out, fur_div_up(map->in, b->tokens)); /* y holds a row of x while these are drawn */
    b->x = fur_arena_push_f32(arena, b->drawn * map->in);
    b->dx = fur_arena_push_f32(arena, b->tokens * map->in);
    b->y = fur_arena_push_f32(arena, b->tokens * out);
    b->table = fur_arena_push_f32(arena, elements);
    b->dtable = fur_arena_push_f32(arena, b->tokens > FEW_TOKENS ? elements : 0);
    b->packed = fur_arena_push(arena, table_bytes(b));
    b->scale = fur_arena_push_f32(arena, rows);
    b->touched = fur_arena_push(arena, rows);
    b->count = fur_arena_push(arena, rows * (int64_t)sizeof *b->count);
    b->code_memory = fur_arena_push(arena, fur_lookup_codes_bytes(map, b->tokens));
    b->dense.weight = b->weight = fur_arena_push_f32(arena, map->in * map->out);
    b->sink.weight = fur_arena_push_f32(arena, map->in * map->out);
    b->elsewhere = fur_arena_push(arena, b->cold ? EVICTED_BYTES : 0);
}

static fur_status fill(lookup_bench *b, int skewed)
{
    const fur_lookup *map = &b->map;
    fur_random_normal(1, 1, 1.0, b->x, b->drawn * map->in);
    if (skewed)
        draw_skewed(b);
    fur_random_normal(1, 2, 0.02, b->table, fur_lookup_table_elements(&b->trained));
    fur_random_normal(1, 3, 0.02, b->weight, map->in * map->out);
    if (b->cold)
        memset(b->elsewhere, 1, (size_t)EVICTED_BYTES);
    b->trained.table = b->table;
    FUR_TRY(fur_lookup_pack(&b->exec, &b->trained, map->layout, map->type, b->packed, b->scale));
    b->map.table = b->packed;
    b->map.row_scale_KR = b->scale;
    memset(b->count, 0, (size_t)(fur_lookup_tables(map) * fur_lookup_rows(map)) * sizeof *b->count);
    fur_lookup_codes_place(map, b->tokens, b->code_memory, &b->codes);
    FUR_TRY(run_hash(b));
    FUR_TRY(fur_lookup_count_rows(&b->exec, map, &b->codes, b->count));
    return b->dense.kind->prepare(&b->exec, &b->dense, b->tokens, b->x, map->in, &b->input);
}

static fur_status measure(lookup_bench *b, const fur_bench_lookup_settings *s, fur_bench_lookup_result *out)
{
    FUR_TRY(fill(b, s->skewed));
    int many = b->tokens > FEW_TOKENS, f32 = many && b->map.type == FUR_LOOKUP_F32;
    double stream, rows, by_eight;
    const timed list[] = {{run_hash, &out->hash_seconds, 1},
                          {run_forward, &out->forward_seconds, 1},
                          {run_dense, &out->dense_forward_seconds, 1},
                          {run_dense_bf16, &out->dense_bf16_forward_seconds, many},
                          {run_tables, &out->tables_seconds, f32},
                          {run_input, &out->input_seconds, f32},
                          {run_dense_backward, &out->dense_backward_seconds, f32},
                          {run_stream, &stream, b->cold},
                          {run_rows, &rows, b->cold},
                          {run_rows_by_eight, &by_eight, b->cold}};
    FUR_TRY(time_rounds(b, list, (int)(sizeof list / sizeof list[0]), &out->repetitions));
    int64_t size = fur_lookup_type_bytes(b->map.type);
    out->code_entropy = entropy_of(b);
    out->table_bytes = table_bytes(b);
    out->row_bytes = fur_lookup_tables(&b->map) * b->tokens * b->map.out * size;
    out->dense_bytes = b->map.in * b->map.out * size;
    out->stream_bytes_per_second = (double)fur_min_i64(out->dense_bytes, EVICTED_BYTES / 8) / stream;
    out->random_bytes_per_second = (double)out->row_bytes / fmin(rows, by_eight);
    return FUR_OK;
}

static int type_of(const char *name)
{
    static const char *const names[] = {"f32", "bf16", "int8"};
    for (int i = 0; name && i < 3; i++)
        if (strcmp(name, names[i]) == 0)
            return i;
    return name ? -1 : FUR_LOOKUP_F32;
}

fur_status fur_bench_lookup(fur_context *context, const fur_bench_lookup_settings *s, fur_bench_lookup_result *out)
{
    memset(out, 0, sizeof *out);
    int type = type_of(s->table_type);
    if (s->tokens < 1 || s->tokens > (int64_t)1 << 24 || s->in > 1 << 20 || s->out > 1 << 20 || type < 0)
        return fur_error_set(&context->error, FUR_E_ARGUMENT,
                             "lookup projection of %lld tokens, %lld to %lld, tables of %s: out of range",
                             (long long)s->tokens, (long long)s->in, (long long)s->out, s->table_type);
    lookup_bench b = {.exec = context->exec,
                      .map = {.in = s->in, .out = s->out, .bits = s->bits, .type = (fur_lookup_type)type},
                      .dense = {.kind = &fur_projection_dense, .in = s->in, .out = s->out},
                      .tokens = s->tokens,
                      .cold = s->cold};
    FUR_TRY(fur_lookup_check(&context->error, &b.map));
    b.map.layout = s->tokens > FEW_TOKENS ? FUR_LOOKUP_TILES : FUR_LOOKUP_ROWS;
    b.trained = b.map;
    b.trained.type = FUR_LOOKUP_F32;
    b.trained.layout = FUR_LOOKUP_TILES;
    b.drawn = s->tokens > FEW_TOKENS ? s->tokens : COLD_TOKENS;
    b.exec.compute = FUR_COMPUTE_F32;
    b.exec.workspace = &b.arena;
    b.exec_bf16 = b.exec;
    b.exec_bf16.compute = FUR_COMPUTE_BF16;
    int64_t work = fur_max_i64(b.dense.kind->workspace(&b.exec, &b.dense, b.tokens, 1),
                               b.dense.kind->workspace(&b.exec_bf16, &b.dense, b.tokens, 1));
    work = fur_max_i64(work, fur_max_i64(fur_lookup_workspace(&b.exec, &b.map, b.tokens, 0),
                                         fur_lookup_workspace(&b.exec, &b.trained, b.tokens, 1)));
    fur_arena counting = fur_arena_counting();
    lay_out(&b, &counting);
    if (counting.failed || counting.peak > INT64_MAX - work - FUR_ARENA_ALIGN)
        return fur_error_set(&context->error, FUR_E_MEMORY, "lookup projection: more bytes than can be counted");
    FUR_TRY(fur_arena_create(&context->error, counting.peak + work + FUR_ARENA_ALIGN, &b.arena));
    lay_out(&b, &b.arena);
    fur_pages_large(b.packed, (size_t)table_bytes(&b));
    fur_status status = measure(&b, s, out);
    fur_arena_destroy(&b.arena);
    return status;
}
