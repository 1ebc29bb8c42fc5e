/* SPDX-License-Identifier: Apache-2.0 */
/* A run: the memory of one plan, and the sweep over it.
 *
 *   arena: | gradients | Adam m, v | the same of tables' rows | row | x | layer inputs | keys, values, their gradients
 * | kept saves | scratch | workspace | spill: | Adam m, v | layer inputs | rows of the layer in work, if its heads come
 * in groups | attention outputs | row statistics | what the plan puts on disk; the arena then has blocks on their way
 *
 * fur_run_layout is the only place that knows sizes. The plan calls it on a counting arena, the run on a real one. */
#ifndef FUR_MODEL_RUN_H
#define FUR_MODEL_RUN_H

#include "attention/kind.h"
#include "base/context.h"
#include "furlong/model.h"
#include "model/head_errors.h"
#include "model/observer.h"
#include "model/parameters.h"
#include "model/row_tables.h"
#include "op/adamw/adamw.h"
#include "op/rope/rope.h"
#include "store/moments.h"
#include "store/store.h"

typedef struct fur_coded_tensor fur_coded_tensor;

struct fur_model {
    fur_model_config config;
    fur_parameter_table table;
    float *data;             /* flat parameters */
    int64_t data_bytes;      /* mapped */
    char *base;              /* with adapters: the folder of all that is not in them; NULL: it has none */
    fur_coded_tensor *coded; /* [parameters]: those that stay as their file has them, and not in data (coded.h); NULL */
    fur_row_table *rows;     /* [tables]: as their files have them, and not in data; NULL: all are in data */
    int64_t row_bytes;       /* of these */
    float *gradient;         /* of what is trained, of the run that holds them, NULL without one: fur_model_gradient */
    int64_t gradient_bytes;
    uint8_t *touched_R; /* with gradients of all tables: which rows have one */
};

/* Gradient of the parameters from `offset` on, which are not a table's; NULL: they are frozen, or there is no offset.
 */
static inline float *fur_model_gradient(const fur_model *model, int64_t offset)
{
    int64_t at = offset < 0 ? -1 : fur_trained_at(&model->table, offset);
    return at < 0 || !model->gradient ? NULL : model->gradient + at;
}

/* What the layout depends on. */
typedef struct fur_run_shape {
    fur_purpose purpose;
    int64_t tokens;     /* T: longest row */
    int64_t superblock; /* B */
    int64_t token_tile, loss_tile, vocabulary_tile;
    fur_store_place inputs;    /* training: layer inputs; FUR_STORE_CHOSEN: in memory */
    fur_stored_type stored;    /* what they are stored as */
    int64_t segment;           /* layers of a segment with FUR_STORE_AGAIN */
    fur_store_place attention; /* attention outputs and row statistics; FUR_STORE_CHOSEN: computed again */
    fur_store_place moments;   /* Adam's; FUR_STORE_CHOSEN: in memory */
    int64_t key_groups; /* training: keys are in memory of one of so many groups of heads at a time; 0: of all heads */
    int keep_hidden;
    int optimizer;      /* reserve Adam's moments */
    int row_updates;    /* training: tables are updated at each layer's end; gradients of one layer's tables exist */
    int row_adam;       /* with them: f32 moments of all rows, not those of rows that were used */
    int coded;          /* weights may stay as their file has them: room to decode some */
    int64_t error_rows; /* training: tokens sampled of a row whose heads' errors are measured; 0: none can be */
} fur_run_shape;

/* Scratch of one superblock (B rows) or token tile (t rows). Forward and backward overlay each other. */
typedef struct fur_scratch {
    float *h_BC, *q_BQ, *o_BQ, *lse_BH; /* o and lse: NULL when kept for the whole row */
    float *mid_BC, *do_BQ, *dq_BQ;      /* backward only */
    float *h_tC, *u_tU, *g_tF;
    float *dg_tF, *dh_tC; /* backward only */
    float *post_tC;       /* backward only: what a map adds, before its norm; NULL without such norms */
    int64_t *position_B;
    int32_t *position_id_B; /* learned positions */
} fur_scratch;

typedef struct fur_loss_scratch {
    float *h_tC, *dh_tC;
    float *logits_tV, *maximum_t, *sum_t, *target_logit_t, *nll_t;
} fur_loss_scratch;

/* What waits on disk of a layer whose heads come in groups (head_groups.h): rows of all its heads, taken apart by
 * group. One layer at a time uses it. */
typedef struct fur_head_groups {
    int64_t count;                          /* of groups; 0: there are none */
    fur_store q, k, v;                      /* in backward, a group's become their gradients when it has been in work */
    fur_store output, output_gradient, lse; /* output and lse: no layers where those of all layers are kept */
} fur_head_groups;

typedef struct fur_run_memory {
    float *gradient;
    float *table_gradient;       /* of all tables, behind the others, or of one layer's */
    uint8_t *touched_R;          /* of their rows */
    float *square_R, *even_O;    /* of one layer's rows and columns, while its tables are updated */
    fur_row_moments row_moments; /* of all tables */
    fur_moments moments;
    int32_t *row_ids_T, *row_targets_T; /* rows that a trainer or evaluator fills */
    int64_t *row_offsets;               /* [T + 1] at most */
    float *row_x_TI, *row_target_TO;
    float *row_nll_T; /* loss of each position, for evaluation */
    float *x_TC;
    fur_store inputs;       /* of layers [L, T, C] */
    fur_store o, lse;       /* attention outputs [L, T, Q], row statistics [L, T, H]; no layers: not kept */
    fur_arena state_region; /* each layer lays its kind's state out here */
    int64_t state_bytes;    /* of one layer, or of one group of its heads */
    fur_head_groups groups;
    float *kept_u_LTU;
    int64_t disk_bytes; /* of the spill */
    fur_scratch forward, backward;
    fur_loss_scratch loss;
    fur_head_errors errors;
    fur_arena workspace; /* carved from the arena; operators push here */
} fur_run_memory;

/* Called after each group of pieces with its name, so that the plan can list them; may be NULL. */
typedef void (*fur_layout_item_fn)(void *user, const char *name, int64_t bytes);

/* Whether a run of this shape is below FUR_RUN_MOST_BYTES by a generous count in floating point. Beyond it no machine
 * has the memory, and integer sizes begin to overflow: ask before fur_run_layout. */
#define FUR_RUN_MOST_BYTES ((int64_t)1 << 60)
bool fur_run_keeps_attention(const fur_run_shape *shape);
/* Groups that the heads of a layer come in; 0: all are in work at once, as in layers that hold no more than the rows in
 * sight, and in kinds whose heads cannot be taken apart. */
int64_t fur_run_layer_groups(const fur_model_config *config, const fur_run_shape *shape, int64_t layer);
bool fur_run_shape_is_sane(const fur_model_config *config, const fur_parameter_table *table,
                           const fur_run_shape *shape);

/* exec: threads and instruction set (workspace sizes depend on them). */
void fur_run_layout(const fur_exec *exec, const fur_model_config *config, const fur_parameter_table *table,
                    const fur_run_shape *shape, fur_arena *arena, fur_layout_item_fn on_item, void *user,
                    fur_run_memory *m);

/* Told that all gradients of a layer's tables are complete; what they were made with may change now. */
typedef fur_status (*fur_layer_done_fn)(void *user, int64_t layer);

/* Told how much of a row's work is done, 0 to 1, at most a few times per superblock. */
typedef void (*fur_progress_fn)(void *user, double done);

struct fur_run {
    fur_context *context;
    fur_progress_fn on_progress; /* may be NULL */
    void *progress_user;
    double work_done, work_total;    /* of the row, in flops */
    double map_work;                 /* of a layer's maps and one token */
    fur_layer_done_fn on_layer_done; /* with row_updates; NULL: tables stay as they are */
    void *layer_done_user;
    const fur_lookup_update *behind; /* not NULL: rows of tables are caught up by it before they are read */
    int updating;                    /* part of the row's update was made: the row is not stopped any more */
    uint32_t *use_R;                 /* not NULL: how often each table row is used is counted here */
    int64_t layer;                   /* in work */
    int64_t table_shift, row_shift;  /* first element and row of tables whose gradients are in memory */
    const fur_observer *observer;    /* may be NULL */
    fur_model *model;
    fur_run_shape shape;
    fur_arena arena;
    fur_spill *spill; /* NULL: nothing is on disk */
    fur_run_memory memory;
    fur_exec exec;           /* workspace: memory.workspace */
    fur_documents documents; /* of the row in progress */
    int64_t tokens;          /* T of the row in progress */
    const fur_row *row;
    uint64_t random_seed, random_step; /* fur_run_set_random */
    int random_is_set;                 /* it was called: rows are trained with dropout */
    int dropping;                      /* the row in progress is */
};

/* Where dropout strikes; with seed, step and layer the key of its draws. */
typedef enum fur_drop_place {
    FUR_DROP_WEIGHTS = 0,
    FUR_DROP_ATTENTION = 1,   /* what attention adds to the residual stream */
    FUR_DROP_FEEDFORWARD = 2, /* what the feedforward adds */
    FUR_DROP_EMBEDDING = 3    /* layer 0 */
} fur_drop_place;
/* Rate of the row in progress; 0: nothing is dropped there. */
double fur_run_drop_rate(const fur_run *run, fur_drop_place place);
uint64_t fur_run_drop_key(const fur_run *run, int64_t layer, fur_drop_place place);
/* x of rows first.. , [count, C], in place; backward: the gradient. Nothing where the run is not dropping. */
fur_status fur_run_drop(const fur_run *run, int64_t layer, fur_drop_place place, int64_t first, int64_t count,
                        float *x_BC);

/* Key heads of almost-linear layers whose far keys are seen one by one. */
int64_t fur_run_exact_heads(const fur_run *run);
/* Copies which those are to flags [layers * kv_heads], or back. */
void fur_run_exact_flags(fur_run *run, float *flags, bool restore);
/* Whether more heads are exact than *before, which becomes their number; then the context's error is said as a warning.
 */
bool fur_run_named_exact(const fur_run *run, int64_t *before);
/* A map's gradients in this run. */
fur_gradient_sink fur_run_sink(const fur_run *run, const fur_map_offsets *map);
/* ---- the optimizer's step (update.c) */
/* Calls fn for each trained parameter's share of elements first .. first+count-1 of what is trained (fur_trained_at),
 * with Adam's moments of them; `change`: what it leaves there is kept. */
typedef fur_status (*fur_share_fn)(void *user, const fur_parameter *p, int64_t first, int64_t count, float *m,
                                   float *v);
fur_status fur_run_each_share(fur_run *run, bool change, fur_share_fn fn, void *user);
/* AdamW of all parameters but tables; weight_decay of those that decay. */
fur_status fur_run_adamw(fur_run *run, const fur_adamw_args *args);
/* Norm of the gradient of all parameters but tables. FUR_E_NONFINITE names the first one that is not finite. */
fur_status fur_run_check_gradient(const fur_run *run, double *norm);
/* ---- tables with row_updates (tables.c) */
void fur_run_clear_row_moments(fur_run *run);
/* Whether they can be those of a run that has made so many steps: FUR_E_NONFINITE or FUR_E_FORMAT names the tensor. */
fur_status fur_run_check_row_moments(const fur_run *run, int64_t step);
/* Rows that prepared tokens use, all rows of all tables: as they are before step args->step. */
fur_status fur_run_catch_up(const fur_run *run, const fur_map_offsets *map, const fur_projection_input *input);
fur_status fur_run_settle_tables(const fur_run *run, const fur_lookup_update *args);
/* Updates a layer's tables by their gradients, as a fur_layer_done_fn does. clip, if above 0: most that the norm of
 * these, taken together, may be, since that of all parameters is known too late. *changed: set once one of them was
 * changed. FUR_E_NONFINITE before that. */
fur_status fur_run_update_tables(fur_run *run, int64_t layer, double clip, fur_lookup_update args, bool *changed);
/* A model with uninitialised (zero) weights. */
fur_status fur_model_allocate(fur_context *context, const fur_model_config *config, fur_model **out);
/* One whose tables are still to come, as rows (row_tables.h): for generation and evaluation. */
fur_status fur_model_allocate_rows(fur_context *context, const fur_model_config *config, fur_model **out);
/* The same with weights of the right spread, tables too, of the config's type and in memory: for timing. */
fur_status fur_model_create_rows(fur_context *context, const fur_model_config *config, uint64_t seed, fur_model **out);
/* Of weights but mapped tables, in memory: those that stay as their file has them are counted as that. */
int64_t fur_model_held_bytes(const fur_model *model);
/* A map over the model's weights, wherever they are. */
fur_projection fur_model_map(const fur_model *model, const fur_map_offsets *map);
/* Weights of a model become those of another one of the same sizes, in its places. What one of them lacks is left. */
void fur_model_move(const fur_model *from, fur_model *to);
fur_run_shape fur_run_shape_of(const fur_plan *plan, const fur_plan_request *request);
/* Without what belongs to a run: sink logits and draws. */
fur_attention_shape fur_config_attention_shape(const fur_model_config *config, int64_t layer);
/* Whether a layer's heads may come in groups: each by itself, and with keys of the whole row to hold. */
bool fur_config_heads_part(const fur_model_config *config, int64_t layer);
/* The shape of an exact layer becomes that of an almost-linear one with the default window, for an audit; its constants
 * are the caller's. */
void fur_config_assume_far(const fur_model_config *config, fur_attention_shape *shape);
/* What RoPE's angles of a layer are made of: a dynamic scaling follows the configured context. */
fur_rope fur_config_rope(const fur_model_config *config, int64_t layer);

/* ---- the sweep (sweep_forward.c, sweep_backward.c) -------------------------------------------------------- */

/* x of the row becomes the output of the last layer; with `training`, layer inputs go to the store and what is kept is
 * kept. FUR_E_NONFINITE names the layer. */
fur_status fur_sweep_forward(fur_run *run, int training);
/* Inputs of the layers after `first`, up to `last`, of a segment whose first layer's input is in the store. */
fur_status fur_sweep_again(fur_run *run, int64_t first, int64_t last);
/* Generation: rows first..first+count-1 of the row, whose x stands at the start of memory.x_TC, through all layers. */
fur_status fur_sweep_rows(fur_run *run, int64_t first, int64_t count);
/* Sets the work of the row in progress, for progress reports. */
void fur_run_begin_work(fur_run *run, int training);
/* What is done of a superblock of a layer: shares of its maps, and of its attention. */
typedef struct fur_work {
    int backward;
    double maps, attention;
} fur_work;
/* After each superblock: counts its work, reports progress, and is FUR_E_INTERRUPTED once fur_context_stop was called.
 */
fur_status fur_run_advance(fur_run *run, int64_t first, int64_t count, fur_work done);
/* x_BC = embedded rows first.. */
fur_status fur_embed_rows(fur_run *run, int64_t first, int64_t count, float *x_BC);
/* x holds the gradient by the last layer's output and becomes that by the first layer's input. */
fur_status fur_sweep_backward(fur_run *run);
/* x = embedded row; and the gradients of the embedding from x as gradient. dx_TI: see fur_model_loss_and_gradient. */
fur_status fur_embed_row(fur_run *run);
fur_status fur_embed_row_backward(fur_run *run, float *dx_TI);
/* Positions of rows first.. within their documents, to scratch->position_B and, with learned positions, ..._id_B. */
void fur_row_positions(const fur_run *run, const fur_scratch *scratch, int64_t first, int64_t count);
/* Norms by offset. */
fur_status fur_norm_rows(const fur_exec *exec, const fur_model *model, int64_t w, int64_t b, int64_t tokens,
                         const float *x_TC, float *y_TC);
fur_status fur_norm_rows_backward(const fur_exec *exec, const fur_model *model, int64_t w, int64_t b, int64_t tokens,
                                  const float *x_TC, const float *dy_TC, float *dx_TC, int add);

/* ---- inputs that are not stored as f32 (stored_error.c) ---------------------------------------------------- */

/* Longest row that fur_run_stored_error takes. */
int64_t fur_run_stored_error_tokens(const fur_run *run);
/* ||gradient - exact gradient|| / ||exact gradient|| of a row, over all parameters but tables. Gradients are zero
 * afterwards. */
fur_status fur_run_stored_error(fur_run *run, const fur_row *row, double *out);

/* ---- losses (loss.c) -------------------------------------------------------------------------------------- */

/* The head's outputs become the model's logits, in place. */
fur_status fur_run_cap_logits(const fur_run *run, int64_t count, float *logits);
/* Runs a loss over the row's final hidden state. With `gradient`, x becomes the gradient times `weight`. */
fur_status fur_run_loss(fur_run *run, const fur_loss *loss, int gradient, double weight, double *out_loss,
                        float *nll_T);

#endif
