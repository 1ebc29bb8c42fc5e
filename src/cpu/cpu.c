/* SPDX-License-Identifier: Apache-2.0 */
/* Processor features by CPUID and by the register state that the operating system saves (XGETBV): a feature that the
 * system does not save would fault or lose data. Cores and memory as this process may use them. */
#define _GNU_SOURCE /* sched_getaffinity, syscall */
#include "cpu/cpu.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/size.h"

#if FUR_HAVE_AVX2
#    include <cpuid.h>
#    include <sys/syscall.h>

static uint64_t saved_state(void)
{
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}

/* dpbf16ps does twice the multiply-adds of the f32 instruction on AMD's cores that have it (Zen 5, measured:
 * docs/NUMERICS.md) and half of them on Intel's (Sapphire Rapids, measured): a rule by maker, not by timing. */
static int dpbf16_is_fast(void)
{
    uint32_t a, b, c, d;
    return __get_cpuid(0, &a, &b, &c, &d) && b == signature_AMD_ebx && d == signature_AMD_edx && c == signature_AMD_ecx;
}

/* The system must save the tiles and have let this process use them: asked once, before threads start, and granted to
 * all of them. */
static int may_use_tiles(void)
{
    const uint64_t tile_state = 0x60000;
    const long request_permission = 0x1023, tile_data = 18; /* ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA */
    return (saved_state() & tile_state) == tile_state && syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
}

/* What a machine with AVX-512 has for bf16. The levels above AVX-512 promise VNNI too, as every core made with bf16
 * has. */
static fur_isa probe_bf16(uint32_t leaf7_c, uint32_t leaf7_d)
{
    uint32_t a, b, c, d;
    const uint32_t amx = 1u << 22 | 1u << 24; /* BF16, TILE */
    int dpbf16 = (leaf7_c & 1u << 11) && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & 1u << 5);
    if (dpbf16 && (leaf7_d & amx) == amx && may_use_tiles())
        return FUR_ISA_AMX;
    return dpbf16 && dpbf16_is_fast() ? FUR_ISA_AVX512BF16 : FUR_ISA_AVX512;
}

static fur_isa probe_isa(void)
{
    uint32_t a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d))
        return FUR_ISA_REF;
    const uint32_t all = 1u << 12 | 1u << 27 | 1u << 28 | 1u << 29; /* FMA, OSXSAVE, AVX, F16C */
    if ((c & all) != all)
        return FUR_ISA_REF;
    const uint64_t ymm_state = 0x6, zmm_state = 0xe6;
    uint64_t state = saved_state();
    if ((state & ymm_state) != ymm_state || !__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(b & (1u << 5)))
        return FUR_ISA_REF;
    const uint32_t avx512 = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31; /* F, DQ, BW, VL */
    if ((state & zmm_state) == zmm_state && (b & avx512) == avx512)
        return probe_bf16(c, d);
    return FUR_ISA_AVX2;
}
#else
static fur_isa probe_isa(void)
{
    return FUR_ISA_REF;
}
#endif

fur_isa fur_cpu_best_isa(void)
{
    return probe_isa();
}

static const char *const isa_names[FUR_ISA_COUNT] = {"ref", "avx2", "avx512", "avx512bf16", "amx"};

const char *fur_isa_name(fur_isa isa)
{
    return (int)isa >= 0 && isa < FUR_ISA_COUNT ? isa_names[isa] : "unknown";
}

int fur_isa_exists(fur_isa isa)
{
#if defined(__x86_64__)
    return (int)isa >= 0 && isa < FUR_ISA_COUNT;
#else
    return isa == FUR_ISA_REF;
#endif
}

int fur_isa_from_name(const char *name)
{
    for (int i = 0; i < FUR_ISA_COUNT; i++)
        if (strcmp(name, isa_names[i]) == 0)
            return i;
    return -1;
}

/* First line of a small system file; 0 if it cannot be read. */
static int read_line(const char *path, char *line, int bytes)
{
    FILE *file = fopen(path, "re");
    if (!file)
        return 0;
    int got = fgets(line, bytes, file) != NULL;
    fclose(file);
    return got;
}

/* Value in bytes of "Name:   123 kB" in a /proc file, 0 if absent. */
static int64_t proc_kib(const char *path, const char *name)
{
    FILE *file = fopen(path, "re");
    if (!file)
        return 0;
    char line[256];
    int64_t value = 0;
    size_t length = strlen(name);
    while (fgets(line, sizeof line, file))
        if (strncmp(line, name, length) == 0 && line[length] == ':') {
            value = strtoll(line + length + 1, NULL, 10) * 1024;
            break;
        }
    fclose(file);
    return value;
}

void fur_cpu_name(char *out, int bytes)
{
    snprintf(out, (size_t)bytes, "unknown");
    FILE *file = fopen("/proc/cpuinfo", "re");
    if (!file)
        return;
    char line[256];
    while (fgets(line, sizeof line, file)) {
        char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) == 0 && colon) {
            colon++;
            colon += strspn(colon, " \t");
            colon[strcspn(colon, "\n")] = 0;
            snprintf(out, (size_t)bytes, "%s", colon);
            break;
        }
    }
    fclose(file);
}

/* Logical processors of the affinity mask, counting each physical core once. */
static int affinity_cores(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0)
        return (int)fur_max_i64(1, sysconf(_SC_NPROCESSORS_ONLN));
    int cores = 0;
    for (size_t cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &set))
            continue;
        char path[128], line[128];
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%zu/topology/thread_siblings_list", cpu);
        /* count the core at its first sibling inside the mask */
        size_t first = cpu;
        if (read_line(path, line, sizeof line)) {
            for (char *part = line; part && *part;) {
                char *end;
                long low = strtol(part, &end, 10), high = low;
                if (end == part)
                    break;
                if (*end == '-')
                    high = strtol(end + 1, &end, 10);
                for (long sibling = low; sibling >= 0 && sibling <= high && sibling < CPU_SETSIZE; sibling++)
                    if (CPU_ISSET((size_t)sibling, &set) && (size_t)sibling < first)
                        first = (size_t)sibling;
                part = *end == ',' ? end + 1 : NULL;
            }
        }
        cores += first == cpu;
    }
    return cores > 0 ? cores : 1;
}

/* Path of this process's control group (version 2) joined with `file`; walks up with `levels_up`. */
static int cgroup_path(char *out, int bytes, const char *file, int levels_up)
{
    char line[1024];
    FILE *self = fopen("/proc/self/cgroup", "re");
    if (!self)
        return 0;
    int found = 0;
    while (!found && fgets(line, sizeof line, self))
        found = strncmp(line, "0::", 3) == 0;
    fclose(self);
    if (!found)
        return 0;
    line[strcspn(line, "\n")] = 0;
    char *group = line + 3;
    for (; levels_up > 0; levels_up--) {
        char *slash = strrchr(group, '/');
        if (!slash || (slash == group && group[1] == 0))
            return 0;
        *slash = 0;
        if (slash == group && levels_up > 1)
            return 0;
    }
    int written = snprintf(out, (size_t)bytes, "/sys/fs/cgroup%s/%s", group, file);
    return written > 0 && written < bytes;
}

int fur_cpu_cores(void)
{
    int cores = affinity_cores();
    char path[1200], line[128];
    for (int up = 0; cgroup_path(path, sizeof path, "cpu.max", up); up++) {
        if (!read_line(path, line, sizeof line))
            continue;
        /* "QUOTA PERIOD", or "max PERIOD", from which no digit is taken */
        char *rest, *end;
        long long quota = strtoll(line, &rest, 10), period = strtoll(rest, &end, 10);
        if (rest != line && end != rest && quota > 0 && period > 0) {
            int allowed = (int)fur_max_i64(1, fur_min_i64(quota / period, 1 << 20));
            cores = allowed < cores ? allowed : cores;
        }
    }
    return cores;
}

int64_t fur_cpu_cache_bytes(int level)
{
    for (int index = 0; index < 8; index++) {
        char path[128], line[64];
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/level", index);
        if (!read_line(path, line, sizeof line) || strtol(line, NULL, 10) != level)
            continue;
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/type", index);
        if (read_line(path, line, sizeof line) && line[0] == 'I')
            continue;
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/size", index);
        if (read_line(path, line, sizeof line))
            return strtoll(line, NULL, 10) * 1024;
    }
    return 0;
}

int64_t fur_cpu_memory_total(void)
{
    return proc_kib("/proc/meminfo", "MemTotal");
}

int64_t fur_cpu_memory_available(void)
{
    int64_t available = proc_kib("/proc/meminfo", "MemAvailable");
    char path[1200], line[64];
    for (int up = 0; cgroup_path(path, sizeof path, "memory.max", up); up++) {
        if (!read_line(path, line, sizeof line) || line[0] == 'm')
            continue; /* "max": no limit at this level */
        int64_t limit = strtoll(line, NULL, 10), used = 0;
        if (cgroup_path(path, sizeof path, "memory.current", up) && read_line(path, line, sizeof line))
            used = strtoll(line, NULL, 10);
        available = fur_min_i64(available, fur_max_i64(0, limit - used));
    }
    return available;
}
