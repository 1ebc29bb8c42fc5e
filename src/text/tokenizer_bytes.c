/* SPDX-License-Identifier: Apache-2.0 */
#include "base/alloc.h"
#include "base/size.h"
#include "io/file.h"
#include "text/tokenizer.h"

typedef struct byte_tokenizer {
    fur_tokenizer base;
    char pieces[256]; /* piece i is the one byte i */
} byte_tokenizer;

static int64_t vocabulary(const fur_tokenizer *tokenizer)
{
    (void)tokenizer;
    return 256;
}

static fur_status encode(fur_error *error, const fur_tokenizer *tokenizer, const char *text, int64_t bytes,
                         int32_t *ids, int64_t capacity, int64_t *count)
{
    (void)error, (void)tokenizer;
    int64_t written = fur_min_i64(bytes, capacity);
    for (int64_t i = 0; i < written; i++)
        ids[i] = (unsigned char)text[i];
    *count = bytes;
    return FUR_OK;
}

static int64_t safe_prefix(const fur_tokenizer *tokenizer, const char *text, int64_t bytes)
{
    (void)tokenizer, (void)text;
    return bytes;
}

static void piece(const fur_tokenizer *tokenizer, int32_t id, const char **text, int64_t *bytes)
{
    *text = &((const byte_tokenizer *)tokenizer)->pieces[id];
    *bytes = 1;
}

static void destroy(fur_tokenizer *tokenizer)
{
    fur_free(tokenizer);
}

fur_status fur_tokenizer_bytes_create(fur_error *error, fur_tokenizer **out)
{
    static const fur_tokenizer_kind kind = {.name = "bytes",
                                            .vocabulary = vocabulary,
                                            .encode = encode,
                                            .safe_prefix = safe_prefix,
                                            .piece = piece,
                                            .close = destroy};
    byte_tokenizer *tokenizer = fur_malloc(sizeof *tokenizer);
    if (!tokenizer)
        return fur_memory_error(error, (int64_t)sizeof *tokenizer, "a tokenizer");
    tokenizer->base.kind = &kind;
    for (int i = 0; i < 256; i++)
        tokenizer->pieces[i] = (char)i;
    *out = &tokenizer->base;
    return FUR_OK;
}
