/* SPDX-License-Identifier: Apache-2.0 */
/* The body of norm's vector variants, over the vocabulary of op/simd. A row is read two or three times, from the first
 * level of cache after the first: one pass over memory. Two-pass variance, since E[x^2] - m^2 cancels. */
#include <math.h>
#include <stddef.h>

#include "op/norm/norm.h"
#include "op/norm/norm_kernel.h"

/* Added to stored weights. */
static inline V weight_offset(int rms)
{
    return vset(rms == FUR_NORM_RMS_OFFSET ? 1.0f : 0.0f);
}

static inline float row_sum(const float *x_C, int64_t C)
{
    V s0 = vset(0), s1 = s0, s2 = s0, s3 = s0;
    int64_t c = 0;
    for (; c + 4 * VL <= C; c += 4 * VL) {
        s0 = vadd(s0, vload(x_C + c));
        s1 = vadd(s1, vload(x_C + c + VL));
        s2 = vadd(s2, vload(x_C + c + 2 * VL));
        s3 = vadd(s3, vload(x_C + c + 3 * VL));
    }
    for (; c + VL <= C; c += VL)
        s0 = vadd(s0, vload(x_C + c));
    if (c < C)
        s1 = vadd(s1, vload_part(x_C + c, C - c));
    return vsum(vadd(vadd(s0, s1), vadd(s2, s3)));
}

static inline float row_squares(const float *x_C, int64_t C, float mean)
{
    V m = vset(mean), s0 = vset(0), s1 = s0, s2 = s0, s3 = s0;
    int64_t c = 0;
    for (; c + 4 * VL <= C; c += 4 * VL) {
        V a0 = vsub(vload(x_C + c), m), a1 = vsub(vload(x_C + c + VL), m);
        V a2 = vsub(vload(x_C + c + 2 * VL), m), a3 = vsub(vload(x_C + c + 3 * VL), m);
        s0 = vfma(a0, a0, s0);
        s1 = vfma(a1, a1, s1);
        s2 = vfma(a2, a2, s2);
        s3 = vfma(a3, a3, s3);
    }
    for (; c + VL <= C; c += VL) {
        V a = vsub(vload(x_C + c), m);
        s0 = vfma(a, a, s0);
    }
    if (c < C) {
        V a = vkeep_part(vsub(vload_part(x_C + c, C - c), m), C - c);
        s1 = vfma(a, a, s1);
    }
    return vsum(vadd(vadd(s0, s1), vadd(s2, s3)));
}

static inline void statistics(int rms, int64_t C, float eps, const float *x_C, float *mean, float *rstd)
{
    *mean = rms ? 0.0f : row_sum(x_C, C) / (float)C;
    *rstd = 1.0f / sqrtf(row_squares(x_C, C, *mean) / (float)C + eps);
}

static void forward(int rms, int64_t T, int64_t C, float eps, const float *x_TC, const float *w_C, const float *b_C,
                    float *y_TC, float *stat_T2)
{
    for (int64_t t = 0; t < T; t++, x_TC += C, y_TC += C) {
        float mean, rstd;
        statistics(rms, C, eps, x_TC, &mean, &rstd);
        if (stat_T2) {
            stat_T2[2 * t] = mean;
            stat_T2[2 * t + 1] = rstd;
        }
        V m = vset(mean), r = vset(rstd), one = weight_offset(rms);
        int64_t c = 0;
        if (rms) {
            for (; c + VL <= C; c += VL)
                vstore(y_TC + c, vmul(vmul(vload(x_TC + c), r), vadd(vload(w_C + c), one)));
            if (c < C) {
                V w = vadd(vload_part(w_C + c, C - c), one);
                vstore_part(y_TC + c, C - c, vmul(vmul(vload_part(x_TC + c, C - c), r), w));
            }
            continue;
        }
        for (; c + VL <= C; c += VL)
            vstore(y_TC + c, vfma(vmul(vsub(vload(x_TC + c), m), r), vload(w_C + c), vload(b_C + c)));
        if (c < C) {
            V xh = vmul(vsub(vload_part(x_TC + c, C - c), m), r);
            vstore_part(y_TC + c, C - c, vfma(xh, vload_part(w_C + c, C - c), vload_part(b_C + c, C - c)));
        }
    }
}

/* First pass over a row: the two sums, and the row's share of dw and db. */
static inline void backward_sums(int rms, int64_t C, const float *x_C, const float *w_C, const float *dy_C, float mean,
                                 float rstd, float *dw_C, float *db_C, float *sum_g, float *sum_gx)
{
    V one = weight_offset(rms), m = vset(mean), r = vset(rstd), a0 = vset(0), b0 = a0, a1 = a0, b1 = a0;
    int64_t c = 0;
    for (; c + 2 * VL <= C; c += 2 * VL) {
        V xh0 = vmul(vsub(vload(x_C + c), m), r), xh1 = vmul(vsub(vload(x_C + c + VL), m), r);
        V dy0 = vload(dy_C + c), dy1 = vload(dy_C + c + VL);
        V g0 = vmul(dy0, vadd(vload(w_C + c), one)), g1 = vmul(dy1, vadd(vload(w_C + c + VL), one));
        a0 = vadd(a0, g0);
        a1 = vadd(a1, g1);
        b0 = vfma(g0, xh0, b0);
        b1 = vfma(g1, xh1, b1);
        vstore(dw_C + c, vfma(dy0, xh0, vload(dw_C + c)));
        vstore(dw_C + c + VL, vfma(dy1, xh1, vload(dw_C + c + VL)));
        if (!rms) {
            vstore(db_C + c, vadd(vload(db_C + c), dy0));
            vstore(db_C + c + VL, vadd(vload(db_C + c + VL), dy1));
        }
    }
    while (c < C) {
        int64_t n = C - c < VL ? C - c : VL;
        V xh = vkeep_part(vmul(vsub(vload_part(x_C + c, n), m), r), n), dy = vload_part(dy_C + c, n);
        V g = vmul(dy, vadd(vload_part(w_C + c, n), one));
        a0 = vadd(a0, g);
        b0 = vfma(g, xh, b0);
        vstore_part(dw_C + c, n, vfma(dy, xh, vload_part(dw_C + c, n)));
        if (!rms)
            vstore_part(db_C + c, n, vadd(vload_part(db_C + c, n), dy));
        c += n;
    }
    *sum_g = vsum(vadd(a0, a1));
    *sum_gx = vsum(vadd(b0, b1));
}

static void backward(int rms, int64_t T, int64_t C, float eps, const float *x_TC, const float *w_C,
                     const float *stat_T2, const float *dy_TC, float *dx_TC, int add, float *dw_C, float *db_C)
{
    for (int64_t t = 0; t < T; t++, x_TC += C, dy_TC += C, dx_TC += C) {
        float mean, rstd, sum_g, sum_gx;
        if (stat_T2) {
            mean = stat_T2[2 * t];
            rstd = stat_T2[2 * t + 1];
        } else {
            statistics(rms, C, eps, x_TC, &mean, &rstd);
        }
        backward_sums(rms, C, x_TC, w_C, dy_TC, mean, rstd, dw_C, db_C, &sum_g, &sum_gx);
        V one = weight_offset(rms), m = vset(mean), r = vset(rstd), a = vset(rms ? 0.0f : sum_g / (float)C),
          k = vset(sum_gx / (float)C);
        int64_t c = 0;
        for (; c + VL <= C; c += VL) {
            V xh = vmul(vsub(vload(x_TC + c), m), r), g = vmul(vload(dy_TC + c), vadd(vload(w_C + c), one));
            V dx = vfnma(xh, k, vsub(g, a));
            vstore(dx_TC + c, add ? vfma(dx, r, vload(dx_TC + c)) : vmul(dx, r));
        }
        if (c < C) {
            int64_t n = C - c;
            V xh = vmul(vsub(vload_part(x_TC + c, n), m), r);
            V g = vmul(vload_part(dy_TC + c, n), vadd(vload_part(w_C + c, n), one));
            V dx = vfnma(xh, k, vsub(g, a));
            vstore_part(dx_TC + c, n, add ? vfma(dx, r, vload_part(dx_TC + c, n)) : vmul(dx, r));
        }
    }
}
