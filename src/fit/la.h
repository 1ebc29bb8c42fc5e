/* SPDX-License-Identifier: Apache-2.0 */
/* Dense algebra of the fit, row-major. Two files provide it: la_openblas.c (CBLAS, LAPACKE) and la_plain.c, which is
 * also what the first is tested against. Every call runs on the calling thread alone: whoever has much to do cuts it
 * into pieces that depend on the problem, so that the bits do not depend on the number of threads. Sizes are below
 * 2^31, which the fit checks when it is laid out. */
#ifndef FUR_FIT_LA_H
#define FUR_FIT_LA_H

#include <stdbool.h>
#include <stdint.h>

/* "OpenBLAS" or "plain C". */
const char *fur_la_name(void);

/* c [m, n] = alpha op(a) op(b) + beta c, op(a) [m, k], op(b) [k, n]; c is not read where beta is 0. */
void fur_la_gemm_f64(bool a_transposed, bool b_transposed, int64_t m, int64_t n, int64_t k, double alpha,
                     const double *a, int64_t lda, const double *b, int64_t ldb, double beta, double *c, int64_t ldc);
void fur_la_gemm_f32(bool a_transposed, bool b_transposed, int64_t m, int64_t n, int64_t k, float alpha, const float *a,
                     int64_t lda, const float *b, int64_t ldb, float beta, float *c, int64_t ldc);
/* y = a x, a [m, n] whole, or a^T x. */
void fur_la_gemv_f64(bool transposed, int64_t m, int64_t n, const double *a, const double *x, double *y);
void fur_la_gemv_f32(bool transposed, int64_t m, int64_t n, const float *a, const float *x, float *y);
/* Lower triangle of c [n, n] = alpha a^T a + beta c, a [k, n] (transposed), or alpha a a^T, a [n, k]. */
void fur_la_syrk(bool a_transposed, int64_t n, int64_t k, double alpha, const double *a, int64_t lda, double beta,
                 double *c, int64_t ldc);

/* a = L L^T from its lower triangle, in place; false where it is not positive definite. */
bool fur_la_cholesky(int64_t n, double *a, int64_t lda);
/* b [n, columns] = (L L^T)^-1 b. */
void fur_la_cholesky_solve(int64_t n, const double *l, int64_t ldl, int64_t columns, double *b, int64_t ldb);
/* b [n, columns] = R^-1 b, or R^-T b; R upper. */
void fur_la_upper_solve(bool transposed, int64_t n, const double *r, int64_t ldr, int64_t columns, double *b,
                        int64_t ldb);

/* a [m, n], m >= n, becomes Q; R [n, n] upper, zeros below. Doubles of workspace: fur_la_qr_work(n). */
int64_t fur_la_qr_work(int64_t n);
bool fur_la_qr(int64_t m, int64_t n, double *a, double *r, double *work);

/* a [m, n], m >= n, is destroyed: a = u diag(s) vt, u [m, n], vt [n, n], s falling. Doubles: fur_la_svd_work(m, n). */
int64_t fur_la_svd_work(int64_t m, int64_t n);
bool fur_la_svd(int64_t m, int64_t n, double *a, double *u, double *s, double *vt, double *work);

#endif
