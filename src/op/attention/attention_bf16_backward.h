/* SPDX-License-Identifier: Apache-2.0 */
/* Backward with products of bf16; part of attention_bf16.h. A task owns key blocks; against each it takes panels of up
 * to PANEL virtual rows. Invisible pairs have P = dS = 0, selected. */

typedef struct backward_scratch {
    uint32_t *k, *v;              /* rows of keys and values [BACKWARD_KEYS + SPARE][stride_of(D)] */
    uint32_t *k_T;                /* [D + SPARE][stride_of(BACKWARD_KEYS)] */
    uint32_t *part;               /* of transposing */
    uint32_t *safe, *k_T_safe;    /* rows of keys or of the panel, and k_T, without those that are not finite */
    float *dk, *dv;               /* [BACKWARD_KEYS + SPARE][width_of(D)] */
    uint32_t *q, *d_o;            /* rows of the panel [PANEL][stride_of(D)] */
    uint32_t *q_lanes, *do_lanes; /* [pairs_of(D)][PANEL] */
    uint32_t *q_pairs, *do_pairs; /* pairs of rows [PANEL / 2][2 pairs_of(D)] */
    float *s, *dp;                /* [BACKWARD_KEYS + SPARE][PANEL] */
    uint32_t *p, *ds;             /* rows of pairs along the queries [BACKWARD_KEYS + SPARE][LD_P] */
    uint32_t *ds_pairs;           /* [BACKWARD_KEYS / 2][PANEL] */
    float *dq_T;                  /* [D + SPARE][PANEL] */
    uint32_t *dq;                 /* [PANEL][stride_of(2 D)], f32 */
    int finite;                   /* keys and values of the block */
    key_block block;
    visibility seen;
} backward_scratch;

enum { LD_P = 48, TILE_PAST = 12 }; /* words of PANEL / 2, an odd multiple of 64 bytes */

static int64_t place_backward(int64_t depth, void *scratch, backward_scratch *x)
{
    room space = {.base = scratch};
    int64_t keys = BACKWARD_KEYS + SPARE, rows = fur_round_up(depth, (int64_t)2 * DEPTH) + SPARE, ld = stride_of(depth);
    x->k = take(&space, keys * ld);
    x->v = take(&space, keys * ld);
    x->k_T = take(&space, rows * stride_of(BACKWARD_KEYS));
    x->part = take(&space, (int64_t)DEPTH * 2 * pairs_of(depth));
    x->safe = take(&space, BACKWARD_KEYS * ld);
    x->k_T_safe = take(&space, rows * stride_of(BACKWARD_KEYS));
    x->dk = take_floats(&space, keys * width_of(depth));
    x->dv = take_floats(&space, keys * width_of(depth));
    x->q = take(&space, PANEL * ld);
    x->d_o = take(&space, PANEL * ld);
    x->q_lanes = take(&space, pairs_of(depth) * PANEL);
    x->do_lanes = take(&space, pairs_of(depth) * PANEL);
    x->q_pairs = take(&space, PANEL * pairs_of(depth));
    x->do_pairs = take(&space, PANEL * pairs_of(depth));
    x->s = take_floats(&space, keys * PANEL);
    x->dp = take_floats(&space, keys * PANEL);
    x->p = take(&space, keys * LD_P);
    x->ds = take(&space, keys * LD_P);
    x->ds_pairs = take(&space, (int64_t)BACKWARD_KEYS / 2 * PANEL);
    x->dq_T = take_floats(&space, rows * PANEL);
    x->dq = take(&space, PANEL * stride_of(2 * depth));
    return space.used;
}

static int64_t backward_floats(int64_t head_dim)
{
    backward_scratch unused;
    return place_backward(head_dim, NULL, &unused);
}

/* P^T = 2^(S^T scale - lse) and dS^T = P^T (dP^T - delta), rounded: as rows, and dS^T as pairs of rows too. Keys past
 * the visible ones are zero up to whole depths, lanes past the last have lse = infinity. */
static void weights(backward_scratch *x, int64_t lanes, float scale, const float *lse2, const float *delta)
{
    int64_t whole = fur_round_up(x->seen.visible, (int64_t)2 * DEPTH);
    V zero = vset(0.0f);
    for (int64_t n = 0; n < lanes; n += VL) {
        V lse = vload(lse2 + n), minus = vload(delta + n), lane = vload(lane_numbers + n);
        for (int64_t j = 0; j < whole; j += 2) {
            V ds[2] = {zero, zero};
            FUR_UNROLL
            for (int64_t i = 0; i < 2; i++) {
                V p = zero;
                if (j + i < x->seen.visible) {
                    /* P is at most 1; rounding of large scores must not make it explode */
                    V t = vsub(vmul(vload(x->s + (j + i) * PANEL + n), vset(scale)), lse);
                    p = exp2_of(vmin(zero, t));
                    ds[i] = vmul(p, vsub(vload(x->dp + (j + i) * PANEL + n), minus));
                }
                if (j + i >= x->seen.full && j + i < x->seen.visible) {
                    p = vfrom(lane, vset(x->seen.first_lane[j + i]), p, zero);
                    ds[i] = vfrom(lane, vset(x->seen.first_lane[j + i]), ds[i], zero);
                }
                wstore_row((uint16_t *)(void *)(x->p + (j + i) * LD_P) + n, p);
                wstore_row((uint16_t *)(void *)(x->ds + (j + i) * LD_P) + n, ds[i]);
            }
            wstore(x->ds_pairs + j / 2 * PANEL + n, wround(ds[0], ds[1]));
        }
    }
    /* the last tile of dv and dk may run there */
    memset(x->p + whole * LD_P, 0, (size_t)TILE_PAST * LD_P * sizeof *x->p);
    memset(x->ds + whole * LD_P, 0, (size_t)TILE_PAST * LD_P * sizeof *x->ds);
}

/* dv, dk and dq^T of the panel. Queries in whole depths: lanes past the last are zeroes. */
static void gradients(int64_t depth, int64_t lanes, const uint32_t *k_T, backward_scratch *x)
{
    int64_t width = width_of(depth), pairs = pairs_of(depth), queries = lanes / 2;
    block_product(x->seen.visible, width, x->dv, width, x->p, LD_P, x->do_pairs, 2 * pairs, queries, 1);
    block_product(x->seen.visible, width, x->dk, width, x->ds, LD_P, x->q_pairs, 2 * pairs, queries, 1);
    block_product(depth, lanes, x->dq_T, PANEL, k_T, stride_of(BACKWARD_KEYS), x->ds_pairs, PANEL,
                  pairs_of(x->seen.visible), 0);
}

/* The same where an invisible key or query may not be finite. */
static void gradients_guarded(int64_t depth, int64_t lanes, int64_t count, backward_scratch *x)
{
    int64_t ld = stride_of(depth), width = width_of(depth), pairs = pairs_of(depth);
    unsigned char k_special[BACKWARD_KEYS], q_special[PANEL], do_special[PANEL];
    copy_finite(x->k, ld, x->block.count, pairs, x->safe, k_special);
    transpose_rows(x->safe, ld, x->block.count, pairs, x->part, x->k_T_safe, stride_of(BACKWARD_KEYS));
    copy_finite(x->q, ld, PANEL, pairs, x->safe, q_special);
    pair_rows(x->safe, ld, pairs, x->q_pairs);
    copy_finite(x->d_o, ld, PANEL, pairs, x->safe, do_special);
    pair_rows(x->safe, ld, pairs, x->do_pairs);
    gradients(depth, lanes, x->k_T_safe, x);
    for (int64_t j = 0; j < x->seen.visible; j++)
        for (int64_t i = first_lane_of(&x->seen, j); i < count; i++) {
            float p = half_of(x->p + j * LD_P, i), ds = half_of(x->ds + j * LD_P, i);
            for (int64_t d = 0; d < depth && do_special[i]; d++)
                x->dv[j * width + d] += p * half_of(x->d_o + i * ld, d);
            for (int64_t d = 0; d < depth && q_special[i]; d++)
                x->dk[j * width + d] += ds * half_of(x->q + i * ld, d);
            for (int64_t d = 0; d < depth && k_special[j]; d++)
                x->dq_T[d * PANEL + i] += ds * half_of(x->k + j * ld, d);
        }
}

/* Rows [v, v + count) of the piece against the packed block. */
static void backward_panel(const fur_attention_call *call, const fur_attention_rows *rows, int64_t chunk, int64_t v,
                           int64_t count, backward_scratch *x)
{
    const fur_attention_args *a = call->args;
    int64_t depth = a->head_dim, pairs = pairs_of(depth), ld = stride_of(depth),
            lanes = fur_round_up(count, (int64_t)2 * DEPTH);
    int64_t at = (rows->kv_head * call->rows + rows->first_row) * call->group + v;
    float lse2[PANEL], delta[PANEL];
    const float *q[PANEL], *d_o[PANEL];
    for (int64_t i = 0; i < PANEL; i++) {
        lse2[i] = i < count ? call->lse2_KR[at + i] : INFINITY;
        delta[i] = i < count ? call->delta_KR[at + i] : 0;
        q[i] = i < count ? a->q_THD + fur_attention_offset(call, rows, v + i, a->ldq) : NULL;
        d_o[i] = i < count ? a->do_THD + fur_attention_offset(call, rows, v + i, a->lddo) : NULL;
    }
    pack_panel(q, count, depth, a->scale < 0 ? -1 : 1, x->q, x->q_lanes);
    pack_panel(d_o, count, depth, 1, x->d_o, x->do_lanes);
    pair_rows(x->q, ld, pairs, x->q_pairs);
    pair_rows(x->d_o, ld, pairs, x->do_pairs);
    block_product(x->seen.visible, lanes, x->s, PANEL, x->k, ld, x->q_lanes, PANEL, pairs, 0);
    block_product(x->seen.visible, lanes, x->dp, PANEL, x->v, ld, x->do_lanes, PANEL, pairs, 0);
    weights(x, lanes, fabsf(a->scale) * LOG2_E, lse2, delta);
    int edge = x->seen.full < x->seen.visible;
    if (edge && !(x->finite && all_finite(x->q_lanes, pairs * PANEL) && all_finite(x->do_lanes, pairs * PANEL)))
        gradients_guarded(depth, lanes, count, x);
    else
        gradients(depth, lanes, x->k_T, x);
    turn_words((const uint32_t *)(const void *)x->dq_T, PANEL, fur_round_up(depth, 8), PANEL, x->dq,
               stride_of(2 * depth));
    for (int64_t i = 0; i < count; i++)
        add_row(dq_of(call, rows, chunk, v + i), (const float *)(const void *)(x->dq + i * stride_of(2 * depth)),
                a->scale, depth);
}

/* The block against all runs [first, last), which have its keys. */
static void backward_block(const fur_attention_call *call, int64_t kv_head, int64_t chunk, int64_t first, int64_t last,
                           backward_scratch *x)
{
    const fur_attention_args *a = call->args;
    int64_t depth = a->head_dim, width = width_of(depth), at = kv_head * depth;
    size_t bytes = (size_t)((BACKWARD_KEYS + SPARE) * width) * sizeof(float);
    x->finite = gather_rows(call, &x->block, kv_head, 0, x->k) & gather_rows(call, &x->block, kv_head, 1, x->v);
    transpose_rows(x->k, stride_of(depth), x->block.count, pairs_of(depth), x->part, x->k_T, stride_of(BACKWARD_KEYS));
    memset(x->dk, 0, bytes);
    memset(x->dv, 0, bytes);
    for (int64_t r = first; r < last; r++) {
        fur_attention_rows rows = fur_attention_rows_of(call, &call->runs[r], kv_head);
        int64_t count;
        int64_t seeing = fur_attention_first_seeing(call, rows.piece, x->block.position[0]);
        for (int64_t v = fur_max_i64(0, seeing); v < rows.end; v += count) {
            count = fur_min_i64(PANEL, rows.end - v);
            set_visible(call, rows.piece, &x->block, v, count, &x->seen);
            backward_panel(call, &rows, chunk, v, count, x);
        }
    }
    for (int64_t j = 0; j < x->block.count; j++) {
        const fur_key_span *span = x->block.span[j];
        int64_t to = x->block.row[j] * a->lddk + at;
        add_row(span->dk_SKD + to, x->dk + j * width, fabsf(a->scale), depth);
        add_row(span->dv_SKD + to, x->dv + j * width, 1.0f, depth);
    }
}

static void keys(const fur_attention_call *call, int64_t kv_head, int64_t chunk, void *scratch)
{
    backward_scratch x;
    place_backward(call->args->head_dim, scratch, &x);
    clear_dq(call, kv_head, chunk);
    for (int64_t r = 0, next; r < call->run_count; r = next) {
        next = fur_attention_next_keys(call, r);
        fur_key_cursor cursor = {.piece = call->runs[r].piece};
        for (int64_t number = 0; next_block(&cursor, BACKWARD_KEYS, INT64_MAX, &x.block) > 0; number++)
            if (fur_attention_owns(call, &call->runs[r], number, chunk))
                backward_block(call, kv_head, chunk, r, next, &x);
    }
}
