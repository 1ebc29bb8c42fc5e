/* SPDX-License-Identifier: Apache-2.0 */
#include "kit/kit.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/random.h"
#include "cpu/cpu.h"

void kit_exec_init(kit_exec *kit, fur_isa isa, int threads, int64_t workspace_bytes)
{
    memset(kit, 0, sizeof *kit);
    if (fur_arena_create(&kit->error, workspace_bytes, &kit->workspace) != FUR_OK)
        fail_msg("%s", kit->error.text);
    kit->exec = (fur_exec){.error = &kit->error, .threads = threads, .isa = isa, .workspace = &kit->workspace};
}

void kit_exec_clear(kit_exec *kit)
{
    fur_arena_destroy(&kit->workspace);
}

fur_isa kit_best_isa(void)
{
    return fur_cpu_best_isa();
}

/* Guarded arrays alive now. Each lies between two pages that fault: | no access | data ... end | no access |. */
enum { GUARD_MAX = 256 };
static struct guard {
    unsigned char *base, *data;
    size_t total;
} guards[GUARD_MAX];

void *kit_guard(size_t bytes)
{
    struct guard *slot = guards;
    while (slot < guards + GUARD_MAX && slot->base)
        slot++;
    if (slot == guards + GUARD_MAX)
        fail_msg("more than %d guarded arrays at once: one is not freed", (int)GUARD_MAX);
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t body = (bytes + page - 1) / page * page;
    size_t total = page + body + page;
    unsigned char *base = mmap(NULL, total, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED)
        fail_msg("no memory for %zu guarded bytes", bytes);
    memset(base + page, 0xff, body); /* NaN */
    if (mprotect(base, page, PROT_NONE) || mprotect(base + page + body, page, PROT_NONE))
        fail_msg("guard pages of %zu bytes: mprotect failed", bytes);
    *slot = (struct guard){.base = base, .data = base + page + body - bytes, .total = total};
    return slot->data;
}

float *kit_guard_f32(int64_t count)
{
    return kit_guard((size_t)count * sizeof(float));
}

void kit_guard_free(void *pointer)
{
    if (!pointer)
        return;
    for (struct guard *slot = guards; slot < guards + GUARD_MAX; slot++) {
        if (!slot->base || slot->data != (unsigned char *)pointer)
            continue;
        munmap(slot->base, slot->total);
        memset(slot, 0, sizeof *slot);
        return;
    }
    fail_msg("%p is not a guarded array", pointer);
}

void kit_guard_free_all(void)
{
    for (struct guard *slot = guards; slot < guards + GUARD_MAX; slot++)
        if (slot->base)
            kit_guard_free(slot->data);
}

float *kit_guard_filled(int64_t count, kit_fill fill, uint64_t seed)
{
    float *x = kit_guard_f32(count);
    kit_fill_f32(x, count, fill, seed);
    return x;
}

float *kit_guard_copy(const float *from, int64_t count)
{
    float *x = kit_guard_f32(count);
    memcpy(x, from, (size_t)count * sizeof(float));
    return x;
}

void kit_fill_f32(float *x, int64_t count, kit_fill fill, uint64_t seed)
{
    static const double scale[] = {[KIT_NORMAL] = 1, [KIT_TINY] = 1e-30, [KIT_HUGE] = 1e4, [KIT_ZERO] = 0};
    fur_random_normal(seed, 77, scale[fill], x, count);
}

double kit_check_bound(const char *what, const float *got, const double *want, const double *bound, int bound_stride,
                       int64_t count)
{
    double worst = 0;
    int64_t at = -1;
    for (int64_t i = 0; i < count; i++) {
        double error = fabs((double)got[i] - want[i]);
        double limit = bound[i * bound_stride];
        if (!(error <= limit))
            at = at < 0 ? i : at;
        double ratio = limit > 0 ? error / limit : (error > 0 ? (double)INFINITY : 0);
        if (ratio > worst)
            worst = ratio;
    }
    if (at >= 0)
        fail_msg("%s: element %lld is %.9g, wanted %.9g, bound %.3g (worst ratio %.3g)", what, (long long)at,
                 (double)got[at], want[at], bound[at * bound_stride], worst);
    return worst;
}

void kit_check_same_bits(const char *what, const void *a, const void *b, size_t bytes)
{
    if (memcmp(a, b, bytes) == 0)
        return;
    const unsigned char *x = a, *y = b;
    size_t i = 0;
    while (x[i] == y[i])
        i++;
    fail_msg("%s: bits differ at byte %zu of %zu", what, i, bytes);
}
