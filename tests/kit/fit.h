/* SPDX-License-Identifier: Apache-2.0 */
/* Problems of a fit for tests: made from seeds, laid out on an arena as a run lays them out. */
#ifndef FUR_TESTS_KIT_FIT_H
#define FUR_TESTS_KIT_FIT_H

#include "fit/curvature.h"
#include "kit/kit.h"

typedef struct kit_fit_case {
    int64_t sequences, rows, keys; /* of each sequence; keys 0: as rows, and one array x for all */
    int64_t d1, d2, d3, dv, heads;
    bool causal, weighted;
    int64_t tile_rows, tile_keys;
    double held_out, ridge;
    uint64_t seed;
} kit_fit_case;

typedef struct kit_fit {
    fur_context *context;
    fur_fit_data *data;
    fur_exec exec;
    fur_arena arena, workspace;
    fit_problem problem;
    fit_point point;
} kit_fit;

/* Inputs with a spectrum, a planted target with noise; ready to evaluate. */
void kit_fit_init(kit_fit *kit, const kit_fit_case *what, int threads);
void kit_fit_clear(kit_fit *kit);
/* Numbers in [-1, 1]. */
void kit_fit_fill(double *x, int64_t count, uint64_t seed);

#endif
