/* SPDX-License-Identifier: Apache-2.0 */
/* x <- cap tanh(x / cap), elementwise: logits that stay below cap in size (Gemma 2). Its slope is 1 - (y / cap)^2, y
 * what came out; fur_xent_gradient has it. NaN stays NaN, infinities give cap and -cap. The same bits for any thread
 * count. Error bound per element: 14 u |y|, u = 2^-24: a tanh of 10 u, quotient, product and what the quotient's error
 * comes to. 8 bytes an element. */
#ifndef FUR_OP_SOFTCAP_H
#define FUR_OP_SOFTCAP_H

#include "base/exec.h"

/* Errors: FUR_E_SHAPE (count < 0, cap not above 0). */
fur_status fur_softcap(const fur_exec *exec, int64_t count, float cap, float *x);

#endif
