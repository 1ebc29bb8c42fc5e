/* SPDX-License-Identifier: Apache-2.0 */
/* The grid of tiles, the threads, and the choice between library and reference. */
#include "op/matmul/matmul.h"

#include <omp.h>

#include "base/size.h"
#include "op/matmul/matmul_dnnl.h"
#include "op/matmul/matmul_kernel.h"

/* A tile and its packed operands stay within a second-level cache of 1 MiB, and there are enough tiles to share out
 * among threads without the grid depending on how many there are. */
#define TILE_M_MAX   512
#define TILE_N_MAX   512
#define TILE_MIN     64
#define WANTED_TILES 16
/* Below this many multiplications a product is one tile: handing it to threads costs more than it wins. */
#define ONE_TILE_WORK ((int64_t)1 << 18)
/* Longer sums are cut, so that the library's packed copies fit the scratch that every thread reserves. */
#define K_MAX 4096

typedef struct grid {
    int64_t tile_m, tile_n, rows, columns; /* rows x columns tiles */
} grid;

static grid choose_grid(int64_t m, int64_t n, int64_t k)
{
    grid g = {.tile_m = fur_min_i64(m, TILE_M_MAX), .tile_n = fur_min_i64(n, TILE_N_MAX)};
    int64_t work = m * n / 64 * k;
    for (;;) {
        g.rows = fur_div_up(m, g.tile_m);
        g.columns = fur_div_up(n, g.tile_n);
        if (g.rows * g.columns >= WANTED_TILES || work * 64 < ONE_TILE_WORK)
            return g;
        if (g.tile_n >= g.tile_m && g.tile_n > TILE_MIN)
            g.tile_n = fur_round_up(fur_div_up(g.tile_n, 2), TILE_MIN);
        else if (g.tile_m > TILE_MIN)
            g.tile_m = fur_round_up(fur_div_up(g.tile_m, 2), 16);
        else
            return g;
    }
}

static fur_status check(const fur_exec *exec, const fur_matmul_args *g)
{
    int64_t a_columns = g->a_transposed ? g->m : g->k, b_columns = g->b_transposed ? g->k : g->n;
    if (g->m < 0 || g->n < 0 || g->k < 0 || g->lda < a_columns || g->ldb < b_columns || g->ldc < g->n ||
        g->m > INT32_MAX || g->n > INT32_MAX || (g->bias_N && g->accumulate))
        return fur_error_set(
            exec->error, FUR_E_SHAPE, "matmul: C[%lld,%lld] ld %lld, A ld %lld%s, B ld %lld%s, K %lld%s",
            (long long)g->m, (long long)g->n, (long long)g->ldc, (long long)g->lda,
            g->a_transposed ? " transposed" : "", (long long)g->ldb, g->b_transposed ? " transposed" : "",
            (long long)g->k, g->bias_N && g->accumulate ? ", bias with accumulate" : "");
    return FUR_OK;
}

/* The part of the product that tile (row, column) and K range [k0, k0 + k) cover. */
static fur_matmul_args tile_of(const fur_matmul_args *g, const grid *cut, int64_t row, int64_t column, int64_t k0,
                               int64_t k)
{
    fur_matmul_args t = *g;
    int64_t i = row * cut->tile_m, j = column * cut->tile_n;
    t.m = fur_min_i64(cut->tile_m, g->m - i);
    t.n = fur_min_i64(cut->tile_n, g->n - j);
    t.k = k;
    t.a = g->a + (g->a_transposed ? k0 * g->lda + i : i * g->lda + k0);
    t.b = g->b + (g->b_transposed ? j * g->ldb + k0 : k0 * g->ldb + j);
    t.c = g->c + i * g->ldc + j;
    t.accumulate = g->accumulate || k0 > 0;
    t.bias_N = g->bias_N && k0 == 0 ? g->bias_N + j : NULL;
    return t;
}

static fur_status run_by_reference(const fur_exec *exec, const fur_matmul_args *g, const grid *cut)
{
    int64_t tiles = cut->rows * cut->columns;
#pragma omp parallel for num_threads(exec->threads) schedule(static) if (exec->threads > 1 && tiles > 1)
    for (int64_t tile = 0; tile < tiles; tile++) {
        fur_matmul_args part = tile_of(g, cut, tile / cut->columns, tile % cut->columns, 0, g->k);
        if (exec->compute == FUR_COMPUTE_BF16)
            fur_matmul_bf16_ref(&part);
        else
            fur_matmul_ref(&part);
    }
    return FUR_OK;
}

static fur_status run_by_library(const fur_exec *exec, const fur_matmul_args *g, const grid *cut, int64_t k0, int64_t k)
{
    /* At most four shapes of tile: inner, last column, last row, corner. */
    fur_dnnl_product *product[2][2] = {{NULL}};
    fur_status status = FUR_OK;
    for (int r = 0; r < 2 && status == FUR_OK; r++)
        for (int c = 0; c < 2 && status == FUR_OK; c++) {
            fur_matmul_args part = tile_of(g, cut, r ? cut->rows - 1 : 0, c ? cut->columns - 1 : 0, k0, k);
            status = fur_dnnl_product_acquire(exec->error, &part, &product[r][c]);
        }
    int64_t mark = fur_arena_mark(exec->workspace);
    char *scratch = fur_arena_push(exec->workspace, exec->threads * FUR_DNNL_SCRATCH_BYTES);
    if (status == FUR_OK && !scratch)
        status = fur_error_set(exec->error, FUR_E_MEMORY, "matmul: workspace lacks %lld bytes of scratch",
                               (long long)(exec->threads * FUR_DNNL_SCRATCH_BYTES));
    if (status == FUR_OK) {
        int64_t tiles = cut->rows * cut->columns;
        int failed = 0;
        /* Some of the library's products choose threads when they run: outside a parallel region they must see one. */
        int saved_threads = omp_get_max_threads();
        omp_set_num_threads(1);
#pragma omp parallel for num_threads(exec->threads) schedule(dynamic, 1)                                               \
    reduction(|                                                                                                        \
              : failed) if (exec->threads > 1 && tiles > 1)
        for (int64_t tile = 0; tile < tiles; tile++) {
            int64_t row = tile / cut->columns, column = tile % cut->columns;
            fur_matmul_args part = tile_of(g, cut, row, column, k0, k);
            failed |= fur_dnnl_product_run(product[row == cut->rows - 1][column == cut->columns - 1], &part,
                                           scratch + omp_get_thread_num() * FUR_DNNL_SCRATCH_BYTES);
        }
        omp_set_num_threads(saved_threads);
        if (failed)
            status = fur_error_set(exec->error, FUR_E_MEMORY, "matmul: oneDNN could not run a product");
    }
    fur_arena_release(exec->workspace, mark);
    for (int r = 0; r < 2; r++)
        for (int c = 0; c < 2; c++)
            fur_dnnl_product_release(product[r][c]);
    return status;
}

fur_status fur_matmul(const fur_exec *exec, const fur_matmul_args *g)
{
    FUR_TRY(check(exec, g));
    if (g->m == 0 || g->n == 0)
        return FUR_OK;
    if (exec->compute == FUR_COMPUTE_BF16 && exec->isa > FUR_ISA_REF && g->k > 0)
        return fur_matmul_bf16(exec, g);
    grid cut = choose_grid(g->m, g->n, g->k);
    if (exec->isa == FUR_ISA_REF || !FUR_HAVE_DNNL || g->k == 0)
        return run_by_reference(exec, g, &cut);
    for (int64_t k0 = 0; k0 < g->k; k0 += K_MAX)
        FUR_TRY(run_by_library(exec, g, &cut, k0, fur_min_i64(K_MAX, g->k - k0)));
    return FUR_OK;
}

int64_t fur_matmul_workspace(const fur_exec *exec)
{
    if (exec->compute == FUR_COMPUTE_BF16)
        return exec->isa == FUR_ISA_REF ? 0 : fur_matmul_bf16_workspace(exec);
    return exec->isa == FUR_ISA_REF || !FUR_HAVE_DNNL ? 0 : exec->threads * FUR_DNNL_SCRATCH_BYTES;
}
