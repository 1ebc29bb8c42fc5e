/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a config.json: refused in one line, or a shape that passes its check and whose parameters can be
 * counted. */
#include "fuzz.h"

#include "base/context.h"
#include "furlong/config.h"
#include "io/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct fur_context context;
    static fur_model_config config;
    fur_json_setup();
    const char *path = fuzz_file(data, size, ".json");
    int64_t live = fur_alloc_live();
    fur_status status = fur_config_read(&context, path, &config);
    if (status == FUR_OK) {
        fuzz_require(fur_config_check(&context, &config) == FUR_OK, "read, but does not pass its check");
        fuzz_require(fur_config_parameter_count(&config) > 0, "a model without parameters");
    }
    fuzz_check_end(status, &context.error, live);
    return 0;
}
