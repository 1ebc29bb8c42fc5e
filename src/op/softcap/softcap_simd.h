/* SPDX-License-Identifier: Apache-2.0 */
/* The body of softcap's vector variants, over the vocabulary of op/simd. */
#include "op/simd/simd_math.h"
#include "op/softcap/softcap_kernel.h"

static void softcap(int64_t count, float cap, float *x)
{
    V c = vset(cap);
    int64_t i = 0;
    for (; i + VL <= count; i += VL)
        vstore(x + i, vmul(c, vtanh(vdiv(vload(x + i), c))));
    if (i < count)
        vstore_part(x + i, count - i, vmul(c, vtanh(vdiv(vload_part(x + i, count - i), c))));
}
