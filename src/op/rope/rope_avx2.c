/* SPDX-License-Identifier: Apache-2.0 */
#include "op/simd/simd_avx2.h"

#include "op/rope/rope_simd.h"

const fur_rope_kernel fur_rope_avx2 = {.turn = turn};
