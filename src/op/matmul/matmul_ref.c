/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bf16.h"
#include "op/matmul/matmul.h"

static double value_of(float x, int rounded)
{
    return (double)(rounded ? fur_bf16_round(x) : x);
}

static void product(const fur_matmul_args *g, int rounded)
{
    int64_t a_row = g->a_transposed ? 1 : g->lda, a_column = g->a_transposed ? g->lda : 1;
    int64_t b_row = g->b_transposed ? 1 : g->ldb, b_column = g->b_transposed ? g->ldb : 1;
    for (int64_t i = 0; i < g->m; i++)
        for (int64_t j = 0; j < g->n; j++) {
            double sum = 0;
            for (int64_t k = 0; k < g->k; k++)
                sum += value_of(g->a[i * a_row + k * a_column], rounded) *
                       value_of(g->b[k * b_row + j * b_column], rounded);
            float *c = &g->c[i * g->ldc + j];
            if (g->bias_N)
                sum += (double)g->bias_N[j];
            if (g->accumulate)
                sum += (double)*c;
            *c = (float)sum;
        }
}

void fur_matmul_ref(const fur_matmul_args *g)
{
    product(g, 0);
}

void fur_matmul_bf16_ref(const fur_matmul_args *g)
{
    product(g, 1);
}
