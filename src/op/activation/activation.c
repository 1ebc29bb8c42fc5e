/* SPDX-License-Identifier: Apache-2.0 */
/* Checks, threads and dispatch of activation. */
#include "op/activation/activation.h"

#include "op/activation/activation_kernel.h"
#include "op/chunk.h"

static const fur_activation_kernel *kernel_of(const fur_exec *exec)
{
#if FUR_HAVE_AVX512
    if (exec->isa >= FUR_ISA_AVX512)
        return &fur_activation_avx512;
#endif
#if FUR_HAVE_AVX2
    if (exec->isa >= FUR_ISA_AVX2)
        return &fur_activation_avx2;
#endif
    (void)exec;
    return &fur_activation_ref;
}

static fur_status check_count(const fur_exec *exec, int64_t count)
{
    if (count < 0)
        return fur_error_set(exec->error, FUR_E_SHAPE, "gelu of %lld elements", (long long)count);
    return FUR_OK;
}

fur_status fur_gelu_forward(const fur_exec *exec, int64_t count, const float *u, float *g)
{
    FUR_TRY(check_count(exec, count));
    const fur_activation_kernel *kernel = kernel_of(exec);
#pragma omp parallel for schedule(static) num_threads(exec->threads) if (count > FUR_GRAIN)
    for (int64_t i = 0; i < count; i += FUR_GRAIN)
        kernel->gelu_forward(fur_min_i64(FUR_GRAIN, count - i), u + i, g + i);
    return FUR_OK;
}

fur_status fur_gelu_backward(const fur_exec *exec, int64_t count, const float *u, const float *dg, float *du,
                             float *g_out)
{
    FUR_TRY(check_count(exec, count));
    const fur_activation_kernel *kernel = kernel_of(exec);
#pragma omp parallel for schedule(static) num_threads(exec->threads) if (count > FUR_GRAIN)
    for (int64_t i = 0; i < count; i += FUR_GRAIN)
        kernel->gelu_backward(fur_min_i64(FUR_GRAIN, count - i), u + i, dg + i, du + i, g_out ? g_out + i : NULL);
    return FUR_OK;
}

static fur_status check_rows(const fur_exec *exec, int64_t T, int64_t F, int64_t ld, int64_t ldd)
{
    if (T < 0 || F < 0 || ld < F || ldd < F)
        return fur_error_set(exec->error, FUR_E_SHAPE,
                             "gated function of %lld rows of %lld columns, %lld and %lld apart", (long long)T,
                             (long long)F, (long long)ld, (long long)ldd);
    return FUR_OK;
}

static fur_status gated_forward(const fur_exec *exec, fur_gated_forward *row, int64_t T, int64_t F,
                                const float *gate_TF, const float *up_TF, int64_t ld, float *g_TF)
{
    FUR_TRY(check_rows(exec, T, F, ld, F));
#pragma omp parallel for schedule(static) num_threads(exec->threads) if (T > 1)
    for (int64_t t = 0; t < T; t++)
        row(F, gate_TF + t * ld, up_TF + t * ld, g_TF + t * F);
    return FUR_OK;
}

static fur_status gated_backward(const fur_exec *exec, fur_gated_backward *row, int64_t T, int64_t F,
                                 const float *gate_TF, const float *up_TF, int64_t ld, const float *dg_TF,
                                 float *dgate_TF, float *dup_TF, int64_t ldd, float *g_out)
{
    FUR_TRY(check_rows(exec, T, F, ld, ldd));
#pragma omp parallel for schedule(static) num_threads(exec->threads) if (T > 1)
    for (int64_t t = 0; t < T; t++)
        row(F, gate_TF + t * ld, up_TF + t * ld, dg_TF + t * F, dgate_TF + t * ldd, dup_TF + t * ldd,
            g_out ? g_out + t * F : NULL);
    return FUR_OK;
}

fur_status fur_swiglu_forward(const fur_exec *exec, int64_t T, int64_t F, const float *gate_TF, const float *up_TF,
                              int64_t ld, float *g_TF)
{
    return gated_forward(exec, kernel_of(exec)->swiglu_forward, T, F, gate_TF, up_TF, ld, g_TF);
}

fur_status fur_geglu_forward(const fur_exec *exec, int64_t T, int64_t F, const float *gate_TF, const float *up_TF,
                             int64_t ld, float *g_TF)
{
    return gated_forward(exec, kernel_of(exec)->geglu_forward, T, F, gate_TF, up_TF, ld, g_TF);
}

fur_status fur_swiglu_backward(const fur_exec *exec, int64_t T, int64_t F, const float *gate_TF, const float *up_TF,
                               int64_t ld, const float *dg_TF, float *dgate_TF, float *dup_TF, int64_t ldd,
                               float *g_out)
{
    return gated_backward(exec, kernel_of(exec)->swiglu_backward, T, F, gate_TF, up_TF, ld, dg_TF, dgate_TF, dup_TF,
                          ldd, g_out);
}

fur_status fur_geglu_backward(const fur_exec *exec, int64_t T, int64_t F, const float *gate_TF, const float *up_TF,
                              int64_t ld, const float *dg_TF, float *dgate_TF, float *dup_TF, int64_t ldd, float *g_out)
{
    return gated_backward(exec, kernel_of(exec)->geglu_backward, T, F, gate_TF, up_TF, ld, dg_TF, dgate_TF, dup_TF, ldd,
                          g_out);
}
