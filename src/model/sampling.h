/* SPDX-License-Identifier: Apache-2.0 */
/* One token from logits: penalties, top-k, top-p, min-p and temperature, as llama.cpp has them. */
#ifndef FUR_MODEL_SAMPLING_H
#define FUR_MODEL_SAMPLING_H

#include "furlong/model.h"

/* An entry of the scratch that sampling sorts. */
typedef struct fur_candidate {
    float logit;
    int32_t id;
} fur_candidate;

fur_status fur_sampling_check(fur_context *context, const fur_sampling *sampling);
/* Draws with random number `draw` of the sampling's seed, after the tokens of `past`. scratch: [vocabulary]. Ties go to
 * the lower id. Cost: some passes over the vocabulary; only as many candidates are sorted as are needed. */
int32_t fur_sample(const fur_sampling *sampling, uint64_t draw, int64_t vocabulary, const float *logits_V,
                   const int32_t *past, int64_t past_count, fur_candidate *scratch);

#endif
