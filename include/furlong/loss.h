/* SPDX-License-Identifier: Apache-2.0 */
/* Any loss goes through the same sweep. The library calls begin once, then block for pass 0 over all token blocks in
 * ascending order, then block for pass 1 ..., and last end. In the final pass a block writes the gradient by the
 * hidden state. Nothing of size tokens x vocabulary exists. */
#ifndef FURLONG_LOSS_H
#define FURLONG_LOSS_H

#include "furlong/data.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct fur_loss {
    void *self; /* passed back to each call */
    int passes; /* 1, or 2 where the gradient needs a statistic of the whole row first */
    /* total tokens of the row and width of the hidden state */
    fur_status (*begin)(void *self, int64_t tokens, int64_t width);
    /* h_TC: hidden state after the final norm of positions first..first+count-1, [count, width].
     * dh_TC: in the last pass of a gradient call, to be overwritten with the gradient of the loss by h_TC; else NULL.
     */
    fur_status (*block)(void *self, int pass, int64_t first, int64_t count, const float *h_TC, float *dh_TC);
    /* *loss: the value to report (mean per counted position, by custom). */
    fur_status (*end)(void *self, double *loss);
} fur_loss;

#ifdef __cplusplus
}
#endif
#endif
