/* SPDX-License-Identifier: Apache-2.0 */
#include "train/cutter.h"

#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/random.h"
#include "base/size.h"

enum { STREAM_OFFSET = 0x6f66, STREAM_ORDER = 0x6f72 };

/* A number that differs for every (phase, epoch) in use. */
static uint64_t epoch_key(const fur_cursor *at, uint64_t stream)
{
    return stream << 48 | (uint64_t)at->phase << 32 | (uint64_t)at->epoch;
}

/* ---- segments --------------------------------------------------------------------------------------------- */

static void split_one_document(fur_corpus_part part, double held_out, fur_segment *s)
{
    int64_t held = (int64_t)((double)s->count * held_out);
    if (part == FUR_PART_HELD_OUT) {
        s->first += s->count - held;
        s->count = held;
    } else if (part == FUR_PART_REST) {
        s->count -= held;
    }
}

fur_status fur_cutter_create(fur_context *context, const fur_corpus *corpus, fur_corpus_part part, double held_out,
                             uint64_t seed, bool shuffled, fur_cutter *out)
{
    memset(out, 0, sizeof *out);
    out->owner = context;
    out->corpus = corpus;
    out->seed = seed;
    out->shuffled = shuffled;
    out->epoch_at.epoch = -1;
    fur_corpus_info_read(corpus, &out->info);
    int64_t documents = out->info.documents;
    out->segments = fur_calloc((size_t)documents, sizeof *out->segments);
    out->first_chunk = fur_calloc((size_t)documents + 1, sizeof *out->first_chunk);
    if (!out->segments || !out->first_chunk) {
        fur_cutter_destroy(out);
        return fur_error_set(&context->error, FUR_E_MEMORY, "no memory for the list of %lld documents",
                             (long long)documents);
    }
    int64_t held = documents > 1 ? (int64_t)ceil((double)documents * held_out) : 0;
    int64_t from = documents > 1 && part == FUR_PART_HELD_OUT ? documents - held : 0;
    int64_t to = documents > 1 && part == FUR_PART_REST ? documents - held : documents;
    for (int64_t d = from; d < to; d++) {
        fur_segment s = {d, 0, fur_corpus_document_tokens(corpus, d)};
        if (documents == 1)
            split_one_document(part, held_out, &s);
        if (s.count >= 2) /* one position predicts nothing */
            out->segments[out->segment_count++] = s;
    }
    if (out->segment_count == 0) {
        fur_cutter_destroy(out);
        return fur_error_set(&context->error, FUR_E_SHAPE,
                             "no document of two tokens or more to %s, out of %lld tokens",
                             part == FUR_PART_HELD_OUT ? "evaluate on" : "train on", (long long)out->info.tokens);
    }
    return FUR_OK;
}

void fur_cutter_destroy(fur_cutter *cutter)
{
    fur_free(cutter->segments);
    fur_free(cutter->first_chunk);
    cutter->segments = NULL;
    cutter->first_chunk = NULL;
}

int64_t fur_cutter_longest(const fur_cutter *cutter)
{
    int64_t longest = 0;
    for (int64_t i = 0; i < cutter->segment_count; i++)
        longest = fur_max_i64(longest, cutter->segments[i].count - 1);
    return longest;
}

int64_t fur_cutter_tokens(const fur_cutter *cutter)
{
    int64_t tokens = 0;
    for (int64_t i = 0; i < cutter->segment_count; i++)
        tokens += cutter->segments[i].count - 1;
    return tokens;
}

/* ---- chunks of an epoch ----------------------------------------------------------------------------------- */

/* Where the first whole chunk of a segment begins. */
static int64_t cut_offset(const fur_cutter *c, int64_t segment)
{
    if (!c->shuffled || c->segments[segment].count - 1 <= c->context)
        return 0;
    uint64_t word = fur_random_u64(c->seed, epoch_key(&c->epoch_at, STREAM_OFFSET), (uint64_t)segment);
    return (int64_t)(word % (uint64_t)c->context);
}

static int64_t stride_of(const fur_cutter *c)
{
    return c->stride ? c->stride : c->context;
}

/* Chunks of `predictions`, the last of which ends with them. */
static int64_t chunks_of(const fur_cutter *c, int64_t predictions)
{
    int64_t more = predictions - c->context;
    return 1 + (more > 0 ? fur_div_up(more, stride_of(c)) : 0);
}

static void begin_epoch(fur_cutter *c, const fur_cursor *cursor, int64_t context)
{
    c->epoch_at = *cursor;
    c->context = context;
    c->cut_documents = 0;
    for (int64_t i = 0; i < c->segment_count; i++) {
        int64_t predictions = c->segments[i].count - 1, offset = cut_offset(c, i);
        c->cut_documents += predictions > context;
        c->first_chunk[i + 1] = c->first_chunk[i] + (offset > 0) + chunks_of(c, predictions - offset);
    }
}

/* A permutation of [0, count): four Feistel rounds over the next even number of bits, walked until inside. */
static int64_t permuted(uint64_t seed, uint64_t key, int64_t count, int64_t index)
{
    int half = 1;
    while (((int64_t)1 << 2 * half) < count)
        half++;
    uint64_t mask = ((uint64_t)1 << half) - 1, x = (uint64_t)index;
    do {
        uint64_t left = x >> half, right = x & mask;
        for (uint64_t round = 0; round < 4; round++) {
            uint64_t mixed = fur_random_u64(seed, key, round << 48 | right) & mask;
            uint64_t next = left ^ mixed;
            left = right;
            right = next;
        }
        x = left << half | right;
    } while (x >= (uint64_t)count);
    return (int64_t)x;
}

/* Positions of chunk number `index` of the epoch; the first *known of its predictions are the chunk's before. */
static fur_segment chunk_at(const fur_cutter *c, int64_t index, int64_t *known)
{
    int64_t chunks = c->first_chunk[c->segment_count];
    if (c->shuffled)
        index = permuted(c->seed, epoch_key(&c->epoch_at, STREAM_ORDER), chunks, index);
    int64_t low = 0, high = c->segment_count - 1;
    while (low < high) {
        int64_t middle = low + (high - low + 1) / 2;
        if (c->first_chunk[middle] <= index)
            low = middle;
        else
            high = middle - 1;
    }
    const fur_segment *s = &c->segments[low];
    int64_t offset = cut_offset(c, low), within = index - c->first_chunk[low];
    int64_t start = offset > 0 ? (within == 0 ? 0 : offset + (within - 1) * c->context) : within * stride_of(c);
    *known = within > 0 && c->stride ? c->context - c->stride : 0;
    int64_t end = offset > 0 && within == 0 ? offset : start + c->context;
    end = fur_min_i64(end, s->count - 1);
    return (fur_segment){s->document, s->first + start, end - start};
}

/* ---- rows ------------------------------------------------------------------------------------------------- */

/* Inputs are positions first .. first+count-1, targets the ones after each. */
static fur_status copy_chunk(const fur_cutter *c, const fur_segment *chunk, int64_t known, int64_t at,
                             fur_run_memory *m)
{
    int64_t features = c->info.features, outputs = features;
    if (features) {
        FUR_TRY(fur_corpus_read_vectors(c->owner, c->corpus, chunk->document, chunk->first, chunk->count,
                                        m->row_x_TI + at * features));
        FUR_TRY(fur_corpus_read_vectors(c->owner, c->corpus, chunk->document, chunk->first + 1, chunk->count,
                                        m->row_target_TO + at * outputs));
        for (int64_t i = 0; i < known * outputs; i++)
            m->row_target_TO[at * outputs + i] = NAN;
        return FUR_OK;
    }
    FUR_TRY(fur_corpus_read_ids(c->owner, c->corpus, chunk->document, chunk->first, chunk->count, m->row_ids_T + at));
    FUR_TRY(fur_corpus_read_targets(c->owner, c->corpus, chunk->document, chunk->first + 1, chunk->count,
                                    m->row_targets_T + at));
    for (int64_t i = 0; i < known; i++)
        m->row_targets_T[at + i] = -1;
    return FUR_OK;
}

static bool epoch_is_at_hand(const fur_cutter *c, const fur_cursor *cursor, int64_t context)
{
    return c->epoch_at.epoch == cursor->epoch && c->epoch_at.phase == cursor->phase && c->context == context;
}

fur_status fur_cutter_row(fur_cutter *c, int64_t context, int64_t row_tokens, fur_cursor *cursor, fur_run_memory *m,
                          fur_row *row)
{
    int64_t used = 0, documents = 0;
    m->row_offsets[0] = 0;
    for (;;) {
        if (!epoch_is_at_hand(c, cursor, context))
            begin_epoch(c, cursor, context);
        if (cursor->index >= c->first_chunk[c->segment_count]) {
            if (!c->shuffled)
                break;
            cursor->epoch++;
            cursor->index = 0;
            continue;
        }
        int64_t known;
        fur_segment chunk = chunk_at(c, cursor->index, &known);
        if (used + chunk.count > row_tokens)
            break;
        FUR_TRY(copy_chunk(c, &chunk, known, used, m));
        used += chunk.count;
        m->row_offsets[++documents] = used;
        cursor->index++;
    }
    *row = (fur_row){.documents = documents,
                     .offsets = m->row_offsets,
                     .ids_T = m->row_ids_T,
                     .x_TI = m->row_x_TI,
                     .target_T = m->row_targets_T,
                     .target_TO = m->row_target_TO};
    return FUR_OK;
}
