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
/* Floats past the last row of y that may be read. */
#define FUR_FAR_SPARE 32
/* Ranges of a state's features begin at multiples of it from the first of the highest degree on. */
#define FUR_FAR_BLOCK 96
/* Added to squared norms: a row of zeros has norm 1e-6, and its unit row is 0. */
#define FUR_FAR_SQUARE_EPS 1e-12f

typedef struct fur_far_slice {
    int64_t variable;      /* a */
    int64_t start, length; /* its features */
    int64_t source;        /* first of the features of one degree less that are multiplied by x_a */
} fur_far_slice;

typedef struct fur_far_layout {
    int64_t dim, value_dim, degree;
    int64_t columns;  /* E = DV + 1, of a state */
    int64_t features; /* R */
    int64_t lower;    /* features below the highest degree */
    int rounded;      /* products with the others have operands of bf16 */
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
    const float *state_KRE;
    const uint32_t *packed; /* the key head's state as `pack` left it */
    float sign;             /* of key_backward */
} fur_far_call;

typedef struct fur_far_kernel {
    int64_t (*scratch_floats)(const fur_far_layout *layout);
    /* Words of a packed state, of one key head, and the packing of features [from, to) of the highest degree; NULL
     * where states are read as they are. */
    int64_t (*packed_words)(const fur_far_layout *layout);
    void (*pack)(const fur_far_layout *layout, fur_far_step_type type, int64_t from, int64_t to, const float *state_RE,
                 uint32_t *packed);
    /* x = k~, as `add` wants it, and y = a [v, 1] of keys first .. first+count-1 under one key head. */
    void (*keys)(const fur_far_call *call, int64_t kv_head, int64_t first, int64_t count, float *x_TD, float *y_TE,
                 float *scratch);
    /* state[m][e] += w[m] sum_t y[t][e] phi_m(x[t]) for the features [from, to): the lower ones and some whole blocks,
     * or from a block to a block or the end. */
    void (*add)(const fur_far_layout *layout, int64_t from, int64_t to, int64_t count, const float *x_TD,
                const float *y_TE, const float *w_R, float *state_RE, float *scratch);
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

extern const fur_far_kernel fur_far_ref, fur_far_avx2, fur_far_avx512, fur_far_avx512bf16;

/* Floats of one key head's state. */
static inline int64_t fur_far_head_floats(const fur_far_layout *l)
{
    return 2 * l->features * l->columns;
}

/* Index of a virtual row in [T, H]. */
static inline int64_t fur_far_query_row(const fur_far_call *call, int64_t kv_head, int64_t v)
{
    int64_t head = kv_head * call->group + v % call->group;
    return v / call->group * call->far->heads + head;
}

/* Index of a key in [T, K]. */
static inline int64_t fur_far_key_row(const fur_far_call *call, int64_t kv_head, int64_t t)
{
    return t * call->far->kv_heads + kv_head;
}

/* B, or 1 where logits are not bounded; and what a row of queries is multiplied by then. */
static inline float fur_far_factor(const fur_far *far)
{
    return far->bound > 0 ? far->bound : 1.0f;
}

#endif
