/* SPDX-License-Identifier: Apache-2.0 */
/* The sum of squares, for the norm of a gradient. In double, in chunks that depend on count alone, summed in order: the
 * same bits for any thread count, and double sums of float squares cannot overflow. A NaN or infinity in x shows in the
 * sum, which is then NaN or infinity. Relative error at most (max(count / 256, 8192) + 300) 2^-53. */
#ifndef FUR_OP_SUMSQ_H
#define FUR_OP_SUMSQ_H

#include "base/exec.h"

/* Errors: FUR_E_SHAPE (count < 0). */
fur_status fur_sum_squares(const fur_exec *exec, int64_t count, const float *x, double *out);

#endif
