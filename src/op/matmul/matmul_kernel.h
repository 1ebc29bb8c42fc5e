/* SPDX-License-Identifier: Apache-2.0 */
/* What matmul_bf16.c asks of a variant: packing and block products of one thread, on raw arrays, that cannot fail.
 *
 * A is packed as rows of pairs along k:   a[row][FUR_MATMUL_LD(k)] bf16, row-major
 * B as panels of FUR_MATMUL_PANEL columns:  b[panel][k / 2][column][2] bf16
 * Both with zeroes up to the next multiple of FUR_MATMUL_DEPTH of k and of the panel's columns, which is what products
 * of pairs and of tiles take as it lies. */
#ifndef FUR_OP_MATMUL_KERNEL_H
#define FUR_OP_MATMUL_KERNEL_H

#include "base/size.h"
#include "op/matmul/matmul.h"

#define FUR_MATMUL_PANEL 64
#define FUR_MATMUL_DEPTH 32
/* Rows packed or computed by one task: a multiple of every variant's strip of rows. */
#define FUR_MATMUL_ROWS 96

/* Words (pairs) per packed row; odd multiples of 64 bytes, so that rows do not fall into few cache sets. */
static inline int64_t fur_matmul_ld(int64_t k)
{
    return (fur_div_up(k, FUR_MATMUL_DEPTH) | 1) * (FUR_MATMUL_DEPTH / 2);
}

/* Pairs of a panel's depth. */
static inline int64_t fur_matmul_depth(int64_t k)
{
    return fur_div_up(k, FUR_MATMUL_DEPTH) * (FUR_MATMUL_DEPTH / 2);
}

/* One block of C: rows x one panel, over the whole packed depth. */
typedef struct fur_matmul_block {
    const uint32_t *a; /* [rows][lda], rows after the last one of C are zero up to the next strip */
    int64_t lda;
    const uint32_t *b; /* [depth][FUR_MATMUL_PANEL] */
    int64_t depth;     /* pairs */
    float *c;
    int64_t ldc, rows, columns; /* of C: 1..FUR_MATMUL_ROWS, 1..FUR_MATMUL_PANEL */
    int accumulate;
    const float *bias; /* [columns] or NULL */
} fur_matmul_block;

typedef struct fur_matmul_kernel {
    /* Rows [0, rows) of f32 `from` (element (i, k) at i * ld + k, transposed: k * ld + i), rounded, to `to`; rows up
     * to the next multiple of FUR_MATMUL_ROWS become zero. */
    void (*pack_rows)(const float *from, int64_t ld, int transposed, int64_t rows, int64_t k, uint32_t *to);
    /* Columns [0, columns) of one panel (element (k, j) at k * ld + j, transposed: j * ld + k). */
    void (*pack_panel)(const float *from, int64_t ld, int transposed, int64_t k, int64_t columns, uint32_t *to);
    void (*multiply)(const fur_matmul_block *block);
} fur_matmul_kernel;

extern const fur_matmul_kernel fur_matmul_avx2, fur_matmul_avx512, fur_matmul_avx512bf16, fur_matmul_amx;

/* The operator for exec->compute bf16 above `ref`; arguments are checked. */
fur_status fur_matmul_bf16(const fur_exec *exec, const fur_matmul_args *args);
int64_t fur_matmul_bf16_workspace(const fur_exec *exec);

#endif
