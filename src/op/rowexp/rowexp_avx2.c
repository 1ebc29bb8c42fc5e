/* SPDX-License-Identifier: Apache-2.0 */
#include "op/rowexp/rowexp_simd.h"

const fur_rowexp fur_rowexp_avx2 = {max_f64, exp_f64, exp_mul_f64, max_f32, exp_f32, exp_mul_f32};
