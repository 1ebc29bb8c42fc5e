/* SPDX-License-Identifier: Apache-2.0 */
/* y += x, elementwise; the residual. Rounded once, so the same bits everywhere; x may be y. 12 bytes an element. */
#ifndef FUR_OP_ADD_H
#define FUR_OP_ADD_H

#include "base/exec.h"

/* Errors: FUR_E_SHAPE (count < 0). */
fur_status fur_add(const fur_exec *exec, int64_t count, const float *x, float *y);

#endif
