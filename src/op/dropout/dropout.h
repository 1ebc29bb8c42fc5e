/* SPDX-License-Identifier: Apache-2.0 */
/* Dropout of rows, in place, by counter-based draws; nothing is stored, backward calls the same on the gradient.
 *
 *   x_tc <- 0 where draw(key, first_token + t, c) < rate 2^32, else x_tc / (1 - rate)
 * draw: word c % 4 of the four of fur_random_words(key, token, c / 4). So a value's fate depends on key, token and
 * channel alone: not on the cut of rows into calls, nor on threads. Rounded once: the same bits everywhere. */
#ifndef FUR_OP_DROPOUT_H
#define FUR_OP_DROPOUT_H

#include "base/exec.h"

/* T rows of C, contiguous; rate in [0, 1). About 25 integer operations and 8 bytes an element.
 * Errors: FUR_E_SHAPE (T < 0, C < 1, first_token < 0), FUR_E_ARGUMENT (rate). */
fur_status fur_dropout(const fur_exec *exec, int64_t T, int64_t C, double rate, uint64_t key, int64_t first_token,
                       float *x_TC);

#endif
