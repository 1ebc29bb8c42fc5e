/* SPDX-License-Identifier: Apache-2.0 */
/* The dense algebra by OpenBLAS. Its workspaces are its own: it maps one buffer per thread, which no arena can hold. */
#include "fit/la.h"

#if FUR_HAVE_OPENBLAS

#    include <cblas.h>
#    include <lapacke.h>
#    include <omp.h>
#    include <string.h>

/* OpenBLAS asks OpenMP how many threads it may take. That setting belongs to the calling task: put to one here and back
 * at the end of each call. */
static int alone(void)
{
    int threads = omp_get_max_threads();
    if (threads != 1)
        omp_set_num_threads(1);
    return threads;
}

static void together(int threads)
{
    if (threads != 1)
        omp_set_num_threads(threads);
}

static CBLAS_TRANSPOSE op(bool transposed)
{
    return transposed ? CblasTrans : CblasNoTrans;
}

const char *fur_la_name(void)
{
    return "OpenBLAS";
}

void fur_la_gemm_f64(bool a_transposed, bool b_transposed, int64_t m, int64_t n, int64_t k, double alpha,
                     const double *a, int64_t lda, const double *b, int64_t ldb, double beta, double *c, int64_t ldc)
{
    int threads = alone();
    cblas_dgemm(CblasRowMajor, op(a_transposed), op(b_transposed), (int)m, (int)n, (int)k, alpha, a, (int)lda, b,
                (int)ldb, beta, c, (int)ldc);
    together(threads);
}

void fur_la_gemm_f32(bool a_transposed, bool b_transposed, int64_t m, int64_t n, int64_t k, float alpha, const float *a,
                     int64_t lda, const float *b, int64_t ldb, float beta, float *c, int64_t ldc)
{
    int threads = alone();
    cblas_sgemm(CblasRowMajor, op(a_transposed), op(b_transposed), (int)m, (int)n, (int)k, alpha, a, (int)lda, b,
                (int)ldb, beta, c, (int)ldc);
    together(threads);
}

void fur_la_gemv_f64(bool transposed, int64_t m, int64_t n, const double *a, const double *x, double *y)
{
    int threads = alone();
    cblas_dgemv(CblasRowMajor, op(transposed), (int)m, (int)n, 1, a, (int)n, x, 1, 0, y, 1);
    together(threads);
}

void fur_la_gemv_f32(bool transposed, int64_t m, int64_t n, const float *a, const float *x, float *y)
{
    int threads = alone();
    cblas_sgemv(CblasRowMajor, op(transposed), (int)m, (int)n, 1, a, (int)n, x, 1, 0, y, 1);
    together(threads);
}

void fur_la_syrk(bool a_transposed, int64_t n, int64_t k, double alpha, const double *a, int64_t lda, double beta,
                 double *c, int64_t ldc)
{
    int threads = alone();
    cblas_dsyrk(CblasRowMajor, CblasLower, op(a_transposed), (int)n, (int)k, alpha, a, (int)lda, beta, c, (int)ldc);
    together(threads);
}

/* Row-major lower is column-major upper: no transposed copy, so that LAPACKE allocates nothing. */
bool fur_la_cholesky(int64_t n, double *a, int64_t lda)
{
    int threads = alone();
    lapack_int info = LAPACKE_dpotrf_work(LAPACK_COL_MAJOR, 'U', (lapack_int)n, a, (lapack_int)lda);
    together(threads);
    return info == 0;
}

void fur_la_cholesky_solve(int64_t n, const double *l, int64_t ldl, int64_t columns, double *b, int64_t ldb)
{
    int threads = alone();
    cblas_dtrsm(CblasRowMajor, CblasLeft, CblasLower, CblasNoTrans, CblasNonUnit, (int)n, (int)columns, 1.0, l,
                (int)ldl, b, (int)ldb);
    cblas_dtrsm(CblasRowMajor, CblasLeft, CblasLower, CblasTrans, CblasNonUnit, (int)n, (int)columns, 1.0, l, (int)ldl,
                b, (int)ldb);
    together(threads);
}

void fur_la_upper_solve(bool transposed, int64_t n, const double *r, int64_t ldr, int64_t columns, double *b,
                        int64_t ldb)
{
    int threads = alone();
    cblas_dtrsm(CblasRowMajor, CblasLeft, CblasUpper, op(transposed), CblasNonUnit, (int)n, (int)columns, 1.0, r,
                (int)ldr, b, (int)ldb);
    together(threads);
}

enum { LQ_BLOCK = 64 };

int64_t fur_la_qr_work(int64_t n)
{
    return n + n * LQ_BLOCK;
}

/* a row-major is a^T column-major, whose LQ factors are R^T and Q^T: row i of R then lies in row i of a. */
bool fur_la_qr(int64_t m, int64_t n, double *a, double *r, double *work)
{
    lapack_int rows = (lapack_int)n, columns = (lapack_int)m, size = (lapack_int)(n * LQ_BLOCK);
    double *tau = work, *space = work + n;
    int threads = alone();
    lapack_int info = LAPACKE_dgelqf_work(LAPACK_COL_MAJOR, rows, columns, a, rows, tau, space, size);
    memset(r, 0, (size_t)(n * n) * sizeof *r);
    for (int64_t i = 0; i < n; i++)
        memcpy(r + i * n + i, a + i * n + i, (size_t)(n - i) * sizeof *r);
    if (info == 0)
        info = LAPACKE_dorglq_work(LAPACK_COL_MAJOR, rows, columns, rows, a, rows, tau, space, size);
    together(threads);
    return info == 0;
}

int64_t fur_la_svd_work(int64_t m, int64_t n)
{
    return 5 * n + 3 * n + m + 64 * (m + n);
}

bool fur_la_svd(int64_t m, int64_t n, double *a, double *u, double *s, double *vt, double *work)
{
    lapack_int rows = (lapack_int)n, columns = (lapack_int)m;
    int threads = alone();
    lapack_int info = LAPACKE_dgesvd_work(LAPACK_COL_MAJOR, 'S', 'S', rows, columns, a, rows, s, vt, rows, u, rows,
                                          work, (lapack_int)fur_la_svd_work(m, n));
    together(threads);
    return info == 0;
}

#endif
