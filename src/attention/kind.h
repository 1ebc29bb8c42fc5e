/* SPDX-License-Identifier: Apache-2.0 */
/* The first seam: how tokens see each other. A layer runs in two phases, so that causal and bidirectional rows, one
 * process and many, are one code:
 *
 *   forward    key_rows/absorb  blocks ascending    k, v of the block -> the kind's state
 *              exchange                             between processes: nothing | prefix sum | start of a ring
 *              query            per block           q -> o and row statistics
 *   backward   key_rows/absorb  blocks ascending    state rebuilt from the stored layer input
 *              rebuild          per block absorbed  sums over keys, where a kind has them
 *              begin_backward   per block absorbed  dk, dv of the block are zero
 *              query_backward   blocks descending   do -> dq; dk and dv gather in the state
 *              exchange_backward                    between processes, all queries done: nothing | suffix sum
 *              key_gradients    per block           dk, dv complete -> the caller's k and v maps
 *
 * Where keys_ready_at_once says so (causal, one process), dk and dv of a block are complete as soon as the descending
 * sweep has done that block's queries, and the two backward phases fuse into one sweep in place. Where besides `reach`
 * is not everything, backward absorbs in descending order instead, each block just before the first queries that see
 * it, and there is no exchange: the state need hold no more than the blocks that one block's queries see. A kind that
 * rebuilds has all blocks absorbed once in ascending order before.
 * Nothing outside src/attention asks which kind a layer has. */
#ifndef FUR_ATTENTION_KIND_H
#define FUR_ATTENTION_KIND_H

#include "comm/comm.h"
#include "op/attention/attention.h"
#include "op/far/far.h"

/* Documents of the row: document i holds rows offsets[i] .. offsets[i+1]-1. */
typedef struct fur_documents {
    int64_t count;
    const int64_t *offsets;
} fur_documents;

typedef struct fur_attention_shape {
    int64_t heads, kv_heads, head_dim;
    int64_t first_head, all_heads; /* of a layer whose heads come group by group, as in fur_attention_args; or 0 */
    float scale;
    int causal;
    fur_attention_features features;
    float *dsink_H;      /* backward with sink logits: added to; NULL: not wanted */
    fur_compute compute; /* that of the exec of every call; keys and values may be kept in that type */
    int keys_elsewhere;  /* keys and values of f32, and in backward dk and dv, lie in arrays of the caller's, all rows
                            one after the other: reserve makes no room for them, and the caller sets the state's
                            pointers. key_rows is not called then; absorb is given the rows as they lie, and writes none
                            of them */
    /* almost-linear: keys within the own chunk of `chunk` tokens, in the `near` tokens before it (and after it, if not
     * causal) and sink tokens are seen one by one, all others through `far`. Chunks are counted from the document's
     * first token. */
    int64_t chunk, near;
    fur_far far;
    fur_far fine;   /* of one degree more, in the place of `far` in backward; degree 0: backward is the exact adjoint */
    int hold_all;   /* the state has room for far keys one by one, for the heads that far.exact_K may name */
    float *exact_K; /* far.exact_K, where a head whose normaliser is not positive may be named */
    float *dbias_H; /* backward with far.bias_H: added to */
    const fur_comm *comm; /* other processes with other rows; NULL: there are none */
    float *moment_THP;    /* where query_backward puts the FUR_FAR_MOMENTS of its rows, 0 where a chunk has no far keys;
                             NULL:    not wanted */
} fur_attention_shape;

/* Memory of one layer's state, used for one layer after the other. */
typedef struct fur_attention_state {
    int64_t capacity;                  /* rows; exact: row t stands at t modulo capacity */
    float *k_SKD, *v_SKD;              /* exact: keys and values of the row so far; NULL in bf16 */
    uint16_t *k_bf16_SKD, *v_bf16_SKD; /* the same in bf16; NULL in f32 */
    float *dk_SKD, *dv_SKD;            /* backward */
    /* almost-linear: sums over far keys before the first query of each block (`slots` of them, slot b of block b; one
     * serves all where there is no backward), and the gradient of the sum */
    int64_t block, slots, far_floats;
    float *far_sums, *far_gradient;
    float *fine_sums; /* the sums by `fine`, in backward */
    int64_t fine_floats;
    /* several processes: sums over all keys before the rows of this one, gradient by all queries behind them, and a
     * place for what is passed on */
    float *far_carry, *far_gradient_carry, *far_passed;
    /* heads whose far keys are seen one by one: unit rows of the keys, and gradients by them; NULL without a bound */
    float *unit_SKD, *dunit_SKD;
    uint16_t *unit_bf16_SKD;
} fur_attention_state;

/* What a kind costs, for the plan. */
typedef struct fur_attention_cost {
    double flops_forward, flops_backward; /* of a whole row */
    double flops_last;                    /* forward, of the last token of a document */
    double tasks;                         /* where heads can be taken apart: threads that backward keeps busy */
} fur_attention_cost;

typedef struct fur_attention_kind {
    const char *name;
    /* Lays the state of a row of `rows` rows out on the arena (counting or real). Rows are absorbed, asked for and
     * queried in runs of which none crosses a multiple of `block`. */
    void (*reserve)(const fur_attention_shape *shape, int64_t rows, int64_t block, int backward, fur_arena *arena,
                    fur_attention_state *out);
    /* How many rows before the first query of a block its queries may see; INT64_MAX: any, or rows behind it too. Not
     * more than that and the block itself need be absorbed when the block is queried, forward or backward. */
    int64_t (*reach)(const fur_attention_shape *shape);
    /* Bytes pushed on the workspace by one query or query_backward of `rows` rows within `documents` documents. */
    int64_t (*workspace)(const fur_exec *exec, const fur_attention_shape *shape, int64_t rows, int64_t documents,
                         int backward);
    void (*cost)(const fur_attention_shape *shape, int64_t rows, int64_t document_rows, fur_attention_cost *out);
    /* Where the caller writes k and v ([count, K * D], contiguous) of rows first .. first+count-1 before it calls
     * absorb with the same pointers. On entry they are places of the caller's that may serve, needed without backward
     * only. */
    void (*key_rows)(const fur_attention_shape *shape, const fur_attention_state *state, int64_t first, float **k_TKD,
                     float **v_TKD);
    fur_status (*absorb)(const fur_exec *exec, const fur_attention_shape *shape, fur_attention_state *state,
                         const fur_documents *documents, int64_t first, int64_t count, float *k_TKD, float *v_TKD);
    fur_status (*exchange)(const fur_exec *exec, const fur_attention_shape *shape, fur_attention_state *state,
                           const fur_documents *documents);
    /* NULL where absorbed rows are all that a state is. Otherwise called in backward, blocks ascending: each just after
     * it was absorbed, or where `reach` is everything, after all are. */
    fur_status (*rebuild)(const fur_exec *exec, const fur_attention_shape *shape, fur_attention_state *state,
                          const fur_documents *documents, int64_t first, int64_t count);
    /* q_THD, o_THD: [count, H * D]; lse_TH: [count, H], row statistics that query_backward wants back. */
    fur_status (*query)(const fur_exec *exec, const fur_attention_shape *shape, const fur_attention_state *state,
                        const fur_documents *documents, int64_t first, int64_t count, const float *q_THD, float *o_THD,
                        float *lse_TH);
    /* After a block is absorbed in backward: its gradients begin at zero. */
    void (*begin_backward)(const fur_exec *exec, const fur_attention_shape *shape, fur_attention_state *state,
                           int64_t first, int64_t count);
    fur_status (*exchange_backward)(const fur_exec *exec, const fur_attention_shape *shape, fur_attention_state *state,
                                    const fur_documents *documents);
    fur_status (*query_backward)(const fur_exec *exec, const fur_attention_shape *shape, fur_attention_state *state,
                                 const fur_documents *documents, int64_t first, int64_t count, const float *q_THD,
                                 const float *o_THD, const float *lse_TH, const float *do_THD, float *dq_THD);
    int (*keys_ready_at_once)(const fur_attention_shape *shape);
    /* *out: the shape of key heads first .. first+count-1 and their queries alone, a state of whose own gives the bits
     * that one of all heads gives. NULL where heads cannot be taken apart. */
    void (*part)(const fur_attention_shape *shape, int64_t first, int64_t count, fur_attention_shape *out);
    /* Gradients of rows first .. by k and v, [.., K * D]; valid until the next block is absorbed; the caller may
     * overwrite. */
    fur_status (*key_gradients)(const fur_exec *exec, const fur_attention_shape *shape, fur_attention_state *state,
                                int64_t first, int64_t count, float **dk_TKD, float **dv_TKD);
} fur_attention_kind;

int fur_attention_kind_count(void);
const fur_attention_kind *fur_attention_kind_at(int index);

extern const fur_attention_kind fur_attention_exact, fur_attention_almost_linear;

#endif
