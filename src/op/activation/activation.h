/* SPDX-License-Identifier: Apache-2.0 */
/* The inner functions of the feedforward, and their gradients. With s(z) = 1 / (1 + e^-z):
 *
 *   gelu    g = u/2 (1 + tanh(c (u + 0.044715 u^3))) = u s(z),  z = 2 c (u + 0.044715 u^3),  c = sqrt(2 / pi)
 *           du = dg (s + g (1 - s) z'),  z' = 2 c (1 + 3 * 0.044715 u^2)
 *   swiglu  g = gate s(gate) up
 *           dup = dg gate s(gate),  dgate = dg up (s + gate s (1 - s))
 *
 *   geglu   g = gelu(gate) up
 *           dup = dg gelu(gate),  dgate = dg up gelu'(gate)
 *
 * gelu in the form u s(z) keeps its relative accuracy for negative u, where 1 + tanh cancels. Large |u| give 0 or u,
 * and gradients 0 or dg; NaN stays NaN; u = -infinity gives NaN, as -infinity times 0 does. Elementwise, so that
 * results do not depend on threads. Any output may be one of the inputs, if they start at the same element with the
 * same stride. Error bounds per element: activation_test.c. T rows, F columns; rows of gate and up are ld elements
 * apart (2 F when one product made both), those of dgate and dup ldd, those of g, dg and g_out F. Errors: FUR_E_SHAPE
 * (a negative size, a stride below F). */
#ifndef FUR_OP_ACTIVATION_H
#define FUR_OP_ACTIVATION_H

#include "base/exec.h"

fur_status fur_gelu_forward(const fur_exec *exec, int64_t count, const float *u, float *g);

/* g_out: NULL, or g, the same bits as forward's, for the weight gradient that reads it. */
fur_status fur_gelu_backward(const fur_exec *exec, int64_t count, const float *u, const float *dg, float *du,
                             float *g_out);

fur_status fur_swiglu_forward(const fur_exec *exec, int64_t T, int64_t F, const float *gate_TF, const float *up_TF,
                              int64_t ld, float *g_TF);

/* g_out: as above. */
fur_status fur_swiglu_backward(const fur_exec *exec, int64_t T, int64_t F, const float *gate_TF, const float *up_TF,
                               int64_t ld, const float *dg_TF, float *dgate_TF, float *dup_TF, int64_t ldd,
                               float *g_out);

/* The same with gelu for the gate's function. */
fur_status fur_geglu_forward(const fur_exec *exec, int64_t T, int64_t F, const float *gate_TF, const float *up_TF,
                             int64_t ld, float *g_TF);

fur_status fur_geglu_backward(const fur_exec *exec, int64_t T, int64_t F, const float *gate_TF, const float *up_TF,
                              int64_t ld, const float *dg_TF, float *dgate_TF, float *dup_TF, int64_t ldd,
                              float *g_out);

#endif
