/* SPDX-License-Identifier: Apache-2.0 */
/* 32 registers hold tiles of 24 accumulators. */
#include "op/simd/simd_avx512.h"

#define TILE_VECTORS   2
#define TILE_MOST_ROWS 12

#include "op/far/far_panel.h"

#include "op/far/far_top_f32.h"

#include "op/far/far_simd.h"

const fur_far_kernel fur_far_avx512 = FAR_KERNEL;
