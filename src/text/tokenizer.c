/* SPDX-License-Identifier: Apache-2.0 */
#include "text/tokenizer.h"

#include <string.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "base/context.h"
#include "base/size.h"
#include "io/file.h"
#include "io/json.h"
#include "text/gguf_vocabulary.h"
#include "text/tokenizer_config.h"
#include "text/tokenizer_files.h"
#include "text/tokenizer_json.h"

static const struct {
    const char *name;
    fur_status (*create)(fur_error *error, fur_tokenizer **out);
} kinds[] = {
    {"bytes", fur_tokenizer_bytes_create},
};
#define KIND_COUNT (sizeof kinds / sizeof kinds[0])

/* The byte tokenizer writes one form of tokenizer.json, and is what that file means. */
static fur_status make_from_file(fur_error *error, const char *path, fur_tokenizer **out)
{
    fur_json json = {0};
    FUR_TRY(fur_json_read(error, path, &json));
    fur_json_setup();
    json_t *bytes = fur_tokenizer_files_bytes();
    fur_status status = FUR_OK;
    if (!bytes || fur_json_failed())
        status = fur_error_set(error, FUR_E_MEMORY, "%s: out of memory", path);
    else if (json_equal(json.root, bytes))
        status = fur_tokenizer_bytes_create(error, out);
    else
        status = fur_tokenizer_from_json(error, &json, out);
    json_decref(bytes);
    fur_json_clear(&json);
    return status;
}

static fur_status make_from_folder(fur_error *error, const char *folder, fur_tokenizer **out)
{
    char *path = NULL;
    FUR_TRY(fur_path_join(error, folder, "tokenizer.json", &path));
    fur_tokenizer *tokenizer = NULL;
    fur_status status = make_from_file(error, path, &tokenizer);
    fur_free(path);
    FUR_TRY(status);
    status = fur_tokenizer_read_config(error, folder, tokenizer);
    if (status != FUR_OK) {
        fur_tokenizer_close(tokenizer);
        return status;
    }
    *out = tokenizer;
    return FUR_OK;
}

static fur_status make_from_gguf(fur_error *error, const char *path, fur_tokenizer **out)
{
    fur_json json = {0}, config = {0};
    fur_tokenizer *tokenizer = NULL;
    fur_status status = fur_gguf_vocabulary_open(error, path, &json, &config);
    if (status == FUR_OK)
        status = fur_tokenizer_from_json(error, &json, &tokenizer);
    if (status == FUR_OK)
        status = fur_tokenizer_set_config(error, &config, tokenizer);
    fur_json_clear(&json);
    fur_json_clear(&config);
    if (status != FUR_OK) {
        fur_tokenizer_close(tokenizer);
        return status;
    }
    *out = tokenizer;
    return FUR_OK;
}

fur_status fur_tokenizer_make(fur_error *error, const char *name, fur_tokenizer **out)
{
    bool gguf;
    struct stat about;
    if (!name)
        return fur_error_set(error, FUR_E_ARGUMENT, "no tokenizer named, expected \"bytes\", a folder or a file");
    for (size_t i = 0; i < KIND_COUNT; i++)
        if (strcmp(name, kinds[i].name) == 0)
            return kinds[i].create(error, out);
    if (stat(name, &about) == 0 && S_ISREG(about.st_mode)) {
        FUR_TRY(fur_gguf_is(error, name, &gguf));
        return gguf ? make_from_gguf(error, name, out) : make_from_file(error, name, out);
    }
    return make_from_folder(error, name, out);
}

#define WINDOW_BYTES 65536

fur_status fur_tokenizer_encode_all(fur_error *error, const fur_tokenizer *tokenizer, fur_encoding whole, fur_ids *out)
{
    int64_t bytes = WINDOW_BYTES;
    for (;;) {
        fur_encoding window = whole;
        int64_t used;
        window.bytes = fur_min_i64(bytes, whole.bytes);
        window.ends = window.bytes == whole.bytes && whole.ends;
        FUR_TRY(tokenizer->kind->encode(error, tokenizer, &window, out, &used));
        if (window.ends)
            return FUR_OK;
        if (used == 0) { /* no place to cut: look further */
            bytes *= 2;
            continue;
        }
        whole.text += used;
        whole.bytes -= used;
        whole.begins = false;
        bytes = WINDOW_BYTES;
    }
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

fur_status fur_tokenizer_info_read(fur_context *context, const fur_tokenizer *tokenizer, fur_tokenizer_info *out)
{
    if (out->struct_size != sizeof *out)
        return fur_error_set(&context->error, FUR_E_ARGUMENT, "tokenizer info of %zu bytes, expected %zu",
                             out->struct_size, sizeof *out);
    *out = (fur_tokenizer_info){.struct_size = sizeof *out,
                                .kind = tokenizer->kind->name,
                                .bos = tokenizer->bos,
                                .eos = tokenizer->eos,
                                .chat_template = tokenizer->chat_template};
    tokenizer->kind->describe(tokenizer, out);
    return FUR_OK;
}

fur_status fur_tokenizer_encode_as(fur_context *context, const fur_tokenizer *tokenizer, int flags, const char *text,
                                   int64_t bytes, int32_t *ids, int64_t capacity, int64_t *count)
{
    if (bytes < 0 || capacity < 0)
        return fur_error_set(&context->error, FUR_E_ARGUMENT,
                             "%lld bytes of text and room for %lld ids, expected 0 or more", (long long)bytes,
                             (long long)capacity);
    if (flags & ~(FUR_TOKENS_SPECIAL | FUR_TOKENS_COMPLETE | FUR_TOKENS_FIRST))
        return fur_error_set(&context->error, FUR_E_ARGUMENT, "flags %d of encoding, expected a sum of 1, 2 and 4",
                             flags);
    fur_encoding whole = {.text = text,
                          .bytes = bytes,
                          .begins = true,
                          .ends = true,
                          .specials = flags & FUR_TOKENS_SPECIAL,
                          .first = flags & (FUR_TOKENS_COMPLETE | FUR_TOKENS_FIRST),
                          .last = flags & FUR_TOKENS_COMPLETE};
    fur_ids all = {0};
    fur_status status = fur_tokenizer_encode_all(&context->error, tokenizer, whole, &all);
    if (status == FUR_OK) {
        *count = all.length;
        if (fur_min_i64(all.length, capacity) > 0)
            memcpy(ids, all.data, (size_t)fur_min_i64(all.length, capacity) * sizeof *ids);
    }
    fur_ids_clear(&all);
    return status;
}

fur_status fur_tokenizer_encode(fur_context *context, const fur_tokenizer *tokenizer, const char *text, int64_t bytes,
                                int32_t *ids, int64_t capacity, int64_t *count)
{
    return fur_tokenizer_encode_as(context, tokenizer, FUR_TOKENS_SPECIAL, text, bytes, ids, capacity, count);
}

static fur_status check_id(fur_error *error, const fur_tokenizer *tokenizer, int32_t id)
{
    int64_t vocabulary = fur_tokenizer_vocabulary(tokenizer);
    if (id >= 0 && id < vocabulary)
        return FUR_OK;
    return fur_error_set(error, FUR_E_ARGUMENT, "token id %d, expected 0 to %lld", id, (long long)vocabulary - 1);
}

fur_status fur_tokenizer_decode(fur_context *context, const fur_tokenizer *tokenizer, int flags, const int32_t *ids,
                                int64_t count, char *text, int64_t capacity, int64_t *bytes)
{
    if (count < 0 || capacity < 0)
        return fur_error_set(&context->error, FUR_E_ARGUMENT, "%lld ids and room for %lld bytes, expected 0 or more",
                             (long long)count, (long long)capacity);
    if (flags & ~FUR_TOKENS_SPECIAL)
        return fur_error_set(&context->error, FUR_E_ARGUMENT, "flags %d of decoding, expected 0 or 1", flags);
    for (int64_t i = 0; i < count; i++)
        FUR_TRY(check_id(&context->error, tokenizer, ids[i]));
    fur_string all = {0};
    fur_status status =
        tokenizer->kind->decode(&context->error, tokenizer, ids, count, flags & FUR_TOKENS_SPECIAL, &all);
    if (status == FUR_OK) {
        *bytes = all.length;
        if (fur_min_i64(all.length, capacity) > 0)
            memcpy(text, all.data, (size_t)fur_min_i64(all.length, capacity));
    }
    fur_string_clear(&all);
    return status;
}

fur_status fur_tokenizer_piece(fur_context *context, const fur_tokenizer *tokenizer, int32_t id, const char **text,
                               int64_t *bytes)
{
    FUR_TRY(check_id(&context->error, tokenizer, id));
    tokenizer->kind->piece(tokenizer, id, text, bytes);
    return FUR_OK;
}

int32_t fur_tokenizer_find(const fur_tokenizer *tokenizer, const char *text)
{
    return tokenizer->kind->find(tokenizer, text, (int64_t)strlen(text));
}
