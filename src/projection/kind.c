/* SPDX-License-Identifier: Apache-2.0 */
/* One row per kind; the index is what configs store. */
#include "projection/kind.h"

#include "base/size.h"
#include "op/gemv/gemv.h"

static const fur_projection_kind *const kinds[] = {&fur_projection_dense, &fur_projection_lookup};

fur_projection fur_projection_outputs(const fur_projection *map, int64_t first, int64_t count)
{
    fur_projection part = *map;
    part.out = count;
    if (map->coded_parts == 0) {
        part.weight += first * map->in;
        return part;
    }
    part.coded_parts = 0;
    for (int i = 0; i < map->coded_parts && count > 0; i++) {
        fur_coded_rows rows = map->coded[i];
        if (first < rows.count) {
            rows.rows += first * rows.row_bytes;
            rows.count = fur_min_i64(rows.count - first, count);
            part.coded[part.coded_parts++] = rows;
            count -= rows.count;
            first = 0;
        } else {
            first -= rows.count;
        }
    }
    return part;
}

fur_status fur_projection_generate(const fur_exec *exec, const fur_projection *map, const fur_projection_input *input,
                                   int add, float *y_TO, int64_t ldy)
{
    /* f32 weights with products of bf16: rounded as those of whole rows are */
    bool rounds = exec->compute == FUR_COMPUTE_BF16 && map->coded_parts == 0;
    bool few = map->kind->forward_few && input->tokens <= FUR_GEMV_MOST && !rounds;
    return (few ? map->kind->forward_few : map->kind->forward)(exec, map, input, add, y_TO, ldy);
}

int fur_projection_kind_count(void)
{
    return (int)(sizeof kinds / sizeof kinds[0]);
}

const fur_projection_kind *fur_projection_kind_at(int index)
{
    return kinds[index];
}
