/* SPDX-License-Identifier: Apache-2.0 */
#include "op/simd/simd_avx2.h"

#include "op/bias/bias_simd.h"

const fur_bias_kernel fur_bias_avx2 = {.add = add, .sum_rows = sum_rows};
