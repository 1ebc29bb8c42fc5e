/* SPDX-License-Identifier: Apache-2.0 */
#include "text/gguf_splits.h"

#include <string.h>

/* Apart from how many digits go together they are one expression, of which these are the parts around that. */
#define BEGIN "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|"
#define END   "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

static const fur_gguf_split splits[] = {
    {.name = "gpt-2", .alias = "phi-2"},
    {.name = "smollm", .alias = "starcoder", .digits = true},
    {.name = "llama-bpe", .alias = "llama3", .regex = BEGIN "\\p{N}{1,3}" END, .ignores_merges = true},
    {.name = "qwen2", .alias = "deepseek-r1-qwen", .regex = BEGIN "\\p{N}" END},
};
#define SPLITS (sizeof splits / sizeof splits[0])

const fur_gguf_split *fur_gguf_split_find(const char *name)
{
    for (size_t i = 0; i < SPLITS; i++)
        if (strcmp(splits[i].name, name) == 0 || strcmp(splits[i].alias, name) == 0)
            return &splits[i];
    return NULL;
}

static json_t *byte_level(bool use_regex)
{
    return json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", 0, "trim_offsets", 1, "use_regex",
                     (int)use_regex);
}

json_t *fur_gguf_split_json(const fur_gguf_split *split)
{
    json_t *level = byte_level(split->regex == NULL);
    if (!split->regex && !split->digits)
        return level;
    json_t *first = split->digits ? json_pack("{s:s, s:b}", "type", "Digits", "individual_digits", 1)
                                  : json_pack("{s:s, s:{s:s}, s:s, s:b}", "type", "Split", "pattern", "Regex",
                                              split->regex, "behavior", "Isolated", "invert", 0);
    return json_pack("{s:s, s:[o, o]}", "type", "Sequence", "pretokenizers", first, level);
}

static bool is(const json_t *object, const char *key, const char *value)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text && strcmp(text, value) == 0;
}

/* A prefix space would be another tokenizer; offsets are no part of ids. */
static bool is_byte_level(const json_t *object, bool *use_regex)
{
    const json_t *regex = json_object_get(object, "use_regex");
    *use_regex = !regex || json_is_true(regex);
    return is(object, "type", "ByteLevel") && json_is_false(json_object_get(object, "add_prefix_space"));
}

static bool is_first(const json_t *object, const fur_gguf_split *split)
{
    if (split->digits)
        return is(object, "type", "Digits") && json_is_true(json_object_get(object, "individual_digits"));
    return split->regex && is(object, "type", "Split") && is(object, "behavior", "Isolated") &&
           !json_is_true(json_object_get(object, "invert")) &&
           is(json_object_get(object, "pattern"), "Regex", split->regex);
}

const fur_gguf_split *fur_gguf_split_of(const json_t *pre)
{
    const json_t *list = json_object_get(pre, "pretokenizers");
    bool use_regex;
    if (is_byte_level(pre, &use_regex))
        return use_regex ? &splits[0] : NULL;
    if (!is(pre, "type", "Sequence") || json_array_size(list) != 2 ||
        !is_byte_level(json_array_get(list, 1), &use_regex))
        return NULL;
    for (size_t i = 0; i < SPLITS; i++)
        if (is_first(json_array_get(list, 0), &splits[i]) && use_regex == (splits[i].regex == NULL))
            return &splits[i];
    return NULL;
}
