/* SPDX-License-Identifier: Apache-2.0 */
/* Attention regression: the X and Y of softmax(A1 X A2^T) A3 Y that come closest to a target B (arXiv 2309.07418).
 *
 * A1 [n, d1], A2 [m, d2], A3 [m, d3] and B [n, dv] are rows of sequences that do not see each other; X [d1, d2] stands
 * for Q K^T and Y [d3, dv] for V of a head. Logits are x_i X x_j^T as they stand: no 1/sqrt(d) is applied, it is part
 * of X. With several heads, B = sum over h of softmax(A1 X_h A2^T) A3 Y_h.
 *
 * Losses are relative: the sum of w_j |o_j - b_j|^2 over that of w_j |b_j - mean|^2. 1 predicts the mean. */
#ifndef FURLONG_FIT_H
#define FURLONG_FIT_H

#include <stdbool.h>

#include "furlong/data.h"
#include "furlong/model.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- data -------------------------------------------------------------------------------------------------------- */

typedef struct fur_fit_data fur_fit_data;

/* Reads .npz or .safetensors: `x` (which then is all of A1, A2 and A3) or `a1`, `a2`, `a3`; and `b`; of f16, bf16, f32
 * or f64, [n, d] or [sequences, n, d]. Optional: `lengths` [sequences], rows of each sequence: those of [n, d] are laid
 * end to end, of [sequences, n, d] the first of each count (`key_lengths` where a2 has other rows than a1); `segments`,
 * whole numbers, and `weights`, not negative, one for each row: [n] or [sequences, n]. Rows see those of their own
 * sequence and segment. `q` [d1, r] and `k` [d2, r], or these for each head: a start. Errors: FUR_E_FORMAT,
 * FUR_E_SHAPE, FUR_E_NONFINITE with the array and the first place, FUR_E_IO. */
FUR_API fur_status fur_fit_data_open(fur_context *context, const char *path, fur_fit_data **out);

typedef struct fur_fit_arrays {
    size_t struct_size;
    int64_t sequences;
    const int64_t *query_lengths; /* rows of a1 and b of each sequence */
    const int64_t *key_lengths;   /* rows of a2 and a3; NULL: as query_lengths */
    int64_t a1_width, a2_width, a3_width, b_width;
    const double *a1, *a2, *a3, *b; /* a2 or a3 equal to a1: one array, kept once */
    const double *weights;          /* a row of a1 each; NULL: all 1 */
    double epsilon;                 /* unit round-off of what the numbers were before; 0: f64 */
} fur_fit_arrays;
FUR_API void fur_fit_arrays_defaults(fur_fit_arrays *arrays);
/* Copies them. */
FUR_API fur_status fur_fit_data_create(fur_context *context, const fur_fit_arrays *arrays, fur_fit_data **out);

/* A problem whose answer is known: x with covariance of falling spectrum (i+1)^-spectrum, X and Y drawn at random, B
 * made from them, and noise added. */
typedef struct fur_fit_planted {
    size_t struct_size;
    int64_t sequences, length, width;
    double logit_rms; /* of the planted head */
    double noise;     /* standard deviation, relative to that of B */
    double spectrum;  /* exponent; 0: white */
    bool causal;
    uint64_t seed;
} fur_fit_planted;
FUR_API void fur_fit_planted_defaults(fur_fit_planted *planted);
FUR_API fur_status fur_fit_data_plant(fur_context *context, const fur_fit_planted *planted, fur_fit_data **out);
/* Writes x or a1, a2, a3, b, lengths and weights as fur_fit_data_open reads them. */
FUR_API fur_status fur_fit_data_save(fur_context *context, const fur_fit_data *data, const char *path);
FUR_API void fur_fit_data_close(fur_fit_data *data); /* NULL allowed */

typedef struct fur_fit_info {
    int64_t sequences, queries, keys;
    int64_t a1_width, a2_width, a3_width, b_width;
    int64_t bytes;
    const char *type; /* the narrowest among the arrays, "F32" */
    bool has_start;
} fur_fit_info;
FUR_API fur_fit_info fur_fit_data_info(const fur_fit_data *data);

/* ---- the fit ----------------------------------------------------------------------------------------------------- */

typedef enum fur_fit_method {
    FUR_FIT_GAUSS_NEWTON = 0, /* Levenberg-Marquardt, Y eliminated exactly */
    FUR_FIT_NEWTON,           /* with the second-order term of the Hessian */
    FUR_FIT_SKETCHED_NEWTON,  /* approximate Newton: the Hessian from a sample or sketch of the rows, as in the paper */
    FUR_FIT_LINEAR            /* no softmax: O = (A1 X A2^T, masked) A3 Y, in closed form (arXiv 2410.10101) */
} fur_fit_method;

/* How the curvature is held. */
typedef enum fur_fit_route {
    FUR_FIT_AUTO = 0,
    FUR_FIT_DENSE,      /* the compressed Hessian itself, d1 d2 squared */
    FUR_FIT_STORED,     /* a d2 x dv matrix for each row; conjugate gradients */
    FUR_FIT_MATRIX_FREE /* nothing; conjugate gradients through attention tiles */
} fur_fit_route;

typedef enum fur_fit_sketch { FUR_FIT_UNIFORM = 0, FUR_FIT_LEVERAGE, FUR_FIT_COUNT_SKETCH } fur_fit_sketch;

/* One step of a start. */
typedef struct fur_fit_step {
    int64_t start, step;        /* step 0 is the start itself */
    double loss;                /* relative */
    double gradient;            /* norm, whitened coordinates, of the loss before it; NaN at the last */
    double damping, gain;       /* mu; actual over predicted decrease */
    int64_t products, rejected; /* of this step */
    int64_t evaluations;        /* of the loss, since the fit began */
    double contraction;         /* square root of the ratio of losses: of the error, where the target is met exactly */
    double seconds;             /* since the fit began */
} fur_fit_step;

typedef struct fur_fit_settings {
    size_t struct_size;
    bool causal;
    int64_t heads;
    double held_out;  /* share of the sequences, or of the rows where there are too few */
    double tolerance; /* relative loss at which it is done; negative: the floor of the stored type */
    int64_t max_steps;
    double max_seconds; /* 0: none */
    int64_t starts;     /* random starts at most; the first that reaches the tolerance ends the search */
    double ridge;       /* on 1/2 |X|^2, as a share of the loss of predicting the mean */
    bool continuation;  /* the ridge begins at 0.1 and falls tenfold to what was asked */
    double max_logit;   /* largest logit in size; the ridge is raised until it holds. 0: none */
    int64_t rank;       /* of X; 0: full */
    bool factored;      /* unknowns Q and K of that rank from the beginning: for wide inputs */
    fur_fit_method method;
    fur_fit_route route;
    fur_fit_sketch sketch;
    int64_t curvature_rows; /* rows that the curvature is taken from; 0: all, or for a sketch four times the width */
    bool curvature_f64;     /* else f32: loss and gradient are f64 always */
    int64_t memory_bytes;   /* of the process; 0: no limit */
    int64_t tile_rows, tile_keys; /* 0: chosen */
    double cut;                   /* of singular values of the inputs, relative; 0: by the stored type */
    uint64_t seed;
    void (*on_step)(void *user, const fur_fit_step *step);
    void *user;
} fur_fit_settings;
FUR_API void fur_fit_settings_defaults(fur_fit_settings *settings);

typedef enum fur_fit_end {
    FUR_FIT_TOLERANCE = 0, /* the loss is at the tolerance */
    FUR_FIT_GRADIENT,      /* the gradient is 1e-8 of the first, or nothing is left to gain: a minimum, perhaps local */
    FUR_FIT_STALLED,       /* no step helps */
    FUR_FIT_LIMIT,         /* steps or seconds */
    FUR_FIT_STOPPED        /* fur_context_stop */
} fur_fit_end;
/* "tolerance", "minimum", "stalled", "limit", "stopped"; constant. */
FUR_API const char *fur_fit_end_name(fur_fit_end end);

typedef struct fur_fit_start {
    double loss;
    int64_t steps;
    fur_fit_end end;
    bool given, kept; /* given: from the file */
} fur_fit_start;

enum { FUR_FIT_MAX_STARTS = 32, FUR_FIT_PHASES = 5 };

typedef struct fur_fit_result {
    /* the answer, in the coordinates of the data; owned: fur_fit_result_clear. r = rank */
    int64_t heads, d1, d2, d3, dv, rank;
    double *x, *y; /* [heads][d1][d2], [heads][d3][dv] */
    double *q, *k; /* [heads][d1][rank], [heads][d2][rank]: x = q k^T, or its best approximation in whitened rows */
    /* how it went */
    fur_fit_end end;
    double loss, held_out_loss;                    /* relative; NaN where nothing is held out */
    double loss_before_rank, held_out_before_rank; /* of the full X, where the rank was cut; NaN */
    double held_out_plain;    /* of cutting the plain singular values of X with Y left as it was; NaN */
    double lower_bound;       /* linear attention: the loss of the best sum of any number of heads; else 0 */
    double target_loss;       /* absolute sum that 1 stands for */
    double r2, largest_error; /* over training rows */
    double gradient, first_gradient;
    double logit_max, logit_rms; /* of the fit, over what is seen; keys centred */
    double ridge;                /* as in the settings, after max_logit */
    double tolerance;
    int64_t rows, held_out_rows, sequences, pairs;
    bool held_out_sequences;     /* whole ones; else the last rows */
    int64_t kept1, kept2, kept3; /* directions of A1, A2, A3 that were not cut */
    double cut;
    double condition1, condition2; /* of what was kept */
    int64_t equations, unknowns;
    int64_t steps, products, rejected, evaluations;
    int64_t polish_steps;
    fur_fit_route route;
    double phase_seconds[FUR_FIT_PHASES]; /* whitening, loss, gradient, curvature, solving */
    double seconds;
    double *spectrum; /* singular values of X in whitened rows, falling [heads][rank_full] */
    int64_t spectrum_count;
    double captured; /* share of their squares that the rank keeps */
    fur_fit_start starts[FUR_FIT_MAX_STARTS];
    int64_t start_count;
    double spread;         /* largest loss of a start over the smallest; the losses say whether the minimum is unique */
    bool linear;           /* no softmax */
    bool not_identified;   /* one sequence without a mask: several X fit alike */
    fur_fit_step *history; /* of the start that is kept */
    int64_t history_count;
    int64_t planned_peak_bytes, peak_rss_bytes, input_bytes;
    char mask[24], type[8];
} fur_fit_result;
FUR_API void fur_fit_result_clear(fur_fit_result *result);

/* Fits. The result is whole for every end: FUR_OK says that there is one, `end` how it was reached. Memory is sized
 * before work: FUR_E_DOES_NOT_FIT with the figure where it is above memory_bytes. Cost of a step: about 10 P d
 * multiply-adds for P pairs of row and key in f64, and what the route takes: P d2 dv (stored, dense), 6 P d for each
 * product (matrix-free). Same bits for any number of threads. Errors: FUR_E_SHAPE where the data cannot determine the
 * unknowns, FUR_E_ARGUMENT, FUR_E_NONFINITE. */
FUR_API fur_status fur_fit_run(fur_context *context, const fur_fit_data *data, const fur_fit_settings *settings,
                               fur_fit_result *result);

/* Writes q, k, v in the type of the data (f32 or f64) and x, y in f64, with the scale convention, mask, losses and rank
 * as metadata. */
FUR_API fur_status fur_fit_save(fur_context *context, const fur_fit_result *result, const char *path);

/* ---- heads of models -------------------------------------------------------------------------------------------- */

typedef struct fur_fit_capture_settings {
    size_t struct_size;
    int64_t layer, head;
    int64_t context_tokens; /* of a sequence */
    int64_t sequences;      /* at most; 0: the whole text */
    int64_t memory_bytes;   /* of the process; 0: no limit */
} fur_fit_capture_settings;
FUR_API void fur_fit_capture_defaults(fur_fit_capture_settings *settings);
/* Records what a head of a model reads and gives on rows of a text. Learned positions: a2 is the layer's normed input
 * h, a1 and a3 are h, with a column of ones behind it where the maps have biases (softmax weights sum to one); b is the
 * head's output before the output map. RoPE: a1 and a2 are the head's queries and keys after rotation, a3 as above: X
 * is then a correction between them, 1/sqrt(D) at first. Exact heads without window, ALiBi, softcap, sinks or norms of
 * q and k; others are FUR_E_UNSUPPORTED. Cost: a training step a sequence. */
FUR_API fur_status fur_fit_capture(fur_context *context, fur_model *model, const fur_corpus *corpus,
                                   const fur_fit_capture_settings *settings, fur_fit_data **out);
/* Puts a fitted head back into the maps of the layer, 1/sqrt(D) taken out of it again: columns of q and k beyond the
 * rank become 0. Learned positions, as many key heads as heads, one head of at most the head's width. */
FUR_API fur_status fur_fit_install(fur_context *context, fur_model *model, int64_t layer, int64_t head,
                                   const fur_fit_result *result);

#ifdef __cplusplus
}
#endif
#endif
