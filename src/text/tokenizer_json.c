/* SPDX-License-Identifier: Apache-2.0 */
#include "text/tokenizer_json.h"

#include <stdio.h>

void fur_json_part_make(const fur_json *whole, const char *key, int64_t index, json_t *value, fur_json_part *out)
{
    if (index < 0)
        snprintf(out->name, sizeof out->name, "%.400s: %s", whole->name, key);
    else
        snprintf(out->name, sizeof out->name, "%.400s: %s[%lld]", whole->name, key, (long long)index);
    out->json = (fur_json){.root = value, .name = out->name};
}

/* "truncation" and "padding" are how somebody last called the tokenizer: transformers ignores them too. */
fur_status fur_tokenizer_from_json(fur_error *error, const fur_json *json, fur_tokenizer **out)
{
    fur_pipeline *pipeline;
    FUR_TRY(fur_pipeline_create(error, json->name, &pipeline));
    fur_status status = fur_tokenizer_json_steps(error, json, pipeline);
    if (status == FUR_OK)
        status = fur_tokenizer_json_model(error, json, pipeline);
    if (status == FUR_OK)
        status = fur_pipeline_finish(error, pipeline);
    if (status != FUR_OK) {
        fur_pipeline_close(pipeline);
        return status;
    }
    *out = &pipeline->base;
    return FUR_OK;
}
