/* SPDX-License-Identifier: Apache-2.0 */
/* What every file operation of the library passes through, so that tests can make any one of them fail, or act between
 * two of them (truncate the file, kill the process). Costs one load where nothing is set. */
#ifndef FUR_IO_FAULT_H
#define FUR_IO_FAULT_H

#include <stdint.h>

typedef enum fur_io_op {
    FUR_IO_OPEN = 0,   /* open for reading */
    FUR_IO_READ = 1,   /* one read or pread */
    FUR_IO_CREATE = 2, /* open for writing, mkdir, temporary file */
    FUR_IO_WRITE = 3,  /* one write or pwrite */
    FUR_IO_SYNC = 4,   /* fsync of a file or folder */
    FUR_IO_RENAME = 5
} fur_io_op;

/* Called before the operation: 0 lets it happen, an errno value makes it fail with that error. */
typedef int (*fur_io_hook)(void *user, fur_io_op op, const char *path);
/* NULL turns it off. Not for use while other threads do file work. */
void fur_io_hook_set(fur_io_hook hook, void *user);

/* The k-th operation from now on (k >= 1) among create, write, sync and rename fails with `error_number`, and so do all
 * after it, as on a disk that is full; 0 turns it off. */
void fur_io_fail_at(int64_t k, int error_number);

/* For the code that does the operation: 0, or the errno to report instead of doing it. */
int fur_io_fault(fur_io_op op, const char *path);

#endif
