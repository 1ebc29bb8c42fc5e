/* SPDX-License-Identifier: Apache-2.0 */
/* Which keys are far from a chunk of queries: positions [sinks, before) and [behind, length) of the document, the
 * second with bidirectional rows only. */
#ifndef FUR_ATTENTION_FAR_FIELD_H
#define FUR_ATTENTION_FAR_FIELD_H

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

static inline int fur_far_any(const fur_attention_shape *shape, int64_t length, int64_t chunk)
{
    return fur_far_before(shape, chunk) > fur_far_sinks(shape) || fur_far_behind(shape, length, chunk) < length;
}

#endif
