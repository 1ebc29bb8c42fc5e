/* SPDX-License-Identifier: Apache-2.0 */
/* A training run: everything between its first and its last step. */
#ifndef FUR_TRAIN_TRAINER_H
#define FUR_TRAIN_TRAINER_H

#include "io/folder.h"
#include "train/checkpoint.h"
#include "train/evaluate.h"
#include "train/metrics.h"

typedef struct fur_trainer {
    fur_context *context;
    const fur_train_settings *settings;
    fur_train_fn on_event;
    void *user;
    fur_lock *lock;     /* of the output folder */
    bool folder_is_new; /* this run made it: a start that fails takes it away again */
    fur_model *model;
    fur_run *run;
    fur_plan plan;
    fur_plan_request request;
    fur_cutter train, eval;
    fur_metrics metrics;
    fur_trainer_state state;
    fur_tokenizer_files tokenizer;
    double start, step_start; /* seconds on the clock */
    float *exact_before;      /* which heads were exact before the step in progress; NULL: none ever is */
    bool measures;            /* the step in progress measures the error of attention */
    bool tables_changed;      /* by the step in progress, which can no longer be undone */
    fur_lookup_update tables; /* of the step in progress */
    double lr_before[FUR_LOOKUP_BEHIND];
    int64_t first_step; /* where this process began */
    double last_eval_loss, last_progress;
    char *checkpoint; /* last saved folder */
} fur_trainer;

/* Checks settings, takes the lock, makes or loads the model, plans, and opens the files of the run. On failure what was
 * begun is undone by fur_trainer_close. */
fur_status fur_trainer_open(fur_context *context, const fur_train_settings *settings, const fur_corpus *corpus,
                            const fur_corpus *eval, fur_train_fn on_event, void *user, fur_trainer *out);
void fur_trainer_close(fur_trainer *trainer);

/* Context length in force at a step, and the phase's number. */
int64_t fur_trainer_context(const fur_train_settings *settings, int64_t step, int64_t *phase);
int64_t fur_phase_row_tokens(const fur_train_settings *settings, int64_t phase);
/* Linear warm-up, then a cosine from lr to min_lr at max_steps. `step` counts from 0. */
double fur_learning_rate(const fur_train_settings *settings, int64_t step);

fur_status fur_train_settings_check(fur_context *context, const fur_train_settings *settings);
/* The request that the run's plan answers; model is the one that will train. */
void fur_train_request(const fur_train_settings *settings, const fur_corpus *corpus, const fur_corpus *eval,
                       fur_plan_request *out);
fur_status fur_run_json_write(const fur_trainer *trainer);

#endif
