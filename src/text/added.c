/* SPDX-License-Identifier: Apache-2.0 */
#include "text/added.h"

#include <string.h>

#include "base/alloc.h"
#include "base/size.h"
#include "io/file.h"
#include "text/utf8.h"

fur_status fur_added_init(fur_error *error, fur_added *added, int64_t most)
{
    added->most = most;
    FUR_TRY(fur_vocabulary_init(error, &added->contents, fur_max_i64(most, 1)));
    added->tokens = fur_calloc((size_t)most + 1, sizeof *added->tokens);
    return added->tokens ? FUR_OK : fur_memory_error(error, most * (int64_t)sizeof *added->tokens, "added tokens");
}

fur_status fur_added_add(fur_error *error, fur_added *added, const fur_added_token *token)
{
    if (added->count == added->most)
        return fur_error_set(error, FUR_E_INTERNAL, "more than %lld added tokens", (long long)added->most);
    fur_added_token *copy = &added->tokens[added->count];
    *copy = *token;
    copy->content = fur_malloc((size_t)token->bytes + 1);
    if (!copy->content)
        return fur_memory_error(error, token->bytes, "an added token");
    memcpy(copy->content, token->content, (size_t)token->bytes);
    copy->content[token->bytes] = 0;
    added->count++;
    return fur_vocabulary_set(error, &added->contents, (int32_t)(added->count - 1), token->content, token->bytes, true);
}

void fur_added_clear(fur_added *added)
{
    for (int64_t i = 0; i < added->count; i++)
        fur_free(added->tokens[i].content);
    fur_free(added->tokens);
    fur_vocabulary_clear(&added->contents);
    fur_trie_clear(&added->as_is);
    fur_trie_clear(&added->normal);
    *added = (fur_added){0};
}

static fur_status add_normal(fur_error *error, fur_added *added, fur_normalizer *normalizer, fur_string *text,
                             fur_spans *spans)
{
    for (int64_t i = 0; i < added->count; i++) {
        const fur_added_token *token = &added->tokens[i];
        if (!token->normalized)
            continue;
        fur_span span = {.first = text->length, .id = (int32_t)i};
        FUR_TRY(fur_normalizer_run(error, normalizer, token->content, token->bytes, true, text));
        span.end = text->length;
        if (span.end > span.first) /* else nothing is left of it to be found */
            FUR_TRY(fur_spans_add(error, spans, span));
    }
    FUR_TRY(fur_trie_init(error, &added->normal, text->length));
    for (int64_t i = 0; i < spans->length; i++) {
        const fur_span *span = &spans->data[i];
        int64_t same, bytes = span->end - span->first;
        /* the first one counts where two become the same */
        if (fur_trie_longest(&added->normal, text->data + span->first, bytes, &same) < 0 || same != bytes)
            fur_trie_add(&added->normal, text->data + span->first, bytes, span->id);
        added->longest_normal = fur_max_i64(added->longest_normal, bytes);
        added->any_normal = true;
    }
    return FUR_OK;
}

fur_status fur_added_finish(fur_error *error, fur_added *added, fur_normalizer *normalizer)
{
    int64_t bytes = 0;
    for (int64_t i = 0; i < added->count; i++)
        bytes += added->tokens[i].bytes;
    FUR_TRY(fur_trie_init(error, &added->as_is, bytes));
    for (int64_t i = 0; i < added->count; i++) {
        const fur_added_token *token = &added->tokens[i];
        added->any_single_word = added->any_single_word || token->single_word;
        if (token->normalized)
            continue;
        fur_trie_add(&added->as_is, token->content, token->bytes, (int32_t)i);
        added->any_as_is = true;
        added->longest = fur_max_i64(added->longest, token->bytes);
    }
    fur_string text = {0};
    fur_spans spans = {0};
    fur_status status = add_normal(error, added, normalizer, &text, &spans);
    fur_string_clear(&text);
    fur_spans_clear(&spans);
    return status;
}

const fur_added_token *fur_added_find(const fur_added *added, const char *content, int64_t bytes)
{
    int32_t index = added->count > 0 ? fur_vocabulary_find(&added->contents, content, bytes) : -1;
    return index >= 0 ? &added->tokens[index] : NULL;
}

/* ---- finding -------------------------------------------------------------------------------------------------- */

static int64_t character_before(const char *text, int64_t first, int64_t at)
{
    do
        at--;
    while (at > first && ((unsigned char)text[at] & 0xc0) == 0x80);
    return at;
}

static bool is_alone(const char *text, int64_t first, int64_t end, int64_t start, int64_t stop)
{
    return !(start > first && fur_utf8_is_word(fur_utf8_get(text + character_before(text, first, start)))) &&
           !(stop < end && fur_utf8_is_word(fur_utf8_get(text + stop)));
}

fur_status fur_added_split(fur_error *error, const fur_added *added, bool normal, bool specials, const char *text,
                           int64_t first, int64_t end, fur_spans *out)
{
    const fur_trie *trie = normal ? &added->normal : &added->as_is;
    int64_t done = first;
    bool any = normal ? added->any_normal : added->any_as_is;
    for (int64_t at = first, length; any && at < end; at += length) {
        length = 1;
        if (trie->root[(unsigned char)text[at]] < 0)
            continue;
        int64_t found;
        int32_t index = fur_trie_longest(trie, text + at, end - at, &found);
        if (index < 0)
            continue;
        length = found;
        const fur_added_token *token = &added->tokens[index];
        int64_t start = at, stop = at + found;
        if ((token->special && !specials) || (token->single_word && !is_alone(text, first, end, start, stop)))
            continue;
        while (token->takes_left && start > done) {
            int64_t before = character_before(text, done, start);
            if (!fur_utf8_is_space(fur_utf8_get(text + before)))
                break;
            start = before;
        }
        while (token->takes_right && stop < end && fur_utf8_is_space(fur_utf8_get(text + stop)))
            stop += fur_utf8_length(text + stop);
        if (done < start)
            FUR_TRY(fur_spans_add(error, out, (fur_span){.first = done, .end = start, .id = -1}));
        FUR_TRY(
            fur_spans_add(error, out, (fur_span){.first = start > done ? start : done, .end = stop, .id = token->id}));
        done = stop;
    }
    if (done < end)
        FUR_TRY(fur_spans_add(error, out, (fur_span){.first = done, .end = end, .id = -1}));
    return FUR_OK;
}
