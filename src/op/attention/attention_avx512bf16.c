/* SPDX-License-Identifier: Apache-2.0 */
/* Attention for AVX512-BF16: products of pairs in register tiles of 6 x 4 vectors. */
#include "op/simd/simd_avx512.h"

#include "op/simd/pairs_avx512bf16.h"

#include "base/compiler.h"
#include "op/attention/attention_pairs.h"

#define PLAIN_KERNEL fur_attention_avx512

#include "op/attention/attention_bf16.h"

const fur_attention_kernel fur_attention_avx512bf16 = ATTENTION_KERNEL;
