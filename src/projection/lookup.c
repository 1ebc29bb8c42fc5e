/* SPDX-License-Identifier: Apache-2.0 */
/* Kind `lookup`: y = b + sum of weighted table rows picked by sign bits of x (op/lookup). */
#include "op/lookup/lookup.h"

#include <string.h>

#include "op/adamw/adamw.h"
#include "projection/kind.h"

/* Tokens over which a pass over the tables pays for itself (docs/NUMERICS.md, "Look-up tables"). */
#define LOOKUP_TOKEN_BLOCK 16384

static fur_lookup lookup_of(const fur_projection *map)
{
    return (fur_lookup){.in = map->in,
                        .out = map->out,
                        .bits = map->lookup.bits,
                        .score = map->lookup.score,
                        .temperature = map->lookup.temperature,
                        .two_rows = map->lookup.two_rows,
                        .layout = map->rows.table ? FUR_LOOKUP_ROWS : FUR_LOOKUP_TILES,
                        .type = map->rows.type,
                        .table = map->rows.table ? map->rows.table : map->weight,
                        .row_scale_KR = map->rows.scale_R,
                        .bias_O = map->bias};
}

static int64_t lookup_elements(const fur_projection *map)
{
    fur_lookup lookup = lookup_of(map);
    return fur_lookup_table_elements(&lookup);
}

static int64_t lookup_rows(const fur_projection *map)
{
    fur_lookup lookup = lookup_of(map);
    return fur_lookup_tables(&lookup) * fur_lookup_rows(&lookup);
}

static int64_t lookup_workspace(const fur_exec *exec, const fur_projection *map, int64_t tokens, int backward)
{
    fur_lookup lookup = lookup_of(map);
    return fur_lookup_codes_bytes(&lookup, tokens) + fur_lookup_workspace(exec, &lookup, tokens, backward);
}

/* A multiplication and an addition for each table and output. */
static double lookup_flops(const fur_projection *map)
{
    fur_lookup lookup = lookup_of(map);
    return 2.0 * (double)fur_lookup_slots(&lookup) * (double)map->out;
}

static fur_status lookup_prepare(const fur_exec *exec, const fur_projection *map, int64_t tokens, const float *x_TI,
                                 int64_t ldx, fur_projection_input *out)
{
    fur_lookup lookup = lookup_of(map);
    int64_t bytes = fur_lookup_codes_bytes(&lookup, tokens);
    void *memory = fur_arena_push(exec->workspace, bytes);
    if (!memory && bytes > 0)
        return fur_error_set(exec->error, FUR_E_MEMORY, "lookup: workspace too small for codes of %lld tokens",
                             (long long)tokens);
    *out = (fur_projection_input){.x_TI = x_TI, .tokens = tokens, .ldx = ldx};
    fur_lookup_codes_place(&lookup, tokens, memory, &out->codes);
    return fur_lookup_hash(exec, &lookup, x_TI, ldx, &out->codes);
}

static fur_status lookup_forward(const fur_exec *exec, const fur_projection *map, const fur_projection_input *input,
                                 int add, float *y_TO, int64_t ldy)
{
    fur_lookup lookup = lookup_of(map);
    return fur_lookup_forward(exec, &lookup, &input->codes, add, y_TO, ldy);
}

static fur_status lookup_backward(const fur_exec *exec, const fur_projection *map, const fur_projection_input *input,
                                  const float *dy_TO, int64_t lddy, int add, float *dx_TI, int64_t lddx,
                                  const fur_gradient_sink *sink)
{
    fur_lookup lookup = lookup_of(map);
    if (sink)
        FUR_TRY(fur_lookup_backward_tables(exec, &lookup, &input->codes, dy_TO, lddy, sink->weight, sink->touched_R,
                                           sink->bias));
    if (!dx_TI)
        return FUR_OK;
    return fur_lookup_backward_input(exec, &lookup, &input->codes, input->x_TI, input->ldx, dy_TO, lddy, add, dx_TI,
                                     lddx);
}

static fur_status lookup_sum_squares(const fur_exec *exec, const fur_projection *map, const fur_gradient_sink *gradient,
                                     double *out)
{
    fur_lookup lookup = lookup_of(map);
    return fur_lookup_sum_squares(exec, &lookup, gradient->weight, gradient->touched_R, gradient->square_R,
                                  gradient->even_O, out);
}

/* Adam over all rows, whether a token used them or not: what the lazy update is measured against. */
static fur_status update_all_rows(const fur_exec *exec, const fur_lookup *lookup, const fur_gradient_sink *gradient,
                                  const fur_lookup_update *args, float *weight, const fur_row_moments *moments)
{
    int64_t elements = fur_lookup_table_elements(lookup);
    int64_t rows = fur_lookup_tables(lookup) * fur_lookup_rows(lookup);
    for (int64_t at = 0; at < elements; at += FUR_LOOKUP_TILE)
        if (!gradient->touched_R[at / FUR_LOOKUP_TILE % rows])
            memset(gradient->weight + at, 0, FUR_LOOKUP_TILE * sizeof(float));
    fur_adamw_args adam = {.lr = args->lr,
                           .beta1 = args->beta1,
                           .beta2 = args->beta2,
                           .eps = args->eps,
                           .weight_decay = args->weight_decay,
                           .step = args->step,
                           .grad_scale = args->grad_scale};
    return fur_adamw_step(exec, elements, weight, gradient->weight, moments->m, moments->v, &adam);
}

static fur_status lookup_catch_up(const fur_exec *exec, const fur_projection *map, const fur_projection_input *input,
                                  const fur_lookup_update *args, float *weight, const fur_row_moments *moments)
{
    if (moments->m)
        return FUR_OK; /* dense Adam leaves no row behind */
    fur_lookup lookup = lookup_of(map);
    fur_lookup_moments lazy = {moments->m_bf16, moments->v_R, moments->step_R};
    return fur_lookup_catch_up(exec, &lookup, input ? &input->codes : NULL, weight, &lazy, args);
}

static fur_status lookup_update(const fur_exec *exec, const fur_projection *map, const fur_gradient_sink *gradient,
                                const fur_lookup_update *args, float *weight, const fur_row_moments *moments)
{
    fur_lookup lookup = lookup_of(map);
    if (moments->m)
        return update_all_rows(exec, &lookup, gradient, args, weight, moments);
    fur_lookup_moments lazy = {moments->m_bf16, moments->v_R, moments->step_R};
    return fur_lookup_update_lazy(exec, &lookup, weight, gradient->weight, gradient->touched_R, gradient->square_R,
                                  gradient->even_O, &lazy, args);
}

static fur_status lookup_count_use(const fur_exec *exec, const fur_projection *map, const fur_projection_input *input,
                                   uint32_t *count_R)
{
    fur_lookup lookup = lookup_of(map);
    return fur_lookup_count_rows(exec, &lookup, &input->codes, count_R);
}

const fur_projection_kind fur_projection_lookup = {
    .name = "lookup",
    .weight_elements = lookup_elements,
    .weight_rows = lookup_rows,
    .workspace = lookup_workspace,
    .flops = lookup_flops,
    .slowness = 5, /* memory's rate, not the multipliers' */
    .token_block = LOOKUP_TOKEN_BLOCK,
    .prepare = lookup_prepare,
    .forward = lookup_forward,
    .backward = lookup_backward,
    .catch_up = lookup_catch_up,
    .sum_squares = lookup_sum_squares,
    .update = lookup_update,
    .count_use = lookup_count_use,
};
