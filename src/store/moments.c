/* SPDX-License-Identifier: Apache-2.0 */
#include "store/moments.h"

#include <string.h>

#include "base/size.h"

static int64_t part_elements(const fur_moments *moments)
{
    return fur_min_i64(moments->count, FUR_MOMENTS_ELEMENTS);
}

static int64_t f32_bytes(int64_t count)
{
    return count * (int64_t)sizeof(float);
}

static int64_t offset_at(const fur_moments *moments, bool v, int64_t first)
{
    return moments->offset + f32_bytes((v ? moments->count : 0) + first);
}

void fur_moments_reserve(fur_arena *arena, fur_store_place place, int64_t count, int64_t *disk_bytes, fur_moments *out)
{
    *out = (fur_moments){.count = count};
    if (place != FUR_STORE_DISK) {
        out->m_P = fur_arena_push_f32(arena, count);
        out->v_P = fur_arena_push_f32(arena, count);
        return;
    }
    for (int i = 0; i < FUR_MOMENTS_PARTS; i++)
        out->parts[i] = fur_arena_push_f32(arena, 2 * part_elements(out));
    out->offset = *disk_bytes;
    *disk_bytes += 2 * f32_bytes(count);
}

static int64_t write_part(fur_moments *moments, int64_t first, int64_t count, const float *m, const float *v)
{
    (void)fur_spill_write(moments->spill, offset_at(moments, false, first), m, f32_bytes(count));
    return fur_spill_write(moments->spill, offset_at(moments, true, first), v, f32_bytes(count));
}

fur_status fur_moments_zero(const fur_exec *exec, fur_moments *moments)
{
    if (moments->m_P) {
        memset(moments->m_P, 0, (size_t)f32_bytes(moments->count));
        memset(moments->v_P, 0, (size_t)f32_bytes(moments->count));
        return FUR_OK;
    }
    int64_t ticket = 0, step = part_elements(moments);
    const float *zeros = moments->parts[0];
    FUR_TRY(fur_spill_wait(exec->error, moments->spill, 0));
    memset(moments->parts[0], 0, (size_t)f32_bytes(step));
    for (int64_t first = 0; first < moments->count; first += step)
        ticket = write_part(moments, first, fur_min_i64(step, moments->count - first), zeros, zeros);
    return fur_spill_wait(exec->error, moments->spill, ticket);
}

/* Part `index` of those of `step` elements sets out for memory; returns the ticket. */
static int64_t read_part(fur_moments *moments, int64_t index, int64_t step)
{
    int64_t first = index * step, count = fur_min_i64(step, moments->count - first);
    float *part = moments->parts[index % FUR_MOMENTS_PARTS];
    (void)fur_spill_read(moments->spill, offset_at(moments, false, first), part, f32_bytes(count));
    return fur_spill_read(moments->spill, offset_at(moments, true, first), part + step, f32_bytes(count));
}

/* Requests run in order: the read of a part is queued behind the write of what its memory held before. */
static fur_status each_on_disk(const fur_exec *exec, fur_moments *moments, bool change, fur_moments_fn fn, void *user)
{
    int64_t step = part_elements(moments), parts = fur_div_up(moments->count, step), written = 0;
    int64_t ticket = read_part(moments, 0, step);
    for (int64_t i = 0; i < parts; i++) {
        int64_t first = i * step, count = fur_min_i64(step, moments->count - first);
        int64_t next = i + 1 < parts ? read_part(moments, i + 1, step) : 0;
        float *m = moments->parts[i % FUR_MOMENTS_PARTS], *v = m + step;
        FUR_TRY(fur_spill_wait(exec->error, moments->spill, ticket));
        FUR_TRY(fn(user, first, count, m, v));
        if (change)
            written = write_part(moments, first, count, m, v);
        ticket = next;
    }
    return fur_spill_wait(exec->error, moments->spill, written);
}

fur_status fur_moments_each(const fur_exec *exec, fur_moments *moments, bool change, fur_moments_fn fn, void *user)
{
    if (moments->count == 0)
        return FUR_OK;
    if (moments->m_P)
        return fn(user, 0, moments->count, moments->m_P, moments->v_P);
    return each_on_disk(exec, moments, change, fn, user);
}

fur_status fur_moments_read(fur_error *error, const fur_moments *moments, bool v, int64_t first, int64_t count,
                            float *out)
{
    if (moments->m_P) {
        memcpy(out, (v ? moments->v_P : moments->m_P) + first, (size_t)f32_bytes(count));
        return FUR_OK;
    }
    return fur_spill_wait(error, moments->spill,
                          fur_spill_read(moments->spill, offset_at(moments, v, first), out, f32_bytes(count)));
}

fur_status fur_moments_write(fur_error *error, fur_moments *moments, bool v, int64_t first, int64_t count,
                             const float *data)
{
    if (moments->m_P) {
        memcpy((v ? moments->v_P : moments->m_P) + first, data, (size_t)f32_bytes(count));
        return FUR_OK;
    }
    return fur_spill_wait(error, moments->spill,
                          fur_spill_write(moments->spill, offset_at(moments, v, first), data, f32_bytes(count)));
}
