/* SPDX-License-Identifier: Apache-2.0 */
/* The body of embed's vector variants, over the vocabulary of op/simd. */
#include "op/embed/embed_kernel.h"

static void add_rows(int64_t T, int64_t C, int64_t columns, const int32_t *ids_T, const float *dx, float *dw)
{
    for (int64_t t = 0; t < T; t++, dx += C) {
        float *row = dw + ids_T[t] * C;
        int64_t c = 0;
        for (; c + VL <= columns; c += VL)
            vstore(row + c, vadd(vload(row + c), vload(dx + c)));
        if (c < columns)
            vstore_part(row + c, columns - c, vadd(vload_part(row + c, columns - c), vload_part(dx + c, columns - c)));
    }
}
