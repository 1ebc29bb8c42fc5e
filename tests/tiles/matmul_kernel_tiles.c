/* SPDX-License-Identifier: Apache-2.0 */
/* src/op/matmul/matmul_amx.c with emulated tiles. */
#include "op/simd/simd_avx2.h"

#include "op/simd/pairs_avx2.h"
#include "tiles/tile_plain.h"

#include "op/matmul/matmul_pack_simd.h"
#include "op/matmul/matmul_tile.h"

extern const fur_matmul_kernel tiles_matmul_kernel;
const fur_matmul_kernel tiles_matmul_kernel = {pack_rows, pack_panel, multiply};
