/* SPDX-License-Identifier: Apache-2.0 */
/* GGUF files by hand, right or wrong as a test wants them. */
#ifndef FUR_TESTS_KIT_GGUF_H
#define FUR_TESTS_KIT_GGUF_H

#include <stdint.h>

#include "kit/files.h"

/* Bytes one after the other, as many as fit. */
typedef struct kit_bytes {
    unsigned char data[1 << 16];
    int64_t count;
} kit_bytes;

void kit_put(kit_bytes *to, const void *data, int64_t count);
void kit_put_u32(kit_bytes *to, uint64_t value);
void kit_put_u64(kit_bytes *to, uint64_t value);
void kit_put_text(kit_bytes *to, const char *text); /* length and bytes */
void kit_put_zeros(kit_bytes *to, int64_t count);
void kit_put_align(kit_bytes *to, int64_t alignment); /* zeros up to a multiple */

/* "GGUF", version 3, counts. */
void kit_put_gguf(kit_bytes *to, uint64_t tensors, uint64_t values);
void kit_put_value_u32(kit_bytes *to, const char *key, uint32_t value);
void kit_put_value_f32(kit_bytes *to, const char *key, float value);
void kit_put_value_text(kit_bytes *to, const char *key, const char *value);
/* Sizes as the file has them, the row's first. */
void kit_put_tensor(kit_bytes *to, const char *name, uint32_t rank, const uint64_t *sizes, uint32_t type,
                    uint64_t offset);
/* kit_write of it. */
const char *kit_write_bytes(const kit_folder *folder, const char *name, const kit_bytes *bytes);

#endif
