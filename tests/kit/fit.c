/* SPDX-License-Identifier: Apache-2.0 */
#include "kit/fit.h"
#include "kit/model.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"

void kit_fit_fill(double *x, int64_t count, uint64_t seed)
{
    for (int64_t i = 0; i < count; i++)
        x[i] = 2 * fur_random_uniform(seed, 77, (uint64_t)i) - 1;
}

static double *numbers(int64_t rows, int64_t width, uint64_t seed)
{
    double *x = malloc((size_t)(rows * width) * sizeof *x);
    assert_non_null(x);
    kit_fit_fill(x, rows * width, seed);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t c = 0; c < width; c++)
            x[i * width + c] = 2 * x[i * width + c] / sqrt((double)(c + 1)) + 0.3;
    return x;
}

void kit_fit_init(kit_fit *kit, const kit_fit_case *what, int threads)
{
    fur_fit_arrays arrays;
    memset(kit, 0, sizeof *kit);
    kit->context = kit_context(threads);
    fur_fit_arrays_defaults(&arrays);
    int64_t n = what->sequences * what->rows, m = what->keys ? what->sequences * what->keys : n;
    int64_t *queries = malloc((size_t)what->sequences * 8), *keys = malloc((size_t)what->sequences * 8);
    for (int64_t s = 0; s < what->sequences; s++) {
        queries[s] = what->rows;
        keys[s] = what->keys ? what->keys : what->rows;
    }
    double *a1 = numbers(n, what->d1, what->seed), *a2 = numbers(m, what->d2, what->seed + 1);
    double *a3 = numbers(m, what->d3, what->seed + 2), *b = numbers(n, what->dv, what->seed + 3);
    double *weights = malloc((size_t)n * 8);
    for (int64_t i = 0; i < n; i++)
        weights[i] = 0.25 + fur_random_uniform(what->seed, 5, (uint64_t)i);
    weights[n / 3] = 0;
    bool shared = what->keys == 0 && what->d1 == what->d2 && what->d1 == what->d3;
    arrays.sequences = what->sequences;
    arrays.query_lengths = queries;
    arrays.key_lengths = keys;
    arrays.a1_width = what->d1;
    arrays.a2_width = what->d2;
    arrays.a3_width = what->d3;
    arrays.b_width = what->dv;
    arrays.a1 = a1;
    arrays.a2 = shared ? a1 : a2;
    arrays.a3 = shared ? a1 : a3;
    arrays.b = b;
    arrays.weights = what->weighted ? weights : NULL;
    assert_int_equal(fur_fit_data_create(kit->context, &arrays, &kit->data), FUR_OK);
    free(queries), free(keys), free(a1), free(a2), free(a3), free(b), free(weights);
    fit_shape shape = {.heads = what->heads,
                       .held_out = what->held_out,
                       .causal = what->causal,
                       .tile_rows = what->tile_rows,
                       .tile_keys = what->tile_keys,
                       .store_whitened = what->seed % 2 == 0,
                       .centre = true};
    kit->exec = kit->context->exec;
    kit->exec.workspace = &kit->workspace;
    assert_int_equal(fur_arena_create(&kit->context->error, (int64_t)256 << 20, &kit->arena), FUR_OK);
    assert_int_equal(fur_arena_create(&kit->context->error, (int64_t)256 << 20, &kit->workspace), FUR_OK);
    fur_status status = fit_problem_make(&kit->exec, &kit->arena, kit->data, &shape, &kit->problem);
    if (status != FUR_OK)
        print_error("%s\n", kit->context->error.text);
    assert_int_equal(status, FUR_OK);
    kit->problem.ridge = what->ridge;
    fit_point_push(&kit->problem, &kit->arena, &kit->point);
}

void kit_fit_clear(kit_fit *kit)
{
    fur_arena_destroy(&kit->arena);
    fur_arena_destroy(&kit->workspace);
    fur_fit_data_close(kit->data);
    fur_context_destroy(kit->context);
}
