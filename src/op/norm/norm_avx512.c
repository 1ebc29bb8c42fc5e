/* SPDX-License-Identifier: Apache-2.0 */
#include "op/simd/simd_avx512.h"

#include "op/norm/norm_simd.h"

const fur_norm_kernel fur_norm_avx512 = {.forward = forward, .backward = backward};
