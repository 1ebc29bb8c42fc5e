/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <string.h>

#include "op/lookup/lookup_kernel.h"
#include "op/lookup/lookup_words_avx2.h"

#include "op/lookup/lookup_whole_words.h"

#include "op/lookup/lookup_backward_simd.h"
#include "op/lookup/lookup_forward_simd.h"
#include "op/lookup/lookup_hash_simd.h"

const fur_lookup_kernel fur_lookup_avx2 = {.strip = STRIP,
                                           .hash = hash,
                                           .group = GROUPS,
                                           .score_group = FUR_LOOKUP_SCORES,
                                           .plan = plan,
                                           .forward_tile = forward_tile,
                                           .forward_rows = forward_rows,
                                           .table_gradient = table_gradient,
                                           .scores = scores,
                                           .input = input,
                                           .square = square,
                                           .update = update,
                                           .catch_up = catch_up};
