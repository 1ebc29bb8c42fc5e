/* SPDX-License-Identifier: Apache-2.0 */
/* Cuts a corpus into chunks of at most `context` predictions and packs them into rows. Every position is used once per
 * epoch: a document longer than the context is cut at an offset drawn anew each epoch, shorter ones stay whole, and all
 * chunks come in an order that is a function of (seed, phase, epoch). A place in the sequence is three numbers. */
#ifndef FUR_TRAIN_CUTTER_H
#define FUR_TRAIN_CUTTER_H

#include "furlong/train.h"
#include "model/run.h"

/* Positions first .. first+count-1 of a document may be used. */
typedef struct fur_segment {
    int64_t document, first, count;
} fur_segment;

typedef struct fur_cursor {
    int64_t phase, epoch, index; /* index: next chunk within the epoch */
} fur_cursor;

typedef struct fur_cutter {
    fur_context *owner;
    const fur_corpus *corpus;
    fur_corpus_info info;
    fur_segment *segments;
    int64_t segment_count;
    uint64_t seed;
    bool shuffled;  /* false: in order, no offset, for evaluation */
    int64_t stride; /* not shuffled: from chunk to chunk, what the one before predicts is not counted; 0: the context */
    /* of the epoch at hand */
    fur_cursor epoch_at;
    int64_t context;
    int64_t *first_chunk;  /* [segment_count + 1] running count of chunks */
    int64_t cut_documents; /* documents longer than the context, for the log */
} fur_cutter;

/* Which part of a corpus: all, the held-out share at its end, or the rest. */
typedef enum fur_corpus_part { FUR_PART_ALL = 0, FUR_PART_HELD_OUT = 1, FUR_PART_REST = 2 } fur_corpus_part;

/* A single document is split by positions, several by documents. FUR_E_SHAPE when the part has nothing to predict.
 */
fur_status fur_cutter_create(fur_context *context, const fur_corpus *corpus, fur_corpus_part part, double held_out,
                             uint64_t seed, bool shuffled, fur_cutter *out);
void fur_cutter_destroy(fur_cutter *cutter);
/* Longest segment's predictions. */
int64_t fur_cutter_longest(const fur_cutter *cutter);
/* Predictions over all segments: one epoch's tokens. */
int64_t fur_cutter_tokens(const fur_cutter *cutter);

/* Fills the run's row memory with chunks from `cursor` on, at most row_tokens, and moves the cursor. At the end of an
 * epoch the next begins (shuffled), or row->documents is 0 (not shuffled). */
fur_status fur_cutter_row(fur_cutter *cutter, int64_t context, int64_t row_tokens, fur_cursor *cursor,
                          fur_run_memory *memory, fur_row *row);

#endif
