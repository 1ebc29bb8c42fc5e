/* SPDX-License-Identifier: Apache-2.0 */
/* Adam's moments m and v of P parameters: two arrays of the arena, or on disk as | m [P] | v [P] |, streamed through
 * two parts of the arena, one in work while the other is written and read. Elementwise work gives the same bits either
 * way. */
#ifndef FUR_STORE_MOMENTS_H
#define FUR_STORE_MOMENTS_H

#include <stdbool.h>

#include "base/exec.h"
#include "furlong/plan.h"
#include "store/spill.h"

#define FUR_MOMENTS_PARTS    2
#define FUR_MOMENTS_ELEMENTS ((int64_t)1 << 18) /* of a part at most: 1 MiB of m and of v */

typedef struct fur_moments {
    int64_t count;                   /* P */
    float *m_P, *v_P;                /* in memory; NULL on disk */
    float *parts[FUR_MOMENTS_PARTS]; /* on disk: m, then v, of a part */
    int64_t offset;                  /* on disk: where m begins in the spill */
    fur_spill *spill;                /* on disk, once attached; not owned */
} fur_moments;

/* Lays the moments out on the arena (counting or real); on disk `*disk_bytes` rises by what they take there. */
void fur_moments_reserve(fur_arena *arena, fur_store_place place, int64_t count, int64_t *disk_bytes, fur_moments *out);
fur_status fur_moments_zero(const fur_exec *exec, fur_moments *moments);

/* Elements first .. first+count-1 of both. */
typedef fur_status (*fur_moments_fn)(void *user, int64_t first, int64_t count, float *m, float *v);
/* Goes through all elements in ascending parts; `change`: what fn leaves in m and v is kept. An error ends it. */
fur_status fur_moments_each(const fur_exec *exec, fur_moments *moments, bool change, fur_moments_fn fn, void *user);

/* Copies elements of m (v: false) or v out or in. */
fur_status fur_moments_read(fur_error *error, const fur_moments *moments, bool v, int64_t first, int64_t count,
                            float *out);
fur_status fur_moments_write(fur_error *error, fur_moments *moments, bool v, int64_t first, int64_t count,
                             const float *data);

#endif
