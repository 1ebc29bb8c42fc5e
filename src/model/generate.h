/* SPDX-License-Identifier: Apache-2.0 */
/* The steps of generation, for fur_generate and for whoever times them. */
#ifndef FUR_MODEL_GENERATE_H
#define FUR_MODEL_GENERATE_H

#include "model/run.h"
#include "model/sampling.h"

typedef struct fur_generation {
    fur_run run; /* its row and documents are those below: a generation stays where it is */
    fur_row row;
    int64_t offsets[2];
    int32_t *ids; /* prompt and what came after */
    fur_candidate *scratch;
    int64_t last_row;   /* of memory.x_TC: where the last token fed is */
    int64_t peak_bytes; /* planned */
} fur_generation;

/* Memory for `tokens` tokens in all. FUR_E_DOES_NOT_FIT before any of it is taken. After a failure
 * there is nothing to end. */
fur_status fur_generation_begin(fur_context *context, fur_model *model, int64_t tokens, int64_t memory_bytes,
                                fur_generation *g);
void fur_generation_end(fur_generation *g);
/* The prompt through all layers, in chunks, and the logits of what comes next in run.memory.loss.logits_tV. */
fur_status fur_generation_prompt(fur_generation *g, const int32_t *prompt, int64_t count);
/* Tokens first..first+count-1 of ids through all layers; then their last one's logits. */
fur_status fur_generation_feed(fur_generation *g, int64_t first, int64_t count);
fur_status fur_generation_head(fur_generation *g);

#endif
