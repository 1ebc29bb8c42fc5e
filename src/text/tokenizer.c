/* SPDX-License-Identifier: Apache-2.0 */
#include "text/tokenizer.h"

#include <string.h>

#include "base/alloc.h"
#include "base/context.h"
#include "io/file.h"
#include "io/json.h"
#include "text/tokenizer_files.h"

static const struct {
    const char *name;
    fur_status (*create)(fur_error *error, fur_tokenizer **out);
} kinds[] = {
    {"bytes", fur_tokenizer_bytes_create},
};
#define KIND_COUNT (sizeof kinds / sizeof kinds[0])

/* The byte tokenizer writes one form of tokenizer.json; whatever differs from it may mean other ids. */
static fur_status make_from_file(fur_error *error, const char *path, fur_tokenizer **out)
{
    fur_json json = {0};
    FUR_TRY(fur_json_read(error, path, &json));
    fur_json_setup();
    json_t *bytes = fur_tokenizer_files_bytes();
    fur_status status = FUR_OK;
    if (!bytes || fur_json_failed())
        status = fur_error_set(error, FUR_E_MEMORY, "%s: out of memory", path);
    else if (!json_equal(json.root, bytes))
        status = fur_error_set(error, FUR_E_UNSUPPORTED, "%s: not the byte tokenizer, the only one this version reads",
                               path);
    else
        status = fur_tokenizer_bytes_create(error, out);
    json_decref(bytes);
    fur_json_clear(&json);
    return status;
}

fur_status fur_tokenizer_make(fur_error *error, const char *name, fur_tokenizer **out)
{
    if (!name)
        return fur_error_set(error, FUR_E_ARGUMENT, "no tokenizer named, expected \"bytes\" or a folder");
    for (size_t i = 0; i < KIND_COUNT; i++)
        if (strcmp(name, kinds[i].name) == 0)
            return kinds[i].create(error, out);
    char *path = NULL;
    FUR_TRY(fur_path_join(error, name, "tokenizer.json", &path));
    fur_status status = make_from_file(error, path, out);
    fur_free(path);
    return status;
}

/* ---- public --------------------------------------------------------------------------------------------------- */

fur_status fur_tokenizer_open(fur_context *context, const char *name, fur_tokenizer **out)
{
    *out = NULL;
    return fur_tokenizer_make(&context->error, name, out);
}

void fur_tokenizer_close(fur_tokenizer *tokenizer)
{
    if (tokenizer)
        tokenizer->kind->close(tokenizer);
}

int64_t fur_tokenizer_vocabulary(const fur_tokenizer *tokenizer)
{
    return tokenizer->kind->vocabulary(tokenizer);
}

fur_status fur_tokenizer_encode(fur_context *context, const fur_tokenizer *tokenizer, const char *text, int64_t bytes,
                                int32_t *ids, int64_t capacity, int64_t *count)
{
    if (bytes < 0 || capacity < 0)
        return fur_error_set(&context->error, FUR_E_ARGUMENT,
                             "%lld bytes of text and room for %lld ids, expected 0 or more", (long long)bytes,
                             (long long)capacity);
    return tokenizer->kind->encode(&context->error, tokenizer, text, bytes, ids, capacity, count);
}

fur_status fur_tokenizer_piece(fur_context *context, const fur_tokenizer *tokenizer, int32_t id, const char **text,
                               int64_t *bytes)
{
    int64_t vocabulary = fur_tokenizer_vocabulary(tokenizer);
    if (id < 0 || id >= vocabulary)
        return fur_error_set(&context->error, FUR_E_ARGUMENT, "token id %d, expected 0 to %lld", id,
                             (long long)vocabulary - 1);
    tokenizer->kind->piece(tokenizer, id, text, bytes);
    return FUR_OK;
}
