/* SPDX-License-Identifier: Apache-2.0 */
/* The body of bias's vector variants, over the vocabulary of op/simd. */
#include "op/bias/bias_kernel.h"

static void add(int64_t T, int64_t F, const float *b_F, float *y_TF)
{
    for (int64_t t = 0; t < T; t++, y_TF += F) {
        int64_t f = 0;
        for (; f + VL <= F; f += VL)
            vstore(y_TF + f, vadd(vload(y_TF + f), vload(b_F + f)));
        if (f < F)
            vstore_part(y_TF + f, F - f, vadd(vload_part(y_TF + f, F - f), vload_part(b_F + f, F - f)));
    }
}

/* sum_F += the four rows from r on, or = where first. Four at a time: the sums then cost a third of the traffic. */
static inline void sum_four(int first, int64_t F, const float *r, float *sum_F)
{
    int64_t f = 0;
    for (; f + VL <= F; f += VL) {
        const float *p = r + f;
        V s = vadd(vadd(vload(p), vload(p + F)), vadd(vload(p + 2 * F), vload(p + 3 * F)));
        vstore(sum_F + f, first ? s : vadd(vload(sum_F + f), s));
    }
    if (f < F) {
        const float *p = r + f;
        int64_t n = F - f;
        V s = vadd(vadd(vload_part(p, n), vload_part(p + F, n)),
                   vadd(vload_part(p + 2 * F, n), vload_part(p + 3 * F, n)));
        vstore_part(sum_F + f, n, first ? s : vadd(vload_part(sum_F + f, n), s));
    }
}

static void sum_rows(int64_t T, int64_t F, const float *dy_TF, float *sum_F)
{
    int64_t t = 0;
    for (; t + 4 <= T; t += 4)
        sum_four(t == 0, F, dy_TF + t * F, sum_F);
    for (; t < T; t++) {
        const float *r = dy_TF + t * F;
        for (int64_t f = 0; f < F; f++)
            sum_F[f] = t == 0 ? r[f] : sum_F[f] + r[f];
    }
}
