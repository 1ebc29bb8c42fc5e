/* SPDX-License-Identifier: Apache-2.0 */
#include "op/simd/simd_avx2.h"

#include "op/sumsq/sumsq_simd.h"

const fur_sumsq_kernel fur_sumsq_avx2 = {.sum = sum};
