/* SPDX-License-Identifier: Apache-2.0 */
#include "op/simd/simd_avx512.h"

#include "op/adamw/adamw_simd.h"

const fur_adamw_kernel fur_adamw_avx512 = {.step = step};
