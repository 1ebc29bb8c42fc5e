/* SPDX-License-Identifier: Apache-2.0 */
/* The first and the last step of the sweep: row -> x, and the gradient by x -> embedding or input projection. */
#include <math.h>

#include "base/size.h"
#include "model/coded.h"
#include "model/layer.h"
#include "op/embed/embed.h"

void fur_row_positions(const fur_run *run, const fur_scratch *s, int64_t first, int64_t count)
{
    const fur_documents *d = &run->documents;
    int64_t document = 0, high = d->count - 1;
    while (document < high) { /* the document that holds `first` */
        int64_t middle = document + (high - document + 1) / 2;
        if (d->offsets[middle] <= first)
            document = middle;
        else
            high = middle - 1;
    }
    for (int64_t i = 0; i < count; i++) {
        while (first + i >= d->offsets[document + 1])
            document++;
        s->position_B[i] = first + i - d->offsets[document];
        if (s->position_id_B)
            s->position_id_B[i] = (int32_t)s->position_B[i];
    }
}

/* Rows, or gradients by them, times sqrt(width) in f32 where the model's are. */
static void scale_embedded(const fur_model_config *c, int64_t count, float *x_BC)
{
    float factor = (float)sqrt((double)c->width);
    for (int64_t i = 0; c->scaled_embedding && i < count * c->width; i++)
        x_BC[i] *= factor;
}

static fur_status embed_tokens(const fur_run *run, int64_t count, const int32_t *ids_B, float *x_BC)
{
    const fur_model_config *c = &run->model->config;
    fur_map_offsets embedding = {.in = c->width, .out = c->vocabulary, .weight = run->model->table.embedding};
    fur_projection table = {0};
    fur_coded_map(run->model, &embedding, &table);
    if (table.coded_parts == 0)
        return fur_embed_forward(&run->exec, count, c->width, c->vocabulary, ids_B, run->model->data + embedding.weight,
                                 x_BC);
    FUR_TRY(fur_embed_check(&run->exec, count, c->width, c->vocabulary, ids_B));
#pragma omp parallel for schedule(static) num_threads(run->exec.threads) if (count > 64)
    for (int64_t i = 0; i < count; i++)
        fur_coded_read(&table.coded[0], c->width, ids_B[i], 1, x_BC + i * c->width);
    return FUR_OK;
}

fur_status fur_embed_rows(fur_run *run, int64_t first, int64_t count, float *x_BC)
{
    const fur_model_config *c = &run->model->config;
    const fur_parameter_table *t = &run->model->table;
    if (c->features)
        FUR_TRY(fur_map_forward(run, &t->input, count, run->row->x_TI + first * c->features, 0, x_BC));
    else
        FUR_TRY(embed_tokens(run, count, run->row->ids_T + first, x_BC));
    scale_embedded(c, count, x_BC);
    if (c->position != FUR_POSITION_LEARNED)
        return FUR_OK;
    const fur_scratch *s = &run->memory.forward;
    fur_row_positions(run, s, first, count);
    FUR_TRY(fur_embed_forward(&run->exec, count, c->width, c->context, s->position_id_B,
                              run->model->data + t->positions, s->h_BC));
    for (int64_t i = 0; i < count * c->width; i++)
        x_BC[i] += s->h_BC[i];
    return FUR_OK;
}

fur_status fur_embed_row(fur_run *run)
{
    for (int64_t first = 0; first < run->tokens; first += run->shape.superblock) {
        int64_t count = fur_superblock_rows(run, first);
        float *x = run->memory.x_TC + first * run->model->config.width;
        FUR_TRY(fur_embed_rows(run, first, count, x));
        FUR_TRY(fur_run_drop(run, 0, FUR_DROP_EMBEDDING, first, count, x));
    }
    return FUR_OK;
}

static fur_status embed_block_backward(fur_run *run, int64_t first, int64_t count, float *dx_BC, float *dx_TI)
{
    FUR_TRY(fur_run_drop(run, 0, FUR_DROP_EMBEDDING, first, count, dx_BC));
    const fur_model_config *c = &run->model->config;
    const fur_parameter_table *t = &run->model->table;
    float *embedding = fur_model_gradient(run->model, t->embedding);
    float *positions = fur_model_gradient(run->model, t->positions);
    if (positions) {
        const fur_scratch *s = &run->memory.backward;
        fur_row_positions(run, s, first, count);
        FUR_TRY(fur_embed_backward(&run->exec, count, c->width, c->context, s->position_id_B, dx_BC, positions));
    }
    if (c->features)
        return fur_map_backward(run, &t->input, count, run->row->x_TI + first * c->features, dx_BC, 0,
                                dx_TI ? dx_TI + first * c->features : NULL);
    for (int64_t i = 0; dx_TI && i < count * c->width; i++)
        dx_TI[first * c->width + i] = dx_BC[i];
    if (!embedding)
        return FUR_OK;
    scale_embedded(c, count, dx_BC);
    return fur_embed_backward(&run->exec, count, c->width, c->vocabulary, run->row->ids_T + first, dx_BC, embedding);
}

fur_status fur_embed_row_backward(fur_run *run, float *dx_TI)
{
    for (int64_t first = 0; first < run->tokens; first += run->shape.superblock)
        FUR_TRY(embed_block_backward(run, first, fur_superblock_rows(run, first),
                                     run->memory.x_TC + first * run->model->config.width, dx_TI));
    return FUR_OK;
}
