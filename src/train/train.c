/* SPDX-License-Identifier: Apache-2.0 */
/* The training loop: rows -> loss and gradient -> clip -> step -> log, evaluate, save. Read it top-down from
 * fur_train_run. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/random.h"
#include "base/size.h"
#include "op/sumsq/sumsq.h"
#include "train/trainer.h"

static fur_train_event event_of(const fur_trainer *t, fur_train_event_type type)
{
    const fur_train_settings *s = t->settings;
    double now = fur_clock_seconds();
    return (fur_train_event){.type = type,
                             .step = t->state.step,
                             .max_steps = s->max_steps,
                             .tokens = t->state.tokens,
                             .context = fur_trainer_context(s, t->state.step, NULL),
                             .loss = t->state.last_loss,
                             .seconds = now - t->start,
                             .step_seconds = now - t->step_start,
                             .rss_bytes = fur_process_rss_bytes(),
                             .peak_rss_bytes = fur_process_peak_rss_bytes(),
                             .planned_peak_bytes = t->plan.peak_bytes,
                             .arena_peak_bytes = fur_run_arena_peak_bytes(t->run),
                             .planned_arena_bytes = t->plan.arena_bytes};
}

static void send(const fur_trainer *t, const fur_train_event *event)
{
    if (t->on_event)
        t->on_event(t->user, event);
}

/* From within a row: at most four reports a second, and none for steps shorter than that. */
static void on_progress(void *user, double done)
{
    fur_trainer *t = user;
    double now = fur_clock_seconds();
    if (now - t->last_progress < 0.25)
        return;
    t->last_progress = now;
    fur_train_event event = event_of(t, FUR_EVENT_PROGRESS);
    event.progress = done;
    if (done > 0)
        event.seconds_left = event.step_seconds * (1 / done - 1);
    send(t, &event);
}

/* Positions whose loss counts; of real vectors all. */
static int64_t counted_tokens(const fur_row *row)
{
    int64_t tokens = row->offsets[row->documents], counted = 0;
    if (!row->target_T)
        return tokens;
    for (int64_t t = 0; t < tokens; t++)
        counted += row->target_T[t] >= 0;
    return counted;
}

/* Gradients of one step: the sum over rows, each weighted by its counted tokens; *counted is the total weight. */
static fur_status accumulate(fur_trainer *t, double *loss, int64_t *tokens, double *counted)
{
    const fur_train_settings *s = t->settings;
    int64_t phase, context = fur_trainer_context(s, t->state.step, &phase);
    if (phase != t->state.cursor.phase)
        t->state.cursor = (fur_cursor){.phase = phase};
    fur_model_zero_gradients(t->model);
    *loss = *counted = 0;
    *tokens = 0;
    for (int64_t i = 0; i < s->grad_accum; i++) {
        fur_row row;
        double row_loss;
        FUR_TRY(fur_cutter_row(&t->train, context, fur_phase_row_tokens(s, phase), &t->state.cursor, &t->run->memory,
                               &row));
        int64_t row_tokens = row.offsets[row.documents];
        /* one row: its mean is the step's, and no weight is needed */
        double weight = s->grad_accum > 1 ? (double)counted_tokens(&row) : 1.0;
        if (t->measures && i == 0)
            FUR_TRY(fur_run_measure_errors(t->run, fur_random_u64(s->seed, 0xe44, (uint64_t)t->state.step), false));
        fur_run_set_random(t->run, s->seed, (uint64_t)(t->state.step * s->grad_accum + i));
        FUR_TRY(fur_model_loss_and_gradient(t->run, &row, NULL, weight, &row_loss, NULL));
        *loss += weight * row_loss;
        *counted += weight;
        *tokens += row_tokens;
    }
    *counted = fmax(*counted, 1); /* rows of prompts alone predict nothing */
    *loss /= *counted;
    return FUR_OK;
}

static fur_status check_finite(fur_trainer *t, const fur_parameter *p, int64_t count, const float *values,
                               const char *what)
{
    double sum;
    FUR_TRY(fur_sum_squares(&t->run->exec, count, values, &sum));
    if (isfinite(sum))
        return FUR_OK;
    return fur_error_set(&t->context->error, FUR_E_NONFINITE, "step %lld: %s%s is not finite after the update",
                         (long long)t->state.step, what, p->name);
}

static fur_status check_moments(void *user, const fur_parameter *p, int64_t first, int64_t count, float *m, float *v)
{
    fur_trainer *t = user;
    (void)first;
    FUR_TRY(check_finite(t, p, count, m, "Adam's moment of "));
    return check_finite(t, p, count, v, "Adam's moment of ");
}

/* Weights and moments that are not finite are no state to go on from, and would take the place of one that is. */
static fur_status check_state(fur_trainer *t)
{
    for (int64_t i = 0; i < t->model->table.count; i++) {
        const fur_parameter *p = &t->model->table.list[i];
        FUR_TRY(check_finite(t, p, p->count, t->model->data + p->offset, ""));
    }
    FUR_TRY(fur_run_each_share(t->run, false, check_moments, t));
    return fur_run_check_row_moments(t->run, t->state.step);
}

/* How tables move in the step that comes, and have moved before. */
static void set_table_update(fur_trainer *t)
{
    const fur_train_settings *s = t->settings;
    for (int64_t i = 0; i < FUR_LOOKUP_BEHIND && i < t->state.step; i++)
        t->lr_before[i] = fur_learning_rate(s, t->state.step - 1 - i) * s->table_lr;
    t->tables = (fur_lookup_update){.lr = fur_learning_rate(s, t->state.step) * s->table_lr,
                                    .lr_before = t->lr_before,
                                    .beta1 = s->beta1,
                                    .beta2 = s->beta2,
                                    .eps = s->adam_eps,
                                    .weight_decay = s->weight_decay,
                                    .step = t->state.step + 1,
                                    .grad_scale = 1};
}

/* Told that a layer's gradients of its tables are complete: they are used up at once. */
static fur_status update_tables(void *user, int64_t layer)
{
    fur_trainer *t = user;
    return fur_run_update_tables(t->run, layer, t->settings->grad_clip, t->tables, &t->tables_changed);
}

/* Rows of tables that no token used lag behind until they are read. All are caught up before one is too far behind, and
 * when training ends; not before evaluations and checkpoints, on which no bit shall depend. */
static fur_status settle_tables(fur_trainer *t)
{
    if (!t->run->shape.row_updates || (t->state.step % FUR_LOOKUP_BEHIND && t->state.step != t->settings->max_steps))
        return FUR_OK;
    set_table_update(t);
    return fur_run_settle_tables(t->run, &t->tables);
}

/* Clips by the global norm and applies AdamW. */
static fur_status update(fur_trainer *t, double counted, double *grad_norm)
{
    const fur_train_settings *s = t->settings;
    FUR_TRY(fur_run_check_gradient(t->run, grad_norm));
    *grad_norm /= counted;
    double scale = 1.0 / counted;
    if (s->grad_clip > 0 && *grad_norm > s->grad_clip)
        scale *= s->grad_clip / *grad_norm;
    fur_adamw_args args = {.lr = fur_learning_rate(s, t->state.step),
                           .beta1 = s->beta1,
                           .beta2 = s->beta2,
                           .eps = s->adam_eps,
                           .weight_decay = s->weight_decay, /* of what decays */
                           .step = t->state.step + 1,
                           .grad_scale = (float)scale};
    return fur_run_adamw(t->run, &args);
}

static fur_status log_step(fur_trainer *t, double grad_norm, int64_t tokens)
{
    const fur_train_settings *s = t->settings;
    fur_train_event event = event_of(t, FUR_EVENT_STEP);
    event.grad_norm = grad_norm;
    event.lr = fur_learning_rate(s, t->state.step - 1);
    event.tokens_per_second = (double)tokens / fmax(event.step_seconds, 1e-9);
    double per_step = event.seconds / (double)(t->state.step - t->first_step);
    event.seconds_left = per_step * (double)(s->max_steps - t->state.step);
    send(t, &event);
    if (s->log_steps > 1 && t->state.step % s->log_steps && t->state.step != s->max_steps)
        return FUR_OK;
    return fur_metrics_write(t->context, &t->metrics, &event, NULL);
}

static bool due(int64_t step, int64_t every, int64_t last)
{
    return step == last || (every > 0 && step % every == 0);
}

/* Whether the step that comes measures the error of attention: the first one does, so that polynomials fit what they
 * see from the second on. */
static bool measures_next(const fur_trainer *t)
{
    int64_t next = t->state.step + 1;
    return fur_config_has_far(&t->model->config) &&
           (next == 1 || due(next, t->settings->error_steps, t->settings->max_steps));
}

/* After a step that measured: says what it found, and refits polynomials to it for the steps to come. */
static fur_status report_errors(fur_trainer *t)
{
    const fur_model_config *c = &t->model->config;
    fur_head_error *errors = fur_calloc((size_t)(c->layers * c->heads), sizeof *errors);
    if (!errors)
        return fur_memory_error(&t->context->error, c->layers * c->heads * (int64_t)sizeof *errors, "errors of heads");
    fur_run_install_fits(t->run);
    fur_train_event event = event_of(t, FUR_EVENT_ERRORS);
    event.errors = errors;
    event.error_count = fur_run_head_errors(t->run, errors);
    send(t, &event);
    fur_status status = fur_metrics_write(t->context, &t->metrics, &event, NULL);
    fur_free(errors);
    return status;
}

/* One optimizer step. A step that is stopped or not finite leaves weights, moments and cursor as they were, but for
 * rows of tables, which it brought up to date as the step that comes in its place would have. An error of the disk that
 * holds the moments, or one after look-up tables changed, may come when a part of the model is updated: the run ends
 * there, nothing of it is saved, and the last checkpoint is what it goes on from. */
static fur_status train_step(fur_trainer *t)
{
    fur_cursor before = t->state.cursor;
    double loss, counted, grad_norm = 0;
    int64_t tokens;
    t->step_start = t->last_progress = fur_clock_seconds();
    t->measures = measures_next(t);
    t->tables_changed = false;
    if (t->exact_before)
        fur_run_exact_flags(t->run, t->exact_before, false);
    set_table_update(t);
    t->run->behind = &t->tables;
    fur_status status = accumulate(t, &loss, &tokens, &counted);
    t->run->behind = NULL;
    if (status == FUR_OK)
        status = update(t, counted, &grad_norm);
    if (status != FUR_OK && t->exact_before) /* heads that a failed step named were named in vain */
        fur_run_exact_flags(t->run, t->exact_before, true);
    if (status == FUR_E_NONFINITE && t->tables_changed)
        fur_error_prefix(&t->context->error, "after tables were updated, so that this step cannot be undone");
    if (status == FUR_E_NONFINITE && t->settings->skip_nonfinite && !t->tables_changed) {
        fur_log(t->context, FUR_LOG_WARNING, "step %lld skipped: %s", (long long)t->state.step + 1,
                fur_context_error(t->context));
        t->state.step++;
        return FUR_OK;
    }
    if (status != FUR_OK) {
        t->state.cursor = before;
        if (status == FUR_E_NONFINITE)
            fur_error_prefix(&t->context->error, "step %lld", (long long)t->state.step + 1);
        return status;
    }
    t->state.last_loss = loss;
    t->state.tokens += tokens;
    t->state.step++;
    FUR_TRY(log_step(t, grad_norm, tokens));
    return t->measures ? report_errors(t) : FUR_OK;
}

static fur_status evaluate(fur_trainer *t)
{
    if (!t->eval.segments)
        return FUR_OK;
    fur_eval_result result;
    int64_t context = fur_trainer_context(t->settings, fur_max_i64(0, t->state.step - 1), NULL);
    t->run->on_progress = NULL; /* evaluation is no part of a step */
    fur_status status = fur_evaluate_with(t->run, &t->eval, context, t->settings->eval_tokens, &result);
    t->run->on_progress = on_progress;
    FUR_TRY(status);
    t->last_eval_loss = result.loss;
    fur_train_event event = event_of(t, FUR_EVENT_EVAL);
    event.loss = result.loss;
    FUR_TRY(fur_metrics_write(t->context, &t->metrics, &event, &result));
    send(t, &event);
    return FUR_OK;
}

static fur_status save(fur_trainer *t)
{
    char *path;
    FUR_TRY(check_state(t));
    FUR_TRY(
        fur_checkpoint_save(t->context, t->settings->output_dir, t->model, t->run, &t->state, &t->tokenizer, &path));
    fur_free(t->checkpoint);
    t->checkpoint = path;
    fur_checkpoint_prune(t->settings->output_dir, t->settings->keep_checkpoints);
    fur_train_event event = event_of(t, FUR_EVENT_SAVE);
    event.path = path;
    send(t, &event);
    return FUR_OK;
}

/* A step, and what is due after it. */
static fur_status step_and_evaluate(fur_trainer *t)
{
    FUR_TRY(train_step(t));
    FUR_TRY(settle_tables(t));
    if (due(t->state.step, t->settings->eval_steps, t->settings->max_steps))
        FUR_TRY(evaluate(t));
    if (atomic_load(&t->context->stop))
        return fur_error_set(&t->context->error, FUR_E_INTERRUPTED, "stopped");
    return FUR_OK;
}

static fur_status train_steps(fur_trainer *t)
{
    const fur_train_settings *s = t->settings;
    while (t->state.step < s->max_steps) {
        fur_status status = step_and_evaluate(t);
        if (status == FUR_E_INTERRUPTED) {
            FUR_TRY(save(t));
            return fur_error_set(&t->context->error, FUR_E_INTERRUPTED, "stopped after step %lld; saved %s",
                                 (long long)t->state.step, t->checkpoint);
        }
        FUR_TRY(status);
        if (due(t->state.step, s->save_steps, s->max_steps))
            FUR_TRY(save(t));
    }
    return FUR_OK;
}

static void fill_result(const fur_trainer *t, fur_train_result *result)
{
    *result = (fur_train_result){.steps = t->state.step,
                                 .tokens = t->state.tokens,
                                 .loss = t->state.last_loss,
                                 .eval_loss = t->last_eval_loss,
                                 .seconds = fur_clock_seconds() - t->start,
                                 .planned_peak_bytes = t->plan.peak_bytes,
                                 .peak_rss_bytes = fur_process_peak_rss_bytes(),
                                 .planned_arena_bytes = t->plan.arena_bytes,
                                 .arena_peak_bytes = t->run ? fur_run_arena_peak_bytes(t->run) : 0};
    if (t->checkpoint)
        snprintf(result->checkpoint, sizeof result->checkpoint, "%s", t->checkpoint);
}

fur_status fur_train_run(fur_context *context, const fur_train_settings *settings, const fur_corpus *corpus,
                         const fur_corpus *eval, fur_train_fn on_event, void *user, fur_train_result *result)
{
    fur_trainer trainer;
    fur_status status = fur_trainer_open(context, settings, corpus, eval, on_event, user, &trainer);
    if (status == FUR_OK) {
        trainer.run->on_progress = on_progress;
        trainer.run->on_layer_done = update_tables;
        trainer.run->layer_done_user = &trainer;
        trainer.run->progress_user = &trainer;
        trainer.step_start = fur_clock_seconds();
        fur_train_event event = event_of(&trainer, FUR_EVENT_PLAN);
        event.plan = &trainer.plan;
        send(&trainer, &event);
        status = train_steps(&trainer);
    }
    if (result)
        fill_result(&trainer, result);
    fur_trainer_close(&trainer);
    return status;
}
