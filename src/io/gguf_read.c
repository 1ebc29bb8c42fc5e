/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/size.h"
#include "io/gguf.h"
#include "io/name_table.h"

struct fur_gguf {
    fur_input input;
    int64_t version, alignment;
    fur_gguf_value *values;
    int64_t value_count;
    fur_name_table by_key;
    fur_tensor_info *infos;
    int64_t count;
    fur_name_table by_name;
};

/* Cut, so that a long name leaves room for the reason. */
#define KEY_FORMAT    "%s: key \"%.120s\": "
#define TENSOR_FORMAT "%s: tensor \"%.120s\": "

static const struct {
    const char *name;
    int64_t bytes; /* 0: by its length */
} types[FUR_GGUF_TYPES] = {
    [FUR_GGUF_U8] = {"u8", 1},       [FUR_GGUF_I8] = {"i8", 1},     [FUR_GGUF_U16] = {"u16", 2},
    [FUR_GGUF_I16] = {"i16", 2},     [FUR_GGUF_U32] = {"u32", 4},   [FUR_GGUF_I32] = {"i32", 4},
    [FUR_GGUF_F32] = {"f32", 4},     [FUR_GGUF_BOOL] = {"bool", 1}, [FUR_GGUF_TEXT] = {"text", 0},
    [FUR_GGUF_ARRAY] = {"array", 0}, [FUR_GGUF_U64] = {"u64", 8},   [FUR_GGUF_I64] = {"i64", 8},
    [FUR_GGUF_F64] = {"f64", 8},
};

const char *fur_gguf_type_name(fur_gguf_type type)
{
    return types[type].name;
}

static const struct {
    uint32_t number;
    fur_dtype dtype;
} tensor_types[] = {
    {0, FUR_DTYPE_F32},   {1, FUR_DTYPE_F16},   {2, FUR_DTYPE_Q4_0}, {3, FUR_DTYPE_Q4_1},
    {6, FUR_DTYPE_Q5_0},  {7, FUR_DTYPE_Q5_1},  {8, FUR_DTYPE_Q8_0}, {12, FUR_DTYPE_Q4_K},
    {13, FUR_DTYPE_Q5_K}, {14, FUR_DTYPE_Q6_K}, {24, FUR_DTYPE_I8},  {25, FUR_DTYPE_I16},
    {26, FUR_DTYPE_I32},  {27, FUR_DTYPE_I64},  {28, FUR_DTYPE_F64}, {30, FUR_DTYPE_BF16},
};
#define TENSOR_TYPES (sizeof tensor_types / sizeof tensor_types[0])

bool fur_gguf_dtype(uint32_t number, fur_dtype *out)
{
    for (size_t i = 0; i < TENSOR_TYPES; i++)
        if (tensor_types[i].number == number) {
            *out = tensor_types[i].dtype;
            return true;
        }
    return false;
}

uint32_t fur_gguf_dtype_number(fur_dtype dtype)
{
    size_t i = 0;
    while (i < TENSOR_TYPES - 1 && tensor_types[i].dtype != dtype)
        i++;
    return tensor_types[i].number;
}

/* ---- a walk through the file ------------------------------------------------------------------------------------- */

typedef struct cursor {
    const fur_input *input;
    int64_t at;          /* of the next byte, from the start of the file */
    int64_t first, last; /* bytes of the file that are in the buffer */
    unsigned char buffer[65536];
} cursor;

static int64_t left(const cursor *c)
{
    return c->input->bytes - c->at;
}

static fur_status ends_early(fur_error *error, const cursor *c, const char *what)
{
    return fur_error_set(error, FUR_E_FORMAT, "%s: the file of %lld bytes ends at byte %lld, in %s", c->input->path,
                         (long long)c->input->bytes, (long long)c->at, what);
}

static fur_status get_bytes(fur_error *error, cursor *c, const char *what, void *out, int64_t bytes)
{
    if (bytes > left(c))
        return ends_early(error, c, what);
    if (bytes > (int64_t)sizeof c->buffer) {
        FUR_TRY(fur_input_read(error, c->input, c->at, out, bytes));
    } else {
        if (c->at < c->first || c->at + bytes > c->last) {
            int64_t now = fur_min_i64((int64_t)sizeof c->buffer, left(c));
            FUR_TRY(fur_input_read(error, c->input, c->at, c->buffer, now));
            c->first = c->at;
            c->last = c->at + now;
        }
        memcpy(out, c->buffer + (c->at - c->first), (size_t)bytes);
    }
    c->at += bytes;
    return FUR_OK;
}

static uint64_t of_bytes(const unsigned char *bytes, int64_t count)
{
    uint64_t value = 0;
    for (int64_t i = count; i > 0; i--)
        value = value << 8 | bytes[i - 1];
    return value;
}

static fur_status get_u32(fur_error *error, cursor *c, const char *what, uint32_t *out)
{
    unsigned char bytes[4];
    FUR_TRY(get_bytes(error, c, what, bytes, 4));
    *out = (uint32_t)of_bytes(bytes, 4);
    return FUR_OK;
}

static fur_status get_u64(fur_error *error, cursor *c, const char *what, uint64_t *out)
{
    unsigned char bytes[8];
    FUR_TRY(get_bytes(error, c, what, bytes, 8));
    *out = of_bytes(bytes, 8);
    return FUR_OK;
}

/* A length of at most `most` that what is left of the file holds. */
static fur_status get_length(fur_error *error, cursor *c, const char *what, int64_t most, int64_t *out)
{
    uint64_t length;
    int64_t at = c->at;
    FUR_TRY(get_u64(error, c, what, &length));
    if (length > (uint64_t)most)
        return fur_error_set(error, FUR_E_FORMAT, "%s: byte %lld: %s of %llu bytes, expected at most %lld",
                             c->input->path, (long long)at, what, (unsigned long long)length, (long long)most);
    if ((int64_t)length > left(c))
        return ends_early(error, c, what);
    *out = (int64_t)length;
    return FUR_OK;
}

/* A name; free *out with fur_free. */
static fur_status get_name(fur_error *error, cursor *c, const char *what, int64_t most, char **out)
{
    int64_t at = c->at, bytes;
    FUR_TRY(get_length(error, c, what, most, &bytes));
    char *name = fur_malloc((size_t)bytes + 1);
    if (!name)
        return fur_memory_error(error, bytes + 1, c->input->path);
    fur_status status = get_bytes(error, c, what, name, bytes);
    name[bytes] = 0;
    if (status == FUR_OK && (bytes == 0 || strlen(name) != (size_t)bytes))
        status = fur_error_set(error, FUR_E_FORMAT, "%s: byte %lld: %s that is empty or has a NUL in it",
                               c->input->path, (long long)at, what);
    if (status != FUR_OK) {
        fur_free(name);
        return status;
    }
    *out = name;
    return FUR_OK;
}

static fur_status get_count(fur_error *error, cursor *c, const char *what, int64_t most, int64_t *out)
{
    uint64_t count;
    FUR_TRY(get_u64(error, c, what, &count));
    if (count > (uint64_t)most)
        return fur_error_set(error, FUR_E_FORMAT, "%s: %llu %s, expected at most %lld", c->input->path,
                             (unsigned long long)count, what, (long long)most);
    *out = (int64_t)count;
    return FUR_OK;
}

/* Each takes at least `bytes`. */
static fur_status check_room(fur_error *error, const cursor *c, const char *what, int64_t count, int64_t bytes)
{
    if (count <= left(c) / bytes)
        return FUR_OK;
    return fur_error_set(error, FUR_E_FORMAT, "%s: %lld %s do not fit into the %lld bytes from byte %lld on",
                         c->input->path, (long long)count, what, (long long)left(c), (long long)c->at);
}

/* ---- values ------------------------------------------------------------------------------------------------------ */

static fur_status parse_array(fur_error *error, cursor *c, fur_gguf_value *value)
{
    const char *path = c->input->path;
    uint32_t type;
    uint64_t count;
    FUR_TRY(get_u32(error, c, "the type of an array", &type));
    if (type == FUR_GGUF_ARRAY)
        return fur_error_set(error, FUR_E_FORMAT, KEY_FORMAT "an array of arrays, expected one of numbers or texts",
                             path, value->key);
    if (type >= FUR_GGUF_TYPES)
        return fur_error_set(error, FUR_E_FORMAT, KEY_FORMAT "an array of type %u, expected at most %d", path,
                             value->key, (unsigned)type, FUR_GGUF_TYPES - 1);
    FUR_TRY(get_u64(error, c, "the length of an array", &count));
    if (count > FUR_GGUF_MAX_ELEMENTS)
        return fur_error_set(error, FUR_E_FORMAT, KEY_FORMAT "an array of %llu elements, expected at most %d", path,
                             value->key, (unsigned long long)count, FUR_GGUF_MAX_ELEMENTS);
    value->type = (fur_gguf_type)type;
    value->array = true;
    value->count = (int64_t)count;
    return FUR_OK;
}

/* Steps over the value, which is then known to lie in the file. */
static fur_status skip_value(fur_error *error, cursor *c, fur_gguf_value *value)
{
    int64_t size = types[value->type].bytes;
    value->offset = c->at;
    if (size > 0) {
        if (value->count > left(c) / size)
            return ends_early(error, c, value->key);
        c->at += value->count * size;
    }
    for (int64_t i = 0; size == 0 && i < value->count; i++) {
        int64_t bytes;
        FUR_TRY(get_length(error, c, "a text", FUR_GGUF_MAX_TEXT, &bytes));
        c->at += bytes;
    }
    value->bytes = c->at - value->offset;
    return FUR_OK;
}

static fur_status parse_value(fur_error *error, cursor *c, fur_gguf_value *value)
{
    uint32_t type;
    FUR_TRY(get_u32(error, c, "the type of a value", &type));
    if (type >= FUR_GGUF_TYPES)
        return fur_error_set(error, FUR_E_FORMAT, KEY_FORMAT "a value of type %u, expected at most %d", c->input->path,
                             value->key, (unsigned)type, FUR_GGUF_TYPES - 1);
    value->type = (fur_gguf_type)type;
    value->count = 1;
    if (type == FUR_GGUF_ARRAY)
        FUR_TRY(parse_array(error, c, value));
    return skip_value(error, c, value);
}

static fur_status parse_values(fur_error *error, cursor *c, int64_t count, fur_gguf *file)
{
    FUR_TRY(check_room(error, c, "values", count, 13));
    file->values = fur_calloc((size_t)count, sizeof *file->values);
    if (!file->values)
        return fur_memory_error(error, count * (int64_t)sizeof *file->values, c->input->path);
    FUR_TRY(fur_name_table_init(error, &file->by_key, count));
    for (int64_t i = 0; i < count; i++) {
        char *key;
        FUR_TRY(get_name(error, c, "a key", FUR_GGUF_MAX_KEY, &key));
        fur_gguf_value *value = &file->values[file->value_count++];
        value->key = key;
        if (!fur_name_table_add(&file->by_key, key, i))
            return fur_error_set(error, FUR_E_FORMAT, KEY_FORMAT "it is there twice", c->input->path, key);
        FUR_TRY(parse_value(error, c, value));
    }
    return FUR_OK;
}

/* ---- tensors ----------------------------------------------------------------------------------------------------- */

static fur_status parse_sizes(fur_error *error, cursor *c, fur_tensor_info *info)
{
    const char *path = c->input->path;
    uint32_t rank;
    FUR_TRY(get_u32(error, c, "the number of a tensor's sizes", &rank));
    if (rank < 1 || rank > FUR_GGUF_MAX_RANK)
        return fur_error_set(error, FUR_E_FORMAT, TENSOR_FORMAT "%u sizes, expected 1 to %d", path, info->name,
                             (unsigned)rank, FUR_GGUF_MAX_RANK);
    info->rank = (int)rank;
    for (int i = info->rank - 1; i >= 0; i--) {
        uint64_t size;
        FUR_TRY(get_u64(error, c, "the sizes of a tensor", &size));
        if (size < 1 || size > INT64_MAX)
            return fur_error_set(error, FUR_E_FORMAT, TENSOR_FORMAT "a size of %llu, expected 1 or more", path,
                                 info->name, (unsigned long long)size);
        info->shape[i] = (int64_t)size;
    }
    return FUR_OK;
}

static fur_status parse_tensor(fur_error *error, cursor *c, fur_tensor_info *info)
{
    const char *path = c->input->path;
    uint32_t type;
    uint64_t offset;
    FUR_TRY(parse_sizes(error, c, info));
    FUR_TRY(get_u32(error, c, "the type of a tensor", &type));
    if (!fur_gguf_dtype(type, &info->dtype))
        return fur_error_set(error, FUR_E_UNSUPPORTED,
                             TENSOR_FORMAT "of type %u, this version has F32, F16, BF16, F64, Q4_0, Q4_1, Q5_0, Q5_1, "
                                           "Q8_0, Q4_K, Q5_K, Q6_K and integers",
                             path, info->name, (unsigned)type);
    int64_t block = fur_dtype_block(info->dtype), row = info->shape[info->rank - 1];
    if (row % block)
        return fur_error_set(error, FUR_E_FORMAT,
                             TENSOR_FORMAT "rows of %lld, expected a multiple of %s's block of %lld", path, info->name,
                             (long long)row, fur_dtype_name(info->dtype), (long long)block);
    if (!fur_shape_count(info->rank, info->shape, &info->count) ||
        !fur_mul_ok(info->count / block, fur_dtype_bytes(info->dtype), &info->bytes)) {
        char text[160];
        fur_shape_text(info->rank, info->shape, text, sizeof text);
        return fur_error_set(error, FUR_E_FORMAT, TENSOR_FORMAT "shape %s overflows", path, info->name, text);
    }
    FUR_TRY(get_u64(error, c, "the offset of a tensor", &offset));
    if (offset > INT64_MAX)
        return fur_error_set(error, FUR_E_FORMAT, TENSOR_FORMAT "offset %llu, beyond any file", path, info->name,
                             (unsigned long long)offset);
    info->offset = (int64_t)offset;
    return FUR_OK;
}

static fur_status parse_tensors(fur_error *error, cursor *c, int64_t count, fur_gguf *file)
{
    FUR_TRY(check_room(error, c, "tensors", count, 33));
    file->infos = fur_calloc((size_t)count, sizeof *file->infos);
    if (!file->infos)
        return fur_memory_error(error, count * (int64_t)sizeof *file->infos, c->input->path);
    FUR_TRY(fur_name_table_init(error, &file->by_name, count));
    for (int64_t i = 0; i < count; i++) {
        char *name;
        FUR_TRY(get_name(error, c, "a tensor's name", FUR_GGUF_MAX_NAME, &name));
        fur_tensor_info *info = &file->infos[file->count++];
        info->name = name;
        if (!fur_name_table_add(&file->by_name, name, i))
            return fur_error_set(error, FUR_E_FORMAT, TENSOR_FORMAT "it is there twice", c->input->path, name);
        FUR_TRY(parse_tensor(error, c, info));
    }
    return FUR_OK;
}

static int by_offset(const void *a, const void *b)
{
    const fur_tensor_info *const *x = a, *const *y = b;
    return (*x)->offset < (*y)->offset ? -1 : (*x)->offset > (*y)->offset;
}

/* Offsets become those from the start of the file. None is empty, so that each begins behind the one before. */
static fur_status place_tensors(fur_error *error, fur_gguf *file, int64_t data_start)
{
    const char *path = file->input.path;
    const fur_tensor_info **order = fur_calloc((size_t)file->count, sizeof(fur_tensor_info *));
    if (!order)
        return fur_memory_error(error, file->count * (int64_t)sizeof(fur_tensor_info *), path);
    fur_status status = FUR_OK;
    int64_t data_bytes = file->input.bytes - fur_min_i64(data_start, file->input.bytes);
    for (int64_t i = 0; status == FUR_OK && i < file->count; i++) {
        fur_tensor_info *info = &file->infos[i];
        if (info->offset % file->alignment)
            status = fur_error_set(error, FUR_E_FORMAT, TENSOR_FORMAT "offset %lld, expected a multiple of %lld", path,
                                   info->name, (long long)info->offset, (long long)file->alignment);
        else if (info->bytes > data_bytes || info->offset > data_bytes - info->bytes)
            status = fur_error_set(error, FUR_E_FORMAT,
                                   TENSOR_FORMAT "%lld bytes at offset %lld of the data, which has %lld", path,
                                   info->name, (long long)info->bytes, (long long)info->offset, (long long)data_bytes);
        info->offset += data_start; /* it fits into the file, or is not looked at again */
        order[i] = info;
    }
    if (status == FUR_OK && file->count > 1)
        qsort((void *)order, (size_t)file->count, sizeof(fur_tensor_info *), by_offset);
    for (int64_t i = 1; status == FUR_OK && i < file->count; i++)
        if (order[i]->offset < order[i - 1]->offset + order[i - 1]->bytes)
            status = fur_error_set(error, FUR_E_FORMAT, TENSOR_FORMAT "it overlaps tensor \"%.120s\"", path,
                                   order[i]->name, order[i - 1]->name);
    fur_free(order);
    return status;
}

/* ---- the file ---------------------------------------------------------------------------------------------------- */

static fur_status parse_header(fur_error *error, cursor *c, int64_t *version_out, int64_t *tensors, int64_t *values)
{
    const char *path = c->input->path;
    char magic[4];
    uint32_t version;
    FUR_TRY(get_bytes(error, c, "the first four bytes", magic, 4));
    if (memcmp(magic, "GGUF", 4) != 0)
        return fur_error_set(error, FUR_E_FORMAT, "%s: begins with bytes %02x %02x %02x %02x, expected \"GGUF\"", path,
                             (unsigned)(unsigned char)magic[0], (unsigned)(unsigned char)magic[1],
                             (unsigned)(unsigned char)magic[2], (unsigned)(unsigned char)magic[3]);
    FUR_TRY(get_u32(error, c, "the version", &version));
    if (version != 0 && (version & 0xffffu) == 0)
        return fur_error_set(error, FUR_E_UNSUPPORTED, "%s: a big-endian file, this version has little-endian ones",
                             path);
    if (version != 2 && version != 3)
        return fur_error_set(error, FUR_E_UNSUPPORTED, "%s: version %u, this version has 2 and 3", path,
                             (unsigned)version);
    *version_out = version;
    FUR_TRY(get_count(error, c, "tensors", FUR_GGUF_MAX_TENSORS, tensors));
    return get_count(error, c, "values", FUR_GGUF_MAX_VALUES, values);
}

/* The type is the format's own. */
static fur_status read_alignment(fur_error *error, fur_gguf *file)
{
    const fur_gguf_value *value = fur_gguf_value_find(file, "general.alignment");
    file->alignment = FUR_GGUF_ALIGNMENT;
    if (value && (value->array || value->type != FUR_GGUF_U32))
        return fur_error_set(error, FUR_E_FORMAT, KEY_FORMAT "%s%s, expected u32", file->input.path, value->key,
                             value->array ? "an array of " : "", types[value->type].name);
    FUR_TRY(fur_gguf_int_or(error, file, "general.alignment", 0, UINT32_MAX, FUR_GGUF_ALIGNMENT, &file->alignment));
    int64_t a = file->alignment;
    if (a >= 8 && a <= FUR_GGUF_MOST_ALIGNED && (a & (a - 1)) == 0)
        return FUR_OK;
    return fur_error_set(error, FUR_E_FORMAT, KEY_FORMAT "it is %lld, expected a power of two from 8 to %d",
                         file->input.path, value ? value->key : "", (long long)a, FUR_GGUF_MOST_ALIGNED);
}

static fur_status parse_all(fur_error *error, cursor *c, fur_gguf *file)
{
    int64_t tensors, values;
    FUR_TRY(parse_header(error, c, &file->version, &tensors, &values));
    FUR_TRY(parse_values(error, c, values, file));
    FUR_TRY(parse_tensors(error, c, tensors, file));
    FUR_TRY(read_alignment(error, file));
    return place_tensors(error, file, fur_round_up(c->at, file->alignment));
}

fur_status fur_gguf_open(fur_error *error, const char *path, fur_gguf **out)
{
    fur_gguf *file = fur_calloc(1, sizeof *file);
    cursor *c = fur_calloc(1, sizeof *c);
    fur_status status = FUR_OK;
    if (file)
        file->input.fd = -1;
    if (!file || !c)
        status = fur_memory_error(error, (int64_t)sizeof *c, path);
    if (status == FUR_OK)
        status = fur_input_open(error, path, &file->input);
    if (status == FUR_OK) {
        c->input = &file->input;
        status = parse_all(error, c, file);
    }
    fur_free(c);
    if (status != FUR_OK) {
        fur_gguf_close(file);
        return status;
    }
    *out = file;
    return FUR_OK;
}

void fur_gguf_close(fur_gguf *file)
{
    if (!file)
        return;
    fur_input_close(&file->input);
    fur_name_table_clear(&file->by_key);
    fur_name_table_clear(&file->by_name);
    for (int64_t i = 0; file->values && i < file->value_count; i++)
        fur_free((char *)file->values[i].key);
    for (int64_t i = 0; file->infos && i < file->count; i++)
        fur_free((char *)file->infos[i].name);
    fur_free(file->values);
    fur_free(file->infos);
    fur_free(file);
}

fur_status fur_gguf_is(fur_error *error, const char *path, bool *is)
{
    fur_input input;
    char magic[4] = {0};
    size_t length = strlen(path);
    FUR_TRY(fur_input_open(error, path, &input));
    fur_status status = input.bytes < 4 ? FUR_OK : fur_input_read(error, &input, 0, magic, 4);
    fur_input_close(&input);
    *is = memcmp(magic, "GGUF", 4) == 0 || (length > 5 && strcmp(path + length - 5, ".gguf") == 0);
    return status;
}

const fur_input *fur_gguf_input(const fur_gguf *file)
{
    return &file->input;
}

int64_t fur_gguf_version(const fur_gguf *file)
{
    return file->version;
}

int64_t fur_gguf_count(const fur_gguf *file)
{
    return file->count;
}

const fur_tensor_info *fur_gguf_at(const fur_gguf *file, int64_t index)
{
    return &file->infos[index];
}

const fur_tensor_info *fur_gguf_find(const fur_gguf *file, const char *name)
{
    int64_t index = fur_name_table_find(&file->by_name, name);
    return index < 0 ? NULL : &file->infos[index];
}

int64_t fur_gguf_values(const fur_gguf *file)
{
    return file->value_count;
}

const fur_gguf_value *fur_gguf_value_at(const fur_gguf *file, int64_t index)
{
    return &file->values[index];
}

const fur_gguf_value *fur_gguf_value_find(const fur_gguf *file, const char *key)
{
    int64_t index = fur_name_table_find(&file->by_key, key);
    return index < 0 ? NULL : &file->values[index];
}
