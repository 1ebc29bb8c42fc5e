/* SPDX-License-Identifier: Apache-2.0 */
/* What an operator runs with: threads, instruction set, workspace, and where the text of an error goes. */
#ifndef FUR_BASE_EXEC_H
#define FUR_BASE_EXEC_H

#include "base/arena.h"
#include "base/error.h"

/* Ordered: a variant serves its own level and every higher one that has none of its own. The last two differ from
 * AVX-512 in products of bf16 alone. */
typedef enum fur_isa {
    FUR_ISA_REF = 0,
    FUR_ISA_AVX2 = 1,
    FUR_ISA_AVX512 = 2,
    FUR_ISA_AVX512BF16 = 3,
    FUR_ISA_AMX = 4,
    FUR_ISA_COUNT = 5
} fur_isa;

/* Type of the operands of products; sums, statistics, weights and gradients are f32 in both. */
typedef enum fur_compute { FUR_COMPUTE_F32 = 0, FUR_COMPUTE_BF16 = 1 } fur_compute;

/* "f32", "bf16"; anything else reads as -1. */
const char *fur_compute_name(fur_compute compute);
int fur_compute_from_name(const char *name);

typedef struct fur_exec {
    fur_error *error;
    int threads;          /* at least 1 */
    fur_isa isa;          /* highest variant allowed */
    fur_compute compute;  /* operands of matrix products and attention; other operators do not look */
    fur_arena *workspace; /* operators mark, push, release; never allocate */
} fur_exec;

typedef enum fur_place { FUR_PLACE_HOST = 0 } fur_place;

/* A big array and where it lives, so that a device backend changes no contract. */
typedef struct fur_buffer {
    void *data;
    int64_t bytes;
    fur_place place;
} fur_buffer;

#endif
