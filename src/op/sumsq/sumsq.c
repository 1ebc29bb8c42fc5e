/* SPDX-License-Identifier: Apache-2.0 */
/* Checks, threads and dispatch of sumsq. */
#include "op/sumsq/sumsq.h"

#include "op/chunk.h"
#include "op/sumsq/sumsq_kernel.h"

/* Few enough for their sums to lie on the stack, many enough for the threads of any machine. */
enum { CHUNKS = 256 };

static const fur_sumsq_kernel *kernel_of(const fur_exec *exec)
{
#if FUR_HAVE_AVX512
    if (exec->isa >= FUR_ISA_AVX512)
        return &fur_sumsq_avx512;
#endif
#if FUR_HAVE_AVX2
    if (exec->isa >= FUR_ISA_AVX2)
        return &fur_sumsq_avx2;
#endif
    (void)exec;
    return &fur_sumsq_ref;
}

fur_status fur_sum_squares(const fur_exec *exec, int64_t count, const float *x, double *out)
{
    if (count < 0)
        return fur_error_set(exec->error, FUR_E_SHAPE, "sum of %lld squares", (long long)count);
    const fur_sumsq_kernel *kernel = kernel_of(exec);
    fur_chunks chunks = fur_chunks_of(count, FUR_GRAIN, CHUNKS);
    double partial[CHUNKS], sum = 0;
#pragma omp parallel for schedule(static) num_threads(exec->threads) if (chunks.count > 1)
    for (int64_t k = 0; k < chunks.count; k++)
        partial[k] = kernel->sum(fur_chunk_items(chunks, k, count), x + k * chunks.size);
    for (int64_t k = 0; k < chunks.count; k++)
        sum += partial[k];
    *out = sum;
    return FUR_OK;
}
