/* SPDX-License-Identifier: Apache-2.0 */
/* Checks, threads and dispatch of bias. */
#include "op/bias/bias.h"

#include "op/bias/bias_kernel.h"
#include "op/chunk.h"

static const fur_bias_kernel *kernel_of(const fur_exec *exec)
{
#if FUR_HAVE_AVX512
    if (exec->isa >= FUR_ISA_AVX512)
        return &fur_bias_avx512;
#endif
#if FUR_HAVE_AVX2
    if (exec->isa >= FUR_ISA_AVX2)
        return &fur_bias_avx2;
#endif
    (void)exec;
    return &fur_bias_ref;
}

/* As many as hide the cost of summing the partials, and bound their memory. */
enum { LEAST_ROWS = 64, MOST_CHUNKS = 64 };

static int64_t partial_floats(int64_t T, int64_t F)
{
    return fur_chunks_most(T, LEAST_ROWS, MOST_CHUNKS) * F;
}

static fur_status check(const fur_exec *exec, int64_t T, int64_t F)
{
    if (T < 0 || F < 1)
        return fur_error_set(exec->error, FUR_E_SHAPE, "bias over %lld rows of %lld columns", (long long)T,
                             (long long)F);
    return FUR_OK;
}

fur_status fur_bias_add(const fur_exec *exec, int64_t T, int64_t F, const float *b_F, float *y_TF)
{
    FUR_TRY(check(exec, T, F));
    const fur_bias_kernel *kernel = kernel_of(exec);
    fur_chunks rows = fur_chunks_of_rows(T, F);
#pragma omp parallel for schedule(static) num_threads(exec->threads) if (rows.count > 1)
    for (int64_t k = 0; k < rows.count; k++)
        kernel->add(fur_chunk_items(rows, k, T), F, b_F, y_TF + k * rows.size * F);
    return FUR_OK;
}

int64_t fur_bias_workspace(const fur_exec *exec, int64_t T, int64_t F)
{
    (void)exec;
    return fur_round_up(partial_floats(T, F) * (int64_t)sizeof(float), FUR_ARENA_ALIGN);
}

fur_status fur_bias_backward(const fur_exec *exec, int64_t T, int64_t F, const float *dy_TF, float *db_F)
{
    FUR_TRY(check(exec, T, F));
    if (T == 0)
        return FUR_OK;
    const fur_bias_kernel *kernel = kernel_of(exec);
    fur_chunks rows = fur_chunks_of(T, LEAST_ROWS, MOST_CHUNKS);
    int64_t mark = fur_arena_mark(exec->workspace);
    float *partial = fur_arena_push_f32(exec->workspace, partial_floats(T, F));
    if (!partial)
        return fur_error_set(exec->error, FUR_E_MEMORY, "bias backward needs %lld bytes of workspace",
                             (long long)fur_bias_workspace(exec, T, F));
#pragma omp parallel num_threads(exec->threads) if (rows.count > 1)
    {
#pragma omp for schedule(static)
        for (int64_t k = 0; k < rows.count; k++)
            kernel->sum_rows(fur_chunk_items(rows, k, T), F, dy_TF + k * rows.size * F, partial + k * F);
        for (int64_t k = 0; k < rows.count; k++) {
            const float *part = partial + k * F;
#pragma omp for simd schedule(static) nowait
            for (int64_t f = 0; f < F; f++)
                db_F[f] += part[f];
        }
    }
    fur_arena_release(exec->workspace, mark);
    return FUR_OK;
}
