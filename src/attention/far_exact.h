/* SPDX-License-Identifier: Apache-2.0 */
/* Far keys of the key heads that far.exact_K names, one by one through op/attention: the same logits as the far field's
 * with the exponential itself. Their unit rows are kept for the whole row of tokens beside the keys; without a bound
 * the keys are those. One call of the operator for each run of such heads, and in backward for each chunk. */
#ifndef FUR_ATTENTION_FAR_EXACT_H
#define FUR_ATTENTION_FAR_EXACT_H

#include "attention/kind.h"

static inline int fur_far_exact_any(const fur_attention_shape *shape)
{
    for (int64_t h = 0; shape->far.exact_K && h < shape->kv_heads; h++)
        if (shape->far.exact_K[h] > 0)
            return 1;
    return 0;
}

void fur_far_exact_reserve(const fur_attention_shape *shape, int64_t rows, int backward, fur_arena *arena,
                           fur_attention_state *out);
int64_t fur_far_exact_workspace(const fur_exec *exec, const fur_attention_shape *shape, int64_t rows, int64_t documents,
                                int backward);
/* After keys were absorbed: their unit rows. */
void fur_far_exact_absorb(const fur_exec *exec, const fur_attention_shape *shape, fur_attention_state *state,
                          int64_t first, int64_t count);
/* o and lse of these heads, of near keys on entry, become those of both fields. */
fur_status fur_far_exact_query(const fur_exec *exec, const fur_attention_shape *shape, const fur_attention_state *state,
                               const fur_documents *documents, int64_t first, int64_t count, const float *q_THD,
                               float *o_THD, float *lse_TH);
/* Adds to dq, dv, the gradient by unit keys, and shape->dbias_H. */
fur_status fur_far_exact_query_backward(const fur_exec *exec, const fur_attention_shape *shape,
                                        const fur_attention_state *state, const fur_documents *documents, int64_t first,
                                        int64_t count, const float *q_THD, const float *o_THD, const float *lse_TH,
                                        const float *do_THD, float *dq_THD);
void fur_far_exact_begin_backward(const fur_attention_shape *shape, fur_attention_state *state, int64_t first,
                                  int64_t count);
/* dk += the gradient by unit keys, through the norm; once, when it is complete. */
void fur_far_exact_key_gradients(const fur_exec *exec, const fur_attention_shape *shape, fur_attention_state *state,
                                 int64_t first, int64_t count);

#endif
