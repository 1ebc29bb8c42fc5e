/* SPDX-License-Identifier: Apache-2.0 */
/* Checks, factors, threads and dispatch of adamw. */
#include "op/adamw/adamw.h"

#include <math.h>

#include "op/adamw/adamw_kernel.h"
#include "op/chunk.h"

static const fur_adamw_kernel *kernel_of(const fur_exec *exec)
{
#if FUR_HAVE_AVX512
    if (exec->isa >= FUR_ISA_AVX512)
        return &fur_adamw_avx512;
#endif
#if FUR_HAVE_AVX2
    if (exec->isa >= FUR_ISA_AVX2)
        return &fur_adamw_avx2;
#endif
    (void)exec;
    return &fur_adamw_ref;
}

static fur_status check(const fur_exec *exec, int64_t count, const fur_adamw_args *args)
{
    if (count < 0)
        return fur_error_set(exec->error, FUR_E_SHAPE, "AdamW over %lld elements", (long long)count);
    if (!(args->beta1 >= 0 && args->beta1 < 1 && args->beta2 >= 0 && args->beta2 < 1))
        return fur_error_set(exec->error, FUR_E_ARGUMENT, "AdamW with beta1 %g, beta2 %g: expected [0, 1)", args->beta1,
                             args->beta2);
    if (!(args->lr >= 0 && args->eps >= 0 && args->weight_decay >= 0 && args->step >= 1))
        return fur_error_set(exec->error, FUR_E_ARGUMENT,
                             "AdamW with lr %g, eps %g, weight decay %g, step %lld: expected 0 or more, step from 1",
                             args->lr, args->eps, args->weight_decay, (long long)args->step);
    return FUR_OK;
}

fur_status fur_adamw_step(const fur_exec *exec, int64_t count, float *w, const float *g, float *m, float *v,
                          const fur_adamw_args *args)
{
    FUR_TRY(check(exec, count, args));
    const fur_adamw_kernel *kernel = kernel_of(exec);
    double step = (double)args->step;
    fur_adamw_factors f = {
        .grad_scale = args->grad_scale,
        .keep = (float)(1.0 - args->lr * args->weight_decay),
        .one_m = (float)(1.0 - args->beta1),
        .beta2 = (float)args->beta2,
        .one_v = (float)(1.0 - args->beta2),
        .step = (float)(args->lr / (1.0 - pow(args->beta1, step))),
        .correct = (float)(1.0 / sqrt(1.0 - pow(args->beta2, step))),
        .eps = (float)args->eps,
    };
#pragma omp parallel for schedule(static) num_threads(exec->threads) if (count > FUR_GRAIN)
    for (int64_t i = 0; i < count; i += FUR_GRAIN)
        kernel->step(fur_min_i64(FUR_GRAIN, count - i), w + i, g + i, m + i, v + i, &f);
    return FUR_OK;
}
