/* SPDX-License-Identifier: Apache-2.0 */
#include "text/corpus.h"

#include <string.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "base/context.h"
#include "base/size.h"
#include "io/file.h"
#include "io/folder.h"
#include "text/tokenizer.h"

#define CHUNK_BYTES 32768 /* on the stack while narrowing or widening */

/* ---- adding --------------------------------------------------------------------------------------------------- */

static void narrow(const int32_t *ids, int64_t count, int64_t element_bytes, unsigned char *out)
{
    if (element_bytes == 1)
        for (int64_t i = 0; i < count; i++)
            out[i] = (unsigned char)ids[i];
    else if (element_bytes == 2)
        for (int64_t i = 0; i < count; i++)
            memcpy(out + 2 * i, &(uint16_t){(uint16_t)ids[i]}, 2);
    else
        memcpy(out, ids, (size_t)count * 4);
}

static void widen(const unsigned char *stored, int64_t count, int64_t element_bytes, int32_t *ids)
{
    if (element_bytes == 1) {
        for (int64_t i = 0; i < count; i++)
            ids[i] = stored[i];
    } else if (element_bytes == 2) {
        for (int64_t i = 0; i < count; i++) {
            uint16_t id;
            memcpy(&id, stored + 2 * i, 2);
            ids[i] = id;
        }
    } else {
        memcpy(ids, stored, (size_t)count * 4);
    }
}

static fur_status append_narrow(fur_error *error, fur_spool *spool, const int32_t *ids, int64_t count,
                                int64_t element_bytes)
{
    unsigned char chunk[CHUNK_BYTES];
    int64_t step = CHUNK_BYTES / element_bytes;
    for (int64_t first = 0; first < count; first += step) {
        int64_t now = fur_min_i64(step, count - first);
        narrow(ids + first, now, element_bytes, chunk);
        FUR_TRY(fur_spool_append(error, spool, chunk, now * element_bytes));
    }
    return FUR_OK;
}

/* Ids at spool positions, unchecked. */
static fur_status read_wide(fur_error *error, const fur_corpus *corpus, int64_t position, int64_t count, int32_t *ids)
{
    unsigned char chunk[CHUNK_BYTES];
    int64_t step = CHUNK_BYTES / corpus->element_bytes;
    for (int64_t first = 0; first < count; first += step) {
        int64_t now = fur_min_i64(step, count - first);
        FUR_TRY(fur_spool_read(error, corpus->tokens, (position + first) * corpus->element_bytes, chunk,
                               now * corpus->element_bytes));
        widen(chunk, now, corpus->element_bytes, ids + first);
    }
    return FUR_OK;
}

/* Stores all ids anew, wider; happens at most twice. */
static fur_status change_width(fur_error *error, fur_corpus *corpus, int64_t element_bytes)
{
    fur_spool *wider;
    FUR_TRY(fur_spool_create(error, corpus->limits.ram_bytes, &wider));
    int32_t ids[CHUNK_BYTES / 4];
    int64_t step = CHUNK_BYTES / 4;
    fur_status status = FUR_OK;
    for (int64_t first = 0; first < corpus->info.tokens && status == FUR_OK; first += step) {
        int64_t now = fur_min_i64(step, corpus->info.tokens - first);
        status = read_wide(error, corpus, first, now, ids);
        if (status == FUR_OK)
            status = append_narrow(error, wider, ids, now, element_bytes);
    }
    if (status != FUR_OK) {
        fur_spool_destroy(wider);
        return status;
    }
    fur_spool_destroy(corpus->tokens);
    corpus->tokens = wider;
    corpus->element_bytes = element_bytes;
    return FUR_OK;
}

fur_status fur_corpus_add_ids(fur_corpus_builder *builder, const char *name, const int32_t *ids, int64_t count)
{
    fur_corpus *corpus = builder->corpus;
    for (int64_t i = 0; i < count; i++) {
        if (ids[i] < 0 || ids[i] >= builder->limit)
            return fur_error_set(builder->error, FUR_E_FORMAT, "%s: token id %d at position %lld, expected 0 to %lld",
                                 name, ids[i], (long long)(corpus->info.tokens - builder->document_start + i),
                                 (long long)builder->limit - 1);
        builder->highest = fur_max_i64(builder->highest, ids[i]);
    }
    int64_t needed = builder->highest < 256 ? 1 : builder->highest < 65536 ? 2 : 4;
    if (needed > corpus->element_bytes)
        FUR_TRY(change_width(builder->error, corpus, needed));
    FUR_TRY(append_narrow(builder->error, corpus->tokens, ids, count, corpus->element_bytes));
    fur_hash_update(&builder->hash, ids, count * (int64_t)sizeof *ids);
    corpus->info.tokens += count;
    return FUR_OK;
}

fur_status fur_corpus_add_vectors(fur_corpus_builder *builder, const float *x, int64_t rows)
{
    fur_corpus *corpus = builder->corpus;
    FUR_TRY(fur_spool_append(builder->error, corpus->tokens, x, rows * corpus->element_bytes));
    fur_hash_update(&builder->hash, x, rows * corpus->element_bytes);
    corpus->info.tokens += rows;
    return FUR_OK;
}

fur_status fur_corpus_add_prompt(fur_corpus_builder *builder, int64_t first)
{
    fur_corpus *corpus = builder->corpus;
    int64_t span[2] = {first, corpus->info.tokens};
    if (span[0] == span[1])
        return FUR_OK;
    corpus->info.prompt_tokens += span[1] - span[0];
    corpus->prompt_count++;
    fur_hash_update(&builder->hash, span, (int64_t)sizeof span);
    return fur_spool_append(builder->error, corpus->prompts, span, (int64_t)sizeof span);
}

fur_status fur_corpus_end_document(fur_corpus_builder *builder)
{
    fur_corpus *corpus = builder->corpus;
    int64_t end = corpus->info.tokens, length = end - builder->document_start;
    if (length == 0) {
        corpus->info.empty_documents++;
        return FUR_OK;
    }
    FUR_TRY(fur_spool_append(builder->error, corpus->ends, &end, (int64_t)sizeof end));
    fur_hash_update(&builder->hash, &length, (int64_t)sizeof length);
    corpus->info.documents++;
    builder->document_start = end;
    return FUR_OK;
}

/* ---- opening -------------------------------------------------------------------------------------------------- */

static fur_status add_folder(fur_corpus_builder *builder, const char *folder)
{
    fur_walk *walk;
    FUR_TRY(fur_walk_open(builder->error, folder, &walk));
    const char *path = NULL;
    fur_status status;
    do {
        status = fur_walk_next(builder->error, walk, &path);
        if (status == FUR_OK && path)
            status = fur_corpus_add_file(builder, path);
    } while (status == FUR_OK && path);
    fur_walk_close(walk);
    return status;
}

static fur_status add_path(fur_corpus_builder *builder, const char *path)
{
    struct stat about;
    if (strcmp(path, "-") != 0 && stat(path, &about) == 0 && S_ISDIR(about.st_mode))
        return add_folder(builder, path);
    return fur_corpus_add_file(builder, path); /* says what is wrong with a path that is not there */
}

static fur_status refuse_empty(const fur_corpus_builder *builder)
{
    const fur_corpus_settings *settings = builder->settings;
    const fur_corpus_info *info = &builder->corpus->info;
    if (builder->files == 0)
        return fur_error_set(builder->error, FUR_E_FORMAT, "%s: no files in it", settings->paths[0]);
    if (info->skipped_lines > 0)
        return fur_error_set(builder->error, FUR_E_FORMAT, "%s: no documents: %lld lines skipped, %lld documents empty",
                             settings->paths[0], (long long)info->skipped_lines, (long long)info->empty_documents);
    return fur_error_set(builder->error, FUR_E_FORMAT, "%s: empty, expected at least one document with content",
                         settings->paths[0]);
}

static fur_status finish(fur_corpus_builder *builder)
{
    fur_corpus *corpus = builder->corpus;
    if (corpus->info.documents == 0)
        return refuse_empty(builder);
    int64_t own = builder->tokenizer->kind->vocabulary(builder->tokenizer);
    if (builder->text_used && builder->highest >= own)
        return fur_error_set(builder->error, FUR_E_FORMAT,
                             "token id %lld in a .npy file, expected below %lld, the vocabulary of the tokenizer that "
                             "reads the other files",
                             (long long)builder->highest, (long long)own);
    if (corpus->content == FUR_CORPUS_TOKENS)
        corpus->info.vocabulary = builder->text_used ? own : builder->highest + 1;
    if (builder->arrays_used)
        corpus->info.text_bytes = 0;
    fur_hash_update(&builder->hash, &corpus->info.features, (int64_t)sizeof corpus->info.features);
    corpus->info.hash = fur_hash_end(&builder->hash);
    FUR_TRY(fur_spool_trim(builder->error, corpus->tokens));
    FUR_TRY(fur_spool_trim(builder->error, corpus->ends));
    FUR_TRY(fur_spool_trim(builder->error, corpus->prompts));
    corpus->info.bytes_held = fur_spool_ram_bytes(corpus->tokens) + fur_spool_ram_bytes(corpus->ends) +
                              fur_spool_ram_bytes(corpus->prompts) + (int64_t)sizeof *corpus;
    return FUR_OK;
}

static fur_status check_settings(fur_error *error, const fur_corpus_settings *settings)
{
    const int64_t most = (int64_t)INT32_MAX + 1;
    if (settings->struct_size != sizeof *settings)
        return fur_error_set(error, FUR_E_ARGUMENT, "corpus settings of %zu bytes, expected %zu from the defaults",
                             settings->struct_size, sizeof *settings);
    if (settings->path_count < 1 || !settings->paths)
        return fur_error_set(error, FUR_E_ARGUMENT, "no input files");
    if (settings->vocabulary < 0 || settings->vocabulary > most)
        return fur_error_set(error, FUR_E_ARGUMENT, "vocabulary %lld, expected 0 to %lld",
                             (long long)settings->vocabulary, (long long)most);
    return FUR_OK;
}

fur_status fur_corpus_make(fur_error *error, const fur_corpus_settings *settings, const fur_tokenizer *tokenizer,
                           fur_corpus_limits limits, fur_corpus **out)
{
    FUR_TRY(check_settings(error, settings));
    fur_corpus *corpus = fur_calloc(1, sizeof *corpus);
    if (!corpus)
        return fur_memory_error(error, (int64_t)sizeof *corpus, "a corpus");
    corpus->element_bytes = 1;
    corpus->limits = limits;
    fur_corpus_builder builder = {.error = error,
                                  .settings = settings,
                                  .tokenizer = tokenizer,
                                  .corpus = corpus,
                                  .limit = settings->vocabulary ? settings->vocabulary : (int64_t)INT32_MAX + 1,
                                  .highest = -1};
    fur_hash_begin(&builder.hash);
    fur_status status = fur_spool_create(error, limits.ram_bytes, &corpus->tokens);
    if (status == FUR_OK)
        status = fur_spool_create(error, limits.ram_bytes / 4, &corpus->ends);
    if (status == FUR_OK)
        status = fur_spool_create(error, limits.ram_bytes / 4, &corpus->prompts);
    for (int64_t i = 0; i < settings->path_count && status == FUR_OK; i++)
        status = add_path(&builder, settings->paths[i]);
    if (status == FUR_OK)
        status = finish(&builder);
    fur_jinja_destroy(builder.chat);
    if (status != FUR_OK) {
        fur_corpus_close(corpus);
        return status;
    }
    *out = corpus;
    return FUR_OK;
}

/* ---- reading -------------------------------------------------------------------------------------------------- */

static fur_status document_range(fur_error *error, const fur_corpus *corpus, int64_t document, int64_t *start,
                                 int64_t *end)
{
    if (document < 0 || document >= corpus->info.documents)
        return fur_error_set(error, FUR_E_ARGUMENT, "document %lld, expected 0 to %lld", (long long)document,
                             (long long)corpus->info.documents - 1);
    int64_t both[2] = {0, 0}; /* end of the one before, own end */
    int64_t bytes = (int64_t)sizeof both[0];
    if (document == 0)
        FUR_TRY(fur_spool_read(error, corpus->ends, 0, &both[1], bytes));
    else
        FUR_TRY(fur_spool_read(error, corpus->ends, (document - 1) * bytes, both, 2 * bytes));
    *start = both[0];
    *end = both[1];
    return FUR_OK;
}

/* Where position `first` of the document lies in the spool. */
static fur_status locate(fur_error *error, const fur_corpus *corpus, fur_corpus_content wanted, int64_t document,
                         int64_t first, int64_t count, int64_t *position)
{
    if (corpus->content != wanted)
        return fur_error_set(error, FUR_E_ARGUMENT, "the corpus holds %s, expected %s",
                             corpus->content == FUR_CORPUS_TOKENS ? "token ids" : "real vectors",
                             wanted == FUR_CORPUS_TOKENS ? "token ids" : "real vectors");
    int64_t start, end;
    FUR_TRY(document_range(error, corpus, document, &start, &end));
    if (first < 0 || count < 0 || first > end - start || count > end - start - first)
        return fur_error_set(error, FUR_E_ARGUMENT, "%lld positions from %lld on of document %lld, which has %lld",
                             (long long)count, (long long)first, (long long)document, (long long)(end - start));
    *position = start + first;
    return FUR_OK;
}

fur_status fur_corpus_ids(fur_error *error, const fur_corpus *corpus, int64_t document, int64_t first, int64_t count,
                          int32_t *ids)
{
    int64_t position = 0;
    FUR_TRY(locate(error, corpus, FUR_CORPUS_TOKENS, document, first, count, &position));
    return read_wide(error, corpus, position, count, ids);
}

static fur_status prompt_at(fur_error *error, const fur_corpus *corpus, int64_t index, int64_t span[2])
{
    int64_t bytes = 2 * (int64_t)sizeof span[0];
    return fur_spool_read(error, corpus->prompts, index * bytes, span, bytes);
}

/* The first prompt that ends behind `position`. */
static fur_status first_prompt(fur_error *error, const fur_corpus *corpus, int64_t position, int64_t *index)
{
    int64_t low = 0, high = corpus->prompt_count;
    while (low < high) {
        int64_t middle = low + (high - low) / 2, span[2];
        FUR_TRY(prompt_at(error, corpus, middle, span));
        if (span[1] > position)
            high = middle;
        else
            low = middle + 1;
    }
    *index = low;
    return FUR_OK;
}

fur_status fur_corpus_targets(fur_error *error, const fur_corpus *corpus, int64_t document, int64_t first,
                              int64_t count, int32_t *targets)
{
    int64_t position = 0, index, span[2];
    FUR_TRY(locate(error, corpus, FUR_CORPUS_TOKENS, document, first, count, &position));
    FUR_TRY(read_wide(error, corpus, position, count, targets));
    FUR_TRY(first_prompt(error, corpus, position, &index));
    for (; index < corpus->prompt_count; index++) {
        FUR_TRY(prompt_at(error, corpus, index, span));
        if (span[0] >= position + count)
            break;
        int64_t from = fur_max_i64(span[0], position), to = fur_min_i64(span[1], position + count);
        for (int64_t at = from; at < to; at++)
            targets[at - position] = -1;
    }
    return FUR_OK;
}

fur_status fur_corpus_vectors(fur_error *error, const fur_corpus *corpus, int64_t document, int64_t first,
                              int64_t count, float *x)
{
    int64_t position = 0;
    FUR_TRY(locate(error, corpus, FUR_CORPUS_VECTORS, document, first, count, &position));
    return fur_spool_read(error, corpus->tokens, position * corpus->element_bytes, x, count * corpus->element_bytes);
}

/* ---- public --------------------------------------------------------------------------------------------------- */

void fur_corpus_settings_defaults(fur_corpus_settings *settings)
{
    *settings = (fur_corpus_settings){.struct_size = sizeof *settings, .tokenizer = "bytes"};
}

fur_status fur_corpus_open(fur_context *context, const fur_corpus_settings *settings, fur_corpus **out)
{
    *out = NULL;
    fur_tokenizer *tokenizer;
    FUR_TRY(check_settings(&context->error, settings));
    FUR_TRY(fur_tokenizer_make(&context->error, settings->tokenizer, &tokenizer));
    fur_status status = fur_corpus_make(&context->error, settings, tokenizer, FUR_CORPUS_LIMITS, out);
    fur_tokenizer_close(tokenizer);
    if (status != FUR_OK || !*out)
        return status;
    const fur_corpus_info *info = &(*out)->info;
    if (info->skipped_lines > 0)
        fur_log(context, FUR_LOG_WARNING, "%lld lines that do not parse were skipped", (long long)info->skipped_lines);
    if (info->empty_documents > 0)
        fur_log(context, FUR_LOG_WARNING, "%lld empty documents were left out", (long long)info->empty_documents);
    return FUR_OK;
}

void fur_corpus_close(fur_corpus *corpus)
{
    if (!corpus)
        return;
    fur_spool_destroy(corpus->tokens);
    fur_spool_destroy(corpus->ends);
    fur_spool_destroy(corpus->prompts);
    fur_free(corpus);
}

void fur_corpus_info_read(const fur_corpus *corpus, fur_corpus_info *out)
{
    *out = corpus->info;
}

int64_t fur_corpus_document_tokens(const fur_corpus *corpus, int64_t document)
{
    int64_t start, end;
    return document_range(NULL, corpus, document, &start, &end) == FUR_OK ? end - start : -1;
}

fur_status fur_corpus_read_ids(fur_context *context, const fur_corpus *corpus, int64_t document, int64_t first,
                               int64_t count, int32_t *ids_T)
{
    return fur_corpus_ids(&context->error, corpus, document, first, count, ids_T);
}

fur_status fur_corpus_read_targets(fur_context *context, const fur_corpus *corpus, int64_t document, int64_t first,
                                   int64_t count, int32_t *target_T)
{
    return fur_corpus_targets(&context->error, corpus, document, first, count, target_T);
}

fur_status fur_corpus_read_vectors(fur_context *context, const fur_corpus *corpus, int64_t document, int64_t first,
                                   int64_t count, float *x_TI)
{
    return fur_corpus_vectors(&context->error, corpus, document, first, count, x_TI);
}
