/* SPDX-License-Identifier: Apache-2.0 */
/* One token from logits: temperature, then top-k, then top-p, as llama.cpp names them. */
#ifndef FUR_MODEL_SAMPLING_H
#define FUR_MODEL_SAMPLING_H

#include "furlong/model.h"

/* An entry of the scratch that sampling sorts. */
typedef struct fur_candidate {
    float logit;
    int32_t id;
} fur_candidate;

fur_status fur_sampling_check(fur_context *context, const fur_sampling *sampling);
/* Draws with random number `draw` of the sampling's seed. scratch: [vocabulary]. Ties go to the lower id. */
int32_t fur_sample(const fur_sampling *sampling, uint64_t draw, int64_t vocabulary, const float *logits_V,
                   fur_candidate *scratch);

#endif
