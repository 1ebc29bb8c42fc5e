/* SPDX-License-Identifier: Apache-2.0 */
#include "text/tokenizer_files.h"

#include <stdio.h>

#include "base/alloc.h"
#include "io/file.h"
#include "io/json.h"

/* Byte-level BPE writes each byte as a printable character: itself where that is one, else U+0100 and up in order of
 * the bytes that are not. UTF-8 of it, NUL-terminated. */
static void printable_character(int byte, char out[4])
{
    int code = byte, next = 0x100;
    for (int b = 0; b <= byte; b++) {
        int is_printable = (b >= '!' && b <= '~') || (b >= 0xa1 && b <= 0xac) || (b >= 0xae && b <= 0xff);
        code = is_printable ? b : next++;
    }
    if (code < 0x80) {
        snprintf(out, 4, "%c", code);
        return;
    }
    out[0] = (char)(0xc0 | code >> 6);
    out[1] = (char)(0x80 | (code & 0x3f));
    out[2] = 0;
}

static json_t *byte_vocabulary(void)
{
    json_t *vocabulary = json_object();
    for (int byte = 0; vocabulary && byte < 256; byte++) {
        char text[4];
        printable_character(byte, text);
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
