/* SPDX-License-Identifier: Apache-2.0 */
#include "text/pipeline_parts.h"

#include <string.h>

#include "base/alloc.h"
#include "io/file.h"

fur_status fur_pipeline_add_pattern(fur_error *error, fur_pipeline *pipeline, const char *where, const char *pattern,
                                    int64_t bytes, bool literal, fur_split_behavior behavior, bool invert)
{
    fur_stage stage = {.kind = FUR_STAGE_PATTERN, .behavior = behavior, .invert = invert};
    FUR_TRY(fur_regex_compile(error, where, pattern, bytes, literal, &stage.pattern));
    return fur_splitter_add(error, &pipeline->splitter, stage);
}

fur_status fur_pipeline_add_decoding(fur_error *error, fur_pipeline *pipeline, const char *where, fur_decode_kind kind,
                                     const char *pattern, const char *content)
{
    fur_decode_step step = {.kind = kind};
    if (content)
        FUR_TRY(fur_string_add(error, &step.content, content, (int64_t)strlen(content)));
    fur_status status = FUR_OK;
    if (pattern)
        status = fur_regex_compile(error, where, pattern, (int64_t)strlen(pattern), true, &step.pattern);
    if (status != FUR_OK) {
        fur_string_clear(&step.content);
        return status;
    }
    return fur_decoder_add(error, &pipeline->decoder, where, step);
}

/* ---- tokens --------------------------------------------------------------------------------------------------- */

/* Byte-level: in bytes; what is no spelling of bytes, as special tokens may be, is not to be found. */
static fur_status keep_as_bytes(fur_error *error, fur_pipeline *pipeline, const fur_vocabulary *written,
                                fur_string *scratch)
{
    fur_vocabulary *vocabulary = &pipeline->vocabulary;
    FUR_TRY(fur_vocabulary_init(error, vocabulary, written->count));
    for (int32_t id = 0; id < written->count; id++) {
        int64_t bytes, length;
        const char *text = fur_vocabulary_text(written, id, &bytes);
        if (!text)
            continue;
        scratch->length = 0;
        FUR_TRY(fur_string_reserve(error, scratch, bytes + 1));
        if (bytes > 0 && fur_byte_level_decode(text, bytes, scratch->data, &length)) {
            FUR_TRY(fur_vocabulary_set(error, vocabulary, id, scratch->data, length, true));
            if (length == 1)
                pipeline->bpe.byte_ids[(unsigned char)scratch->data[0]] = id;
        } else {
            FUR_TRY(fur_vocabulary_set(error, vocabulary, id, text, bytes, false));
        }
    }
    return FUR_OK;
}

static void find_byte_tokens(const fur_vocabulary *vocabulary, int32_t byte_ids[256])
{
    static const char digits[] = "0123456789ABCDEF";
    for (int b = 0; b < 256; b++) {
        char token[6] = {'<', '0', 'x', digits[b >> 4], digits[b & 15], '>'};
        byte_ids[b] = fur_vocabulary_find(vocabulary, token, 6);
    }
}

fur_status fur_pipeline_take_tokens(fur_error *error, fur_pipeline *pipeline, fur_vocabulary *written)
{
    fur_status status = FUR_OK;
    if (pipeline->byte_level) {
        fur_string scratch = {0};
        status = keep_as_bytes(error, pipeline, written, &scratch);
        fur_string_clear(&scratch);
        fur_vocabulary_clear(written);
        return status;
    }
    pipeline->vocabulary = *written;
    *written = (fur_vocabulary){0};
    if (pipeline->model == FUR_MODEL_BPE && pipeline->bpe.byte_fallback)
        find_byte_tokens(&pipeline->vocabulary, pipeline->bpe.byte_ids);
    if (pipeline->model == FUR_MODEL_UNIGRAM && pipeline->unigram.byte_fallback)
        find_byte_tokens(&pipeline->vocabulary, pipeline->unigram.byte_ids);
    return FUR_OK;
}

static fur_status find_part(fur_error *error, const fur_vocabulary *written, const char *where, const char *text,
                            int64_t bytes, int32_t *id)
{
    *id = fur_vocabulary_find(written, text, bytes);
    if (*id >= 0)
        return FUR_OK;
    return fur_error_set(error, FUR_E_FORMAT, "%s: \"%.*s\" is no token of the vocabulary", where,
                         (int)(bytes < 60 ? bytes : 60), text);
}

fur_status fur_pipeline_add_merge(fur_error *error, fur_pipeline *pipeline, const fur_vocabulary *written,
                                  const char *where, const char *left, int64_t left_bytes, const char *right,
                                  int64_t right_bytes, uint32_t rank)
{
    int32_t left_id, right_id, merged = -1;
    FUR_TRY(find_part(error, written, where, left, left_bytes, &left_id));
    FUR_TRY(find_part(error, written, where, right, right_bytes, &right_id));
    char few[256], *both = few;
    int64_t bytes = left_bytes + right_bytes;
    if (bytes > (int64_t)sizeof few) {
        both = fur_malloc((size_t)bytes);
        if (!both)
            return fur_memory_error(error, bytes, "a merge");
    }
    memcpy(both, left, (size_t)left_bytes);
    memcpy(both + left_bytes, right, (size_t)right_bytes);
    fur_status status = find_part(error, written, where, both, bytes, &merged);
    if (both != few)
        fur_free(both);
    FUR_TRY(status);
    fur_bpe_add_merge(&pipeline->bpe, left_id, right_id, rank, merged);
    return FUR_OK;
}
