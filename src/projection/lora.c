/* SPDX-License-Identifier: Apache-2.0 */
/* Kind `lora`: another kind's map, frozen, and beside it y += scale B (A x) with A[rank,in] and B[out,rank], which are
 * what is trained (arXiv 2106.09685, section 4.1). With t = scale A x and u = scale transposed(B) dy:
 *   y += B t,   dB += dy transposed(t),   dA += u transposed(x),   dx += transposed(A) u. */
#include "op/matmul/matmul.h"
#include "projection/kind.h"

static int64_t lora_elements(const fur_projection *map)
{
    return map->adapters.base->weight_elements(map);
}

static int64_t lora_rows(const fur_projection *map)
{
    return map->adapters.base->weight_rows(map);
}

static int64_t thin_floats(const fur_projection *map, int64_t tokens)
{
    return tokens * map->adapters.rank;
}

static int64_t lora_workspace(const fur_exec *exec, const fur_projection *map, int64_t tokens, int backward)
{
    fur_arena counting = fur_arena_counting();
    for (int i = 0; i <= backward; i++)
        fur_arena_push_f32(&counting, thin_floats(map, tokens));
    return counting.peak + map->adapters.base->workspace(exec, map, tokens, backward);
}

static double lora_flops(const fur_projection *map)
{
    double numbers = 0;
    for (int i = 0; i < map->adapters.count; i++)
        numbers += (double)map->adapters.rank * (double)(map->in + map->adapters.list[i].count);
    return map->adapters.base->flops(map) + 2 * numbers;
}

static fur_status lora_prepare(const fur_exec *exec, const fur_projection *map, int64_t tokens, const float *x_TI,
                               int64_t ldx, fur_projection_input *out)
{
    return map->adapters.base->prepare(exec, map, tokens, x_TI, ldx, out);
}

/* A thin array of the workspace. */
static fur_status push_thin(const fur_exec *exec, const fur_projection *map, int64_t tokens, float **out)
{
    *out = fur_arena_push_f32(exec->workspace, thin_floats(map, tokens));
    return *out || tokens == 0
               ? FUR_OK
               : fur_error_set(exec->error, FUR_E_MEMORY, "lora: workspace too small for %lld tokens of rank %lld",
                               (long long)tokens, (long long)map->adapters.rank);
}

static void scale_thin(const fur_projection *map, int64_t tokens, float *t_TR)
{
    for (int64_t i = 0; i < thin_floats(map, tokens); i++)
        t_TR[i] *= map->adapters.scale;
}

/* t = scale x transposed(A) */
static fur_status into_rank(const fur_exec *exec, const fur_projection *map, const fur_adapter *adapter,
                            const fur_projection_input *input, float *t_TR)
{
    fur_matmul_args product = {.m = input->tokens,
                               .n = map->adapters.rank,
                               .k = map->in,
                               .a = input->x_TI,
                               .lda = input->ldx,
                               .b = adapter->a_RI,
                               .ldb = map->in,
                               .b_transposed = 1,
                               .c = t_TR,
                               .ldc = map->adapters.rank};
    FUR_TRY(fur_matmul(exec, &product));
    scale_thin(map, input->tokens, t_TR);
    return FUR_OK;
}

static fur_status add_adapter(const fur_exec *exec, const fur_projection *map, const fur_adapter *adapter,
                              const fur_projection_input *input, float *y_TO, int64_t ldy)
{
    int64_t rank = map->adapters.rank;
    float *t_TR;
    FUR_TRY(push_thin(exec, map, input->tokens, &t_TR));
    FUR_TRY(into_rank(exec, map, adapter, input, t_TR));
    fur_matmul_args product = {.m = input->tokens,
                               .n = adapter->count,
                               .k = rank,
                               .a = t_TR,
                               .lda = rank,
                               .b = adapter->b_OR,
                               .ldb = rank,
                               .b_transposed = 1,
                               .c = y_TO + adapter->first,
                               .ldc = ldy,
                               .accumulate = 1};
    return fur_matmul(exec, &product);
}

static fur_status add_adapters(const fur_exec *exec, const fur_projection *map, const fur_projection_input *input,
                               float *y_TO, int64_t ldy)
{
    for (int i = 0; i < map->adapters.count; i++) {
        int64_t mark = fur_arena_mark(exec->workspace);
        fur_status status = add_adapter(exec, map, &map->adapters.list[i], input, y_TO, ldy);
        fur_arena_release(exec->workspace, mark);
        FUR_TRY(status);
    }
    return FUR_OK;
}

static fur_status lora_forward(const fur_exec *exec, const fur_projection *map, const fur_projection_input *input,
                               int add, float *y_TO, int64_t ldy)
{
    FUR_TRY(map->adapters.base->forward(exec, map, input, add, y_TO, ldy));
    return add_adapters(exec, map, input, y_TO, ldy);
}

static fur_status lora_forward_few(const fur_exec *exec, const fur_projection *map, const fur_projection_input *input,
                                   int add, float *y_TO, int64_t ldy)
{
    const fur_projection_kind *base = map->adapters.base;
    FUR_TRY((base->forward_few ? base->forward_few : base->forward)(exec, map, input, add, y_TO, ldy));
    return add_adapters(exec, map, input, y_TO, ldy);
}

/* dB += transposed(dy) t, dA += transposed(u) x */
static fur_status add_gradients(const fur_exec *exec, const fur_projection *map, const fur_adapter *adapter,
                                const fur_projection_input *input, const float *dy_TO, int64_t lddy, const float *u_TR,
                                float *da_RI, float *db_OR)
{
    int64_t rank = map->adapters.rank;
    float *t_TR;
    FUR_TRY(push_thin(exec, map, input->tokens, &t_TR));
    FUR_TRY(into_rank(exec, map, adapter, input, t_TR));
    fur_matmul_args b = {.m = adapter->count,
                         .n = rank,
                         .k = input->tokens,
                         .a = dy_TO + adapter->first,
                         .lda = lddy,
                         .a_transposed = 1,
                         .b = t_TR,
                         .ldb = rank,
                         .c = db_OR,
                         .ldc = rank,
                         .accumulate = 1};
    fur_matmul_args a = {.m = rank,
                         .n = map->in,
                         .k = input->tokens,
                         .a = u_TR,
                         .lda = rank,
                         .a_transposed = 1,
                         .b = input->x_TI,
                         .ldb = input->ldx,
                         .c = da_RI,
                         .ldc = map->in,
                         .accumulate = 1};
    FUR_TRY(fur_matmul(exec, &b));
    return fur_matmul(exec, &a);
}

static fur_status adapter_backward(const fur_exec *exec, const fur_projection *map, int index,
                                   const fur_projection_input *input, const float *dy_TO, int64_t lddy, float *dx_TI,
                                   int64_t lddx, const fur_gradient_sink *sink)
{
    const fur_adapter *adapter = &map->adapters.list[index];
    int64_t rank = map->adapters.rank;
    float *u_TR;
    FUR_TRY(push_thin(exec, map, input->tokens, &u_TR));
    fur_matmul_args back = {.m = input->tokens,
                            .n = rank,
                            .k = adapter->count,
                            .a = dy_TO + adapter->first,
                            .lda = lddy,
                            .b = adapter->b_OR,
                            .ldb = rank,
                            .c = u_TR,
                            .ldc = rank};
    FUR_TRY(fur_matmul(exec, &back));
    scale_thin(map, input->tokens, u_TR);
    if (sink)
        FUR_TRY(add_gradients(exec, map, adapter, input, dy_TO, lddy, u_TR, sink->a_RI[index], sink->b_OR[index]));
    if (!dx_TI)
        return FUR_OK;
    fur_matmul_args product = {.m = input->tokens,
                               .n = map->in,
                               .k = rank,
                               .a = u_TR,
                               .lda = rank,
                               .b = adapter->a_RI,
                               .ldb = map->in,
                               .c = dx_TI,
                               .ldc = lddx,
                               .accumulate = 1};
    return fur_matmul(exec, &product);
}

static fur_status lora_backward(const fur_exec *exec, const fur_projection *map, const fur_projection_input *input,
                                const float *dy_TO, int64_t lddy, int add, float *dx_TI, int64_t lddx,
                                const fur_gradient_sink *sink)
{
    FUR_TRY(map->adapters.base->backward(exec, map, input, dy_TO, lddy, add, dx_TI, lddx, NULL));
    for (int i = 0; i < map->adapters.count; i++) {
        int64_t mark = fur_arena_mark(exec->workspace);
        fur_status status = adapter_backward(exec, map, i, input, dy_TO, lddy, dx_TI, lddx, sink);
        fur_arena_release(exec->workspace, mark);
        FUR_TRY(status);
    }
    return FUR_OK;
}

const fur_projection_kind fur_projection_lora = {
    .name = "lora",
    .weight_elements = lora_elements,
    .weight_rows = lora_rows,
    .workspace = lora_workspace,
    .flops = lora_flops,
    .slowness = 1,
    .token_block = 4096,
    .prepare = lora_prepare,
    .forward = lora_forward,
    .forward_few = lora_forward_few,
    .backward = lora_backward,
};
