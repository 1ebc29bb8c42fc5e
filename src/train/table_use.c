/* SPDX-License-Identifier: Apache-2.0 */
/* Counts of rows, and what they come to. */
#include "furlong/table_use.h"

#include <math.h>

#include "base/alloc.h"
#include "io/file.h"
#include "train/evaluate.h"

/* Of one table: bits of the shares of its rows' use, and rows that are not used. */
static void add_table(const uint32_t *count_R, int64_t rows, double *entropy, int64_t *unused)
{
    double total = 0;
    for (int64_t r = 0; r < rows; r++)
        total += (double)count_R[r];
    for (int64_t r = 0; r < rows; r++) {
        double share = total > 0 ? (double)count_R[r] / total : 0;
        *entropy -= share > 0 ? share * log2(share) : 0;
        *unused += count_R[r] == 0;
    }
}

static fur_table_use use_of(const fur_parameter *p, const fur_map_offsets *map, const uint32_t *use_R)
{
    fur_projection shape = fur_map_at(map, NULL);
    int64_t tables = map->in / map->lookup.bits, rows = (int64_t)1 << map->lookup.bits, unused = 0;
    fur_table_use use = {.name = p->name, .tables = tables, .rows = rows, .columns = map->out};
    for (int64_t k = 0; k < tables; k++)
        add_table(use_R + map->first_row + k * rows, rows, &use.entropy, &unused);
    use.entropy /= (double)tables;
    use.unused = (double)unused / (double)(tables * rows);
    use.bytes = tables * rows * map->out * (int64_t)sizeof(float);
    use.multiplications = shape.kind->flops(&shape) / 2;
    use.dense_multiplications = (double)map->in * (double)map->out;
    return use;
}

/* The map whose table the parameter is. */
static const fur_map_offsets *map_of(const fur_model *model, const fur_parameter *p)
{
    for (int64_t layer = 0; layer < model->config.layers; layer++)
        for (int i = 0; i < FUR_LAYER_MAPS; i++) {
            const fur_map_offsets *map = fur_layer_table(&model->table.layers[layer], i);
            if (map && map->weight == p->offset)
                return map;
        }
    return NULL;
}

fur_status fur_measure_table_use(fur_context *context, fur_model *model, const fur_corpus *corpus,
                                 int64_t context_tokens, int64_t max_tokens, int64_t memory_bytes, fur_table_use **out,
                                 int64_t *count)
{
    fur_eval_result unused;
    fur_eval_settings settings;
    fur_eval_settings_defaults(&settings);
    settings.context_tokens = context_tokens;
    settings.max_tokens = max_tokens;
    settings.memory_bytes = memory_bytes;
    size_t rows = (size_t)model->table.table_rows, parameters = (size_t)model->table.count;
    *out = NULL;
    *count = 0;
    if (rows == 0)
        return fur_error_set(&context->error, FUR_E_ARGUMENT, "the model has no look-up tables");
    uint32_t *use_R = fur_calloc(rows, sizeof *use_R);
    fur_table_use *list = fur_calloc(parameters, sizeof *list);
    fur_status status = use_R && list
                            ? fur_evaluate_counting(context, model, corpus, &settings, use_R, &unused)
                            : fur_memory_error(&context->error, (int64_t)(rows * sizeof *use_R), "counts of rows");
    for (size_t i = 0; status == FUR_OK && i < parameters; i++) {
        const fur_parameter *p = &model->table.list[i];
        const fur_map_offsets *map = p->table ? map_of(model, p) : NULL;
        if (map)
            list[(*count)++] = use_of(p, map, use_R);
    }
    fur_free(use_R);
    if (status == FUR_OK)
        *out = list;
    else
        fur_free(list);
    return status;
}

void fur_table_use_free(fur_table_use *use)
{
    fur_free(use);
}
