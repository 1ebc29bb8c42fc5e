/* SPDX-License-Identifier: Apache-2.0 */
/* The body of the vector variants (no include guard: each variant includes it once, after the vocabulary).
 *
 * Everything is made of one register tile: C[rows][vectors] += A[rows][k] B[k][vectors], all of C in registers, B a
 * contiguous row per k, A broadcast element by element with any row and column stride (so nothing is transposed only to
 * be multiplied by). Forward keeps queries in the lanes,
 *
 *      S^T[key][query] = K[key][d] Q^T[d][query],      O^T[d][query] += V^T[d][key] P^T[key][query],
 *
 * so that maxima and sums over keys are plain vector operations and K and V are used as they lie; Q and O are
 * transposed once per task. Backward keeps keys in the lanes (K^T and V^T are packed once per key block),
 *
 *      S = Q K^T,  dP = dO V^T,  dV += P^T dO,  dK += dS^T Q,  dQ += dS K.
 *
 * A row's forward result depends on its own query and on its keys and their positions alone: key blocks end at fixed
 * positions. So it has the same bits however queries are cut into pieces, or keys into spans, and whatever of what it
 * does not see is passed over.
 *
 * Tiles are compiled twice: plain (features 0), and with the tests that windows, softcap, ALiBi and dropout need. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "op/attention/attention_kernel.h"
#include "op/simd/panel.h"
#include "op/simd/simd_math.h"

enum {
    KEYS = FUR_ATTENTION_KEYS,
    PAD = 16, /* floats after a row, so that columns do not fall into few cache sets */
};

#define LOG2_E 1.44269504f
#define LN_2   0.6931471805599453

static const float lane_numbers[64] FUR_ALIGNED(64) = {0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15,
                                                       16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31,
                                                       32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47,
                                                       48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63};

/* 2^t for t <= 1, 0 for t < -126. Minimax polynomial on [-1/2, 1/2] with value 1 at 0: relative error 2.6e-9 before
 * rounding, below 2 units of 2^-24 after it. */
FUR_ALWAYS_INLINE V vexp2(V t)
{
    V n = vround(t), r = vsub(t, n);
    V p = vset(1.55946782e-4f);
    p = vfma(p, r, vset(1.34066439e-3f));
    p = vfma(p, r, vset(9.61769297e-3f));
    p = vfma(p, r, vset(5.55031055e-2f));
    p = vfma(p, r, vset(2.40226528e-1f));
    p = vfma(p, r, vset(6.93147215e-1f));
    p = vfma(p, r, vset(1.0f));
    return vscale_above(t, vset(-126.0f), p, n);
}

FUR_ALWAYS_INLINE V vabsolute(V x)
{
    return vmax(x, vsub(vset(0.0f), x));
}

/* ---- register tiles ---------------------------------------------------------------------------------------------- */

/* The same, but lane q takes part in k only where first_lane[k] <= q < after_lane[k]. */
FUR_ALWAYS_INLINE void tile_multiply_between(int rows, int vectors, tile c, const float *a, int64_t a_row, int64_t a_k,
                                             const float *b, int64_t ldb, int64_t from, int64_t to,
                                             const float *first_lane, const float *after_lane)
{
    for (int64_t k = from; k < to; k++) {
        V first = vset(first_lane[k]), after = vset(after_lane[k]);
        FUR_UNROLL
        for (int j = 0; j < vectors; j++) {
            V x = vload(b + k * ldb + j * VL), lane = vload(lane_numbers + j * VL);
            FUR_UNROLL
            for (int i = 0; i < rows; i++)
                c[i][j] = vbetween(lane, first, after, vfma(vset(a[i * a_row + k * a_k]), x, c[i][j]), c[i][j]);
        }
    }
}

/* The same with no upper bound. */
FUR_ALWAYS_INLINE void tile_multiply_lanes(int rows, int vectors, tile c, const float *a, int64_t a_row, int64_t a_k,
                                           const float *b, int64_t ldb, int64_t from, int64_t to,
                                           const float *first_lane)
{
    for (int64_t k = from; k < to; k++) {
        V first = vset(first_lane[k]);
        FUR_UNROLL
        for (int j = 0; j < vectors; j++) {
            V x = vload(b + k * ldb + j * VL), lane = vload(lane_numbers + j * VL);
            FUR_UNROLL
            for (int i = 0; i < rows; i++)
                c[i][j] = vfma_from(lane, first, vset(a[i * a_row + k * a_k]), x, c[i][j]);
        }
    }
}

/* ---- keys of a piece, in blocks over all its spans --------------------------------------------------------------- */

typedef struct key_block {
    int64_t count;
    int64_t position[KEYS];
    const fur_key_span *span[KEYS];
    int64_t row[KEYS];
} key_block;

/* The next keys within the range, up to a full block. Blocks end at multiples of KEYS, and where sink tokens end, so
 * that all keys of one are sinks or none. */
static int64_t next_block(fur_key_cursor *cursor, const fur_attention_range *range, int64_t sink_tokens, key_block *out)
{
    int64_t block_end = INT64_MAX;
    out->count = 0;
    while (cursor->span < cursor->piece->span_count) {
        const fur_key_span *span = &cursor->piece->spans[cursor->span];
        int64_t position = span->first_position + cursor->row;
        if (position >= range->sink_end && position < range->low) {
            cursor->row += range->low - position;
            position = range->low;
        }
        if (cursor->row >= span->count) {
            cursor->span++;
            cursor->row = 0;
            continue;
        }
        int64_t end = position < range->sink_end ? range->sink_end : range->end;
        if (out->count == 0) {
            block_end = (position / KEYS + 1) * KEYS;
            if (position < sink_tokens)
                block_end = fur_min_i64(block_end, sink_tokens);
        }
        end = fur_min_i64(fur_min_i64(end, block_end), span->first_position + span->count);
        if (position >= end)
            break;
        for (; position < end; position++) {
            out->position[out->count] = position;
            out->span[out->count] = span;
            out->row[out->count++] = cursor->row++;
        }
    }
    return out->count;
}

/* Where blocks are cut besides: windows hide all keys of a block beyond a point, or none. */
static int64_t sinks_of(const fur_attention_call *call)
{
    return call->args->features.window ? call->args->features.sink_tokens : 0;
}

/* The key's (value's) row at column `at`; `wide` [count] is its place where it lies in bf16. */
static const float *key_row(const key_block *block, int64_t j, int64_t ldk, int64_t at, int64_t count, float *wide)
{
    const fur_key_span *span = block->span[j];
    return fur_bf16_row(span->k_SKD, span->k_bf16_SKD, block->row[j] * ldk + at, count, wide);
}

static const float *value_row(const key_block *block, int64_t j, int64_t ldk, int64_t at, int64_t count, float *wide)
{
    const fur_key_span *span = block->span[j];
    return fur_bf16_row(span->v_SKD, span->v_bf16_SKD, block->row[j] * ldk + at, count, wide);
}

/* ---- copies ------------------------------------------------------------------------------------------------------ */

static void copy_row(float *to, const float *from, int64_t count)
{
    int64_t d = 0;
    for (; d + VL <= count; d += VL)
        vstore(to + d, vload(from + d));
    if (d < count)
        vstore(to + d, vload_part(from + d, count - d)); /* zeroes up to the vector's end */
}

/* ---- dropout ----------------------------------------------------------------------------------------------------- */

/* factor[k][n], n in [0, count): of the weight at position 4 group_n + k under stream_n (fur_attention_draw). */
typedef struct draws {
    uint64_t key;
    uint32_t stream_low[KEYS], stream_high[KEYS], group_low[KEYS], group_high[KEYS];
    float factor[4][KEYS];
} draws;

static FUR_NOINLINE void draw_factors(const fur_attention_call *call, int64_t count, draws *x)
{
    uint32_t k0 = (uint32_t)x->key, k1 = (uint32_t)(x->key >> 32);
    for (int64_t n = 0; n < count; n++) {
        uint32_t c[4] = {x->group_low[n], x->group_high[n], x->stream_low[n], x->stream_high[n]};
        FUR_UNROLL
        for (uint32_t round = 0; round < FUR_PHILOX_ROUNDS; round++)
            fur_philox_round(c, k0 + round * FUR_PHILOX_KEY_0, k1 + round * FUR_PHILOX_KEY_1);
        FUR_UNROLL
        for (int k = 0; k < 4; k++)
            x->factor[k][n] = fur_attention_keep(call, c[k]);
    }
}

#include "op/attention/attention_rows_simd.h"

#include "op/attention/attention_simd_backward.h"
#include "op/attention/attention_simd_forward.h"
#include "op/attention/attention_simd_one.h"

#define ATTENTION_KERNEL                                                                                               \
    {                                                                                                                  \
        .one = &one_kernel, .forward_floats = forward_floats, .forward = forward, .backward_floats = backward_floats,  \
        .has_parts = 1, .prepare = prepare, .keys = keys, .finish = finish,                                            \
    }
