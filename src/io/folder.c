/* SPDX-License-Identifier: Apache-2.0 */
#include "io/folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/alloc.h"
#include "io/fault.h"

#define REMOVE_LEVELS 8

static fur_status make_folder(fur_error *error, const char *path)
{
    int fault = fur_io_fault(FUR_IO_CREATE, path);
    errno = fault;
    if (fault || mkdir(path, 0777) != 0)
        return fur_io_error(error, path, "create the folder", errno);
    return FUR_OK;
}

fur_status fur_folder_create(fur_error *error, const char *path)
{
    char *part = fur_strdup(path);
    if (!part)
        return fur_memory_error(error, (int64_t)strlen(path), "a path");
    fur_status status = FUR_OK;
    for (char *end = part + (*part == '/'); status == FUR_OK; end++) {
        if (*end != '/' && *end != 0)
            continue;
        char kept = *end;
        *end = 0;
        struct stat about;
        if (stat(part, &about) != 0)
            status = make_folder(error, part);
        else if (!S_ISDIR(about.st_mode))
            status = fur_io_error(error, part, "create the folder", ENOTDIR);
        if (kept == 0)
            break;
        *end = kept;
        while (end[1] == '/')
            end++;
        if (end[1] == 0)
            break;
    }
    fur_free(part);
    return status;
}

/* ---- removal -------------------------------------------------------------------------------------------------- */

static void remove_level(int parent, const char *name, int levels)
{
    int fd = levels > 0 ? openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1;
    DIR *folder = fd < 0 ? NULL : fdopendir(fd);
    if (folder) {
        for (struct dirent *entry; (entry = readdir(folder)) != NULL;)
            if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
                unlinkat(fd, entry->d_name, 0) != 0)
                remove_level(fd, entry->d_name, levels - 1);
        closedir(folder);
    } else if (fd >= 0) {
        close(fd);
    }
    if (unlinkat(parent, name, AT_REMOVEDIR) != 0)
        unlinkat(parent, name, 0);
}

void fur_folder_remove(const char *path)
{
    remove_level(AT_FDCWD, path, REMOVE_LEVELS);
}

static bool is_temporary(const char *name)
{
    const char *mark = NULL;
    for (const char *next = name; (next = strstr(next, ".tmp-")) != NULL; next++)
        mark = next + 5;
    return mark && *mark && mark[strspn(mark, "0123456789")] == 0;
}

void fur_folder_sweep(const char *folder)
{
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *list = fd < 0 ? NULL : fdopendir(fd);
    if (!list) {
        if (fd >= 0)
            close(fd);
        return;
    }
    for (struct dirent *entry; (entry = readdir(list)) != NULL;)
        if (is_temporary(entry->d_name) && unlinkat(fd, entry->d_name, 0) != 0)
            remove_level(fd, entry->d_name, REMOVE_LEVELS);
    closedir(list);
}

/* ---- publishing ----------------------------------------------------------------------------------------------- */

fur_status fur_folder_begin(fur_error *error, const char *path, char **staging)
{
    size_t length = strlen(path);
    while (length > 1 && path[length - 1] == '/')
        length--;
    char *beside = fur_format("%.*s.tmp-%ld", (int)length, path, (long)getpid());
    if (!beside)
        return fur_memory_error(error, (int64_t)length, "a path");
    fur_folder_remove(beside); /* of a dead process that had our number */
    fur_status status = make_folder(error, beside);
    if (status != FUR_OK) {
        fur_free(beside);
        return status;
    }
    *staging = beside;
    return FUR_OK;
}

/* Files were synced by their writers (fur_output_commit), except those that something else put there. */
static fur_status sync_entries(fur_error *error, const char *path)
{
    DIR *folder = opendir(path);
    if (!folder)
        return fur_io_error(error, path, "open the folder", errno);
    fur_status status = FUR_OK;
    for (struct dirent *entry; status == FUR_OK && (entry = readdir(folder)) != NULL;) {
        if (entry->d_name[0] == '.' && strspn(entry->d_name, ".") == strlen(entry->d_name))
            continue;
        int fd = openat(dirfd(folder), entry->d_name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        if (fd < 0) {
            status = fur_io_error(error, path, "open a file in it", errno);
            break;
        }
        status = fur_fd_sync(error, fd, path);
        close(fd);
    }
    closedir(folder);
    return status == FUR_OK ? fur_folder_sync(error, path) : status;
}

/* Swaps two folders in one step, so that at no moment is there none at `path`. */
static int exchange(const char *a, const char *b)
{
#if defined(SYS_renameat2)
    const unsigned int rename_exchange = 2;
    return syscall(SYS_renameat2, AT_FDCWD, a, AT_FDCWD, b, rename_exchange) == 0 ? 0 : -1;
#else
    (void)a, (void)b;
    errno = ENOSYS;
    return -1;
#endif
}

fur_status fur_folder_publish(fur_error *error, const char *staging, const char *path)
{
    char *parent = NULL;
    fur_status status = sync_entries(error, staging);
    if (status == FUR_OK)
        status = fur_path_parent(error, path, &parent);
    if (status == FUR_OK) {
        int fault = fur_io_fault(FUR_IO_RENAME, path);
        errno = fault;
        int moved = fault ? -1 : rename(staging, path);
        if (moved != 0 && (errno == ENOTEMPTY || errno == EEXIST))
            moved = exchange(staging, path);
        if (moved != 0)
            status = fur_io_error(error, path, "rename into place", errno);
        else
            status = fur_folder_sync(error, parent);
    }
    fur_folder_remove(staging); /* what was replaced, or what failed */
    fur_free(parent);
    return status;
}

/* ---- lock ----------------------------------------------------------------------------------------------------- */

struct fur_lock {
    int fd;
};

static fur_status lock_file(fur_error *error, const char *folder, const char *path, int *out)
{
    int fault = fur_io_fault(FUR_IO_CREATE, path);
    errno = fault;
    int fd = fault ? -1 : open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0)
        return fur_io_error(error, folder, "create the lock file in it", errno);
    char holder[24] = "";
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        int reason = errno;
        ssize_t got = pread(fd, holder, sizeof holder - 1, 0);
        holder[got > 0 ? got : 0] = 0;
        holder[strcspn(holder, "\n")] = 0;
        close(fd);
        if (reason != EWOULDBLOCK)
            return fur_io_error(error, folder, "lock", reason);
        return fur_error_set(error, FUR_E_BUSY, "%s: another run holds this folder (process %s)", folder,
                             *holder ? holder : "unknown");
    }
    int length = snprintf(holder, sizeof holder, "%ld\n", (long)getpid());
    /* the number is only for the message above: a full disk does not spoil the lock */
    if (ftruncate(fd, 0) != 0 || pwrite(fd, holder, (size_t)length, 0) != length)
        errno = 0;
    *out = fd;
    return FUR_OK;
}

fur_status fur_lock_acquire(fur_error *error, const char *folder, fur_lock **out)
{
    char *path;
    FUR_TRY(fur_path_join(error, folder, ".lock", &path));
    fur_lock *lock = fur_malloc(sizeof *lock);
    fur_status status =
        lock ? lock_file(error, folder, path, &lock->fd) : fur_memory_error(error, (int64_t)sizeof *lock, "a lock");
    fur_free(path);
    if (status != FUR_OK) {
        fur_free(lock);
        return status;
    }
    *out = lock;
    return FUR_OK;
}

void fur_folder_abandon(const char *folder)
{
    char *path;
    fur_error error;
    if (fur_path_join(&error, folder, ".lock", &path) != FUR_OK)
        return;
    (void)unlink(path);
    (void)rmdir(folder);
    fur_free(path);
}

void fur_lock_release(fur_lock *lock)
{
    if (!lock)
        return;
    close(lock->fd); /* the file stays: removing it could take it from under the next holder */
    fur_free(lock);
}
