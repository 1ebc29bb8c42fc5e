/* SPDX-License-Identifier: Apache-2.0 */
/* What far.c asks of a variant: tasks of one thread, on raw arrays, that cannot fail.
 *
 * Order of features: the constant, then degree by degree, each in lexicographic order of its sorted variables
 * x_a x_b x_c, a <= b <= c. Those of degree l whose first variable is a form a *slice*: x_a times the features of
 * degree l - 1 whose first variable is a or later, which are the last ones of their degree. So a slice is a scaled copy
 * of consecutive features, and needs no table of indices:
 *
 *      degree 2 of x_0 x_1 x_2:   x_0 * (x_0 x_1 x_2) | x_1 * (x_1 x_2) | x_2 * (x_2)
 *
 * As in op/attention the heads of a group are folded into the queries: virtual row v is query v / group under head
 * kv_head * group + v % group. */
#ifndef FUR_OP_FAR_KERNEL_H
#define FUR_OP_FAR_KERNEL_H

#include "base/bf16.h"
#include "base/size.h"
#include "op/far/far.h"

/* Virtual rows, or keys, of a task: as many lanes as the widest panel of any variant. */
#define FUR_FAR_ROWS 32
/* Columns are padded to a multiple of this where features end, so that panels of them may overrun. */
#define FUR_FAR_PADDING 32
/* Features of the highest degree that are formed at a time: whole register tiles of 12 rows and of 32 lanes. */
#define FUR_FAR_BLOCK 192
/* Added to squared norms: a row of zeros has norm 1e-6, and its unit row is 0. */
#define FUR_FAR_SQUARE_EPS 1e-12f

typedef struct fur_far_slice {
    int64_t variable;      /* a */
    int64_t start, length; /* its features */
    int64_t source;        /* first of the features of one degree less that are multiplied by x_a */
} fur_far_slice;

typedef struct fur_far_layout {
    int64_t dim, degree;
    int64_t rows;       /* D + 1, of a state */
    int64_t features;   /* R */
    int64_t lower;      /* features below the highest degree: columns 0 .. lower-1 of a state */
    int64_t top_column; /* of the first of the highest degree; between the two are zeros */
    int64_t stride;     /* floats from row to row of a state */
    int64_t slice_count, top_slice;
    const fur_far_slice *slices; /* ascending by start; from top_slice on of the highest degree */
} fur_far_layout;

/* One call, as its tasks see it. */
typedef struct fur_far_call {
    const fur_far *far;
    fur_far_layout layout;
    int64_t group;
    const fur_far_keys *keys;
    const fur_far_queries *queries;
    const float *state_KER;
    float sign; /* of key_backward */
} fur_far_call;

typedef struct fur_far_kernel {
    int64_t (*scratch_floats)(const fur_far_layout *layout);
    /* x = k~ and y = a [v, 1] of keys first .. first+count-1 under one key head. */
    void (*keys)(const fur_far_call *call, int64_t kv_head, int64_t first, int64_t count, float *x_TD, float *y_TE,
                 float *scratch);
    /* state[e][m] += w[m] sum_t y[t][e] phi_m(x[t]) for the columns [from, to): 0, whole blocks after top_column, or
     * the end. */
    void (*add)(const fur_far_layout *layout, int64_t from, int64_t to, int64_t count, const float *x_TD,
                const float *y_TE, const float *w_R, float *state_ER, float *scratch);
    /* Virtual rows begin .. end-1, at most FUR_FAR_ROWS. lse becomes NaN where Z is not positive. */
    void (*query)(const fur_far_call *call, int64_t kv_head, int64_t begin, int64_t end, float *scratch);
    /* x = q~, y = dU of the rows. */
    void (*queries)(const fur_far_call *call, int64_t kv_head, int64_t begin, int64_t end, float *x_TD, float *y_TE,
                    float *scratch);
    /* dq; and df of the rows. */
    void (*query_backward)(const fur_far_call *call, int64_t kv_head, int64_t begin, int64_t end, float *df_T,
                           float *scratch);
    /* FUR_FAR_MOMENTS of the rows, in [T, H, degree + 1]; the reference has it alone. */
    void (*moments)(const fur_far_call *call, int64_t kv_head, int64_t begin, int64_t end, float *moment_THP,
                    float *scratch);
    void (*key_backward)(const fur_far_call *call, int64_t kv_head, int64_t first, int64_t count, float *scratch);
} fur_far_kernel;

extern const fur_far_kernel fur_far_ref, fur_far_avx2, fur_far_avx512;

static inline int64_t fur_far_column(const fur_far_layout *l, int64_t feature)
{
    return feature < l->lower ? feature : l->top_column + feature - l->lower;
}

/* Offset of a virtual row in [T, H, D]; over D that in [T, H]. */
static inline int64_t fur_far_query_offset(const fur_far_call *call, int64_t kv_head, int64_t v)
{
    int64_t head = kv_head * call->group + v % call->group;
    return (v / call->group * call->far->heads + head) * call->far->head_dim;
}

static inline int64_t fur_far_key_offset(const fur_far_call *call, int64_t kv_head, int64_t t)
{
    return (t * call->far->kv_heads + kv_head) * call->far->head_dim;
}

/* B, or 1 where logits are not bounded; and what a row of queries is multiplied by then. */
static inline float fur_far_factor(const fur_far *far)
{
    return far->bound > 0 ? far->bound : 1.0f;
}

#endif
