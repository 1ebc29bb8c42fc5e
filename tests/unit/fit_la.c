/* SPDX-License-Identifier: Apache-2.0 */
/* The fit's dense algebra against its plain form and against its own definition.
 *
 * Bounds, u = 2^-53 (2^-24 for f32): a sum of k products in any order is off by at most k u times the sum of absolute
 * terms. Q^T Q = 1 and Q R = A hold to 8 n u |A| for Householder's QR of n columns, U S V^T = A to 16 n u |A| and
 * L L^T = A to 4 n u |A| (Higham, Accuracy and Stability, 19.4, 10.3, with room for the growth of constants). */
#include "kit/kit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "fit/la.h"
#include "fit/la_plain.h"

static double *numbers(int64_t count, uint64_t seed)
{
    double *x = malloc((size_t)(count ? count : 1) * sizeof *x);
    assert_non_null(x);
    for (int64_t i = 0; i < count; i++)
        x[i] = 2 * fur_random_uniform(seed, 1, (uint64_t)i) - 1;
    return x;
}

static void test_products(void **state)
{
    (void)state;
    static const int64_t sizes[][3] = {{1, 1, 1}, {3, 5, 7}, {17, 9, 33}, {64, 65, 128}};
    for (int t = 0; t < 4; t++)
        for (int ta = 0; ta < 2; ta++)
            for (int tb = 0; tb < 2; tb++) {
                int64_t m = sizes[t][0], n = sizes[t][1], k = sizes[t][2], lda = (ta ? m : k) + 2,
                        ldb = (tb ? k : n) + 1;
                double *a = numbers((ta ? k : m) * lda, 1), *b = numbers((tb ? n : k) * ldb, 2), *c = numbers(m * n, 3);
                double *d = numbers(m * n, 3);
                float *af = malloc((size_t)((ta ? k : m) * lda) * 4), *bf = malloc((size_t)((tb ? n : k) * ldb) * 4);
                float *cf = malloc((size_t)(m * n) * 4);
                for (int64_t i = 0; i < (ta ? k : m) * lda; i++)
                    af[i] = (float)a[i];
                for (int64_t i = 0; i < (tb ? n : k) * ldb; i++)
                    bf[i] = (float)b[i];
                for (int64_t i = 0; i < m * n; i++)
                    cf[i] = NAN; /* beta 0 must not read it */
                fur_la_gemm_f64(ta, tb, m, n, k, 0.5, a, lda, b, ldb, 2, c, n);
                fur_plain_gemm_f64(ta, tb, m, n, k, 0.5, a, lda, b, ldb, 2, d, n);
                fur_la_gemm_f32(ta, tb, m, n, k, 1, af, lda, bf, ldb, 0, cf, n);
                for (int64_t i = 0; i < m; i++)
                    for (int64_t j = 0; j < n; j++) {
                        double sum = 0, size = 4;
                        for (int64_t l = 0; l < k; l++) {
                            double x =
                                (double)af[ta ? l * lda + i : i * lda + l] * (double)bf[tb ? j * ldb + l : l * ldb + j];
                            sum += x;
                            size += fabs(x);
                        }
                        assert_true(fabs(c[i * n + j] - d[i * n + j]) <= 2 * (double)(k + 2) * 0x1p-53 * (size + 4));
                        assert_true(fabs((double)cf[i * n + j] - sum) <= (double)(k + 2) * 0x1p-24 * size);
                    }
                free(a), free(b), free(c), free(d), free(af), free(bf), free(cf);
            }
}

static void test_vectors(void **state)
{
    (void)state;
    enum { M = 37, N = 21 };
    double *a = numbers(M * N, 1), *x = numbers(M, 2), y[M], z[M];
    float af[M * N], xf[M], yf[M], zf[M];
    for (int i = 0; i < M * N; i++)
        af[i] = (float)a[i];
    for (int i = 0; i < M; i++)
        xf[i] = (float)x[i];
    for (int transposed = 0; transposed < 2; transposed++) {
        fur_la_gemv_f64(transposed, M, N, a, x, y);
        fur_plain_gemv_f64(transposed, M, N, a, x, z);
        fur_la_gemv_f32(transposed, M, N, af, xf, yf);
        fur_plain_gemv_f32(transposed, M, N, af, xf, zf);
        for (int i = 0; i < (transposed ? N : M); i++) {
            assert_true(fabs(y[i] - z[i]) <= 2 * M * M * 0x1p-53);
            assert_true(fabsf(yf[i] - zf[i]) <= 2 * M * M * 0x1p-24f);
        }
    }
    free(a), free(x);
}

static void check_qr(int64_t m, int64_t n, int plain)
{
    double *a = numbers(m * n, 5), *q = numbers(m * n, 5), *r = numbers(n * n, 6), bound = 8 * (double)n * 0x1p-53;
    double *work = numbers(fur_la_qr_work(n), 7);
    assert_true(plain ? fur_plain_qr(m, n, q, r, work) : fur_la_qr(m, n, q, r, work));
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++) {
            double dot = 0;
            for (int64_t l = 0; l < m; l++)
                dot += q[l * n + i] * q[l * n + j];
            assert_true(fabs(dot - (i == j)) <= bound * sqrt((double)n));
            assert_true(j >= i || r[i * n + j] == 0.0);
        }
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) {
            double sum = 0;
            for (int64_t l = 0; l < n; l++)
                sum += q[i * n + l] * r[l * n + j];
            assert_true(fabs(sum - a[i * n + j]) <= bound * sqrt((double)m));
        }
    free(a), free(q), free(r), free(work);
}

static void check_svd(int64_t m, int64_t n, int plain)
{
    double *a = numbers(m * n, 8), *keep = numbers(m * n, 8), *u = numbers(m * n, 9), *s = numbers(n, 9);
    double *vt = numbers(n * n, 9), *work = numbers(fur_la_svd_work(m, n), 9);
    double bound = 16 * (double)n * 0x1p-53 * sqrt((double)(m * n));
    assert_true(plain ? fur_plain_svd(m, n, a, u, s, vt, work) : fur_la_svd(m, n, a, u, s, vt, work));
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) {
            double sum = 0;
            for (int64_t l = 0; l < n; l++)
                sum += u[i * n + l] * s[l] * vt[l * n + j];
            assert_true(fabs(sum - keep[i * n + j]) <= bound);
        }
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++) {
            double dot = 0;
            for (int64_t l = 0; l < n; l++)
                dot += vt[i * n + l] * vt[j * n + l];
            assert_true(fabs(dot - (i == j)) <= bound);
            assert_true(i == 0 || s[i] <= s[i - 1]);
        }
    free(a), free(keep), free(u), free(s), free(vt), free(work);
}

static void test_factors(void **state)
{
    (void)state;
    static const int64_t sizes[][2] = {{1, 1}, {5, 5}, {9, 4}, {70, 33}, {300, 64}};
    for (int t = 0; t < 5; t++)
        for (int plain = 0; plain < 2; plain++) {
            check_qr(sizes[t][0], sizes[t][1], plain);
            check_svd(sizes[t][0], sizes[t][1], plain);
        }
}

static void test_solves(void **state)
{
    (void)state;
    enum { N = 40, C = 3 };
    double *m = numbers(N * 2 * N, 1), a[N * N], l[N * N], b[N * C], x[N * C];
    memset(a, 0, sizeof a);
    fur_la_syrk(false, N, 2 * N, 1, m, 2 * N, 0, a, N);
    for (int i = 0; i < N; i++)
        for (int j = 0; j < i; j++)
            a[j * N + i] = a[i * N + j];
    for (int plain = 0; plain < 2; plain++) {
        memcpy(l, a, sizeof a);
        for (int i = 0; i < N * C; i++)
            x[i] = b[i] = cos(i);
        assert_true(plain ? fur_plain_cholesky(N, l, N) : fur_la_cholesky(N, l, N));
        if (plain)
            fur_plain_cholesky_solve(N, l, N, C, x, C);
        else
            fur_la_cholesky_solve(N, l, N, C, x, C);
        for (int i = 0; i < N; i++)
            for (int c = 0; c < C; c++) {
                double sum = 0, size = 1;
                for (int j = 0; j < N; j++) {
                    sum += a[i * N + j] * x[j * C + c];
                    size += fabs(a[i * N + j] * x[j * C + c]);
                }
                assert_true(fabs(sum - b[i * C + c]) <= 16 * N * 0x1p-53 * size * N);
            }
        for (int transposed = 0; transposed < 2; transposed++) { /* L^T is upper */
            double r[N * N] = {0};
            for (int i = 0; i < N; i++)
                for (int j = i; j < N; j++)
                    r[i * N + j] = l[j * N + i];
            memcpy(x, b, sizeof b);
            if (plain)
                fur_plain_upper_solve(transposed, N, r, N, C, x, C);
            else
                fur_la_upper_solve(transposed, N, r, N, C, x, C);
            for (int i = 0; i < N; i++) {
                double sum = 0, size = 1;
                for (int j = 0; j < N; j++) {
                    double t = (transposed ? r[j * N + i] : r[i * N + j]) * x[j * C];
                    sum += t;
                    size += fabs(t);
                }
                assert_true(fabs(sum - b[i * C]) <= 4 * N * 0x1p-53 * size);
            }
        }
    }
    a[7 * N + 7] = -1; /* not positive definite: said, not crashed */
    memcpy(l, a, sizeof a);
    assert_false(fur_la_cholesky(N, l, N));
    memcpy(l, a, sizeof a);
    assert_false(fur_plain_cholesky(N, l, N));
    free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_products), cmocka_unit_test(test_vectors),
                                       cmocka_unit_test(test_factors), cmocka_unit_test(test_solves)};
    print_message("dense algebra: %s\n", fur_la_name());
    return cmocka_run_group_tests(tests, NULL, NULL);
}
