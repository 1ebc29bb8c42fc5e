/* SPDX-License-Identifier: Apache-2.0 */
/* As far_avx512.c, the highest degree in pairs of bf16. */
#include "op/simd/simd_avx512.h"

#include "op/simd/pairs_avx512bf16.h"

#define TILE_VECTORS   2
#define TILE_MOST_ROWS 12

#include "op/far/far_panel.h"

#include "op/far/far_top_bf16.h"

#include "op/far/far_simd.h"

const fur_far_kernel fur_far_avx512bf16 = FAR_KERNEL;
