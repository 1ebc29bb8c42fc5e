/* SPDX-License-Identifier: Apache-2.0 */
/* A whole model, forward and backward, as the formulas stand on paper: every T x T score, one loop per sum, nothing in
 * blocks. Written from the contracts alone: of the library it uses only the list of parameters by name, so that an
 * error there cannot hide here. tests/unit/oracle.c checks it against finite differences.
 *
 * The same text is compiled for double, which is the truth, and for float, which is "the plain formula in f32": what a
 * careful person would write, sums in index order. The library must be at most a stated factor worse than that. A third
 * time it is float with each operand of each product rounded to bf16: "the plain formula in bf16". And a fourth time
 * double with those of attention alone rounded so, as a kernel of that type has them. */
#ifndef FUR_TESTS_KIT_ORACLE_H
#define FUR_TESTS_KIT_ORACLE_H

#include "furlong/model.h"
#include "kit/kit.h"

typedef enum oracle_precision { ORACLE_DOUBLE, ORACLE_FLOAT, ORACLE_BF16, ORACLE_BF16_ATTENTION } oracle_precision;

/* Rows of one parameter that a map or a norm uses. index -1: absent. */
typedef struct oracle_slice {
    int64_t index, row;
} oracle_slice;

typedef struct oracle_layer {
    oracle_slice q_norm, k_norm, sinks, far_query_mean, far_key_mean, far_coefficients, far_bias;
    oracle_slice norm1_w, norm1_b, q_w, q_b, k_w, k_b, v_w, v_b, o_w, o_b;
    oracle_slice norm2_w, norm2_b, gate_w, gate_b, up_w, up_b, down_w, down_b;
    oracle_slice inner_w, inner_b;                   /* the norm in place of an activation */
    oracle_slice post1_w, post1_b, post2_w, post2_b; /* of what attention and feedforward add */
} oracle_layer;

typedef struct oracle {
    fur_model_config config;
    int64_t parameters;
    fur_parameter_info *info; /* [parameters]; names are the model's */
    double **value;           /* [parameters]: copies of the weights, free to change */
    oracle_slice embedding, positions, input_w, input_b, final_w, final_b, head;
    oracle_layer *layers;
    int exact_far;                     /* far keys of almost-linear layers by e^t, not by its polynomial */
    int training;                      /* with dropout; */
    uint64_t random_seed, random_step; /* its draws */
} oracle;

/* Copies the weights; the model must outlive the oracle. */
oracle *oracle_create(const fur_model *model);
void oracle_destroy(oracle *o);

/* A loss over the hidden state after the final norm, for rows that use no built-in one. Returns the loss; dh may be
 * NULL. */
typedef double (*oracle_loss_fn)(void *user, int64_t tokens, int64_t width, const double *h_TC, double *dh_TC);

/* All arrays belong to the output. Gradients are those of weight * loss. */
typedef struct oracle_output {
    int64_t parameters, tokens, outputs, input_width;
    double loss;
    double *y_TO;       /* logits or regression outputs */
    double *y_terms_TO; /* sum of the absolute terms of each */
    double *nll_T;      /* NaN where not counted */
    double **gradient;  /* [parameters], as the library lays them out */
    double **terms;     /* [parameters]: sum over tokens of the absolute terms of each element */
    double *dx_TI;      /* [T, features], or [T, width] for tokens */
} oracle_output;

/* backward 0: loss and outputs only. */
void oracle_run(const oracle *o, oracle_precision precision, const fur_row *row, oracle_loss_fn loss, void *user,
                double weight, int backward, oracle_output *out);
void oracle_output_clear(oracle_output *out);

#endif
