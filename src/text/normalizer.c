/* SPDX-License-Identifier: Apache-2.0 */
#include "text/normalizer.h"

#include <string.h>

#include <utf8proc.h>

#include "base/alloc.h"
#include "io/file.h"
#include "text/utf8.h"

fur_status fur_normalizer_add(fur_error *error, fur_normalizer *normalizer, fur_normal_step step)
{
    fur_normal_step *steps =
        fur_realloc(normalizer->steps, (size_t)(normalizer->count + 1) * sizeof *normalizer->steps);
    if (!steps) {
        fur_regex_destroy(step.pattern);
        fur_string_clear(&step.content);
        return fur_memory_error(error, (int64_t)sizeof step, "a normalizer");
    }
    normalizer->steps = steps;
    steps[normalizer->count++] = step;
    return FUR_OK;
}

void fur_normalizer_clear(fur_normalizer *normalizer)
{
    for (int64_t i = 0; i < normalizer->count; i++) {
        fur_regex_destroy(normalizer->steps[i].pattern);
        fur_string_clear(&normalizer->steps[i].content);
    }
    fur_free(normalizer->steps);
    fur_string_clear(&normalizer->spare);
    *normalizer = (fur_normalizer){0};
}

/* ---- Unicode -------------------------------------------------------------------------------------------------- */

int fur_lowercase(int32_t code, int32_t out[2])
{
    if (code == 0x130) { /* the one character whose lower case is two, in every language */
        out[0] = 'i';
        out[1] = 0x307;
        return 2;
    }
    out[0] = utf8proc_tolower(code);
    return 1;
}

/* Canonical or compatible decomposition, in order, then composed where the form says so. The text has no stand-ins. */
static fur_status add_form(fur_error *error, fur_normal_form form, const char *text, int64_t bytes, fur_string *out)
{
    static const utf8proc_option_t options[] = {
        [FUR_NFC] = UTF8PROC_STABLE | UTF8PROC_COMPOSE,
        [FUR_NFD] = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE,
        [FUR_NFKC] = UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT,
        [FUR_NFKD] = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT,
    };
    utf8proc_int32_t few[256], *codes = few;
    utf8proc_ssize_t room = 256;
    utf8proc_ssize_t count =
        utf8proc_decompose((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)bytes, codes, room, options[form]);
    if (count > room) {
        room = count;
        codes = fur_malloc((size_t)room * sizeof *codes);
        if (!codes)
            return fur_memory_error(error, (int64_t)room * (int64_t)sizeof *codes, "a text in its normal form");
        count = utf8proc_decompose((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)bytes, codes, room, options[form]);
    }
    fur_status status =
        count < 0 ? fur_error_set(error, FUR_E_INTERNAL, "utf8proc: %s", utf8proc_errmsg(count)) : FUR_OK;
    if (status == FUR_OK)
        count = utf8proc_normalize_utf32(codes, count, options[form]);
    if (status == FUR_OK)
        status = fur_string_reserve(error, out, 4 * (int64_t)count);
    for (utf8proc_ssize_t i = 0; status == FUR_OK && i < count; i++)
        out->length += fur_utf8_put(codes[i], out->data + out->length);
    if (codes != few)
        fur_free(codes);
    return status;
}

/* A character in ASCII neither changes nor joins what is before it: text is worked on from one to the next, which may
 * take a mark that follows it. A stand-in for a byte takes part in nothing. */
static fur_status run_form(fur_error *error, fur_normal_form form, const char *text, int64_t bytes, fur_string *out)
{
    int64_t at = 0;
    while (at < bytes) {
        int64_t plain = at;
        while (plain < bytes && !((unsigned char)text[plain] & 0x80))
            plain++;
        int64_t last = plain > at && plain < bytes ? plain - 1 : plain; /* may take a mark */
        FUR_TRY(fur_string_add(error, out, text + at, last - at));
        if (plain == bytes)
            return FUR_OK;
        int64_t end = plain, stray = 0;
        while (end < bytes && ((unsigned char)text[end] & 0x80)) {
            int64_t length = fur_utf8_length(text + end);
            if (length == 3 && fur_utf8_stray(fur_utf8_get(text + end)) >= 0) {
                stray = 3;
                break;
            }
            end += length;
        }
        if (end > last)
            FUR_TRY(add_form(error, form, text + last, end - last, out));
        FUR_TRY(fur_string_add(error, out, text + end, stray));
        at = end + stray;
    }
    return FUR_OK;
}

static fur_status run_lowercase(fur_error *error, const char *text, int64_t bytes, fur_string *out)
{
    for (int64_t at = 0, length; at < bytes; at += length) {
        int32_t codes[2];
        length = fur_utf8_length(text + at);
        int count = fur_lowercase(fur_utf8_get(text + at), codes);
        FUR_TRY(fur_string_reserve(error, out, 8));
        for (int i = 0; i < count; i++)
            out->length += fur_utf8_put(codes[i], out->data + out->length);
    }
    return FUR_OK;
}

/* ---- the others ----------------------------------------------------------------------------------------------- */

static fur_status run_replace(fur_error *error, const fur_normal_step *step, const char *text, int64_t bytes,
                              fur_string *out)
{
    int64_t from = 0, copied = 0, last_end = -1;
    while (from <= bytes && bytes > 0) { /* nothing is found in an empty text */
        fur_regex_found found;
        int64_t first, end;
        FUR_TRY(fur_regex_find(error, step->pattern, text, bytes, from, false, &found, &first, &end));
        if (found != FUR_REGEX_MATCH)
            break;
        if (first == end && last_end == end) { /* nothing, right after a match: none */
            from += from < bytes ? fur_utf8_length(text + from) : 1;
            continue;
        }
        FUR_TRY(fur_string_add(error, out, text + copied, first - copied));
        FUR_TRY(fur_string_add(error, out, step->content.data, step->content.length));
        from = copied = last_end = end;
    }
    return fur_string_add(error, out, text + copied, bytes - copied);
}

static fur_status run_strip(fur_error *error, const fur_normal_step *step, const char *text, int64_t bytes,
                            fur_string *out)
{
    int64_t first = 0, end = 0;
    for (int64_t at = 0, length; at < bytes; at += length) {
        length = fur_utf8_length(text + at);
        bool space = fur_utf8_is_space(fur_utf8_get(text + at));
        if (step->left && space && first == at)
            first += length;
        if (!step->right || !space)
            end = at + length;
    }
    return end > first ? fur_string_add(error, out, text + first, end - first) : FUR_OK;
}

static fur_status run_step(fur_error *error, const fur_normal_step *step, const char *text, int64_t bytes, bool begins,
                           fur_string *out)
{
    switch (step->kind) {
    case FUR_NORMAL_FORM: return run_form(error, step->form, text, bytes, out);
    case FUR_NORMAL_LOWERCASE: return run_lowercase(error, text, bytes, out);
    case FUR_NORMAL_REPLACE: return run_replace(error, step, text, bytes, out);
    case FUR_NORMAL_STRIP: return run_strip(error, step, text, bytes, out);
    case FUR_NORMAL_PREPEND:
        if (begins && bytes > 0)
            FUR_TRY(fur_string_add(error, out, step->content.data, step->content.length));
        return fur_string_add(error, out, text, bytes);
    }
    return FUR_OK;
}

/* Each step reads what the one before it appended to `out`, from `start` on, and its result takes that place. */
fur_status fur_normalizer_run(fur_error *error, fur_normalizer *normalizer, const char *text, int64_t bytes,
                              bool begins, fur_string *out)
{
    int64_t start = out->length;
    if (normalizer->count == 0)
        return fur_string_add(error, out, text, bytes);
    FUR_TRY(run_step(error, &normalizer->steps[0], text, bytes, begins, out));
    for (int64_t i = 1; i < normalizer->count; i++) {
        fur_string *spare = &normalizer->spare;
        spare->length = 0;
        FUR_TRY(run_step(error, &normalizer->steps[i], out->data + start, out->length - start, begins, spare));
        out->length = start;
        FUR_TRY(fur_string_add(error, out, spare->data, spare->length));
    }
    return FUR_OK;
}

bool fur_normalizer_may_cut(const fur_normalizer *normalizer)
{
    for (int64_t i = 0; i < normalizer->count; i++) {
        const fur_normal_step *step = &normalizer->steps[i];
        if (step->kind == FUR_NORMAL_STRIP)
            return false;
        if (step->kind != FUR_NORMAL_REPLACE)
            continue;
        /* one character, so that no match lies on both sides */
        if (!fur_regex_is_character(step->pattern))
            return false;
    }
    return true;
}

/* Starters that join nothing before them: ASCII, ideographs and their punctuation. */
bool fur_normalizer_may_cut_before(const fur_normalizer *normalizer, int32_t code)
{
    if (code < 0x80 || (code >= 0x3000 && code <= 0x3029) || (code >= 0x4e00 && code <= 0x9fff) ||
        (code >= 0xff01 && code <= 0xff60))
        return true;
    for (int64_t i = 0; i < normalizer->count; i++)
        if (normalizer->steps[i].kind == FUR_NORMAL_FORM)
            return false;
    return true;
}
