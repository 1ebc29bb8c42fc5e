/* SPDX-License-Identifier: Apache-2.0 */
/* What lookup.c and lookup_train.c ask of a variant: tasks of one thread, on raw arrays, that cannot fail.
 *
 * Tokens go in blocks of FUR_LOOKUP_BLOCK, over which tables are read once. */
#ifndef FUR_OP_LOOKUP_KERNEL_H
#define FUR_OP_LOOKUP_KERNEL_H

#include "base/size.h"
#include "op/lookup/lookup.h"

/* Tokens of a block: their numbers are of 16 bits. */
#define FUR_LOOKUP_BLOCK 8192

/* The tokens of a block in order of the rows they read. */
typedef struct fur_lookup_sorted {
    int64_t tokens, entries; /* entries of a table: a token has 1 or 2 */
    int32_t *start_KN;       /* [K][R + 1]: row r of table k has start[r] .. start[r + 1] - 1 */
    uint16_t *token_KE;
    float *weight_KE;
} fur_lookup_sorted;

/* Codes and weights of a block by groups of slots, token by token: [ceil(S / G)][tokens][G]. As the caller has them, by
 * slots, dozens of streams fall into the same sets of the first cache.
 *
 * I8: weights times scales in 15 bits of a token's largest, so that sums are whole numbers. A largest of no more than
 * 1e-30 counts as 0. */
typedef struct fur_lookup_plan {
    int64_t tokens;
    uint16_t *code;
    float *weight;   /* F32 and BF16 */
    uint16_t *whole; /* I8: of four slots in the variant's own form; 0 beyond the last slot */
    float *unit_T;   /* I8: value of 1 */
} fur_lookup_plan;
#define FUR_LOOKUP_WHOLE_MOST  32767.0f
#define FUR_LOOKUP_WHOLE_LEAST 1e-30f

/* Rows of scores are padded to a multiple of this. */
#define FUR_LOOKUP_SCORES ((int64_t)8)

/* One forward call on a block: codes of its tokens begin at `first` of the call's. */
typedef struct fur_lookup_call {
    const fur_lookup *map;
    const fur_lookup_codes *codes;
    int64_t first;
    fur_lookup_plan plan; /* layout TILES, where the kernel makes one */
    int add;
    float *y_TO; /* of the block's first token */
    int64_t ldy;
} fur_lookup_call;

/* What the update does to a row: w <- keep w - rate m, m <- decay m + gain g. */
typedef struct fur_lookup_row {
    float keep, decay, rate;
} fur_lookup_row;

typedef struct fur_lookup_kernel {
    int64_t strip; /* columns that table_gradient takes at a time, divides FUR_LOOKUP_TILE */
    /* Codes and weights of tokens first .. first+count-1. The first that is not finite, or -1. */
    int64_t (*hash)(const fur_lookup *map, int64_t first, int64_t count, const float *x_TI, int64_t ldx,
                    const fur_lookup_codes *out);
    /* Slots that forward_tile and scores take at a time; 0: they need no plan. */
    int64_t group[3], score_group;
    /* The plan's tokens begin .. end-1; those of the block begin at `first`. weight or whole NULL: not wanted. */
    void (*plan)(const fur_lookup *map, const fur_lookup_codes *codes, int64_t first, int64_t begin, int64_t end,
                 int64_t group, const fur_lookup_plan *out);
    /* Tokens begin .. end-1 of the block, one tile of columns. scratch: [end - begin][FUR_LOOKUP_TILE] floats. */
    void (*forward_tile)(const fur_lookup_call *call, int64_t tile, int64_t begin, int64_t end, float *scratch);
    /* Likewise columns from .. to-1 of layout ROWS. */
    void (*forward_rows)(const fur_lookup_call *call, int64_t from, int64_t to, int64_t begin, int64_t end);
    /* Columns column .. column+strip-1 of dtable and dbias. scratch: [tokens][strip] floats. */
    void (*table_gradient)(const fur_lookup *map, const fur_lookup_sorted *sorted, int64_t column, const float *dy_TO,
                           int64_t lddy, float *dtable, const uint8_t *touched_KR, float *dbias_O, float *scratch);
    /* g of slots s .. e-1, s a multiple of FUR_LOOKUP_SCORES, for tokens begin .. end-1 of the block, which begin at
     * `first` of codes. scratch: [end - begin][FUR_LOOKUP_TILE] floats. */
    void (*scores)(const fur_lookup *map, const fur_lookup_codes *codes, int64_t first, const fur_lookup_plan *plan,
                   int64_t s, int64_t e, int64_t begin, int64_t end, const float *dy_TO, int64_t lddy, float *g_TS,
                   float *scratch);
    /* dx of `count` rows. */
    void (*input)(const fur_lookup *map, int64_t count, const float *x_TI, int64_t ldx, const float *g_TS, int add,
                  float *dx_TI, int64_t lddx);
    /* Sum of squares of a row of a tile; added to `column` too, each column's. */
    double (*square)(const float *dtable, double *column);
    /* The update of a row of a tile; gain of each column: (1 - beta1) grad_scale e. */
    void (*update)(const fur_lookup_row *row, const float *gain, const float *dtable, float *table, uint16_t *m);
    /* Steps without a gradient, together: w <- keep w - rate m, m <- decay m. */
    void (*catch_up)(const fur_lookup_row *row, float *table, uint16_t *m);
} fur_lookup_kernel;

extern const fur_lookup_kernel fur_lookup_ref, fur_lookup_avx2, fur_lookup_avx512, fur_lookup_avx512bf16;

const fur_lookup_kernel *fur_lookup_kernel_of(const fur_exec *exec);

/* Bytes of workspace of forward; lookup_train.c adds its own. */
int64_t fur_lookup_forward_workspace(const fur_exec *exec, const fur_lookup *map, int64_t tokens);

/* Pushes the plan of a block; 0 where it does not fit. group 0: none. Then makes it. */
int fur_lookup_plan_push(fur_arena *arena, const fur_lookup *map, int64_t tokens, int64_t group, int weights,
                         fur_lookup_plan *out);
void fur_lookup_plan_make(const fur_exec *exec, const fur_lookup *map, const fur_lookup_codes *codes, int64_t first,
                          int64_t group, const fur_lookup_plan *plan);

static inline int64_t fur_lookup_tiles(const fur_lookup *map)
{
    return fur_div_up(map->out, FUR_LOOKUP_TILE);
}

/* First element of a tile of a table. */
static inline int64_t fur_lookup_tile_at(const fur_lookup *map, int64_t tile, int64_t table)
{
    int64_t R = (int64_t)1 << map->bits;
    return (tile * (map->in / map->bits) + table) * R * FUR_LOOKUP_TILE;
}

/* Floats from row to row of scores. */
static inline int64_t fur_lookup_score_stride(const fur_lookup *map)
{
    return fur_round_up(map->in / map->bits * (map->two_rows ? 2 : 1), FUR_LOOKUP_SCORES);
}

/* Table that a slot reads. */
static inline int64_t fur_lookup_table_of(const fur_lookup *map, int64_t slot)
{
    int64_t K = map->in / map->bits;
    return slot < K ? slot : slot - K;
}

#endif
