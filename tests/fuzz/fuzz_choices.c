/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a list of multiple-choice items: refused, or every entry lies within the tokens, belongs to an item of
 * two choices or more with one answer, and the sums of the list are those of its entries. The first byte chooses
 * whether bad lines are skipped, and whether tokens stay in RAM. */
#include "fuzz.h"

#include "io/json.h"
#include "text/choices.h"
#include "text/tokenizer.h"

static void read_ids(const fur_choices *list, int64_t first, int64_t count)
{
    static int32_t ids[1 << 16];
    fur_error error = {0};
    fuzz_require(first >= 0 && count > 0, "a text without tokens");
    if (count > 1 << 16)
        return;
    fuzz_require(fur_choices_ids(&error, list, first, count, ids) == FUR_OK, "tokens that cannot be read");
    for (int64_t t = 0; t < count; t++)
        fuzz_require(ids[t] >= 0 && ids[t] < 256, "an id that is no byte");
}

static void read_back(const fur_choices *list)
{
    fur_error error = {0};
    int64_t items = 0, tokens = 0, longest = 0, rights = 0;
    int64_t end = fur_spool_bytes(list->tokens) / (int64_t)sizeof(int32_t);
    for (int64_t i = 0; i < list->info.choices; i++) {
        fur_choice c;
        fuzz_require(fur_choices_entry(&error, list, i, &c) == FUR_OK, "an entry that cannot be read");
        fuzz_require(c.of >= 2 && c.index >= 0 && c.index < c.of && c.bytes == c.count, "an entry that is none");
        fuzz_require(c.prompt_first + c.prompt_count <= end && c.first + c.count <= end, "tokens that are not there");
        read_ids(list, c.prompt_first, c.prompt_count);
        read_ids(list, c.first, c.count);
        int64_t positions = fur_choice_positions(&c);
        tokens += positions;
        longest = positions > longest ? positions : longest;
        items += c.index == 0;
        rights += c.right;
    }
    fuzz_require(items == list->info.items && rights == items && items > 0, "items without one answer");
    fuzz_require(tokens == list->info.tokens && longest == list->info.longest, "sums of other entries");
    fuzz_require(list->info.chance > 0 && list->info.chance <= 0.5, "chance that is none");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    fur_json_setup();
    const char *path = fuzz_file(data + 1, size - 1, ".jsonl");
    int64_t live = fur_alloc_live();
    fur_error error = {0};
    fur_choices *list = NULL;
    fur_tokenizer *tokenizer = NULL;
    fur_choices_settings settings;
    fur_choices_settings_defaults(&settings);
    settings.path = path;
    settings.skip_bad = data[0] & 1;
    fuzz_require(fur_tokenizer_make(&error, "bytes", &tokenizer) == FUR_OK, "no tokenizer");
    fur_choices_limits limits = FUR_CHOICES_LIMITS;
    if (data[0] & 2)
        limits = (fur_choices_limits){.ram_bytes = 0, .line_bytes = 200};
    fur_status status = fur_choices_make(&error, &settings, tokenizer, limits, &list);
    if (status == FUR_OK)
        read_back(list);
    fur_choices_close(list);
    fur_tokenizer_close(tokenizer);
    fuzz_check_end(status, &error, live);
    return 0;
}
