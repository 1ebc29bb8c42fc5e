/* SPDX-License-Identifier: Apache-2.0 */
/* Ways to split text before byte-level BPE, by llama.cpp's names, as a tokenizer.json has them. */
#ifndef FUR_TEXT_GGUF_SPLITS_H
#define FUR_TEXT_GGUF_SPLITS_H

#include <jansson.h>
#include <stdbool.h>

typedef struct fur_gguf_split {
    const char *name, *alias;
    const char *regex;   /* instead of that of ByteLevel; NULL: that */
    bool digits;         /* one by one, before it */
    bool ignores_merges; /* a whole piece that is a token is that token */
} fur_gguf_split;

/* NULL: none of that name. */
const fur_gguf_split *fur_gguf_split_find(const char *name);
/* The "pre_tokenizer" of a tokenizer.json; NULL when out of memory. */
json_t *fur_gguf_split_json(const fur_gguf_split *split);
/* The split that such an object is; NULL: none. */
const fur_gguf_split *fur_gguf_split_of(const json_t *pre_tokenizer);

#endif
