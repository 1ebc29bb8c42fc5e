/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a tokenizer.json: refused in one line, or a tokenizer, which encodes the file's own bytes: in windows as
 * in one piece, into ids it can decode, and back to the same bytes where it says so. What follows a NUL in the input is
 * a chat template, run on a conversation. */
#include "fuzz.h"

#include <string.h>

#include "io/json.h"
#include "text/chat.h"

static void encode(const fur_tokenizer *tokenizer, const char *text, int64_t bytes)
{
    fur_error error = {0};
    fur_ids whole = {0}, parts = {0};
    fur_string back = {0};
    fur_tokenizer_info info = {0};
    fur_encoding input = {.text = text, .bytes = bytes, .begins = true, .ends = true, .specials = true};
    int64_t used = 0, size = 96;
    fur_status status = tokenizer->kind->encode(&error, tokenizer, &input, &whole, &used);
    for (int64_t at = 0; status == FUR_OK && at < bytes; at += used) {
        fur_encoding window = input;
        window.text = text + at;
        window.bytes = size < bytes - at ? size : bytes - at;
        window.begins = at == 0;
        window.ends = window.bytes == bytes - at;
        status = tokenizer->kind->encode(&error, tokenizer, &window, &parts, &used);
        size = used > 0 ? 96 : 2 * size;
    }
    if (status == FUR_OK) { /* else an expression gave up, or a character has no token */
        fuzz_require(parts.length == whole.length &&
                         (whole.length == 0 || memcmp(parts.data, whole.data, (size_t)whole.length * 4) == 0),
                     "windows with other ids than the whole");
        for (int64_t i = 0; i < whole.length; i++)
            fuzz_require(whole.data[i] >= 0 && whole.data[i] < tokenizer->kind->vocabulary(tokenizer),
                         "an id beyond the vocabulary");
        fuzz_require(tokenizer->kind->decode(&error, tokenizer, whole.data, whole.length, true, &back) == FUR_OK,
                     "ids that do not decode");
        tokenizer->kind->describe(tokenizer, &info);
        if (info.round_trip)
            fuzz_require(back.length == bytes && memcmp(back.data, text, (size_t)bytes) == 0, "other bytes came back");
    }
    fur_ids_clear(&whole);
    fur_ids_clear(&parts);
    fur_string_clear(&back);
}

static void render(const char *template, int64_t bytes)
{
    fur_error error = {0};
    fur_jinja *jinja = NULL;
    fur_jinja_output out = {0};
    int64_t live = fur_alloc_live();
    json_t *variables =
        json_pack("{s:[{s:s, s:s}, {s:s, s:s}], s:b, s:s}", "messages", "role", "user", "content", " a\n", "role",
                  "assistant", "content", "b", "add_generation_prompt", 1, "bos_token", "<s>");
    fur_status status = fur_jinja_parse(&error, "template", template, bytes, &jinja);
    if (status == FUR_OK)
        status = fur_jinja_render(&error, jinja, variables, NULL, &out);
    if (status == FUR_OK)
        fuzz_require(out.text.length == out.marks.length, "text without its marks");
    fur_string_clear(&out.text);
    fur_string_clear(&out.marks);
    fur_jinja_destroy(jinja);
    json_decref(variables);
    fuzz_check_end(status, &error, live);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fur_json_setup();
    const char *text = (const char *)data;
    const uint8_t *end = size > 0 ? memchr(data, 0, size) : NULL;
    size_t json = end ? (size_t)(end - data) : size;
    int64_t live = fur_alloc_live();
    fur_error error = {0};
    fur_tokenizer *tokenizer = NULL;
    fur_status status = fur_tokenizer_make(&error, fuzz_file(data, json, ".json"), &tokenizer);
    if (status == FUR_OK) {
        encode(tokenizer, text, (int64_t)size);
        fur_tokenizer_close(tokenizer);
    }
    fuzz_check_end(status, &error, live);
    if (end)
        render((const char *)end + 1, (int64_t)(size - json - 1));
    return 0;
}
