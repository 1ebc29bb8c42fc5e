/* SPDX-License-Identifier: Apache-2.0 */
/* Checks, threads and dispatch of round. */
#include "op/round/round.h"

#include "op/chunk.h"
#include "op/round/round_kernel.h"

static const fur_round_kernel *kernel_of(const fur_exec *exec)
{
#if FUR_HAVE_AVX512
    if (exec->isa >= FUR_ISA_AVX512)
        return &fur_round_avx512;
#endif
#if FUR_HAVE_AVX2
    if (exec->isa >= FUR_ISA_AVX2)
        return &fur_round_avx2;
#endif
    (void)exec;
    return &fur_round_ref;
}

fur_status fur_round_bf16(const fur_exec *exec, int64_t count, const float *x, uint16_t *y)
{
    if (count < 0)
        return fur_error_set(exec->error, FUR_E_SHAPE, "round of %lld elements", (long long)count);
    const fur_round_kernel *kernel = kernel_of(exec);
#pragma omp parallel for schedule(static) num_threads(exec->threads) if (count > FUR_GRAIN)
    for (int64_t i = 0; i < count; i += FUR_GRAIN)
        kernel->round(fur_min_i64(FUR_GRAIN, count - i), x + i, y + i);
    return FUR_OK;
}
