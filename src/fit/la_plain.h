/* SPDX-License-Identifier: Apache-2.0 */
/* The plain form of la.h, built always: the same contracts under names of its own. */
#ifndef FUR_FIT_LA_PLAIN_H
#define FUR_FIT_LA_PLAIN_H

#include <stdbool.h>
#include <stdint.h>

void fur_plain_gemm_f64(bool a_transposed, bool b_transposed, int64_t m, int64_t n, int64_t k, double alpha,
                        const double *a, int64_t lda, const double *b, int64_t ldb, double beta, double *c,
                        int64_t ldc);
void fur_plain_gemm_f32(bool a_transposed, bool b_transposed, int64_t m, int64_t n, int64_t k, float alpha,
                        const float *a, int64_t lda, const float *b, int64_t ldb, float beta, float *c, int64_t ldc);
void fur_plain_gemv_f64(bool transposed, int64_t m, int64_t n, const double *a, const double *x, double *y);
void fur_plain_gemv_f32(bool transposed, int64_t m, int64_t n, const float *a, const float *x, float *y);
bool fur_plain_cholesky(int64_t n, double *a, int64_t lda);
void fur_plain_cholesky_solve(int64_t n, const double *l, int64_t ldl, int64_t columns, double *b, int64_t ldb);
void fur_plain_upper_solve(bool transposed, int64_t n, const double *r, int64_t ldr, int64_t columns, double *b,
                           int64_t ldb);
bool fur_plain_qr(int64_t m, int64_t n, double *a, double *r, double *work);
bool fur_plain_svd(int64_t m, int64_t n, double *a, double *u, double *s, double *vt, double *work);

#endif
