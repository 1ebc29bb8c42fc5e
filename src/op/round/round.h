/* SPDX-License-Identifier: Apache-2.0 */
/* bf16 from f32: nearest, ties to even, NaN stays NaN; the same bits on every instruction set. 6 bytes an element. */
#ifndef FUR_OP_ROUND_H
#define FUR_OP_ROUND_H

#include "base/exec.h"

/* y may not overlap x. Errors: FUR_E_SHAPE (count < 0). */
fur_status fur_round_bf16(const fur_exec *exec, int64_t count, const float *x, uint16_t *y);

#endif
