/* SPDX-License-Identifier: Apache-2.0 */
/* Products of bf16: what is packed, what is computed by whom.
 *
 * The library's bf16 products give other bits for other numbers of rows and threads (oneDNN 2.6.3, DESIGN.md, "Bits")
 * and want operands already converted; here conversion is packing, and an element's sum runs over k in one order
 * whatever the shape around it. So its bits depend on neither threads, nor rows, nor columns. */
#include <omp.h>

#include "op/matmul/matmul_kernel.h"

/* Words of each packed operand that a call holds at most: what does not fit is cut along rows (columns). */
#define PACKED_WORDS ((int64_t)1 << 21)
/* Longer sums go in parts through C. */
#define DEPTH_MOST 4096
/* Panels per task: so many reuse the rows of A in the second-level cache. */
#define TASK_PANELS 4
/* Below this many multiplications handing the product to threads costs more than it wins. */
#define ONE_THREAD_WORK ((int64_t)1 << 19)

static const fur_matmul_kernel *kernel_of(const fur_exec *exec)
{
    static const fur_matmul_kernel *const kernels[FUR_ISA_COUNT] = {
#if FUR_HAVE_AVX2
        [FUR_ISA_AVX2] = &fur_matmul_avx2,
#endif
#if FUR_HAVE_AVX512
        [FUR_ISA_AVX512] = &fur_matmul_avx512,
#endif
#if FUR_HAVE_AVX512BF16
        [FUR_ISA_AVX512BF16] = &fur_matmul_avx512bf16,
#endif
#if FUR_HAVE_AMX
        [FUR_ISA_AMX] = &fur_matmul_amx,
#endif
    };
    return kernels[exec->isa];
}

/* A part of the product whose packed operands fit. */
typedef struct part {
    const fur_matmul_kernel *kernel;
    const fur_matmul_args *g;
    int64_t k0, k, i0, rows, j0, columns;
    uint32_t *a, *b;
} part;

static void pack_a(const part *x, int64_t strip)
{
    const fur_matmul_args *g = x->g;
    int64_t i = strip * FUR_MATMUL_ROWS, at = x->i0 + i;
    const float *from = g->a + (g->a_transposed ? x->k0 * g->lda + at : at * g->lda + x->k0);
    x->kernel->pack_rows(from, g->lda, g->a_transposed, fur_min_i64(FUR_MATMUL_ROWS, x->rows - i), x->k,
                         x->a + i * fur_matmul_ld(x->k));
}

static void pack_b(const part *x, int64_t panel)
{
    const fur_matmul_args *g = x->g;
    int64_t j = panel * FUR_MATMUL_PANEL, at = x->j0 + j;
    const float *from = g->b + (g->b_transposed ? at * g->ldb + x->k0 : x->k0 * g->ldb + at);
    x->kernel->pack_panel(from, g->ldb, g->b_transposed, x->k, fur_min_i64(FUR_MATMUL_PANEL, x->columns - j),
                          x->b + j * fur_matmul_depth(x->k));
}

static void multiply(const part *x, int64_t strip, int64_t panel)
{
    const fur_matmul_args *g = x->g;
    int64_t i = strip * FUR_MATMUL_ROWS, j = panel * FUR_MATMUL_PANEL, at = x->j0 + j;
    fur_matmul_block block = {.a = x->a + i * fur_matmul_ld(x->k),
                              .lda = fur_matmul_ld(x->k),
                              .b = x->b + j * fur_matmul_depth(x->k),
                              .depth = fur_matmul_depth(x->k),
                              .c = g->c + (x->i0 + i) * g->ldc + at,
                              .ldc = g->ldc,
                              .rows = fur_min_i64(FUR_MATMUL_ROWS, x->rows - i),
                              .columns = fur_min_i64(FUR_MATMUL_PANEL, x->columns - j),
                              .accumulate = g->accumulate || x->k0 > 0,
                              .bias = g->bias_N && x->k0 == 0 ? g->bias_N + at : NULL};
    x->kernel->multiply(&block);
}

static void run_part(const fur_exec *exec, const part *x, int pack_a_too, int pack_b_too)
{
    int64_t strips = fur_div_up(x->rows, FUR_MATMUL_ROWS), panels = fur_div_up(x->columns, FUR_MATMUL_PANEL);
    int64_t groups = fur_div_up(panels, TASK_PANELS), to_pack = pack_a_too * strips + pack_b_too * panels;
    int alone = x->rows * x->columns / 64 * x->k < ONE_THREAD_WORK / 64;
#pragma omp parallel num_threads(exec->threads) if (exec->threads > 1 && !alone)
    {
#pragma omp for schedule(dynamic, 1)
        for (int64_t i = 0; i < to_pack; i++) {
            if (i < pack_b_too * panels)
                pack_b(x, i);
            else
                pack_a(x, i - pack_b_too * panels);
        }
#pragma omp for schedule(dynamic, 1)
        for (int64_t task = 0; task < strips * groups; task++) {
            int64_t first = task / strips * TASK_PANELS, last = fur_min_i64(panels, first + TASK_PANELS);
            for (int64_t panel = first; panel < last; panel++)
                multiply(x, task % strips, panel);
        }
    }
}

/* The operand that fits as a whole is packed once, each part of the other once or, where neither does, once for each
 * part of the columns. */
static void run_depth(const fur_exec *exec, part *x)
{
    const fur_matmul_args *g = x->g;
    int64_t most_rows = PACKED_WORDS / fur_matmul_ld(x->k) / FUR_MATMUL_ROWS * FUR_MATMUL_ROWS;
    int64_t most_columns = PACKED_WORDS / fur_matmul_depth(x->k) / FUR_MATMUL_PANEL * FUR_MATMUL_PANEL;
    int a_is_packed = 0;
    for (x->j0 = 0; x->j0 < g->n; x->j0 += most_columns) {
        x->columns = fur_min_i64(most_columns, g->n - x->j0);
        for (x->i0 = 0; x->i0 < g->m; x->i0 += most_rows) {
            x->rows = fur_min_i64(most_rows, g->m - x->i0);
            run_part(exec, x, !a_is_packed, x->i0 == 0);
            a_is_packed = g->m <= most_rows;
        }
    }
}

fur_status fur_matmul_bf16(const fur_exec *exec, const fur_matmul_args *args)
{
    int64_t mark = fur_arena_mark(exec->workspace);
    part x = {.kernel = kernel_of(exec), .g = args};
    x.a = fur_arena_push(exec->workspace, PACKED_WORDS * (int64_t)sizeof *x.a);
    x.b = fur_arena_push(exec->workspace, PACKED_WORDS * (int64_t)sizeof *x.b);
    if (!x.a || !x.b) {
        fur_arena_release(exec->workspace, mark);
        return fur_error_set(exec->error, FUR_E_MEMORY, "matmul: workspace lacks %lld bytes for packed operands",
                             (long long)fur_matmul_bf16_workspace(exec));
    }
    for (x.k0 = 0; x.k0 < args->k; x.k0 += DEPTH_MOST) {
        x.k = fur_min_i64(DEPTH_MOST, args->k - x.k0);
        run_depth(exec, &x);
    }
    fur_arena_release(exec->workspace, mark);
    return FUR_OK;
}

int64_t fur_matmul_bf16_workspace(const fur_exec *exec)
{
    (void)exec;
    return 2 * fur_round_up(PACKED_WORDS * (int64_t)sizeof(uint32_t), FUR_ARENA_ALIGN);
}
