/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FUR_TRAIN_EVALUATE_H
#define FUR_TRAIN_EVALUATE_H

#include "train/cutter.h"

/* Loss over the cutter's data through an existing run, at most max_tokens (0: all), into *out (buckets included). */
fur_status fur_evaluate_with(fur_run *run, fur_cutter *cutter, int64_t context_tokens, int64_t max_tokens,
                             fur_eval_result *out);

/* fur_evaluate, which also counts in use_R (not NULL) how often each row of the model's tables is used. */
fur_status fur_evaluate_counting(fur_context *context, fur_model *model, const fur_corpus *corpus,
                                 const fur_eval_settings *settings, uint32_t *use_R, fur_eval_result *out);

/* The data must be what the model reads: features, vocabulary. */
fur_status fur_data_check(fur_context *context, const fur_model_config *config, const fur_corpus *corpus);

#endif
