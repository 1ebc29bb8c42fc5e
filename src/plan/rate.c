/* SPDX-License-Identifier: Apache-2.0 */
#include "plan/rate.h"

#include "base/clock.h"
#include "op/matmul/matmul.h"

double fur_rate_gain(const fur_exec *exec)
{
    if (exec->compute == FUR_COMPUTE_F32 || exec->isa < FUR_ISA_AVX512BF16)
        return 1;
    return exec->isa == FUR_ISA_AMX ? 6 : 2;
}

double fur_rate_nominal(const fur_context *context)
{
    fur_isa isa = context->exec.isa;
    return (isa >= FUR_ISA_AVX512 ? 150.0
            : isa >= FUR_ISA_AVX2 ? 60.0
                                  : 2.0) *
           (double)context->exec.threads * fur_rate_gain(&context->exec);
}

/* The best of a few products of a size that layers use; the reference gets one small one. */
fur_status fur_rate_measure(fur_context *context, double *out_gflops)
{
    if (context->gflops > 0) {
        *out_gflops = context->gflops;
        return FUR_OK;
    }
    int slow = context->exec.isa == FUR_ISA_REF;
    int64_t size = slow ? 128 : 512;
    fur_arena arena;
    FUR_TRY(
        fur_arena_create(&context->error, 3 * size * size * 4 + fur_matmul_workspace(&context->exec) + 4096, &arena));
    float *a = fur_arena_push_f32(&arena, size * size), *b = fur_arena_push_f32(&arena, size * size);
    float *c = fur_arena_push_f32(&arena, size * size);
    for (int64_t i = 0; i < size * size; i++)
        a[i] = b[i] = (float)(i % 7) - 3.0f;
    fur_exec exec = context->exec;
    exec.workspace = &arena;
    fur_matmul_args product = {.m = size,
                               .n = size,
                               .k = size,
                               .a = a,
                               .lda = size,
                               .b = b,
                               .ldb = size,
                               .b_transposed = 1,
                               .c = c,
                               .ldc = size};
    double best = 0, start = fur_clock_seconds();
    fur_status status = FUR_OK;
    for (int i = 0; i < 64 && status == FUR_OK && (i < 3 || fur_clock_seconds() - start < 0.1); i++) {
        double before = fur_clock_seconds();
        status = fur_matmul(&exec, &product);
        double seconds = fur_clock_seconds() - before;
        double rate = 2.0 * (double)(size * size * size) / (seconds > 0 ? seconds : 1e-9) * 1e-9;
        best = rate > best ? rate : best;
    }
    fur_arena_destroy(&arena);
    FUR_TRY(status);
    *out_gflops = context->gflops = best;
    return FUR_OK;
}
