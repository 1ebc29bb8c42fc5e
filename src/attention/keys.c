/* SPDX-License-Identifier: Apache-2.0 */
#include "attention/keys.h"

#include <string.h>

#include "base/size.h"
#include "op/round/round.h"

/* Index of the document that holds `row`. */
static int64_t document_of(const fur_documents *documents, int64_t row)
{
    int64_t low = 0, high = documents->count - 1;
    while (low < high) {
        int64_t middle = low + (high - low + 1) / 2;
        if (documents->offsets[middle] <= row)
            low = middle;
        else
            high = middle - 1;
    }
    return low;
}

void fur_documents_touched(const fur_documents *documents, int64_t first, int64_t count, int64_t *from, int64_t *to)
{
    *from = document_of(documents, first);
    *to = document_of(documents, first + count - 1);
}

fur_document_part fur_document_part_of(const fur_documents *documents, int64_t document, int64_t first, int64_t count)
{
    int64_t start = documents->offsets[document], end = documents->offsets[document + 1];
    return (fur_document_part){.start = start,
                               .length = end - start,
                               .first = fur_max_i64(start, first) - start,
                               .last = fur_min_i64(end, first + count) - 1 - start};
}

/* Rows held: a block of queries and the whole blocks before it that it may see, at most the row. */
static int64_t capacity_for(int64_t reach, int64_t rows, int64_t block)
{
    if (reach >= rows || block >= rows)
        return rows;
    return fur_min_i64(rows, (fur_div_up(reach, block) + 1) * block);
}

void fur_keys_reserve(const fur_attention_shape *shape, int64_t reach, int64_t rows, int64_t block, int backward,
                      fur_arena *arena, fur_attention_state *out)
{
    memset(out, 0, sizeof *out);
    out->capacity = shape->keys_elsewhere ? rows : capacity_for(reach, rows, block);
    int64_t count = out->capacity * fur_keys_width(shape);
    if (shape->compute == FUR_COMPUTE_BF16) {
        out->k_bf16_SKD = fur_arena_push(arena, count * (int64_t)sizeof(uint16_t));
        out->v_bf16_SKD = fur_arena_push(arena, count * (int64_t)sizeof(uint16_t));
    } else if (!shape->keys_elsewhere) {
        out->k_SKD = fur_arena_push_f32(arena, count);
        out->v_SKD = fur_arena_push_f32(arena, count);
    }
    if (backward && !shape->keys_elsewhere) {
        out->dk_SKD = fur_arena_push_f32(arena, count);
        out->dv_SKD = fur_arena_push_f32(arena, count);
    }
}

void fur_keys_rows(const fur_attention_shape *shape, const fur_attention_state *state, int64_t first, float **k_TKD,
                   float **v_TKD)
{
    int64_t at = fur_keys_offset(shape, state, first);
    if (state->k_SKD) {
        *k_TKD = state->k_SKD + at;
        *v_TKD = state->v_SKD + at;
    } else if (state->dk_SKD) { /* their gradients are not gathered yet: f32 rows on their way to bf16 */
        *k_TKD = state->dk_SKD + at;
        *v_TKD = state->dv_SKD + at;
    }
}

fur_status fur_keys_absorb(const fur_exec *exec, const fur_attention_shape *shape, fur_attention_state *state,
                           const fur_documents *documents, int64_t first, int64_t count, float *k_TKD, float *v_TKD)
{
    (void)documents;
    if (state->k_SKD) /* fur_keys_rows already pointed into the state */
        return FUR_OK;
    int64_t at = fur_keys_offset(shape, state, first), elements = count * fur_keys_width(shape);
    FUR_TRY(fur_round_bf16(exec, elements, k_TKD, state->k_bf16_SKD + at));
    return fur_round_bf16(exec, elements, v_TKD, state->v_bf16_SKD + at);
}

fur_status fur_keys_exchange(const fur_exec *exec, const fur_attention_shape *shape, fur_attention_state *state,
                             const fur_documents *documents)
{
    (void)state, (void)documents;
    if (!shape->comm)
        return FUR_OK;
    return fur_error_set(exec->error, FUR_E_UNSUPPORTED, "exact attention over %d processes is not in this version",
                         shape->comm->ranks);
}

void fur_keys_begin_backward(const fur_exec *exec, const fur_attention_shape *shape, fur_attention_state *state,
                             int64_t first, int64_t count)
{
    int64_t at = fur_keys_offset(shape, state, first);
    size_t bytes = (size_t)(count * fur_keys_width(shape)) * sizeof(float);
    (void)exec;
    memset(state->dk_SKD + at, 0, bytes);
    memset(state->dv_SKD + at, 0, bytes);
}

fur_status fur_keys_gradients(const fur_exec *exec, const fur_attention_shape *shape, fur_attention_state *state,
                              int64_t first, int64_t count, float **dk_TKD, float **dv_TKD)
{
    (void)exec, (void)count;
    *dk_TKD = state->dk_SKD + fur_keys_offset(shape, state, first);
    *dv_TKD = state->dv_SKD + fur_keys_offset(shape, state, first);
    return FUR_OK;
}

/* Keys [from, to), contiguous in the state. */
static fur_key_span span_of(const fur_attention_shape *shape, const fur_attention_state *state, int64_t start,
                            int64_t from, int64_t to)
{
    int64_t at = fur_keys_offset(shape, state, start + from);
    return (fur_key_span){.k_SKD = state->k_SKD ? state->k_SKD + at : NULL,
                          .v_SKD = state->v_SKD ? state->v_SKD + at : NULL,
                          .k_bf16_SKD = state->k_bf16_SKD ? state->k_bf16_SKD + at : NULL,
                          .v_bf16_SKD = state->v_bf16_SKD ? state->v_bf16_SKD + at : NULL,
                          .dk_SKD = state->dk_SKD ? state->dk_SKD + at : NULL,
                          .dv_SKD = state->dv_SKD ? state->dv_SKD + at : NULL,
                          .first_position = from,
                          .count = to - from};
}

int64_t fur_keys_spans(const fur_attention_shape *shape, const fur_attention_state *state, int64_t start, int64_t from,
                       int64_t to, fur_key_span *spans)
{
    int64_t count = 0, end = from + fur_keys_until_end(state, start + from);
    if (end < to) {
        spans[count++] = span_of(shape, state, start, from, end);
        from = end;
    }
    spans[count++] = span_of(shape, state, start, from, to);
    return count;
}

fur_attention_args fur_keys_args(const fur_attention_shape *shape)
{
    int64_t width = shape->heads * shape->head_dim;
    return (fur_attention_args){.heads = shape->heads,
                                .kv_heads = shape->kv_heads,
                                .first_head = shape->first_head,
                                .all_heads = shape->all_heads,
                                .head_dim = shape->head_dim,
                                .scale = shape->scale,
                                .causal = shape->causal,
                                .features = shape->features,
                                .ldq = width,
                                .ldk = fur_keys_width(shape),
                                .ldo = width,
                                .ldlse = shape->heads,
                                .lddo = width,
                                .lddq = width,
                                .lddk = fur_keys_width(shape),
                                .dsink_H = shape->dsink_H};
}
