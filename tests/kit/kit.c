/* SPDX-License-Identifier: Apache-2.0 */
/* nftw needs the X/Open interfaces */
#define _XOPEN_SOURCE 700
#include "kit/kit.h"

#include <ftw.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
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

/* Whether the failure asked for is still to come; it is then turned off. */
static int failure_is_pending(int64_t k)
{
    int pending = 0;
    for (int64_t i = 0; i < k && !pending; i++) {
        void *probe = fur_malloc(1);
        pending = probe == NULL;
        fur_free(probe);
    }
    fur_alloc_fail_at(0);
    return pending;
}

int64_t kit_alloc_failures(fur_status (*body)(void *user), void *user, int64_t most)
{
    int64_t live = fur_alloc_live();
    for (int64_t k = 1; k <= most; k++) {
        fur_alloc_fail_at(k);
        fur_status status = body(user);
        int pending = failure_is_pending(k);
        if (fur_alloc_live() != live)
            fail_msg("allocation %lld failed: %lld allocations were not given back", (long long)k,
                     (long long)(fur_alloc_live() - live));
        if (pending && status == FUR_OK)
            return k - 1;
        if (pending || status != FUR_E_MEMORY)
            fail_msg("allocation %lld failed, and the status is \"%s\"", (long long)k, fur_status_name(status));
    }
    fail_msg("still failing at allocation %lld", (long long)most);
    return most;
}

const char *kit_temp_dir(void)
{
    static char path[PATH_MAX];
    const char *root = getenv("TMPDIR");
    snprintf(path, sizeof path, "%s/furlong-test-XXXXXX", root ? root : "/tmp");
    if (!mkdtemp(path))
        fail_msg("cannot make a folder like %s", path);
    return path;
}

static int remove_entry(const char *path, const struct stat *stat, int kind, struct FTW *place)
{
    (void)stat;
    (void)kind;
    (void)place;
    return remove(path);
}

void kit_temp_remove(const char *path)
{
    if (!strstr(path, "/furlong-test-"))
        fail_msg("%s was not made by kit_temp_dir", path);
    if (nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS))
        fail_msg("cannot remove %s", path);
}
