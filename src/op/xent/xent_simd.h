/* SPDX-License-Identifier: Apache-2.0 */
/* The body of xent's vector variants, over the vocabulary of op/simd. Two passes over a row of a tile, the second from
 * cache. */
#include <math.h>

#include "op/simd/simd_math.h"
#include "op/xent/xent_kernel.h"

/* NaN is passed over: it shows in the sum. */
static inline float greatest_of(int64_t count, const float *x, float start)
{
    V a = vset(start), b = a, c = a, d = a;
    int64_t v = 0;
    for (; v + 4 * VL <= count; v += 4 * VL) {
        a = vmax(vload(x + v), a);
        b = vmax(vload(x + v + VL), b);
        c = vmax(vload(x + v + 2 * VL), c);
        d = vmax(vload(x + v + 3 * VL), d);
    }
    for (; v + VL <= count; v += VL)
        a = vmax(vload(x + v), a);
    if (v < count)
        b = vmax(vjoin_part(vload_part(x + v, count - v), b, count - v), b);
    return vgreatest(vmax(vmax(a, b), vmax(c, d)));
}

static void statistics(int64_t count, const float *logits_V, float *max, float *sum)
{
    float greatest = greatest_of(count, logits_V, *max);
    /* all -infinity: any finite shift gives the sum 0, and lets a NaN through */
    float shift = isinf(greatest) && greatest < 0 ? 0.0f : greatest;
    V s = vset(shift), a = vset(0), b = a, c = a, d = a;
    int64_t v = 0;
    for (; v + 4 * VL <= count; v += 4 * VL) {
        a = vadd(a, vexp(vsub(vload(logits_V + v), s)));
        b = vadd(b, vexp(vsub(vload(logits_V + v + VL), s)));
        c = vadd(c, vexp(vsub(vload(logits_V + v + 2 * VL), s)));
        d = vadd(d, vexp(vsub(vload(logits_V + v + 3 * VL), s)));
    }
    for (; v + VL <= count; v += VL)
        a = vadd(a, vexp(vsub(vload(logits_V + v), s)));
    if (v < count)
        b = vadd(b, vkeep_part(vexp(vsub(vload_part(logits_V + v, count - v), s)), count - v));
    float before = *sum * vgreatest(vexp(vset(*max - shift)));
    *max = greatest;
    *sum = before + vsum(vadd(vadd(a, b), vadd(c, d)));
}

/* weight e^(x - lse) (1 - (x / cap)^2) */
static inline V slope(V x, V lse, V weight, float inverse_cap)
{
    V p = vmul(weight, vexp(vsub(x, lse)));
    if (!(inverse_cap > 0)) /* x may be infinite then */
        return p;
    V t = vmul(x, vset(inverse_cap));
    return vmul(p, vfnma(t, t, vset(1.0f)));
}

static void gradient(int64_t count, float *logits_V, float lse, float weight, float inverse_cap)
{
    V l = vset(lse), w = vset(weight);
    int64_t v = 0;
    for (; v + VL <= count; v += VL)
        vstore(logits_V + v, slope(vload(logits_V + v), l, w, inverse_cap));
    if (v < count)
        vstore_part(logits_V + v, count - v, slope(vload_part(logits_V + v, count - v), l, w, inverse_cap));
}
