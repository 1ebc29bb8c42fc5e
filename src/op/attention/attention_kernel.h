/* SPDX-License-Identifier: Apache-2.0 */
/* What attention.c asks of a variant: tasks of one thread, on raw arrays, that cannot fail.
 *
 * The query heads of one key head are folded into its queries: *virtual row* v of a piece is query v / group under head
 * kv_head * group + v % group (group = heads / kv_heads). A query head more is then only a longer run of rows, and one
 * decoded token with grouped heads still fills vectors.
 *
 * Backward runs in three stages, each a loop of independent tasks:
 *   prepare  (rows of a key head)   what is needed once per row: delta, lse
 *   keys     (key head, chunk)      dk and dv of the chunk's keys, which belong to this task alone; and its part of dq
 *   finish   (rows of a key head)   dq from its parts, in the order of the chunks
 *
 * Keys are dealt to chunks by pieces, all the keys of a piece to one, so that dq needs no parts. Only those of pieces
 * that are a large share of the call are *spread*: block by block, in turn, to all chunks. */
#ifndef FUR_OP_ATTENTION_KERNEL_H
#define FUR_OP_ATTENTION_KERNEL_H

#include "base/bf16.h"
#include "base/random.h"
#include "base/size.h"
#include "op/attention/attention.h"

#define FUR_ATTENTION_HEAD_DIM 1024 /* largest */
/* Keys per block. 24 divides it: the row counts of all register tiles do. 192 keys amortise loading and storing the
 * accumulators, and the block's copies stay in a 1 MiB cache at head_dim 64. */
#define FUR_ATTENTION_KEYS 192
/* Virtual rows per task at most: so many reuse one packed key block, which makes packing about 1 % of the work and
 * keeps long sequences clear of the outer caches' bandwidth. */
#define FUR_ATTENTION_ROWS 512
/* Chunks of keys backward at most; each beyond the first costs one more array of the size of dq. */
#define FUR_ATTENTION_CHUNKS 4
#define FUR_ATTENTION_SPREAD (-1)
/* Blocks of keys that the stages of one query take at a time: what their scores need is then of fixed size. */
#define FUR_ATTENTION_ROUND 8

/* Virtual rows [begin, end) of one piece under one key head. */
typedef struct fur_attention_rows {
    const fur_query_piece *piece;
    int64_t first_row; /* of the piece among the rows of all pieces, numbered without gaps */
    int64_t owner;     /* chunk of all its keys, or FUR_ATTENTION_SPREAD */
    int64_t kv_head;
    int64_t begin, end;
} fur_attention_rows;

/* A piece that has rows. */
typedef struct fur_attention_run {
    const fur_query_piece *piece;
    int64_t first_row, owner; /* as above */
    int64_t first_block;      /* number of its first block of FUR_ATTENTION_ROWS (or fewer) virtual rows */
} fur_attention_run;

/* One call, as its tasks see it. */
typedef struct fur_attention_call {
    const fur_attention_args *args;
    int64_t group, all_heads;
    int plain;           /* no feature but sink logits */
    uint32_t drop_below; /* draws below it leave a weight out */
    float keep_scale;    /* of the others */
    const fur_attention_run *runs;
    int64_t run_count, rows;
    int64_t chunks;      /* the rest: backward only, NULL unless the variant asks for it */
    float *lse2_KR;      /* lse * log2 e; +infinity for rows that see no key; R = rows * group virtual rows */
    float *delta_KR;     /* do . o */
    float *dq_part_CTHD; /* dq of spread rows in chunks 1, 2, ...; all other dq gathers in args->dq_THD */
} fur_attention_call;

/* Where a walk over the keys of a piece stands. */
typedef struct fur_key_cursor {
    const fur_query_piece *piece;
    int64_t span, row;
} fur_key_cursor;

/* Forward of a call of one query in all, a decoded token's: there are no rows to keep a tile busy, and with few key
 * heads no tasks to keep threads busy. Keys and values are read where they lie, once, in rounds of a few blocks, and
 * each round in three stages of independent tasks: scores   (key head, block)                   s = scale log2 e q . k,
 * keys in the lanes weights  (key head)                          p = 2^(s - m), the running m, and l values   (key
 * head, slice of the columns)    o = o factor + sum p v, columns in the lanes Every element of the result is the same
 * chain of operations as in the tiles of `forward`: the same bits. */
typedef struct fur_attention_one {
    const fur_attention_call *call;
    fur_key_cursor cursor;                     /* of the round after this one */
    fur_key_cursor block[FUR_ATTENTION_ROUND]; /* where each block of the round begins */
    int64_t blocks;                            /* in the round; 0: all keys are done */
    int64_t lds, ldo;                          /* row strides of the scores and of o_HD */
    float *q_HD;                               /* the query, times scale log2 e; row stride head_dim */
    float *s_HS;               /* scores of the round, then weights; a block begins at a multiple of KEYS */
    float *o_HD, *m_H, *l_H;   /* before the division by l; in units of log 2; sums under m */
    float *top_HB, *factor_HB; /* largest score of a block; what o is multiplied by before it */
} fur_attention_one;

typedef struct fur_attention_one_kernel {
    int64_t slice; /* columns of a task of `values` */
    int64_t (*scratch_floats)(int64_t head_dim);
    void (*begin)(fur_attention_one *one);
    void (*next_round)(fur_attention_one *one);
    void (*scores)(const fur_attention_one *one, int64_t kv_head, int64_t block, float *scratch);
    void (*weights)(const fur_attention_one *one, int64_t kv_head);
    void (*values)(const fur_attention_one *one, int64_t kv_head, int64_t slice, float *scratch);
    void (*end)(const fur_attention_one *one, int64_t kv_head);
} fur_attention_one_kernel;

typedef struct fur_attention_kernel {
    const fur_attention_one_kernel *one;         /* NULL: one query goes as any other */
    int64_t (*forward_floats)(int64_t head_dim); /* scratch per thread */
    void (*forward)(const fur_attention_call *call, const fur_attention_rows *rows, void *scratch);
    int64_t (*backward_floats)(int64_t head_dim);
    int has_parts;                                                                   /* uses lse2, delta and dq_part */
    void (*prepare)(const fur_attention_call *call, const fur_attention_rows *rows); /* may be NULL */
    void (*keys)(const fur_attention_call *call, int64_t kv_head, int64_t chunk, void *scratch);
    void (*finish)(const fur_attention_call *call, const fur_attention_rows *rows);
} fur_attention_kernel;

extern const fur_attention_kernel fur_attention_ref, fur_attention_avx2, fur_attention_avx512;
/* For keys and values in bf16 and attention without features. */
extern const fur_attention_kernel fur_attention_avx512bf16, fur_attention_amx;

/* First run after r whose keys are not those of run r. */
static inline int64_t fur_attention_next_keys(const fur_attention_call *call, int64_t r)
{
    const fur_query_piece *piece = call->runs[r].piece;
    for (r++; r < call->run_count; r++)
        if (call->runs[r].piece->spans != piece->spans || call->runs[r].piece->span_count != piece->span_count)
            break;
    return r;
}

/* The virtual rows of a run under one key head. */
static inline fur_attention_rows fur_attention_rows_of(const fur_attention_call *call, const fur_attention_run *run,
                                                       int64_t kv_head)
{
    return (fur_attention_rows){.piece = run->piece,
                                .first_row = run->first_row,
                                .owner = run->owner,
                                .kv_head = kv_head,
                                .end = run->piece->count * call->group};
}

/* Whether a run's key at `position` belongs to the chunk. */
static inline int fur_attention_owns(const fur_attention_call *call, const fur_attention_run *run, int64_t position,
                                     int64_t chunk)
{
    if (run->owner != FUR_ATTENTION_SPREAD)
        return run->owner == chunk;
    return position / FUR_ATTENTION_KEYS % call->chunks == chunk;
}

/* Row and head of a virtual row, as offsets into q, o, do, dq (stride ld). */
static inline int64_t fur_attention_offset(const fur_attention_call *call, const fur_attention_rows *rows, int64_t v,
                                           int64_t ld)
{
    int64_t head = rows->kv_head * call->group + v % call->group;
    return (rows->piece->first_row + v / call->group) * ld + head * call->args->head_dim;
}

/* Place of a row's statistic in lse_TH. */
static inline float *fur_attention_lse(const fur_attention_call *call, const fur_attention_rows *rows, int64_t v)
{
    int64_t head = rows->kv_head * call->group + v % call->group;
    return call->args->lse_TH + (rows->piece->first_row + v / call->group) * call->args->ldlse + head;
}

/* Number of a virtual row's head in its layer. */
static inline int64_t fur_attention_head(const fur_attention_call *call, const fur_attention_rows *rows, int64_t v)
{
    return call->args->first_head + rows->kv_head * call->group + v % call->group;
}

static inline double fur_attention_slope_of(const fur_attention_call *call, const fur_attention_rows *rows, int64_t v)
{
    return fur_attention_slope(call->all_heads, fur_attention_head(call, rows, v));
}

/* Position in the document of virtual row v. */
static inline int64_t fur_attention_position(const fur_attention_call *call, const fur_query_piece *piece, int64_t v)
{
    return piece->first_position + v / call->group;
}

/* Whether the key is one that the window does not hide. */
static inline int fur_attention_is_sink(const fur_attention_call *call, int64_t position)
{
    return position < call->args->features.sink_tokens;
}

/* Virtual rows [first, after) of the piece (any integers) are those that see a key at `position`. */
static inline int64_t fur_attention_first_seeing(const fur_attention_call *call, const fur_query_piece *piece,
                                                 int64_t position)
{
    int64_t window = call->args->features.window;
    if (call->args->causal)
        return (position - piece->first_position) * call->group;
    if (!window || fur_attention_is_sink(call, position))
        return INT64_MIN / 2;
    return (position - window + 1 - piece->first_position) * call->group;
}

static inline int64_t fur_attention_after_seeing(const fur_attention_call *call, const fur_query_piece *piece,
                                                 int64_t position)
{
    int64_t window = call->args->features.window;
    if (!window || fur_attention_is_sink(call, position))
        return INT64_MAX / 2;
    return (position + window - piece->first_position) * call->group;
}

/* Positions [0, sink_end) and [low, end), low >= sink_end: all that some of a run of rows sees. */
typedef struct fur_attention_range {
    int64_t sink_end, low, end;
} fur_attention_range;

static inline fur_attention_range fur_attention_range_of(const fur_attention_call *call, const fur_query_piece *piece,
                                                         int64_t begin, int64_t end)
{
    int64_t window = call->args->features.window, first = fur_attention_position(call, piece, begin);
    int64_t last = fur_attention_position(call, piece, end - 1);
    fur_attention_range range = {.end = call->args->causal ? last + 1 : INT64_MAX};
    if (window) {
        range.sink_end = fur_min_i64(call->args->features.sink_tokens, range.end);
        range.low = fur_max_i64(range.sink_end, first - window + 1);
        range.end = call->args->causal ? last + 1 : last + window;
    }
    return range;
}

/* Factor of a weight under dropout. */
static inline float fur_attention_keep(const fur_attention_call *call, uint32_t draw)
{
    return draw < call->drop_below ? 0.0f : call->keep_scale;
}

/* Head and token of a virtual row, as the stream of its draws. */
static inline uint64_t fur_attention_stream(const fur_attention_call *call, const fur_attention_rows *rows, int64_t v)
{
    int64_t token = rows->piece->first_token + v / call->group;
    return (uint64_t)fur_attention_head(call, rows, v) << 40 | (uint64_t)token;
}

#endif
