/* SPDX-License-Identifier: Apache-2.0 */
/* The definition of round. */
#include "base/bf16.h"
#include "op/round/round_kernel.h"

static void round_all(int64_t count, const float *x, uint16_t *y)
{
    for (int64_t i = 0; i < count; i++)
        y[i] = fur_bf16_of(x[i]);
}

const fur_round_kernel fur_round_ref = {.round = round_all};
