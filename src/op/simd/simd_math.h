/* SPDX-License-Identifier: Apache-2.0 */
/* Functions over the vector vocabulary; include simd_<isa>.h first. */
#ifndef FUR_OP_SIMD_MATH_H
#define FUR_OP_SIMD_MATH_H

#include "base/compiler.h"

/* e^x. x = n ln 2 + r with |r| <= ln 2 / 2; ln 2 in two parts, the first of 9 bits, so that n times it is exact; then
 * the series to r^7 / 7!, whose remainder is below 0.1 u there. Relative error at most 2 u (u = 2^-24) where the result
 * is a normal number; below that it underflows gradually, from 88.7228 on it is infinite; e^-infinity = 0; NaN stays
 * NaN. */
static inline V vexp(V x)
{
    x = vmax(vset(-104.0f), vmin(vset(89.0f), x));
    V n = vround(vmul(x, vset(1.44269504f)));
    V r = vfnma(n, vset(0.693359375f), x);
    r = vfnma(n, vset(-2.12194440e-4f), r);
    V p = vset(1.0f / 5040);
    p = vfma(p, r, vset(1.0f / 720));
    p = vfma(p, r, vset(1.0f / 120));
    p = vfma(p, r, vset(1.0f / 24));
    p = vfma(p, r, vset(1.0f / 6));
    p = vfma(p, r, vset(0.5f));
    p = vfma(p, r, vset(1.0f));
    p = vfma(p, r, vset(1.0f));
    return vscale(p, n);
}

/* 1 / (1 + e^-x): exactly 0 below -88.73, exactly 1 above 17.4; NaN stays NaN. */
static inline V vsigmoid(V x)
{
    V one = vset(1.0f);
    return vdiv(one, vadd(one, vexp(vsub(vset(0.0f), x))));
}

/* tanh from e^(2 x) - 1, whose relative error is below 4 u: 2 x = n ln 2 + r, e^r - 1 by its series to r^8 / 8!, then
 * 2^n (e^r - 1) + (2^n - 1). Relative error below 10 u; NaN stays NaN. */
FUR_ALWAYS_INLINE V vtanh(V x)
{
    V y = vmax(vset(-40.0f), vmin(vset(40.0f), vadd(x, x)));
    V n = vround(vmul(y, vset(1.44269504f)));
    V r = vfnma(n, vset(0.693359375f), y);
    r = vfnma(n, vset(-2.12194440e-4f), r);
    V p = vset(1.0f / 40320);
    p = vfma(p, r, vset(1.0f / 5040));
    p = vfma(p, r, vset(1.0f / 720));
    p = vfma(p, r, vset(1.0f / 120));
    p = vfma(p, r, vset(1.0f / 24));
    p = vfma(p, r, vset(1.0f / 6));
    p = vfma(p, r, vset(0.5f));
    p = vfma(vmul(p, r), r, r);
    V power = vscale(vset(1.0f), n);
    V e = vfma(p, power, vsub(power, vset(1.0f)));
    return vdiv(e, vadd(e, vset(2.0f)));
}

#endif
