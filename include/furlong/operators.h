/* SPDX-License-Identifier: Apache-2.0 */
/* The library's operators by themselves, on arrays of the caller: attention, look-up projections, the feedforward, and
 * cross-entropy over a vocabulary, each forward and backward, for other people's models and frameworks. (Attention
 * regression is in fit.h.)
 *
 * Arrays are row-major and contiguous, their shapes are in the names. What is written is overwritten, and must overlap
 * no other array. Values are not checked: NaN and infinity go where the formulas carry them. Calls with the same
 * arguments give the same bits at any number of threads of the context (on one instruction set).
 *
 * Float functions compute as training does: products in the context's type, f32 or bf16, statistics and sums in f32.
 * Beside each stands one in double, _f64: the formula itself by plain loops, in which nothing is blocked, packed or
 * rounded below f64, whatever the context's type and instruction set. It is what a float function is measured against,
 * and what differences of a gradient can be taken of, and far slower.
 *
 * Memory: every function works in a workspace of its own, which is gone when it returns. The _bytes functions state
 * how many bytes that is for the float ones (_f64 takes a few numbers for each key of a document, or column, and
 * thread); with memory_bytes in the settings above 0 and below it, a function refuses, FUR_E_DOES_NOT_FIT, before it
 * works. Arrays of the caller are not counted.
 *
 * Errors of all: FUR_E_ARGUMENT (a setting out of its range), FUR_E_SHAPE (sizes that do not fit each other), and both
 * name the sizes; FUR_E_MEMORY; FUR_E_DOES_NOT_FIT. */
#ifndef FURLONG_OPERATORS_H
#define FURLONG_OPERATORS_H

#include <stdbool.h>

#include "furlong/config.h"
#include "furlong/context.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- attention --------------------------------------------------------------------------------------------------- */

/* softmax(scale q k^T) v for H query heads, of which H / K in a row read the same key head; no array of T x S exists.
 *
 * Documents: keys offsets[i] .. offsets[i+1]-1 are document i, and the queries beside them see no others. Positions are
 * counted from a document's first key. Where there are fewer queries than keys, those of a document stand at its last
 * positions, as in generation: which queries are whose, query_offsets says.
 *
 * Kind `almost-linear`: positions of a document are cut into chunks; a token sees its own chunk, `window` tokens before
 * it (and behind it, if bidirectional) and sink tokens by scale q.k, and all others through a polynomial in
 * bound * cos(q, k), one softmax over both, in time linear in T (arXiv 2302.13214, 2402.04497, 2408.13233). */
typedef struct fur_operator_attention {
    size_t struct_size;
    const char *kind;                  /* as fur_attention_kind_name; NULL: "exact" */
    int64_t queries, keys;             /* T, S; keys 0: as many as queries. almost-linear: as many */
    int64_t heads, kv_heads, head_dim; /* H, K, D; K divides H, 0: H. D 1..1024, almost-linear: 1..128 */
    double scale;                      /* of logits; 0: 1 / sqrt(D) */
    bool bidirectional;                /* else a query sees no key behind its own position */
    int64_t window; /* exact: a query sees itself and window - 1 before it, and after it if bidirectional; 0: all */
    int64_t sink_tokens;          /* first keys of a document that are seen in spite of the window */
    int64_t documents;            /* 0: one */
    const int64_t *offsets;       /* [documents + 1], from 0 to S, rising */
    const int64_t *query_offsets; /* [documents + 1], from 0 to T; NULL: as offsets, or all of one document */
    /* exact alone */
    double softcap;       /* logits become softcap * tanh(logits / softcap); 0: none */
    bool alibi;           /* and lose slope_h times the distance (arXiv 2108.12409) */
    const float *sink_H;  /* logits in the softmax that no value belongs to; NULL: none */
    double dropout;       /* probability, below 1, that a weight is left out; the others grow by 1 / (1 - dropout); */
    uint64_t dropout_key; /* which ones: a function of this, head, row and position */
    /* almost-linear alone */
    int64_t degree;                           /* 1..6; 0: 2 */
    int64_t chunk;                            /* tokens, 16..4096; 0: 128 */
    double bound;                             /* 1e-6..16; 0: 1. Far logits are at most this in size */
    const float *coefficient_KP;              /* [K, degree + 1] in place of e^t; NULL: those of a new model */
    const float *query_mean_KD, *key_mean_KD; /* of unit-norm rows, in whose middle the polynomial stands; NULL: 0 */
    const float *bias_H;                      /* added to far logits; NULL: 0 */
    int64_t memory_bytes;
} fur_operator_attention;
FUR_API void fur_operator_attention_defaults(fur_operator_attention *settings);
FUR_API fur_status fur_operator_attention_bytes(fur_context *context, const fur_operator_attention *settings,
                                                bool backward, int64_t *out);

/* o, and the natural logarithm of each row's sum, which backward wants back; lse NULL: not wanted. A query that sees no
 * key has o = 0 and lse = -infinity. 4 D flops for each query, head and key seen. FUR_E_NONFINITE, almost-linear alone:
 * a row's sum is not positive, as coefficients of the caller's may make it; o and lse are then of no use. */
FUR_API fur_status fur_operator_attention_forward(fur_context *context, const fur_operator_attention *settings,
                                                  const float *q_THD, const float *k_SKD, const float *v_SKD,
                                                  float *o_THD, float *lse_TH);

/* Gradients; NULL: not wanted, for the last two. dbias_H is there with bias_H alone, dsink_H with sink_H. */
typedef struct fur_operator_attention_gradients {
    float *dq_THD, *dk_SKD, *dv_SKD, *dsink_H, *dbias_H;
} fur_operator_attention_gradients;
/* o, lse: of forward with the same settings. 10 D flops for each query, head and key seen. */
FUR_API fur_status fur_operator_attention_backward(fur_context *context, const fur_operator_attention *settings,
                                                   const float *q_THD, const float *k_SKD, const float *v_SKD,
                                                   const float *o_THD, const float *lse_TH, const float *do_THD,
                                                   const fur_operator_attention_gradients *out);

typedef struct fur_operator_attention_gradients_f64 {
    double *dq_THD, *dk_SKD, *dv_SKD, *dsink_H, *dbias_H;
} fur_operator_attention_gradients_f64;
FUR_API fur_status fur_operator_attention_forward_f64(fur_context *context, const fur_operator_attention *settings,
                                                      const double *q_THD, const double *k_SKD, const double *v_SKD,
                                                      double *o_THD, double *lse_TH);
FUR_API fur_status fur_operator_attention_backward_f64(fur_context *context, const fur_operator_attention *settings,
                                                       const double *q_THD, const double *k_SKD, const double *v_SKD,
                                                       const double *o_THD, const double *lse_TH, const double *do_THD,
                                                       const fur_operator_attention_gradients_f64 *out);

/* ---- look-up projection ------------------------------------------------------------------------------------------ */

/* A map of MemoryFormer (arXiv 2411.12992) in place of a matrix: x is cut into K = in / bits chunks, whose signs are
 * the number of one of R = 2^bits rows of the chunk's table; y is bias plus the sum of these rows, each times a weight
 * of the chunk's sizes m_i. With P = product of 1 / (1 + e^(-2 m_i / t)):  weight = sum(m) P at temperature 0 (the
 * released score, t = 1), or P at temperature t. No gradient goes through the choice of a row. */
typedef struct fur_operator_lookup {
    size_t struct_size;
    int64_t tokens, in, out, bits; /* T, I, O; bits 1..12, divides in */
    double temperature;            /* 0, or 1e-6 .. 1000 */
    bool two_rows; /* also the row across the nearest change of sign, so that y does not jump there; bits 2 or more
                      at temperature 0 */
    int64_t memory_bytes;
} fur_operator_lookup;
FUR_API void fur_operator_lookup_defaults(fur_operator_lookup *settings);
FUR_API fur_status fur_operator_lookup_bytes(fur_context *context, const fur_operator_lookup *settings, bool backward,
                                             int64_t *out);
/* bias_O: or NULL. 2 K O flops a token (twice that with two rows), whatever `in` and R are; beyond 16 tokens also a
 * copy of the table. FUR_E_NONFINITE: x has a NaN or an infinity; the text names the row. */
FUR_API fur_status fur_operator_lookup_forward(fur_context *context, const fur_operator_lookup *settings,
                                               const float *x_TI, const float *table_KRO, const float *bias_O,
                                               float *y_TO);
/* dx_TI, dtable_KRO, dbias_O: NULL where not wanted. */
FUR_API fur_status fur_operator_lookup_backward(fur_context *context, const fur_operator_lookup *settings,
                                                const float *x_TI, const float *table_KRO, const float *dy_TO,
                                                float *dx_TI, float *dtable_KRO, float *dbias_O);
FUR_API fur_status fur_operator_lookup_forward_f64(fur_context *context, const fur_operator_lookup *settings,
                                                   const double *x_TI, const double *table_KRO, const double *bias_O,
                                                   double *y_TO);
FUR_API fur_status fur_operator_lookup_backward_f64(fur_context *context, const fur_operator_lookup *settings,
                                                    const double *x_TI, const double *table_KRO, const double *dy_TO,
                                                    double *dx_TI, double *dtable_KRO, double *dbias_O);

/* ---- feedforward ------------------------------------------------------------------------------------------------- */

/* y = (x +) down(activation(up(norm(x)))) in tiles of tokens, so that T x F does not exist; backward computes the tile
 * again (arXiv 2305.19370). Maps are y = x w^T + b. With swiglu, g = gate / (1 + e^-gate) * up; with geglu,
 * gelu_tanh(gate) * up; with norm, the inner function is a LayerNorm of F. */
typedef struct fur_operator_feedforward {
    size_t struct_size;
    int64_t tokens, width, hidden; /* T, C, F */
    fur_activation activation;
    bool has_norm; /* of x, before the maps */
    fur_norm_type norm;
    double norm_eps; /* of both norms; 0: 1e-5 */
    bool residual;
    int64_t memory_bytes;
} fur_operator_feedforward;
FUR_API void fur_operator_feedforward_defaults(fur_operator_feedforward *settings);
FUR_API fur_status fur_operator_feedforward_bytes(fur_context *context, const fur_operator_feedforward *settings,
                                                  bool backward, int64_t *out);

/* NULL: not there. With has_norm norm_C, with LayerNorm norm_bias_C too; with swiglu and geglu gate_FC; with activation
 * norm inner_F and inner_bias_F; always up_FC and down_CF. FUR_E_ARGUMENT names one that is missing, or of no use. */
typedef struct fur_operator_feedforward_weights {
    const float *norm_C, *norm_bias_C;
    const float *gate_FC, *gate_bias_F, *up_FC, *up_bias_F;
    const float *inner_F, *inner_bias_F;
    const float *down_CF, *down_bias_C;
} fur_operator_feedforward_weights;
/* NULL: not wanted. Those of weights that are not there must be NULL. */
typedef struct fur_operator_feedforward_gradients {
    float *dx_TC;
    float *norm_C, *norm_bias_C;
    float *gate_FC, *gate_bias_F, *up_FC, *up_bias_F;
    float *inner_F, *inner_bias_F;
    float *down_CF, *down_bias_C;
} fur_operator_feedforward_gradients;
/* 4 C F flops a token, with swiglu 6; backward three times that. */
FUR_API fur_status fur_operator_feedforward_forward(fur_context *context, const fur_operator_feedforward *settings,
                                                    const fur_operator_feedforward_weights *weights, const float *x_TC,
                                                    float *y_TC);
FUR_API fur_status fur_operator_feedforward_backward(fur_context *context, const fur_operator_feedforward *settings,
                                                     const fur_operator_feedforward_weights *weights, const float *x_TC,
                                                     const float *dy_TC, const fur_operator_feedforward_gradients *out);

typedef struct fur_operator_feedforward_weights_f64 {
    const double *norm_C, *norm_bias_C;
    const double *gate_FC, *gate_bias_F, *up_FC, *up_bias_F;
    const double *inner_F, *inner_bias_F;
    const double *down_CF, *down_bias_C;
} fur_operator_feedforward_weights_f64;
typedef struct fur_operator_feedforward_gradients_f64 {
    double *dx_TC;
    double *norm_C, *norm_bias_C;
    double *gate_FC, *gate_bias_F, *up_FC, *up_bias_F;
    double *inner_F, *inner_bias_F;
    double *down_CF, *down_bias_C;
} fur_operator_feedforward_gradients_f64;
FUR_API fur_status fur_operator_feedforward_forward_f64(fur_context *context, const fur_operator_feedforward *settings,
                                                        const fur_operator_feedforward_weights_f64 *weights,
                                                        const double *x_TC, double *y_TC);
FUR_API fur_status fur_operator_feedforward_backward_f64(fur_context *context, const fur_operator_feedforward *settings,
                                                         const fur_operator_feedforward_weights_f64 *weights,
                                                         const double *x_TC, const double *dy_TC,
                                                         const fur_operator_feedforward_gradients_f64 *out);

/* ---- cross-entropy over a vocabulary ----------------------------------------------------------------------------- */

/* loss = mean (or sum) over the counted rows of log sum_v e^(h.w_v) - h.w_target. Logits exist a few rows at a time. */
typedef struct fur_operator_cross_entropy {
    size_t struct_size;
    int64_t tokens, width, vocabulary; /* T, C, V */
    bool sum;                          /* not the mean */
    int64_t memory_bytes;
} fur_operator_cross_entropy;
FUR_API void fur_operator_cross_entropy_defaults(fur_operator_cross_entropy *settings);
FUR_API fur_status fur_operator_cross_entropy_bytes(fur_context *context, const fur_operator_cross_entropy *settings,
                                                    bool gradient, int64_t *out);
/* target_T: a negative one is not counted; without any that is, the loss is 0. nll_T: of each row, NaN where it is not
 * counted; NULL: not wanted. dh_TC: the gradient, in the same pass; dw_VC likewise, with dh_TC alone; NULL: not wanted.
 * 2 C V flops a token; with dh 4, with dw another 2. FUR_E_ARGUMENT: a target of V or more, with its row. */
FUR_API fur_status fur_operator_cross_entropy_run(fur_context *context, const fur_operator_cross_entropy *settings,
                                                  const float *h_TC, const float *w_VC, const int32_t *target_T,
                                                  double *loss, float *nll_T, float *dh_TC, float *dw_VC);
FUR_API fur_status fur_operator_cross_entropy_run_f64(fur_context *context, const fur_operator_cross_entropy *settings,
                                                      const double *h_TC, const double *w_VC, const int32_t *target_T,
                                                      double *loss, double *nll_T, double *dh_TC, double *dw_VC);

#ifdef __cplusplus
}
#endif
#endif
