/* SPDX-License-Identifier: Apache-2.0 */
#include "op/simd/simd_avx2.h"

#include "op/simd/pairs_avx2.h"

#include "op/round/round_simd.h"

const fur_round_kernel fur_round_avx2 = {.round = round_all};
