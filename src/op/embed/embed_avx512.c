/* SPDX-License-Identifier: Apache-2.0 */
#include "op/simd/simd_avx512.h"

#include "op/embed/embed_simd.h"

const fur_embed_kernel fur_embed_avx512 = {.add_rows = add_rows};
