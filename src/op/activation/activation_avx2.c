/* SPDX-License-Identifier: Apache-2.0 */
#include "op/simd/simd_avx2.h"

#include "op/activation/activation_simd.h"

const fur_activation_kernel fur_activation_avx2 = {.gelu_forward = gelu_forward,
                                                   .gelu_backward = gelu_backward,
                                                   .swiglu_forward = swiglu_forward,
                                                   .swiglu_backward = swiglu_backward,
                                                   .geglu_forward = geglu_forward,
                                                   .geglu_backward = geglu_backward};
