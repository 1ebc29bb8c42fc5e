/* SPDX-License-Identifier: Apache-2.0 */
/* What forward and backward of a layer share. */
#ifndef FUR_MODEL_LAYER_H
#define FUR_MODEL_LAYER_H

#include "model/config.h"
#include "model/run.h"

/* A layer in progress: where its weights are, and its kind's state. */
typedef struct fur_layer {
    int64_t index;
    const fur_layer_offsets *at;
    const fur_attention_kind *kind;
    fur_attention_shape shape;
    fur_attention_state state;
    int64_t groups; /* its heads come in so many, and the state is laid out for each (head_groups.h); 0: in one */
} fur_layer;

/* Lays the kind's state out, unless heads come in groups. */
fur_layer fur_layer_begin(fur_run *run, int64_t index, int backward);

/* Gradients of a layer's tables begin: none of their rows has one. Nothing where those of all layers are kept. */
void fur_run_begin_tables(fur_run *run, const fur_layer_offsets *at);
/* h = norm1(x), then k and v of rows first.. into the kind's state. h_BC stays valid. Where heads come in groups, k and
 * v go to where the groups find them, and so does q, which would have to be computed from h otherwise. */
fur_status fur_layer_absorb(fur_run *run, fur_layer *layer, const fur_scratch *s, int64_t first, int64_t count,
                            const float *x_TC);
/* q from h_BC (rotated), then o and lse of rows first.. unless they are known (o_TQ NULL) */
fur_status fur_layer_query(fur_run *run, const fur_layer *layer, const fur_scratch *s, int64_t first, int64_t count,
                           float *o_TQ, float *lse_TH);
/* Undoes the rotation, for gradients by q and k. */
fur_status fur_layer_rotate_back(const fur_run *run, const fur_scratch *s, int64_t count, int64_t heads, float *x);
/* dx, gradient by normed heads of q or k rows, becomes that by the map's output, computed anew from h_BC into do_BQ;
 * the norm's weight at offset w gathers its own. w < 0: nothing. */
fur_status fur_layer_norm_back(fur_run *run, int64_t w, const fur_map_offsets *map, const fur_scratch *s, int64_t count,
                               int64_t heads, float *dx);
/* out = x + dropout(norm(map(in))) of rows first.. ; out may be x, and then, with dropout or a norm only, spare is
 * written. The norm is the place's, where the model has such. */
fur_status fur_layer_add_map(fur_run *run, const fur_layer *layer, const fur_map_offsets *map, fur_drop_place place,
                             int64_t first, int64_t count, const float *in, const float *x_BC, float *spare_BC,
                             float *out_BC);
/* That of attention, wherever it is computed, so that forward, segments computed again and backward have the same bits:
 * mid = x + dropout(o map(o)). */
static inline fur_status fur_layer_middle(fur_run *run, const fur_layer *layer, int64_t first, int64_t count,
                                          const float *o_BQ, const float *x_BC, float *spare_BC, float *mid_BC)
{
    return fur_layer_add_map(run, layer, &layer->at->o, FUR_DROP_ATTENTION, first, count, o_BQ, x_BC, spare_BC, mid_BC);
}
/* Whether what its maps add to the residual stream is normed. */
bool fur_layer_has_post_norm(const fur_layer *layer);
/* Back through that norm: dy, the gradient by what is added, becomes that by the map's output, which is computed anew
 * from `in`. Nothing where there is none. */
fur_status fur_layer_post_norm_back(fur_run *run, const fur_layer *layer, const fur_map_offsets *map,
                                    fur_drop_place place, const fur_scratch *s, int64_t count, const float *in,
                                    float *dy_BC);
/* g = activation(u) for a token tile. */
fur_status fur_layer_activate(const fur_run *run, const fur_layer *layer, int64_t tokens, const float *u_TU,
                              float *g_TF);

/* y (+)= map(x), contiguous rows. */
fur_status fur_map_forward(const fur_run *run, const fur_map_offsets *map, int64_t tokens, const float *x_TI, int add,
                           float *y_TO);
/* Maps of one kind and one input, which is prepared once. */
fur_status fur_maps_forward(const fur_run *run, int count, const fur_map_offsets *const *maps, int64_t tokens,
                            const float *x_TI, int add, float *const *y_TO);
/* Weight gradients added; dx (+)= ... unless NULL. */
fur_status fur_map_backward(fur_run *run, const fur_map_offsets *map, int64_t tokens, const float *x_TI,
                            const float *dy_TO, int add, float *dx_TI);
/* Maps of one kind and one input, which is prepared once; dx is the sum. */
fur_status fur_maps_backward(fur_run *run, int count, const fur_map_offsets *const *maps, int64_t tokens,
                             const float *x_TI, const float *const *dy_TO, int add, float *dx_TI);

/* Whether backward finds attention outputs and row statistics ready. */
static inline int fur_layer_attention_is_kept(const fur_run *run)
{
    return run->memory.o.layers > 0;
}
/* The stores that have attention outputs and row statistics of a layer, as layer `*at` of theirs. */
void fur_layer_attention_stores(fur_run *run, const fur_layer *layer, fur_store **o, fur_store **lse, int64_t *at);
/* Where attention of rows first.. is written: the store, where it is kept, or scratch. */
fur_status fur_layer_attention_place(fur_run *run, const fur_layer *layer, const fur_scratch *s, int64_t first,
                                     int64_t count, float **o_TQ, float **lse_TH);
/* They are written, for backward. Nothing where they are not kept. */
fur_status fur_layer_attention_written(fur_run *run, const fur_layer *layer, const fur_scratch *s, int64_t first,
                                       int64_t count);
/* What was kept of rows first.., or left by the groups; in the store, or scratch. The block at `next` (-1: none) will
 * be asked for next. lse_TH NULL: not wanted. */
fur_status fur_layer_attention_get(fur_run *run, const fur_layer *layer, const fur_scratch *s, int64_t first,
                                   int64_t count, int64_t next, const float **o_TQ, const float **lse_TH);
/* Kept or scratch place of inner values of rows first.. */
float *fur_layer_u(const fur_run *run, const fur_layer *layer, const fur_scratch *s, int64_t first);

/* First row of the superblock after the one that starts at `first`; superblocks are counted from row 0. */
static inline int64_t fur_superblock_rows(const fur_run *run, int64_t first)
{
    int64_t rows = run->shape.superblock;
    return run->tokens - first < rows ? run->tokens - first : rows;
}

#endif
