/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a corpus of JSONL lines: refused, or the documents give back as many positions as they were said to
 * have. The first byte chooses whether bad lines are skipped, and whether tokens stay in RAM. */
#include "fuzz.h"

#include "io/json.h"
#include "text/corpus.h"
#include "text/tokenizer.h"

static void read_back(const fur_corpus *corpus)
{
    static int32_t ids[1 << 16];
    fur_error error = {0};
    int64_t total = 0;
    for (int64_t i = 0; i < corpus->info.documents; i++) {
        int64_t tokens = fur_corpus_document_tokens(corpus, i);
        fuzz_require(tokens > 0, "an empty document");
        total += tokens;
        if (tokens > 1 << 16)
            continue;
        fuzz_require(fur_corpus_ids(&error, corpus, i, 0, tokens, ids) == FUR_OK, "a document that cannot be read");
        for (int64_t t = 0; t < tokens; t++)
            fuzz_require(ids[t] >= 0 && ids[t] < 256, "an id that is no byte");
    }
    fuzz_require(total == corpus->info.tokens, "positions that no document has");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    fur_json_setup();
    const char *path = fuzz_file(data + 1, size - 1, ".jsonl");
    int64_t live = fur_alloc_live();
    fur_error error = {0};
    fur_corpus *corpus = NULL;
    fur_tokenizer *tokenizer = NULL;
    fur_corpus_settings settings;
    fur_corpus_settings_defaults(&settings);
    settings.paths = &path;
    settings.path_count = 1;
    settings.skip_bad = data[0] & 1;
    fuzz_require(fur_tokenizer_make(&error, "bytes", &tokenizer) == FUR_OK, "no tokenizer");
    fur_corpus_limits limits = FUR_CORPUS_LIMITS;
    if (data[0] & 2)
        limits = (fur_corpus_limits){.ram_bytes = 0, .line_bytes = 200};
    fur_status status = fur_corpus_make(&error, &settings, tokenizer, limits, &corpus);
    if (status == FUR_OK)
        read_back(corpus);
    fur_corpus_close(corpus);
    fur_tokenizer_close(tokenizer);
    fuzz_check_end(status, &error, live);
    return 0;
}
