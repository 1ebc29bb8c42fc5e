/* SPDX-License-Identifier: Apache-2.0 */
/* The body of adamw's vector variants, over the vocabulary of op/simd. */
#include "op/adamw/adamw_kernel.h"

typedef struct state {
    V w, m, v;
} state;

static inline state updated(state s, V g, const fur_adamw_factors *f)
{
    g = vmul(g, vset(f->grad_scale));
    s.m = vfma(vset(f->one_m), vsub(g, s.m), s.m);
    s.v = vfma(vmul(vset(f->one_v), g), g, vmul(vset(f->beta2), s.v));
    V below = vfma(vsqrt(s.v), vset(f->correct), vset(f->eps));
    s.w = vfnma(vset(f->step), vdiv(s.m, below), vmul(s.w, vset(f->keep)));
    return s;
}

static void step(int64_t count, float *w, const float *g, float *m, float *v, const fur_adamw_factors *f)
{
    int64_t i = 0;
    for (; i + VL <= count; i += VL) {
        state s = {.w = vload(w + i), .m = vload(m + i), .v = vload(v + i)};
        s = updated(s, vload(g + i), f);
        vstore(w + i, s.w);
        vstore(m + i, s.m);
        vstore(v + i, s.v);
    }
    if (i < count) {
        int64_t n = count - i;
        state s = {.w = vload_part(w + i, n), .m = vload_part(m + i, n), .v = vload_part(v + i, n)};
        s = updated(s, vload_part(g + i, n), f);
        vstore_part(w + i, n, s.w);
        vstore_part(m + i, n, s.m);
        vstore_part(v + i, n, s.v);
    }
}
