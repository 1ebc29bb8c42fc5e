/* SPDX-License-Identifier: Apache-2.0 */
/* Matrix product of row-major matrices:  C[M,N] = (accumulate ? C : 0) + op(A)[M,K] op(B)[K,N] (+ bias[N]).
 *
 * op(A) is A[M,K] with row stride lda, or, when a_transposed, the transpose of A[K,M]; op(B) likewise of B[K,N] or
 * B[N,K]. C overlaps neither operand. The three products of a projection y = x w^T + b with w[out,in]:
 *   y[T,out]  = x  * transposed(w)       dx[T,in]  = dy * w        dw[out,in] += transposed(dy) * x
 *
 * The result is cut into a grid of tiles that depends on the sizes alone; each tile is one single-threaded product and
 * sums over K in one order, so the bits do not depend on the thread count. Products run in oneDNN (DESIGN.md,
 * dependencies); at isa `ref`, and in builds without it, the plain C reference with double accumulators.
 * Error bound per element: (K + 8) u sum_k |a_ik b_kj| with u = 2^-24 (any order of an f32 sum), reference 2 u |c|.
 *
 * All arrays are f32. With exec->compute bf16 each element of A and B is first rounded to bf16 (nearest, ties to even);
 * products and sums are f32, the bound is the same with the rounded elements, except that products of pairs
 * (avx512bf16, amx) take and give subnormal numbers as zero. These products are our own (matmul_bf16.c): an element's
 * bits depend on its row of A and its column of B alone, not on the shape around them, nor on threads. */
#ifndef FUR_OP_MATMUL_H
#define FUR_OP_MATMUL_H

#include "base/exec.h"

typedef struct fur_matmul_args {
    int64_t m, n, k;
    const float *a;
    int64_t lda;
    int a_transposed;
    const float *b;
    int64_t ldb;
    int b_transposed;
    float *c;
    int64_t ldc;
    int accumulate;
    const float *bias_N; /* or NULL; not together with accumulate */
} fur_matmul_args;

/* Errors: FUR_E_SHAPE; FUR_E_MEMORY (workspace too small or the library out of memory); FUR_E_INTERNAL. */
fur_status fur_matmul(const fur_exec *exec, const fur_matmul_args *g);

/* Bytes that any call pushes on exec->workspace: the library's scratch, a fixed amount per thread. */
int64_t fur_matmul_workspace(const fur_exec *exec);

/* Caps the library's instruction set. Per process: the first call decides, a later different one is refused once a
 * product has run. */
fur_status fur_matmul_limit_isa(fur_error *error, fur_isa isa);
/* Frees the cached primitives of the process; no product may be running. */
void fur_matmul_cache_clear(void);

/* The definition of correct: double accumulators, single thread. */
void fur_matmul_ref(const fur_matmul_args *g);
void fur_matmul_bf16_ref(const fur_matmul_args *g);

#endif
