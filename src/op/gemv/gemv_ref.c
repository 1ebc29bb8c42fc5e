/* SPDX-License-Identifier: Apache-2.0 */
/* The definition of gemv: double accumulators. */
#include <string.h>

#include "base/bf16.h"
#include "base/f16.h"
#include "op/gemv/gemv_kernel.h"

/* Element i of a row. */
static float weight(fur_gemv_type type, const unsigned char *row, int64_t i)
{
    if (type == FUR_GEMV_F32)
        return ((const float *)(const void *)row)[i];
    if (type == FUR_GEMV_BF16)
        return fur_bf16_value(((const uint16_t *)(const void *)row)[i]);
    const unsigned char *block = row + i / FUR_Q8_0_BLOCK * FUR_Q8_0_BYTES;
    uint16_t scale;
    memcpy(&scale, block, sizeof scale);
    return fur_f16_value(scale) * (float)(int8_t)block[2 + i % FUR_Q8_0_BLOCK];
}

static void rows(const fur_gemv_args *a, int64_t from, int64_t to)
{
    int64_t bytes = fur_gemv_row_bytes(a->type, a->in);
    for (int64_t o = from; o < to; o++) {
        const unsigned char *row = (const unsigned char *)a->w_OI + o * bytes;
        for (int64_t t = 0; t < a->tokens; t++) {
            double sum = 0;
            for (int64_t i = 0; i < a->in; i++)
                sum += (double)weight(a->type, row, i) * (double)a->x_TI[t * a->ldx + i];
            fur_gemv_put(a, t, o, (float)sum);
        }
    }
}

const fur_gemv_kernel fur_gemv_ref = {.rows = {rows, rows, rows}};
