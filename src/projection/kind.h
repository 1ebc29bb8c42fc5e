/* SPDX-License-Identifier: Apache-2.0 */
/* The second seam: how one token's vector is mapped (q, k, v, o and the feedforward). A kind is a const table; nothing
 * outside src/projection asks which kind a map has. Maps that read the same input share one prepared context. */
#ifndef FUR_PROJECTION_KIND_H
#define FUR_PROJECTION_KIND_H

#include "base/exec.h"

typedef struct fur_projection_kind fur_projection_kind;

/* y[out] = map(x[in]); what `weights` means is the kind's: for dense w[out,in] and bias[out] or NULL. */
typedef struct fur_projection {
    const fur_projection_kind *kind;
    int64_t in, out;
    const float *weight, *bias;
} fur_projection;

/* Where gradients of weights go: added here, complete for the step when the caller says so. */
typedef struct fur_gradient_sink {
    float *weight, *bias; /* like fur_projection's; bias NULL where the map has none */
} fur_gradient_sink;

/* A prepared input: the rows themselves, and what a kind derived from them. */
typedef struct fur_projection_input {
    const float *x_TI;
    int64_t tokens, ldx;
} fur_projection_input;

struct fur_projection_kind {
    const char *name;
    /* Bytes pushed on the workspace by any call with at most `tokens` rows. */
    int64_t (*workspace)(const fur_exec *exec, const fur_projection *map, int64_t tokens);
    /* Floating-point operations of forward for one token; backward takes twice that. */
    double (*flops)(const fur_projection *map);
    /* x stays the caller's and must live as long as the prepared input is used. */
    fur_status (*prepare)(const fur_exec *exec, const fur_projection *map, int64_t tokens, const float *x_TI,
                          int64_t ldx, fur_projection_input *out);
    /* y = map(x), or y += map(x). y has row stride ldy and does not overlap x. */
    fur_status (*forward)(const fur_exec *exec, const fur_projection *map, const fur_projection_input *input, int add,
                          float *y_TO, int64_t ldy);
    /* dx = (add ? dx : 0) + gradient by x (dx may be NULL); weight gradients are added to the sink (NULL: not wanted).
     */
    fur_status (*backward)(const fur_exec *exec, const fur_projection *map, const fur_projection_input *input,
                           const float *dy_TO, int64_t lddy, int add, float *dx_TI, int64_t lddx,
                           const fur_gradient_sink *sink);
};

int fur_projection_kind_count(void);
const fur_projection_kind *fur_projection_kind_at(int index);

extern const fur_projection_kind fur_projection_dense;

#endif
