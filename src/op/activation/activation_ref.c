/* SPDX-License-Identifier: Apache-2.0 */
/* The definition of the activations: plain C, in double. */
#include <math.h>
#include <stddef.h>

#include "op/activation/activation_kernel.h"

static const double two_c = 1.5957691216057308; /* 2 sqrt(2 / pi) */
static const double cubic = 0.044715;

static double sigmoid(double z)
{
    return 1.0 / (1.0 + exp(-z));
}

static void gelu_forward(int64_t count, const float *u, float *g)
{
    for (int64_t i = 0; i < count; i++) {
        double x = (double)u[i];
        g[i] = (float)(x * sigmoid(two_c * (x + cubic * x * x * x)));
    }
}

static void gelu_backward(int64_t count, const float *u, const float *dg, float *du, float *g_out)
{
    for (int64_t i = 0; i < count; i++) {
        double x = (double)u[i], s = sigmoid(two_c * (x + cubic * x * x * x));
        double slope = s + x * s * (1.0 - s) * two_c * (1.0 + 3.0 * cubic * x * x);
        du[i] = (float)((double)dg[i] * slope);
        if (g_out)
            g_out[i] = (float)(x * s);
    }
}

static void swiglu_forward(int64_t count, const float *gate, const float *up, float *g)
{
    for (int64_t i = 0; i < count; i++)
        g[i] = (float)((double)gate[i] * sigmoid((double)gate[i]) * (double)up[i]);
}

static void swiglu_backward(int64_t count, const float *gate, const float *up, const float *dg, float *dgate,
                            float *dup, float *g_out)
{
    for (int64_t i = 0; i < count; i++) {
        double x = (double)gate[i], b = (double)up[i], d = (double)dg[i], s = sigmoid(x), silu = x * s;
        dgate[i] = (float)(d * b * (s + silu * (1.0 - s)));
        dup[i] = (float)(d * silu);
        if (g_out)
            g_out[i] = (float)(silu * b);
    }
}

static void geglu_forward(int64_t count, const float *gate, const float *up, float *g)
{
    for (int64_t i = 0; i < count; i++) {
        double x = (double)gate[i];
        g[i] = (float)(x * sigmoid(two_c * (x + cubic * x * x * x)) * (double)up[i]);
    }
}

static void geglu_backward(int64_t count, const float *gate, const float *up, const float *dg, float *dgate, float *dup,
                           float *g_out)
{
    for (int64_t i = 0; i < count; i++) {
        double x = (double)gate[i], b = (double)up[i], d = (double)dg[i];
        double s = sigmoid(two_c * (x + cubic * x * x * x)), gelu = x * s;
        dgate[i] = (float)(d * b * (s + gelu * (1.0 - s) * two_c * (1.0 + 3.0 * cubic * x * x)));
        dup[i] = (float)(d * gelu);
        if (g_out)
            g_out[i] = (float)(gelu * b);
    }
}

const fur_activation_kernel fur_activation_ref = {.gelu_forward = gelu_forward,
                                                  .gelu_backward = gelu_backward,
                                                  .swiglu_forward = swiglu_forward,
                                                  .swiglu_backward = swiglu_backward,
                                                  .geglu_forward = geglu_forward,
                                                  .geglu_backward = geglu_backward};
