/* SPDX-License-Identifier: Apache-2.0 */
/* The second seam: how one token's vector is mapped (q, k, v, o and the feedforward). A kind is a const table; nothing
 * outside src/projection asks which kind a map has. Maps that read the same input share one prepared context. */
#ifndef FUR_PROJECTION_KIND_H
#define FUR_PROJECTION_KIND_H

#include "base/exec.h"
#include "op/lookup/lookup.h"

typedef struct fur_projection_kind fur_projection_kind;

/* What a lookup map is besides its widths; of no meaning to dense ones. */
typedef struct fur_lookup_options {
    int64_t bits;
    fur_lookup_score score;
    float temperature;
    int two_rows;
} fur_lookup_options;

/* In place of weights of a kind with rows of their own: whole rows of any type, for decoding. Such maps have no
 * backward. */
typedef struct fur_projection_rows {
    const void *table; /* NULL: `weight` holds them, as training wants them */
    fur_lookup_type type;
    const float *scale_R; /* int8: of each row */
} fur_projection_rows;

/* Rows of weights as their file has them, bf16 or in blocks that share a scale: decoded as they are used. */
typedef struct fur_coded_rows {
    const unsigned char *rows;
    int64_t count, row_bytes;
    int gemv; /* the fur_gemv_type that these bytes are */
    int type; /* for decode, which makes f32 of whole rows */
    void (*decode)(int type, const void *from, int64_t elements, float *to);
} fur_coded_rows;
enum { FUR_MAP_PARTS = 2 }; /* most tensors that a map is made of: the gate's and the up rows */

/* Two thin matrices beside a map's weights: outputs first .. first+count-1 gain scale * B (A x) (arXiv 2106.09685). */
typedef struct fur_adapter {
    const float *a_RI, *b_OR; /* [rank, in], [count, rank] */
    int64_t first, count;
} fur_adapter;
enum { FUR_MAP_ADAPTERS = 2 }; /* most of one map: those of the gate's and of the up rows */

/* Of kind `lora`: the kind that is wrapped, and what is added to it. */
typedef struct fur_adapters {
    const fur_projection_kind *base;
    int64_t rank;
    float scale; /* alpha / rank */
    int count;
    fur_adapter list[FUR_MAP_ADAPTERS];
} fur_adapters;

/* y[out] = map(x[in]); what `weight` means is the kind's: for dense w[out,in], for lookup tables
 * (op/lookup/lookup.h) in tiles, unless they are in `rows`; bias[out] or NULL. */
typedef struct fur_projection {
    const fur_projection_kind *kind;
    int64_t in, out;
    const float *weight, *bias;
    fur_lookup_options lookup;
    fur_projection_rows rows;
    int coded_parts; /* above 0: of dense maps, weights in coded, one below the other, in place of `weight`; no gradient
                      */
    fur_coded_rows coded[FUR_MAP_PARTS];
    fur_adapters adapters;
} fur_projection;

/* Where gradients of weights go: added here, complete for the step when the caller says so. Of a row whose byte of
 * touched_R is 0 the gradient is not there yet: it is stored, and the byte becomes 1. */
typedef struct fur_gradient_sink {
    float *weight, *bias; /* like fur_projection's; bias NULL where the map has none; both NULL where it is frozen */
    float *a_RI[FUR_MAP_ADAPTERS], *b_OR[FUR_MAP_ADAPTERS]; /* of its adapters */
    uint8_t *touched_R;                                     /* NULL where the kind has no rows of its own */
    float *square_R; /* of them: room for sums of squares, from the gradient's norm to the update; */
    float *even_O;   /* and for factors of columns, in whole tiles */
} fur_gradient_sink;

/* A prepared input: the rows themselves, and what a kind derived from them, on the workspace of that time. */
typedef struct fur_projection_input {
    const float *x_TI;
    int64_t tokens, ldx;
    fur_lookup_codes codes;
} fur_projection_input;

/* What an optimizer keeps of weights whose rows it updates one by one. Either bf16 m like the weights, with v and the
 * last step of each row; or f32 m and v like the weights. The other pair is NULL. */
typedef struct fur_row_moments {
    uint16_t *m_bf16;
    float *v_R;
    uint32_t *step_R;
    float *m, *v;
} fur_row_moments;

struct fur_projection_kind {
    const char *name;
    /* Elements of `weight`; and rows that are updated one by one, 0: all together with the model's other parameters. */
    int64_t (*weight_elements)(const fur_projection *map);
    int64_t (*weight_rows)(const fur_projection *map);
    /* Bytes pushed on the workspace by prepare and any call after it with at most `tokens` rows. */
    int64_t (*workspace)(const fur_exec *exec, const fur_projection *map, int64_t tokens, int backward);
    /* Floating-point operations of forward for one token; backward takes twice that. */
    double (*flops)(const fur_projection *map);
    double slowness;     /* seconds of one of them, in those of a dense product */
    int64_t token_block; /* tokens of a call from which on more of them gain nothing */
    /* x stays the caller's and must live as long as the prepared input is used; maps of the same kind, input width and
     * options share one. The caller releases the workspace when done. */
    fur_status (*prepare)(const fur_exec *exec, const fur_projection *map, int64_t tokens, const float *x_TI,
                          int64_t ldx, fur_projection_input *out);
    /* y = map(x), or y += map(x). y has row stride ldy and does not overlap x. */
    fur_status (*forward)(const fur_exec *exec, const fur_projection *map, const fur_projection_input *input, int add,
                          float *y_TO, int64_t ldy);
    /* The same of up to FUR_GEMV_MOST tokens of a run that generates: weights are read once, at memory's rate, and sums
     * are in another order. NULL: forward does. */
    fur_status (*forward_few)(const fur_exec *exec, const fur_projection *map, const fur_projection_input *input,
                              int add, float *y_TO, int64_t ldy);
    /* dx = (add ? dx : 0) + gradient by x (dx may be NULL); weight gradients are added to the sink (NULL: not wanted).
     */
    fur_status (*backward)(const fur_exec *exec, const fur_projection *map, const fur_projection_input *input,
                           const float *dy_TO, int64_t lddy, int add, float *dx_TI, int64_t lddx,
                           const fur_gradient_sink *sink);
    /* Where weights have rows of their own, else NULL, the next four. Before forward of a step reads rows: what those
     * of the prepared tokens (NULL: all rows) missed of the steps before. */
    fur_status (*catch_up)(const fur_exec *exec, const fur_projection *map, const fur_projection_input *input,
                           const fur_lookup_update *args, float *weight, const fur_row_moments *moments);
    /* The squared norm of a gradient that is complete; the update of
     * the weights by it; and how often prepared tokens use each row, added to count_R. */
    fur_status (*sum_squares)(const fur_exec *exec, const fur_projection *map, const fur_gradient_sink *gradient,
                              double *out);
    fur_status (*update)(const fur_exec *exec, const fur_projection *map, const fur_gradient_sink *gradient,
                         const fur_lookup_update *args, float *weight, const fur_row_moments *moments);
    fur_status (*count_use)(const fur_exec *exec, const fur_projection *map, const fur_projection_input *input,
                            uint32_t *count_R);
};

/* Outputs first .. first+count-1 of a map of dense weights without bias or adapters, as one of its own. */
fur_projection fur_projection_outputs(const fur_projection *map, int64_t first, int64_t count);
/* Forward of a run that generates: forward_few where there is one for so many tokens. */
fur_status fur_projection_generate(const fur_exec *exec, const fur_projection *map, const fur_projection_input *input,
                                   int add, float *y_TO, int64_t ldy);

int fur_projection_kind_count(void);
const fur_projection_kind *fur_projection_kind_at(int index);

/* Indices of kinds; what their maps need beside weights depends on it in config, parameters and files, and nowhere
 * else. */
#define FUR_PROJECTION_DENSE  0
#define FUR_PROJECTION_LOOKUP 1

extern const fur_projection_kind fur_projection_dense, fur_projection_lookup;
/* Wraps another kind (fur_adapters), whose own weights are frozen; so no config names it. */
extern const fur_projection_kind fur_projection_lora;

#endif
