/* SPDX-License-Identifier: Apache-2.0 */
/* Attention for AMX-BF16: products in tiles, the softmax between them in AVX-512. */
#include "op/simd/simd_avx512.h"

#include "op/simd/pairs_avx512bf16.h"
#include "op/simd/tile_amx.h"

#include "base/compiler.h"
#include "op/attention/attention_tiles.h"

#define PLAIN_KERNEL fur_attention_avx512

#include "op/attention/attention_bf16.h"

const fur_attention_kernel fur_attention_amx = ATTENTION_KERNEL;
