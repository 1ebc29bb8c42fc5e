/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes, flops and seconds of a run before it starts. The run lays its memory out with the same code that the plan
 * counted with, so the arena's peak equals the plan exactly. */
#ifndef FURLONG_PLAN_H
#define FURLONG_PLAN_H

#include "furlong/config.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum fur_purpose { FUR_FOR_TRAIN = 0, FUR_FOR_EVAL = 1, FUR_FOR_GENERATE = 2 } fur_purpose;

/* FUR_KEEP_AUTO: kept where memory allows. The choice changes seconds and bytes, never the bits. */
typedef enum fur_keep { FUR_KEEP_AUTO = 0, FUR_KEEP_NOTHING = 1, FUR_KEEP_ALL = 2 } fur_keep;

/* Where something waits between the sweeps, or from step to step. It changes seconds and bytes, never the bits. */
typedef enum fur_store_place {
    FUR_STORE_CHOSEN = 0, /* in a request: the plan chooses */
    FUR_STORE_MEMORY = 1,
    FUR_STORE_AGAIN = 2, /* layer inputs: every few layers', the others are computed again; attention: all of it is */
    FUR_STORE_DISK = 3   /* in a file without a name, written and read beside the computation */
} fur_store_place;

/* What layer inputs are stored as. Anything but f32 makes the gradients inexact (docs/NUMERICS.md, "Stored inputs"). */
typedef enum fur_stored_type { FUR_STORED_F32 = 0, FUR_STORED_BF16 = 1, FUR_STORED_Q8 = 2 } fur_stored_type;

FUR_API const char *fur_store_place_name(fur_store_place place); /* "chosen", "memory", "again", "disk" */
FUR_API const char *fur_stored_type_name(fur_stored_type type);  /* "f32", "bf16", "q8" */

typedef struct fur_plan_request {
    size_t struct_size;
    fur_purpose purpose;
    int64_t row_tokens;      /* T: positions of one packed row */
    int64_t document_tokens; /* longest document in it; 0: the whole row */
    int64_t memory_bytes;    /* limit on peak resident memory of the process; 0: none */
    int64_t data_bytes;      /* held by corpora outside the arena */
    fur_keep keep;
    int64_t superblock;                /* tokens per superblock of the sweep; 0: chosen */
    int64_t disk_bytes;                /* limit on the store's file; 0: nothing goes to disk */
    const char *disk_dir;              /* folder of that file; NULL: the current one. Owned by the caller */
    fur_store_place inputs, attention; /* of layer inputs; of attention outputs and row statistics */
    fur_store_place optimizer;         /* of Adam's moments: chosen, in memory or on disk */
    fur_store_place keys;              /* of exact layers that see the whole row: chosen, in memory or on disk */
    int64_t key_groups;                /* keys on disk: groups of heads, one in memory at a time; 0: a group a head */
    fur_stored_type stored;            /* what layer inputs are stored as */
    int64_t error_rows;     /* training: tokens of a row that fur_run_measure_errors samples; 0: it is not called */
    bool row_updates;       /* training: look-up tables are updated as each layer's gradient is complete (a trainer's
                               way); else gradients of all of them are there in the end */
    bool gradients_only;    /* training: no optimizer's state */
    bool mapped_tables;     /* evaluation: look-up tables are mapped as their file has them (fur_model_open), as those
                               of generation always are */
    int64_t weight_bytes;   /* of weights but tables, where they stay as their file has them (fur_model_open, or beside
                               adapters); 0: they are f32 */
    bool row_adam;          /* with row_updates: f32 moments of all rows, in place of bf16 m and a v for each row */
    double measured_gflops; /* matrix product rate for the seconds; 0: measured now (about 0.1 s, once per process) */
} fur_plan_request;

typedef struct fur_plan_item {
    char name[48];
    int64_t bytes;
} fur_plan_item;

#define FUR_PLAN_MAX_ITEMS 24

typedef struct fur_plan {
    bool fits;               /* within memory_bytes; true when there is no limit */
    int64_t peak_bytes;      /* predicted peak resident memory of the process */
    int64_t arena_bytes;     /* exact size of the run's one allocation */
    int64_t disk_bytes;      /* most that the store's file takes; 0: there is none */
    double flops;            /* of one row: step (train), forward (eval), one token (generate) */
    double seconds;          /* of the same */
    int64_t superblock;      /* tokens per superblock */
    int64_t token_tile;      /* tokens per tile of the feedforward and the projections */
    int64_t loss_tile;       /* tokens per block of the loss */
    int64_t vocabulary_tile; /* vocabulary entries per block of the loss */
    bool keep_attention;     /* attention output and row statistics kept, in memory or on disk, not recomputed */
    fur_store_place inputs, attention, optimizer; /* training: where they are */
    fur_stored_type stored;                       /* layer inputs, as requested */
    int64_t segment_layers;                       /* inputs of every so manyth layer are kept; 1: of each */
    int64_t key_groups; /* 0: keys in memory; else, of layers that see the whole row, on disk but for those of one of so
                           many groups of heads at a time */
    bool keep_hidden;   /* feedforward pre-activations of every layer kept, not recomputed */
    int item_count;
    fur_plan_item items[FUR_PLAN_MAX_ITEMS]; /* add up to peak_bytes */
} fur_plan;

FUR_API void fur_plan_request_defaults(fur_plan_request *request);

/* Makes the fastest plan that fits. Where none fits: FUR_OK with fits == false and the smallest plan's figures. */
FUR_API fur_status fur_plan_make(fur_context *context, const fur_model_config *config, const fur_plan_request *request,
                                 fur_plan *out);
/* The largest row of one document that fits request->memory_bytes (row_tokens is ignored); 0 if none does. */
FUR_API fur_status fur_plan_longest(fur_context *context, const fur_model_config *config,
                                    const fur_plan_request *request, int64_t *out_tokens);

/* What other ways need for one training step of the same model and row, by the same arithmetic
 * (docs/ARCHITECTURE.md, "Memory of the others"): plain attention with everything saved; PyTorch's way: attention
 * kernel, per-layer checkpoints, full logits. Bytes above the process itself. */
FUR_API int64_t fur_plan_plain_attention_bytes(const fur_model_config *config, int64_t tokens);
FUR_API int64_t fur_plan_checkpointed_bytes(const fur_model_config *config, int64_t tokens);

#ifdef __cplusplus
}
#endif
#endif
