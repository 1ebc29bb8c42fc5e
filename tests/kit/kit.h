/* SPDX-License-Identifier: Apache-2.0 */
/* What tests share: an exec over a workspace, every instruction set of this machine, fills, and comparison against an
 * error bound per element. Include before anything else in a test: it brings cmocka and its prerequisites. */
#ifndef FUR_TESTS_KIT_H
#define FUR_TESTS_KIT_H

/* cmocka wants these four first */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/exec.h"

/* 2^-24: unit round-off of f32. Bounds are k * u * (sum of absolute terms). */
#define KIT_U 5.9604644775390625e-8

typedef struct kit_exec {
    fur_exec exec;
    fur_error error;
    fur_arena workspace;
} kit_exec;

/* Ready exec with `workspace_bytes` of workspace; aborts the test on failure. */
void kit_exec_init(kit_exec *kit, fur_isa isa, int threads, int64_t workspace_bytes);
void kit_exec_clear(kit_exec *kit);

/* Highest instruction set this machine can run; loops go from FUR_ISA_REF to it. */
fur_isa kit_best_isa(void);

typedef enum kit_fill { KIT_NORMAL, KIT_TINY, KIT_HUGE, KIT_ZERO } kit_fill;
/* KIT_NORMAL: N(0,1); KIT_TINY: about 1e-30; KIT_HUGE: about 1e4. Deterministic in seed. */
void kit_fill_f32(float *x, int64_t count, kit_fill fill, uint64_t seed);

/* Arrays whose end touches a page that faults, so that a read or write past it is caught; filled with NaN, so that one
 * that is read before it is written shows. Free one with kit_guard_free, or all alive with kit_guard_free_all. */
void *kit_guard(size_t bytes);
float *kit_guard_f32(int64_t count);
float *kit_guard_filled(int64_t count, kit_fill fill, uint64_t seed);
float *kit_guard_copy(const float *from, int64_t count);
void kit_guard_free(void *pointer);
void kit_guard_free_all(void);

/* Fails, printing the worst element, unless |got[i] - want[i]| <= bound[i] for all i (NaN fails). bound may be a single
 * value repeated: bound_stride 0. Returns the worst ratio of error to bound. */
double kit_check_bound(const char *what, const float *got, const double *want, const double *bound, int bound_stride,
                       int64_t count);
/* Fails unless the arrays are the same bytes. */
void kit_check_same_bits(const char *what, const void *a, const void *b, size_t bytes);

#endif
