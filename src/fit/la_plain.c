/* SPDX-License-Identifier: Apache-2.0 */
/* The dense algebra in plain C: what serves where there is no OpenBLAS, and what that is tested against. */
#include "fit/la_plain.h"

#include <math.h>
#include <string.h>

#define GEMM(NAME, REAL)                                                                                               \
    void NAME(bool a_transposed, bool b_transposed, int64_t m, int64_t n, int64_t k, REAL alpha, const REAL *a,        \
              int64_t lda, const REAL *b, int64_t ldb, REAL beta, REAL c[], int64_t ldc)                               \
    {                                                                                                                  \
        for (int64_t i = 0; i < m; i++) {                                                                              \
            int64_t row = i * ldc;                                                                                     \
            for (int64_t j = 0; j < n; j++)                                                                            \
                c[row + j] = beta == 0 ? 0 : beta * c[row + j];                                                        \
            for (int64_t l = 0; l < k && !b_transposed; l++) {                                                         \
                REAL x = alpha * (a_transposed ? a[l * lda + i] : a[i * lda + l]);                                     \
                for (int64_t j = 0; j < n; j++)                                                                        \
                    c[row + j] += x * b[l * ldb + j];                                                                  \
            }                                                                                                          \
            for (int64_t j = 0; j < n && b_transposed; j++) {                                                          \
                REAL sum = 0;                                                                                          \
                for (int64_t l = 0; l < k; l++)                                                                        \
                    sum += (a_transposed ? a[l * lda + i] : a[i * lda + l]) * b[j * ldb + l];                          \
                c[row + j] += alpha * sum;                                                                             \
            }                                                                                                          \
        }                                                                                                              \
    }

GEMM(fur_plain_gemm_f64, double)
GEMM(fur_plain_gemm_f32, float)

#define GEMV(NAME, REAL)                                                                                               \
    void NAME(bool transposed, int64_t m, int64_t n, const REAL *a, const REAL *x, REAL y[])                           \
    {                                                                                                                  \
        for (int64_t j = 0; j < n && transposed; j++)                                                                  \
            y[j] = 0;                                                                                                  \
        for (int64_t i = 0; i < m; i++) {                                                                              \
            REAL sum = 0;                                                                                              \
            for (int64_t j = 0; j < n; j++) {                                                                          \
                if (transposed)                                                                                        \
                    y[j] += a[i * n + j] * x[i];                                                                       \
                else                                                                                                   \
                    sum += a[i * n + j] * x[j];                                                                        \
            }                                                                                                          \
            if (!transposed)                                                                                           \
                y[i] = sum;                                                                                            \
        }                                                                                                              \
    }

GEMV(fur_plain_gemv_f64, double)
GEMV(fur_plain_gemv_f32, float)

bool fur_plain_cholesky(int64_t n, double *a, int64_t lda)
{
    for (int64_t j = 0; j < n; j++) {
        double d = a[j * lda + j];
        for (int64_t l = 0; l < j; l++)
            d -= a[j * lda + l] * a[j * lda + l];
        if (!(d > 0))
            return false;
        double root = sqrt(d);
        a[j * lda + j] = root;
        for (int64_t i = j + 1; i < n; i++) {
            double x = a[i * lda + j];
            for (int64_t l = 0; l < j; l++)
                x -= a[i * lda + l] * a[j * lda + l];
            a[i * lda + j] = x / root;
        }
    }
    return true;
}

void fur_plain_upper_solve(bool transposed, int64_t n, const double *r, int64_t ldr, int64_t columns, double *b,
                           int64_t ldb)
{
    for (int64_t step = 0; step < n; step++) {
        int64_t i = transposed ? step : n - 1 - step;
        for (int64_t done = 0; done < step; done++) {
            int64_t l = transposed ? done : n - 1 - done;
            double x = transposed ? r[l * ldr + i] : r[i * ldr + l];
            for (int64_t c = 0; c < columns; c++)
                b[i * ldb + c] -= x * b[l * ldb + c];
        }
        for (int64_t c = 0; c < columns; c++)
            b[i * ldb + c] /= r[i * ldr + i];
    }
}

void fur_plain_cholesky_solve(int64_t n, const double *l, int64_t ldl, int64_t columns, double *b, int64_t ldb)
{
    for (int64_t i = 0; i < n; i++) {
        for (int64_t p = 0; p < i; p++)
            for (int64_t c = 0; c < columns; c++)
                b[i * ldb + c] -= l[i * ldl + p] * b[p * ldb + c];
        for (int64_t c = 0; c < columns; c++)
            b[i * ldb + c] /= l[i * ldl + i];
    }
    for (int64_t i = n; i-- > 0;) {
        for (int64_t p = i + 1; p < n; p++)
            for (int64_t c = 0; c < columns; c++)
                b[i * ldb + c] -= l[p * ldl + i] * b[p * ldb + c];
        for (int64_t c = 0; c < columns; c++)
            b[i * ldb + c] /= l[i * ldl + i];
    }
}

/* Householder's vectors v_j stay in a below the diagonal while R forms above it; then Q is made from them. */
bool fur_plain_qr(int64_t m, int64_t n, double *a, double *r, double *work)
{
    double *beta = work;
    for (int64_t j = 0; j < n; j++) {
        double norm = 0;
        for (int64_t i = j; i < m; i++)
            norm = hypot(norm, a[i * n + j]);
        double head = a[j * n + j], x = head >= 0 ? -norm : norm;
        beta[j] = norm > 0 ? (x - head) / x : 0; /* 2 / v^T v, v scaled to v_j = 1 */
        for (int64_t i = j + 1; i < m && norm > 0; i++)
            a[i * n + j] /= head - x;
        a[j * n + j] = x;
        for (int64_t c = j + 1; c < n; c++) {
            double dot = a[j * n + c];
            for (int64_t i = j + 1; i < m; i++)
                dot += a[i * n + j] * a[i * n + c];
            dot *= beta[j];
            a[j * n + c] -= dot;
            for (int64_t i = j + 1; i < m; i++)
                a[i * n + c] -= dot * a[i * n + j];
        }
    }
    for (int64_t i = 0; i < n; i++)
        for (int64_t c = 0; c < n; c++)
            r[i * n + c] = c >= i ? a[i * n + c] : 0;
    for (int64_t j = n; j-- > 0;) { /* column j of Q, and the effect of v_j on those after it */
        for (int64_t c = j + 1; c < n; c++) {
            double dot = 0; /* row j of later columns is 0 so far */
            for (int64_t i = j + 1; i < m; i++)
                dot += a[i * n + j] * a[i * n + c];
            dot *= beta[j];
            a[j * n + c] = -dot;
            for (int64_t i = j + 1; i < m; i++)
                a[i * n + c] -= dot * a[i * n + j];
        }
        a[j * n + j] = 1 - beta[j];
        for (int64_t i = j + 1; i < m; i++)
            a[i * n + j] *= -beta[j];
        for (int64_t i = 0; i < j; i++)
            a[i * n + j] = 0;
    }
    return true;
}

/* One-sided Jacobi: columns of a are turned in pairs until each two are orthogonal. Every singular value is right to a
 * few units of its own last place where the columns' scales differ. */
bool fur_plain_svd(int64_t m, int64_t n, double *a, double *u, double *s, double *vt, double *work)
{
    (void)work;
    const double small = 1e-15;
    bool turned = true;
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++)
            vt[i * n + j] = i == j;
    for (int sweep = 0; turned && sweep < 60; sweep++) {
        turned = false;
        for (int64_t p = 0; p < n; p++)
            for (int64_t q = p + 1; q < n; q++) {
                double pp = 0, qq = 0, pq = 0;
                for (int64_t i = 0; i < m; i++) {
                    pp += a[i * n + p] * a[i * n + p];
                    qq += a[i * n + q] * a[i * n + q];
                    pq += a[i * n + p] * a[i * n + q];
                }
                if (!(fabs(pq) > small * sqrt(pp * qq)))
                    continue;
                turned = true;
                double zeta = (qq - pp) / (2 * pq);
                double t = (zeta >= 0 ? 1 : -1) / (fabs(zeta) + hypot(1, zeta));
                double cosine = 1 / hypot(1, t), sine = cosine * t;
                for (int64_t i = 0; i < m; i++) {
                    double x = a[i * n + p], y = a[i * n + q];
                    a[i * n + p] = cosine * x - sine * y;
                    a[i * n + q] = sine * x + cosine * y;
                }
                for (int64_t i = 0; i < n; i++) {
                    double x = vt[p * n + i], y = vt[q * n + i];
                    vt[p * n + i] = cosine * x - sine * y;
                    vt[q * n + i] = sine * x + cosine * y;
                }
            }
    }
    for (int64_t j = 0; j < n; j++) {
        s[j] = 0;
        for (int64_t i = 0; i < m; i++)
            s[j] = hypot(s[j], a[i * n + j]);
    }
    for (int64_t j = 0; j < n; j++) { /* falling */
        int64_t best = j;
        for (int64_t c = j + 1; c < n; c++)
            best = s[c] > s[best] ? c : best;
        double keep = s[j];
        s[j] = s[best];
        s[best] = keep;
        for (int64_t i = 0; i < n && best != j; i++) {
            double x = vt[j * n + i];
            vt[j * n + i] = vt[best * n + i];
            vt[best * n + i] = x;
        }
        for (int64_t i = 0; i < m; i++) {
            double x = a[i * n + best];
            a[i * n + best] = a[i * n + j];
            a[i * n + j] = x;
            u[i * n + j] = s[j] > 0 ? x / s[j] : 0;
        }
    }
    return !turned;
}

#if !FUR_HAVE_OPENBLAS

#    include "fit/la.h"

const char *fur_la_name(void)
{
    return "plain C";
}

void fur_la_gemm_f64(bool a_transposed, bool b_transposed, int64_t m, int64_t n, int64_t k, double alpha,
                     const double *a, int64_t lda, const double *b, int64_t ldb, double beta, double *c, int64_t ldc)
{
    fur_plain_gemm_f64(a_transposed, b_transposed, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}

void fur_la_gemm_f32(bool a_transposed, bool b_transposed, int64_t m, int64_t n, int64_t k, float alpha, const float *a,
                     int64_t lda, const float *b, int64_t ldb, float beta, float *c, int64_t ldc)
{
    fur_plain_gemm_f32(a_transposed, b_transposed, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}

void fur_la_gemv_f64(bool transposed, int64_t m, int64_t n, const double *a, const double *x, double *y)
{
    fur_plain_gemv_f64(transposed, m, n, a, x, y);
}

void fur_la_gemv_f32(bool transposed, int64_t m, int64_t n, const float *a, const float *x, float *y)
{
    fur_plain_gemv_f32(transposed, m, n, a, x, y);
}

void fur_la_syrk(bool a_transposed, int64_t n, int64_t k, double alpha, const double *a, int64_t lda, double beta,
                 double *c, int64_t ldc)
{
    fur_plain_gemm_f64(a_transposed, !a_transposed, n, n, k, alpha, a, lda, a, lda, beta, c, ldc);
}

bool fur_la_cholesky(int64_t n, double *a, int64_t lda)
{
    return fur_plain_cholesky(n, a, lda);
}

void fur_la_cholesky_solve(int64_t n, const double *l, int64_t ldl, int64_t columns, double *b, int64_t ldb)
{
    fur_plain_cholesky_solve(n, l, ldl, columns, b, ldb);
}

void fur_la_upper_solve(bool transposed, int64_t n, const double *r, int64_t ldr, int64_t columns, double *b,
                        int64_t ldb)
{
    fur_plain_upper_solve(transposed, n, r, ldr, columns, b, ldb);
}

int64_t fur_la_qr_work(int64_t n)
{
    return n;
}

bool fur_la_qr(int64_t m, int64_t n, double *a, double *r, double *work)
{
    return fur_plain_qr(m, n, a, r, work);
}

int64_t fur_la_svd_work(int64_t m, int64_t n)
{
    (void)m;
    return n;
}

bool fur_la_svd(int64_t m, int64_t n, double *a, double *u, double *s, double *vt, double *work)
{
    return fur_plain_svd(m, n, a, u, s, vt, work);
}

#endif
