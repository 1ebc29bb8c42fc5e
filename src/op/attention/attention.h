/* SPDX-License-Identifier: Apache-2.0 */
/* Exact softmax attention over spans of keys, forward and backward, in tiles: no queries x keys array exists.
 *
 *   s_ij = scale * q_i . k_j          for visible j (causal: position of key <= position of query), else skipped
 *   m_i = max_j s_ij,  l_i = sum_j exp(s_ij - m_i),  lse_i = m_i + log l_i,  o_i = sum_j exp(s_ij - lse_i) v_j
 * backward, with P_ij = exp(s_ij - lse_i), delta_i = do_i . o_i, dS_ij = P_ij (do_i . v_j - delta_i):
 *   dv_j += sum_i P_ij do_i,   dq_i = scale sum_j dS_ij k_j,   dk_j += scale sum_i dS_ij q_i
 *
 * with features (all may be set together; i, j are positions in the document, h the query head):
 *   visible    causal: i - window < j <= i, otherwise |i - j| < window; j < sink_tokens in spite of the window
 *   s_ij <- softcap tanh(s_ij / softcap), then s_ij <- s_ij - slope_h |i - j|
 *   l_i gains exp(sink_h - m_i), which no value belongs to:  dsink_h += - sum_i exp(sink_h - lse_i) delta_i
 *   P_ij <- P_ij M_ij in o and dv, dS_ij = P_ij (M_ij do_i . v_j - delta_i), M_ij = 0 or 1 / (1 - dropout); lse as
 * without
 *
 * Query head h reads key head h / (heads / kv_heads). A query that sees no key at all gets o = 0, lse = -infinity (with
 * sink logits: lse = sink_h), and no gradient. Sources: arXiv 2305.19370 (blocks), 2205.14135 (backward from lse);
 * docs/PAPERS.md. Rows are strided: element (t, h, d) of q is q_THD[t * ldq + h * head_dim + d]. Alignment is not
 * required. Masked entries are skipped or selected, never multiplied by zero: a NaN in an invisible key changes
 * nothing. */
#ifndef FUR_OP_ATTENTION_H
#define FUR_OP_ATTENTION_H

#include "base/exec.h"

/* What a query sees and what becomes of its scores, beside causal order. All zero: plain attention, whose speed the
 * others do not touch. */
typedef struct fur_attention_features {
    int64_t window;       /* a token sees itself and window - 1 before it, and after it if not causal; 0: no window */
    int64_t sink_tokens;  /* keys at positions below it are seen in spite of the window */
    float softcap;        /* 0: none (Gemma 2) */
    int alibi;            /* slopes of fur_attention_slope (arXiv 2108.12409) */
    const float *sink_H;  /* learned logits in the denominator (gpt-oss); NULL: none */
    float dropout;        /* probability, below 1, that a weight is left out */
    uint64_t dropout_key; /* of the draws: fur_attention_draw */
} fur_attention_features;

/* Consecutive keys of one document. The spans of a piece do not overlap and ascend by position. */
typedef struct fur_key_span {
    const float *k_SKD, *v_SKD;              /* row stride ldk */
    const uint16_t *k_bf16_SKD, *v_bf16_SKD; /* instead of them where exec->compute is bf16; NULL otherwise */
    float *dk_SKD, *dv_SKD;                  /* row stride lddk; backward adds to them; NULL in forward */
    int64_t first_position;                  /* position of row 0 within the document */
    int64_t count;
} fur_key_span;

/* Consecutive queries of one document, and the keys it may see. */
typedef struct fur_query_piece {
    int64_t first_row;      /* row of the first query in q, o, lse, do, dq */
    int64_t count;          /* 0: the piece is passed over */
    int64_t first_position; /* of that query within the document */
    int64_t first_token;    /* its number for fur_attention_draw; 0 without dropout */
    const fur_key_span *spans;
    int64_t span_count;
} fur_query_piece;

typedef struct fur_attention_args {
    int64_t heads, kv_heads, head_dim; /* kv_heads divides heads; head_dim 1..1024 */
    int64_t first_head, all_heads;     /* of a layer whose heads several calls share: query heads before these, and in
                                        * all; slopes, draws and cuts are the layer's, so that no bit depends on who
                                        * calls with which. Both 0: these are all. sink_H and arrays begin at these */
    float scale;
    int causal;
    fur_attention_features features;
    const fur_query_piece *pieces; /* of one call: their query rows do not overlap. Backward: their spans do not overlap
                                    * either, or pieces that follow one another have the same `spans` and count */
    int64_t piece_count;
    const float *q_THD;
    int64_t ldq;
    int64_t ldk; /* of k and v in every span */
    float *o_THD;
    int64_t ldo; /* written by forward, read by backward */
    float *lse_TH;
    int64_t ldlse; /* natural log; row stride in elements, at least heads; likewise */
    /* backward only */
    const float *do_THD;
    int64_t lddo;
    float *dq_THD;
    int64_t lddq; /* overwritten */
    int64_t lddk;
    float *dsink_H; /* added to; NULL: not wanted */
} fur_attention_args;

/* Slope of ALiBi of a query head: 2^(-8 (h + 1) / heads) for powers of two; for other counts those of the power of two
 * below, then every second one of the power above. */
double fur_attention_slope(int64_t heads, int64_t head);
/* The draw that decides on weight (token, head, position): left out where it is below dropout * 2^32. A function of its
 * arguments alone, so that no block size, thread or instruction set changes it. */
uint32_t fur_attention_draw(uint64_t key, int64_t head, int64_t token, int64_t position);

/* Bytes that forward (backward) pushes on exec->workspace at most, for any rows <= `rows` in all pieces together, and
 * for these heads of a layer of any number. */
int64_t fur_attention_workspace(const fur_exec *exec, int64_t heads, int64_t kv_heads, int64_t head_dim, int64_t rows,
                                int backward);

/* Parts that backward of some key heads, of a layer of `all_kv_heads`, is done in at once: more threads find no work.
 */
int64_t fur_attention_tasks(int64_t kv_heads, int64_t all_kv_heads);

/* Parallel over (head, query tiles) forward and (key head, fixed chunks of keys) backward; no atomics; the same bits
 * for any thread count at one instruction set. Cost 4 D flops per visible (query, key, head) forward, 10 D backward;
 * blocks of keys outside a window are passed over. Error bound, per element, u = 2^-24: see the head of
 * attention_test.h. Errors: FUR_E_MEMORY (workspace too small), FUR_E_SHAPE, FUR_E_ARGUMENT (a feature out of range).
 */
fur_status fur_attention_forward(const fur_exec *exec, const fur_attention_args *args);
fur_status fur_attention_backward(const fur_exec *exec, const fur_attention_args *args);

#endif
