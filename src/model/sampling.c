/* SPDX-License-Identifier: Apache-2.0 */
#include "model/sampling.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/context.h"
#include "base/random.h"
#include "base/size.h"

#define SAMPLING_STREAM 0x73616d70 /* its own stream of the seed */

void fur_sampling_defaults(fur_sampling *sampling)
{
    memset(sampling, 0, sizeof *sampling);
    sampling->struct_size = sizeof *sampling;
    sampling->temperature = 0.8f;
    sampling->top_k = 40;
    sampling->top_p = 0.95f;
    sampling->seed = 1;
}

fur_status fur_sampling_check(fur_context *context, const fur_sampling *s)
{
    fur_error *error = &context->error;
    if (s->struct_size != sizeof *s)
        return fur_error_set(error, FUR_E_ARGUMENT, "fur_sampling has %zu bytes, this library expects %zu",
                             s->struct_size, sizeof *s);
    if (!(s->temperature >= 0 && s->temperature < 1000))
        return fur_error_set(error, FUR_E_ARGUMENT, "temperature is %g, expected 0 to 1000", (double)s->temperature);
    if (s->top_k < 0)
        return fur_error_set(error, FUR_E_ARGUMENT, "top-k is %d, expected 0 (all) or more", s->top_k);
    if (!(s->top_p > 0 && s->top_p <= 1))
        return fur_error_set(error, FUR_E_ARGUMENT, "top-p is %g, expected above 0 and at most 1", (double)s->top_p);
    return FUR_OK;
}

static int by_falling_logit(const void *a, const void *b)
{
    const fur_candidate *x = a, *y = b;
    if (x->logit != y->logit)
        return x->logit > y->logit ? -1 : 1;
    return (x->id > y->id) - (x->id < y->id);
}

int32_t fur_sample(const fur_sampling *s, uint64_t draw, int64_t vocabulary, const float *logits_V,
                   fur_candidate *scratch)
{
    for (int64_t v = 0; v < vocabulary; v++)
        scratch[v] = (fur_candidate){logits_V[v], (int32_t)v};
    qsort(scratch, (size_t)vocabulary, sizeof *scratch, by_falling_logit);
    if (s->temperature == 0.0f)
        return scratch[0].id;
    int64_t kept = s->top_k > 0 ? fur_min_i64(s->top_k, vocabulary) : vocabulary;
    double total = 0;
    for (int64_t i = 0; i < kept; i++)
        total += exp(((double)scratch[i].logit - (double)scratch[0].logit) / (double)s->temperature);
    double limit = (double)s->top_p * total, cut = 0;
    int64_t nucleus = 0;
    while (nucleus < kept && (nucleus == 0 || cut < limit)) {
        cut += exp(((double)scratch[nucleus].logit - (double)scratch[0].logit) / (double)s->temperature);
        nucleus++;
    }
    double point = fur_random_uniform(s->seed, SAMPLING_STREAM, draw) * cut;
    for (int64_t i = 0; i < nucleus; i++) {
        point -= exp(((double)scratch[i].logit - (double)scratch[0].logit) / (double)s->temperature);
        if (point < 0)
            return scratch[i].id;
    }
    return scratch[nucleus - 1].id;
}
