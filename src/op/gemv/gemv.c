/* SPDX-License-Identifier: Apache-2.0 */
/* Checks, threads and dispatch of gemv. */
#include "op/gemv/gemv.h"

#include "op/chunk.h"
#include "op/gemv/gemv_kernel.h"

/* Bytes of weights for which a thread is worth waking: some microseconds of reading. */
#define THREAD_BYTES ((int64_t)32 << 10)

static const fur_gemv_kernel *kernel_of(const fur_exec *exec)
{
#if FUR_HAVE_AVX512
    if (exec->isa >= FUR_ISA_AVX512)
        return &fur_gemv_avx512;
#endif
#if FUR_HAVE_AVX2
    if (exec->isa >= FUR_ISA_AVX2)
        return &fur_gemv_avx2;
#endif
    (void)exec;
    return &fur_gemv_ref;
}

int64_t fur_gemv_row_bytes(fur_gemv_type type, int64_t in)
{
    fur_gemv_block block = fur_gemv_block_of(type);
    return in / block.elements * block.bytes;
}

static fur_status check(const fur_exec *exec, const fur_gemv_args *a)
{
    bool blocks = a->in % fur_gemv_block_of(a->type).elements == 0;
    if (a->tokens >= 0 && a->tokens <= FUR_GEMV_MOST && a->in >= 0 && a->out >= 0 && blocks && a->ldx >= a->in &&
        a->ldy >= a->out)
        return FUR_OK;
    return fur_error_set(exec->error, FUR_E_SHAPE,
                         "gemv: w[%lld,%lld] of type %d with x[%lld,%lld], rows %lld and %lld apart", (long long)a->out,
                         (long long)a->in, (int)a->type, (long long)a->tokens, (long long)a->in, (long long)a->ldx,
                         (long long)a->ldy);
}

fur_status fur_gemv(const fur_exec *exec, const fur_gemv_args *args)
{
    FUR_TRY(check(exec, args));
    const fur_gemv_kernel *kernel = kernel_of(exec);
    int64_t row_bytes = fur_max_i64(1, fur_gemv_row_bytes(args->type, args->in));
    int64_t least = fur_max_i64(1, THREAD_BYTES / row_bytes);
    fur_chunks part = fur_chunks_of(args->out, least, exec->threads);
#pragma omp parallel for schedule(static) num_threads(exec->threads) if (part.count > 1)
    for (int64_t i = 0; i < part.count; i++)
        kernel->rows[args->type](args, i * part.size, i * part.size + fur_chunk_items(part, i, args->out));
    return FUR_OK;
}

fur_status fur_gemv_decode(const fur_exec *exec, fur_gemv_type type, int64_t in, int64_t out, const void *w_OI,
                           float *to_OI)
{
    if (in < 0 || out < 0 || in % fur_gemv_block_of(type).elements != 0)
        return fur_error_set(exec->error, FUR_E_SHAPE, "gemv: w[%lld,%lld] of type %d to decode", (long long)out,
                             (long long)in, (int)type);
    const fur_gemv_kernel *kernel = kernel_of(exec);
    int64_t row_bytes = fur_gemv_row_bytes(type, in);
    fur_chunks part = fur_chunks_of(out, fur_max_i64(1, THREAD_BYTES / fur_max_i64(1, row_bytes)), exec->threads);
#pragma omp parallel for schedule(static) num_threads(exec->threads) if (part.count > 1)
    for (int64_t i = 0; i < part.count; i++)
        kernel->decode[type]((const unsigned char *)w_OI + i * part.size * row_bytes,
                             fur_chunk_items(part, i, out) * in, to_OI + i * part.size * in);
    return FUR_OK;
}
