/* SPDX-License-Identifier: Apache-2.0 */
/* Exact attention of a long row with the keys of a few heads in memory. Heads do not know of each other, so a layer's
 * attention can be done by one group of key heads (and the query heads that read them) after the other, each with a
 * state of its own in the same place. Maps are not taken apart, since a product of fewer columns may round otherwise:
 * each sees all heads of a block, in the order in which it does without groups, and what stands between maps and
 * attention waits on disk, one block ahead. So no bit changes.
 *
 *   forward    blocks ascending    maps: x -> q, k, v, to disk
 *              for each group      k, v of all rows -> the kind's state; query: q -> o, lse, to disk
 *              blocks ascending    o -> middle, feedforward
 *   backward   blocks ascending    maps: x -> q, k, v, to disk
 *              for each group      o, lse once more, unless kept
 *              blocks descending   o, dy -> gradients of feedforward and o map; do, to disk
 *              for each group      k, v of all rows -> state; blocks descending, query_backward: do -> dq; dq, dk, dv
 *                                  take the places of q, k, v on disk
 *              blocks descending   dq, dk, dv -> gradients of their maps and norm1; dx
 *
 * The sweeps go over blocks, this file over groups. Memory: (4 + 16 r / G) d bytes a token in f32 where it was
 * (4 + 16 r) d, r = key heads / query heads; on disk 4 (3 + 2 r) d + 4 H. */
#ifndef FUR_MODEL_HEAD_GROUPS_H
#define FUR_MODEL_HEAD_GROUPS_H

#include "model/layer.h"

void fur_head_groups_reserve(const fur_model_config *config, const fur_run_shape *shape, fur_arena *arena,
                             int64_t *disk_bytes, fur_head_groups *out);
void fur_head_groups_attach(fur_head_groups *groups, fur_spill *spill);
/* Before a row: no block of the row before is here. */
void fur_head_groups_begin(fur_head_groups *groups);

/* q, k, v of all rows are on disk: o and lse come there too. `done`: what of a superblock's work this is. */
fur_status fur_head_groups_attend(fur_run *run, const fur_layer *layer, const fur_scratch *s, fur_work done);
/* The gradient by o is there too: gradients by q, k, v come in their places. */
fur_status fur_head_groups_backward(fur_run *run, const fur_layer *layer, const fur_scratch *s, fur_work done);
/* Rows first.. of q, k, v or the gradient by o, all heads; the block at `next` (-1: none) will be asked for next. */
fur_status fur_head_groups_get(fur_run *run, fur_store *store, int64_t first, int64_t count, int64_t next, float *rows);

#endif
