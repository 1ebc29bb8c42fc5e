/* SPDX-License-Identifier: Apache-2.0 */
/* XXH3, 64 bits: tells whether a file or corpus is the same, and spreads names over tables. Not against an adversary.
 */
#ifndef FUR_IO_HASH_H
#define FUR_IO_HASH_H

#include <stdint.h>

/* State of a running hash, opaque; not to be copied (it finds its own aligned place). */
typedef struct fur_hash {
    unsigned char storage[704];
} fur_hash;

void fur_hash_begin(fur_hash *hash);
void fur_hash_update(fur_hash *hash, const void *data, int64_t bytes);
uint64_t fur_hash_end(fur_hash *hash);
uint64_t fur_hash_bytes(const void *data, int64_t bytes);

#endif
