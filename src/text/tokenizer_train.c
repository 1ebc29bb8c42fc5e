/* SPDX-License-Identifier: Apache-2.0 */
/* A byte-level BPE tokenizer learned from text, written as tokenizer.json. */
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/context.h"
#include "base/size.h"
#include "furlong/data.h"
#include "io/file.h"
#include "io/folder.h"
#include "io/json.h"
#include "text/bpe_train.h"
#include "text/corpus.h"
#include "text/pipeline_parts.h"
#include "text/utf8.h"

/* Words as Llama 3 cuts them: letters with what stands before them, numbers of three digits, the rest by kind. */
#define WORDS                                                                                                              \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|" \
    "\\s+(?!\\S)|\\s+"
#define END_OF_TEXT  "<|endoftext|>"
#define WINDOW_BYTES 65536

typedef struct trainer {
    fur_error *error;
    const fur_corpus *corpus;
    fur_splitter splitter;
    fur_bpe_trainer *words;
    int32_t ids[4096]; /* bytes of the corpus */
    fur_string text;   /* as given, from the first piece that is not counted yet */
    fur_string whole;  /* with stand-ins */
    fur_string word;
    fur_spans pieces;
    int32_t byte_ids[256]; /* in order of the characters they are written as */
    fur_ids pairs;
} trainer;

/* ---- counting ------------------------------------------------------------------------------------------------- */

/* Counts the words of t->text, all of them or those that what follows cannot change; *used bytes. */
static fur_status count_window(trainer *t, bool more, int64_t *used)
{
    int64_t bytes = t->text.length;
    for (int64_t back = 1; more && back <= 3 && back <= bytes; back++) {
        if ((unsigned char)t->text.data[bytes - back] >= 0xc0) { /* a character that may go on */
            bytes -= back;
            break;
        }
    }
    t->whole.length = t->pieces.length = 0;
    FUR_TRY(fur_utf8_make_whole(t->error, t->text.data, bytes, false, &t->whole));
    *used = 0;
    if (t->whole.length == 0)
        return FUR_OK;
    FUR_TRY(fur_spans_add(t->error, &t->pieces, (fur_span){.end = t->whole.length, .id = -1}));
    fur_split_window window = {.begins = true, .first = true, .more = more};
    FUR_TRY(fur_splitter_run(t->error, &t->splitter, &t->whole, &t->pieces, &window));
    for (int64_t i = 0; i < t->pieces.length - window.open; i++) {
        fur_span piece = t->pieces.data[i];
        t->word.length = 0;
        FUR_TRY(fur_utf8_restore(t->error, t->whole.data + piece.first, piece.end - piece.first, &t->word));
        FUR_TRY(fur_bpe_trainer_add(t->error, t->words, t->word.data, t->word.length));
        *used += t->word.length;
    }
    return FUR_OK;
}

static fur_status count_document(trainer *t, int64_t document)
{
    int64_t tokens = fur_corpus_document_tokens(t->corpus, document), window = WINDOW_BYTES;
    t->text.length = 0;
    for (int64_t at = 0; at < tokens || t->text.length > 0;) {
        while (at < tokens && t->text.length < window) {
            int64_t count = fur_min_i64(4096, tokens - at);
            FUR_TRY(fur_corpus_ids(t->error, t->corpus, document, at, count, t->ids));
            FUR_TRY(fur_string_reserve(t->error, &t->text, count));
            for (int64_t i = 0; i < count; i++)
                t->text.data[t->text.length++] = (char)t->ids[i];
            at += count;
        }
        int64_t used;
        FUR_TRY(count_window(t, at < tokens, &used));
        t->text.length -= used;
        memmove(t->text.data, t->text.data + used, (size_t)t->text.length);
        window = used == 0 ? 2 * window : WINDOW_BYTES;
    }
    return FUR_OK;
}

static fur_status count_words(trainer *t)
{
    fur_stage stage = {.kind = FUR_STAGE_PATTERN};
    FUR_TRY(fur_regex_compile(t->error, "the pattern of words", WORDS, (int64_t)strlen(WORDS), false, &stage.pattern));
    FUR_TRY(fur_splitter_add(t->error, &t->splitter, stage));
    int32_t next = 0;
    for (int32_t code = 0; code <= 0x143; code++) {
        int byte = fur_byte_level_byte_of(code);
        if (byte >= 0)
            t->byte_ids[byte] = next++;
    }
    FUR_TRY(fur_bpe_trainer_create(t->error, t->byte_ids, &t->words));
    fur_corpus_info info;
    fur_corpus_info_read(t->corpus, &info);
    if (info.features > 0)
        return fur_error_set(t->error, FUR_E_FORMAT, "real vectors, expected text to learn tokens from");
    for (int64_t i = 0; i < info.documents; i++)
        FUR_TRY(count_document(t, i));
    return FUR_OK;
}

/* ---- writing -------------------------------------------------------------------------------------------------- */

/* The tokens as they are written, NUL-terminated, one after the other; spans say where. */
static fur_status spell(trainer *t, fur_string *text, fur_spans *tokens)
{
    for (int32_t code = 0; code <= 0x143; code++) {
        char character[4];
        if (fur_byte_level_byte_of(code) < 0)
            continue;
        fur_span span = {.first = text->length};
        FUR_TRY(fur_string_add(t->error, text, character, fur_utf8_put(code, character)));
        span.end = text->length;
        FUR_TRY(fur_string_add(t->error, text, "", 1));
        FUR_TRY(fur_spans_add(t->error, tokens, span));
    }
    for (int64_t i = 0; i < t->pairs.length; i++) {
        fur_span part = tokens->data[t->pairs.data[i]], span = {.first = text->length};
        FUR_TRY(fur_string_reserve(t->error, text, part.end - part.first + 1));
        memcpy(text->data + text->length, text->data + part.first, (size_t)(part.end - part.first));
        text->length += part.end - part.first;
        if (i % 2 == 0)
            continue; /* the right half follows */
        fur_span left = tokens->data[t->pairs.data[i - 1]];
        span.first = text->length - (part.end - part.first) - (left.end - left.first);
        span.end = text->length;
        text->data[text->length++] = 0;
        FUR_TRY(fur_spans_add(t->error, tokens, span));
    }
    return FUR_OK;
}

static json_t *merges_json(const trainer *t, const fur_string *text, const fur_spans *tokens, fur_string *scratch)
{
    json_t *merges = json_array();
    for (int64_t i = 0; merges && i < t->pairs.length; i += 2) {
        fur_span left = tokens->data[t->pairs.data[i]], right = tokens->data[t->pairs.data[i + 1]];
        scratch->length = 0;
        if (fur_string_add(t->error, scratch, text->data + left.first, left.end - left.first) != FUR_OK ||
            fur_string_add(t->error, scratch, " ", 1) != FUR_OK ||
            fur_string_add(t->error, scratch, text->data + right.first, right.end - right.first) != FUR_OK) {
            json_decref(merges);
            return NULL;
        }
        json_array_append_new(merges, json_stringn(scratch->data, (size_t)scratch->length));
    }
    return merges;
}

static json_t *tokenizer_json(const trainer *t, const fur_string *text, const fur_spans *tokens, fur_string *scratch)
{
    json_t *merges = merges_json(t, text, tokens, scratch), *vocabulary = json_object();
    int end = (int)tokens->length;
    for (int64_t i = 0; vocabulary && i < tokens->length; i++)
        json_object_set_new(vocabulary, text->data + tokens->data[i].first, json_integer(i));
    if (!merges || !vocabulary) {
        json_decref(merges);
        json_decref(vocabulary);
        return NULL;
    }
    return json_pack(
        "{s:s, s:n, s:n, s:[{s:i, s:s, s:b, s:b, s:b, s:b, s:b}], s:n, s:{s:s, s:[{s:s, s:{s:s}, s:s, s:b}, {s:s, s:b, "
        "s:b, s:b}]}, s:n, s:{s:s, s:b, s:b, s:b}, s:{s:s, s:n, s:n, s:n, s:n, s:b, s:b, s:b, s:o, s:o}}",
        "version", "1.0", "truncation", "padding", "added_tokens", "id", end, "content", END_OF_TEXT, "single_word", 0,
        "lstrip", 0, "rstrip", 0, "normalized", 0, "special", 1, "normalizer", "pre_tokenizer", "type", "Sequence",
        "pretokenizers", "type", "Split", "pattern", "Regex", WORDS, "behavior", "Isolated", "invert", 0, "type",
        "ByteLevel", "add_prefix_space", 0, "trim_offsets", 1, "use_regex", 0, "post_processor", "decoder", "type",
        "ByteLevel", "add_prefix_space", 0, "trim_offsets", 1, "use_regex", 0, "model", "type", "BPE", "dropout",
        "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk", 0, "byte_fallback", 0,
        "ignore_merges", 0, "vocab", vocabulary, "merges", merges);
}

static fur_status write_files(trainer *t, const char *folder)
{
    fur_string text = {0}, scratch = {0};
    fur_spans tokens = {0};
    fur_json_setup();
    fur_status status = spell(t, &text, &tokens);
    if (status == FUR_OK)
        status = fur_json_put(t->error, folder, "tokenizer.json", tokenizer_json(t, &text, &tokens, &scratch));
    if (status == FUR_OK)
        status =
            fur_json_put(t->error, folder, "tokenizer_config.json",
                         json_pack("{s:s, s:s, s:s, s:b}", "tokenizer_class", "PreTrainedTokenizerFast", "bos_token",
                                   END_OF_TEXT, "eos_token", END_OF_TEXT, "clean_up_tokenization_spaces", 0));
    fur_string_clear(&text);
    fur_string_clear(&scratch);
    fur_spans_clear(&tokens);
    return status;
}

/* ---- public --------------------------------------------------------------------------------------------------- */

static fur_status train(trainer *t, int64_t vocabulary, fur_tokenizer_trained *out)
{
    FUR_TRY(count_words(t));
    out->words = fur_bpe_trainer_words(t->words);
    FUR_TRY(fur_bpe_trainer_run(t->error, t->words, vocabulary - 257, &t->pairs));
    out->merges = t->pairs.length / 2;
    out->vocabulary = out->merges + 257;
    return FUR_OK;
}

fur_status fur_tokenizer_train(fur_context *context, const fur_corpus_settings *settings, int64_t vocabulary,
                               const char *folder, fur_tokenizer_trained *out)
{
    fur_error *error = &context->error;
    *out = (fur_tokenizer_trained){0};
    if (vocabulary < 257 || vocabulary > FUR_VOCABULARY_MOST)
        return fur_error_set(error, FUR_E_ARGUMENT, "a vocabulary of %lld tokens, expected 257 to %d",
                             (long long)vocabulary, FUR_VOCABULARY_MOST);
    fur_corpus_settings bytes = *settings;
    bytes.tokenizer = "bytes";
    bytes.vocabulary = 256;
    fur_corpus *corpus;
    FUR_TRY(fur_corpus_open(context, &bytes, &corpus));
    fur_corpus_info info;
    fur_corpus_info_read(corpus, &info);
    out->bytes = info.tokens;
    trainer t = {.error = error, .corpus = corpus};
    fur_status status = train(&t, vocabulary, out);
    if (status == FUR_OK)
        status = fur_folder_create(error, folder);
    if (status == FUR_OK)
        status = write_files(&t, folder);
    fur_splitter_clear(&t.splitter);
    fur_bpe_trainer_destroy(t.words);
    fur_string_clear(&t.text);
    fur_string_clear(&t.whole);
    fur_string_clear(&t.word);
    fur_spans_clear(&t.pieces);
    fur_ids_clear(&t.pairs);
    fur_corpus_close(corpus);
    return status;
}
