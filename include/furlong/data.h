/* SPDX-License-Identifier: Apache-2.0 */
/* A corpus: documents of token ids, or of real vectors, read from files. And a row: what one step sees, several
 * documents packed end to end. There is no (batch, time) grid: positions restart and attention never crosses. */
#ifndef FURLONG_DATA_H
#define FURLONG_DATA_H

#include <stdbool.h>

#include "furlong/context.h"
#include "furlong/tokenizer.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- a row ------------------------------------------------------------------------------------------------ */

/* T = offsets[documents] positions. Document i holds positions offsets[i]..offsets[i+1]-1 and its own positions
 * 0,1,2,... All arrays are the caller's and only read. */
typedef struct fur_row {
    int64_t documents;
    const int64_t *offsets;  /* [documents + 1], rising, offsets[0] == 0 */
    const int32_t *ids_T;    /* token input, or NULL */
    const float *x_TI;       /* real-vector input [T, features], or NULL */
    const int32_t *target_T; /* next token, -1: not counted in the loss; or NULL */
    const float *target_TO;  /* regression target [T, outputs]; a row of NaN is not counted; or NULL */
} fur_row;

/* ---- a corpus --------------------------------------------------------------------------------------------- */

typedef struct fur_corpus fur_corpus;

typedef struct fur_corpus_settings {
    size_t struct_size;
    const char *const *paths; /* files, folders (read in name order, hidden files skipped), "-" for stdin */
    int64_t path_count;
    const char *tokenizer; /* as fur_tokenizer_open takes it; "bytes" */
    int64_t vocabulary;    /* ids at or above it are refused; 0: the tokenizer's own */
    bool skip_bad;         /* JSONL: skip lines that do not parse, count and say; else refuse with the line number */
} fur_corpus_settings;

typedef struct fur_corpus_info {
    int64_t documents;
    int64_t tokens;          /* positions over all documents */
    int64_t features;        /* 0: token ids; else the width of the real vectors */
    int64_t vocabulary;      /* of the tokenizer; for .npy ids: the highest id + 1 */
    int64_t prompt_tokens;   /* of tokens, those that are read and not predicted */
    int64_t skipped_lines;   /* with skip_bad */
    int64_t empty_documents; /* left out, counted */
    int64_t text_bytes;      /* of the texts that the tokens were made from; 0: some were ids */
    int64_t bytes_held;      /* RAM the corpus holds; larger ones live in an unlinked temporary file */
    uint64_t hash;           /* XXH3 of all documents' content and lengths */
} fur_corpus_info;

FUR_API void fur_corpus_settings_defaults(fur_corpus_settings *settings);

/* Opens and reads the files once. By name: *.jsonl, a document a line; *.npy (integer ids [n], or real vectors
 * [n, features], one document); *.zst (of any of these); anything else: one document of text bytes. A line has "text";
 * or "prompt" and "completion", of which the completion is predicted and the prompt only read; or "messages", written
 * by the tokenizer's chat template, of which the answers of the assistant are predicted. A text's ids are complete:
 * with the tokens that its tokenizer puts around it, as Hugging Face tokenizers gives them; of prompt and completion,
 * each encoded by itself, the first of these stand before the prompt, and the tokenizer's end of text behind the
 * completion. Errors name the file and line or offset. Real vectors and tokens cannot be mixed. Destroy with
 * fur_corpus_close. */
FUR_API fur_status fur_corpus_open(fur_context *context, const fur_corpus_settings *settings, fur_corpus **out);
FUR_API void fur_corpus_close(fur_corpus *corpus);
FUR_API void fur_corpus_info_read(const fur_corpus *corpus, fur_corpus_info *out);
FUR_API int64_t fur_corpus_document_tokens(const fur_corpus *corpus, int64_t document);

/* Copies `count` positions of a document from `first` on: ids for a token corpus, [count, features] for vectors. */
FUR_API fur_status fur_corpus_read_ids(fur_context *context, const fur_corpus *corpus, int64_t document, int64_t first,
                                       int64_t count, int32_t *ids_T);
/* The same ids, -1 where they are part of a prompt: what a model is to predict from the positions before. */
FUR_API fur_status fur_corpus_read_targets(fur_context *context, const fur_corpus *corpus, int64_t document,
                                           int64_t first, int64_t count, int32_t *target_T);
FUR_API fur_status fur_corpus_read_vectors(fur_context *context, const fur_corpus *corpus, int64_t document,
                                           int64_t first, int64_t count, float *x_TI);

#ifdef __cplusplus
}
#endif
#endif
