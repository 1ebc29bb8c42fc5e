/* SPDX-License-Identifier: Apache-2.0 */
/* The corpus of furlong/data.h, as its parts see it. Files are read once, in order; what they hold goes to a spool:
 *
 *      tokens     | document 0 | document 1 | ...      ids in the narrowest of 1, 2, 4 bytes that holds the highest,
 *                                                      or rows of f32
 *      ends       | e0 | e1 | ...                      int64: the position after each document's last
 *      prompts    | first, end | first, end | ...      int64: positions that are read and not predicted, rising
 *
 * All stay in RAM while small and go to unlinked temporary files beyond, so RAM does not grow with the corpus. */
#ifndef FUR_TEXT_CORPUS_H
#define FUR_TEXT_CORPUS_H

#include "base/error.h"
#include "furlong/data.h"
#include "io/hash.h"
#include "io/spool.h"
#include "text/jinja.h"

typedef struct fur_corpus_limits {
    int64_t ram_bytes;  /* tokens kept in RAM; the table of documents and that of prompts have a quarter of it each */
    int64_t line_bytes; /* longest JSONL line */
} fur_corpus_limits;
#define FUR_CORPUS_LIMITS ((fur_corpus_limits){.ram_bytes = (int64_t)64 << 20, .line_bytes = (int64_t)1 << 30})

typedef enum fur_corpus_content {
    FUR_CORPUS_NOTHING = 0,
    FUR_CORPUS_TOKENS = 1,
    FUR_CORPUS_VECTORS = 2
} fur_corpus_content;

struct fur_corpus {
    fur_corpus_info info; /* complete once open */
    fur_corpus_content content;
    int64_t element_bytes; /* of one id: 1, 2, 4; of one row of vectors: 4 features */
    fur_corpus_limits limits;
    fur_spool *tokens;
    fur_spool *ends;
    fur_spool *prompts;
    int64_t prompt_count;
};

/* What reading keeps beside the corpus. */
typedef struct fur_corpus_builder {
    fur_error *error;
    const fur_corpus_settings *settings;
    const fur_tokenizer *tokenizer;
    fur_corpus *corpus;
    fur_hash hash;          /* of all documents so far: content, then length */
    int64_t document_start; /* position where the present document begins */
    int64_t limit;          /* ids are below it */
    int64_t highest;        /* id so far, -1: none */
    int64_t files;
    fur_jinja *chat;  /* the tokenizer's chat template, once it was used */
    bool text_used;   /* the tokenizer made some of the ids */
    bool arrays_used; /* others, or vectors, came as they are */
} fur_corpus_builder;

/* Adds positions to the present document. Ids are checked against builder->limit; `name` is for the error. */
fur_status fur_corpus_add_ids(fur_corpus_builder *builder, const char *name, const int32_t *ids, int64_t count);
fur_status fur_corpus_add_vectors(fur_corpus_builder *builder, const float *x, int64_t rows);
/* Positions from `first` on, which were the next to be added then, are read and not predicted. */
fur_status fur_corpus_add_prompt(fur_corpus_builder *builder, int64_t first);
/* Ends the present document; one without positions is counted and left out. */
fur_status fur_corpus_end_document(fur_corpus_builder *builder);

/* Reads a file by its name: *.jsonl, *.npy, else text; each also with .zst; "-" is standard input. */
fur_status fur_corpus_add_file(fur_corpus_builder *builder, const char *path);

/* fur_corpus_open with a tokenizer at hand and other limits. */
fur_status fur_corpus_make(fur_error *error, const fur_corpus_settings *settings, const fur_tokenizer *tokenizer,
                           fur_corpus_limits limits, fur_corpus **out);
/* As the public functions. */
fur_status fur_corpus_ids(fur_error *error, const fur_corpus *corpus, int64_t document, int64_t first, int64_t count,
                          int32_t *ids);
fur_status fur_corpus_targets(fur_error *error, const fur_corpus *corpus, int64_t document, int64_t first,
                              int64_t count, int32_t *targets);
fur_status fur_corpus_vectors(fur_error *error, const fur_corpus *corpus, int64_t document, int64_t first,
                              int64_t count, float *x);

#endif
