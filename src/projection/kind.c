/* SPDX-License-Identifier: Apache-2.0 */
/* One row per kind; the index is what configs store. */
#include "projection/kind.h"

static const fur_projection_kind *const kinds[] = {&fur_projection_dense, &fur_projection_lookup};

int fur_projection_kind_count(void)
{
    return (int)(sizeof kinds / sizeof kinds[0]);
}

const fur_projection_kind *fur_projection_kind_at(int index)
{
    return kinds[index];
}
