/* SPDX-License-Identifier: Apache-2.0 */
#include "text/tokenizer_config.h"

#include <string.h>

#include "base/alloc.h"
#include "io/file.h"
#include "io/json.h"

#define TEMPLATE_BYTES ((int64_t)1 << 20)

/* A token named by its text, or by an object with it; one the tokenizer does not have is none. */
static int32_t token_at(const fur_json *json, const char *key, const fur_tokenizer *tokenizer)
{
    json_t *value = fur_json_find(json, key);
    if (json_is_object(value))
        value = json_object_get(value, "content");
    if (!json_is_string(value))
        return -1;
    return tokenizer->kind->find(tokenizer, json_string_value(value), (int64_t)json_string_length(value));
}

static fur_status set_template(fur_error *error, fur_tokenizer *tokenizer, const char *text)
{
    char *copy = fur_strdup(text);
    if (!copy)
        return fur_memory_error(error, (int64_t)strlen(text), "a chat template");
    fur_free(tokenizer->chat_template);
    tokenizer->chat_template = copy;
    return FUR_OK;
}

/* A text, or a list of named ones, of which "default" is meant. */
static fur_status read_template(fur_error *error, const fur_json *json, fur_tokenizer *tokenizer)
{
    json_t *value = fur_json_find(json, "chat_template"), *entry;
    size_t i;
    if (json_is_string(value))
        return set_template(error, tokenizer, json_string_value(value));
    json_array_foreach(value, i, entry)
    {
        const char *name = json_string_value(json_object_get(entry, "name"));
        const char *text = json_string_value(json_object_get(entry, "template"));
        if (name && text && strcmp(name, "default") == 0)
            return set_template(error, tokenizer, text);
    }
    return FUR_OK;
}

fur_status fur_tokenizer_set_config(fur_error *error, const fur_json *config, fur_tokenizer *tokenizer)
{
    tokenizer->bos = token_at(config, "bos_token", tokenizer);
    tokenizer->eos = token_at(config, "eos_token", tokenizer);
    return read_template(error, config, tokenizer);
}

static fur_status read_json(fur_error *error, const char *path, fur_tokenizer *tokenizer)
{
    fur_json json = {0};
    FUR_TRY(fur_json_read(error, path, &json));
    fur_status status = fur_tokenizer_set_config(error, &json, tokenizer);
    fur_json_clear(&json);
    return status;
}

static fur_status read_jinja(fur_error *error, const char *path, fur_tokenizer *tokenizer)
{
    char *text;
    int64_t bytes;
    FUR_TRY(fur_file_read(error, path, TEMPLATE_BYTES, &text, &bytes));
    fur_status status = set_template(error, tokenizer, text);
    fur_free(text);
    return status;
}

fur_status fur_tokenizer_read_config(fur_error *error, const char *folder, fur_tokenizer *tokenizer)
{
    static const struct {
        const char *name;
        fur_status (*read)(fur_error *error, const char *path, fur_tokenizer *tokenizer);
    } files[] = {{"tokenizer_config.json", read_json}, {"chat_template.jinja", read_jinja}};
    for (int i = 0; i < 2; i++) {
        char *path = NULL;
        FUR_TRY(fur_path_join(error, folder, files[i].name, &path));
        fur_status status = fur_path_exists(path) ? files[i].read(error, path, tokenizer) : FUR_OK;
        fur_free(path);
        FUR_TRY(status);
    }
    return FUR_OK;
}
