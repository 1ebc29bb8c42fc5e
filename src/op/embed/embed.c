/* SPDX-License-Identifier: Apache-2.0 */
/* Checks, threads and dispatch of embed. */
#include "op/embed/embed.h"

#include <string.h>

#include "op/chunk.h"
#include "op/embed/embed_kernel.h"

/* Columns per thread are a multiple of a cache line. */
enum { LINE = 16 };

static const fur_embed_kernel *kernel_of(const fur_exec *exec)
{
#if FUR_HAVE_AVX512
    if (exec->isa >= FUR_ISA_AVX512)
        return &fur_embed_avx512;
#endif
#if FUR_HAVE_AVX2
    if (exec->isa >= FUR_ISA_AVX2)
        return &fur_embed_avx2;
#endif
    (void)exec;
    return &fur_embed_ref;
}

fur_status fur_embed_check(const fur_exec *exec, int64_t T, int64_t C, int64_t V, const int32_t *ids_T)
{
    if (T < 0 || C < 0 || V < 0)
        return fur_error_set(exec->error, FUR_E_SHAPE, "embedding of %lld tokens, %lld wide, vocabulary %lld",
                             (long long)T, (long long)C, (long long)V);
    for (int64_t t = 0; t < T; t++)
        if (ids_T[t] < 0 || ids_T[t] >= V)
            return fur_error_set(exec->error, FUR_E_ARGUMENT,
                                 "token id %lld at position %lld is outside the vocabulary of %lld",
                                 (long long)ids_T[t], (long long)t, (long long)V);
    return FUR_OK;
}

fur_status fur_embed_forward(const fur_exec *exec, int64_t T, int64_t C, int64_t V, const int32_t *ids_T,
                             const float *w_VC, float *x_TC)
{
    FUR_TRY(fur_embed_check(exec, T, C, V, ids_T));
#pragma omp parallel for schedule(static) num_threads(exec->threads) if (T * C > FUR_GRAIN)
    for (int64_t t = 0; t < T; t++)
        memcpy(x_TC + t * C, w_VC + ids_T[t] * C, (size_t)C * sizeof(float));
    return FUR_OK;
}

fur_status fur_embed_backward(const fur_exec *exec, int64_t T, int64_t C, int64_t V, const int32_t *ids_T,
                              const float *dx_TC, float *dw_VC)
{
    FUR_TRY(fur_embed_check(exec, T, C, V, ids_T));
    const fur_embed_kernel *kernel = kernel_of(exec);
    fur_chunks columns = fur_chunks_of(C, LINE, exec->threads);
    columns.size = fur_round_up(columns.size, LINE);
    columns.count = fur_div_up(C, columns.size);
#pragma omp parallel for schedule(static) num_threads(exec->threads) if (T * C > FUR_GRAIN)
    for (int64_t k = 0; k < columns.count; k++)
        kernel->add_rows(T, C, fur_chunk_items(columns, k, C), ids_T, dx_TC + k * columns.size,
                         dw_VC + k * columns.size);
    return FUR_OK;
}
