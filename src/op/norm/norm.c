/* SPDX-License-Identifier: Apache-2.0 */
/* Checks, threads and dispatch of norm. */
#include "op/norm/norm.h"

#include <string.h>

#include "op/chunk.h"
#include "op/norm/norm_kernel.h"

static const fur_norm_kernel *kernel_of(const fur_exec *exec)
{
#if FUR_HAVE_AVX512
    if (exec->isa >= FUR_ISA_AVX512)
        return &fur_norm_avx512;
#endif
#if FUR_HAVE_AVX2
    if (exec->isa >= FUR_ISA_AVX2)
        return &fur_norm_avx2;
#endif
    (void)exec;
    return &fur_norm_ref;
}

/* Partial sums of dw and db: 32 rows hide the cost of summing the partials, 64 chunks bound their memory. */
enum { LEAST_ROWS = 32, MOST_CHUNKS = 64 };

/* dw, then db, of each chunk */
static int64_t partial_floats(int64_t T, int64_t C)
{
    return fur_chunks_most(T, LEAST_ROWS, MOST_CHUNKS) * 2 * C;
}

static fur_status check(const fur_exec *exec, int64_t T, int64_t C)
{
    if (T < 0 || C < 1)
        return fur_error_set(exec->error, FUR_E_SHAPE, "norm of %lld rows of %lld columns", (long long)T, (long long)C);
    return FUR_OK;
}

fur_status fur_norm_forward(const fur_exec *exec, int rms, int64_t T, int64_t C, float eps, const float *x_TC,
                            const float *w_C, const float *b_C, float *y_TC, float *stat_T2)
{
    FUR_TRY(check(exec, T, C));
    if (!rms && !b_C)
        return fur_error_set(exec->error, FUR_E_SHAPE, "layer norm of %lld columns without a bias", (long long)C);
    const fur_norm_kernel *kernel = kernel_of(exec);
    fur_chunks rows = fur_chunks_of_rows(T, C);
#pragma omp parallel for schedule(static) num_threads(exec->threads) if (rows.count > 1)
    for (int64_t k = 0; k < rows.count; k++) {
        int64_t t = k * rows.size;
        kernel->forward(rms, fur_chunk_items(rows, k, T), C, eps, x_TC + t * C, w_C, b_C, y_TC + t * C,
                        stat_T2 ? stat_T2 + 2 * t : NULL);
    }
    return FUR_OK;
}

int64_t fur_norm_workspace(const fur_exec *exec, int64_t T, int64_t C)
{
    (void)exec;
    return fur_round_up(partial_floats(T, C) * (int64_t)sizeof(float), FUR_ARENA_ALIGN);
}

fur_status fur_norm_backward(const fur_exec *exec, int rms, int64_t T, int64_t C, float eps, const float *x_TC,
                             const float *w_C, const float *stat_T2, const float *dy_TC, float *dx_TC, int add,
                             float *dw_C, float *db_C)
{
    FUR_TRY(check(exec, T, C));
    if (T == 0)
        return FUR_OK;
    const fur_norm_kernel *kernel = kernel_of(exec);
    fur_chunks rows = fur_chunks_of(T, LEAST_ROWS, MOST_CHUNKS);
    int64_t mark = fur_arena_mark(exec->workspace);
    float *partial = fur_arena_push_f32(exec->workspace, partial_floats(T, C));
    if (!partial)
        return fur_error_set(exec->error, FUR_E_MEMORY, "norm backward needs %lld bytes of workspace",
                             (long long)fur_norm_workspace(exec, T, C));
#pragma omp parallel num_threads(exec->threads) if (rows.count > 1)
    {
#pragma omp for schedule(static)
        for (int64_t k = 0; k < rows.count; k++) {
            int64_t t = k * rows.size;
            float *mine = partial + k * 2 * C;
            memset(mine, 0, (size_t)(2 * C) * sizeof(float));
            kernel->backward(rms, fur_chunk_items(rows, k, T), C, eps, x_TC + t * C, w_C,
                             stat_T2 ? stat_T2 + 2 * t : NULL, dy_TC + t * C, dx_TC + t * C, add, mine, mine + C);
        }
        for (int64_t k = 0; dw_C && k < rows.count; k++) {
            const float *part = partial + k * 2 * C;
#pragma omp for simd schedule(static) nowait
            for (int64_t c = 0; c < C; c++)
                dw_C[c] += part[c];
        }
        for (int64_t k = 0; db_C && !rms && k < rows.count; k++) {
            const float *part = partial + (k * 2 + 1) * C;
#pragma omp for simd schedule(static) nowait
            for (int64_t c = 0; c < C; c++)
                db_C[c] += part[c];
        }
    }
    fur_arena_release(exec->workspace, mark);
    return FUR_OK;
}
