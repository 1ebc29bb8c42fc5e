/* SPDX-License-Identifier: Apache-2.0 */
/* The body of rope's vector variants, over the vocabulary of op/simd. */
#include "op/rope/rope_kernel.h"

static void turn(int64_t heads, int64_t half, const float *cos_sin, float *x_HD)
{
    for (int64_t h = 0; h < heads; h++, x_HD += 2 * half) {
        float *y = x_HD + half;
        int64_t i = 0;
        for (; i + VL <= half; i += VL) {
            V c = vload(cos_sin + i), s = vload(cos_sin + half + i), a = vload(x_HD + i), b = vload(y + i);
            vstore(x_HD + i, vfnma(b, s, vmul(a, c)));
            vstore(y + i, vfma(a, s, vmul(b, c)));
        }
        if (i < half) {
            int64_t n = half - i;
            V c = vload_part(cos_sin + i, n), s = vload_part(cos_sin + half + i, n);
            V a = vload_part(x_HD + i, n), b = vload_part(y + i, n);
            vstore_part(x_HD + i, n, vfnma(b, s, vmul(a, c)));
            vstore_part(y + i, n, vfma(a, s, vmul(b, c)));
        }
    }
}
