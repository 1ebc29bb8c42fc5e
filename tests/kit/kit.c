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

/* | header page: total bytes | data ... end | faulting page | */
float *kit_guard_f32(int64_t count)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t bytes = (size_t)count * sizeof(float);
    size_t body = (bytes + page - 1) / page * page;
    size_t total = page + body + page;
    unsigned char *base = mmap(NULL, total, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED)
        fail_msg("no memory for %lld floats", (long long)count);
    memcpy(base, &total, sizeof total);
    mprotect(base + page + body, page, PROT_NONE);
    memset(base + page, 0xff, body); /* NaN */
    return (float *)(void *)(base + page + body - bytes);
}

void kit_guard_free(void *pointer)
{
    if (!pointer)
        return;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    uintptr_t address = (uintptr_t)pointer / page * page;
    /* the data page holds no header: walk back to it */
    for (;; address -= page) {
        size_t total;
        memcpy(&total, (void *)(address - page), sizeof total);
        if (total >= 2 * page && total % page == 0 && total < (size_t)1 << 40) {
            munmap((void *)(address - page), total);
            return;
        }
    }
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
