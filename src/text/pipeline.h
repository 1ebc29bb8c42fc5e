/* SPDX-License-Identifier: Apache-2.0 */
/* A tokenizer as Hugging Face's tokenizer.json describes it:
 *
 *      text -> added tokens cut out -> normalised -> cut into pieces -> each piece by the model -> ids -> template
 *
 * Made by tokenizer_json.c. A long text goes through in windows that end where the pieces on either side are those of
 * the whole. */
#ifndef FUR_TEXT_PIPELINE_H
#define FUR_TEXT_PIPELINE_H

#include <pthread.h>

#include "text/added.h"
#include "text/bpe.h"
#include "text/decoder.h"
#include "text/normalizer.h"
#include "text/splitter.h"
#include "text/tokenizer.h"
#include "text/unigram.h"
#include "text/word_cache.h"

typedef enum fur_model_of_words { FUR_MODEL_BPE, FUR_MODEL_UNIGRAM } fur_model_of_words;

typedef struct fur_pipeline {
    fur_tokenizer base;
    struct fur_pipeline *self; /* that what a const one says may still use its scratch, under its lock */
    char *name;                /* of the file, for errors */
    fur_model_of_words model;
    bool byte_level;           /* the model's symbols are bytes */
    fur_vocabulary vocabulary; /* byte-level: in bytes, and tokens that are no such text are not indexed */
    int64_t merge_count;
    fur_added added;
    fur_normalizer normalizer;
    fur_splitter splitter;
    fur_bpe bpe;
    fur_unigram unigram;
    fur_decoder decoder;
    fur_vocabulary pieces;  /* what each id decodes to within a text; nothing is indexed */
    int32_t *added_of;      /* [pieces.count] index of the added token with this id, -1: none */
    fur_ids prefix, suffix; /* ids around a text that is complete */
    /* of one encoding at a time */
    pthread_mutex_t lock;
    bool lock_made;
    fur_word_cache cache;
    fur_string whole, normal, word;
    fur_spans outer, inner;
    int64_t *marks, *mark_sources; /* [FUR_PIPELINE_MARKS] */
} fur_pipeline;

#define FUR_PIPELINE_MARKS 1024

/* An empty one, to be filled and finished, or closed. */
fur_status fur_pipeline_create(fur_error *error, const char *name, fur_pipeline **out);
/* Once vocabulary, model, added tokens, and what is before and behind them are set. */
fur_status fur_pipeline_finish(fur_error *error, fur_pipeline *pipeline);
void fur_pipeline_close(fur_pipeline *pipeline);

#endif
