/* SPDX-License-Identifier: Apache-2.0 */
/* Byte-pair encoding: a word is split into its symbols (bytes, or characters), and the pair of neighbours that comes
 * first in the list of merges is joined, leftmost first, until none is left. */
#ifndef FUR_TEXT_BPE_H
#define FUR_TEXT_BPE_H

#include <stdbool.h>

#include "text/vocabulary.h"

typedef struct fur_bpe_merge {
    uint64_t pair;  /* left << 32 | right, + 1; 0: a free slot */
    uint32_t rank;  /* lower first */
    int32_t merged; /* id of the two together */
} fur_bpe_merge;

typedef struct fur_bpe {
    const fur_vocabulary *vocabulary; /* indexed by what a word's bytes are compared with */
    bool by_bytes;                    /* symbols are bytes, and byte_ids their ids */
    bool byte_fallback;               /* a character that is no token becomes the tokens of its bytes, byte_ids */
    bool whole_words;                 /* a word that is a token needs no merges ("ignore_merges") */
    bool fuse_unknown;
    int32_t unknown;       /* id, -1: what is unknown is left out */
    int32_t byte_ids[256]; /* -1: none */
    fur_bpe_merge *merges; /* [mask + 1] */
    uint64_t mask;
    /* neighbours that some merge can join, for characters: (left, right) as in pair */
    uint64_t *joints; /* [joint_mask + 1], NULL: not known, words cannot be cut */
    uint64_t joint_mask;
    uint64_t ascii_joints[128][2]; /* bit r of row l: such characters must stay together */
    int32_t ascii_ids[128];
    struct fur_bpe_work *work; /* of one encoding at a time */
} fur_bpe;

/* Room for `merge_count` merges. The other members are set by the caller, before or after. */
fur_status fur_bpe_init(fur_error *error, fur_bpe *bpe, int64_t merge_count);
void fur_bpe_clear(fur_bpe *bpe);
/* The last one counts if a pair is added twice. */
void fur_bpe_add_merge(fur_bpe *bpe, int32_t left, int32_t right, uint32_t rank, int32_t merged);
/* When all is set: finds where words of characters can be cut without a change of their tokens. */
fur_status fur_bpe_finish(fur_error *error, fur_bpe *bpe);

/* Appends the tokens of a word of one byte or more: with by_bytes any bytes, else text made whole (text/utf8.h). */
fur_status fur_bpe_encode(fur_error *error, fur_bpe *bpe, const char *word, int64_t bytes, fur_ids *out);

/* Whether a text may be cut between these characters: no merge joins them, so the tokens on either side are the same.
 */
bool fur_bpe_may_cut(const fur_bpe *bpe, const char *left, int64_t left_bytes, const char *right, int64_t right_bytes);

#endif
