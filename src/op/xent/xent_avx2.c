/* SPDX-License-Identifier: Apache-2.0 */
#include "op/simd/simd_avx2.h"

#include "op/xent/xent_simd.h"

const fur_xent_kernel fur_xent_avx2 = {.statistics = statistics, .gradient = gradient};
