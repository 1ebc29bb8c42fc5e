/* SPDX-License-Identifier: Apache-2.0 */
/* The body of attention with products of bf16 (no include guard: each variant includes it once, after the vocabularies
 * of vectors and pairs and its own block_product).
 *
 * Everything is made of one product, C[rows][lanes] (+)= A[rows][k] B[k][lanes], with A as rows of pairs along k and B
 * as rows of pairs [k / 2][lane][2]: what products of pairs and of tiles both take as it lies. Queries are in the
 * lanes, in both directions:
 *
 *      S^T = K Q^T                     O^T += V^T P^T
 *      dP^T = V dO^T,  dV += P^T dO,  dK += dS^T Q,  dQ^T += K^T dS^T
 *
 * so that maxima and sums over keys are plain vector operations, and P^T and dS^T come out of them both as rows (A of
 * dV, dK) and as pairs of rows (B of O^T, dQ^T). Operands are rounded to bf16, sums are f32. The sum of a row is that
 * of its rounded P, so that their errors cancel in o; the maximum is moved, and o rescaled, only where it grows by more
 * than LAZY (of log 2), since P is as exact at 2^LAZY as at 1.
 *
 * In a tile in which some pair is invisible, P = dS = 0 there must not meet NaN: rows of operands that are not finite
 * are zero in its products, and what they give to those who see them is added pair by pair. So an invisible NaN changes
 * no bit. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "op/attention/attention_kernel.h"
#include "op/simd/pairs_pack.h"

enum {
    PANEL = 64,          /* lanes of a tile */
    FORWARD_KEYS = 96,   /* of a block: scores and P of a panel lie in the innermost cache */
    BACKWARD_KEYS = 192, /* amortise packing the queries; what a tile needs lies in the second-level cache */
    DEPTH = 16,          /* pairs: depths are multiples of it */
    SPARE = 32           /* rows that a product may read and write past the last one */
};

#define LOG2_E 1.44269504f
#define LN_2   0.6931471805599453
#define LAZY   8.0f

static const float lane_numbers[PANEL] FUR_ALIGNED(64) = {
    0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21,
    22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43,
    44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63};

/* 2^t, 0 for t < -126. Minimax polynomial of degree 3 on [-1/2, 1/2]: relative error 7.6e-5, 1 / 25 of what rounding to
 * bf16 does. */
FUR_ALWAYS_INLINE V exp2_of(V t)
{
    V n = vround(t), r = vsub(t, n);
    V p = vset(0.05517799f);
    p = vfma(p, r, vset(0.24261113f));
    p = vfma(p, r, vset(0.69326111f));
    p = vfma(p, r, vset(0.99992818f));
    return vscale_above(t, vset(-126.0f), p, n);
}

/* ---- sizes ------------------------------------------------------------------------------------------------------- */

/* Pairs of a row of n values; row stride of such rows, odd multiples of 64 bytes. */
static int64_t pairs_of(int64_t n)
{
    return fur_div_up(n, (int64_t)2 * DEPTH) * DEPTH;
}
static int64_t stride_of(int64_t n)
{
    return (fur_div_up(n, (int64_t)2 * DEPTH) | 1) * DEPTH;
}
/* Lanes of head_dim as columns. */
static int64_t width_of(int64_t head_dim)
{
    return fur_round_up(head_dim, 16);
}

/* Scratch of a task, laid out piece by piece; without a base it is only counted. */
typedef struct room {
    uint32_t *base;
    int64_t used; /* words */
} room;

static uint32_t *take(room *space, int64_t words)
{
    int64_t at = space->used;
    space->used += fur_round_up(words, 16);
    return space->base ? space->base + at : NULL;
}

static float *take_floats(room *space, int64_t count)
{
    return (float *)(void *)take(space, count);
}

/* ---- keys -------------------------------------------------------------------------------------------------------- */

typedef struct key_block {
    int64_t count;
    int64_t position[BACKWARD_KEYS > FORWARD_KEYS ? BACKWARD_KEYS : FORWARD_KEYS];
    const fur_key_span *span[BACKWARD_KEYS > FORWARD_KEYS ? BACKWARD_KEYS : FORWARD_KEYS];
    int64_t row[BACKWARD_KEYS > FORWARD_KEYS ? BACKWARD_KEYS : FORWARD_KEYS];
} key_block;

/* The next keys, up to `most`, at positions <= last. Blocks are counted from the first key on, over all spans. */
static int64_t next_block(fur_key_cursor *cursor, int64_t most, int64_t last, key_block *out)
{
    out->count = 0;
    while (out->count < most && cursor->span < cursor->piece->span_count) {
        const fur_key_span *span = &cursor->piece->spans[cursor->span];
        int64_t end = fur_min_i64(span->count, cursor->row + most - out->count);
        for (; cursor->row < end && span->first_position + cursor->row <= last; cursor->row++) {
            out->position[out->count] = span->first_position + cursor->row;
            out->span[out->count] = span;
            out->row[out->count++] = cursor->row;
        }
        if (cursor->row < end)
            break;
        if (cursor->row == span->count) {
            cursor->span++;
            cursor->row = 0;
        }
    }
    return out->count;
}

/* `count` is a multiple of VL. */
static int all_finite(const uint32_t *words, int64_t count)
{
    int special = 0;
    for (int64_t i = 0; i < count; i += VL)
        special |= wspecial(wload(words + i));
    return !special;
}

/* Keys or values of the block as rows of pairs, `to` [count][stride_of(depth)], zero up to whole depths; 1 where all
 * are finite. */
static int gather_rows(const fur_attention_call *call, const key_block *block, int64_t kv_head, int values,
                       uint32_t *to)
{
    const fur_attention_args *a = call->args;
    int64_t depth = a->head_dim, pairs = pairs_of(depth), ld = stride_of(depth);
    int finite = 1;
    for (int64_t j = 0; j < block->count; j++) {
        const fur_key_span *span = block->span[j];
        const uint16_t *from =
            (values ? span->v_bf16_SKD : span->k_bf16_SKD) + block->row[j] * a->ldk + kv_head * depth;
        uint32_t *row = to + j * ld;
        int64_t d = 0;
        for (; d + 2 * VL <= depth; d += 2 * VL)
            wstore(row + d / 2, wload((const uint32_t *)(const void *)(from + d)));
        if (d < 2 * pairs) {
            memcpy(row + d / 2, from + d, (size_t)(depth - d) * sizeof *from);
            memset((uint16_t *)(void *)row + depth, 0, (size_t)(2 * pairs - depth) * sizeof *from);
        }
        finite &= all_finite(row, pairs);
    }
    return finite;
}

/* `to` = the rows, those that are not finite zero; marks these. */
static void copy_finite(const uint32_t *rows, int64_t ld, int64_t count, int64_t pairs, uint32_t *to,
                        unsigned char *special)
{
    for (int64_t i = 0; i < count; i++) {
        special[i] = !all_finite(rows + i * ld, pairs);
        if (special[i])
            memset(to + i * ld, 0, (size_t)pairs * sizeof *to);
        else
            memcpy(to + i * ld, rows + i * ld, (size_t)pairs * sizeof *to);
    }
}

/* Element `at` of a row of pairs. */
static float half_of(const uint32_t *row, int64_t at)
{
    return fur_bf16_value((uint16_t)(row[at / 2] >> (at % 2 ? 16 : 0)));
}

/* Pairs along the rows, to[i / 2][d] = (row i, row i + 1) at d, from PANEL rows of pairs along d; row stride 2 pairs.
 */
static void pair_rows(const uint32_t *rows, int64_t ld, int64_t pairs, uint32_t *to)
{
    for (int64_t i = 0; i < PANEL; i += 2)
        for (int64_t p = 0; p < pairs; p += VL) {
            W x = wload(rows + i * ld + p), y = wload(rows + (i + 1) * ld + p);
            wstore_mixed(to + i * pairs + 2 * p, wfirsts(x, y), wseconds(x, y));
        }
}

/* Rows of the transpose, to[d][i / 2] = (row i, row i + 1) at d, for d in [0, 2 pairs); row stride ld_to. Rows from
 * `count` to the next whole depth are zero. `part` holds DEPTH rows of 2 pairs. */
static void transpose_rows(const uint32_t *rows, int64_t ld, int64_t count, int64_t pairs, uint32_t *part, uint32_t *to,
                           int64_t ld_to)
{
    for (int64_t first = 0; first < count; first += (int64_t)2 * DEPTH) {
        for (int64_t i = 0; i < DEPTH; i++) {
            int64_t at = first + 2 * i;
            for (int64_t p = 0; p < pairs; p += VL) {
                W x = at < count ? wload(rows + at * ld + p) : wset(0);
                W y = at + 1 < count ? wload(rows + (at + 1) * ld + p) : wset(0);
                wstore(part + i * 2 * pairs + p, wfirsts(x, y));
                wstore(part + (i * 2 + 1) * pairs + p, wseconds(x, y));
            }
        }
        turn_words(part, 2 * pairs, DEPTH, pairs, to + first / 2, 2 * ld_to);
        turn_words(part + pairs, 2 * pairs, DEPTH, pairs, to + ld_to + first / 2, 2 * ld_to);
    }
}

/* ---- queries ----------------------------------------------------------------------------------------------------- */

/* Rows of q or do as rows of pairs, `rows` [PANEL][stride_of(depth)], and as pairs in lanes, `lanes` [pairs][PANEL].
 * Lanes past `count` are zero. `sign` -1 turns all signs. */
static void pack_panel(const float *const *from, int64_t count, int64_t depth, int sign, uint32_t *rows,
                       uint32_t *lanes)
{
    int64_t pairs = pairs_of(depth), ld = stride_of(depth), used = fur_div_up(depth, 2);
    for (int64_t i = 0; i < PANEL; i++) {
        uint32_t *row = rows + i * ld;
        int64_t filled = i < count ? used : 0;
        if (filled)
            round_row(from[i], depth, row);
        for (int64_t p = 0; p < filled && sign < 0; p++)
            row[p] ^= 0x80008000u;
        memset(row + filled, 0, (size_t)(pairs - filled) * sizeof *row);
    }
    turn_words(rows, ld, PANEL, pairs, lanes, PANEL);
}

/* Which keys of the block the lanes [v, v + lanes) see: each of [0, full) is seen by all, of [full, visible) by the
 * lanes from first_lane on. */
typedef struct visibility {
    int64_t full, visible;
    float first_lane[BACKWARD_KEYS > FORWARD_KEYS ? BACKWARD_KEYS : FORWARD_KEYS];
} visibility;

static void set_visible(const fur_attention_call *call, const fur_query_piece *piece, const key_block *block, int64_t v,
                        int64_t lanes, visibility *out)
{
    out->visible = block->count;
    while (out->visible > 0 && fur_attention_first_seeing(call, piece, block->position[out->visible - 1]) >= v + lanes)
        out->visible--;
    out->full = out->visible;
    while (out->full > 0 && fur_attention_first_seeing(call, piece, block->position[out->full - 1]) > v)
        out->full--;
    for (int64_t j = out->full; j < out->visible; j++)
        out->first_lane[j] = (float)(fur_attention_first_seeing(call, piece, block->position[j]) - v);
}

/* First lane that sees visible key j. */
static int64_t first_lane_of(const visibility *seen, int64_t j)
{
    return j < seen->full ? 0 : fur_max_i64(0, (int64_t)seen->first_lane[j]);
}

#include "op/attention/attention_rows_simd.h"

#include "op/attention/attention_bf16_backward.h"
#include "op/attention/attention_bf16_forward.h"

/* What once per row takes does not depend on the type of the products. */
static void prepare(const fur_attention_call *call, const fur_attention_rows *rows)
{
    PLAIN_KERNEL.prepare(call, rows);
}

static void finish(const fur_attention_call *call, const fur_attention_rows *rows)
{
    PLAIN_KERNEL.finish(call, rows);
}

#define ATTENTION_KERNEL                                                                                               \
    {                                                                                                                  \
        .forward_floats = forward_floats, .forward = forward, .backward_floats = backward_floats, .has_parts = 1,      \
        .prepare = prepare, .keys = keys, .finish = finish,                                                            \
    }
