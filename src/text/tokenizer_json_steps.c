/* SPDX-License-Identifier: Apache-2.0 */
/* "normalizer", "pre_tokenizer", "post_processor" and "decoder" of tokenizer.json. */
#include <string.h>

#include "io/file.h"
#include "text/pipeline_parts.h"
#include "text/tokenizer_json.h"
#include "text/utf8.h"

typedef struct reader {
    fur_error *error;
    fur_pipeline *pipeline;
} reader;

typedef fur_status (*read_step)(const reader *r, const fur_json *step);
typedef struct step_kind {
    const char *type;
    read_step read;
} step_kind;

/* Reads a step, or each of a Sequence, whose list is at `list`. */
static fur_status read_steps(const reader *r, const fur_json *step, const char *list, const step_kind *kinds)
{
    const char *type;
    if (!json_is_object(step->root))
        return fur_error_set(r->error, FUR_E_FORMAT, "%s: expected an object with a \"type\"", step->name);
    FUR_TRY(fur_json_string(r->error, step, "type", &type));
    for (const step_kind *kind = kinds; kind->type; kind++)
        if (strcmp(type, kind->type) == 0)
            return kind->read(r, step);
    if (strcmp(type, "Sequence") != 0)
        return fur_error_set(r->error, FUR_E_UNSUPPORTED, "%s: type \"%.40s\" is not read here", step->name, type);
    json_t *steps = fur_json_find(step, list), *value;
    size_t i;
    if (!json_is_array(steps))
        return fur_error_set(r->error, FUR_E_FORMAT, "%s: \"%s\" is no array", step->name, list);
    json_array_foreach(steps, i, value)
    {
        fur_json_part part;
        fur_json_part_make(step, list, (int64_t)i, value, &part);
        FUR_TRY(read_steps(r, &part.json, list, kinds));
    }
    return FUR_OK;
}

/* A pattern: {"String": ...} or {"Regex": ...}. */
static fur_status read_pattern(const reader *r, const fur_json *step, json_t **text, bool *literal)
{
    json_t *string = fur_json_find(step, "pattern.String"), *regex = fur_json_find(step, "pattern.Regex");
    *literal = string != NULL;
    *text = string ? string : regex;
    if (!json_is_string(*text) || (string && regex))
        return fur_error_set(r->error, FUR_E_FORMAT, "%s: \"pattern\" is no {\"String\": ...} or {\"Regex\": ...}",
                             step->name);
    return FUR_OK;
}

static fur_status compile_pattern(const reader *r, const fur_json *step, bool *literal, fur_regex **out)
{
    json_t *text;
    FUR_TRY(read_pattern(r, step, &text, literal));
    return fur_regex_compile(r->error, step->name, json_string_value(text), (int64_t)json_string_length(text), *literal,
                             out);
}

/* ---- normalizers ---------------------------------------------------------------------------------------------- */

static fur_status read_form(const reader *r, const fur_json *step)
{
    static const char *const names[] = {"NFC", "NFD", "NFKC", "NFKD"};
    const char *type;
    fur_normal_step form = {.kind = FUR_NORMAL_FORM};
    FUR_TRY(fur_json_string(r->error, step, "type", &type));
    for (int i = 0; i < 4; i++)
        if (strcmp(type, names[i]) == 0)
            form.form = (fur_normal_form)i;
    return fur_normalizer_add(r->error, &r->pipeline->normalizer, form);
}

static fur_status read_lowercase(const reader *r, const fur_json *step)
{
    (void)step;
    return fur_normalizer_add(r->error, &r->pipeline->normalizer, (fur_normal_step){.kind = FUR_NORMAL_LOWERCASE});
}

static fur_status read_content(const reader *r, const fur_json *step, const char *key, fur_string *out)
{
    const char *text;
    FUR_TRY(fur_json_string(r->error, step, key, &text));
    return fur_string_add(r->error, out, text, (int64_t)strlen(text));
}

static fur_status read_replace(const reader *r, const fur_json *step)
{
    fur_normal_step replace = {.kind = FUR_NORMAL_REPLACE};
    bool literal;
    FUR_TRY(compile_pattern(r, step, &literal, &replace.pattern));
    fur_status status = read_content(r, step, "content", &replace.content);
    if (status != FUR_OK) {
        fur_regex_destroy(replace.pattern);
        return status;
    }
    return fur_normalizer_add(r->error, &r->pipeline->normalizer, replace);
}

static fur_status read_prepend(const reader *r, const fur_json *step)
{
    fur_normal_step prepend = {.kind = FUR_NORMAL_PREPEND};
    FUR_TRY(read_content(r, step, "prepend", &prepend.content));
    return fur_normalizer_add(r->error, &r->pipeline->normalizer, prepend);
}

static fur_status read_strip(const reader *r, const fur_json *step)
{
    fur_normal_step strip = {.kind = FUR_NORMAL_STRIP};
    FUR_TRY(fur_json_bool(r->error, step, "strip_left", &strip.left));
    FUR_TRY(fur_json_bool(r->error, step, "strip_right", &strip.right));
    return fur_normalizer_add(r->error, &r->pipeline->normalizer, strip);
}

static const step_kind normalizers[] = {{"NFC", read_form},
                                        {"NFD", read_form},
                                        {"NFKC", read_form},
                                        {"NFKD", read_form},
                                        {"Lowercase", read_lowercase},
                                        {"Replace", read_replace},
                                        {"Prepend", read_prepend},
                                        {"Strip", read_strip},
                                        {NULL, NULL}};

/* ---- pre-tokenizers ------------------------------------------------------------------------------------------- */

static fur_status add_stage(const reader *r, const fur_json *step, fur_stage stage)
{
    if (!r->pipeline->byte_level)
        return fur_splitter_add(r->error, &r->pipeline->splitter, stage);
    fur_regex_destroy(stage.pattern);
    return fur_error_set(r->error, FUR_E_UNSUPPORTED, "%s: comes after ByteLevel, which is to be the last", step->name);
}

static fur_status read_behavior(const reader *r, const fur_json *step, const char *fallback, fur_split_behavior *out)
{
    static const char *const names[] = {"Isolated", "Removed", "Contiguous", "MergedWithPrevious", "MergedWithNext"};
    const char *name;
    FUR_TRY(fur_json_string_or(r->error, step, "behavior", fallback, &name));
    for (int i = 0; i < 5; i++) {
        if (strcmp(name, names[i]) == 0) {
            *out = (fur_split_behavior)i;
            return FUR_OK;
        }
    }
    return fur_error_set(r->error, FUR_E_UNSUPPORTED, "%s: behavior \"%.40s\" is not read here", step->name, name);
}

static fur_status read_split(const reader *r, const fur_json *step)
{
    fur_stage stage = {.kind = FUR_STAGE_PATTERN};
    bool literal;
    FUR_TRY(read_behavior(r, step, "", &stage.behavior));
    FUR_TRY(fur_json_bool_or(r->error, step, "invert", false, &stage.invert));
    FUR_TRY(compile_pattern(r, step, &literal, &stage.pattern));
    return add_stage(r, step, stage);
}

static fur_status read_byte_level(const reader *r, const fur_json *step)
{
    bool prefix, words;
    FUR_TRY(fur_json_bool(r->error, step, "add_prefix_space", &prefix));
    FUR_TRY(fur_json_bool_or(r->error, step, "use_regex", true, &words));
    if (prefix)
        FUR_TRY(add_stage(r, step, (fur_stage){.kind = FUR_STAGE_PREFIX, .content = " "}));
    if (words && !r->pipeline->byte_level)
        FUR_TRY(fur_pipeline_add_pattern(r->error, r->pipeline, step->name, FUR_GPT2_WORDS,
                                         (int64_t)strlen(FUR_GPT2_WORDS), false, FUR_SPLIT_ISOLATED, false));
    if (r->pipeline->byte_level)
        return fur_error_set(r->error, FUR_E_UNSUPPORTED, "%s: a second ByteLevel", step->name);
    r->pipeline->byte_level = true;
    return FUR_OK;
}

/* One character, and when to put it in front. */
static fur_status read_metaspace_parts(const reader *r, const fur_json *step, char content[5],
                                       fur_prepend_scheme *scheme)
{
    static const char *const names[] = {"always", "first", "never"};
    const char *text, *name;
    bool prefix;
    FUR_TRY(fur_json_string_or(r->error, step, "replacement", "\xe2\x96\x81", &text));
    FUR_TRY(fur_json_bool_or(r->error, step, "add_prefix_space", true, &prefix));
    FUR_TRY(fur_json_string_or(r->error, step, "prepend_scheme", prefix ? "always" : "never", &name));
    if (!text[0] || fur_utf8_length(text) != (int64_t)strlen(text))
        return fur_error_set(r->error, FUR_E_FORMAT, "%s: \"replacement\" is \"%.40s\", expected one character",
                             step->name, text);
    memcpy(content, text, strlen(text) + 1);
    for (int i = 0; i < 3; i++) {
        if (strcmp(name, names[i]) == 0 && (prefix || i == 2)) {
            *scheme = (fur_prepend_scheme)i;
            return FUR_OK;
        }
    }
    return fur_error_set(r->error, FUR_E_FORMAT, "%s: prepend_scheme \"%.40s\", expected always, first or never%s",
                         step->name, name, prefix ? "" : ", and never as add_prefix_space is false");
}

static fur_status read_metaspace(const reader *r, const fur_json *step)
{
    fur_stage stage = {.kind = FUR_STAGE_METASPACE};
    bool split;
    FUR_TRY(read_metaspace_parts(r, step, stage.content, &stage.scheme));
    FUR_TRY(fur_json_bool_or(r->error, step, "split", true, &split));
    FUR_TRY(add_stage(r, step, stage));
    if (!split)
        return FUR_OK;
    return fur_pipeline_add_pattern(r->error, r->pipeline, step->name, stage.content, (int64_t)strlen(stage.content),
                                    true, FUR_SPLIT_MERGED_WITH_NEXT, false);
}

static fur_status read_digits(const reader *r, const fur_json *step)
{
    bool single;
    FUR_TRY(fur_json_bool_or(r->error, step, "individual_digits", false, &single));
    return add_stage(r, step,
                     (fur_stage){.kind = FUR_STAGE_CLASS,
                                 .is_member = fur_utf8_is_number,
                                 .behavior = single ? FUR_SPLIT_ISOLATED : FUR_SPLIT_CONTIGUOUS});
}

static fur_status read_punctuation(const reader *r, const fur_json *step)
{
    fur_stage stage = {.kind = FUR_STAGE_CLASS, .is_member = fur_utf8_is_punctuation};
    FUR_TRY(read_behavior(r, step, "Isolated", &stage.behavior));
    return add_stage(r, step, stage);
}

static fur_status read_spaces(const reader *r, const fur_json *step)
{
    return add_stage(
        r, step, (fur_stage){.kind = FUR_STAGE_CLASS, .is_member = fur_utf8_is_space, .behavior = FUR_SPLIT_REMOVED});
}

static fur_status read_words(const reader *r, const fur_json *step)
{
    return add_stage(r, step, (fur_stage){.kind = FUR_STAGE_WORDS});
}

static const step_kind pre_tokenizers[] = {{"Split", read_split},
                                           {"ByteLevel", read_byte_level},
                                           {"Metaspace", read_metaspace},
                                           {"Digits", read_digits},
                                           {"Punctuation", read_punctuation},
                                           {"WhitespaceSplit", read_spaces},
                                           {"Whitespace", read_words},
                                           {NULL, NULL}};

/* ---- decoders ------------------------------------------------------------------------------------------------- */

static fur_status decode_byte_level(const reader *r, const fur_json *step)
{
    return fur_pipeline_add_decoding(r->error, r->pipeline, step->name, FUR_DECODE_BYTE_LEVEL, NULL, NULL);
}

static fur_status decode_replace(const reader *r, const fur_json *step)
{
    json_t *text;
    bool literal;
    const char *content;
    FUR_TRY(read_pattern(r, step, &text, &literal));
    FUR_TRY(fur_json_string(r->error, step, "content", &content));
    if (!literal || strlen(json_string_value(text)) != json_string_length(text))
        return fur_error_set(r->error, FUR_E_UNSUPPORTED, "%s: a Regex in a decoder is not read here", step->name);
    return fur_pipeline_add_decoding(r->error, r->pipeline, step->name, FUR_DECODE_REPLACE, json_string_value(text),
                                     content);
}

static fur_status decode_bytes(const reader *r, const fur_json *step)
{
    return fur_pipeline_add_decoding(r->error, r->pipeline, step->name, FUR_DECODE_BYTE_FALLBACK, NULL, NULL);
}

static fur_status decode_fuse(const reader *r, const fur_json *step)
{
    return fur_pipeline_add_decoding(r->error, r->pipeline, step->name, FUR_DECODE_FUSE, NULL, NULL);
}

static fur_status decode_strip(const reader *r, const fur_json *step)
{
    fur_decode_step strip = {.kind = FUR_DECODE_STRIP};
    FUR_TRY(fur_json_int(r->error, step, "start", 0, INT32_MAX, &strip.left));
    FUR_TRY(fur_json_int(r->error, step, "stop", 0, INT32_MAX, &strip.right));
    FUR_TRY(read_content(r, step, "content", &strip.content));
    if (strip.content.length == 0 || fur_utf8_length(strip.content.data) != strip.content.length) {
        fur_string_clear(&strip.content);
        return fur_error_set(r->error, FUR_E_FORMAT, "%s: \"content\" is not one character", step->name);
    }
    return fur_decoder_add(r->error, &r->pipeline->decoder, step->name, strip);
}

static fur_status decode_metaspace(const reader *r, const fur_json *step)
{
    char content[5];
    fur_decode_step metaspace = {.kind = FUR_DECODE_METASPACE};
    FUR_TRY(read_metaspace_parts(r, step, content, &metaspace.scheme));
    FUR_TRY(fur_string_add(r->error, &metaspace.content, content, (int64_t)strlen(content)));
    return fur_decoder_add(r->error, &r->pipeline->decoder, step->name, metaspace);
}

static const step_kind decoders[] = {{"ByteLevel", decode_byte_level},
                                     {"Replace", decode_replace},
                                     {"ByteFallback", decode_bytes},
                                     {"Fuse", decode_fuse},
                                     {"Strip", decode_strip},
                                     {"Metaspace", decode_metaspace},
                                     {NULL, NULL}};

/* ---- post-processors ------------------------------------------------------------------------------------------ */

static fur_status add_template_token(const reader *r, const fur_json *step, const char *token, fur_ids *out)
{
    json_t *ids = json_object_get(json_object_get(fur_json_find(step, "special_tokens"), token), "ids"), *value;
    size_t i;
    if (json_array_size(ids) == 0)
        return fur_error_set(r->error, FUR_E_FORMAT, "%s: \"%.60s\" has no ids in \"special_tokens\"", step->name,
                             token);
    json_array_foreach(ids, i, value)
    {
        int64_t id = json_is_integer(value) ? (int64_t)json_integer_value(value) : -1;
        if (id < 0 || id >= FUR_VOCABULARY_MOST)
            return fur_error_set(r->error, FUR_E_FORMAT, "%s: \"%.60s\" has an id that is none", step->name, token);
        FUR_TRY(fur_ids_add(r->error, out, (int32_t)id));
    }
    return FUR_OK;
}

static fur_status read_template(const reader *r, const fur_json *step)
{
    fur_pipeline *pipeline = r->pipeline;
    json_t *single = fur_json_find(step, "single"), *part;
    size_t i;
    int texts = 0;
    if (pipeline->prefix.length + pipeline->suffix.length > 0)
        return fur_error_set(r->error, FUR_E_UNSUPPORTED, "%s: a second template", step->name);
    if (!json_is_array(single))
        return fur_error_set(r->error, FUR_E_FORMAT, "%s: \"single\" is no array", step->name);
    json_array_foreach(single, i, part)
    {
        json_t *token = json_object_get(json_object_get(part, "SpecialToken"), "id");
        json_t *sequence = json_object_get(json_object_get(part, "Sequence"), "id");
        if (json_is_string(sequence) && strcmp(json_string_value(sequence), "A") == 0)
            texts++;
        else if (json_is_string(token))
            FUR_TRY(
                add_template_token(r, step, json_string_value(token), texts ? &pipeline->suffix : &pipeline->prefix));
        else
            return fur_error_set(r->error, FUR_E_FORMAT, "%s: \"single\" entry %zu is no token and not the text A",
                                 step->name, i);
    }
    if (texts != 1)
        return fur_error_set(r->error, FUR_E_FORMAT, "%s: \"single\" has the text %d times, expected once", step->name,
                             texts);
    return FUR_OK;
}

static fur_status read_end_token(const reader *r, const fur_json *step, const char *key, fur_ids *out)
{
    json_t *pair = fur_json_find(step, key), *id = json_array_get(pair, 1);
    if (json_array_size(pair) != 2 || !json_is_integer(id) || json_integer_value(id) < 0 ||
        json_integer_value(id) >= FUR_VOCABULARY_MOST)
        return fur_error_set(r->error, FUR_E_FORMAT, "%s: \"%s\" is no pair of a token and its id", step->name, key);
    return fur_ids_add(r->error, out, (int32_t)json_integer_value(id));
}

static fur_status read_bert(const reader *r, const fur_json *step)
{
    if (r->pipeline->prefix.length + r->pipeline->suffix.length > 0)
        return fur_error_set(r->error, FUR_E_UNSUPPORTED, "%s: a second template", step->name);
    FUR_TRY(read_end_token(r, step, "cls", &r->pipeline->prefix));
    return read_end_token(r, step, "sep", &r->pipeline->suffix);
}

/* ByteLevel there only says which characters a token's place in the text leaves out. */
static fur_status read_offsets(const reader *r, const fur_json *step)
{
    (void)r, (void)step;
    return FUR_OK;
}

static const step_kind post_processors[] = {{"TemplateProcessing", read_template},
                                            {"ByteLevel", read_offsets},
                                            {"BertProcessing", read_bert},
                                            {"RobertaProcessing", read_bert},
                                            {NULL, NULL}};

fur_status fur_tokenizer_json_steps(fur_error *error, const fur_json *json, fur_pipeline *pipeline)
{
    static const struct {
        const char *key, *list;
        const step_kind *kinds;
    } parts[] = {{"normalizer", "normalizers", normalizers},
                 {"pre_tokenizer", "pretokenizers", pre_tokenizers},
                 {"decoder", "decoders", decoders},
                 {"post_processor", "processors", post_processors}};
    reader r = {.error = error, .pipeline = pipeline};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        json_t *value = fur_json_find(json, parts[i].key);
        fur_json_part part;
        fur_json_part_make(json, parts[i].key, -1, value, &part);
        if (value)
            FUR_TRY(read_steps(&r, &part.json, parts[i].list, parts[i].kinds));
        else if (parts[i].kinds == decoders)
            return fur_error_set(error, FUR_E_UNSUPPORTED,
                                 "%s: \"decoder\" is missing: how tokens become text is not known", json->name);
    }
    return FUR_OK;
}
