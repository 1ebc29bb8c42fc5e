/* SPDX-License-Identifier: Apache-2.0 */
/* The tokenizer of a folder as the values of a GGUF file. */
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "io/file.h"
#include "text/gguf_splits.h"
#include "text/gguf_vocabulary.h"

enum token_type { NORMAL = 1, UNKNOWN = 2, CONTROL = 3, USER_DEFINED = 4, UNUSED = 5, BYTE = 6 };

#define SPACE "\xe2\x96\x81" /* U+2581, which stands for a space */

typedef struct writing {
    fur_error *error;
    const fur_json *tokenizer, *config;
    int64_t rows;
    const char **texts; /* of each id; NULL: there is none */
    int32_t *types;
    float *scores;
    fur_gguf_builder *to;
    fur_gguf_reason *why;
} writing;

static bool is(const json_t *object, const char *key, const char *value)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text && strcmp(text, value) == 0;
}

static void none(const writing *w, const char *reason)
{
    snprintf(w->why->text, sizeof w->why->text, "%s", reason);
}

/* ---- tokens ------------------------------------------------------------------------------------------------------ */

static fur_status put_token(const writing *w, const char *text, const json_t *id, int32_t type)
{
    int64_t at = json_is_integer(id) ? (int64_t)json_integer_value(id) : -1;
    if (!text || at < 0 || at >= w->rows)
        return fur_error_set(w->error, FUR_E_FORMAT,
                             "%s: token \"%.60s\" has id %lld, expected one of the %lld rows of the embedding",
                             w->tokenizer->name, text ? text : "", (long long)at, (long long)w->rows);
    w->texts[at] = text;
    w->types[at] = type;
    return FUR_OK;
}

static bool is_byte(const char *text)
{
    size_t length = strlen(text);
    return length == 6 && strncmp(text, "<0x", 3) == 0 && text[5] == '>' &&
           strspn(text + 3, "0123456789ABCDEFabcdef") == 2;
}

static fur_status read_tokens(const writing *w, bool pieces)
{
    const char *text, *unknown = json_string_value(fur_json_find(w->tokenizer, "model.unk_token"));
    json_t *id, *vocabulary = fur_json_find(w->tokenizer, "model.vocab");
    json_object_foreach(vocabulary, text, id)
    {
        bool byte = pieces && is_byte(text);
        FUR_TRY(put_token(w, text, id, byte ? BYTE : unknown && strcmp(text, unknown) == 0 ? UNKNOWN : NORMAL));
    }
    size_t index;
    const json_t *added;
    json_array_foreach(fur_json_find(w->tokenizer, "added_tokens"), index, added)
    {
        text = json_string_value(json_object_get(added, "content"));
        bool control = json_is_true(json_object_get(added, "special"));
        bool unk = pieces && unknown && text && strcmp(text, unknown) == 0;
        FUR_TRY(put_token(w, text, json_object_get(added, "id"), unk ? UNKNOWN : control ? CONTROL : USER_DEFINED));
    }
    return FUR_OK;
}

static void put_tokens(const writing *w)
{
    char pad[32];
    fur_gguf_put_array(w->to, "tokenizer.ggml.tokens", FUR_GGUF_TEXT, w->rows, NULL);
    for (int64_t id = 0; id < w->rows; id++) {
        const char *text = w->texts[id];
        if (!text) { /* rows beyond the vocabulary, as the format's tools name them */
            snprintf(pad, sizeof pad, "[PAD%lld]", (long long)id);
            text = pad;
            w->types[id] = UNUSED;
        }
        fur_gguf_put_element(w->to, text, (int64_t)strlen(text));
    }
    fur_gguf_put_array(w->to, "tokenizer.ggml.token_type", FUR_GGUF_I32, w->rows, w->types);
}

/* ---- merges ------------------------------------------------------------------------------------------------------ */

/* The two tokens of a merge, which files have as one text or as two. False: neither. */
static bool split_merge(const json_t *merge, const char **first, size_t *first_bytes, const char **second)
{
    const char *text = json_string_value(merge);
    const char *space = text ? strchr(text + (*text != 0), ' ') : NULL;
    *first = text ? text : json_string_value(json_array_get(merge, 0));
    *second = text ? (space ? space + 1 : NULL) : json_string_value(json_array_get(merge, 1));
    *first_bytes = text ? (size_t)(space ? space - text : 0) : (*first ? strlen(*first) : 0);
    return *first && *second && *first_bytes > 0 && **second;
}

static fur_status bad_merge(const writing *w, size_t index)
{
    return fur_error_set(w->error, FUR_E_FORMAT, "%s: merge %zu is not two tokens", w->tokenizer->name, index);
}

static fur_status put_merges(const writing *w)
{
    const json_t *merge, *merges = fur_json_find(w->tokenizer, "model.merges");
    size_t index;
    fur_gguf_put_array(w->to, "tokenizer.ggml.merges", FUR_GGUF_TEXT, (int64_t)json_array_size(merges), NULL);
    json_array_foreach(merges, index, merge)
    {
        const char *first, *second;
        size_t bytes;
        char *joined;
        if (!split_merge(merge, &first, &bytes, &second) || memchr(first, ' ', bytes) || strchr(second, ' '))
            return bad_merge(w, index);
        joined = fur_format("%.*s %s", (int)bytes, first, second);
        if (!joined)
            return fur_memory_error(w->error, (int64_t)bytes, "a merge");
        fur_gguf_put_element(w->to, joined, (int64_t)strlen(joined));
        fur_free(joined);
    }
    return FUR_OK;
}

/* Readers take the pair first whose token has the largest score: the one whose first merge comes first. */
static fur_status put_scores(const writing *w)
{
    const json_t *merge, *merges = fur_json_find(w->tokenizer, "model.merges"),
                         *vocabulary = fur_json_find(w->tokenizer, "model.vocab");
    size_t index;
    for (int64_t id = 0; id < w->rows; id++)
        w->scores[id] = w->types[id] == NORMAL ? -1e6f : 0;
    json_array_foreach(merges, index, merge)
    {
        const char *first, *second;
        size_t bytes;
        if (!split_merge(merge, &first, &bytes, &second))
            return bad_merge(w, index);
        char *joined = fur_format("%.*s%s", (int)bytes, first, second);
        if (!joined)
            return fur_memory_error(w->error, (int64_t)bytes, "a merge");
        const json_t *id = json_object_get(vocabulary, joined);
        fur_free(joined);
        if (!id)
            return bad_merge(w, index);
        float *score = &w->scores[json_integer_value(id)]; /* in range: read_tokens has seen it */
        if (*score <= -1e6f)
            *score = -(float)index;
    }
    fur_gguf_put_array(w->to, "tokenizer.ggml.scores", FUR_GGUF_F32, w->rows, w->scores);
    return FUR_OK;
}

/* ---- what else a file says --------------------------------------------------------------------------------------- */

/* A token's text, which tokenizer_config.json has as such or within an object. */
static const char *special(const writing *w, const char *key)
{
    const json_t *value = fur_json_find(w->config, key);
    return json_string_value(json_is_object(value) ? json_object_get(value, "content") : value);
}

static void put_specials(const writing *w)
{
    static const struct {
        const char *name, *key;
    } specials[] = {{"bos_token", "tokenizer.ggml.bos_token_id"},
                    {"eos_token", "tokenizer.ggml.eos_token_id"},
                    {"unk_token", "tokenizer.ggml.unknown_token_id"},
                    {"pad_token", "tokenizer.ggml.padding_token_id"}};
    for (size_t i = 0; i < sizeof specials / sizeof specials[0]; i++) {
        const char *text = special(w, specials[i].name);
        for (int64_t id = 0; text && id < w->rows; id++)
            if (w->texts[id] && strcmp(w->texts[id], text) == 0) {
                fur_gguf_put_u32(w->to, specials[i].key, id);
                break;
            }
    }
}

/* Whether a step of the post-processor puts a token before a text. */
static bool begins_with_token(const json_t *step)
{
    const json_t *first = json_array_get(json_object_get(step, "single"), 0), *inner;
    size_t index;
    if (is(step, "type", "TemplateProcessing"))
        return json_object_get(first, "SpecialToken") != NULL;
    json_array_foreach(json_object_get(step, "processors"), index, inner)
    {
        if (is(inner, "type", "TemplateProcessing"))
            return begins_with_token(inner);
    }
    return false;
}

/* The template that is used where none is asked for by name. */
static void put_template(const writing *w)
{
    const json_t *value = fur_json_find(w->config, "chat_template"), *item;
    const char *text = json_string_value(value);
    size_t index;
    json_array_foreach(value, index, item)
    {
        if (is(item, "name", "default"))
            text = json_string_value(json_object_get(item, "template"));
    }
    if (text)
        fur_gguf_put_text(w->to, "tokenizer.chat_template", text);
}

/* ---- the two models ---------------------------------------------------------------------------------------------- */

/* Qwen's normalizer makes composed characters of others; readers of GGUF do not, and names of splits do not say. */
static bool is_plain(const json_t *normalizer, const char *split)
{
    return !normalizer || json_is_null(normalizer) || (strcmp(split, "qwen2") == 0 && is(normalizer, "type", "NFC"));
}

static fur_status byte_level(const writing *w)
{
    const json_t *pre = fur_json_find(w->tokenizer, "pre_tokenizer");
    const fur_gguf_split *split = fur_gguf_split_of(pre);
    bool merges = json_array_size(fur_json_find(w->tokenizer, "model.merges")) > 0;
    if (!split && !merges && is(pre, "type", "ByteLevel"))
        split = fur_gguf_split_find("gpt-2"); /* where nothing merges, no split changes an id */
    if (!split)
        none(w, "the way it splits text has no name in GGUF");
    else if (!is_plain(fur_json_find(w->tokenizer, "normalizer"), split->name))
        none(w, "its normalizer has no name in GGUF");
    if (!split || *w->why->text)
        return FUR_OK;
    fur_gguf_put_text(w->to, "tokenizer.ggml.model", "gpt2");
    fur_gguf_put_text(w->to, "tokenizer.ggml.pre", split->name);
    FUR_TRY(read_tokens(w, false));
    put_tokens(w);
    return put_merges(w);
}

/* Spaces become SPACE; `prefix`: also before a text. */
static bool is_piece_normalizer(const json_t *normalizer, bool *prefix)
{
    const json_t *list = json_object_get(normalizer, "normalizers"), *replace = normalizer;
    *prefix = false;
    if (is(normalizer, "type", "Sequence")) {
        const json_t *first = json_array_get(list, 0);
        *prefix = json_array_size(list) == 2 && is(first, "type", "Prepend") && is(first, "prepend", SPACE);
        if (!*prefix && json_array_size(list) != 1)
            return false;
        replace = json_array_get(list, *prefix);
    }
    return is(replace, "type", "Replace") && is(json_object_get(replace, "pattern"), "String", " ") &&
           is(replace, "content", SPACE);
}

static fur_status sentence_piece(const writing *w)
{
    bool prefix;
    const json_t *pre = fur_json_find(w->tokenizer, "pre_tokenizer");
    if (!is_piece_normalizer(fur_json_find(w->tokenizer, "normalizer"), &prefix) ||
        (pre && !(is(pre, "type", "Split") && is(json_object_get(pre, "pattern"), "String", " ")))) {
        none(w, "its normalizer has no name in GGUF");
        return FUR_OK;
    }
    fur_gguf_put_text(w->to, "tokenizer.ggml.model", "llama");
    fur_gguf_put_text(w->to, "tokenizer.ggml.pre", "default");
    fur_gguf_put_bool(w->to, "tokenizer.ggml.add_space_prefix", prefix);
    FUR_TRY(read_tokens(w, true));
    FUR_TRY(put_scores(w));
    put_tokens(w);
    return FUR_OK;
}

static fur_status put_vocabulary(const writing *w)
{
    const json_t *model = fur_json_find(w->tokenizer, "model"), *decoder = fur_json_find(w->tokenizer, "decoder");
    bool level = is(decoder, "type", "ByteLevel"), pieces = json_is_true(json_object_get(model, "byte_fallback"));
    if (!is(model, "type", "BPE") || !json_is_object(json_object_get(model, "vocab")) || level == pieces) {
        none(w, "it is no BPE of bytes or of SentencePiece's");
        return FUR_OK;
    }
    FUR_TRY(level ? byte_level(w) : sentence_piece(w));
    if (*w->why->text)
        return FUR_OK;
    put_specials(w);
    fur_gguf_put_bool(w->to, "tokenizer.ggml.add_bos_token",
                      begins_with_token(fur_json_find(w->tokenizer, "post_processor")));
    fur_gguf_put_bool(w->to, "tokenizer.ggml.add_eos_token", false);
    put_template(w);
    return FUR_OK;
}

/* tokenizer_config.json may be missing. */
static fur_status read_files(fur_error *error, const char *folder, fur_json *tokenizer, fur_json *config, bool *found)
{
    char *path = NULL, *other = NULL;
    fur_status status = fur_path_join(error, folder, "tokenizer.json", &path);
    if (status == FUR_OK)
        status = fur_path_join(error, folder, "tokenizer_config.json", &other);
    *found = status == FUR_OK && fur_path_exists(path);
    if (*found)
        status = fur_json_read(error, path, tokenizer);
    if (*found && status == FUR_OK && fur_path_exists(other))
        status = fur_json_read(error, other, config);
    fur_free(path);
    fur_free(other);
    return status;
}

fur_status fur_gguf_vocabulary_values(fur_error *error, const char *folder, int64_t rows, fur_gguf_builder *to,
                                      fur_gguf_reason *why)
{
    fur_json tokenizer = {0}, config = {0};
    bool found;
    *why = (fur_gguf_reason){0};
    fur_status status = read_files(error, folder, &tokenizer, &config, &found);
    writing w = {error, &tokenizer, &config, rows, NULL, NULL, NULL, to, why};
    if (status == FUR_OK && !found) {
        none(&w, "the folder has no tokenizer.json");
    } else if (status == FUR_OK) {
        w.texts = fur_calloc((size_t)rows, sizeof *w.texts);
        w.types = fur_calloc((size_t)rows, sizeof *w.types);
        w.scores = fur_calloc((size_t)rows, sizeof *w.scores);
        status = w.texts && w.types && w.scores ? put_vocabulary(&w)
                                                : fur_memory_error(error, rows * (int64_t)sizeof *w.texts, folder);
    }
    if (status == FUR_OK && *why->text)
        fur_gguf_put_text(to, "tokenizer.ggml.model", "no_vocab");
    fur_free((void *)w.texts);
    fur_free(w.types);
    fur_free(w.scores);
    fur_json_clear(&tokenizer);
    fur_json_clear(&config);
    return status;
}

fur_status fur_gguf_vocabulary_copy(fur_error *error, const fur_gguf *file, fur_gguf_builder *to)
{
    for (int64_t i = 0; i < fur_gguf_values(file); i++) {
        const fur_gguf_value *value = fur_gguf_value_at(file, i);
        if (strncmp(value->key, "tokenizer.", 10) == 0)
            FUR_TRY(fur_gguf_put_copy(error, to, file, value));
    }
    return FUR_OK;
}
