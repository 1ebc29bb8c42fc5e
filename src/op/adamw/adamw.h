/* SPDX-License-Identifier: Apache-2.0 */
/* One step of AdamW (arXiv 1711.05101) in the form and order of torch.optim.AdamW. With g' = grad_scale g, per element:
 *
 *   w <- w (1 - lr weight_decay)
 *   m <- m + (1 - beta1) (g' - m)
 *   v <- beta2 v + (1 - beta2) g'^2
 *   w <- w - (lr / (1 - beta1^step)) m / (sqrt(v) / sqrt(1 - beta2^step) + eps)
 *
 * The factors are computed in double and rounded once. Elementwise, so that results do not depend on threads; 28 bytes
 * an element. Error bounds per element: adamw_test.c. */
#ifndef FUR_OP_ADAMW_H
#define FUR_OP_ADAMW_H

#include "base/exec.h"

typedef struct fur_adamw_args {
    double lr;
    double beta1, beta2; /* in [0, 1) */
    double eps;
    double weight_decay; /* decoupled; 0 for parameters that are not decayed */
    int64_t step;        /* of this update; the first is 1 */
    float grad_scale;    /* clipping and averaging; 1 for none */
} fur_adamw_args;

/* Errors: FUR_E_ARGUMENT (a factor out of range), FUR_E_SHAPE (count < 0). */
fur_status fur_adamw_step(const fur_exec *exec, int64_t count, float *w, const float *g, float *m, float *v,
                          const fur_adamw_args *args);

#endif
