/* SPDX-License-Identifier: Apache-2.0 */
/* "model" and "added_tokens" of tokenizer.json. */
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/size.h"
#include "io/file.h"
#include "text/pipeline_parts.h"
#include "text/tokenizer_json.h"

/* ---- tokens --------------------------------------------------------------------------------------------------- */

static fur_status check_count(fur_error *error, const fur_json *model, int64_t count)
{
    if (count < 1 || count > FUR_VOCABULARY_MOST)
        return fur_error_set(error, FUR_E_FORMAT, "%s: \"vocab\" has %lld tokens, expected 1 to %d", model->name,
                             (long long)count, FUR_VOCABULARY_MOST);
    return FUR_OK;
}

static fur_status read_token_map(fur_error *error, const fur_json *model, fur_vocabulary *written)
{
    json_t *map = fur_json_find(model, "vocab"), *value;
    const char *token;
    int64_t highest = -1;
    if (!json_is_object(map))
        return fur_error_set(error, FUR_E_FORMAT, "%s: \"vocab\" is %s, expected an object", model->name,
                             map ? "something else" : "missing");
    FUR_TRY(check_count(error, model, (int64_t)json_object_size(map)));
    json_object_foreach(map, token, value)
    {
        int64_t id = json_is_integer(value) ? (int64_t)json_integer_value(value) : -1;
        if (id < 0 || id >= FUR_VOCABULARY_MOST)
            return fur_error_set(error, FUR_E_FORMAT, "%s: token \"%.60s\" has no id from 0 to %d", model->name, token,
                                 FUR_VOCABULARY_MOST - 1);
        highest = fur_max_i64(highest, id);
    }
    FUR_TRY(fur_vocabulary_init(error, written, highest + 1));
    json_object_foreach(map, token, value)
    {
        int32_t id = (int32_t)json_integer_value(value);
        if (written->first[id] >= 0)
            return fur_error_set(error, FUR_E_FORMAT, "%s: token \"%.60s\" has id %d, as another token has",
                                 model->name, token, id);
        FUR_TRY(fur_vocabulary_set(error, written, id, token, (int64_t)strlen(token), true));
    }
    return FUR_OK;
}

static fur_status read_token_list(fur_error *error, const fur_json *model, fur_vocabulary *written, double *score)
{
    json_t *list = fur_json_find(model, "vocab"), *entry;
    size_t i;
    json_array_foreach(list, i, entry)
    {
        json_t *token = json_array_get(entry, 0), *value = json_array_get(entry, 1);
        if (json_array_size(entry) != 2 || !json_is_string(token) || !json_is_number(value))
            return fur_error_set(error, FUR_E_FORMAT, "%s: \"vocab\" entry %zu is no pair of a string and a number",
                                 model->name, i);
        const char *text = json_string_value(token);
        int64_t bytes = (int64_t)json_string_length(token);
        if (fur_vocabulary_find(written, text, bytes) >= 0)
            return fur_error_set(error, FUR_E_FORMAT, "%s: \"vocab\" entry %zu, \"%.60s\", is there before",
                                 model->name, i, text);
        FUR_TRY(fur_vocabulary_set(error, written, (int32_t)i, text, bytes, true));
        score[i] = json_number_value(value);
    }
    return FUR_OK;
}

/* The id of the token named at `key`, -1 where it is null. */
static fur_status token_at(fur_error *error, const fur_json *model, const char *key, const fur_vocabulary *written,
                           int32_t *id)
{
    json_t *value = fur_json_find(model, key);
    *id = -1;
    if (!value)
        return FUR_OK;
    if (!json_is_string(value))
        return fur_error_set(error, FUR_E_FORMAT, "%s: \"%s\" is no string", model->name, key);
    *id = fur_vocabulary_find(written, json_string_value(value), (int64_t)json_string_length(value));
    if (*id < 0)
        return fur_error_set(error, FUR_E_FORMAT, "%s: \"%s\" is \"%.60s\", which is no token of the vocabulary",
                             model->name, key, json_string_value(value));
    return FUR_OK;
}

/* ---- BPE ------------------------------------------------------------------------------------------------------ */

static fur_status read_merge(fur_error *error, const fur_json *model, fur_pipeline *pipeline,
                             const fur_vocabulary *written, json_t *entry, size_t index, uint32_t rank)
{
    fur_json_part part;
    fur_json_part_make(model, "merges", (int64_t)index, entry, &part);
    const char *where = part.name;
    if (json_is_string(entry)) {
        const char *text = json_string_value(entry);
        int64_t bytes = (int64_t)json_string_length(entry);
        const char *space = memchr(text, ' ', (size_t)bytes);
        int64_t left = space ? space - text : 0, right = bytes - left - 1;
        if (!space || memchr(space + 1, ' ', (size_t)right))
            return fur_error_set(error, FUR_E_FORMAT, "%s: \"%.60s\", expected two tokens with a space between", where,
                                 text);
        return fur_pipeline_add_merge(error, pipeline, written, where, text, left, space + 1, right, rank);
    }
    json_t *left = json_array_get(entry, 0), *right = json_array_get(entry, 1);
    if (json_array_size(entry) != 2 || !json_is_string(left) || !json_is_string(right))
        return fur_error_set(error, FUR_E_FORMAT, "%s: expected two tokens, as one string or as an array", where);
    return fur_pipeline_add_merge(error, pipeline, written, where, json_string_value(left),
                                  (int64_t)json_string_length(left), json_string_value(right),
                                  (int64_t)json_string_length(right), rank);
}

static fur_status read_merges(fur_error *error, const fur_json *model, fur_pipeline *pipeline,
                              const fur_vocabulary *written)
{
    json_t *list = fur_json_find(model, "merges"), *entry;
    size_t i;
    uint32_t rank = 0;
    if (!json_is_array(list))
        return fur_error_set(error, FUR_E_FORMAT, "%s: \"merges\" is %s, expected an array", model->name,
                             list ? "something else" : "missing");
    FUR_TRY(fur_bpe_init(error, &pipeline->bpe, (int64_t)json_array_size(list)));
    json_array_foreach(list, i, entry)
    {
        if (json_is_string(entry) && strncmp(json_string_value(entry), "#version", 8) == 0)
            continue; /* a line of the older merges.txt */
        FUR_TRY(read_merge(error, model, pipeline, written, entry, i, rank++));
    }
    pipeline->merge_count = rank;
    return FUR_OK;
}

static fur_status refuse_affixes(fur_error *error, const fur_json *model)
{
    static const char *const keys[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    for (int i = 0; i < 2; i++) {
        const char *text;
        FUR_TRY(fur_json_string_or(error, model, keys[i], "", &text));
        if (text[0])
            return fur_error_set(error, FUR_E_UNSUPPORTED, "%s: \"%s\" is \"%.40s\", which is not read here",
                                 model->name, keys[i], text);
    }
    double dropout;
    FUR_TRY(fur_json_number_or(error, model, "dropout", 0, 1, 0, &dropout));
    if (dropout > 0)
        return fur_error_set(error, FUR_E_UNSUPPORTED, "%s: \"dropout\" is %g: tokens by chance are not made here",
                             model->name, dropout);
    return FUR_OK;
}

static fur_status read_bpe(fur_error *error, const fur_json *model, fur_pipeline *pipeline, fur_vocabulary *written)
{
    fur_bpe *bpe = &pipeline->bpe;
    pipeline->model = FUR_MODEL_BPE;
    bpe->by_bytes = pipeline->byte_level;
    FUR_TRY(refuse_affixes(error, model));
    FUR_TRY(fur_json_bool_or(error, model, "fuse_unk", false, &bpe->fuse_unknown));
    FUR_TRY(fur_json_bool_or(error, model, "byte_fallback", false, &bpe->byte_fallback));
    FUR_TRY(fur_json_bool_or(error, model, "ignore_merges", false, &bpe->whole_words));
    FUR_TRY(read_token_map(error, model, written));
    FUR_TRY(token_at(error, model, "unk_token", written, &bpe->unknown));
    return read_merges(error, model, pipeline, written);
}

/* A byte that is no token would fall back to the bytes of the character it is written as. */
static fur_status check_bytes(fur_error *error, const fur_json *model, const fur_pipeline *pipeline)
{
    for (int b = 0; pipeline->byte_level && pipeline->bpe.byte_fallback && b < 256; b++)
        if (pipeline->bpe.byte_ids[b] < 0)
            return fur_error_set(error, FUR_E_UNSUPPORTED,
                                 "%s: \"byte_fallback\" beside ByteLevel, and byte 0x%02x is no token", model->name,
                                 (unsigned)b);
    return FUR_OK;
}

/* ---- Unigram -------------------------------------------------------------------------------------------------- */

static fur_status read_unigram(fur_error *error, const fur_json *model, fur_pipeline *pipeline, fur_vocabulary *written)
{
    fur_unigram *unigram = &pipeline->unigram;
    json_t *list = fur_json_find(model, "vocab");
    int64_t count = (int64_t)json_array_size(list), unknown;
    pipeline->model = FUR_MODEL_UNIGRAM;
    if (pipeline->byte_level)
        return fur_error_set(error, FUR_E_UNSUPPORTED, "%s: Unigram behind ByteLevel is not read here", model->name);
    FUR_TRY(check_count(error, model, count));
    FUR_TRY(fur_json_bool_or(error, model, "byte_fallback", false, &unigram->byte_fallback));
    FUR_TRY(fur_json_int_or(error, model, "unk_id", 0, count - 1, -1, &unknown));
    unigram->unknown = (int32_t)unknown;
    unigram->score = fur_calloc((size_t)count, sizeof *unigram->score);
    if (!unigram->score)
        return fur_memory_error(error, count * (int64_t)sizeof *unigram->score, "scores");
    FUR_TRY(fur_vocabulary_init(error, written, count));
    return read_token_list(error, model, written, unigram->score);
}

/* ---- added tokens --------------------------------------------------------------------------------------------- */

typedef struct added_reader {
    fur_error *error;
    fur_pipeline *pipeline;
    const fur_vocabulary *written;
    int64_t tokens;  /* of the model */
    int64_t highest; /* id so far, -1: none */
} added_reader;

/* The id that Hugging Face tokenizers gives, whatever the file says: that of the vocabulary, else the next free one. */
static int64_t expected_id(const added_reader *r, const fur_added_token *token)
{
    int32_t id = fur_vocabulary_find(r->written, token->content, token->bytes);
    if (id >= 0)
        return id;
    return r->highest >= r->tokens ? r->highest + 1 : r->tokens;
}

static fur_status read_added(const added_reader *r, const fur_json *entry, fur_added_token *token)
{
    json_t *content = fur_json_find(entry, "content");
    int64_t id;
    *token = (fur_added_token){0};
    if (!json_is_string(content) || json_string_length(content) == 0)
        return fur_error_set(r->error, FUR_E_FORMAT, "%s: \"content\" is %s, expected a string of a byte or more",
                             entry->name, json_is_string(content) ? "empty" : "no string");
    token->content = (char *)json_string_value(content);
    token->bytes = (int64_t)json_string_length(content);
    FUR_TRY(fur_json_int(r->error, entry, "id", 0, FUR_VOCABULARY_MOST - 1, &id));
    FUR_TRY(fur_json_bool_or(r->error, entry, "single_word", false, &token->single_word));
    FUR_TRY(fur_json_bool_or(r->error, entry, "lstrip", false, &token->takes_left));
    FUR_TRY(fur_json_bool_or(r->error, entry, "rstrip", false, &token->takes_right));
    FUR_TRY(fur_json_bool_or(r->error, entry, "special", false, &token->special));
    FUR_TRY(fur_json_bool_or(r->error, entry, "normalized", !token->special, &token->normalized));
    token->id = (int32_t)id;
    if (fur_added_find(&r->pipeline->added, token->content, token->bytes))
        return fur_error_set(r->error, FUR_E_FORMAT, "%s: \"%.60s\" is there before", entry->name, token->content);
    int64_t expected = expected_id(r, token);
    if (id != expected)
        return fur_error_set(r->error, FUR_E_FORMAT, "%s: \"%.60s\" has id %lld, the tokens before make it %lld",
                             entry->name, token->content, (long long)id, (long long)expected);
    return FUR_OK;
}

static fur_status read_all_added(fur_error *error, const fur_json *json, fur_pipeline *pipeline,
                                 const fur_vocabulary *written)
{
    json_t *list = fur_json_find(json, "added_tokens"), *value;
    size_t i;
    added_reader r = {.error = error, .pipeline = pipeline, .written = written, .highest = -1};
    for (int64_t id = 0; id < written->count; id++)
        r.tokens += written->first[id] >= 0;
    if (list && !json_is_array(list))
        return fur_error_set(error, FUR_E_FORMAT, "%s: \"added_tokens\" is no array", json->name);
    FUR_TRY(fur_added_init(error, &pipeline->added, (int64_t)json_array_size(list)));
    json_array_foreach(list, i, value)
    {
        fur_json_part part;
        fur_added_token token;
        fur_json_part_make(json, "added_tokens", (int64_t)i, value, &part);
        FUR_TRY(read_added(&r, &part.json, &token));
        FUR_TRY(fur_added_add(error, &pipeline->added, &token));
        r.highest = fur_max_i64(r.highest, token.id);
    }
    return FUR_OK;
}

/* ---- together ------------------------------------------------------------------------------------------------- */

static fur_status read_model(fur_error *error, const fur_json *model, fur_pipeline *pipeline, fur_vocabulary *written)
{
    const char *type;
    bool merges = fur_json_find(model, "merges") != NULL; /* older files do not say what their model is */
    FUR_TRY(fur_json_string_or(error, model, "type", merges ? "BPE" : "", &type));
    if (strcmp(type, "BPE") == 0)
        return read_bpe(error, model, pipeline, written);
    if (strcmp(type, "Unigram") == 0)
        return read_unigram(error, model, pipeline, written);
    return fur_error_set(error, FUR_E_UNSUPPORTED, "%s: type \"%.40s\", expected BPE or Unigram", model->name, type);
}

fur_status fur_tokenizer_json_model(fur_error *error, const fur_json *json, fur_pipeline *pipeline)
{
    fur_json_part model;
    fur_vocabulary written = {0};
    fur_json_part_make(json, "model", -1, fur_json_find(json, "model"), &model);
    if (!json_is_object(model.json.root))
        return fur_error_set(error, FUR_E_FORMAT, "%s: expected an object", model.name);
    fur_status status = read_model(error, &model.json, pipeline, &written);
    if (status == FUR_OK)
        status = read_all_added(error, json, pipeline, &written);
    if (status == FUR_OK)
        status = fur_pipeline_take_tokens(error, pipeline, &written);
    if (status == FUR_OK)
        status = check_bytes(error, &model.json, pipeline);
    fur_vocabulary_clear(&written);
    return status;
}
