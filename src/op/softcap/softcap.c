/* SPDX-License-Identifier: Apache-2.0 */
/* Checks, threads and dispatch of softcap. */
#include "op/softcap/softcap.h"

#include "op/chunk.h"
#include "op/softcap/softcap_kernel.h"

static const fur_softcap_kernel *kernel_of(const fur_exec *exec)
{
#if FUR_HAVE_AVX512
    if (exec->isa >= FUR_ISA_AVX512)
        return &fur_softcap_avx512;
#endif
#if FUR_HAVE_AVX2
    if (exec->isa >= FUR_ISA_AVX2)
        return &fur_softcap_avx2;
#endif
    (void)exec;
    return &fur_softcap_ref;
}

fur_status fur_softcap(const fur_exec *exec, int64_t count, float cap, float *x)
{
    if (count < 0 || !(cap > 0))
        return fur_error_set(exec->error, FUR_E_SHAPE, "softcap of %lld elements at %g", (long long)count, (double)cap);
    const fur_softcap_kernel *kernel = kernel_of(exec);
#pragma omp parallel for schedule(static) num_threads(exec->threads) if (count > FUR_GRAIN)
    for (int64_t i = 0; i < count; i += FUR_GRAIN)
        kernel->softcap(fur_min_i64(FUR_GRAIN, count - i), cap, x + i);
    return FUR_OK;
}
