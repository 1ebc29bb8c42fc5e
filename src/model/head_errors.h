/* SPDX-License-Identifier: Apache-2.0 */
/* The error of almost-linear layers, measured and their polynomials refitted in the course of a backward sweep
 * (attention/far_sample.h). Exact layers may be measured as if they were almost-linear, for an audit. */
#ifndef FUR_MODEL_HEAD_ERRORS_H
#define FUR_MODEL_HEAD_ERRORS_H

#include "attention/far_sample.h"
#include "furlong/model.h"
#include "model/config.h"

/* Tokens sampled of a row. */
#define FUR_ERROR_ROWS 64

struct fur_layer;

typedef struct fur_head_errors {
    int wanted; /* the row in progress is measured */
    int fits;   /* and fitted to */
    int assume; /* exact layers too, as if they were almost-linear with the constants below */
    uint64_t seed;
    fur_far_sample sample;
    fur_attention_shape shape; /* of the layer in progress, where it is measured */
    int64_t layer;             /* that; -1: none */
    int assumed;
    fur_head_error *result_LH; /* of the last row that was measured; layer -1: not of this layer */
    float *constants;          /* of each layer, as fitted then; head_errors.c */
} fur_head_errors;

/* Whether a run of `rows` sampled tokens measures anything of such a model. */
bool fur_head_errors_apply(const fur_model_config *config, int64_t rows);
void fur_head_errors_reserve(const fur_model_config *config, int64_t rows, int64_t block, fur_arena *arena,
                             fur_head_errors *out);

/* Whether the last measured row gave this head a polynomial. */
bool fur_head_errors_fitted(const struct fur_run *run, int64_t layer, int64_t kv_head);
/* Nothing is fitted or measured. */
void fur_head_errors_clear(struct fur_run *run);

/* What was fitted becomes the constants of another model of the same heads, where it has any. */
void fur_head_errors_install(const struct fur_run *run, struct fur_model *to);

/* ---- from the backward sweep; nothing where the row is not measured -------------------------------------------- */
/* The layer's queries then leave behind what the certificate needs. */
void fur_head_errors_begin(struct fur_run *run, struct fur_layer *layer);
void fur_head_errors_keys(struct fur_run *run, const struct fur_layer *layer, int64_t first, int64_t count);
void fur_head_errors_queries(struct fur_run *run, int64_t first, int64_t count, const float *q_BQ, const float *o_BQ,
                             const float *lse_BH, const float *do_BQ, const float *dq_BQ);
void fur_head_errors_gradients(struct fur_run *run, const struct fur_layer *layer, int64_t first, int64_t count,
                               const float *dk_BK, const float *dv_BK);
void fur_head_errors_end(struct fur_run *run);

#endif
