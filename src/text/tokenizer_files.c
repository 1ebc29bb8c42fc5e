/* SPDX-License-Identifier: Apache-2.0 */
#include "text/tokenizer_files.h"

#include <string.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "io/file.h"
#include "io/json.h"
#include "text/decoder.h"
#include "text/gguf_vocabulary.h"
#include "text/utf8.h"

static json_t *byte_vocabulary(void)
{
    json_t *vocabulary = json_object();
    for (int byte = 0; vocabulary && byte < 256; byte++) {
        char text[5] = {0};
        fur_utf8_put(fur_byte_level_character(byte), text);
        json_object_set_new(vocabulary, text, json_integer(byte));
    }
    return vocabulary;
}

static json_t *byte_level(int for_decoding)
{
    return json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", 0, "trim_offsets", for_decoding,
                     "use_regex", 0);
}

json_t *fur_tokenizer_files_bytes(void)
{
    return json_pack("{s:s, s:n, s:n, s:[], s:n, s:o, s:n, s:o, s:{s:s, s:n, s:n, s:n, s:n, s:b, s:b, s:o, s:[]}}",
                     "version", "1.0", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer",
                     byte_level(0), "post_processor", "decoder", byte_level(1), "model", "type", "BPE", "dropout",
                     "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk", 0, "byte_fallback", 0,
                     "vocab", byte_vocabulary(), "merges");
}

fur_status fur_tokenizer_files_write_bytes(fur_error *error, const char *folder, int64_t context)
{
    fur_json_setup();
    FUR_TRY(fur_json_put(error, folder, "tokenizer.json", fur_tokenizer_files_bytes()));
    return fur_json_put(error, folder, "tokenizer_config.json",
                        json_pack("{s:s, s:I, s:b}", "tokenizer_class", "PreTrainedTokenizerFast", "model_max_length",
                                  (json_int_t)context, "clean_up_tokenization_spaces", 0));
}

/* ---- copies --------------------------------------------------------------------------------------------------- */

const char *const fur_tokenizer_file_names[FUR_TOKENIZER_FILES] = {
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja", "tokenizer.model"};

static fur_status read_file(fur_error *error, const char *path, int i, fur_tokenizer_files *out)
{
    return fur_file_read(error, path, FUR_JSON_MAX_FILE, &out->content[i], &out->bytes[i]);
}

/* What the vocabulary of a GGUF file is as the first two of them. */
static fur_status read_gguf(fur_error *error, const char *path, fur_tokenizer_files *out)
{
    fur_json json[2] = {{0}, {0}};
    fur_status status = fur_gguf_vocabulary_open(error, path, &json[0], &json[1]);
    for (int i = 0; i < 2 && status == FUR_OK; i++) {
        out->content[i] = json_dumps(json[i].root, JSON_INDENT(2));
        if (out->content[i])
            out->bytes[i] = (int64_t)strlen(out->content[i]);
        else
            status = fur_memory_error(error, 4096, path);
    }
    fur_json_clear(&json[0]);
    fur_json_clear(&json[1]);
    if (status != FUR_OK)
        fur_tokenizer_files_clear(out);
    return status;
}

fur_status fur_tokenizer_files_read(fur_error *error, const char *path, fur_tokenizer_files *out)
{
    bool gguf;
    struct stat about;
    fur_status status = FUR_OK;
    *out = (fur_tokenizer_files){0};
    if (stat(path, &about) == 0 && S_ISREG(about.st_mode)) {
        FUR_TRY(fur_gguf_is(error, path, &gguf));
        return gguf ? read_gguf(error, path, out) : read_file(error, path, 0, out);
    }
    for (int i = 0; i < FUR_TOKENIZER_FILES && status == FUR_OK; i++) {
        char *file = NULL;
        status = fur_path_join(error, path, fur_tokenizer_file_names[i], &file);
        if (status == FUR_OK && (i == 0 || fur_path_exists(file)))
            status = read_file(error, file, i, out);
        fur_free(file);
    }
    if (status != FUR_OK)
        fur_tokenizer_files_clear(out);
    return status;
}

fur_status fur_tokenizer_files_write(fur_error *error, const fur_tokenizer_files *files, const char *folder)
{
    for (int i = 0; i < FUR_TOKENIZER_FILES; i++) {
        char *path = NULL;
        if (!files->content[i])
            continue;
        FUR_TRY(fur_path_join(error, folder, fur_tokenizer_file_names[i], &path));
        fur_status status = fur_file_write(error, path, files->content[i], files->bytes[i]);
        fur_free(path);
        FUR_TRY(status);
    }
    return FUR_OK;
}

void fur_tokenizer_files_clear(fur_tokenizer_files *files)
{
    for (int i = 0; i < FUR_TOKENIZER_FILES; i++)
        fur_free(files->content[i]);
    *files = (fur_tokenizer_files){0};
}
