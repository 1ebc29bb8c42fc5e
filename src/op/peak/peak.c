/* SPDX-License-Identifier: Apache-2.0 */
#include "op/peak/peak.h"

#include <math.h>

#include "base/clock.h"
#include "op/peak/peak_kernel.h"

static const fur_peak_kernel *const kernels[FUR_ISA_COUNT] = {
    [FUR_ISA_REF] = &fur_peak_ref,
#if FUR_HAVE_AVX2
    [FUR_ISA_AVX2] = &fur_peak_avx2,
#endif
#if FUR_HAVE_AVX512
    [FUR_ISA_AVX512] = &fur_peak_avx512,
#endif
#if FUR_HAVE_AVX512BF16
    [FUR_ISA_AVX512BF16] = &fur_peak_avx512bf16,
#endif
#if FUR_HAVE_AMX
    [FUR_ISA_AMX] = &fur_peak_amx,
#endif
};

static const fur_peak_kernel *choose(fur_isa isa)
{
    const fur_peak_kernel *kernel = &fur_peak_ref;
    for (int i = 0; i <= (int)isa; i++)
        kernel = kernels[i] ? kernels[i] : kernel;
    return kernel;
}

/* Seconds that all threads together take for `rounds` each. */
static double slice(const fur_exec *exec, const fur_peak_kernel *kernel, int64_t rounds, float *alive)
{
    double start = fur_clock_seconds();
    float sum = 0;
#pragma omp parallel for num_threads(exec->threads) schedule(static) reduction(+ : sum)
    for (int thread = 0; thread < exec->threads; thread++)
        sum += kernel->run(rounds);
    *alive += sum;
    return fur_clock_seconds() - start;
}

static fur_status measure(const fur_exec *exec, fur_isa isa, double *out_gflops)
{
    const fur_peak_kernel *kernel = choose(isa);
    float alive = 0;
    int64_t rounds = 1000;
    slice(exec, kernel, rounds, &alive); /* the first one starts the threads */
    while (slice(exec, kernel, rounds, &alive) < 2e-3 && rounds < (int64_t)1 << 40)
        rounds *= 2;
    double best = slice(exec, kernel, rounds, &alive);
    for (int i = 1; i < 20; i++)
        best = fmin(best, slice(exec, kernel, rounds, &alive));
    *out_gflops = (double)exec->threads * (double)rounds * kernel->flops_per_round / best * 1e-9;
    return isfinite(alive) ? FUR_OK : fur_error_set(exec->error, FUR_E_INTERNAL, "peak: the loop diverged");
}

fur_status fur_peak_f32(const fur_exec *exec, double *out_gflops)
{
    return measure(exec, exec->isa < FUR_ISA_AVX512 ? exec->isa : FUR_ISA_AVX512, out_gflops);
}

fur_status fur_peak_bf16(const fur_exec *exec, double *out_gflops)
{
    return measure(exec, exec->isa, out_gflops);
}
