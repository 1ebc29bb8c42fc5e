/* SPDX-License-Identifier: Apache-2.0 */
/* Byte-pair encoding learned from words: the most frequent pair of neighbours becomes a token, again and again
 * (Sennrich et al., arXiv 1508.07909). Of pairs as frequent the one with the lower left id comes first, then the lower
 * right one, so the result is a function of the words alone. */
#ifndef FUR_TEXT_BPE_TRAIN_H
#define FUR_TEXT_BPE_TRAIN_H

#include "text/buffer.h"

typedef struct fur_bpe_trainer fur_bpe_trainer;

/* byte_ids: the token of each byte; further tokens are numbered from 256. */
fur_status fur_bpe_trainer_create(fur_error *error, const int32_t byte_ids[256], fur_bpe_trainer **out);
void fur_bpe_trainer_destroy(fur_bpe_trainer *trainer);
/* Counts a word of a byte or more. */
fur_status fur_bpe_trainer_add(fur_error *error, fur_bpe_trainer *t, const char *text, int64_t bytes);
int64_t fur_bpe_trainer_words(const fur_bpe_trainer *trainer); /* different ones */
/* At most `most` merges, fewer when no pair is left; appends (left, right) of token 256, 257, ... Once. */
fur_status fur_bpe_trainer_run(fur_error *error, fur_bpe_trainer *trainer, int64_t most, fur_ids *pairs);

#endif
