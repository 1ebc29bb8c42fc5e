/* SPDX-License-Identifier: Apache-2.0 */
/* A model: parameters, and the sweep that computes loss and gradients block by block. */
#ifndef FURLONG_MODEL_H
#define FURLONG_MODEL_H

#include "furlong/head_error.h"
#include "furlong/loss.h"
#include "furlong/plan.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct fur_model fur_model;

/* Fresh random weights (counter-based generator: the same seed gives the same weights on any machine). */
FUR_API fur_status fur_model_create(fur_context *context, const fur_model_config *config, uint64_t seed,
                                    fur_model **out);
/* From a folder in Hugging Face form (config.json, model.safetensors) or a GGUF file, whose tensors become f32, in
 * blocks or not. NaN or infinite weights are refused. */
FUR_API fur_status fur_model_load(fur_context *context, const char *folder, fur_model **out);
/* A folder with adapters in PEFT's form (adapter_config.json, adapter_model.safetensors, and here config.json where it
 * is not the model's own) is the model that base_model_name_or_path names, with them. */
/* A folder's model with fresh adapters, as lora_rank, lora_alpha and lora_targets of `adapters` say: A drawn by `seed`,
 * B zero, so that it computes what the model alone does. Its gradients are those of adapters only. Errors: as
 * fur_model_load; FUR_E_ARGUMENT where the folder has adapters. Source: arXiv 2106.09685. */
FUR_API fur_status fur_model_load_lora(fur_context *context, const char *folder, const fur_model_config *adapters,
                                       uint64_t seed, fur_model **out);
/* Adds the adapters into the maps that they stand beside, w += alpha / rank B A in double; *model is another one then,
 * without them, and for a moment both are in memory. Nothing where there are none. */
FUR_API fur_status fur_model_merge(fur_context *context, fur_model **model);
/* The same for generation and evaluation: look-up tables are not read into memory but mapped from the file, read-only,
 * and used as they are stored there, so that a token reads the rows it needs and no others. They are checked like other
 * weights, for which the file is read once. It must not be shortened while the model lives. Such a model is not trained
 * and keeps its tensors. Models without tables: as fur_model_load. */
FUR_API fur_status fur_model_open(fur_context *context, const char *folder, fur_model **out);
/* Bytes of memory that weights but tables take once fur_model_open has read them, from the headers of their files. */
FUR_API fur_status fur_model_open_bytes(fur_context *context, const char *path, int64_t *bytes);
/* Writes config.json and model.safetensors into an existing folder; each written beside, synced and renamed; of a model
 * with adapters, these in PEFT's form in place of model.safetensors. Tables are
 * written as config.table_type says, all else as f32. */
FUR_API fur_status fur_model_save(fur_context *context, const fur_model *model, const char *folder);
/* Gives *model what `config` has of windows, sink tokens, RoPE scaling, softcap, dropout and far_max_error, and, but
 * with learned positions, its context; everything else stays. Where it then belongs to another family, *model is
 * another one and holds the same weights; for that moment both are in memory. */
FUR_API fur_status fur_model_reshape(fur_context *context, const fur_model_config *config, fur_model **model);
FUR_API void fur_model_destroy(fur_model *model);
FUR_API const fur_model_config *fur_model_config_of(const fur_model *model);

typedef struct fur_parameter_info {
    const char *name;      /* Hugging Face name of the family */
    int rank;              /* 1 or 2 */
    int64_t shape[2];      /* as Furlong holds it: [out, in] for projections */
    int64_t file_shape[2]; /* as the family's files have it (fur_model_parameter_copy) */
    int64_t count;         /* elements */
    float *data;           /* owned by the model; NULL: a table that is in its file (fur_model_open) */
    float *gradient;       /* NULL before the first fur_model_loss_and_gradient */
    bool decayed;          /* takes part in weight decay: matrices, not norms, biases */
    bool constant;         /* not trained: its gradient stays 0 */
    bool table;            /* of a look-up map: data and gradient lie in tiles of 64 columns, the last one padded with
                              zeros, which count includes; gradient NULL where rows are updated as layers end */
} fur_parameter_info;
/* For weight_bytes of a plan's request; 0: all weights are f32. */
FUR_API int64_t fur_model_weight_bytes(const fur_model *model);
FUR_API int64_t fur_model_parameters(const fur_model *model);
FUR_API void fur_model_parameter(const fur_model *model, int64_t index, fur_parameter_info *out);
/* Copies a parameter, or its gradient, in the order of the family's files: GPT-2's matrices [in, out], rows of
 * GPT-NeoX's q, k, v head by head, tables [tables * rows, out]. out: file_shape[0] * file_shape[1] floats (rank 1:
 * file_shape[0]). Errors: FUR_E_ARGUMENT (no such parameter, no gradient). */
FUR_API fur_status fur_model_parameter_copy(fur_context *context, const fur_model *model, int64_t index, bool gradient,
                                            float *out);
FUR_API void fur_model_zero_gradients(fur_model *model);

/* A run holds the memory of one plan for one model; rows up to the planned size go through it. */
typedef struct fur_run fur_run;
FUR_API fur_status fur_run_create(fur_context *context, fur_model *model, const fur_plan *plan,
                                  const fur_plan_request *request, fur_run **out);
FUR_API void fur_run_destroy(fur_run *run);
FUR_API int64_t fur_run_arena_peak_bytes(const fur_run *run);

/* What the draws of dropout depend on, besides layer, place, token and channel or head and position: the same seed and
 * step give the same draws whatever the blocks and threads. Gradients are with dropout from the first call on and
 * without it before, whatever rates the model's config has: files carry rates, and draws that never change would train
 * a part of the model only. Give each row another step. */
FUR_API void fur_run_set_random(fur_run *run, uint64_t seed, uint64_t step);

/* Loss of a row, mean over counted positions, and its gradients ADDED to the parameters' gradients times `weight`.
 * loss == NULL: cross-entropy with row->target_T, or mean squared error with row->target_TO.
 * dx_TI: gradient by the real-vector input [T, features], or by the embedded tokens [T, width]; NULL if not wanted.
 * Cost: 6 P T + attention flops, plus what the plan recomputes. Errors: FUR_E_SHAPE (row against plan or model),
 * FUR_E_NONFINITE (names the layer). Source: arXiv 2305.19370, and docs/ARCHITECTURE.md for the one-sweep backward. */
FUR_API fur_status fur_model_loss_and_gradient(fur_run *run, const fur_row *row, const fur_loss *loss, double weight,
                                               double *out_loss, float *dx_TI);
/* AdamW by the gradients that a run for training has gathered, which are zero afterwards. The moments are the run's. */
typedef struct fur_update_settings {
    size_t struct_size;
    double lr, beta1, beta2, eps;
    double weight_decay; /* decoupled; of matrices, not of norms and biases */
    double grad_clip;    /* most that the norm of the whole gradient counts; 0: no limit */
    int64_t step;        /* of this update; 1, the first, begins with moments of 0 */
} fur_update_settings;
FUR_API void fur_update_settings_defaults(fur_update_settings *settings);
/* *out_norm: of the gradient, before clipping. Cost: 28 bytes a parameter. Errors: FUR_E_NONFINITE (names the
 * parameter; nothing has changed), FUR_E_ARGUMENT, FUR_E_UNSUPPORTED (models with look-up tables). */
FUR_API fur_status fur_run_update(fur_run *run, const fur_update_settings *settings, double *out_norm);
/* The next fur_model_loss_and_gradient also measures, head by head, what almost-linear layers err by against exact
 * attention over the same logits, on tokens drawn by `seed`; the plan's request must have had error_rows. `assume`:
 * exact layers without a window too, as if they were almost-linear with the polynomial that the last measured row was
 * fitted with (on the first: e^t cut off after its degree); of those, o's error only. Cost: 18 D flops a token, head
 * and sampled token. Errors: FUR_E_ARGUMENT. */
FUR_API fur_status fur_run_measure_errors(fur_run *run, uint64_t seed, bool assume);
/* Writes what the last measured row gave to out[layers * heads] and returns its number. */
FUR_API int64_t fur_run_head_errors(const fur_run *run, fur_head_error *out);
/* Polynomials of almost-linear layers become those fitted to the last measured row: means of its sampled queries and
 * keys, and coefficients. Heads that erred by more than far_max_error are exact from then on, each said through the
 * log. Not within a step: weights and constants belong together. */
FUR_API void fur_run_install_fits(fur_run *run);
/* Loss only. nll_T, where not NULL, receives each position's negative log likelihood (NaN where not counted). */
FUR_API fur_status fur_model_loss(fur_run *run, const fur_row *row, const fur_loss *loss, double *out_loss,
                                  float *nll_T);
/* Outputs of every position: logits [T, vocabulary] or regression outputs [T, outputs]. For small rows and tests. */
FUR_API fur_status fur_model_outputs(fur_run *run, const fur_row *row, float *y_TV);

/* ---- generation ------------------------------------------------------------------------------------------- */

/* Names, and the order in which they apply, are llama.cpp's: penalties, top-k, top-p, min-p, temperature. */
typedef struct fur_sampling {
    size_t struct_size;
    float temperature; /* 0: the likeliest token */
    int top_k;         /* among so many of the likeliest; 0: all */
    float top_p;       /* among the likeliest that make up this probability; 1: all */
    float min_p;       /* among those of at least this share of the likeliest one's probability; 0: all */
    /* of a token that is among the last repeat_last_n (-1: all) of prompt and continuation: its logit becomes smaller
     * by repeat_penalty (1: none), as a factor, then by presence_penalty and, for each time it is there,
     * frequency_penalty */
    float repeat_penalty, presence_penalty, frequency_penalty;
    int repeat_last_n;
    uint64_t seed;
} fur_sampling;
FUR_API void fur_sampling_defaults(fur_sampling *sampling);

/* A text that grows token by token, with its key/value cache: what fur_generate is made of, and a conversation. */
typedef struct fur_generator fur_generator;
/* Room for `tokens` tokens in all, at most the model's context. The model must live as long, and no run may hold it for
 * training. memory_bytes: limit (0: none); FUR_E_DOES_NOT_FIT before work. */
FUR_API fur_status fur_generator_open(fur_context *context, fur_model *model, int64_t tokens, int64_t memory_bytes,
                                      fur_generator **out);
FUR_API void fur_generator_close(fur_generator *generator);
/* Appends tokens, which go through the model in blocks. FUR_E_ARGUMENT: no room, or an id out of range;
 * FUR_E_INTERRUPTED: fur_context_stop was called. After a failure within the model nothing is there any more. */
FUR_API fur_status fur_generator_feed(fur_generator *generator, const int32_t *ids, int64_t count);
/* A token after those that are there, of which there is one at least; it is not appended. Draws are numbered by the
 * tokens that came since the first one, as those of fur_generate: the same text and seed give the same tokens.
 * FUR_E_INTERRUPTED: fur_context_stop was called. */
FUR_API fur_status fur_generator_next(fur_generator *generator, const fur_sampling *sampling, int32_t *id);
/* Tokens that are there: *ids [count], owned by the generator. */
FUR_API int64_t fur_generator_tokens(const fur_generator *generator, const int32_t **ids);
/* Begins anew, without any. */
FUR_API void fur_generator_restart(fur_generator *generator);

/* Called with each new token; a non-zero return stops generation (not an error). */
typedef int (*fur_token_fn)(void *user, int32_t id);

/* Continues `prompt` by up to `count` tokens with a key/value cache of context tokens. Prompt + count must not
 * exceed the model's context. With far_max_error, an almost-linear head whose normaliser is not positive becomes exact
 * in the model. memory_bytes: limit (0: none); FUR_E_DOES_NOT_FIT before work. */
FUR_API fur_status fur_generate(fur_context *context, fur_model *model, const int32_t *prompt, int64_t prompt_count,
                                int64_t count, const fur_sampling *sampling, int64_t memory_bytes,
                                fur_token_fn on_token, void *user);

#ifdef __cplusplus
}
#endif
#endif
