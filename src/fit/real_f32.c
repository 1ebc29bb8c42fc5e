/* SPDX-License-Identifier: Apache-2.0 */
#include <omp.h>
#include <string.h>

#include "fit/curvature.h"
#include "fit/la.h"

#define REAL         float
#define GEMM         fur_la_gemm_f32
#define GEMV         fur_la_gemv_f32
#define EXP(...)     p->rowexp->exp_f32(__VA_ARGS__)
#define EXP_MUL(...) p->rowexp->exp_mul_f32(__VA_ARGS__)
#include "fit/real_body.h"

const fit_real fit_real_f32 = {sizeof(REAL), narrow,     refresh,     rows,         gram,
                               keep,         free_first, free_second, stored_first, stored_second};
