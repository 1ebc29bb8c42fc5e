/* SPDX-License-Identifier: Apache-2.0 */
/* Training from a corpus to checkpoints, and evaluation. */
#ifndef FURLONG_TRAIN_H
#define FURLONG_TRAIN_H

#include "furlong/model.h"

#ifdef __cplusplus
extern "C" {
#endif

/* From step `from_step` on, documents of `context` tokens are cut from the corpus and packed into rows of `row_tokens`
 * (0: the settings' own). Short contexts learn most per second from many small rows, long ones need large rows. */
typedef struct fur_context_phase {
    int64_t from_step;
    int64_t context;
    int64_t row_tokens;
} fur_context_phase;
#define FUR_MAX_PHASES 16

typedef struct fur_train_settings {
    size_t struct_size;
    fur_model_config model; /* ignored when resume is set, or init_from without reshape */
    const char *init_from;  /* folder or GGUF file with weights to start from, or NULL */
    bool reshape;           /* init_from's model gets what fur_model_reshape takes from `model` */
    int64_t lora_rank;      /* init_from's model gets fresh adapters, which alone are trained; 0: no */
    double lora_alpha;      /* of these, as in fur_config_set_lora */
    const char *lora_targets;
    const char *output_dir;                   /* created; must not hold another run unless resume */
    const char *resume;                       /* NULL, "latest" or a step folder */
    int64_t row_tokens;                       /* tokens of a packed row, and the most that any phase's row has */
    fur_context_phase phases[FUR_MAX_PHASES]; /* phases[0].from_step == 0 */
    int phase_count;
    int64_t max_steps;
    int64_t grad_accum; /* rows per step; the loss is weighted by counted tokens */
    double lr, min_lr, beta1, beta2, adam_eps, weight_decay, grad_clip; /* grad_clip 0: none; of look-up
                                                                           tables each layer's is clipped by itself */
    double table_lr; /* learning rate of look-up tables, as a multiple of lr */
    bool table_adam; /* f32 moments of all their rows, each step; else bf16 momentum, one second moment a row, and what
                        a row misses in steps that do not use it is made up before it is used */
    int64_t warmup_steps;
    int64_t save_steps, eval_steps, log_steps; /* 0: only at the end */
    int64_t error_steps;      /* steps between measurements of almost-linear layers' error, after each of which their
                                 polynomials are refitted; the first step and the last measure too */
    int64_t keep_checkpoints; /* older ones are removed; 0: keep all */
    int64_t eval_tokens;      /* at most this many held-out tokens per evaluation */
    double held_out;          /* share of the corpus's end kept for evaluation when there is no eval corpus */
    uint64_t seed;
    int64_t memory_bytes; /* 0: no limit */
    int64_t disk_bytes;   /* limit on what goes to disk within a step; 0: nothing does */
    const char *disk_dir; /* folder of that file; NULL: output_dir */
    fur_keep keep;
    fur_store_place inputs, attention, optimizer, keys; /* as in fur_plan_request */
    int64_t key_groups;                                 /* likewise */
    fur_stored_type stored;                             /* as there; anything but f32 is not exact */
    int64_t superblock;                                 /* 0: chosen */
    bool skip_nonfinite;   /* skip a step whose gradient is not finite instead of stopping */
    const char *tokenizer; /* folder or tokenizer.json whose files go into every checkpoint; NULL: those of bytes where
                              the vocabulary is 256, else none */
    const char *run_json;  /* extra settings text stored in run.json (an object), or NULL */
} fur_train_settings;
FUR_API void fur_train_settings_defaults(fur_train_settings *settings);

typedef enum fur_train_event_type {
    FUR_EVENT_PLAN = 0, /* before the first step, and when a phase changes the row's shape */
    FUR_EVENT_STEP = 1,
    FUR_EVENT_EVAL = 2,
    FUR_EVENT_SAVE = 3,
    FUR_EVENT_PROGRESS = 4, /* within a step, a few times a second at most */
    FUR_EVENT_ERRORS = 5    /* after a step that measured what almost-linear heads err by */
} fur_train_event_type;

typedef struct fur_train_event {
    fur_train_event_type type;
    int64_t step, max_steps; /* step counts finished optimizer steps */
    int64_t tokens;          /* seen so far */
    int64_t context;         /* document length of this phase */
    double loss;             /* nats per counted token; EVAL: held-out; PROGRESS: of the step before */
    double progress;         /* PROGRESS: share of the present step done, 0 to 1 */
    double lr, grad_norm;
    double seconds; /* since the run (or its resumption) started */
    double step_seconds, seconds_left, tokens_per_second;
    int64_t rss_bytes, peak_rss_bytes, planned_peak_bytes, arena_peak_bytes, planned_arena_bytes;
    const fur_plan *plan;         /* PLAN only */
    const char *path;             /* SAVE only: the checkpoint's folder */
    const fur_head_error *errors; /* ERRORS only, by layer and head */
    int64_t error_count;
} fur_train_event;

typedef void (*fur_train_fn)(void *user, const fur_train_event *event);

typedef struct fur_train_result {
    int64_t steps, tokens;
    double loss, eval_loss; /* last; NaN if never computed */
    double seconds;
    int64_t planned_peak_bytes, peak_rss_bytes, planned_arena_bytes, arena_peak_bytes;
    char checkpoint[4096]; /* last saved folder, "" if none */
} fur_train_result;

/* Runs to max_steps, or until fur_context_stop (then saves and returns FUR_E_INTERRUPTED). `eval` may be NULL.
 * Writes output_dir/metrics.jsonl, run.json, step-NNNNNN/, latest. A run that ends non-finite returns
 * FUR_E_NONFINITE and leaves the last good checkpoint untouched. */
FUR_API fur_status fur_train_run(fur_context *context, const fur_train_settings *settings, const fur_corpus *corpus,
                                 const fur_corpus *eval, fur_train_fn on_event, void *user, fur_train_result *result);

/* Plan of the run's largest phase, without starting it. */
FUR_API fur_status fur_train_plan(fur_context *context, const fur_train_settings *settings, const fur_corpus *corpus,
                                  fur_plan *out);

#define FUR_POSITION_BUCKETS 24
typedef struct fur_eval_result {
    double loss;          /* nats per counted token (or mean squared error) */
    int64_t tokens;       /* counted */
    double bits_per_byte; /* by the mean tokens a byte of the corpus; NaN where it was not read from text */
    int buckets;          /* bucket 0: positions below 1,024; then each doubles */
    int64_t bucket_first[FUR_POSITION_BUCKETS];
    int64_t bucket_tokens[FUR_POSITION_BUCKETS];
    double bucket_loss[FUR_POSITION_BUCKETS];
    int64_t peak_rss_bytes, planned_peak_bytes;
    double seconds;
} fur_eval_result;

typedef struct fur_eval_settings {
    size_t struct_size;
    int64_t context_tokens; /* documents are cut into pieces of so many */
    int64_t stride;         /* from one piece's beginning to the next one's, of which only what the one before has not
                               predicted counts, so that it has at least context_tokens - stride tokens before it; 0: the
                               pieces do not overlap. Costs context_tokens / stride times as much */
    int64_t max_tokens;     /* most that count; 0: all */
    int64_t memory_bytes;   /* 0: no limit */
} fur_eval_settings;
FUR_API void fur_eval_settings_defaults(fur_eval_settings *settings);

/* Loss over a corpus. Errors: FUR_E_ARGUMENT (stride), FUR_E_SHAPE (data against model), FUR_E_DOES_NOT_FIT. */
FUR_API fur_status fur_evaluate(fur_context *context, fur_model *model, const fur_corpus *corpus,
                                const fur_eval_settings *settings, fur_eval_result *out);

#ifdef __cplusplus
}
#endif
#endif
