/* SPDX-License-Identifier: Apache-2.0 */
/* The body of round's vector variants, over the vocabularies of op/simd. */
#include "base/bf16.h"
#include "op/round/round_kernel.h"

static void round_all(int64_t count, const float *x, uint16_t *y)
{
    int64_t i = 0;
    for (; i + VL <= count; i += VL)
        wstore_row(y + i, vload(x + i));
    for (; i < count; i++)
        y[i] = fur_bf16_of(x[i]);
}
