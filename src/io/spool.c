/* SPDX-License-Identifier: Apache-2.0 */
#include "io/spool.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/size.h"
#include "io/fault.h"
#include "io/file.h"

#define START_BYTES   65536
#define PENDING_BYTES 262144 /* gathered before each write to the file */

struct fur_spool {
    unsigned char *data; /* all of it, or what is not written yet */
    int64_t capacity;
    int64_t held;    /* bytes in data */
    int64_t written; /* bytes in the file, before those in data */
    int64_t ram_limit;
    int fd;     /* -1: no file */
    char *path; /* of the file while it had a name, for errors */
};

fur_status fur_spool_create(fur_error *error, int64_t ram_limit, fur_spool **out)
{
    fur_spool *spool = fur_calloc(1, sizeof *spool);
    if (!spool)
        return fur_memory_error(error, (int64_t)sizeof *spool, "a spool");
    spool->ram_limit = ram_limit;
    spool->fd = -1;
    *out = spool;
    return FUR_OK;
}

void fur_spool_destroy(fur_spool *spool)
{
    if (!spool)
        return;
    if (spool->fd >= 0)
        close(spool->fd);
    fur_free(spool->path);
    fur_free(spool->data);
    fur_free(spool);
}

static fur_status create_file(fur_error *error, fur_spool *spool)
{
    const char *folder = getenv("TMPDIR");
    FUR_TRY(fur_path_join(error, folder && *folder ? folder : "/tmp", "furlong-XXXXXX", &spool->path));
    int fault = fur_io_fault(FUR_IO_CREATE, spool->path);
    errno = fault;
    int fd = fault ? -1 : mkstemp(spool->path);
    if (fd < 0)
        return fur_io_error(error, spool->path, "create", errno);
    unlink(spool->path);
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    spool->fd = fd;
    return FUR_OK;
}

static fur_status flush(fur_error *error, fur_spool *spool)
{
    FUR_TRY(fur_fd_write(error, spool->fd, spool->path, -1, spool->data, spool->held));
    spool->written += spool->held;
    spool->held = 0;
    return FUR_OK;
}

/* Writes all that is held and keeps a small buffer from here on. */
static fur_status go_to_file(fur_error *error, fur_spool *spool)
{
    FUR_TRY(create_file(error, spool));
    FUR_TRY(flush(error, spool));
    unsigned char *data = fur_malloc(PENDING_BYTES);
    if (!data)
        return fur_memory_error(error, PENDING_BYTES, "a spool");
    fur_free(spool->data);
    spool->data = data;
    spool->capacity = PENDING_BYTES;
    return FUR_OK;
}

static fur_status grow(fur_error *error, fur_spool *spool, int64_t needed)
{
    int64_t larger = fur_max_i64(needed, fur_min_i64(fur_max_i64(2 * spool->capacity, START_BYTES), spool->ram_limit));
    unsigned char *data = fur_realloc(spool->data, (size_t)larger);
    if (!data)
        return fur_memory_error(error, larger, "a corpus");
    spool->data = data;
    spool->capacity = larger;
    return FUR_OK;
}

fur_status fur_spool_append(fur_error *error, fur_spool *spool, const void *data, int64_t bytes)
{
    if (bytes <= 0)
        return FUR_OK;
    if (spool->fd < 0 && bytes > spool->ram_limit - spool->held)
        FUR_TRY(go_to_file(error, spool));
    if (spool->fd < 0 && spool->held + bytes > spool->capacity)
        FUR_TRY(grow(error, spool, spool->held + bytes));
    if (bytes > spool->capacity - spool->held)
        FUR_TRY(flush(error, spool));
    if (bytes > spool->capacity) {
        FUR_TRY(fur_fd_write(error, spool->fd, spool->path, -1, data, bytes));
        spool->written += bytes;
        return FUR_OK;
    }
    memcpy(spool->data + spool->held, data, (size_t)bytes);
    spool->held += bytes;
    return FUR_OK;
}

fur_status fur_spool_read(fur_error *error, const fur_spool *spool, int64_t offset, void *out, int64_t bytes)
{
    int64_t from_file = fur_max_i64(0, fur_min_i64(bytes, spool->written - offset));
    if (from_file > 0) {
        int64_t done;
        FUR_TRY(fur_fd_read(error, spool->fd, spool->path, offset, out, from_file, &done));
        if (done < from_file)
            return fur_error_set(error, FUR_E_IO, "%s: the temporary file became shorter", spool->path);
    }
    if (bytes > from_file)
        memcpy((unsigned char *)out + from_file, spool->data + (offset + from_file - spool->written),
               (size_t)(bytes - from_file));
    return FUR_OK;
}

fur_status fur_spool_trim(fur_error *error, fur_spool *spool)
{
    if (spool->held == spool->capacity)
        return FUR_OK;
    unsigned char *data = fur_realloc(spool->data, (size_t)spool->held);
    if (!data)
        return fur_memory_error(error, spool->held, "a corpus");
    spool->data = data;
    spool->capacity = spool->held;
    return FUR_OK;
}

int64_t fur_spool_bytes(const fur_spool *spool)
{
    return spool->written + spool->held;
}

int64_t fur_spool_ram_bytes(const fur_spool *spool)
{
    return spool->capacity + (int64_t)sizeof *spool;
}
