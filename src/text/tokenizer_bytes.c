/* SPDX-License-Identifier: Apache-2.0 */
#include "base/alloc.h"
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

static fur_status encode(fur_error *error, const fur_tokenizer *tokenizer, const fur_encoding *input, fur_ids *out,
                         int64_t *used)
{
    (void)tokenizer;
    FUR_TRY(fur_ids_reserve(error, out, input->bytes));
    for (int64_t i = 0; i < input->bytes; i++)
        out->data[out->length + i] = (unsigned char)input->text[i];
    out->length += input->bytes;
    *used = input->bytes;
    return FUR_OK;
}

static fur_status decode(fur_error *error, const fur_tokenizer *tokenizer, const int32_t *ids, int64_t count,
                         bool specials, fur_string *out)
{
    (void)tokenizer, (void)specials;
    FUR_TRY(fur_string_reserve(error, out, count));
    for (int64_t i = 0; i < count; i++)
        out->data[out->length++] = (char)ids[i];
    return FUR_OK;
}

static void piece(const fur_tokenizer *tokenizer, int32_t id, const char **text, int64_t *bytes)
{
    *text = &((const byte_tokenizer *)tokenizer)->pieces[id];
    *bytes = 1;
}

static int32_t find(const fur_tokenizer *tokenizer, const char *text, int64_t bytes)
{
    (void)tokenizer, (void)text, (void)bytes;
    return -1;
}

static int64_t special_at(const fur_tokenizer *tokenizer, const char *text, int64_t bytes)
{
    (void)tokenizer, (void)text, (void)bytes;
    return 0;
}

static void describe(const fur_tokenizer *tokenizer, fur_tokenizer_info *out)
{
    (void)tokenizer;
    out->vocabulary = 256;
    out->round_trip = true;
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
                                            .decode = decode,
                                            .piece = piece,
                                            .find = find,
                                            .special_at = special_at,
                                            .describe = describe,
                                            .close = destroy};
    byte_tokenizer *tokenizer = fur_malloc(sizeof *tokenizer);
    if (!tokenizer)
        return fur_memory_error(error, (int64_t)sizeof *tokenizer, "a tokenizer");
    tokenizer->base = (fur_tokenizer){.kind = &kind, .bos = -1, .eos = -1};
    for (int i = 0; i < 256; i++)
        tokenizer->pieces[i] = (char)i;
    *out = &tokenizer->base;
    return FUR_OK;
}
