/* SPDX-License-Identifier: Apache-2.0 */
/* What the fuzz targets share: the input as a file of its own, rewritten for each run, and a stop where a reader
 * accepts what it must not. */
#ifndef FUR_TESTS_FUZZ_H
#define FUR_TESTS_FUZZ_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/error.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static inline void fuzz_require(int condition, const char *what)
{
    if (condition)
        return;
    fprintf(stderr, "%s\n", what);
    abort();
}

static char fuzz_path[64];

static inline void fuzz_file_remove(void)
{
    unlink(fuzz_path);
}

/* Path of a file that holds the input. */
static inline const char *fuzz_file(const uint8_t *data, size_t size, const char *suffix)
{
    static int fd = -1;
    if (fd < 0) {
        int length = 0;
        while (suffix[length])
            length++;
        /* in memory where that is there: rewriting a file on disk is slower than most targets */
        static const char *const folders[] = {"/dev/shm", "/tmp"};
        for (int i = 0; i < 2 && fd < 0; i++) {
            snprintf(fuzz_path, sizeof fuzz_path, "%s/furlong-fuzz-XXXXXX%s", folders[i], suffix);
            fd = mkstemps(fuzz_path, length);
        }
        fuzz_require(fd >= 0, "cannot make a file in /tmp");
        atexit(fuzz_file_remove);
    }
    fuzz_require(ftruncate(fd, 0) == 0 && pwrite(fd, data, size, 0) == (ssize_t)size, "cannot write the input's file");
    return fuzz_path;
}

/* A refusal says why, in one line; nothing stays allocated either way. */
static inline void fuzz_check_end(fur_status status, const fur_error *error, int64_t live_before)
{
    if (status != FUR_OK)
        fuzz_require(error->text[0] != '\0', "refused without a word");
    for (const char *c = error->text; *c; c++)
        fuzz_require(*c != '\n', "a refusal of more than one line");
    fuzz_require(fur_alloc_live() == live_before, "memory stays allocated");
}

#endif
