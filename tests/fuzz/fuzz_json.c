/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a JSON document: refused in one line, or parsed, and then the getters answer. */
#include "fuzz.h"

#include "io/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fur_json_setup();
    int64_t live = fur_alloc_live();
    fur_error error = {0};
    fur_json json = {0};
    fur_status status = fur_json_parse(&error, "input", (const char *)data, (int64_t)size, &json);
    if (status == FUR_OK) {
        int64_t integer = -1;
        double number = -1;
        const char *text = NULL;
        if (fur_json_int(&error, &json, "a", 0, 1000, &integer) == FUR_OK)
            fuzz_require(integer >= 0 && integer <= 1000, "an integer outside its range");
        if (fur_json_number(&error, &json, "a.b", -1.0, 1.0, &number) == FUR_OK)
            fuzz_require(number >= -1.0 && number <= 1.0, "a number outside its range");
        if (fur_json_string(&error, &json, "b", &text) == FUR_OK)
            fuzz_require(text != NULL, "a string that is not there");
    }
    fur_json_clear(&json);
    fuzz_check_end(status, &error, live);
    return 0;
}
