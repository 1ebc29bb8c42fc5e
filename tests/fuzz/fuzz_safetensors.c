/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a safetensors file: refused, or every tensor lies inside the file and can be read. */
#include "fuzz.h"

#include <string.h>

#include "io/json.h"
#include "io/safetensors.h"

/* What is mapped is what is read. */
static void look_at_map(const fur_safetensors *file, const fur_tensor_info *info)
{
    fur_error error = {0};
    fur_tensor_map map;
    fur_status status = fur_safetensors_map(&error, file, info->name, info->dtype, info->rank, info->shape, &map);
    fuzz_require(status == FUR_OK || status == FUR_E_FORMAT, "a tensor that cannot be mapped");
    unsigned char *bytes = fur_malloc((size_t)info->bytes);
    fuzz_require(bytes != NULL, "no memory for a tensor that fits into the file");
    fuzz_require(fur_safetensors_read_raw(&error, file, info->name, info->dtype, info->rank, info->shape, bytes) ==
                     FUR_OK,
                 "a tensor that cannot be read");
    fuzz_require(status != FUR_OK || info->bytes == 0 || memcmp(bytes, map.data, (size_t)info->bytes) == 0,
                 "a map of other bytes");
    fur_free(bytes);
    fur_tensor_unmap(&map);
}

static void read_all(const fur_safetensors *file, int64_t size)
{
    for (int64_t i = 0; i < fur_safetensors_count(file); i++) {
        const fur_tensor_info *info = fur_safetensors_at(file, i);
        fuzz_require(info->offset >= 8 && info->bytes >= 0 && info->bytes <= size - info->offset,
                     "a tensor outside its file");
        fuzz_require(info->count >= 0 && info->count <= 8 * info->bytes, "more elements than bytes can hold");
        fuzz_require(fur_safetensors_find(file, info->name) == info, "a tensor that its name does not find");
        float *values = fur_malloc((size_t)info->count * sizeof *values);
        fuzz_require(values != NULL, "no memory for a tensor that fits into the file");
        fur_error error = {0};
        fur_status status = fur_safetensors_read_f32(&error, file, info->name, info->rank, info->shape, true, values);
        for (int64_t k = 0; status == FUR_OK && k < info->count; k++)
            fuzz_require(values[k] - values[k] == 0, "a value that is not finite");
        if (fur_dtype_is_float(info->dtype))
            fuzz_require(fur_safetensors_check_finite(&error, file, info->name) == status,
                         "a tensor that is finite in one way and not in the other");
        fur_free(values);
        look_at_map(file, info);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fur_json_setup();
    const char *path = fuzz_file(data, size, ".safetensors");
    int64_t live = fur_alloc_live();
    fur_error error = {0};
    fur_safetensors *file = NULL;
    fur_status status = fur_safetensors_open(&error, path, &file);
    if (status == FUR_OK)
        read_all(file, (int64_t)size);
    fur_safetensors_close(file);
    fuzz_check_end(status, &error, live);
    return 0;
}
