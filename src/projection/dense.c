/* SPDX-License-Identifier: Apache-2.0 */
/* Kind `dense`: y = x w^T + b by matrix products. */
#include "base/size.h"
#include "op/bias/bias.h"
#include "op/gemv/gemv.h"
#include "op/matmul/matmul.h"
#include "projection/kind.h"

static int64_t dense_elements(const fur_projection *map)
{
    return map->in * map->out;
}

static int64_t dense_rows(const fur_projection *map)
{
    (void)map;
    return 0;
}

static int64_t dense_workspace(const fur_exec *exec, const fur_projection *map, int64_t tokens, int backward)
{
    (void)backward;
    return fur_max_i64(fur_matmul_workspace(exec), map->bias ? fur_bias_workspace(exec, tokens, map->out) : 0);
}

static double dense_flops(const fur_projection *map)
{
    return 2.0 * (double)map->in * (double)map->out;
}

/* Bias sums run over whole rows. */
static fur_status check_contiguous(const fur_exec *exec, const fur_projection *map, int64_t ld)
{
    if (!map->bias || ld == map->out)
        return FUR_OK;
    return fur_error_set(exec->error, FUR_E_SHAPE,
                         "dense: a map with bias needs contiguous rows of %lld, stride is %lld", (long long)map->out,
                         (long long)ld);
}

static fur_status dense_prepare(const fur_exec *exec, const fur_projection *map, int64_t tokens, const float *x_TI,
                                int64_t ldx, fur_projection_input *out)
{
    if (ldx < map->in)
        return fur_error_set(exec->error, FUR_E_SHAPE, "dense: x[%lld,%lld] with row stride %lld", (long long)tokens,
                             (long long)map->in, (long long)ldx);
    *out = (fur_projection_input){.x_TI = x_TI, .tokens = tokens, .ldx = ldx};
    return FUR_OK;
}

static fur_status dense_forward(const fur_exec *exec, const fur_projection *map, const fur_projection_input *input,
                                int add, float *y_TO, int64_t ldy)
{
    FUR_TRY(check_contiguous(exec, map, ldy));
    fur_matmul_args product = {.m = input->tokens,
                               .n = map->out,
                               .k = map->in,
                               .a = input->x_TI,
                               .lda = input->ldx,
                               .b = map->weight,
                               .ldb = map->in,
                               .b_transposed = 1,
                               .c = y_TO,
                               .ldc = ldy,
                               .accumulate = add,
                               .bias_N = add ? NULL : map->bias};
    FUR_TRY(fur_matmul(exec, &product));
    return add && map->bias ? fur_bias_add(exec, input->tokens, map->out, map->bias, y_TO) : FUR_OK;
}

static fur_status dense_forward_few(const fur_exec *exec, const fur_projection *map, const fur_projection_input *input,
                                    int add, float *y_TO, int64_t ldy)
{
    fur_gemv_args product = {.type = FUR_GEMV_F32,
                             .tokens = input->tokens,
                             .in = map->in,
                             .out = map->out,
                             .w_OI = map->weight,
                             .x_TI = input->x_TI,
                             .ldx = input->ldx,
                             .bias_O = map->bias,
                             .add = add,
                             .y_TO = y_TO,
                             .ldy = ldy};
    return fur_gemv(exec, &product);
}

static fur_status dense_backward(const fur_exec *exec, const fur_projection *map, const fur_projection_input *input,
                                 const float *dy_TO, int64_t lddy, int add, float *dx_TI, int64_t lddx,
                                 const fur_gradient_sink *sink)
{
    if (sink && sink->weight) {
        fur_matmul_args weight = {.m = map->out,
                                  .n = map->in,
                                  .k = input->tokens,
                                  .a = dy_TO,
                                  .lda = lddy,
                                  .a_transposed = 1,
                                  .b = input->x_TI,
                                  .ldb = input->ldx,
                                  .c = sink->weight,
                                  .ldc = map->in,
                                  .accumulate = 1};
        FUR_TRY(fur_matmul(exec, &weight));
        FUR_TRY(check_contiguous(exec, map, lddy));
        if (sink->bias)
            FUR_TRY(fur_bias_backward(exec, input->tokens, map->out, dy_TO, sink->bias));
    }
    if (!dx_TI)
        return FUR_OK;
    fur_matmul_args product = {.m = input->tokens,
                               .n = map->in,
                               .k = map->out,
                               .a = dy_TO,
                               .lda = lddy,
                               .b = map->weight,
                               .ldb = map->in,
                               .c = dx_TI,
                               .ldc = lddx,
                               .accumulate = add};
    return fur_matmul(exec, &product);
}

const fur_projection_kind fur_projection_dense = {
    .name = "dense",
    .weight_elements = dense_elements,
    .weight_rows = dense_rows,
    .slowness = 1,
    .token_block = 4096,
    .workspace = dense_workspace,
    .flops = dense_flops,
    .prepare = dense_prepare,
    .forward = dense_forward,
    .forward_few = dense_forward_few,
    .backward = dense_backward,
};
