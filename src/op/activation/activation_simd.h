/* SPDX-License-Identifier: Apache-2.0 */
/* The body of the activations' vector variants, over the vocabulary of op/simd. All inputs of an element are loaded
 * before any output is stored, so that arrays may be the same. */
#include <stddef.h>

#include "op/activation/activation_kernel.h"
#include "op/simd/simd_math.h"

#define TWO_C 1.59576912f /* 2 sqrt(2 / pi) */
#define CUBIC 0.044715f

/* s(z) is exactly 0 or 1 from |u| = 10.2 on: clamping u in z changes nothing, and keeps u^2 finite. */
static inline V gelu_clamp(V u)
{
    return vmax(vset(-16.0f), vmin(vset(16.0f), u));
}

static inline V gelu_s(V u)
{
    V a = gelu_clamp(u);
    return vsigmoid(vmul(a, vfma(vmul(a, a), vset(TWO_C * CUBIC), vset(TWO_C))));
}

static inline V gelu_slope(V u, V s, V g)
{
    V a = gelu_clamp(u), dz = vfma(vmul(a, a), vset(3.0f * TWO_C * CUBIC), vset(TWO_C));
    return vfma(vmul(g, vsub(vset(1.0f), s)), dz, s);
}

static void gelu_forward(int64_t count, const float *u, float *g)
{
    int64_t i = 0;
    for (; i + VL <= count; i += VL) {
        V x = vload(u + i);
        vstore(g + i, vmul(x, gelu_s(x)));
    }
    if (i < count) {
        V x = vload_part(u + i, count - i);
        vstore_part(g + i, count - i, vmul(x, gelu_s(x)));
    }
}

static void gelu_backward(int64_t count, const float *u, const float *dg, float *du, float *g_out)
{
    int64_t i = 0;
    for (; i + VL <= count; i += VL) {
        V x = vload(u + i), s = gelu_s(x), g = vmul(x, s);
        vstore(du + i, vmul(vload(dg + i), gelu_slope(x, s, g)));
        if (g_out)
            vstore(g_out + i, g);
    }
    if (i < count) {
        int64_t n = count - i;
        V x = vload_part(u + i, n), s = gelu_s(x), g = vmul(x, s);
        vstore_part(du + i, n, vmul(vload_part(dg + i, n), gelu_slope(x, s, g)));
        if (g_out)
            vstore_part(g_out + i, n, g);
    }
}

static void swiglu_forward(int64_t count, const float *gate, const float *up, float *g)
{
    int64_t i = 0;
    for (; i + VL <= count; i += VL) {
        V x = vload(gate + i);
        vstore(g + i, vmul(vmul(x, vsigmoid(x)), vload(up + i)));
    }
    if (i < count) {
        int64_t n = count - i;
        V x = vload_part(gate + i, n);
        vstore_part(g + i, n, vmul(vmul(x, vsigmoid(x)), vload_part(up + i, n)));
    }
}

static void swiglu_backward(int64_t count, const float *gate, const float *up, const float *dg, float *dgate,
                            float *dup, float *g_out)
{
    V one = vset(1.0f);
    int64_t i = 0;
    for (; i + VL <= count; i += VL) {
        V x = vload(gate + i), b = vload(up + i), d = vload(dg + i), s = vsigmoid(x), silu = vmul(x, s);
        vstore(dgate + i, vmul(vmul(d, b), vfma(silu, vsub(one, s), s)));
        vstore(dup + i, vmul(d, silu));
        if (g_out)
            vstore(g_out + i, vmul(silu, b));
    }
    if (i < count) {
        int64_t n = count - i;
        V x = vload_part(gate + i, n), b = vload_part(up + i, n), d = vload_part(dg + i, n);
        V s = vsigmoid(x), silu = vmul(x, s);
        vstore_part(dgate + i, n, vmul(vmul(d, b), vfma(silu, vsub(one, s), s)));
        vstore_part(dup + i, n, vmul(d, silu));
        if (g_out)
            vstore_part(g_out + i, n, vmul(silu, b));
    }
}

static void geglu_forward(int64_t count, const float *gate, const float *up, float *g)
{
    int64_t i = 0;
    for (; i + VL <= count; i += VL) {
        V x = vload(gate + i);
        vstore(g + i, vmul(vmul(x, gelu_s(x)), vload(up + i)));
    }
    if (i < count) {
        int64_t n = count - i;
        V x = vload_part(gate + i, n);
        vstore_part(g + i, n, vmul(vmul(x, gelu_s(x)), vload_part(up + i, n)));
    }
}

static void geglu_backward(int64_t count, const float *gate, const float *up, const float *dg, float *dgate, float *dup,
                           float *g_out)
{
    int64_t i = 0;
    for (; i + VL <= count; i += VL) {
        V x = vload(gate + i), b = vload(up + i), d = vload(dg + i), s = gelu_s(x), gelu = vmul(x, s);
        vstore(dgate + i, vmul(vmul(d, b), gelu_slope(x, s, gelu)));
        vstore(dup + i, vmul(d, gelu));
        if (g_out)
            vstore(g_out + i, vmul(gelu, b));
    }
    if (i < count) {
        int64_t n = count - i;
        V x = vload_part(gate + i, n), b = vload_part(up + i, n), d = vload_part(dg + i, n);
        V s = gelu_s(x), gelu = vmul(x, s);
        vstore_part(dgate + i, n, vmul(vmul(d, b), gelu_slope(x, s, gelu)));
        vstore_part(dup + i, n, vmul(d, gelu));
        if (g_out)
            vstore_part(g_out + i, n, vmul(gelu, b));
    }
}
