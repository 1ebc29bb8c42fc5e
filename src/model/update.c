/* SPDX-License-Identifier: Apache-2.0 */
/* The optimizer's step over a run's parameters. Rows of look-up tables have their own: tables.c. */
#include <math.h>

#include "base/size.h"
#include "model/run.h"
#include "op/sumsq/sumsq.h"

typedef struct shares {
    const fur_parameter_table *table;
    fur_share_fn fn;
    void *user;
} shares;

static fur_status each_share(void *user, int64_t first, int64_t count, float *m, float *v)
{
    const shares *s = user;
    for (int64_t i = 0; i < s->table->count; i++) {
        const fur_parameter *p = &s->table->list[i];
        int64_t at = p->table ? -1 : fur_trained_at(s->table, p->offset);
        int64_t from = fur_max_i64(first, at), to = fur_min_i64(first + count, at + p->count);
        if (at >= 0 && from < to)
            FUR_TRY(s->fn(s->user, p, from, to - from, m + (from - first), v + (from - first)));
    }
    return FUR_OK;
}

fur_status fur_run_each_share(fur_run *run, bool change, fur_share_fn fn, void *user)
{
    return fur_moments_each(&run->exec, &run->memory.moments, change, each_share,
                            &(shares){&run->model->table, fn, user});
}

typedef struct step {
    const fur_run *run;
    const fur_adamw_args *args;
} step;

static fur_status update_share(void *user, const fur_parameter *p, int64_t first, int64_t count, float *m, float *v)
{
    const step *s = user;
    const fur_model *model = s->run->model;
    fur_adamw_args args = *s->args;
    args.weight_decay = p->decayed ? args.weight_decay : 0;
    return fur_adamw_step(&s->run->exec, count, model->data + model->table.first_trained + first,
                          model->gradient + first, m, v, &args);
}

fur_status fur_run_adamw(fur_run *run, const fur_adamw_args *args)
{
    return fur_run_each_share(run, true, update_share, &(step){run, args});
}

fur_status fur_run_check_gradient(const fur_run *run, double *norm)
{
    const fur_model *model = run->model;
    double sum;
    FUR_TRY(fur_sum_squares(&run->exec, fur_trained_elements(&model->table), model->gradient, &sum));
    *norm = sqrt(sum);
    for (int64_t i = 0; !isfinite(sum) && i < model->table.count; i++) {
        const fur_parameter *p = &model->table.list[i];
        const float *gradient = p->table ? NULL : fur_model_gradient(model, p->offset);
        double own;
        if (!gradient)
            continue;
        FUR_TRY(fur_sum_squares(&run->exec, p->count, gradient, &own));
        if (!isfinite(own))
            return fur_error_set(run->exec.error, FUR_E_NONFINITE, "the gradient of %s is not finite", p->name);
    }
    return isfinite(sum) ? FUR_OK
                         : fur_error_set(run->exec.error, FUR_E_NONFINITE, "the gradient's norm is not finite");
}

/* ---- public ----------------------------------------------------------------------------------------------- */

void fur_update_settings_defaults(fur_update_settings *settings)
{
    *settings = (fur_update_settings){.struct_size = sizeof *settings,
                                      .lr = 1e-3,
                                      .beta1 = 0.9,
                                      .beta2 = 0.95,
                                      .eps = 1e-8,
                                      .weight_decay = 0.1,
                                      .grad_clip = 1,
                                      .step = 1};
}

fur_status fur_run_update(fur_run *run, const fur_update_settings *s, double *out_norm)
{
    double norm;
    if (!run->shape.optimizer || !run->model->gradient)
        return fur_error_set(run->exec.error, FUR_E_ARGUMENT, "a run that is not for training has no optimizer");
    if (run->model->table.tables > 0)
        return fur_error_set(run->exec.error, FUR_E_UNSUPPORTED,
                             "an update from outside does not move look-up tables: train such a model by "
                             "fur_train_run, or with an optimizer of your own");
    FUR_TRY(fur_run_check_gradient(run, &norm));
    if (s->step <= 1)
        FUR_TRY(fur_moments_zero(&run->exec, &run->memory.moments));
    fur_adamw_args args = {.lr = s->lr,
                           .beta1 = s->beta1,
                           .beta2 = s->beta2,
                           .eps = s->eps,
                           .weight_decay = s->weight_decay,
                           .step = s->step,
                           .grad_scale = s->grad_clip > 0 && norm > s->grad_clip ? (float)(s->grad_clip / norm) : 1};
    FUR_TRY(fur_run_adamw(run, &args));
    fur_model_zero_gradients(run->model);
    *out_norm = norm;
    return FUR_OK;
}
