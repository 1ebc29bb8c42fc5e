/* SPDX-License-Identifier: Apache-2.0 */
/* Sampled rows of a layer, from which its error against exact attention is measured and its polynomial refitted, in
 * the course of one backward sweep:
 *
 *   begin       m tokens of the row are drawn
 *   keys        blocks ascending, keys absorbed: k and v of sampled tokens
 *   queries     blocks descending, queries done: q, o, do, dq of sampled tokens; every query's part in exact dk and dv
 *               of the sampled keys
 *   gradients   after all queries that see a block's keys: its keys go through the exact softmax of all sampled
 *               queries, dk and dv of its sampled keys are compared
 *   end         errors of each query head;  fit: constants of a key head's polynomial
 *
 * Exact means: the softmax over the same logits, near ones as they are and far ones bounded, with the exponential in
 * place of its polynomial; running sums in double, products of rows in f32. Cost: 18 D flops a token, head and sampled
 * row, and what FUR_FAR_MOMENTS takes. Nothing here writes to what it is shown. */
#ifndef FUR_ATTENTION_FAR_SAMPLE_H
#define FUR_ATTENTION_FAR_SAMPLE_H

#include "attention/kind.h"
#include "furlong/head_error.h"

typedef struct fur_far_sample {
    const fur_attention_shape *shape;
    const fur_documents *documents;
    int64_t most, count, tokens;     /* sampled at most, in this row; tokens of the row */
    int assumed;                     /* the layer is exact: o of the polynomial is computed here, and nothing else */
    int64_t *token, *start, *length; /* [m]: a row, the first row of its document, tokens of that */
    float *q_MHD, *do_MHD, *o_MHD, *dq_MHD, *lse_MH;
    float *k_MKD, *v_MKD, *dk_MKD, *dv_MKD;
    double *query_sums;                /* [m, H, 6 D + 4] */
    double *key_sums;                  /* [m, K, 3 D] */
    float *factor_BH, *delta_BH;       /* of the block in work: of unit rows; do . o, or qbar . k^ */
    float *moment_BHP;                 /* likewise, for shape->moment_THP of query_backward */
    double *query_bounds, *key_bounds; /* of each head, each key head: far_sums.h */
    float *centre_KD;                  /* a point among the values */
    double *point, *weight;            /* [m, m]: of a fit; [2, m]: of an error */
} fur_far_sample;

/* Lays out memory for `most` tokens of any layer of this shape, in blocks of at most `block` rows. */
void fur_far_sample_reserve(const fur_attention_shape *shape, int64_t most, int64_t block, fur_arena *arena,
                            fur_far_sample *out);
void fur_far_sample_begin(fur_far_sample *s, const fur_attention_shape *shape, const fur_documents *documents,
                          uint64_t seed, int assumed);
void fur_far_sample_keys(fur_far_sample *s, const fur_attention_state *state, int64_t first, int64_t count);
/* Rows as query_backward has them. */
void fur_far_sample_queries(const fur_exec *exec, fur_far_sample *s, int64_t first, int64_t count, const float *q_THD,
                            const float *o_THD, const float *lse_TH, const float *do_THD, const float *dq_THD);
/* dk and dv as key_gradients gives them. */
void fur_far_sample_gradients(const fur_exec *exec, fur_far_sample *s, const fur_attention_state *state, int64_t first,
                              int64_t count, const float *dk_TKD, const float *dv_TKD);
/* out[H]; layer and exact are the caller's to set. */
void fur_far_sample_end(fur_far_sample *s, fur_head_error *out_H);

/* Constants of one key head, and the range of centred logits that they are fitted for. */
typedef struct fur_far_constants {
    float *query_mean_D, *key_mean_D, *coefficient_P;
    float *fine_P; /* of one degree more; NULL: not wanted */
    float range;
} fur_far_constants;

/* Means of the sampled unit rows, and least squares on the far logits between sampled tokens, each weighted as
 * attention weighs it. With a bound: over the range that no row can leave, minimax where least squares are not positive
 * there. Without: over the range of this row, least squares as they are. Nonzero, nothing written: fewer than 4 far
 * pairs a coefficient. */
int fur_far_sample_fit(fur_far_sample *s, int64_t kv_head, fur_far_constants *out);

#endif
