/* SPDX-License-Identifier: Apache-2.0 */
/* Whole files, positional reads, and writes that either happen or do not.
 *
 * A file is written beside its place (PATH.tmp-PID), synced, renamed over it, and the parent folder synced: a reader,
 * or a machine that lost power, sees the old file or the new one. Every failure is FUR_E_IO with the path and the
 * system's words, and removes what was begun. A file size limit (RLIMIT_FSIZE) also sends SIGXFSZ, whose default ends
 * the process: programs ignore it; the library installs no signal handlers. */
#ifndef FUR_IO_FILE_H
#define FUR_IO_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* ---- text and paths ------------------------------------------------------------------------------------------- */

/* FUR_E_IO, "PATH: cannot VERB: reason". */
fur_status fur_io_error(fur_error *error, const char *path, const char *verb, int error_number);
/* FUR_E_MEMORY, "out of memory: BYTES bytes for WHAT". */
fur_status fur_memory_error(fur_error *error, int64_t bytes, const char *what);
#ifdef __clang_analyzer__
#    define fur_memory_error(error, bytes, what) ((void)fur_memory_error(error, bytes, what), FUR_E_MEMORY)
#endif
/* Allocated text, freed with fur_free; NULL when out of memory. */
char *fur_format(const char *format, ...) FUR_PRINTF(1, 2);
/* "folder/name"; free with fur_free. */
fur_status fur_path_join(fur_error *error, const char *folder, const char *name, char **out);
/* Last component; "" if the path ends with a slash. */
const char *fur_path_name(const char *path);
/* The folder that holds `path`, "." if it names none; free with fur_free. */
fur_status fur_path_parent(fur_error *error, const char *path, char **out);
bool fur_path_exists(const char *path);

/* ---- reading -------------------------------------------------------------------------------------------------- */

/* Reads a regular file of at most max_bytes whole; a NUL follows the data. Free *out with fur_free. */
fur_status fur_file_read(fur_error *error, const char *path, int64_t max_bytes, char **out, int64_t *bytes);

/* A regular file open for positional reads; its size is fixed at opening. */
typedef struct fur_input {
    int fd;
    int64_t bytes; /* size when opened */
    char *path;
} fur_input;
fur_status fur_input_open(fur_error *error, const char *path, fur_input *out);
void fur_input_close(fur_input *input); /* also of a zeroed struct with fd -1 */
/* Fills out, or fails; a file that became shorter is FUR_E_IO naming it. Safe from several threads. */
fur_status fur_input_read(fur_error *error, const fur_input *input, int64_t offset, void *out, int64_t bytes);

/* Loops over short reads and interruptions; *done < bytes only at the end of the file. offset -1: where the file
 * stands. */
fur_status fur_fd_read(fur_error *error, int fd, const char *path, int64_t offset, void *out, int64_t bytes,
                       int64_t *done);
fur_status fur_fd_write(fur_error *error, int fd, const char *path, int64_t offset, const void *data, int64_t bytes);
fur_status fur_fd_sync(fur_error *error, int fd, const char *path);
/* Syncs the folder at `path`. */
fur_status fur_folder_sync(fur_error *error, const char *path);

/* ---- writing -------------------------------------------------------------------------------------------------- */

typedef struct fur_output fur_output;
fur_status fur_output_open(fur_error *error, const char *path, fur_output **out);
fur_status fur_output_write(fur_error *error, fur_output *output, const void *data, int64_t bytes);
/* Bytes written so far. */
int64_t fur_output_bytes(const fur_output *output);
/* Puts the file in its place. Frees `output` whether it succeeds or not. */
fur_status fur_output_commit(fur_error *error, fur_output *output);
/* Removes what was written; NULL allowed. */
void fur_output_discard(fur_output *output);

/* All of the above for data at hand. */
fur_status fur_file_write(fur_error *error, const char *path, const void *data, int64_t bytes);

#endif
