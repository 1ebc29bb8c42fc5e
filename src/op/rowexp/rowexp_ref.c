/* SPDX-License-Identifier: Apache-2.0 */
/* The definition of correct: the library's exp, sums in double. */
#include <math.h>

#include "op/rowexp/rowexp_kernel.h"

#define REFERENCE(TYPE, SUFFIX, LEAST)                                                                                 \
    static TYPE max_##SUFFIX(int64_t n, const TYPE *s)                                                                 \
    {                                                                                                                  \
        TYPE most = (TYPE)(-INFINITY);                                                                                 \
        for (int64_t i = 0; i < n; i++)                                                                                \
            most = s[i] > most ? s[i] : most;                                                                          \
        return most;                                                                                                   \
    }                                                                                                                  \
    static TYPE weight_##SUFFIX(TYPE s, TYPE shift)                                                                    \
    {                                                                                                                  \
        double x = (double)(TYPE)(s - shift);                                                                          \
        return (TYPE)exp(x < (LEAST) ? (LEAST) : x);                                                                   \
    }                                                                                                                  \
    static TYPE exp_##SUFFIX(int64_t n, TYPE s[], TYPE shift)                                                          \
    {                                                                                                                  \
        double sum = 0;                                                                                                \
        for (int64_t i = 0; i < n; i++)                                                                                \
            sum += (double)(s[i] = weight_##SUFFIX(s[i], shift));                                                      \
        return (TYPE)sum;                                                                                              \
    }                                                                                                                  \
    static TYPE exp_mul_##SUFFIX(int64_t n, TYPE s[], TYPE shift, const TYPE *x, TYPE c)                               \
    {                                                                                                                  \
        double sum = 0;                                                                                                \
        for (int64_t i = 0; i < n; i++)                                                                                \
            sum += (double)(s[i] = weight_##SUFFIX(s[i], shift) * (x[i] - c));                                         \
        return (TYPE)sum;                                                                                              \
    }

REFERENCE(double, f64, -708.0)
REFERENCE(float, f32, -87.0)

const fur_rowexp fur_rowexp_ref = {max_f64, exp_f64, exp_mul_f64, max_f32, exp_f32, exp_mul_f32};
