/* SPDX-License-Identifier: Apache-2.0 */
#include "op/simd/simd_avx2.h"

#include "op/softcap/softcap_simd.h"

const fur_softcap_kernel fur_softcap_avx2 = {.softcap = softcap};
