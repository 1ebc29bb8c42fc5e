/* SPDX-License-Identifier: Apache-2.0 */
/* The vocabulary of a GGUF file as a tokenizer.json. */
#include "text/gguf_vocabulary.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "text/gguf_splits.h"

#define TOKENS "tokenizer.ggml.tokens"

/* As files number them. */
enum token_type { NORMAL = 1, UNKNOWN = 2, CONTROL = 3, USER_DEFINED = 4, UNUSED = 5, BYTE = 6 };

typedef struct reading {
    fur_error *error;
    const fur_gguf *file;
    const char *path;
    fur_gguf_texts tokens;
    int32_t *types;
    float *scores;
    json_t *vocabulary, *merges, *added;
} reading;

static const char *token(const reading *r, int64_t id)
{
    return r->tokens.bytes + r->tokens.starts[id];
}

static int64_t token_bytes(const reading *r, int64_t id)
{
    return r->tokens.starts[id + 1] - r->tokens.starts[id] - 1;
}

bool fur_gguf_has_vocabulary(const fur_gguf *file)
{
    const fur_gguf_value *tokens = fur_gguf_value_find(file, TOKENS);
    return tokens && tokens->array && tokens->type == FUR_GGUF_TEXT && tokens->count > 0;
}

/* ---- tokens ------------------------------------------------------------------------------------------------------ */

static fur_status read_arrays(reading *r)
{
    FUR_TRY(fur_gguf_texts_read(r->error, r->file, TOKENS, &r->tokens));
    int64_t count = r->tokens.count;
    r->types = fur_calloc((size_t)count, sizeof *r->types);
    r->scores = fur_calloc((size_t)count, sizeof *r->scores);
    if (!r->types || !r->scores)
        return fur_memory_error(r->error, count * (int64_t)(sizeof *r->types + sizeof *r->scores), TOKENS);
    for (int64_t i = 0; i < count; i++)
        r->types[i] = NORMAL;
    if (fur_gguf_value_find(r->file, "tokenizer.ggml.token_type"))
        FUR_TRY(fur_gguf_array_read(r->error, r->file, "tokenizer.ggml.token_type", FUR_GGUF_I32, count, r->types));
    if (fur_gguf_value_find(r->file, "tokenizer.ggml.scores"))
        FUR_TRY(fur_gguf_array_read(r->error, r->file, "tokenizer.ggml.scores", FUR_GGUF_F32, count, r->scores));
    return FUR_OK;
}

static json_t *added_token(int64_t id, json_t *content, bool special)
{
    return json_pack("{s:I, s:o, s:b, s:b, s:b, s:b, s:b}", "id", (json_int_t)id, "content", content, "single_word", 0,
                     "lstrip", 0, "rstrip", 0, "normalized", 0, "special", (int)special);
}

static fur_status put_tokens(reading *r)
{
    for (int64_t id = 0; id < r->tokens.count; id++) {
        json_t *text = json_stringn(token(r, id), (size_t)token_bytes(r, id));
        if (!text && !fur_json_failed())
            return fur_error_set(r->error, FUR_E_FORMAT, "%s: key \"" TOKENS "\": token %lld is not UTF-8", r->path,
                                 (long long)id);
        if (strlen(token(r, id)) != (size_t)token_bytes(r, id)) {
            json_decref(text);
            return fur_error_set(r->error, FUR_E_UNSUPPORTED, "%s: key \"" TOKENS "\": token %lld has a NUL in it",
                                 r->path, (long long)id);
        }
        if (json_object_get(r->vocabulary, token(r, id))) {
            json_decref(text);
            return fur_error_set(r->error, FUR_E_FORMAT,
                                 "%s: key \"" TOKENS "\": token %lld, \"%.60s\", is there twice", r->path,
                                 (long long)id, token(r, id));
        }
        json_object_set_new(r->vocabulary, token(r, id), json_integer((json_int_t)id));
        if (r->types[id] == CONTROL || r->types[id] == UNKNOWN || r->types[id] == USER_DEFINED)
            json_array_append_new(r->added, added_token(id, text, r->types[id] != USER_DEFINED));
        else
            json_decref(text);
    }
    return FUR_OK;
}

/* ---- merges ------------------------------------------------------------------------------------------------------ */

static fur_status read_merges(reading *r)
{
    fur_gguf_texts merges;
    FUR_TRY(fur_gguf_texts_read(r->error, r->file, "tokenizer.ggml.merges", &merges));
    fur_status status = FUR_OK;
    for (int64_t i = 0; status == FUR_OK && i < merges.count; i++) {
        const char *text = merges.bytes + merges.starts[i];
        size_t bytes = (size_t)(merges.starts[i + 1] - merges.starts[i] - 1);
        const char *space = bytes > 1 ? memchr(text + 1, ' ', bytes - 1) : NULL;
        json_t *first = space ? json_stringn(text, (size_t)(space - text)) : NULL;
        json_t *second = space ? json_stringn(space + 1, bytes - (size_t)(space - text) - 1) : NULL;
        if ((!first || !second) && !fur_json_failed())
            status = fur_error_set(r->error, FUR_E_FORMAT,
                                   "%s: key \"tokenizer.ggml.merges\": %lld is not two tokens with a space between",
                                   r->path, (long long)i);
        if (status == FUR_OK)
            json_array_append_new(r->merges, json_pack("[o, o]", first, second));
        else {
            json_decref(first);
            json_decref(second);
        }
    }
    fur_gguf_texts_clear(&merges);
    return status;
}

/* Of SentencePiece's vocabularies a file has scores alone: two tokens merge into a third, of the largest score first.
 * Where two pairs make the same token, the first one comes first. */
typedef struct merge {
    int64_t first, second; /* ids */
    float score;
    int64_t order;
} merge;

static int by_score(const void *a, const void *b)
{
    const merge *x = a, *y = b;
    if (x->score < y->score || x->score > y->score)
        return x->score > y->score ? -1 : 1;
    return x->order < y->order ? -1 : 1;
}

static int64_t id_of(const reading *r, const char *text, size_t bytes, char *scratch)
{
    memcpy(scratch, text, bytes);
    scratch[bytes] = 0;
    const json_t *id = json_object_get(r->vocabulary, scratch);
    return id ? (int64_t)json_integer_value(id) : -1;
}

/* All pairs that make token `id`; with list NULL they are only counted. */
static int64_t pairs_of(const reading *r, int64_t id, char *scratch, merge *list, int64_t order)
{
    const char *text = token(r, id);
    size_t bytes = (size_t)token_bytes(r, id);
    int64_t count = 0;
    for (size_t cut = 1; r->types[id] == NORMAL && cut < bytes; cut++) {
        if (((unsigned char)text[cut] & 0xc0u) == 0x80u) /* within a character */
            continue;
        int64_t first = id_of(r, text, cut, scratch), second = id_of(r, text + cut, bytes - cut, scratch);
        if (first < 0 || second < 0 || r->types[first] != NORMAL || r->types[second] != NORMAL)
            continue;
        if (list)
            list[count] = (merge){first, second, r->scores[id], order + count};
        count++;
    }
    return count;
}

static fur_status make_merges(reading *r)
{
    int64_t longest = 0, count = 0;
    for (int64_t id = 0; id < r->tokens.count; id++)
        longest = token_bytes(r, id) > longest ? token_bytes(r, id) : longest;
    if (longest > 4096) /* every cut of a token is looked up */
        return fur_error_set(r->error, FUR_E_UNSUPPORTED, "%s: key \"" TOKENS "\": a token of %lld bytes", r->path,
                             (long long)longest);
    char scratch[4097];
    for (int64_t id = 0; id < r->tokens.count; id++)
        count += pairs_of(r, id, scratch, NULL, 0);
    merge *list = fur_calloc((size_t)count, sizeof *list);
    if (!list)
        return fur_memory_error(r->error, count * (int64_t)sizeof *list, "merges");
    int64_t at = 0;
    for (int64_t id = 0; id < r->tokens.count; id++)
        at += pairs_of(r, id, scratch, list + at, at);
    if (count > 1)
        qsort(list, (size_t)count, sizeof *list, by_score);
    for (int64_t i = 0; i < count; i++)
        json_array_append_new(r->merges, json_pack("[s, s]", token(r, list[i].first), token(r, list[i].second)));
    fur_free(list);
    return FUR_OK;
}

/* ---- the two models ---------------------------------------------------------------------------------------------- */

/* Token of an id that a key gives; NULL: it gives none. */
static fur_status special(const reading *r, const char *key, const char **out)
{
    int64_t id;
    FUR_TRY(fur_gguf_int_or(r->error, r->file, key, 0, r->tokens.count - 1, -1, &id));
    *out = id < 0 ? NULL : token(r, id);
    return FUR_OK;
}

static json_t *template_of(const char *token, int64_t id)
{
    return json_pack("{s:s, s:[{s:{s:s, s:i}}, {s:{s:s, s:i}}], s:[{s:{s:s, s:i}}, {s:{s:s, s:i}}, {s:{s:s, s:i}}, "
                     "{s:{s:s, s:i}}], s:{s:{s:s, s:[I], s:[s]}}}",
                     "type", "TemplateProcessing", "single", "SpecialToken", "id", token, "type_id", 0, "Sequence",
                     "id", "A", "type_id", 0, "pair", "SpecialToken", "id", token, "type_id", 0, "Sequence", "id", "A",
                     "type_id", 0, "SpecialToken", "id", token, "type_id", 1, "Sequence", "id", "B", "type_id", 1,
                     "special_tokens", token, "id", token, "ids", (json_int_t)id, "tokens", token);
}

/* A text begins with a token where the file says so; models of SentencePiece do unless it says not. */
static fur_status put_begin(const reading *r, bool usual, json_t *to)
{
    bool adds;
    int64_t id;
    FUR_TRY(fur_gguf_bool_or(r->error, r->file, "tokenizer.ggml.add_bos_token", usual, &adds));
    FUR_TRY(fur_gguf_int_or(r->error, r->file, "tokenizer.ggml.bos_token_id", 0, r->tokens.count - 1, -1, &id));
    json_object_set_new(to, "post_processor", adds && id >= 0 ? template_of(token(r, id), id) : json_null());
    return FUR_OK;
}

static json_t *model_json(const reading *r, bool ignores_merges, const char *unknown, bool byte_fallback)
{
    return json_pack("{s:s, s:n, s:s?, s:n, s:n, s:b, s:b, s:b, s:O, s:O}", "type", "BPE", "dropout", "unk_token",
                     unknown, "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk", (int)byte_fallback,
                     "byte_fallback", (int)byte_fallback, "ignore_merges", (int)ignores_merges, "vocab", r->vocabulary,
                     "merges", r->merges);
}

static fur_status byte_level(reading *r, json_t *to)
{
    char *name;
    FUR_TRY(fur_gguf_text(r->error, r->file, "tokenizer.ggml.pre", &name));
    const fur_gguf_split *split = fur_gguf_split_find(name);
    fur_status status = FUR_OK;
    if (!split)
        status =
            fur_error_set(r->error, FUR_E_UNSUPPORTED,
                          "%s: key \"tokenizer.ggml.pre\": %.60s, this version has gpt-2, smollm, llama-bpe and qwen2",
                          r->path, name);
    fur_free(name);
    FUR_TRY(status);
    FUR_TRY(read_merges(r));
    json_object_set_new(to, "normalizer",
                        strcmp(split->name, "qwen2") == 0 ? json_pack("{s:s}", "type", "NFC") : json_null());
    json_object_set_new(to, "pre_tokenizer", fur_gguf_split_json(split));
    json_object_set_new(to, "decoder",
                        json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", 0, "trim_offsets", 1,
                                  "use_regex", 1));
    json_object_set_new(to, "model", model_json(r, split->ignores_merges, NULL, false));
    return put_begin(r, split->ignores_merges, to);
}

#define SPACE "\xe2\x96\x81" /* U+2581, which stands for a space */

static fur_status sentence_piece(reading *r, json_t *to)
{
    bool prefix;
    const char *unknown;
    FUR_TRY(fur_gguf_bool_or(r->error, r->file, "tokenizer.ggml.add_space_prefix", true, &prefix));
    FUR_TRY(special(r, "tokenizer.ggml.unknown_token_id", &unknown));
    FUR_TRY(make_merges(r));
    json_t *replace = json_pack("{s:s, s:{s:s}, s:s}", "type", "Replace", "pattern", "String", " ", "content", SPACE);
    json_t *prepend = prefix ? json_pack("{s:s, s:s}", "type", "Prepend", "prepend", SPACE) : NULL;
    json_object_set_new(to, "normalizer",
                        prefix ? json_pack("{s:s, s:[o, o]}", "type", "Sequence", "normalizers", prepend, replace)
                               : replace);
    json_object_set_new(to, "pre_tokenizer", json_null());
    json_t *steps = json_pack("[{s:s, s:{s:s}, s:s}, {s:s}, {s:s}]", "type", "Replace", "pattern", "String", SPACE,
                              "content", " ", "type", "ByteFallback", "type", "Fuse");
    if (prefix)
        json_array_append_new(
            steps, json_pack("{s:s, s:s, s:i, s:i}", "type", "Strip", "content", " ", "start", 1, "stop", 0));
    json_object_set_new(to, "decoder", json_pack("{s:s, s:o}", "type", "Sequence", "decoders", steps));
    json_object_set_new(to, "model", model_json(r, false, unknown ? unknown : "<unk>", true));
    return put_begin(r, true, to);
}

static fur_status tokenizer_json(reading *r, json_t *to)
{
    char *model;
    FUR_TRY(fur_gguf_text(r->error, r->file, "tokenizer.ggml.model", &model));
    bool level = strcmp(model, "gpt2") == 0, piece = strcmp(model, "llama") == 0;
    fur_status status = FUR_OK;
    if (!level && !piece)
        status =
            fur_error_set(r->error, FUR_E_UNSUPPORTED,
                          "%s: key \"tokenizer.ggml.model\": %.60s, this version has gpt2 and llama", r->path, model);
    fur_free(model);
    FUR_TRY(status);
    FUR_TRY(read_arrays(r));
    FUR_TRY(put_tokens(r));
    json_object_set_new(to, "version", json_string("1.0"));
    json_object_set_new(to, "truncation", json_null());
    json_object_set_new(to, "padding", json_null());
    json_object_set(to, "added_tokens", r->added);
    return level ? byte_level(r, to) : sentence_piece(r, to);
}

static fur_status config_json(const reading *r, json_t *to)
{
    static const struct {
        const char *key, *name;
    } specials[] = {{"tokenizer.ggml.bos_token_id", "bos_token"},
                    {"tokenizer.ggml.eos_token_id", "eos_token"},
                    {"tokenizer.ggml.unknown_token_id", "unk_token"},
                    {"tokenizer.ggml.padding_token_id", "pad_token"}};
    int64_t context;
    char *architecture, *template, key[96];
    json_object_set_new(to, "tokenizer_class", json_string("PreTrainedTokenizerFast"));
    json_object_set_new(to, "clean_up_tokenization_spaces", json_false());
    for (size_t i = 0; i < sizeof specials / sizeof specials[0]; i++) {
        const char *text;
        FUR_TRY(special(r, specials[i].key, &text));
        if (text)
            json_object_set_new(to, specials[i].name, json_string(text));
    }
    FUR_TRY(fur_gguf_text(r->error, r->file, "general.architecture", &architecture));
    snprintf(key, sizeof key, "%.60s.context_length", architecture);
    fur_free(architecture);
    FUR_TRY(fur_gguf_int_or(r->error, r->file, key, 1, (int64_t)1 << 40, 0, &context));
    if (context > 0)
        json_object_set_new(to, "model_max_length", json_integer((json_int_t)context));
    FUR_TRY(fur_gguf_text_or_null(r->error, r->file, "tokenizer.chat_template", &template));
    json_t *text = template ? json_string(template) : NULL;
    bool bad = template && !text && !fur_json_failed();
    fur_free(template);
    if (bad)
        return fur_error_set(r->error, FUR_E_FORMAT, "%s: key \"tokenizer.chat_template\": it is not UTF-8", r->path);
    if (text)
        json_object_set_new(to, "chat_template", text);
    return FUR_OK;
}

fur_status fur_gguf_vocabulary_json(fur_error *error, const fur_gguf *file, json_t **tokenizer, json_t **config)
{
    fur_json_setup();
    reading r = {.error = error,
                 .file = file,
                 .path = fur_gguf_input(file)->path,
                 .vocabulary = json_object(),
                 .merges = json_array(),
                 .added = json_array()};
    json_t *one = json_object(), *other = json_object();
    fur_status status = tokenizer_json(&r, one);
    if (status == FUR_OK)
        status = config_json(&r, other);
    if (status == FUR_OK && fur_json_failed())
        status = fur_memory_error(error, r.tokens.count * 200, "a vocabulary");
    fur_gguf_texts_clear(&r.tokens);
    fur_free(r.types);
    fur_free(r.scores);
    json_decref(r.vocabulary);
    json_decref(r.merges);
    json_decref(r.added);
    if (status != FUR_OK) {
        json_decref(one);
        json_decref(other);
        return status;
    }
    *tokenizer = one;
    *config = other;
    return FUR_OK;
}

fur_status fur_gguf_vocabulary_open(fur_error *error, const char *path, fur_json *tokenizer, fur_json *config)
{
    fur_gguf *file;
    FUR_TRY(fur_gguf_open(error, path, &file));
    fur_status status = FUR_OK;
    if (!fur_gguf_has_vocabulary(file))
        status =
            fur_error_set(error, FUR_E_UNSUPPORTED, "%s: it has no vocabulary, expected a tokenizer by its name", path);
    if (status == FUR_OK)
        status = fur_gguf_vocabulary_json(error, file, &tokenizer->root, &config->root);
    fur_gguf_close(file);
    FUR_TRY(status);
    tokenizer->name = fur_strdup(path);
    config->name = fur_strdup(path);
    return tokenizer->name && config->name ? FUR_OK : fur_memory_error(error, (int64_t)strlen(path), "a path");
}
