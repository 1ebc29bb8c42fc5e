/* SPDX-License-Identifier: Apache-2.0 */
/* Look-up tables in a run: where gradients of their rows are, and their update at the end of each layer. */
#include <math.h>
#include <string.h>

#include "base/bf16.h"
#include "model/layer.h"

fur_gradient_sink fur_run_sink(const fur_run *run, const fur_map_offsets *map)
{
    const fur_model *model = run->model;
    fur_gradient_sink sink = {.bias = fur_model_gradient(model, map->bias)};
    for (int i = 0; i < map->adapters; i++) {
        sink.a_RI[i] = fur_model_gradient(model, map->adapter[i].a);
        sink.b_OR[i] = fur_model_gradient(model, map->adapter[i].b);
    }
    if (map->first_row < 0) {
        sink.weight = fur_model_gradient(model, map->weight);
        return sink;
    }
    sink.weight = run->memory.table_gradient + (map->weight - run->table_shift);
    sink.touched_R = run->memory.touched_R + (map->first_row - run->row_shift);
    if (run->memory.square_R) {
        sink.square_R = run->memory.square_R + (map->first_row - run->row_shift);
        sink.even_O = run->memory.even_O + map->first_column;
    }
    return sink;
}

/* What the optimizer keeps of a table. */
static fur_row_moments row_moments(const fur_run *run, const fur_map_offsets *map)
{
    const fur_row_moments *all = &run->memory.row_moments;
    int64_t at = map->weight - run->model->table.first_table;
    if (all->m)
        return (fur_row_moments){.m = all->m + at, .v = all->v + at};
    return (fur_row_moments){
        .m_bf16 = all->m_bf16 + at, .v_R = all->v_R + map->first_row, .step_R = all->step_R + map->first_row};
}

void fur_run_clear_row_moments(fur_run *run)
{
    const fur_row_moments *all = &run->memory.row_moments;
    size_t elements = (size_t)run->model->table.table_elements, rows = (size_t)run->model->table.table_rows;
    if (all->m) {
        memset(all->m, 0, elements * sizeof *all->m);
        memset(all->v, 0, elements * sizeof *all->v);
    }
    if (all->m_bf16) {
        memset(all->m_bf16, 0, elements * sizeof *all->m_bf16);
        memset(all->v_R, 0, rows * sizeof *all->v_R);
        memset(all->step_R, 0, rows * sizeof *all->step_R);
    }
}

/* Second moments of `count` rows or numbers from `first` on. */
static fur_status check_second(const fur_run *run, const fur_parameter *p, const float *v, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        if (!(v[i] >= 0 && isfinite(v[i])))
            return fur_error_set(run->exec.error, FUR_E_NONFINITE,
                                 "Adam's second moment %lld of %s is %g, expected finite, 0 or above", (long long)i,
                                 p->name, (double)v[i]);
    return FUR_OK;
}

fur_status fur_run_check_row_moments(const fur_run *run, int64_t step)
{
    const fur_parameter_table *table = &run->model->table;
    const fur_row_moments *all = &run->memory.row_moments;
    for (int64_t k = 0; k < table->count; k++) {
        const fur_parameter *p = &table->list[k];
        int64_t at = p->offset - table->first_table, rows = p->shape[0];
        if (!p->table || !(all->m || all->m_bf16))
            continue;
        for (int64_t i = 0; i < p->count; i++) {
            float m = all->m ? all->m[at + i] : fur_bf16_value(all->m_bf16[at + i]);
            if (!isfinite(m))
                return fur_error_set(run->exec.error, FUR_E_NONFINITE, "Adam's moment %lld of %s is not finite",
                                     (long long)i, p->name);
        }
        if (all->m) {
            FUR_TRY(check_second(run, p, all->v + at, p->count));
            continue;
        }
        FUR_TRY(check_second(run, p, all->v_R + p->first_row, rows));
        for (int64_t r = 0; r < rows; r++)
            if ((int64_t)all->step_R[p->first_row + r] > step ||
                (int64_t)all->step_R[p->first_row + r] < step - FUR_LOOKUP_BEHIND)
                return fur_error_set(run->exec.error, FUR_E_FORMAT,
                                     "row %lld of %s is that of step %lld, of %lld steps, expected at most %d behind",
                                     (long long)r, p->name, (long long)all->step_R[p->first_row + r], (long long)step,
                                     FUR_LOOKUP_BEHIND);
    }
    return FUR_OK;
}

void fur_run_begin_tables(fur_run *run, const fur_layer_offsets *at)
{
    if (!run->shape.row_updates || at->table_rows == 0)
        return;
    run->table_shift = at->first_table;
    run->row_shift = at->first_table_row;
    memset(run->memory.touched_R, 0, (size_t)at->table_rows);
}

/* input NULL: all rows. */
static fur_status catch_up(const fur_run *run, const fur_map_offsets *map, const fur_projection_input *input,
                           const fur_lookup_update *args)
{
    fur_projection p = fur_model_map(run->model, map);
    fur_row_moments moments = row_moments(run, map);
    return p.kind->catch_up(&run->exec, &p, input, args, run->model->data + map->weight, &moments);
}

fur_status fur_run_catch_up(const fur_run *run, const fur_map_offsets *map, const fur_projection_input *input)
{
    return catch_up(run, map, input, run->behind);
}

fur_status fur_run_settle_tables(const fur_run *run, const fur_lookup_update *args)
{
    for (int64_t layer = 0; layer < run->model->config.layers; layer++)
        for (int i = 0; i < FUR_LAYER_MAPS; i++) {
            const fur_map_offsets *map = fur_layer_table(&run->model->table.layers[layer], i);
            if (map)
                FUR_TRY(catch_up(run, map, NULL, args));
        }
    return FUR_OK;
}

/* Squared norm of the gradients of a layer's tables, taken together. */
static fur_status layer_sum_squares(const fur_run *run, const fur_layer_offsets *at, double *sum)
{
    *sum = 0;
    for (int i = 0; i < FUR_LAYER_MAPS; i++) {
        const fur_map_offsets *map = fur_layer_table(at, i);
        if (!map)
            continue;
        fur_projection p = fur_model_map(run->model, map);
        fur_gradient_sink gradient = fur_run_sink(run, map);
        double of_map;
        FUR_TRY(p.kind->sum_squares(&run->exec, &p, &gradient, &of_map));
        *sum += of_map;
    }
    return FUR_OK;
}

fur_status fur_run_update_tables(fur_run *run, int64_t layer, double clip, fur_lookup_update args, bool *changed)
{
    const fur_layer_offsets *at = &run->model->table.layers[layer];
    double sum;
    FUR_TRY(layer_sum_squares(run, at, &sum));
    double norm = sqrt(sum) * (double)args.grad_scale;
    if (!isfinite(norm))
        return fur_error_set(run->exec.error, FUR_E_NONFINITE, "the gradient of layer %lld's tables is not finite",
                             (long long)layer);
    if (clip > 0 && norm > clip)
        args.grad_scale *= (float)(clip / norm);
    for (int i = 0; i < FUR_LAYER_MAPS; i++) {
        const fur_map_offsets *map = fur_layer_table(at, i);
        if (!map)
            continue;
        fur_projection p = fur_model_map(run->model, map);
        fur_gradient_sink gradient = fur_run_sink(run, map);
        fur_row_moments moments = row_moments(run, map);
        *changed = true;
        FUR_TRY(p.kind->update(&run->exec, &p, &gradient, &args, run->model->data + map->weight, &moments));
    }
    return FUR_OK;
}
