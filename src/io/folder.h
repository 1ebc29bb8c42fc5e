/* SPDX-License-Identifier: Apache-2.0 */
/* Folders that appear whole, locks on them, and walks through them.
 *
 * A folder of several files that must agree (a checkpoint) is built beside its place and renamed once:
 *
 *      fur_folder_begin("run/step-000100", &staging)      run/step-000100.tmp-PID/ exists, empty
 *      ... write files into staging ...
 *      fur_folder_publish(staging, "run/step-000100")     all synced, renamed, parent synced
 *
 * A process killed in between leaves only *.tmp-PID, which the next holder of the lock sweeps away. */
#ifndef FUR_IO_FOLDER_H
#define FUR_IO_FOLDER_H

#include <stdbool.h>

#include "io/file.h"

/* Creates a folder and the missing ones above it; one that is there is fine. */
fur_status fur_folder_create(fur_error *error, const char *path);

/* Creates the empty folder that will become `path`; free *staging with fur_free after publish or discard. */
fur_status fur_folder_begin(fur_error *error, const char *path, char **staging);
/* Syncs every file in `staging` and renames it to `path`. A folder already at `path` is replaced in one exchange and
 * then removed. On failure `staging` is removed and `path` is as before. */
fur_status fur_folder_publish(fur_error *error, const char *staging, const char *path);
/* Removes a folder and what is in it (at most 8 levels; symbolic links are removed, never followed). What cannot be
 * removed stays; nothing is reported. */
void fur_folder_remove(const char *path);
/* Removes a folder that holds nothing but its lock, while holding it; another stays as it is, but for the lock's file.
 */
void fur_folder_abandon(const char *folder);
/* Removes every entry of `folder` named *.tmp-NUMBER. Only while holding its lock. */
void fur_folder_sweep(const char *folder);

/* ---- lock ----------------------------------------------------------------------------------------------------- */

typedef struct fur_lock fur_lock;
/* Holds `folder` against other processes, and against this one: FUR_E_BUSY names the folder and the holder. The lock
 * is the system's (flock on folder/.lock): it ends with the process, however that ends. */
fur_status fur_lock_acquire(fur_error *error, const char *folder, fur_lock **out);
void fur_lock_release(fur_lock *lock); /* NULL allowed */

/* ---- walk ----------------------------------------------------------------------------------------------------- */

/* The files at or below a path, in order of name (bytes), folders entered where their name falls. Hidden entries are
 * left out; a link to a folder that is being walked already is left out, since all in it comes anyway. An entry that is
 * neither file nor folder is an error: reading a pipe found by chance could wait for ever. */
typedef struct fur_walk fur_walk;
fur_status fur_walk_open(fur_error *error, const char *folder, fur_walk **out);
/* *path is NULL at the end; valid until the next call. */
fur_status fur_walk_next(fur_error *error, fur_walk *walk, const char **path);
void fur_walk_close(fur_walk *walk); /* NULL allowed */

#endif
