/* SPDX-License-Identifier: Apache-2.0 */
/* Models, runs, and the public calls over the sweep. */
#include <math.h>
#include <string.h>

#include "attention/far_fit.h"
#include "base/alloc.h"
#include "base/random.h"
#include "base/size.h"
#include "model/coded.h"
#include "model/config.h"
#include "model/head_groups.h"
#include "model/layer.h"
#include "model/run.h"

/* ---- models ----------------------------------------------------------------------------------------------- */

static fur_status allocate(fur_context *context, const fur_model_config *config, bool rows, fur_model **out)
{
    *out = NULL;
    FUR_TRY(fur_config_check(context, config));
    fur_model *model = fur_calloc(1, sizeof *model);
    if (!model)
        return fur_error_set(&context->error, FUR_E_MEMORY, "no memory for a model");
    model->config = *config;
    fur_status status = fur_parameter_table_create(&context->error, config, &model->table);
    if (status == FUR_OK) {
        int64_t tables = rows ? 0 : model->table.table_elements;
        model->data_bytes = (model->table.first_table + tables) * (int64_t)sizeof(float);
        model->data = fur_pages_map((size_t)model->data_bytes);
        if (rows)
            model->rows = fur_calloc((size_t)model->table.tables, sizeof *model->rows);
        if (!model->data || (rows && !model->rows))
            status = fur_error_set(&context->error, FUR_E_MEMORY, "the system refused %lld bytes for the weights",
                                   (long long)model->data_bytes);
        else if (tables > 0)
            fur_pages_large(model->data + model->table.first_table, (size_t)tables * sizeof(float));
    }
    if (status != FUR_OK) {
        fur_model_destroy(model);
        return status;
    }
    *out = model;
    return FUR_OK;
}

fur_status fur_model_allocate(fur_context *context, const fur_model_config *config, fur_model **out)
{
    return allocate(context, config, false, out);
}

fur_status fur_model_allocate_rows(fur_context *context, const fur_model_config *config, fur_model **out)
{
    FUR_TRY(allocate(context, config, true, out));
    (*out)->row_bytes = fur_table_file_bytes(&(*out)->table, config->table_type);
    return FUR_OK;
}

/* Until logits have been seen: means of 0, so that logits are within the bound, and spread as those of unit vectors
 * that point anywhere. */
static void set_far_constants(fur_model *model)
{
    const fur_model_config *c = &model->config;
    for (int64_t layer = 0; layer < c->layers; layer++) {
        const fur_layer_offsets *at = &model->table.layers[layer];
        for (int64_t h = 0; at->far_coefficients >= 0 && h < c->kv_heads; h++) {
            float *fitted = model->data + at->far_fitted + 2 * h;
            fitted[0] = fitted[1] = (float)c->far_bound;
            if (c->far_unbounded) {
                model->data[at->far_exact + h] = 1; /* until an audit says otherwise */
                continue;
            }
            fur_far_fit_normal(c->far_bound / sqrt((double)c->head_dim), c->far_bound, c->far_degree,
                               model->data + at->far_coefficients + h * (c->far_degree + 1));
            if (at->far_fine >= 0)
                fur_far_fit_normal(c->far_bound / sqrt((double)c->head_dim), c->far_bound, c->far_degree + 1,
                                   model->data + at->far_fine + h * (c->far_degree + 2));
        }
    }
}

/* All weights but tables that are not in data. */
static void draw_weights(fur_model *model, uint64_t seed)
{
    for (int64_t i = 0; i < model->table.count; i++) {
        const fur_parameter *p = &model->table.list[i];
        if (p->table && model->rows)
            continue;
        float *data = model->data + p->offset;
        if (p->init_std > 0)
            fur_random_normal(seed, (uint64_t)i, p->init_std, data, p->count);
        else
            for (int64_t j = 0; j < p->count; j++)
                data[j] = p->init_value;
        if (p->table)
            fur_table_clear_padding(p, data);
    }
    set_far_constants(model);
}

fur_status fur_model_create(fur_context *context, const fur_model_config *config, uint64_t seed, fur_model **out)
{
    FUR_TRY(fur_model_allocate(context, config, out));
    draw_weights(*out, seed);
    return FUR_OK;
}

/* Rows of a table are drawn for so many of them, and again the same after that: what they are is all the same to the
 * time of reading them. */
#define ROWS_DRAWN 256

static fur_status draw_tables(fur_error *error, fur_model *model, uint64_t seed)
{
    for (int64_t i = 0; i < model->table.count; i++) {
        const fur_parameter *p = &model->table.list[i];
        if (!p->table)
            continue;
        int64_t rows = fur_min_i64(ROWS_DRAWN, p->shape[0]), floats = rows * p->shape[1];
        float *draw = fur_malloc((size_t)floats * sizeof *draw);
        if (!draw)
            return fur_error_set(error, FUR_E_MEMORY, "no memory to draw %lld weights", (long long)floats);
        fur_random_normal(seed, (uint64_t)i, p->init_std, draw, floats);
        fur_status status = fur_row_table_fill(error, p, (fur_lookup_type)model->config.table_type, draw, rows,
                                               &model->rows[p->table_index]);
        fur_free(draw);
        FUR_TRY(status);
    }
    return FUR_OK;
}

fur_status fur_model_create_rows(fur_context *context, const fur_model_config *config, uint64_t seed, fur_model **out)
{
    fur_model *model;
    *out = NULL;
    FUR_TRY(fur_model_allocate_rows(context, config, &model));
    draw_weights(model, seed);
    fur_status status = draw_tables(&context->error, model, seed);
    if (status != FUR_OK) {
        fur_model_destroy(model);
        return status;
    }
    *out = model;
    return FUR_OK;
}

void fur_model_destroy(fur_model *model)
{
    if (!model)
        return;
    fur_pages_unmap(model->data, (size_t)model->data_bytes);
    for (int64_t i = 0; model->rows && i < model->table.tables; i++)
        fur_row_table_close(&model->rows[i]);
    fur_free(model->rows);
    fur_free(model->base);
    fur_coded_close(model);
    fur_parameter_table_destroy(&model->table);
    fur_free(model);
}

const fur_model_config *fur_model_config_of(const fur_model *model)
{
    return &model->config;
}

fur_projection fur_model_map(const fur_model *model, const fur_map_offsets *map)
{
    if (!model->rows || map->table_index < 0) {
        fur_projection p = fur_map_at(map, model->data);
        fur_coded_map(model, map, &p);
        return p;
    }
    const fur_row_table *table = &model->rows[map->table_index];
    fur_projection p = fur_map_at(map, NULL);
    p.bias = map->bias < 0 ? NULL : model->data + map->bias;
    p.rows = (fur_projection_rows){.table = table->map.data, .type = table->type, .scale_R = table->scale_R};
    return p;
}

int64_t fur_model_held_bytes(const fur_model *model)
{
    int64_t replaced, coded = fur_coded_bytes(model, &replaced);
    return model->data_bytes - replaced + coded;
}

int64_t fur_model_weight_bytes(const fur_model *model)
{
    return model->coded ? fur_model_held_bytes(model) : 0;
}

int64_t fur_model_parameters(const fur_model *model)
{
    return model->table.count;
}

void fur_model_parameter(const fur_model *model, int64_t index, fur_parameter_info *out)
{
    const fur_parameter *p = &model->table.list[index];
    bool has_gradient = model->gradient && (!p->table || model->touched_R);
    float *gradient = p->table ? model->gradient + p->offset : fur_model_gradient(model, p->offset);
    *out = (fur_parameter_info){
        .name = p->name,
        .rank = p->rank,
        .shape = {p->shape[0], p->shape[1]},
        .count = p->count,
        .data = (p->table && model->rows) || fur_coded_parameter(model, p) ? NULL : model->data + p->offset,
        .gradient = has_gradient ? gradient : NULL,
        .decayed = p->decayed,
        .constant = p->constant || (!p->table && fur_trained_at(&model->table, p->offset) < 0),
        .table = p->table};
    fur_parameter_file_shape(p, out->file_shape);
}

void fur_model_zero_gradients(fur_model *model)
{
    if (!model->gradient)
        return;
    memset(model->gradient, 0, (size_t)model->gradient_bytes);
    if (model->touched_R)
        memset(model->touched_R, 0, (size_t)model->table.table_rows);
}

/* ---- runs ------------------------------------------------------------------------------------------------- */

fur_run_shape fur_run_shape_of(const fur_plan *plan, const fur_plan_request *request)
{
    return (fur_run_shape){.purpose = request->purpose,
                           .tokens = request->row_tokens,
                           .superblock = plan->superblock,
                           .token_tile = plan->token_tile,
                           .loss_tile = plan->loss_tile,
                           .vocabulary_tile = plan->vocabulary_tile,
                           .inputs = plan->inputs,
                           .stored = plan->stored,
                           .segment = plan->segment_layers,
                           .attention = plan->attention,
                           .moments = plan->optimizer,
                           .key_groups = plan->key_groups,
                           .keep_hidden = plan->keep_hidden,
                           .optimizer = request->purpose == FUR_FOR_TRAIN && !request->gradients_only,
                           .row_updates = request->row_updates,
                           .row_adam = request->row_adam,
                           .coded = request->weight_bytes > 0,
                           .error_rows = request->error_rows};
}

/* The file of what the plan puts on disk. */
static fur_status open_spill(fur_run *run, const fur_plan_request *request)
{
    fur_run_memory *m = &run->memory;
    if (m->disk_bytes == 0)
        return FUR_OK;
    if (m->disk_bytes > request->disk_bytes)
        return fur_error_set(run->exec.error, FUR_E_DOES_NOT_FIT,
                             "the plan needs %lld bytes of disk, the limit is %lld", (long long)m->disk_bytes,
                             (long long)request->disk_bytes);
    const char *folder = request->disk_dir ? request->disk_dir : ".";
    FUR_TRY(fur_spill_create(run->exec.error, folder, m->disk_bytes, &run->spill));
    m->inputs.spill = m->o.spill = m->lse.spill = m->moments.spill = run->spill;
    fur_head_groups_attach(&m->groups, run->spill);
    return FUR_OK;
}

fur_status fur_run_create(fur_context *context, fur_model *model, const fur_plan *plan, const fur_plan_request *request,
                          fur_run **out)
{
    *out = NULL;
    if (!plan->fits)
        return fur_error_set(&context->error, FUR_E_DOES_NOT_FIT, "the plan needs %lld bytes, the limit is %lld",
                             (long long)plan->peak_bytes, (long long)request->memory_bytes);
    fur_run_shape shape = fur_run_shape_of(plan, request);
    if (!fur_run_shape_is_sane(&model->config, &model->table, &shape))
        return fur_error_set(&context->error, FUR_E_ARGUMENT, "this plan was not made for this model");
    if (request->purpose == FUR_FOR_TRAIN && model->gradient)
        return fur_error_set(&context->error, FUR_E_BUSY, "another run holds this model's gradients");
    if (request->purpose == FUR_FOR_TRAIN && model->rows)
        return fur_error_set(&context->error, FUR_E_UNSUPPORTED, "tables that are mapped from a file are not trained");
    if (model->coded && request->weight_bytes == 0)
        return fur_error_set(&context->error, FUR_E_ARGUMENT,
                             "the plan has no room to decode weights: its request wants weight_bytes of the model");
    if (request->purpose == FUR_FOR_TRAIN && model->coded && model->config.lora_rank == 0)
        return fur_error_set(&context->error, FUR_E_UNSUPPORTED,
                             "weights that stay as their file has them are not trained, but beside adapters");
    fur_run *run = fur_calloc(1, sizeof *run);
    if (!run)
        return fur_error_set(&context->error, FUR_E_MEMORY, "no memory for a run");
    run->context = context;
    run->model = model;
    run->shape = shape;
    run->exec = context->exec;
    fur_status status = fur_arena_create(&context->error, plan->arena_bytes, &run->arena);
    if (status == FUR_OK) {
        fur_run_layout(&run->exec, &model->config, &model->table, &run->shape, &run->arena, NULL, NULL, &run->memory);
        run->exec.workspace = &run->memory.workspace;
        if (run->arena.failed || run->arena.peak != plan->arena_bytes)
            status = fur_error_set(&context->error, FUR_E_INTERNAL, "the run laid out %lld bytes, its plan has %lld",
                                   (long long)run->arena.peak, (long long)plan->arena_bytes);
    }
    if (status == FUR_OK)
        status = open_spill(run, request);
    if (status != FUR_OK) {
        fur_run_destroy(run);
        return status;
    }
    fur_head_errors_clear(run);
    if (request->purpose == FUR_FOR_TRAIN) {
        const fur_parameter_table *table = &model->table;
        bool all = !run->shape.row_updates;
        model->gradient = run->memory.gradient;
        model->gradient_bytes =
            (table->first_table - table->first_trained + (all ? table->table_elements : 0)) * (int64_t)sizeof(float);
        model->touched_R = all ? run->memory.touched_R : NULL;
        run->table_shift = table->first_table;
    }
    *out = run;
    return FUR_OK;
}

void fur_run_destroy(fur_run *run)
{
    if (!run)
        return;
    if (run->memory.gradient && run->model->gradient == run->memory.gradient)
        run->model->gradient = NULL, run->model->touched_R = NULL;
    fur_spill_destroy(run->spill); /* before the memory that its thread writes to */
    fur_arena_destroy(&run->arena);
    fur_free(run);
}

int64_t fur_run_arena_peak_bytes(const fur_run *run)
{
    return run->arena.peak;
}

/* ---- rows through a run ----------------------------------------------------------------------------------- */

static fur_status check_row(const fur_run *run, const fur_row *row)
{
    fur_error *error = run->exec.error;
    const fur_model_config *c = &run->model->config;
    if (row->documents < 1 || !row->offsets || row->offsets[0] != 0)
        return fur_error_set(error, FUR_E_SHAPE, "a row needs at least one document, its offsets starting at 0");
    for (int64_t d = 0; d < row->documents; d++) {
        int64_t from = row->offsets[d], to = row->offsets[d + 1];
        int64_t length = to > from ? to - from : 0; /* from is at least 0 here */
        if (length < 1 || length > c->context)
            return fur_error_set(error, FUR_E_SHAPE, "document %lld of the row has %lld tokens, expected 1 to %lld",
                                 (long long)d, (long long)length, (long long)c->context);
    }
    int64_t tokens = row->offsets[row->documents];
    if (tokens > run->shape.tokens)
        return fur_error_set(error, FUR_E_SHAPE, "the row has %lld tokens, the run was planned for %lld",
                             (long long)tokens, (long long)run->shape.tokens);
    if (c->features ? !row->x_TI : !row->ids_T)
        return fur_error_set(error, FUR_E_SHAPE, "the row has no %s", c->features ? "real vectors" : "token ids");
    for (int64_t t = 0; row->target_T && t < tokens; t++)
        if (row->target_T[t] < -1 || row->target_T[t] >= c->vocabulary)
            return fur_error_set(error, FUR_E_SHAPE, "target %d at token %lld, expected -1 to %lld", row->target_T[t],
                                 (long long)t, (long long)c->vocabulary - 1);
    return FUR_OK;
}

static fur_status begin_row(fur_run *run, const fur_row *row, int training)
{
    FUR_TRY(check_row(run, row));
    run->row = row;
    run->documents = (fur_documents){row->documents, row->offsets};
    run->tokens = row->offsets[row->documents];
    run->dropping = training && run->random_is_set;
    run->updating = 0;
    if (run->spill)
        fur_spill_clear(run->spill); /* a row that failed leaves its failure there */
    fur_store_begin(&run->memory.inputs);
    fur_store_begin(&run->memory.o);
    fur_store_begin(&run->memory.lse);
    fur_head_groups_begin(&run->memory.groups);
    fur_run_begin_work(run, training);
    return fur_embed_row(run);
}

void fur_run_set_random(fur_run *run, uint64_t seed, uint64_t step)
{
    run->random_seed = seed;
    run->random_step = step;
    run->random_is_set = 1;
}

int64_t fur_run_exact_heads(const fur_run *run)
{
    const fur_model *model = run->model;
    int64_t count = 0;
    for (int64_t layer = 0; layer < model->config.layers; layer++)
        for (int64_t h = 0; model->table.layers[layer].far_exact >= 0 && h < model->config.kv_heads; h++)
            count += model->data[model->table.layers[layer].far_exact + h] > 0;
    return count;
}

void fur_run_exact_flags(fur_run *run, float *flags, bool restore)
{
    fur_model *model = run->model;
    size_t bytes = (size_t)model->config.kv_heads * sizeof(float);
    for (int64_t layer = 0; layer < model->config.layers; layer++) {
        int64_t at = model->table.layers[layer].far_exact;
        if (at < 0)
            continue;
        if (restore)
            memcpy(model->data + at, flags, bytes);
        else
            memcpy(flags, model->data + at, bytes);
        flags += model->config.kv_heads;
    }
}

bool fur_run_named_exact(const fur_run *run, int64_t *before)
{
    int64_t now = fur_run_exact_heads(run), named = now - *before;
    *before = now;
    if (named > 0)
        fur_log(run->context, FUR_LOG_WARNING, "%s: its far keys are seen one by one from here on",
                fur_context_error(run->context));
    return named > 0;
}

/* The row through all layers; again where a head's normaliser failed and is exact now. */
static fur_status forward(fur_run *run, const fur_row *row, int training)
{
    int64_t exact = fur_run_exact_heads(run);
    fur_status status;
    do {
        FUR_TRY(begin_row(run, row, training));
        status = fur_sweep_forward(run, training);
    } while (status == FUR_E_NONFINITE && fur_run_named_exact(run, &exact));
    return status;
}

fur_status fur_model_loss_and_gradient(fur_run *run, const fur_row *row, const fur_loss *loss, double weight,
                                       double *out_loss, float *dx_TI)
{
    if (run->shape.purpose != FUR_FOR_TRAIN)
        return fur_error_set(run->exec.error, FUR_E_ARGUMENT, "this run was planned without gradients");
    fur_status status = forward(run, row, 1);
    if (status == FUR_OK)
        status = fur_run_loss(run, loss, 1, weight, out_loss, NULL);
    if (status == FUR_OK)
        status = fur_sweep_backward(run);
    run->memory.errors.wanted = 0;
    FUR_TRY(status);
    return fur_embed_row_backward(run, dx_TI);
}

fur_status fur_model_loss(fur_run *run, const fur_row *row, const fur_loss *loss, double *out_loss, float *nll_T)
{
    FUR_TRY(forward(run, row, 0));
    return fur_run_loss(run, loss, 0, 1.0, out_loss, nll_T);
}

fur_status fur_model_outputs(fur_run *run, const fur_row *row, float *y_TV)
{
    FUR_TRY(forward(run, row, 0));
    const fur_parameter_table *table = &run->model->table;
    int64_t width = run->model->config.width, out = table->head.out;
    for (int64_t first = 0; first < run->tokens; first += run->shape.loss_tile) {
        int64_t count = fur_min_i64(run->shape.loss_tile, run->tokens - first);
        FUR_TRY(fur_norm_rows(&run->exec, run->model, table->final_norm_w, table->final_norm_b, count,
                              run->memory.x_TC + first * width, run->memory.loss.h_tC));
        FUR_TRY(fur_map_forward(run, &table->head, count, run->memory.loss.h_tC, 0, y_TV + first * out));
        FUR_TRY(fur_run_cap_logits(run, count * out, y_TV + first * out));
    }
    return FUR_OK;
}
