/* SPDX-License-Identifier: Apache-2.0 */
#include "op/simd/simd_avx512.h"

#include "op/add/add_simd.h"

const fur_add_kernel fur_add_avx512 = {.add = add};
