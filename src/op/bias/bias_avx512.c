/* SPDX-License-Identifier: Apache-2.0 */
#include "op/simd/simd_avx512.h"

#include "op/bias/bias_simd.h"

const fur_bias_kernel fur_bias_avx512 = {.add = add, .sum_rows = sum_rows};
