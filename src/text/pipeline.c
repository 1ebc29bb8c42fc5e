/* SPDX-License-Identifier: Apache-2.0 */
#include "text/pipeline.h"

#include <string.h>

#include "base/alloc.h"
#include "base/size.h"
#include "io/file.h"
#include "text/utf8.h"

/* ---- making --------------------------------------------------------------------------------------------------- */

static fur_status encode(fur_error *error, const fur_tokenizer *tokenizer, const fur_encoding *input, fur_ids *out,
                         int64_t *used);
static fur_status decode(fur_error *error, const fur_tokenizer *tokenizer, const int32_t *ids, int64_t count,
                         bool specials, fur_string *out);

static int64_t vocabulary(const fur_tokenizer *tokenizer)
{
    return ((const fur_pipeline *)tokenizer)->pieces.count;
}

static void piece(const fur_tokenizer *tokenizer, int32_t id, const char **text, int64_t *bytes)
{
    *text = fur_vocabulary_text(&((const fur_pipeline *)tokenizer)->pieces, id, bytes);
    if (!*text)
        *text = "";
}

static int32_t find(const fur_tokenizer *tokenizer, const char *text, int64_t bytes)
{
    const fur_pipeline *pipeline = (const fur_pipeline *)tokenizer;
    const fur_added_token *token = fur_added_find(&pipeline->added, text, bytes);
    return token ? token->id : -1;
}

static int64_t special_at(const fur_tokenizer *tokenizer, const char *text, int64_t bytes)
{
    const fur_added *added = &((const fur_pipeline *)tokenizer)->added;
    for (int normal = 0; normal < 2; normal++) {
        int64_t length;
        int32_t index = fur_trie_longest(normal ? &added->normal : &added->as_is, text, bytes, &length);
        if (index >= 0 && added->tokens[index].special)
            return length;
    }
    return 0;
}

static void describe(const fur_tokenizer *tokenizer, fur_tokenizer_info *out)
{
    const fur_pipeline *pipeline = (const fur_pipeline *)tokenizer;
    out->vocabulary = pipeline->pieces.count;
    out->merges = pipeline->merge_count;
    out->added = pipeline->added.count;
    for (int64_t i = 0; i < pipeline->added.count; i++)
        out->special += pipeline->added.tokens[i].special;
    out->round_trip = pipeline->byte_level && pipeline->normalizer.count == 0;
    for (int b = 0; b < 256; b++)
        out->round_trip = out->round_trip && pipeline->bpe.byte_ids[b] >= 0;
}

static void destroy(fur_tokenizer *tokenizer)
{
    fur_pipeline_close((fur_pipeline *)tokenizer);
}

static const fur_tokenizer_kind bpe_kind = {.name = "BPE",
                                            .vocabulary = vocabulary,
                                            .encode = encode,
                                            .decode = decode,
                                            .piece = piece,
                                            .find = find,
                                            .special_at = special_at,
                                            .describe = describe,
                                            .close = destroy};
static const fur_tokenizer_kind byte_level_kind = {.name = "byte-level BPE",
                                                   .vocabulary = vocabulary,
                                                   .encode = encode,
                                                   .decode = decode,
                                                   .piece = piece,
                                                   .find = find,
                                                   .special_at = special_at,
                                                   .describe = describe,
                                                   .close = destroy};
static const fur_tokenizer_kind unigram_kind = {.name = "Unigram",
                                                .vocabulary = vocabulary,
                                                .encode = encode,
                                                .decode = decode,
                                                .piece = piece,
                                                .find = find,
                                                .special_at = special_at,
                                                .describe = describe,
                                                .close = destroy};

fur_status fur_pipeline_create(fur_error *error, const char *name, fur_pipeline **out)
{
    fur_pipeline *pipeline = fur_calloc(1, sizeof *pipeline);
    if (!pipeline)
        return fur_memory_error(error, (int64_t)sizeof *pipeline, "a tokenizer");
    pipeline->self = pipeline;
    pipeline->base = (fur_tokenizer){.kind = &bpe_kind, .bos = -1, .eos = -1};
    pipeline->bpe.unknown = pipeline->unigram.unknown = -1;
    memset(pipeline->bpe.byte_ids, 0xff, sizeof pipeline->bpe.byte_ids);
    memset(pipeline->unigram.byte_ids, 0xff, sizeof pipeline->unigram.byte_ids);
    pipeline->lock_made = pthread_mutex_init(&pipeline->lock, NULL) == 0;
    pipeline->name = fur_strdup(name);
    size_t marks = FUR_PIPELINE_MARKS * sizeof *pipeline->marks;
    pipeline->marks = fur_malloc(marks);
    pipeline->mark_sources = fur_malloc(marks);
    fur_status status = FUR_OK;
    if (!pipeline->name || !pipeline->marks || !pipeline->mark_sources || !pipeline->lock_made)
        status = fur_memory_error(error, (int64_t)marks, "a tokenizer");
    if (status == FUR_OK)
        status = fur_word_cache_init(error, &pipeline->cache);
    if (status != FUR_OK) {
        fur_pipeline_close(pipeline);
        return status;
    }
    *out = pipeline;
    return FUR_OK;
}

void fur_pipeline_close(fur_pipeline *pipeline)
{
    if (!pipeline)
        return;
    fur_vocabulary_clear(&pipeline->vocabulary);
    fur_vocabulary_clear(&pipeline->pieces);
    fur_added_clear(&pipeline->added);
    fur_normalizer_clear(&pipeline->normalizer);
    fur_splitter_clear(&pipeline->splitter);
    fur_bpe_clear(&pipeline->bpe);
    fur_unigram_clear(&pipeline->unigram);
    fur_decoder_clear(&pipeline->decoder);
    fur_ids_clear(&pipeline->prefix);
    fur_ids_clear(&pipeline->suffix);
    fur_word_cache_clear(&pipeline->cache);
    fur_string_clear(&pipeline->whole);
    fur_string_clear(&pipeline->normal);
    fur_string_clear(&pipeline->word);
    fur_spans_clear(&pipeline->outer);
    fur_spans_clear(&pipeline->inner);
    if (pipeline->lock_made)
        pthread_mutex_destroy(&pipeline->lock);
    fur_free(pipeline->added_of);
    fur_free(pipeline->marks);
    fur_free(pipeline->mark_sources);
    fur_free(pipeline->name);
    fur_free(pipeline->base.chat_template);
    fur_free(pipeline);
}

/* The token as its file writes it: byte-level tokens are kept in bytes, so their text is made again. */
static fur_status written_form(fur_error *error, const fur_pipeline *pipeline, int32_t id, fur_string *out)
{
    if (pipeline->added_of[id] >= 0) {
        const fur_added_token *added = &pipeline->added.tokens[pipeline->added_of[id]];
        return fur_string_add(error, out, added->content, added->bytes);
    }
    int64_t bytes;
    const char *text = fur_vocabulary_text(&pipeline->vocabulary, id, &bytes);
    if (!text)
        return FUR_OK;
    if (!pipeline->byte_level || fur_vocabulary_find(&pipeline->vocabulary, text, bytes) != id)
        return fur_string_add(error, out, text, bytes);
    for (int64_t i = 0; i < bytes; i++) {
        char character[4];
        int length = fur_utf8_put(fur_byte_level_character((unsigned char)text[i]), character);
        FUR_TRY(fur_string_add(error, out, character, length));
    }
    return FUR_OK;
}

static fur_status make_pieces(fur_error *error, fur_pipeline *pipeline, fur_string *text, fur_string *token)
{
    int64_t count = pipeline->vocabulary.count;
    for (int64_t i = 0; i < pipeline->added.count; i++)
        count = fur_max_i64(count, pipeline->added.tokens[i].id + 1);
    FUR_TRY(fur_vocabulary_init(error, &pipeline->pieces, count));
    pipeline->added_of = fur_malloc((size_t)count * sizeof *pipeline->added_of);
    if (!pipeline->added_of)
        return fur_memory_error(error, count * (int64_t)sizeof *pipeline->added_of, "added tokens");
    memset(pipeline->added_of, 0xff, (size_t)count * sizeof *pipeline->added_of);
    for (int64_t i = 0; i < pipeline->added.count; i++)
        pipeline->added_of[pipeline->added.tokens[i].id] = (int32_t)i;
    for (int32_t id = 0; id < count; id++) {
        token->length = text->length = 0;
        FUR_TRY(written_form(error, pipeline, id, token));
        FUR_TRY(fur_decoder_piece(error, &pipeline->decoder, token->data, token->length, false, text));
        FUR_TRY(fur_vocabulary_set(error, &pipeline->pieces, id, text->data, text->length, false));
    }
    return FUR_OK;
}

static fur_status check_template(fur_error *error, const fur_pipeline *pipeline, const fur_ids *ids)
{
    for (int64_t i = 0; i < ids->length; i++)
        if (ids->data[i] >= pipeline->pieces.count)
            return fur_error_set(error, FUR_E_FORMAT, "%s: post_processor: id %d, expected below %lld", pipeline->name,
                                 ids->data[i], (long long)pipeline->pieces.count);
    return FUR_OK;
}

fur_status fur_pipeline_finish(fur_error *error, fur_pipeline *pipeline)
{
    pipeline->bpe.vocabulary = pipeline->unigram.vocabulary = &pipeline->vocabulary;
    FUR_TRY(fur_added_finish(error, &pipeline->added, &pipeline->normalizer));
    if (pipeline->model == FUR_MODEL_UNIGRAM) {
        pipeline->base.kind = &unigram_kind;
        FUR_TRY(fur_unigram_finish(error, &pipeline->unigram));
    } else {
        pipeline->base.kind = pipeline->byte_level ? &byte_level_kind : &bpe_kind;
        FUR_TRY(fur_bpe_finish(error, &pipeline->bpe));
        pipeline->splitter.bpe = &pipeline->bpe;
        if (pipeline->bpe.joints)
            FUR_TRY(fur_splitter_add(error, &pipeline->splitter, (fur_stage){.kind = FUR_STAGE_JOINTS}));
    }
    fur_string text = {0}, token = {0};
    fur_status status = make_pieces(error, pipeline, &text, &token);
    fur_string_clear(&text);
    fur_string_clear(&token);
    if (status == FUR_OK)
        status = check_template(error, pipeline, &pipeline->prefix);
    if (status == FUR_OK)
        status = check_template(error, pipeline, &pipeline->suffix);
    return status;
}

/* ---- windows -------------------------------------------------------------------------------------------------- */

static bool keeps_bytes(const fur_pipeline *pipeline)
{
    return pipeline->byte_level ||
           (pipeline->model == FUR_MODEL_UNIGRAM ? pipeline->unigram.byte_fallback : pipeline->bpe.byte_fallback);
}

typedef struct window {
    const char *text; /* whole characters, stand-ins among them */
    int64_t bytes;    /* of it that are looked at */
    bool begins, more;
    int64_t mark_count;
} window;

/* Places where the text may end and go on: characters that no normal form joins to what is before them. The last one
 * ends the window, so that what is looked at is settled; tokens that could begin before the others lie within it. */
static bool place_marks(const fur_pipeline *pipeline, window *w)
{
    const fur_added *added = &pipeline->added;
    int64_t at = w->bytes, guard = fur_max_i64(added->longest, added->longest_normal) + 1;
    int64_t end = -1, kept = FUR_PIPELINE_MARKS;
    bool solid = false; /* something else than space lies behind: a token that takes space before it takes none here */
    if (added->any_single_word || !fur_normalizer_may_cut(&pipeline->normalizer) ||
        !fur_splitter_may_cut(&pipeline->splitter))
        return false;
    while (at > 0 && kept > 0) {
        do
            at--;
        while (at > 0 && ((unsigned char)w->text[at] & 0xc0) == 0x80);
        if (at == 0)
            break;
        int32_t code = fur_utf8_get(w->text + at);
        if (end >= 0 && at + guard <= end && !fur_utf8_is_space(code))
            solid = true;
        if (!fur_normalizer_may_cut_before(&pipeline->normalizer, code) || fur_utf8_stray(code) >= 0)
            continue;
        if (end < 0)
            end = at;
        else if (solid && at + guard <= end)
            pipeline->mark_sources[--kept] = at;
    }
    w->mark_count = FUR_PIPELINE_MARKS - kept;
    memmove(pipeline->mark_sources, pipeline->mark_sources + kept, (size_t)w->mark_count * sizeof(int64_t));
    if (w->mark_count == 0)
        return false;
    w->bytes = end;
    return true;
}

/* ---- from text to pieces -------------------------------------------------------------------------------------- */

/* Normalises a span, in parts that begin at the marks within it, whose places in the result are noted. */
static fur_status normalize(fur_error *error, fur_pipeline *pipeline, const window *w, fur_span span, int64_t *mark)
{
    int64_t at = span.first;
    bool begins = span.first > 0 || w->begins;
    fur_string *out = &pipeline->normal;
    while (*mark < w->mark_count && pipeline->mark_sources[*mark] <= span.first)
        pipeline->marks[(*mark)++] = -1; /* beside a token */
    for (; *mark < w->mark_count && pipeline->mark_sources[*mark] < span.end; ++*mark) {
        int64_t next = pipeline->mark_sources[*mark];
        FUR_TRY(fur_normalizer_run(error, &pipeline->normalizer, w->text + at, next - at, begins, out));
        pipeline->marks[*mark] = out->length;
        begins = false;
        at = next;
    }
    return fur_normalizer_run(error, &pipeline->normalizer, w->text + at, span.end - at, begins, out);
}

/* Cuts out added tokens, before and after normalising; pieces of what lies between. */
static fur_status find_pieces(fur_error *error, fur_pipeline *pipeline, const window *w, bool specials,
                              fur_split_window *split)
{
    fur_spans *outer = &pipeline->outer, *inner = &pipeline->inner;
    fur_string *normal = &pipeline->normal;
    int64_t mark = 0;
    outer->length = inner->length = normal->length = 0;
    FUR_TRY(fur_added_split(error, &pipeline->added, false, specials, w->text, 0, w->bytes, outer));
    for (int64_t i = 0; i < outer->length; i++) {
        fur_span span = outer->data[i];
        int64_t start = normal->length;
        if (span.id >= 0) {
            FUR_TRY(fur_spans_add(error, inner, (fur_span){.first = start, .end = start, .id = span.id}));
            continue;
        }
        FUR_TRY(normalize(error, pipeline, w, span, &mark));
        FUR_TRY(fur_added_split(error, &pipeline->added, true, specials, normal->data, start, normal->length, inner));
    }
    while (mark < w->mark_count)
        pipeline->marks[mark++] = -1;
    const fur_span *first = outer->length > 0 ? &outer->data[0] : NULL;
    *split = (fur_split_window){.begins = w->begins || (first && first->id >= 0),
                                .first = w->begins,
                                .more = w->more,
                                .marks = pipeline->marks,
                                .mark_count = w->mark_count};
    return fur_splitter_run(error, &pipeline->splitter, normal, inner, split);
}

/* The last mark that is a boundary of pieces which nothing to come can change; pieces behind it are dropped. */
static int64_t choose_mark(fur_pipeline *pipeline, const fur_split_window *split)
{
    fur_spans *pieces = &pipeline->inner;
    int64_t certain = pieces->length - split->open, count = pieces->length;
    int64_t limit = pipeline->normal.length - pipeline->added.longest_normal;
    for (int64_t mark = split->mark_count - 1; mark >= 0; mark--) {
        int64_t at = split->marks[mark];
        if (at < 0 || at > limit)
            continue;
        while (count > 0 && pieces->data[count - 1].first >= at)
            count--;
        if (count == 0)
            return 0;
        const fur_span *before = &pieces->data[count - 1];
        bool behind = count < pieces->length && pieces->data[count].first == at;
        if (count > certain || before->id >= 0 || before->end > at || (before->end < at && !behind))
            continue;
        if (behind && pieces->data[count].id >= 0)
            continue;
        pieces->length = count;
        return pipeline->mark_sources[mark];
    }
    return 0;
}

/* ---- from pieces to ids --------------------------------------------------------------------------------------- */

static fur_status add_word(fur_error *error, fur_pipeline *pipeline, const char *text, int64_t bytes, fur_ids *out)
{
    const fur_word *known = fur_word_cache_find(&pipeline->cache, text, bytes);
    if (known) {
        FUR_TRY(fur_ids_reserve(error, out, FUR_WORD_IDS));
        memcpy(out->data + out->length, known->ids, sizeof known->ids);
        out->length += known->count;
        return FUR_OK;
    }
    int64_t before = out->length;
    if (pipeline->model == FUR_MODEL_UNIGRAM)
        FUR_TRY(fur_unigram_encode(error, &pipeline->unigram, text, bytes, out));
    else
        FUR_TRY(fur_bpe_encode(error, &pipeline->bpe, text, bytes, out));
    fur_word_cache_keep(&pipeline->cache, text, bytes, out->data + before, out->length - before);
    return FUR_OK;
}

static fur_status add_pieces(fur_error *error, fur_pipeline *pipeline, bool strays, fur_ids *out)
{
    for (int64_t i = 0; i < pipeline->inner.length; i++) {
        fur_span span = pipeline->inner.data[i];
        const char *text = pipeline->normal.data + span.first;
        int64_t bytes = span.end - span.first;
        if (span.id >= 0) {
            FUR_TRY(fur_ids_add(error, out, span.id));
            continue;
        }
        if (strays && pipeline->byte_level) {
            pipeline->word.length = 0;
            FUR_TRY(fur_utf8_restore(error, text, bytes, &pipeline->word));
            text = pipeline->word.data;
            bytes = pipeline->word.length;
        }
        FUR_TRY(add_word(error, pipeline, text, bytes, out));
    }
    return FUR_OK;
}

/* How many bytes of the text as it was given its first `bytes`, made whole, came from. */
static int64_t given_bytes(const fur_encoding *input, bool replace, int64_t bytes)
{
    int64_t given = 0;
    for (;;) {
        int64_t broken, valid = fur_utf8_check(input->text + given, input->bytes - given, &broken);
        if (valid >= bytes || broken == 0)
            return given + bytes;
        int64_t made = replace ? 3 : 3 * broken;
        given += valid + broken;
        bytes -= valid + made;
    }
}

static fur_status encode_window(fur_error *error, fur_pipeline *pipeline, const fur_encoding *input, fur_ids *out,
                                int64_t *used)
{
    int64_t broken, valid = fur_utf8_check(input->text, input->bytes, &broken);
    bool whole = valid == input->bytes, replace = !keeps_bytes(pipeline);
    window w = {.text = input->text, .bytes = input->bytes, .begins = input->begins, .more = !input->ends};
    *used = 0;
    if (!whole) {
        pipeline->whole.length = 0;
        FUR_TRY(fur_utf8_make_whole(error, input->text, input->bytes, replace, &pipeline->whole));
        w.text = pipeline->whole.data;
        w.bytes = pipeline->whole.length;
    }
    if (w.more && !place_marks(pipeline, &w))
        return FUR_OK;
    fur_split_window split;
    FUR_TRY(find_pieces(error, pipeline, &w, input->specials, &split));
    *used = input->bytes;
    if (w.more) {
        int64_t cut = choose_mark(pipeline, &split);
        *used = whole ? cut : given_bytes(input, replace, cut);
        if (cut == 0)
            return FUR_OK;
    }
    return add_pieces(error, pipeline, !whole, out);
}

static fur_status add_ids(fur_error *error, const fur_ids *ids, fur_ids *out)
{
    for (int64_t i = 0; i < ids->length; i++)
        FUR_TRY(fur_ids_add(error, out, ids->data[i]));
    return FUR_OK;
}

static fur_status encode(fur_error *error, const fur_tokenizer *tokenizer, const fur_encoding *input, fur_ids *out,
                         int64_t *used)
{
    fur_pipeline *pipeline = ((const fur_pipeline *)tokenizer)->self;
    int64_t before = out->length;
    fur_status status = FUR_OK;
    pthread_mutex_lock(&pipeline->lock);
    if (input->begins && input->first)
        status = add_ids(error, &pipeline->prefix, out);
    if (status == FUR_OK)
        status = encode_window(error, pipeline, input, out, used);
    if (status == FUR_OK && *used == 0 && !input->ends)
        out->length = before; /* nothing yet, what comes before it neither */
    if (status == FUR_OK && input->ends && input->last)
        status = add_ids(error, &pipeline->suffix, out);
    pthread_mutex_unlock(&pipeline->lock);
    return status;
}

/* ---- and back ------------------------------------------------------------------------------------------------- */

static fur_status decode(fur_error *error, const fur_tokenizer *tokenizer, const int32_t *ids, int64_t count,
                         bool specials, fur_string *out)
{
    const fur_pipeline *pipeline = (const fur_pipeline *)tokenizer;
    int64_t from = out->length;
    bool first = true;
    for (int64_t i = 0; i < count; i++) {
        int32_t added = pipeline->added_of[ids[i]];
        if (!specials && added >= 0 && pipeline->added.tokens[added].special)
            continue;
        if (first && pipeline->decoder.first_differs) {
            fur_string token = {0};
            fur_status status = written_form(error, pipeline, ids[i], &token);
            if (status == FUR_OK)
                status = fur_decoder_piece(error, &pipeline->decoder, token.data, token.length, true, out);
            fur_string_clear(&token);
            FUR_TRY(status);
        } else {
            int64_t bytes;
            const char *text = fur_vocabulary_text(&pipeline->pieces, ids[i], &bytes);
            FUR_TRY(fur_string_add(error, out, text, bytes));
        }
        first = false;
    }
    fur_decoder_finish(&pipeline->decoder, out, from);
    return FUR_OK;
}
