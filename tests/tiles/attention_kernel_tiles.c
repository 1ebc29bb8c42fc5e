/* SPDX-License-Identifier: Apache-2.0 */
/* src/op/attention/attention_amx.c with emulated tiles between AVX2 vectors. */
#include "op/simd/simd_avx2.h"

#include "op/simd/pairs_avx2.h"
#include "tiles/tile_plain.h"

#include "base/compiler.h"
#include "op/attention/attention_tiles.h"

#define PLAIN_KERNEL fur_attention_avx2

#include "op/attention/attention_bf16.h"

extern const fur_attention_kernel tiles_attention_kernel;
const fur_attention_kernel tiles_attention_kernel = ATTENTION_KERNEL;
