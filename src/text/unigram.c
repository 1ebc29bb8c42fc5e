/* SPDX-License-Identifier: Apache-2.0 */
#include "text/unigram.h"

#include <string.h>

#include "base/alloc.h"
#include "io/file.h"
#include "text/utf8.h"

#define UNKNOWN_PENALTY 10.0 /* below the lowest score, as in SentencePiece */

typedef struct fur_unigram_place {
    double score;  /* of the best spelling that ends here */
    int64_t first; /* where its last token begins, -1: none ends here */
    int32_t id;
} place;

fur_status fur_unigram_finish(fur_error *error, fur_unigram *unigram)
{
    const fur_vocabulary *vocabulary = unigram->vocabulary;
    FUR_TRY(fur_trie_init(error, &unigram->trie, vocabulary->bytes.length));
    unigram->lowest = 0;
    for (int64_t id = 0; id < vocabulary->count; id++) {
        int64_t bytes;
        const char *text = fur_vocabulary_text(vocabulary, (int32_t)id, &bytes);
        if (bytes > 0)
            fur_trie_add(&unigram->trie, text, bytes, (int32_t)id);
        if (id == 0 || unigram->score[id] < unigram->lowest)
            unigram->lowest = unigram->score[id];
    }
    return FUR_OK;
}

void fur_unigram_clear(fur_unigram *unigram)
{
    fur_trie_clear(&unigram->trie);
    fur_free(unigram->score);
    fur_free(unigram->places);
    fur_spans_clear(&unigram->spans);
    unigram->score = NULL;
    unigram->places = NULL;
}

static void offer(place *at, double score, int64_t first, int32_t id)
{
    if (at->first >= 0 && !(score > at->score))
        return;
    *at = (place){.score = score, .first = first, .id = id};
}

static fur_status find_best(fur_error *error, fur_unigram *unigram, const char *text, int64_t bytes)
{
    const fur_trie *trie = &unigram->trie;
    place *places = unigram->places;
    const double unknown = unigram->lowest - UNKNOWN_PENALTY; /* rounded once: sums of other order tie otherwise */
    for (int64_t i = 0; i <= bytes; i++)
        places[i] = (place){.first = -1};
    for (int64_t at = 0, length; at < bytes; at += length) {
        length = fur_utf8_length(text + at);
        bool alone = false; /* some token is this character */
        int32_t node = 0;
        for (int64_t i = at; i < bytes; i++) {
            node = fur_trie_step(trie, node, (unsigned char)text[i]);
            if (node < 0)
                break;
            int32_t id = trie->value[node];
            if (id < 0)
                continue;
            offer(&places[i + 1], places[at].score + unigram->score[id], at, id);
            alone = alone || i + 1 == at + length;
        }
        if (alone)
            continue;
        if (unigram->unknown < 0)
            return fur_error_set(error, FUR_E_FORMAT,
                                 "a character that no token spells, and the tokenizer has no token for unknown ones");
        offer(&places[at + length], places[at].score + unknown, at, unigram->unknown);
    }
    return FUR_OK;
}

/* Tokens of a piece of the best spelling; what is no token falls back to bytes, else is unknown. */
static fur_status add_piece(fur_error *error, const fur_unigram *unigram, const char *text, int64_t bytes, fur_ids *out)
{
    int32_t id = fur_vocabulary_find(unigram->vocabulary, text, bytes);
    if (id >= 0)
        return fur_ids_add(error, out, id);
    int64_t before = out->length;
    bool all = unigram->byte_fallback;
    FUR_TRY(fur_ids_reserve(error, out, bytes));
    for (int64_t at = 0, length; at < bytes && all; at += length) {
        length = fur_utf8_length(text + at);
        int stray = length == 3 ? fur_utf8_stray(fur_utf8_get(text + at)) : -1;
        for (int64_t i = 0; i < (stray >= 0 ? 1 : length) && all; i++) {
            int32_t byte = unigram->byte_ids[stray >= 0 ? stray : (unsigned char)text[at + i]];
            all = byte >= 0;
            if (all)
                out->data[out->length++] = byte;
        }
    }
    if (all)
        return FUR_OK;
    out->length = before;
    if (unigram->unknown < 0)
        return fur_error_set(error, FUR_E_FORMAT,
                             "a character that no token spells, and the tokenizer has no token for unknown ones");
    return fur_ids_add(error, out, unigram->unknown);
}

fur_status fur_unigram_encode(fur_error *error, fur_unigram *unigram, const char *text, int64_t bytes, fur_ids *out)
{
    if (bytes >= unigram->capacity) {
        int64_t wanted = 2 * bytes + 64;
        place *places = fur_realloc(unigram->places, (size_t)wanted * sizeof *places);
        if (!places)
            return fur_memory_error(error, wanted * (int64_t)sizeof *places, "a long text without a place to cut");
        unigram->places = places;
        unigram->capacity = wanted;
    }
    FUR_TRY(find_best(error, unigram, text, bytes));
    /* back from the end; unknown ones side by side are one */
    fur_spans *spans = &unigram->spans;
    spans->length = 0;
    for (int64_t end = bytes; end > 0; end = unigram->places[end].first) {
        const place *last = &unigram->places[end];
        fur_span *next = spans->length > 0 ? &spans->data[spans->length - 1] : NULL;
        if (next && last->id == unigram->unknown && next->id == unigram->unknown)
            next->first = last->first;
        else
            FUR_TRY(fur_spans_add(error, spans, (fur_span){.first = last->first, .end = end, .id = last->id}));
    }
    for (int64_t i = spans->length - 1; i >= 0; i--) {
        fur_span piece = spans->data[i];
        FUR_TRY(add_piece(error, unigram, text + piece.first, piece.end - piece.first, out));
    }
    return FUR_OK;
}
