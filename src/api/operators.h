/* SPDX-License-Identifier: Apache-2.0 */
/* What the operators of operators.h share. */
#ifndef FUR_API_OPERATORS_H
#define FUR_API_OPERATORS_H

#include "attention/kind.h"
#include "base/context.h"
#include "furlong/operators.h"

/* struct_size as this library has it. */
fur_status fur_operator_check_size(fur_error *error, const char *name, size_t have, size_t expected);
/* A workspace of so many bytes, or a refusal where `limit` (0: none) is below that; `what` begins the text. */
fur_status fur_operator_arena(fur_error *error, const char *what, int64_t bytes, int64_t limit, fur_arena *out);

enum { FUR_OPERATOR_TEXT = 160 };

/* Settings of attention that are good, with 0 made the default. */
typedef struct fur_operator_attention_job {
    fur_operator_attention s;
    const fur_attention_kind *kind;
    fur_attention_shape shape; /* constants of far keys missing */
    int64_t whole[2];          /* offsets of one document */
    fur_documents documents;
    int64_t segments;             /* of queries */
    double scale;                 /* the shape has it in f32 */
    char what[FUR_OPERATOR_TEXT]; /* its sizes, for texts */
} fur_operator_attention_job;

/* Consecutive queries that stand at consecutive keys' positions: `count` of them, the first at key row `first` and
 * number `query` among the queries. */
typedef struct fur_operator_segment {
    int64_t first, count, query;
} fur_operator_segment;

fur_status fur_operator_attention_check(fur_context *context, const fur_operator_attention *settings,
                                        fur_operator_attention_job *job);
fur_operator_segment fur_operator_segment_of(const fur_operator_attention_job *job, int64_t index);
static inline int fur_operator_has_far(const fur_operator_attention_job *job)
{
    return job->shape.far.degree > 0;
}
/* Constants of far keys: the caller's, or defaults that this lays out. Fills them unless the arena is a counting one.
 */
void fur_operator_far_constants(fur_operator_attention_job *job, fur_arena *arena);

#endif
