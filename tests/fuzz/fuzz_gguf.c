/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a GGUF file: refused, or every tensor lies inside the file and can be read, and every value as what it
 * is. */
#include "fuzz.h"

#include <string.h>

#include "io/gguf.h"

static void read_tensors(const fur_gguf *file, int64_t size)
{
    for (int64_t i = 0; i < fur_gguf_count(file); i++) {
        const fur_tensor_info *info = fur_gguf_at(file, i);
        fuzz_require(info->offset >= 24 && info->bytes > 0 && info->bytes <= size - info->offset,
                     "a tensor outside its file");
        fuzz_require(info->count > 0 && info->count <= 2 * info->bytes, "more elements than bytes can hold");
        fuzz_require(fur_gguf_find(file, info->name) == info, "a tensor that its name does not find");
        if (!fur_dtype_is_float(info->dtype))
            continue;
        float *values = fur_malloc((size_t)info->count * sizeof *values);
        fuzz_require(values != NULL, "no memory for a tensor that fits into the file");
        fur_error error = {0};
        fur_tensor tensor = {fur_gguf_input(file), info, info->name};
        fur_status status = fur_tensor_read_f32(&error, &tensor, info->rank, info->shape, true, values);
        fuzz_require(status == FUR_OK || status == FUR_E_NONFINITE, "a tensor that cannot be read");
        for (int64_t k = 0; status == FUR_OK && k < info->count; k++)
            fuzz_require(values[k] - values[k] == 0, "a value that is not finite");
        fuzz_require(fur_tensor_check_finite(&error, &tensor) == status,
                     "a tensor that is finite in one way and not in the other");
        fur_free(values);
    }
}

static void read_array(const fur_gguf *file, const fur_gguf_value *value)
{
    fur_error error = {0};
    fur_gguf_texts texts;
    if (value->type == FUR_GGUF_TEXT) {
        fuzz_require(fur_gguf_texts_read(&error, file, value->key, &texts) == FUR_OK, "texts that cannot be read");
        fuzz_require(texts.count == value->count && texts.starts[texts.count] <= value->bytes, "other texts");
        fur_gguf_texts_clear(&texts);
    } else if (value->type == FUR_GGUF_I32 || value->type == FUR_GGUF_F32) {
        void *numbers = fur_malloc((size_t)value->bytes);
        fuzz_require(numbers != NULL, "no memory for an array that fits into the file");
        fuzz_require(fur_gguf_array_read(&error, file, value->key, value->type, value->count, numbers) == FUR_OK,
                     "an array that cannot be read");
        fur_free(numbers);
    }
}

static void read_values(const fur_gguf *file, int64_t size)
{
    for (int64_t i = 0; i < fur_gguf_values(file); i++) {
        const fur_gguf_value *value = fur_gguf_value_at(file, i);
        fuzz_require(value->offset >= 24 && value->bytes >= 0 && value->bytes <= size - value->offset,
                     "a value outside its file");
        fuzz_require(fur_gguf_value_find(file, value->key) == value, "a value that its key does not find");
        fur_error error = {0};
        int64_t integer;
        double number;
        bool yes;
        char *text = NULL;
        (void)fur_gguf_int(&error, file, value->key, INT64_MIN, INT64_MAX, &integer);
        (void)fur_gguf_number(&error, file, value->key, -1e300, 1e300, &number);
        (void)fur_gguf_bool_or(&error, file, value->key, false, &yes);
        (void)fur_gguf_text(&error, file, value->key, &text);
        fur_free(text);
        if (value->array)
            read_array(file, value);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *path = fuzz_file(data, size, ".gguf");
    int64_t live = fur_alloc_live();
    fur_error error = {0};
    fur_gguf *file = NULL;
    fur_status status = fur_gguf_open(&error, path, &file);
    if (status == FUR_OK) {
        read_tensors(file, (int64_t)size);
        read_values(file, (int64_t)size);
    }
    fur_gguf_close(file);
    fuzz_check_end(status, &error, live);
    return 0;
}
