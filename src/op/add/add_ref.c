/* SPDX-License-Identifier: Apache-2.0 */
/* The definition of add. */
#include "op/add/add_kernel.h"

static void add(int64_t count, const float *x, float *y)
{
    for (int64_t i = 0; i < count; i++)
        y[i] += x[i];
}

const fur_add_kernel fur_add_ref = {.add = add};
