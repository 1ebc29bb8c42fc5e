/* SPDX-License-Identifier: Apache-2.0 */
/* One row per kind; the index is what configs store. */
#include "attention/kind.h"

static const fur_attention_kind *const kinds[] = {&fur_attention_exact, &fur_attention_almost_linear};

int fur_attention_kind_count(void)
{
    return (int)(sizeof kinds / sizeof kinds[0]);
}

const fur_attention_kind *fur_attention_kind_at(int index)
{
    return kinds[index];
}
