/* SPDX-License-Identifier: Apache-2.0 */
#include "attention/far_ranks.h"

#include <string.h>

fur_status fur_far_scan(const fur_exec *exec, const fur_attention_shape *shape, int direction, const float *own,
                        float *passed, float *carry, int64_t floats)
{
    const fur_comm *comm = shape->comm;
    int from = comm->rank - direction, to = comm->rank + direction;
    int64_t K = shape->kv_heads, count = floats / K, bytes = count * (int64_t)sizeof *carry;
    if (!shape->causal || shape->near || shape->features.sink_tokens || shape->fine.degree || shape->hold_all)
        return fur_error_set(
            exec->error, FUR_E_UNSUPPORTED,
            "almost-linear rows over %d processes: expected causal layers without a window, sink tokens, "
            "finer gradients and --max-error",
            comm->ranks);
    memset(carry, 0, (size_t)floats * sizeof *carry);
    for (int64_t h = 0; h < K; h++) { /* the next rank works on one head while this one waits for the following */
        float *mine = carry + h * count;
        if (from >= 0 && from < comm->ranks)
            FUR_TRY(comm->receive(comm->user, exec->error, from, mine, bytes));
        for (int64_t i = 0; i < count; i++)
            passed[i] = mine[i] + own[h * count + i];
        if (to >= 0 && to < comm->ranks)
            FUR_TRY(comm->send(comm->user, exec->error, to, passed, bytes));
    }
    return FUR_OK;
}
