/* SPDX-License-Identifier: Apache-2.0 */
#include "op/simd/simd_avx512.h"

#include "op/simd/pairs_avx512bf16.h"
#include "op/simd/tile_amx.h"

#include "op/matmul/matmul_pack_simd.h"
#include "op/matmul/matmul_tile.h"

const fur_matmul_kernel fur_matmul_amx = {pack_rows, pack_panel, multiply};
