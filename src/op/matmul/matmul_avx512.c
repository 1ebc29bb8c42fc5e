/* SPDX-License-Identifier: Apache-2.0 */
#include "op/simd/simd_avx512.h"

#include "op/simd/pairs_avx512.h"

#define STRIP        6
#define PART_VECTORS 4

#include "op/matmul/matmul_simd.h"

const fur_matmul_kernel fur_matmul_avx512 = {pack_rows, pack_panel, multiply};
