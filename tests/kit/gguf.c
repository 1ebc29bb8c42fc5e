/* SPDX-License-Identifier: Apache-2.0 */
#include "kit/gguf.h"

#include <string.h>

void kit_put(kit_bytes *to, const void *data, int64_t count)
{
    assert_true(count <= (int64_t)sizeof to->data - to->count);
    memcpy(to->data + to->count, data, (size_t)count);
    to->count += count;
}

static void put_number(kit_bytes *to, uint64_t value, int bytes)
{
    for (int i = 0; i < bytes; i++) {
        unsigned char byte = (unsigned char)(value >> 8 * i);
        kit_put(to, &byte, 1);
    }
}

void kit_put_u32(kit_bytes *to, uint64_t value)
{
    put_number(to, value, 4);
}

void kit_put_u64(kit_bytes *to, uint64_t value)
{
    put_number(to, value, 8);
}

void kit_put_text(kit_bytes *to, const char *text)
{
    kit_put_u64(to, strlen(text));
    kit_put(to, text, (int64_t)strlen(text));
}

void kit_put_zeros(kit_bytes *to, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        put_number(to, 0, 1);
}

void kit_put_align(kit_bytes *to, int64_t alignment)
{
    kit_put_zeros(to, (alignment - to->count % alignment) % alignment);
}

void kit_put_gguf(kit_bytes *to, uint64_t tensors, uint64_t values)
{
    to->count = 0;
    kit_put(to, "GGUF", 4);
    kit_put_u32(to, 3);
    kit_put_u64(to, tensors);
    kit_put_u64(to, values);
}

void kit_put_value_u32(kit_bytes *to, const char *key, uint32_t value)
{
    kit_put_text(to, key);
    kit_put_u32(to, 4);
    kit_put_u32(to, value);
}

void kit_put_value_f32(kit_bytes *to, const char *key, float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    kit_put_text(to, key);
    kit_put_u32(to, 6);
    kit_put_u32(to, bits);
}

void kit_put_value_text(kit_bytes *to, const char *key, const char *value)
{
    kit_put_text(to, key);
    kit_put_u32(to, 8);
    kit_put_text(to, value);
}

void kit_put_tensor(kit_bytes *to, const char *name, uint32_t rank, const uint64_t *sizes, uint32_t type,
                    uint64_t offset)
{
    kit_put_text(to, name);
    kit_put_u32(to, rank);
    for (uint32_t i = 0; i < rank && i < 8; i++)
        kit_put_u64(to, sizes[i]);
    kit_put_u32(to, type);
    kit_put_u64(to, offset);
}

const char *kit_write_bytes(const kit_folder *folder, const char *name, const kit_bytes *bytes)
{
    return kit_write(folder, name, bytes->data, bytes->count);
}
