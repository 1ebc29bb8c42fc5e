/* SPDX-License-Identifier: Apache-2.0 */
/* The definition of norm: plain C, double accumulators. */
#include <math.h>
#include <stddef.h>

#include "op/norm/norm.h"
#include "op/norm/norm_kernel.h"

static void statistics(int rms, int64_t C, float eps, const float *x_C, double *mean, double *rstd)
{
    double sum = 0, squares = 0;
    for (int64_t c = 0; !rms && c < C; c++)
        sum += (double)x_C[c];
    *mean = sum / (double)C;
    for (int64_t c = 0; c < C; c++)
        squares += ((double)x_C[c] - *mean) * ((double)x_C[c] - *mean);
    *rstd = 1.0 / sqrt(squares / (double)C + (double)eps);
}

static double weight(int rms, float w)
{
    return rms == FUR_NORM_RMS_OFFSET ? 1.0 + (double)w : (double)w;
}

static void forward(int rms, int64_t T, int64_t C, float eps, const float *x_TC, const float *w_C, const float *b_C,
                    float *y_TC, float *stat_T2)
{
    for (int64_t t = 0; t < T; t++, x_TC += C, y_TC += C) {
        double mean, rstd;
        statistics(rms, C, eps, x_TC, &mean, &rstd);
        for (int64_t c = 0; c < C; c++)
            y_TC[c] = (float)(((double)x_TC[c] - mean) * rstd * weight(rms, w_C[c]) + (rms ? 0.0 : (double)b_C[c]));
        if (stat_T2) {
            stat_T2[2 * t] = (float)mean;
            stat_T2[2 * t + 1] = (float)rstd;
        }
    }
}

static void backward(int rms, int64_t T, int64_t C, float eps, const float *x_TC, const float *w_C,
                     const float *stat_T2, const float *dy_TC, float *dx_TC, int add, float *dw_C, float *db_C)
{
    for (int64_t t = 0; t < T; t++, x_TC += C, dy_TC += C, dx_TC += C) {
        double mean, rstd;
        statistics(rms, C, eps, x_TC, &mean, &rstd);
        /* rounded as forward stores them: the same bits with and without stat_T2 */
        mean = stat_T2 ? (double)stat_T2[2 * t] : (double)(float)mean;
        rstd = stat_T2 ? (double)stat_T2[2 * t + 1] : (double)(float)rstd;
        double sum_g = 0, sum_gx = 0;
        for (int64_t c = 0; c < C; c++) {
            double xh = ((double)x_TC[c] - mean) * rstd, dy = (double)dy_TC[c], g = dy * weight(rms, w_C[c]);
            sum_g += g;
            sum_gx += g * xh;
            dw_C[c] += (float)(dy * xh);
            if (!rms)
                db_C[c] += dy_TC[c];
        }
        double mean_g = rms ? 0.0 : sum_g / (double)C, mean_gx = sum_gx / (double)C;
        for (int64_t c = 0; c < C; c++) {
            double xh = ((double)x_TC[c] - mean) * rstd, g = (double)dy_TC[c] * weight(rms, w_C[c]);
            double dx = rstd * (g - mean_g - xh * mean_gx);
            dx_TC[c] = (float)(add ? (double)dx_TC[c] + dx : dx);
        }
    }
}

const fur_norm_kernel fur_norm_ref = {.forward = forward, .backward = backward};
