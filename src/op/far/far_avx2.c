/* SPDX-License-Identifier: Apache-2.0 */
/* 16 registers hold tiles of 12 accumulators. */
#include "op/simd/simd_avx2.h"

#define TILE_VECTORS   2
#define TILE_MOST_ROWS 6

#include "op/far/far_panel.h"

#include "op/far/far_top_f32.h"

#include "op/far/far_simd.h"

const fur_far_kernel fur_far_avx2 = FAR_KERNEL;
