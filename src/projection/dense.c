/* SPDX-License-Identifier: Apache-2.0 */
/* Kind `dense`: y = x w^T + b by matrix products. */
#include "base/size.h"
#include "op/bias/bias.h"
#include "op/chunk.h"
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

/* Rows of coded weights that are decoded at once: 4 MiB of f32. */
static int64_t coded_block(const fur_projection *map)
{
    int64_t rows = ((int64_t)1 << 20) / fur_max_i64(1, map->in);
    return fur_min_i64(map->out, fur_max_i64(64, rows));
}

static int64_t dense_workspace(const fur_exec *exec, const fur_projection *map, int64_t tokens, int backward)
{
    int64_t bytes = fur_max_i64(fur_matmul_workspace(exec), map->bias ? fur_bias_workspace(exec, tokens, map->out) : 0);
    (void)backward;
    if (map->coded_parts == 0)
        return bytes;
    fur_arena counting = fur_arena_counting();
    fur_arena_push_f32(&counting, coded_block(map) * map->in);
    return counting.peak + bytes;
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

/* A block of decoded weights, and the outputs that are theirs. */
typedef struct decoded_block {
    const float *weight;
    int64_t first, count;
} decoded_block;

typedef fur_status (*block_fn)(void *user, const decoded_block *block);

/* Calls fn for block after block of coded weights, each decoded by all threads. */
static fur_status each_block(const fur_exec *exec, const fur_projection *map, block_fn fn, void *user)
{
    int64_t most = coded_block(map), first = 0, mark = fur_arena_mark(exec->workspace);
    float *w = fur_arena_push_f32(exec->workspace, most * map->in);
    fur_status status = w || most * map->in == 0
                            ? FUR_OK
                            : fur_error_set(exec->error, FUR_E_MEMORY,
                                            "dense: workspace too small for %lld decoded rows", (long long)most);
    for (int i = 0; i < map->coded_parts; first += map->coded[i++].count) {
        const fur_coded_rows *part = &map->coded[i];
        for (int64_t at = 0; status == FUR_OK && at < part->count; at += most) {
            int64_t count = fur_min_i64(most, part->count - at);
            status =
                fur_gemv_decode(exec, (fur_gemv_type)part->gemv, map->in, count, part->rows + at * part->row_bytes, w);
            if (status == FUR_OK)
                status = fn(user, &(decoded_block){w, first + at, count});
        }
    }
    fur_arena_release(exec->workspace, mark);
    return status;
}

/* A product that is made block by block. */
typedef struct product {
    const fur_exec *exec;
    const fur_projection *map;
    const fur_projection_input *input;
    int add;
    float *y;         /* forward: outputs; backward: gradient by the input */
    const float *dy;  /* backward */
    int64_t ldy, ldd; /* strides of y and dy */
} product;

static fur_status forward_block(void *user, const decoded_block *b)
{
    const product *p = user;
    fur_matmul_args args = {.m = p->input->tokens,
                            .n = b->count,
                            .k = p->map->in,
                            .a = p->input->x_TI,
                            .lda = p->input->ldx,
                            .b = b->weight,
                            .ldb = p->map->in,
                            .b_transposed = 1,
                            .c = p->y + b->first,
                            .ldc = p->ldy,
                            .accumulate = p->add,
                            .bias_N = p->add || !p->map->bias ? NULL : p->map->bias + b->first};
    return fur_matmul(p->exec, &args);
}

static fur_status backward_block(void *user, const decoded_block *b)
{
    const product *p = user;
    fur_matmul_args args = {.m = p->input->tokens,
                            .n = p->map->in,
                            .k = b->count,
                            .a = p->dy + b->first,
                            .lda = p->ldd,
                            .b = b->weight,
                            .ldb = p->map->in,
                            .c = p->y,
                            .ldc = p->ldy,
                            .accumulate = p->add || b->first > 0};
    return fur_matmul(p->exec, &args);
}

static fur_status few_block(void *user, const decoded_block *b)
{
    const product *p = user;
    fur_gemv_args args = {.type = FUR_GEMV_F32,
                          .tokens = p->input->tokens,
                          .in = p->map->in,
                          .out = b->count,
                          .w_OI = b->weight,
                          .x_TI = p->input->x_TI,
                          .ldx = p->input->ldx,
                          .bias_O = p->map->bias ? p->map->bias + b->first : NULL,
                          .add = p->add,
                          .y_TO = p->y + b->first,
                          .ldy = p->ldy};
    return fur_gemv(p->exec, &args);
}

/* All weights as one block, or decoded ones block after block. */
static fur_status run_product(const fur_projection *map, block_fn fn, product *p)
{
    if (map->coded_parts > 0)
        return each_block(p->exec, map, fn, p);
    return fn(p, &(decoded_block){map->weight, 0, map->out});
}

static fur_status dense_forward(const fur_exec *exec, const fur_projection *map, const fur_projection_input *input,
                                int add, float *y_TO, int64_t ldy)
{
    FUR_TRY(check_contiguous(exec, map, ldy));
    product p = {.exec = exec, .map = map, .input = input, .add = add, .y = y_TO, .ldy = ldy};
    FUR_TRY(run_product(map, forward_block, &p));
    return add && map->bias ? fur_bias_add(exec, input->tokens, map->out, map->bias, y_TO) : FUR_OK;
}

/* Rows as they are stored, where a product of a few vectors reads them so. */
static fur_status few_stored(const fur_exec *exec, const fur_projection *map, const fur_coded_rows *part, int64_t first,
                             product *p)
{
    fur_gemv_args args = {.type = (fur_gemv_type)part->gemv,
                          .tokens = p->input->tokens,
                          .in = map->in,
                          .out = part->count,
                          .w_OI = part->rows,
                          .x_TI = p->input->x_TI,
                          .ldx = p->input->ldx,
                          .bias_O = map->bias ? map->bias + first : NULL,
                          .add = p->add,
                          .y_TO = p->y + first,
                          .ldy = p->ldy};
    return fur_gemv(exec, &args);
}

static fur_status dense_forward_few(const fur_exec *exec, const fur_projection *map, const fur_projection_input *input,
                                    int add, float *y_TO, int64_t ldy)
{
    product p = {.exec = exec, .map = map, .input = input, .add = add, .y = y_TO, .ldy = ldy};
    if (map->coded_parts == 0)
        return run_product(map, few_block, &p);
    int64_t first = 0;
    for (int i = 0; i < map->coded_parts; first += map->coded[i++].count)
        FUR_TRY(few_stored(exec, map, &map->coded[i], first, &p));
    return FUR_OK;
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
    product p = {
        .exec = exec, .map = map, .input = input, .add = add, .y = dx_TI, .ldy = lddx, .dy = dy_TO, .ldd = lddy};
    return run_product(map, backward_block, &p);
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
