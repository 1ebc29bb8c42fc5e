/* SPDX-License-Identifier: Apache-2.0 */
/* The body of add's vector variants, over the vocabulary of op/simd. */
#include "op/add/add_kernel.h"

static void add(int64_t count, const float *x, float *y)
{
    int64_t i = 0;
    for (; i + VL <= count; i += VL)
        vstore(y + i, vadd(vload(y + i), vload(x + i)));
    if (i < count)
        vstore_part(y + i, count - i, vadd(vload_part(y + i, count - i), vload_part(x + i, count - i)));
}
