/* SPDX-License-Identifier: Apache-2.0 */
#include "io/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/size.h"
#include "io/fault.h"

/* Linux moves at most 2^31 - 4096 bytes a call; smaller pieces also let an interruption through. */
#define PIECE_BYTES  ((int64_t)1 << 30)
#define BUFFER_BYTES 65536

/* ---- faults --------------------------------------------------------------------------------------------------- */

static fur_io_hook test_hook;
static void *test_hook_user;
static atomic_llong fail_countdown; /* 0: off; 1: this one and all after fail */
static atomic_int fail_error;

void fur_io_hook_set(fur_io_hook hook, void *user)
{
    test_hook = hook;
    test_hook_user = user;
}

void fur_io_fail_at(int64_t k, int error_number)
{
    atomic_store(&fail_error, error_number);
    atomic_store(&fail_countdown, k);
}

int fur_io_fault(fur_io_op op, const char *path)
{
    if (op >= FUR_IO_CREATE && atomic_load_explicit(&fail_countdown, memory_order_relaxed) != 0) {
        if (atomic_load(&fail_countdown) == 1)
            return atomic_load(&fail_error);
        atomic_fetch_sub(&fail_countdown, 1);
    }
    return test_hook ? test_hook(test_hook_user, op, path) : 0;
}

/* ---- text and paths ------------------------------------------------------------------------------------------- */

fur_status fur_io_error(fur_error *error, const char *path, const char *verb, int error_number)
{
    char reason[128];
    if (strerror_r(error_number, reason, sizeof reason) != 0)
        snprintf(reason, sizeof reason, "error %d", error_number);
    return fur_error_set(error, FUR_E_IO, "%s: cannot %s: %s", path, verb, reason);
}

fur_status(fur_memory_error)(fur_error *error, int64_t bytes, const char *what)
{
    return fur_error_set(error, FUR_E_MEMORY, "out of memory: %lld bytes for %s", (long long)bytes, what);
}

char *fur_format(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    char *text = length < 0 ? NULL : fur_malloc((size_t)length + 1);
    if (!text)
        return NULL;
    va_start(arguments, format);
    vsnprintf(text, (size_t)length + 1, format, arguments);
    va_end(arguments);
    return text;
}

fur_status fur_path_join(fur_error *error, const char *folder, const char *name, char **out)
{
    size_t length = strlen(folder);
    const char *slash = length && folder[length - 1] == '/' ? "" : "/";
    char *path = fur_format("%s%s%s", folder, slash, name);
    if (!path)
        return fur_memory_error(error, (int64_t)(length + strlen(name) + 2), "a path");
    *out = path;
    return FUR_OK;
}

const char *fur_path_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

fur_status fur_path_parent(fur_error *error, const char *path, char **out)
{
    const char *end = path + strlen(path);
    while (end > path + 1 && end[-1] == '/')
        end--;
    while (end > path && end[-1] != '/')
        end--;
    while (end > path + 1 && end[-1] == '/')
        end--;
    size_t length = (size_t)(end - path);
    char *parent = fur_malloc(length + 2);
    if (!parent)
        return fur_memory_error(error, (int64_t)length + 2, "a path");
    memcpy(parent, length ? path : ".", length ? length : 1);
    parent[length ? length : 1] = 0;
    *out = parent;
    return FUR_OK;
}

bool fur_path_exists(const char *path)
{
    struct stat about;
    return stat(path, &about) == 0;
}

/* ---- descriptors ---------------------------------------------------------------------------------------------- */

fur_status fur_fd_read(fur_error *error, int fd, const char *path, int64_t offset, void *out, int64_t bytes,
                       int64_t *done)
{
    unsigned char *to = out;
    int64_t total = 0;
    while (total < bytes) {
        size_t want = (size_t)fur_min_i64(bytes - total, PIECE_BYTES);
        int fault = fur_io_fault(FUR_IO_READ, path);
        errno = fault;
        ssize_t got = fault        ? -1
                      : offset < 0 ? read(fd, to + total, want)
                                   : pread(fd, to + total, want, (off_t)(offset + total));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return fur_io_error(error, path, "read", errno);
        if (got == 0)
            break;
        total += got;
    }
    *done = total;
    return FUR_OK;
}

fur_status fur_fd_write(fur_error *error, int fd, const char *path, int64_t offset, const void *data, int64_t bytes)
{
    const unsigned char *from = data;
    int64_t total = 0;
    while (total < bytes) {
        size_t want = (size_t)fur_min_i64(bytes - total, PIECE_BYTES);
        int fault = fur_io_fault(FUR_IO_WRITE, path);
        errno = fault;
        ssize_t put = fault        ? -1
                      : offset < 0 ? write(fd, from + total, want)
                                   : pwrite(fd, from + total, want, (off_t)(offset + total));
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return fur_io_error(error, path, "write", put < 0 ? errno : EIO);
        total += put;
    }
    return FUR_OK;
}

fur_status fur_fd_sync(fur_error *error, int fd, const char *path)
{
    for (;;) {
        int fault = fur_io_fault(FUR_IO_SYNC, path);
        errno = fault;
        if ((fault ? -1 : fsync(fd)) == 0)
            return FUR_OK;
        if (!fault && (errno == EINVAL || errno == ENOTSUP)) /* a file system, or a folder on it, that has no sync */
            return FUR_OK;
        if (errno != EINTR)
            return fur_io_error(error, path, "sync", errno);
    }
}

fur_status fur_folder_sync(fur_error *error, const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return fur_io_error(error, path, "open the folder", errno);
    fur_status status = fur_fd_sync(error, fd, path);
    close(fd);
    return status;
}

/* ---- reading -------------------------------------------------------------------------------------------------- */

fur_status fur_input_open(fur_error *error, const char *path, fur_input *out)
{
    /* O_NONBLOCK: opening a pipe by mistake must not wait for its writer */
    int fault = fur_io_fault(FUR_IO_OPEN, path);
    errno = fault;
    int fd = fault ? -1 : open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return fur_io_error(error, path, "open", errno);
    struct stat about;
    fur_status status = FUR_OK;
    char *copy = NULL;
    if (fstat(fd, &about) != 0)
        status = fur_io_error(error, path, "stat", errno);
    else if (S_ISDIR(about.st_mode))
        status = fur_io_error(error, path, "read", EISDIR);
    else if (!S_ISREG(about.st_mode))
        status = fur_error_set(error, FUR_E_IO, "%s: not a regular file", path);
    else if (!(copy = fur_strdup(path)))
        status = fur_memory_error(error, (int64_t)strlen(path), "a path");
    if (status != FUR_OK) {
        close(fd);
        return status;
    }
    *out = (fur_input){.fd = fd, .bytes = (int64_t)about.st_size, .path = copy};
    return FUR_OK;
}

void fur_input_close(fur_input *input)
{
    if (input->fd >= 0)
        close(input->fd);
    fur_free(input->path);
    *input = (fur_input){.fd = -1};
}

fur_status fur_input_read(fur_error *error, const fur_input *input, int64_t offset, void *out, int64_t bytes)
{
    int64_t done;
    FUR_TRY(fur_fd_read(error, input->fd, input->path, offset, out, bytes, &done));
    if (done < bytes)
        return fur_error_set(error, FUR_E_IO,
                             "%s: the file became shorter while it was read: %lld bytes at opening, now %lld",
                             input->path, (long long)input->bytes, (long long)(offset + done));
    return FUR_OK;
}

fur_status fur_file_read(fur_error *error, const char *path, int64_t max_bytes, char **out, int64_t *bytes)
{
    fur_input input;
    FUR_TRY(fur_input_open(error, path, &input));
    fur_status status = FUR_OK;
    char *data = NULL;
    if (input.bytes > max_bytes)
        status = fur_error_set(error, FUR_E_FORMAT, "%s: %lld bytes, expected at most %lld", path,
                               (long long)input.bytes, (long long)max_bytes);
    else if (!(data = fur_malloc((size_t)input.bytes + 1)))
        status = fur_memory_error(error, input.bytes, path);
    else
        status = fur_input_read(error, &input, 0, data, input.bytes);
    if (status == FUR_OK) {
        data[input.bytes] = 0;
        *out = data;
        *bytes = input.bytes;
    } else {
        fur_free(data);
    }
    fur_input_close(&input);
    return status;
}

/* ---- writing -------------------------------------------------------------------------------------------------- */

struct fur_output {
    int fd;
    int64_t bytes;  /* handed to us */
    size_t pending; /* of them, still in the buffer */
    char *path;     /* where it will be */
    char *beside;   /* where it is written */
    unsigned char buffer[BUFFER_BYTES];
};

static void output_free(fur_output *output)
{
    if (output->fd >= 0)
        close(output->fd);
    fur_free(output->path);
    fur_free(output->beside);
    fur_free(output);
}

/* A file of that name is left from a dead process that had our number: processes alive have another. */
static int create_beside(const char *beside)
{
    int fault = fur_io_fault(FUR_IO_CREATE, beside);
    if (fault) {
        errno = fault;
        return -1;
    }
    int flags = O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC;
    int fd = open(beside, flags, 0666);
    if (fd < 0 && errno == EEXIST && unlink(beside) == 0)
        fd = open(beside, flags, 0666);
    return fd;
}

fur_status fur_output_open(fur_error *error, const char *path, fur_output **out)
{
    fur_output *output = fur_malloc(sizeof *output);
    if (!output)
        return fur_memory_error(error, (int64_t)sizeof *output, path);
    output->fd = -1;
    output->bytes = 0;
    output->pending = 0;
    output->path = fur_strdup(path);
    output->beside = fur_format("%s.tmp-%ld", path, (long)getpid());
    fur_status status = FUR_OK;
    if (!output->path || !output->beside)
        status = fur_memory_error(error, (int64_t)strlen(path), "a path");
    else if ((output->fd = create_beside(output->beside)) < 0)
        status = fur_io_error(error, path, "create", errno);
    if (status != FUR_OK) {
        output_free(output);
        return status;
    }
    *out = output;
    return FUR_OK;
}

static fur_status output_flush(fur_error *error, fur_output *output)
{
    size_t pending = output->pending;
    output->pending = 0;
    return fur_fd_write(error, output->fd, output->path, -1, output->buffer, (int64_t)pending);
}

fur_status fur_output_write(fur_error *error, fur_output *output, const void *data, int64_t bytes)
{
    if (bytes <= 0)
        return FUR_OK;
    if ((int64_t)(BUFFER_BYTES - output->pending) < bytes)
        FUR_TRY(output_flush(error, output));
    output->bytes += bytes;
    if (bytes >= BUFFER_BYTES)
        return fur_fd_write(error, output->fd, output->path, -1, data, bytes);
    memcpy(output->buffer + output->pending, data, (size_t)bytes);
    output->pending += (size_t)bytes;
    return FUR_OK;
}

int64_t fur_output_bytes(const fur_output *output)
{
    return output->bytes;
}

fur_status fur_output_commit(fur_error *error, fur_output *output)
{
    char *parent = NULL;
    fur_status status = fur_path_parent(error, output->path, &parent);
    if (status == FUR_OK)
        status = output_flush(error, output);
    if (status == FUR_OK)
        status = fur_fd_sync(error, output->fd, output->path);
    if (status == FUR_OK) {
        int fd = output->fd;
        output->fd = -1;
        if (close(fd) != 0)
            status = fur_io_error(error, output->path, "close", errno);
    }
    if (status == FUR_OK) {
        int fault = fur_io_fault(FUR_IO_RENAME, output->path);
        errno = fault;
        if (fault || rename(output->beside, output->path) != 0)
            status = fur_io_error(error, output->path, "rename into place", errno);
    }
    if (status != FUR_OK) {
        fur_free(parent);
        fur_output_discard(output);
        return status;
    }
    if (parent)
        status = fur_folder_sync(error, parent); /* the file is whole and in place whatever this says */
    fur_free(parent);
    output_free(output);
    return status;
}

void fur_output_discard(fur_output *output)
{
    if (!output)
        return;
    unlink(output->beside);
    output_free(output);
}

fur_status fur_file_write(fur_error *error, const char *path, const void *data, int64_t bytes)
{
    fur_output *output;
    FUR_TRY(fur_output_open(error, path, &output));
    fur_status status = fur_output_write(error, output, data, bytes);
    if (status != FUR_OK) {
        fur_output_discard(output);
        return status;
    }
    return fur_output_commit(error, output);
}
