/* SPDX-License-Identifier: Apache-2.0 */
#include "base/alloc.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static atomic_llong live_count;
static atomic_llong fail_countdown; /* 0: off */

static int fails_now(void)
{
    if (atomic_load_explicit(&fail_countdown, memory_order_relaxed) == 0)
        return 0;
    return atomic_fetch_sub(&fail_countdown, 1) == 1;
}

static void *counted(void *pointer)
{
    if (pointer)
        atomic_fetch_add_explicit(&live_count, 1, memory_order_relaxed);
    return pointer;
}

void *fur_malloc(size_t bytes)
{
    return fails_now() ? NULL : counted(malloc(bytes ? bytes : 1));
}

void *fur_calloc(size_t count, size_t bytes)
{
    return fails_now() ? NULL : counted(calloc(count ? count : 1, bytes ? bytes : 1));
}

void *fur_realloc(void *pointer, size_t bytes)
{
    if (!pointer)
        return fur_malloc(bytes);
    return fails_now() ? NULL : realloc(pointer, bytes ? bytes : 1);
}

void fur_free(void *pointer)
{
    if (!pointer)
        return;
    atomic_fetch_sub_explicit(&live_count, 1, memory_order_relaxed);
    free(pointer);
}

char *fur_strdup(const char *text)
{
    size_t bytes = strlen(text) + 1;
    char *copy = fur_malloc(bytes);
    if (copy)
        memcpy(copy, text, bytes);
    return copy;
}

void *fur_pages_map(size_t bytes)
{
    if (fails_now())
        return NULL;
    void *pointer = mmap(NULL, bytes ? bytes : 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return pointer == MAP_FAILED ? NULL : counted(pointer);
}

void fur_pages_large(void *from, size_t bytes)
{
#ifdef MADV_HUGEPAGE
    size_t page = (size_t)sysconf(_SC_PAGESIZE), skip = (page - (uintptr_t)from % page) % page;
    if (bytes > skip)
        (void)madvise((unsigned char *)from + skip, (bytes - skip) / page * page, MADV_HUGEPAGE);
#else
    (void)from;
    (void)bytes;
#endif
}

int64_t fur_page_bytes(void)
{
    return sysconf(_SC_PAGESIZE);
}

void *fur_pages_map_file(int fd, int64_t offset, size_t bytes)
{
    if (fails_now())
        return NULL;
    void *pointer = mmap(NULL, bytes ? bytes : 1, PROT_READ, MAP_PRIVATE, fd, offset);
    return pointer == MAP_FAILED ? NULL : counted(pointer);
}

void fur_pages_by_chance(void *pages, size_t bytes)
{
    (void)posix_madvise(pages, bytes, POSIX_MADV_RANDOM);
}

void fur_pages_unmap(void *pointer, size_t bytes)
{
    if (!pointer)
        return;
    atomic_fetch_sub_explicit(&live_count, 1, memory_order_relaxed);
    munmap(pointer, bytes ? bytes : 1);
}

void fur_alloc_fail_at(int64_t k)
{
    atomic_store(&fail_countdown, k);
}

int64_t fur_alloc_live(void)
{
    return atomic_load(&live_count);
}
