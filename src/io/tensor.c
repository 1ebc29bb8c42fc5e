/* SPDX-License-Identifier: Apache-2.0 */
#include "io/tensor.h"

#include <string.h>

#include "base/alloc.h"
#include "base/size.h"

#define CHUNK_BYTES 32768 /* on the stack while converting */

/* Cut, so that a long name leaves room for the reason. */
#define NAME_FORMAT "%s: tensor \"%.120s\": "

/* The tensor is there with this shape. */
static fur_status check_shape(fur_error *error, const fur_tensor *tensor, int rank, const int64_t *shape)
{
    const fur_tensor_info *info = tensor->info;
    const char *path = tensor->input->path;
    if (!info)
        return fur_error_set(error, FUR_E_FORMAT, "%s: tensor \"%.120s\" is missing", path, tensor->name);
    if (info->rank == rank && (rank <= 0 || memcmp(info->shape, shape, (size_t)rank * sizeof *shape) == 0))
        return FUR_OK;
    char has[160], wanted[160];
    fur_shape_text(info->rank, info->shape, has, sizeof has);
    fur_shape_text(rank, shape, wanted, sizeof wanted);
    return fur_error_set(error, FUR_E_SHAPE, NAME_FORMAT "shape %s, expected %s", path, tensor->name, has, wanted);
}

static fur_status nonfinite(fur_error *error, const fur_tensor *tensor, int64_t at, float value)
{
    return fur_error_set(error, FUR_E_NONFINITE, NAME_FORMAT "element %lld is %g, expected a finite f32",
                         tensor->input->path, tensor->name, (long long)at, (double)value);
}

fur_status fur_tensor_read_f32(fur_error *error, const fur_tensor *tensor, int rank, const int64_t *shape, bool finite,
                               float *out)
{
    const fur_tensor_info *info = tensor->info;
    FUR_TRY(check_shape(error, tensor, rank, shape));
    if (!fur_dtype_is_float(info->dtype))
        return fur_error_set(error, FUR_E_FORMAT, NAME_FORMAT "dtype %s, expected F32, F16, BF16 or F64",
                             tensor->input->path, tensor->name, fur_dtype_name(info->dtype));
    unsigned char chunk[CHUNK_BYTES];
    int64_t size = fur_dtype_bytes(info->dtype), block = fur_dtype_block(info->dtype);
    int64_t step = info->dtype == FUR_DTYPE_F32 ? info->count : CHUNK_BYTES / size * block;
    for (int64_t first = 0; first < info->count; first += step) {
        int64_t count = fur_min_i64(step, info->count - first);
        void *to = info->dtype == FUR_DTYPE_F32 ? (void *)out : chunk;
        FUR_TRY(fur_input_read(error, tensor->input, info->offset + first / block * size, to, count / block * size));
        if (to == chunk)
            fur_dtype_to_f32(info->dtype, chunk, count, out + first);
    }
    int64_t bad = finite ? fur_first_nonfinite(out, info->count) : -1;
    return bad < 0 ? FUR_OK : nonfinite(error, tensor, bad, out[bad]);
}

fur_status fur_tensor_check_finite(fur_error *error, const fur_tensor *tensor)
{
    const fur_tensor_info *info = tensor->info;
    if (!info || !fur_dtype_is_float(info->dtype))
        return fur_error_set(error, FUR_E_FORMAT, NAME_FORMAT "expected a tensor of floats", tensor->input->path,
                             tensor->name);
    float values[CHUNK_BYTES / 4];
    int64_t chunk[CHUNK_BYTES / 8], size = fur_dtype_bytes(info->dtype), block = fur_dtype_block(info->dtype);
    int64_t step = fur_min_i64(CHUNK_BYTES / size, CHUNK_BYTES / 4 / block) * block;
    for (int64_t first = 0; first < info->count; first += step) {
        int64_t count = fur_min_i64(step, info->count - first);
        FUR_TRY(fur_input_read(error, tensor->input, info->offset + first / block * size, chunk, count / block * size));
        fur_dtype_to_f32(info->dtype, chunk, count, values);
        int64_t bad = fur_first_nonfinite(values, count);
        if (bad >= 0)
            return nonfinite(error, tensor, first + bad, values[bad]);
    }
    return FUR_OK;
}

/* The same where the type must be this one. */
static fur_status check_exact(fur_error *error, const fur_tensor *tensor, fur_dtype dtype, int rank,
                              const int64_t *shape)
{
    FUR_TRY(check_shape(error, tensor, rank, shape));
    if (tensor->info->dtype == dtype)
        return FUR_OK;
    return fur_error_set(error, FUR_E_FORMAT, NAME_FORMAT "dtype %s, expected %s", tensor->input->path, tensor->name,
                         fur_dtype_name(tensor->info->dtype), fur_dtype_name(dtype));
}

fur_status fur_tensor_read_raw(fur_error *error, const fur_tensor *tensor, fur_dtype dtype, int rank,
                               const int64_t *shape, void *out)
{
    FUR_TRY(check_exact(error, tensor, dtype, rank, shape));
    return fur_input_read(error, tensor->input, tensor->info->offset, out, tensor->info->bytes);
}

fur_status fur_tensor_map_make(fur_error *error, const fur_tensor *tensor, fur_dtype dtype, int rank,
                               const int64_t *shape, fur_tensor_map *out)
{
    *out = (fur_tensor_map){0};
    FUR_TRY(check_exact(error, tensor, dtype, rank, shape));
    const fur_tensor_info *info = tensor->info;
    if (fur_dtype_block(dtype) == 1 && info->offset % fur_dtype_bytes(dtype))
        return fur_error_set(
            error, FUR_E_FORMAT, NAME_FORMAT "begins at byte %lld of the file, expected a multiple of %lld",
            tensor->input->path, tensor->name, (long long)info->offset, (long long)fur_dtype_bytes(dtype));
    int64_t before = info->offset % fur_page_bytes();
    void *pages = fur_pages_map_file(tensor->input->fd, info->offset - before, (size_t)(before + info->bytes));
    if (!pages)
        return fur_memory_error(error, info->bytes, tensor->name);
    *out = (fur_tensor_map){(const unsigned char *)pages + before, pages, before + info->bytes};
    return FUR_OK;
}

void fur_tensor_unmap(fur_tensor_map *map)
{
    fur_pages_unmap(map->pages, (size_t)map->page_bytes);
    *map = (fur_tensor_map){0};
}
