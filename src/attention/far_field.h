/* SPDX-License-Identifier: Apache-2.0 */
/* Which keys are far from a chunk of queries: positions [sinks, before) and [behind, length) of the document, the
 * second with bidirectional rows only. */
#ifndef FUR_ATTENTION_FAR_FIELD_H
#define FUR_ATTENTION_FAR_FIELD_H

#include <math.h>

#include "attention/kind.h"
#include "base/size.h"

static inline int64_t fur_far_sinks(const fur_attention_shape *shape)
{
    return shape->features.sink_tokens;
}

/* End of the far part before chunk c, which begins behind the sink tokens; c = -1: nothing is far yet. */
static inline int64_t fur_far_before(const fur_attention_shape *shape, int64_t chunk)
{
    return fur_max_i64(fur_far_sinks(shape), chunk * shape->chunk - shape->near);
}

/* Start of the far part behind chunk c, which ends with the document. */
static inline int64_t fur_far_behind(const fur_attention_shape *shape, int64_t length, int64_t chunk)
{
    if (shape->causal)
        return length;
    return fur_min_i64(length, fur_max_i64(fur_far_sinks(shape), (chunk + 1) * shape->chunk + shape->near));
}

/* 1 / |row|; as op/far has it, a row of norm 0 has a unit row too. */
static inline float fur_far_unit_factor(const float *row, int64_t count)
{
    float sum = 1e-12f;
#pragma omp simd reduction(+ : sum)
    for (int64_t d = 0; d < count; d++)
        sum += row[d] * row[d];
    return 1 / sqrtf(sum);
}

static inline int fur_far_any(const fur_attention_shape *shape, int64_t length, int64_t chunk)
{
    return fur_far_before(shape, chunk) > fur_far_sinks(shape) || fur_far_behind(shape, length, chunk) < length;
}

static inline int fur_far_is_bounded(const fur_attention_shape *shape)
{
    return shape->far.bound > 0;
}

static inline int64_t fur_far_group(const fur_attention_shape *shape)
{
    return shape->heads / shape->kv_heads;
}

static inline float fur_far_bias(const fur_attention_shape *shape, int64_t head)
{
    return shape->far.bias_H ? shape->far.bias_H[head] : 0;
}

/* Pieces of queries that rows of so many documents make, chunk by chunk. */
static inline int64_t fur_far_most_pieces(const fur_attention_shape *shape, int64_t rows, int64_t documents)
{
    return fur_min_i64(rows, rows / shape->chunk + 2 * documents);
}

#endif
