/* SPDX-License-Identifier: Apache-2.0 */
/* Tokenizers: text to ids and back. */
#ifndef FURLONG_TOKENIZER_H
#define FURLONG_TOKENIZER_H

#include <stdbool.h>

#include "furlong/context.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Text to ids and back: bytes, or what a tokenizer.json of Hugging Face describes (byte-level BPE, BPE with byte
 * fallback, Unigram), with the ids that Hugging Face tokenizers gives. What a file says and this library does not read
 * is refused by name, never guessed; docs/TOKENIZERS.md lists what is read.
 *
 * Text is bytes. One that is part of no UTF-8 character is cut and matched as a character of no category, and keeps its
 * value: byte-level BPE has a token for every byte, so any file comes back from its ids; models with byte fallback
 * give its token <0xHH>; for the others it is U+FFFD. A tokenizer may be used by several threads, which take turns. */
typedef struct fur_tokenizer fur_tokenizer;

/* "bytes"; or a tokenizer.json; or a folder that holds one, whose tokenizer_config.json and chat_template.jinja are
 * read too where they are there; or a GGUF file, for its vocabulary and template. Destroy with fur_tokenizer_close. */
FUR_API fur_status fur_tokenizer_open(fur_context *context, const char *name, fur_tokenizer **out);
FUR_API void fur_tokenizer_close(fur_tokenizer *tokenizer);
/* Ids are below it; some may stand for nothing. */
FUR_API int64_t fur_tokenizer_vocabulary(const fur_tokenizer *tokenizer);

typedef struct fur_tokenizer_info {
    size_t struct_size;
    const char *kind; /* "bytes", "byte-level BPE", "BPE", "Unigram" */
    int64_t vocabulary, merges;
    int64_t added, special;    /* tokens found in a text as they are; those of them that are special */
    int32_t bos, eos;          /* ids, -1: not named */
    bool round_trip;           /* any bytes come back from their ids */
    const char *chat_template; /* the tokenizer's, NULL: none */
} fur_tokenizer_info;
/* struct_size is set by the caller. */
FUR_API fur_status fur_tokenizer_info_read(fur_context *context, const fur_tokenizer *tokenizer,
                                           fur_tokenizer_info *out);

/* What fur_tokenizer_encode_as and fur_tokenizer_decode do about special tokens. */
enum {
    FUR_TOKENS_SPECIAL = 1,  /* a special token's text becomes that token; and special tokens become text again */
    FUR_TOKENS_COMPLETE = 2, /* with the tokens that the tokenizer puts around a text, such as its first */
    FUR_TOKENS_FIRST = 4     /* with those it puts before a text: of one that is to be continued */
};

/* Writes at most `capacity` ids and sets *count to the number there are. As with FUR_TOKENS_SPECIAL alone. */
FUR_API fur_status fur_tokenizer_encode(fur_context *context, const fur_tokenizer *tokenizer, const char *text,
                                        int64_t bytes, int32_t *ids, int64_t capacity, int64_t *count);
FUR_API fur_status fur_tokenizer_encode_as(fur_context *context, const fur_tokenizer *tokenizer, int flags,
                                           const char *text, int64_t bytes, int32_t *ids, int64_t capacity,
                                           int64_t *count);
/* The text of `count` ids: at most `capacity` bytes, *bytes is set to the number there are. Not the pieces end to end
 * where the tokenizer takes off a space that it put in front. */
FUR_API fur_status fur_tokenizer_decode(fur_context *context, const fur_tokenizer *tokenizer, int flags,
                                        const int32_t *ids, int64_t count, char *text, int64_t capacity,
                                        int64_t *bytes);
/* The bytes of one token within a text, which may be part of a character; *text is owned by the tokenizer. */
FUR_API fur_status fur_tokenizer_piece(fur_context *context, const fur_tokenizer *tokenizer, int32_t id,
                                       const char **text, int64_t *bytes);
/* The id of the added token with this text, such as "<|im_end|>"; -1: there is none. */
FUR_API int32_t fur_tokenizer_find(const fur_tokenizer *tokenizer, const char *text);

/* ---- learning one ----------------------------------------------------------------------------------------- */

typedef struct fur_tokenizer_trained {
    int64_t bytes;      /* read */
    int64_t words;      /* different ones */
    int64_t merges;     /* learned */
    int64_t vocabulary; /* 256 bytes, the merges, <|endoftext|>: fewer than asked for when no pair of tokens is left */
} fur_tokenizer_trained;

struct fur_corpus_settings;
/* Learns a byte-level BPE of `vocabulary` tokens (257 or more) from the texts of a corpus, and writes tokenizer.json
 * and tokenizer_config.json into `folder`, which is made where it is not there. The same texts give the same files.
 * Holds each different word once. The settings' tokenizer and vocabulary are not used. Sennrich et al., arXiv
 * 1508.07909. */
FUR_API fur_status fur_tokenizer_train(fur_context *context, const struct fur_corpus_settings *settings,
                                       int64_t vocabulary, const char *folder, fur_tokenizer_trained *out);

#ifdef __cplusplus
}
#endif
#endif
