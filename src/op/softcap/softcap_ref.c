/* SPDX-License-Identifier: Apache-2.0 */
/* The definition of softcap: plain C, in double. */
#include <math.h>

#include "op/softcap/softcap_kernel.h"

static void softcap(int64_t count, float cap, float *x)
{
    for (int64_t i = 0; i < count; i++)
        x[i] = (float)((double)cap * tanh((double)x[i] / (double)cap));
}

const fur_softcap_kernel fur_softcap_ref = {.softcap = softcap};
