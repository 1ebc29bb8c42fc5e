/* SPDX-License-Identifier: Apache-2.0 */
/* Keys and values of rows as the kinds hold them, in f32, or in bf16 when products are of that; and in backward their
 * gradients. Where no block's queries see more than so many rows before it, a ring: row t stands at t modulo the
 * capacity, which is whole blocks, so that a block is contiguous. */
#ifndef FUR_ATTENTION_KEYS_H
#define FUR_ATTENTION_KEYS_H

#include "attention/kind.h"

static inline int64_t fur_keys_width(const fur_attention_shape *shape)
{
    return shape->kv_heads * shape->head_dim;
}

/* Offset of a row in the state's arrays. */
static inline int64_t fur_keys_offset(const fur_attention_shape *shape, const fur_attention_state *state, int64_t row)
{
    return row % state->capacity * fur_keys_width(shape);
}

/* Rows from `row` on until the ring's end. */
static inline int64_t fur_keys_until_end(const fur_attention_state *state, int64_t row)
{
    return state->capacity - row % state->capacity;
}

/* The queries of a document within a block of rows: [first, last] positions in it. */
typedef struct fur_document_part {
    int64_t start, length; /* of the document: its first row, its tokens */
    int64_t first, last;
} fur_document_part;

/* Documents that rows [first, first+count) touch: from, to inclusive. */
void fur_documents_touched(const fur_documents *documents, int64_t first, int64_t count, int64_t *from, int64_t *to);
fur_document_part fur_document_part_of(const fur_documents *documents, int64_t document, int64_t first, int64_t count);

/* Members of fur_attention_kind, with the reach of the kind. */
void fur_keys_reserve(const fur_attention_shape *shape, int64_t reach, int64_t rows, int64_t block, int backward,
                      fur_arena *arena, fur_attention_state *out);
void fur_keys_rows(const fur_attention_shape *shape, const fur_attention_state *state, int64_t first, float **k_TKD,
                   float **v_TKD);
fur_status fur_keys_absorb(const fur_exec *exec, const fur_attention_shape *shape, fur_attention_state *state,
                           const fur_documents *documents, int64_t first, int64_t count, float *k_TKD, float *v_TKD);
fur_status fur_keys_exchange(const fur_exec *exec, const fur_attention_shape *shape, fur_attention_state *state,
                             const fur_documents *documents);
void fur_keys_begin_backward(const fur_exec *exec, const fur_attention_shape *shape, fur_attention_state *state,
                             int64_t first, int64_t count);
fur_status fur_keys_gradients(const fur_exec *exec, const fur_attention_shape *shape, fur_attention_state *state,
                              int64_t first, int64_t count, float **dk_TKD, float **dv_TKD);

/* Appends keys [from, to) of the document that starts at row `start`: one span, or two where the ring ends between.
 * Returns their number. */
int64_t fur_keys_spans(const fur_attention_shape *shape, const fur_attention_state *state, int64_t start, int64_t from,
                       int64_t to, fur_key_span *spans);
/* The argument block of op/attention for contiguous rows, but for pieces and arrays. */
fur_attention_args fur_keys_args(const fur_attention_shape *shape);

#endif
