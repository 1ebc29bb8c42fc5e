/* SPDX-License-Identifier: Apache-2.0 */
#include "text/splitter.h"

#include <string.h>

#include "base/alloc.h"
#include "io/file.h"
#include "text/utf8.h"

fur_status fur_splitter_add(fur_error *error, fur_splitter *splitter, fur_stage stage)
{
    fur_stage *stages = fur_realloc(splitter->stages, (size_t)(splitter->count + 1) * sizeof *splitter->stages);
    if (!stages) {
        fur_regex_destroy(stage.pattern);
        return fur_memory_error(error, (int64_t)sizeof stage, "a pre-tokenizer");
    }
    splitter->stages = stages;
    stages[splitter->count++] = stage;
    return FUR_OK;
}

void fur_splitter_clear(fur_splitter *splitter)
{
    for (int64_t i = 0; i < splitter->count; i++)
        fur_regex_destroy(splitter->stages[i].pattern);
    fur_free(splitter->stages);
    fur_spans_clear(&splitter->next);
    fur_string_clear(&splitter->changed);
    *splitter = (fur_splitter){0};
}

static bool changes_text(const fur_stage *stage)
{
    return stage->kind == FUR_STAGE_PREFIX || stage->kind == FUR_STAGE_METASPACE;
}

/* A piece whose text is changed in front must be known to begin: so only before all cuts. */
bool fur_splitter_may_cut(const fur_splitter *splitter)
{
    bool cut = false;
    for (int64_t i = 0; i < splitter->count; i++) {
        const fur_stage *stage = &splitter->stages[i];
        if (changes_text(stage) ? cut : stage->pattern && !fur_regex_looks_ahead_only(stage->pattern))
            return false;
        cut = cut || !changes_text(stage);
    }
    return true;
}

/* ---- cutting -------------------------------------------------------------------------------------------------- */

/* Pieces of one span, as finds and what lies between them arrive in order. */
typedef struct cutter {
    fur_error *error;
    fur_spans *out;
    fur_split_behavior behavior;
    bool invert;
    bool any;      /* something has arrived */
    bool previous; /* it was a find */
} cutter;

static fur_status take(cutter *c, int64_t first, int64_t end, bool find)
{
    find = find != c->invert;
    bool extends = false;
    switch (c->behavior) {
    case FUR_SPLIT_ISOLATED: break;
    case FUR_SPLIT_REMOVED:
        c->any = true;
        c->previous = find;
        if (find)
            return FUR_OK;
        break;
    case FUR_SPLIT_CONTIGUOUS: extends = find == c->previous; break;
    case FUR_SPLIT_MERGED_WITH_PREVIOUS: extends = find && !c->previous; break;
    case FUR_SPLIT_MERGED_WITH_NEXT: extends = !find && c->previous; break;
    }
    extends = extends && c->any;
    c->any = true;
    c->previous = find;
    if (extends) {
        c->out->data[c->out->length - 1].end = end;
        return FUR_OK;
    }
    return fur_spans_add(c->error, c->out, (fur_span){.first = first, .end = end, .id = -1});
}

/* What is left behind the last find, with the piece's fate when the text goes on. */
static fur_status take_rest(cutter *c, int64_t first, int64_t end, bool more, bool *open)
{
    int64_t before = c->out->length;
    if (first < end)
        FUR_TRY(take(c, first, end, false));
    bool merges = c->behavior != FUR_SPLIT_ISOLATED && c->behavior != FUR_SPLIT_REMOVED;
    *open = more && c->any && (merges || c->out->length > before);
    return FUR_OK;
}

/* The rest depends on what follows: it is left out, and so is the last piece where that could join it. */
static void leave_rest(const cutter *c, int64_t start, bool *open)
{
    bool merges = c->behavior != FUR_SPLIT_ISOLATED && c->behavior != FUR_SPLIT_REMOVED;
    if (merges && c->out->length > start)
        c->out->length--;
    *open = false;
}

static fur_status cut_by_pattern(cutter *c, const fur_stage *stage, const char *text, fur_span span, bool more,
                                 bool *open)
{
    int64_t bytes = span.end - span.first, from = 0, done = 0, last_end = -1;
    int64_t start = c->out->length;
    int64_t literal = fur_regex_literal_bytes(stage->pattern);
    const char *at = text + span.first;
    while (from <= bytes) {
        fur_regex_found found;
        int64_t first, end;
        FUR_TRY(fur_regex_find(c->error, stage->pattern, at, bytes, from, more, &found, &first, &end));
        if (found == FUR_REGEX_UNSURE) {
            leave_rest(c, start, open);
            return FUR_OK;
        }
        if (found == FUR_REGEX_NONE)
            break;
        if (first == end && end == last_end) { /* nothing, right after a find: none */
            from += from < bytes ? fur_utf8_length(at + from) : 1;
            continue;
        }
        if (done != first)
            FUR_TRY(take(c, span.first + done, span.first + first, false));
        FUR_TRY(take(c, span.first + first, span.first + end, true));
        from = done = last_end = end;
    }
    /* the beginning of what is to be found may lie at the end */
    int64_t rest = more && literal > 1 ? bytes - (literal - 1) : bytes;
    while (rest > done && rest < bytes && ((unsigned char)at[rest] & 0xc0) == 0x80)
        rest--;
    return take_rest(c, span.first + done, span.first + (rest > done ? rest : done), more, open);
}

static fur_status cut_by_class(cutter *c, const fur_stage *stage, const char *text, fur_span span, bool more,
                               bool *open)
{
    int64_t done = span.first;
    for (int64_t at = span.first, length; at < span.end; at += length) {
        length = fur_utf8_length(text + at);
        if (!stage->is_member(fur_utf8_get(text + at)))
            continue;
        if (done < at)
            FUR_TRY(take(c, done, at, false));
        FUR_TRY(take(c, at, at + length, true));
        done = at + length;
    }
    return take_rest(c, done, span.end, more, open);
}

static fur_status cut_words(cutter *c, const char *text, fur_span span, bool more, bool *open)
{
    int before = -1; /* 0 space, 1 word, 2 neither */
    int64_t first = span.first;
    for (int64_t at = span.first, length; at < span.end; at += length) {
        length = fur_utf8_length(text + at);
        int32_t code = fur_utf8_get(text + at);
        int now = 2;
        if (fur_utf8_is_word(code))
            now = 1;
        else if (fur_utf8_is_space(code))
            now = 0;
        if (before > 0 && now != before)
            FUR_TRY(fur_spans_add(c->error, c->out, (fur_span){.first = first, .end = at, .id = -1}));
        if (now != before)
            first = at;
        before = now;
    }
    *open = more && before > 0;
    if (before > 0)
        FUR_TRY(fur_spans_add(c->error, c->out, (fur_span){.first = first, .end = span.end, .id = -1}));
    return FUR_OK;
}

static fur_status cut_joints(cutter *c, const fur_bpe *bpe, const char *text, fur_span span, bool more, bool *open)
{
    int64_t first = span.first, length = fur_utf8_length(text + span.first);
    for (int64_t at = span.first + length; at < span.end;) {
        int64_t next = fur_utf8_length(text + at);
        if (fur_bpe_may_cut(bpe, text + at - length, length, text + at, next)) {
            FUR_TRY(fur_spans_add(c->error, c->out, (fur_span){.first = first, .end = at, .id = -1}));
            first = at;
        }
        at += next;
        length = next;
    }
    *open = more;
    return fur_spans_add(c->error, c->out, (fur_span){.first = first, .end = span.end, .id = -1});
}

static fur_status cut_span(fur_error *error, fur_splitter *splitter, const fur_stage *stage, const char *text,
                           fur_span span, bool more, bool *open)
{
    fur_spans *out = &splitter->next;
    int64_t start = out->length;
    cutter c = {.error = error, .out = out, .behavior = stage->behavior, .invert = stage->invert};
    if (stage->kind == FUR_STAGE_PATTERN)
        FUR_TRY(cut_by_pattern(&c, stage, text, span, more, open));
    else if (stage->kind == FUR_STAGE_CLASS)
        FUR_TRY(cut_by_class(&c, stage, text, span, more, open));
    else if (stage->kind == FUR_STAGE_WORDS)
        FUR_TRY(cut_words(&c, text, span, more, open));
    else
        FUR_TRY(cut_joints(&c, splitter->bpe, text, span, more, open));
    int64_t kept = start;
    for (int64_t i = start; i < out->length; i++)
        if (out->data[i].end > out->data[i].first)
            out->data[kept++] = out->data[i];
    out->length = kept;
    return FUR_OK;
}

static fur_status cut(fur_error *error, fur_splitter *splitter, const fur_stage *stage, const fur_string *text,
                      fur_spans *pieces, fur_split_window *window)
{
    fur_spans *next = &splitter->next;
    next->length = 0;
    bool was_open = window->open;
    for (int64_t i = 0; i < pieces->length; i++) {
        bool more = was_open && i == pieces->length - 1;
        if (pieces->data[i].id >= 0)
            FUR_TRY(fur_spans_add(error, next, pieces->data[i]));
        else
            FUR_TRY(cut_span(error, splitter, stage, text->data, pieces->data[i], more, &window->open));
    }
    fur_spans swapped = *pieces;
    *pieces = *next;
    *next = swapped;
    return FUR_OK;
}

/* ---- changing text -------------------------------------------------------------------------------------------- */

static bool starts_with(const char *text, int64_t bytes, const char *content)
{
    int64_t length = (int64_t)strlen(content);
    return bytes >= length && memcmp(text, content, (size_t)length) == 0;
}

static fur_status change(fur_error *error, fur_splitter *splitter, const fur_stage *stage, fur_string *text,
                         const fur_spans *pieces, fur_split_window *window)
{
    fur_string *out = &splitter->changed;
    int64_t content = (int64_t)strlen(stage->content), mark = 0;
    bool metaspace = stage->kind == FUR_STAGE_METASPACE;
    out->length = 0;
    for (int64_t i = 0; i < pieces->length; i++) {
        fur_span *piece = &pieces->data[i];
        int64_t start = out->length, end = piece->end;
        const char *at = text->data + piece->first;
        bool wanted = !metaspace || stage->scheme == FUR_PREPEND_ALWAYS ||
                      (stage->scheme == FUR_PREPEND_FIRST && i == 0 && window->first);
        if (i == 0 && !window->begins)
            wanted = false;
        if (piece->id < 0 && wanted && !starts_with(at, end - piece->first, stage->content) &&
            !(metaspace && end > piece->first && *at == ' '))
            FUR_TRY(fur_string_add(error, out, stage->content, content));
        FUR_TRY(fur_string_reserve(error, out, (end - piece->first) * content));
        for (int64_t j = piece->first; j <= end; j++) {
            for (; mark < window->mark_count && window->marks[mark] <= j && (j < end || i + 1 == pieces->length);
                 mark++)
                window->marks[mark] = window->marks[mark] == j ? out->length : -1;
            if (j == end)
                break;
            if (metaspace && text->data[j] == ' ') {
                memcpy(out->data + out->length, stage->content, (size_t)content);
                out->length += content;
            } else {
                out->data[out->length++] = text->data[j];
            }
        }
        piece->first = start;
        piece->end = out->length;
    }
    fur_string swapped = *text;
    *text = *out;
    *out = swapped;
    return FUR_OK;
}

fur_status fur_splitter_run(fur_error *error, fur_splitter *splitter, fur_string *text, fur_spans *pieces,
                            fur_split_window *window)
{
    window->open = window->more && pieces->length > 0 && pieces->data[pieces->length - 1].id < 0;
    for (int64_t i = 0; i < splitter->count; i++) {
        const fur_stage *stage = &splitter->stages[i];
        FUR_TRY(changes_text(stage) ? change(error, splitter, stage, text, pieces, window)
                                    : cut(error, splitter, stage, text, pieces, window));
    }
    return FUR_OK;
}
