/* SPDX-License-Identifier: Apache-2.0 */
/* The body of sumsq's vector variants, over the vocabulary of op/simd. */
#include "op/sumsq/sumsq_kernel.h"

static double sum(int64_t count, const float *x)
{
    VD a = vdzero(), b = a, c = a, d = a;
    int64_t i = 0;
    for (; i + 2 * VL <= count; i += 2 * VL) {
        V p = vload(x + i), q = vload(x + i + VL);
        a = vdfma(vdlow(p), vdlow(p), a);
        b = vdfma(vdhigh(p), vdhigh(p), b);
        c = vdfma(vdlow(q), vdlow(q), c);
        d = vdfma(vdhigh(q), vdhigh(q), d);
    }
    while (i < count) {
        int64_t n = count - i < VL ? count - i : VL;
        V p = vload_part(x + i, n);
        a = vdfma(vdlow(p), vdlow(p), a);
        b = vdfma(vdhigh(p), vdhigh(p), b);
        i += n;
    }
    return vdsum(vdadd(vdadd(a, b), vdadd(c, d)));
}
