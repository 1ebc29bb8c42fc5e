/* SPDX-License-Identifier: Apache-2.0 */
/* Checks and threads of dropout. One variant: integer work beside which matrix products of the same rows take 50 times
 * as long. */
#include "op/dropout/dropout.h"

#include "base/size.h"
#include "op/dropout/dropout_kernel.h"

fur_status fur_dropout(const fur_exec *exec, int64_t T, int64_t C, double rate, uint64_t key, int64_t first_token,
                       float *x_TC)
{
    if (T < 0 || C < 1 || first_token < 0)
        return fur_error_set(exec->error, FUR_E_SHAPE, "dropout of %lld rows of %lld from token %lld on", (long long)T,
                             (long long)C, (long long)first_token);
    if (!(rate >= 0 && rate < 1))
        return fur_error_set(exec->error, FUR_E_ARGUMENT, "dropout rate %g, expected at least 0 and below 1", rate);
    uint32_t below = (uint32_t)(rate * 0x1p32);
    float scale = (float)(1.0 / (1.0 - rate));
#pragma omp parallel for schedule(static) num_threads(exec->threads) if (T > 1)
    for (int64_t t = 0; t < T; t++)
        fur_dropout_ref.row(C, below, scale, key, (uint64_t)(first_token + t), x_TC + t * C);
    return FUR_OK;
}
