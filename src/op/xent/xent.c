/* SPDX-License-Identifier: Apache-2.0 */
/* Checks, threads and dispatch of xent, and what concerns the target alone. */
#include "op/xent/xent.h"

#include <string.h>

#include "op/xent/xent_kernel.h"

static const fur_xent_kernel *kernel_of(const fur_exec *exec)
{
#if FUR_HAVE_AVX512
    if (exec->isa >= FUR_ISA_AVX512)
        return &fur_xent_avx512;
#endif
#if FUR_HAVE_AVX2
    if (exec->isa >= FUR_ISA_AVX2)
        return &fur_xent_avx2;
#endif
    (void)exec;
    return &fur_xent_ref;
}

static fur_status check(const fur_exec *exec, int64_t T, int64_t V, int64_t ld)
{
    if (T < 0 || V < 0 || ld < V)
        return fur_error_set(exec->error, FUR_E_SHAPE, "cross-entropy of %lld rows of %lld logits, %lld apart",
                             (long long)T, (long long)V, (long long)ld);
    return FUR_OK;
}

static int in_tile(int64_t target, int64_t first_v, int64_t V)
{
    return target >= first_v && target < first_v + V;
}

fur_status fur_xent_statistics(const fur_exec *exec, int64_t T, int64_t V, const float *logits_TV, int64_t ld,
                               float *max_T, float *sum_T, int64_t first_v, const int32_t *target_T,
                               float *target_logit_T)
{
    FUR_TRY(check(exec, T, V, ld));
    const fur_xent_kernel *kernel = kernel_of(exec);
#pragma omp parallel for schedule(static) num_threads(exec->threads) if (T > 1)
    for (int64_t t = 0; t < T; t++) {
        if (target_T && target_T[t] < 0)
            continue;
        kernel->statistics(V, logits_TV + t * ld, max_T + t, sum_T + t);
        if (target_T && in_tile(target_T[t], first_v, V))
            target_logit_T[t] = logits_TV[t * ld + target_T[t] - first_v];
    }
    return FUR_OK;
}

fur_status fur_xent_gradient(const fur_exec *exec, int64_t T, int64_t V, float *logits_TV, int64_t ld,
                             const float *lse_T, int64_t first_v, const int32_t *target_T, float weight, float cap)
{
    FUR_TRY(check(exec, T, V, ld));
    const fur_xent_kernel *kernel = kernel_of(exec);
    float inverse_cap = cap > 0 ? 1 / cap : 0;
#pragma omp parallel for schedule(static) num_threads(exec->threads) if (T > 1)
    for (int64_t t = 0; t < T; t++) {
        float *row = logits_TV + t * ld;
        if (target_T[t] < 0) {
            memset(row, 0, (size_t)V * sizeof *row);
            continue;
        }
        /* p - 1 must be rounded before the weight comes in: the target's share anew, from its logit */
        int64_t at = in_tile(target_T[t], first_v, V) ? target_T[t] - first_v : -1;
        float target = 0;
        if (at >= 0) {
            float ratio = cap > 0 ? row[at] * inverse_cap : 0, slope = 1.0f - ratio * ratio;
            target = row[at];
            kernel->gradient(1, &target, lse_T[t], 1.0f, 0);
            target = weight * (target - 1.0f) * slope;
        }
        kernel->gradient(V, row, lse_T[t], weight, inverse_cap);
        if (at >= 0)
            row[at] = target;
    }
    return FUR_OK;
}
