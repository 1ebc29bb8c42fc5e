/* SPDX-License-Identifier: Apache-2.0 */
#include "model/head_xent.h"

#include <math.h>

#include "base/size.h"
#include "op/softcap/softcap.h"
#include "op/xent/xent.h"

/* logits[count, v_count] of one vocabulary tile, capped */
static fur_status logits(const fur_exec *exec, const fur_head_xent *x, int64_t count, const float *h_tC,
                         int64_t first_v, int64_t v_count)
{
    fur_projection part = fur_projection_outputs(&x->head, first_v, v_count);
    fur_projection_input input;
    FUR_TRY(part.kind->prepare(exec, &part, count, h_tC, part.in, &input));
    FUR_TRY(part.kind->forward(exec, &part, &input, 0, x->scratch->logits_tV, v_count));
    return x->softcap > 0 ? fur_softcap(exec, count * v_count, x->softcap, x->scratch->logits_tV) : FUR_OK;
}

/* Running maximum, sum and target logit over all tiles; scratch->sum_t becomes each row's log-sum-exp. */
static fur_status statistics(const fur_exec *exec, const fur_head_xent *x, int64_t count, const float *h_tC,
                             const int32_t *target_t, double *sum)
{
    const fur_loss_scratch *s = x->scratch;
    for (int64_t t = 0; t < count; t++) {
        s->maximum_t[t] = -INFINITY;
        s->sum_t[t] = 0;
        s->target_logit_t[t] = 0;
    }
    for (int64_t v = 0; v < x->head.out; v += x->tile) {
        int64_t v_count = fur_min_i64(x->tile, x->head.out - v);
        FUR_TRY(logits(exec, x, count, h_tC, v, v_count));
        FUR_TRY(fur_xent_statistics(exec, count, v_count, s->logits_tV, v_count, s->maximum_t, s->sum_t, v, target_t,
                                    s->target_logit_t));
    }
    for (int64_t t = 0; t < count; t++) {
        float lse = s->maximum_t[t] + logf(s->sum_t[t]);
        s->sum_t[t] = lse;
        s->nll_t[t] = target_t[t] < 0 ? NAN : lse - s->target_logit_t[t];
        if (target_t[t] >= 0)
            *sum += (double)s->nll_t[t];
    }
    return FUR_OK;
}

fur_status fur_head_xent_rows(const fur_exec *exec, const fur_head_xent *x, int64_t count, const float *h_tC,
                              const int32_t *target_t, float weight, float *dh_tC, double *sum)
{
    const fur_loss_scratch *s = x->scratch;
    FUR_TRY(statistics(exec, x, count, h_tC, target_t, sum));
    for (int64_t v = 0; dh_tC && v < x->head.out; v += x->tile) {
        int64_t v_count = fur_min_i64(x->tile, x->head.out - v);
        if (x->tile < x->head.out) /* otherwise the only tile's logits are still there */
            FUR_TRY(logits(exec, x, count, h_tC, v, v_count));
        FUR_TRY(
            fur_xent_gradient(exec, count, v_count, s->logits_tV, v_count, s->sum_t, v, target_t, weight, x->softcap));
        fur_projection part = fur_projection_outputs(&x->head, v, v_count);
        fur_gradient_sink sink = {.weight = x->sink.weight ? x->sink.weight + v * part.in : NULL};
        fur_projection_input input;
        FUR_TRY(part.kind->prepare(exec, &part, count, h_tC, part.in, &input));
        FUR_TRY(part.kind->backward(exec, &part, &input, s->logits_tV, v_count, v > 0, dh_tC, part.in,
                                    sink.weight ? &sink : NULL));
    }
    return FUR_OK;
}
