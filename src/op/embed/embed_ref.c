/* SPDX-License-Identifier: Apache-2.0 */
/* The definition of embed's gradient. */
#include "op/embed/embed_kernel.h"

static void add_rows(int64_t T, int64_t C, int64_t columns, const int32_t *ids_T, const float *dx, float *dw)
{
    for (int64_t t = 0; t < T; t++)
        for (int64_t c = 0; c < columns; c++)
            dw[ids_T[t] * C + c] += dx[t * C + c];
}

const fur_embed_kernel fur_embed_ref = {.add_rows = add_rows};
