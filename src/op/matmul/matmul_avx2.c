/* SPDX-License-Identifier: Apache-2.0 */
#include "op/simd/simd_avx2.h"

#include "op/simd/pairs_avx2.h"

#define STRIP        4
#define PART_VECTORS 2

#include "op/matmul/matmul_simd.h"

const fur_matmul_kernel fur_matmul_avx2 = {pack_rows, pack_panel, multiply};
