/* SPDX-License-Identifier: Apache-2.0 */
#include "base/random.h"
#include "op/dropout/dropout_kernel.h"

static void row(int64_t C, uint32_t below, float scale, uint64_t key, uint64_t token, float *x_C)
{
    for (int64_t c = 0; c < C; c += 4) {
        uint32_t words[4];
        fur_random_words(key, token, (uint64_t)c >> 2, words);
        for (int64_t i = c; i < C && i < c + 4; i++)
            x_C[i] = words[i - c] < below ? 0.0f : x_C[i] * scale;
    }
}

const fur_dropout_kernel fur_dropout_ref = {.row = row};
