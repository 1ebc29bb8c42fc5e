/* SPDX-License-Identifier: Apache-2.0 */
/* Checkpoints: a folder that appears whole or not at all.
 *
 *   RUN/step-000100/ config.json model.safetensors tokenizer files     Hugging Face form
 *                    optimizer.safetensors                             exp_avg.NAME, exp_avg_sq.NAME, f32; of tables
 *                                                                      bf16 m, v and last_step of each row
 *                    trainer.json                                      step, cursor, plan, what the bits depend on
 *                    manifest.json                                     size and XXH3 of each file above
 *   RUN/latest       the folder's name, renamed into place after it
 *
 * Loading checks the manifest. A damaged folder is passed over for the one before it, and that is said. */
#ifndef FUR_TRAIN_CHECKPOINT_H
#define FUR_TRAIN_CHECKPOINT_H

#include "text/tokenizer_files.h"
#include "train/cutter.h"

/* What a run needs besides weights and moments to go on with the same bits. */
typedef struct fur_trainer_state {
    int64_t step, tokens;
    fur_cursor cursor;
    double last_loss;
    uint64_t seed, data_hash;
    int64_t row_tokens, grad_accum;
    fur_run_shape shape;
    char isa[16];
    fur_compute compute;
} fur_trainer_state;

/* `tokenizer` without files: those of bytes, where the model's vocabulary is that. `run` NULL: no optimizer state is
 * written (a finished export). Writes RUN/step-NNNNNN and RUN/latest; *path receives the folder (caller frees with
 * fur_free). */
fur_status fur_checkpoint_save(fur_context *context, const char *run_dir, const fur_model *model, const fur_run *run,
                               const fur_trainer_state *state, const fur_tokenizer_files *tokenizer, char **path);
/* Resolves "latest" (with fall-back) or a step folder to an existing, undamaged folder; caller frees. */
fur_status fur_checkpoint_find(fur_context *context, const char *run_dir, const char *which, char **path);
fur_status fur_checkpoint_read_state(fur_context *context, const char *folder, fur_trainer_state *out);
/* Moments on disk pass through the model's gradients, which a run holds and has not filled yet. */
fur_status fur_checkpoint_read_moments(fur_context *context, const char *folder, fur_model *model, fur_run *run);
/* Removes the oldest step folders until `keep` are left; 0 keeps all. */
void fur_checkpoint_prune(const char *run_dir, int64_t keep);

#endif
