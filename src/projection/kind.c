/* SPDX-License-Identifier: Apache-2.0 */
/* One row per kind; the index is what configs store. */
#include "projection/kind.h"

#include "op/gemv/gemv.h"

static const fur_projection_kind *const kinds[] = {&fur_projection_dense, &fur_projection_lookup};

fur_status fur_projection_generate(const fur_exec *exec, const fur_projection *map, const fur_projection_input *input,
                                   int add, float *y_TO, int64_t ldy)
{
    bool few = map->kind->forward_few && input->tokens <= FUR_GEMV_MOST;
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
