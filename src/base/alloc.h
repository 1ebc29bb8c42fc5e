/* SPDX-License-Identifier: Apache-2.0 */
/* The only allocator. Nobody else in the library calls malloc; jansson and PCRE2 are routed through it, but for the
 * pages of PCRE2's machine code. */
#ifndef FUR_BASE_ALLOC_H
#define FUR_BASE_ALLOC_H

#include <stddef.h>
#include <stdint.h>

/* NULL when out of memory. Zero bytes give a valid pointer. */
void *fur_malloc(size_t bytes);
void *fur_calloc(size_t count, size_t bytes); /* overflow-checked, zeroed */
void *fur_realloc(void *pointer, size_t bytes);
void fur_free(void *pointer);
char *fur_strdup(const char *text);

/* Pages straight from the system, zeroed, aligned to a page; release with the same size. */
void *fur_pages_map(size_t bytes);
/* Asks that what lies wholly inside this range of fur_pages_map, not yet written, be backed by large pages: for what is
 * read by chance, a few KB at a time, where the walk through page tables costs as much as the read. A hint; the range
 * then takes memory in steps of 2 MB. */
void fur_pages_large(void *from, size_t bytes);
void fur_pages_unmap(void *pointer, size_t bytes);
/* Pages of an open file, read-only, read as they are touched; offset: a multiple of fur_page_bytes.
 * Release with fur_pages_unmap; the file may be closed before. If another process shortens it, touching what is gone
 * ends this one (SIGBUS). */
void *fur_pages_map_file(int fd, int64_t offset, size_t bytes);
int64_t fur_page_bytes(void);
/* They will be touched in no order: nothing around what is touched is worth reading from the disk. A hint. */
void fur_pages_by_chance(void *pages, size_t bytes);

/* Fault injection for tests: the k-th allocation from now on (k >= 1) fails, once; 0 turns it off. */
void fur_alloc_fail_at(int64_t k);
/* Allocations and mappings alive now; tests compare before and after. */
int64_t fur_alloc_live(void);

#endif
