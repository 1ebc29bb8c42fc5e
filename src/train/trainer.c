/* SPDX-License-Identifier: Apache-2.0 */
/* Opening and closing a training run. */
#include "train/trainer.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/size.h"
#include "cpu/cpu.h"
#include "io/file.h"
#include "model/adapter.h"
#include "model/family.h"
#include "plan/plan.h"
#include "store/encode.h"

/* A fresh run may not go where another one was. */
static fur_status check_unused(const fur_trainer *t)
{
    fur_error *error = &t->context->error;
    const fur_train_settings *s = t->settings;
    char *path;
    FUR_TRY(fur_path_join(error, s->output_dir, "run.json", &path));
    bool used = fur_path_exists(path);
    fur_free(path);
    if (used && !s->resume)
        return fur_error_set(error, FUR_E_ARGUMENT, "%s already holds a run: use --resume latest, or another folder",
                             s->output_dir);
    return FUR_OK;
}

static fur_status open_folder(fur_trainer *t)
{
    fur_error *error = &t->context->error;
    const fur_train_settings *s = t->settings;
    t->folder_is_new = !s->resume && !fur_path_exists(s->output_dir);
    if (!s->resume)
        FUR_TRY(fur_folder_create(error, s->output_dir));
    FUR_TRY(fur_lock_acquire(error, s->output_dir, &t->lock));
    fur_folder_sweep(s->output_dir);
    return check_unused(t); /* another run may have begun there since it was asked */
}

/* Differences that do not stop a resumed run but change its bits, or make it another run. */
static fur_status compare_with_checkpoint(fur_trainer *t, const fur_trainer_state *saved)
{
    fur_context *context = t->context;
    const fur_train_settings *s = t->settings;
    if (saved->data_hash != t->train.info.hash)
        return fur_error_set(&context->error, FUR_E_ARGUMENT,
                             "the data is not what this run was trained on (hash %016llx, the checkpoint has %016llx)",
                             (unsigned long long)t->train.info.hash, (unsigned long long)saved->data_hash);
    if (saved->row_tokens != s->row_tokens || saved->grad_accum != s->grad_accum || saved->seed != s->seed)
        return fur_error_set(
            &context->error, FUR_E_ARGUMENT,
            "row of %lld tokens, %lld rows a step, seed %llu: the checkpoint was made with %lld, %lld, %llu",
            (long long)s->row_tokens, (long long)s->grad_accum, (unsigned long long)s->seed,
            (long long)saved->row_tokens, (long long)saved->grad_accum, (unsigned long long)saved->seed);
    if (saved->compute != context->exec.compute && context->dtype_is_given)
        return fur_error_set(&context->error, FUR_E_ARGUMENT, "products of %s: the checkpoint was made with %s",
                             fur_compute_name(context->exec.compute), fur_compute_name(saved->compute));
    if (saved->compute != context->exec.compute)
        context->gflops = 0; /* measured in the other type */
    context->exec.compute = saved->compute;
    if ((saved->shape.row_adam != 0) != s->table_adam)
        return fur_error_set(&context->error, FUR_E_ARGUMENT, "tables updated by %s: the checkpoint was made with %s",
                             s->table_adam ? "adam" : "lazy", saved->shape.row_adam ? "adam" : "lazy");
    if (saved->shape.stored != s->stored)
        return fur_error_set(&context->error, FUR_E_ARGUMENT,
                             "layer inputs stored as %s: the checkpoint was made with %s",
                             fur_stored_type_name(s->stored), fur_stored_type_name(saved->shape.stored));
    if (strcmp(saved->isa, fur_isa_name(context->exec.isa)) != 0)
        fur_log(context, FUR_LOG_WARNING,
                "the run was made with %s and goes on with %s: results differ within rounding", saved->isa,
                fur_isa_name(context->exec.isa));
    return FUR_OK;
}

/* What an update of tables could only refuse when others have moved, or cannot do. */
static fur_status check_row_updates(const fur_trainer *t)
{
    const fur_train_settings *s = t->settings;
    if (s->beta1 > 0.99 || s->max_steps > UINT32_MAX)
        return fur_error_set(&t->context->error, FUR_E_ARGUMENT,
                             "look-up tables: beta1 %g and %lld steps, expected at most 0.99 and 2^32 - 1", s->beta1,
                             (long long)s->max_steps);
    if (s->lr * s->table_lr * s->weight_decay > 1)
        return fur_error_set(&t->context->error, FUR_E_ARGUMENT,
                             "look-up tables: learning rate %g x %g times weight decay %g is above 1", s->lr,
                             s->table_lr, s->weight_decay);
    if (s->grad_accum > 1)
        return fur_error_set(
            &t->context->error, FUR_E_ARGUMENT,
            "a model with look-up tables, whose rows are updated as each layer's gradient is complete, "
            "takes one row a step: use -b %lld and --grad-accum 1",
            (long long)(s->row_tokens * s->grad_accum));
    return FUR_OK;
}

/* Before the weights take their memory, so that what cannot fit is refused at once. */
static fur_status make_plan(fur_trainer *t, const fur_model_config *config, const fur_corpus *corpus,
                            const fur_corpus *eval, const fur_trainer_state *saved)
{
    if (fur_config_has_lookup(config))
        FUR_TRY(check_row_updates(t));
    fur_train_request(t->settings, corpus, eval, &t->request);
    t->request.data_bytes = fur_max_i64(t->request.data_bytes, fur_context_held_bytes(t->context));
    if (config->lora_rank > 0)
        FUR_TRY(fur_model_frozen_bytes(t->context, t->checkpoint ? t->checkpoint : t->settings->init_from, config,
                                       &t->request.weight_bytes));
    if (saved)
        FUR_TRY(fur_plan_of_shape(t->context, config, &t->request, &saved->shape, &t->plan));
    else
        FUR_TRY(fur_plan_make(t->context, config, &t->request, &t->plan));
    return t->plan.fits ? FUR_OK : fur_plan_refuse(t->context, config, &t->request, &t->plan);
}

static fur_status check_context(fur_trainer *t)
{
    int64_t longest = fur_cutter_longest(&t->train);
    int64_t asked = t->request.document_tokens;
    if (t->train.segment_count == 1 && asked > longest)
        return fur_error_set(&t->context->error, FUR_E_SHAPE,
                             "shorter than one context: %lld tokens to train on, context %lld; use -c %lld or less, or "
                             "more data",
                             (long long)longest + 1, (long long)asked, (long long)longest);
    return FUR_OK;
}

static fur_status read_config(fur_context *context, const fur_train_settings *s, const char *folder,
                              fur_model_config *out)
{
    if (!folder || (s->reshape && folder == s->init_from)) {
        *out = s->model;
        return FUR_OK;
    }
    return fur_config_read(context, folder, out);
}

/* The config that a run has: that of the model it begins with, and fresh adapters. */
static fur_status find_config(fur_context *context, const fur_train_settings *s, const char *checkpoint,
                              fur_model_config *out)
{
    FUR_TRY(read_config(context, s, checkpoint ? checkpoint : s->init_from, out));
    if (checkpoint || s->lora_rank == 0)
        return FUR_OK;
    if (!s->init_from)
        return fur_error_set(&context->error, FUR_E_ARGUMENT, "lora: expected a model that adapters are added to");
    return fur_config_set_lora(context, out, s->lora_rank, s->lora_alpha, s->lora_targets);
}

/* As it is in its folder, or with fresh adapters. */
static fur_status load_model(fur_trainer *t, const char *folder, bool fresh_adapters, const fur_model_config *config)
{
    if (!fresh_adapters)
        return fur_model_load(t->context, folder, &t->model);
    return fur_model_load_lora(t->context, folder, config, t->settings->seed, &t->model);
}

static fur_status open_model(fur_trainer *t, const char *checkpoint, const fur_model_config *config)
{
    const fur_train_settings *s = t->settings;
    const char *folder = checkpoint ? checkpoint : s->init_from;
    if (!folder) {
        fur_model_config fresh = s->model;
        fresh.table_type = FUR_TABLE_F32; /* what a run trains, and so what it saves */
        return fur_model_create(t->context, &fresh, s->seed, &t->model);
    }
    fur_status status = load_model(t, folder, !checkpoint && s->lora_rank > 0, config);
    if (status == FUR_OK && s->reshape && !checkpoint)
        status = fur_model_reshape(t->context, &s->model, &t->model);
    if (status == FUR_OK && t->model->config.table_type != FUR_TABLE_F32) {
        fur_log(t->context, FUR_LOG_INFO, "%s: tables are stored as %s: training goes on from rounded values, in f32",
                folder, fur_table_type_name((int)t->model->config.table_type));
        t->model->config.table_type = FUR_TABLE_F32;
    }
    if (status == FUR_E_NONFINITE) /* before the first step it is the file's fault, not the run's */
        status = t->context->error.status = FUR_E_FORMAT;
    return status;
}

static fur_status open_data(fur_trainer *t, const fur_corpus *corpus, const fur_corpus *eval)
{
    const fur_train_settings *s = t->settings;
    bool split = !eval && s->held_out > 0;
    FUR_TRY(fur_cutter_create(t->context, corpus, split ? FUR_PART_REST : FUR_PART_ALL, s->held_out, s->seed, true,
                              &t->train));
    if (eval || split)
        FUR_TRY(fur_cutter_create(t->context, eval ? eval : corpus, split ? FUR_PART_HELD_OUT : FUR_PART_ALL,
                                  s->held_out, s->seed, false, &t->eval));
    return FUR_OK;
}

/* What the run begins with: a fresh model, or all of the checkpoint. */
static fur_status open_state(fur_trainer *t, const fur_trainer_state *saved, const fur_model_config *config)
{
    const fur_train_settings *s = t->settings;
    fur_context *context = t->context;
    FUR_TRY(open_model(t, saved ? t->checkpoint : NULL, config));
    FUR_TRY(fur_run_create(context, t->model, &t->plan, &t->request, &t->run));
    const fur_model_config *c = &t->model->config;
    if (fur_config_has_far(c) && c->far_max_error > 0) {
        t->exact_before = fur_calloc((size_t)(c->layers * c->kv_heads), sizeof *t->exact_before);
        if (!t->exact_before)
            return fur_error_set(&context->error, FUR_E_MEMORY, "no memory for the flags of heads");
    }
    if (saved) {
        t->state = *saved;
        FUR_TRY(fur_checkpoint_read_moments(context, t->checkpoint, t->model, t->run));
        if (fur_run_check_row_moments(t->run, saved->step) != FUR_OK) { /* of a file, its fault */
            fur_error_prefix(&context->error, "%s", t->checkpoint);
            return context->error.status = FUR_E_FORMAT;
        }
        fur_log(context, FUR_LOG_INFO, "resuming from %s", t->checkpoint);
    } else {
        FUR_TRY(fur_moments_zero(&t->run->exec, &t->run->memory.moments));
        fur_run_clear_row_moments(t->run);
        t->state = (fur_trainer_state){.seed = s->seed,
                                       .data_hash = t->train.info.hash,
                                       .row_tokens = s->row_tokens,
                                       .grad_accum = s->grad_accum,
                                       .shape = t->run->shape};
    }
    t->state.compute = context->exec.compute;
    snprintf(t->state.isa, sizeof t->state.isa, "%s", fur_isa_name(context->exec.isa));
    t->first_step = t->state.step;
    return FUR_OK;
}

/* Layer inputs that are not stored as f32 make the run inexact: by how much is measured on the data's first tokens, and
 * said. */
static fur_status tell_stored_error(fur_trainer *t)
{
    fur_cursor cursor = {0};
    fur_row row;
    double error;
    if (t->plan.stored == FUR_STORED_F32)
        return FUR_OK;
    int64_t tokens = fur_min_i64(fur_run_stored_error_tokens(t->run), fur_trainer_context(t->settings, 0, NULL));
    if (tokens < 1)
        return FUR_OK;
    FUR_TRY(fur_cutter_row(&t->train, tokens, tokens, &cursor, &t->run->memory, &row));
    if (t->exact_before)
        fur_run_exact_flags(t->run, t->exact_before, false);
    FUR_TRY(fur_run_stored_error(t->run, &row, &error));
    if (t->exact_before)
        fur_run_exact_flags(t->run, t->exact_before, true);
    fur_log(t->context, FUR_LOG_WARNING,
            "NOT EXACT: layer inputs are stored as %s; on %lld tokens the gradient is %.1e from the exact one",
            fur_stored_type_name(t->plan.stored), (long long)row.offsets[row.documents], error);
    return FUR_OK;
}

/* What is put beside every checkpoint; a resumed run goes on with what is there. */
static fur_status read_tokenizer(fur_trainer *t)
{
    fur_error *error = &t->context->error;
    if (t->settings->tokenizer)
        return fur_tokenizer_files_read(error, t->settings->tokenizer, &t->tokenizer);
    if (!t->checkpoint)
        return FUR_OK;
    char *path = NULL;
    FUR_TRY(fur_path_join(error, t->checkpoint, fur_tokenizer_file_names[0], &path));
    fur_status status = fur_path_exists(path) ? fur_tokenizer_files_read(error, t->checkpoint, &t->tokenizer) : FUR_OK;
    fur_free(path);
    return status;
}

/* A run that is refused leaves no folder behind: a fresh one makes its folder when all else is known to be right. */
static fur_status open_all(fur_trainer *t, const fur_corpus *corpus, const fur_corpus *eval)
{
    const fur_train_settings *s = t->settings;
    fur_context *context = t->context;
    fur_trainer_state saved = {0};
    FUR_TRY(fur_train_settings_check(context, s));
    FUR_TRY(check_unused(t)); /* early, since what follows takes a while */
    if (s->resume) {
        FUR_TRY(open_folder(t));
        FUR_TRY(fur_checkpoint_find(context, s->output_dir, s->resume, &t->checkpoint));
        FUR_TRY(fur_checkpoint_read_state(context, t->checkpoint, &saved));
    }
    FUR_TRY(read_tokenizer(t));
    FUR_TRY(open_data(t, corpus, eval));
    fur_model_config config;
    FUR_TRY(find_config(context, s, t->checkpoint, &config));
    FUR_TRY(fur_data_check(context, &config, corpus));
    if (eval)
        FUR_TRY(fur_data_check(context, &config, eval));
    if (s->resume)
        FUR_TRY(compare_with_checkpoint(t, &saved));
    FUR_TRY(make_plan(t, &config, corpus, eval, s->resume ? &saved : NULL));
    FUR_TRY(check_context(t));
    bool early = t->plan.disk_bytes > 0 && !s->disk_dir; /* the store's file is in the output folder */
    if (!s->resume && early)
        FUR_TRY(open_folder(t));
    FUR_TRY(open_state(t, s->resume ? &saved : NULL, &config));
    if (!s->resume && !early)
        FUR_TRY(open_folder(t));
    FUR_TRY(tell_stored_error(t));
    FUR_TRY(fur_metrics_open(context, s->output_dir, t->state.step, &t->metrics));
    return fur_run_json_write(t);
}

fur_status fur_trainer_open(fur_context *context, const fur_train_settings *settings, const fur_corpus *corpus,
                            const fur_corpus *eval, fur_train_fn on_event, void *user, fur_trainer *out)
{
    memset(out, 0, sizeof *out);
    out->context = context;
    out->settings = settings;
    out->on_event = on_event;
    out->user = user;
    out->start = fur_clock_seconds();
    out->last_eval_loss = (double)NAN;
    fur_status status = open_all(out, corpus, eval);
    if (status != FUR_OK && out->folder_is_new && out->lock)
        fur_folder_abandon(settings->output_dir);
    return status;
}

void fur_trainer_close(fur_trainer *t)
{
    fur_metrics_close(&t->metrics);
    fur_run_destroy(t->run);
    fur_model_destroy(t->model);
    fur_cutter_destroy(&t->train);
    fur_cutter_destroy(&t->eval);
    fur_lock_release(t->lock);
    fur_tokenizer_files_clear(&t->tokenizer);
    fur_free(t->checkpoint);
    fur_free(t->exact_before);
}

fur_status fur_train_plan(fur_context *context, const fur_train_settings *settings, const fur_corpus *corpus,
                          fur_plan *out)
{
    fur_model_config config;
    FUR_TRY(find_config(context, settings, NULL, &config));
    fur_plan_request request;
    FUR_TRY(fur_train_settings_check(context, settings));
    fur_train_request(settings, corpus, NULL, &request);
    request.data_bytes = fur_max_i64(request.data_bytes, fur_context_held_bytes(context));
    if (config.lora_rank > 0)
        FUR_TRY(fur_model_frozen_bytes(context, settings->init_from, &config, &request.weight_bytes));
    return fur_plan_make(context, &config, &request, out);
}
