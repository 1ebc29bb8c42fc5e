/* SPDX-License-Identifier: Apache-2.0 */
#include "store/spill.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/size.h"
#include "io/fault.h"
#include "io/file.h"

#define QUEUE       64
#define STACK_BYTES 262144 /* the thread reads, writes and formats one error text */

typedef enum request_kind { REQUEST_WRITE, REQUEST_READ, REQUEST_FORGET } request_kind;

typedef struct request {
    request_kind kind;
    int64_t offset, bytes;
    void *data;
} request;

struct fur_spill {
    int fd;
    char *path;    /* while it had a name, for errors */
    int64_t bytes; /* room asked for */
    pthread_t thread;
    bool running;
    pthread_mutex_t mutex; /* of all below */
    pthread_cond_t asked, done;
    request queue[QUEUE]; /* ticket t is at t % QUEUE */
    int64_t issued, finished;
    bool closing;
    fur_error failure;
};

/* ---- the thread ------------------------------------------------------------------------------------------- */

static fur_status serve(const fur_spill *spill, const request *r, fur_error *error)
{
    int64_t done;
    if (r->offset < 0 || r->bytes < 0 || r->offset > spill->bytes - r->bytes)
        return fur_error_set(error, FUR_E_INTERNAL, "%s: bytes %lld+%lld of %lld", spill->path, (long long)r->offset,
                             (long long)r->bytes, (long long)spill->bytes);
    if (r->kind == REQUEST_WRITE)
        return fur_fd_write(error, spill->fd, spill->path, r->offset, r->data, r->bytes);
    if (r->kind == REQUEST_FORGET) {
        (void)posix_fadvise(spill->fd, (off_t)r->offset, (off_t)r->bytes, POSIX_FADV_DONTNEED); /* advice only */
        return FUR_OK;
    }
    FUR_TRY(fur_fd_read(error, spill->fd, spill->path, r->offset, r->data, r->bytes, &done));
    if (done < r->bytes)
        return fur_error_set(error, FUR_E_IO, "%s: cannot read: the store ends %lld bytes early", spill->path,
                             (long long)(r->bytes - done));
    return FUR_OK;
}

static void *serve_all(void *user)
{
    fur_spill *spill = user;
    pthread_mutex_lock(&spill->mutex);
    for (;;) {
        while (!spill->closing && spill->finished == spill->issued)
            pthread_cond_wait(&spill->asked, &spill->mutex);
        if (spill->closing)
            break;
        request r = spill->queue[(spill->finished + 1) % QUEUE];
        bool failed = spill->failure.status != FUR_OK;
        fur_error error = {FUR_OK, ""};
        pthread_mutex_unlock(&spill->mutex);
        if (!failed)
            (void)serve(spill, &r, &error);
        pthread_mutex_lock(&spill->mutex);
        if (error.status != FUR_OK)
            spill->failure = error;
        spill->finished++;
        pthread_cond_broadcast(&spill->done);
    }
    pthread_mutex_unlock(&spill->mutex);
    return NULL;
}

/* Signals are for the caller's threads. */
static int start_thread(fur_spill *spill)
{
    sigset_t all, before;
    pthread_attr_t attributes;
    sigfillset(&all);
    int failed = pthread_attr_init(&attributes);
    if (failed)
        return failed;
    failed = pthread_attr_setstacksize(&attributes, STACK_BYTES);
    if (!failed)
        failed = pthread_sigmask(SIG_SETMASK, &all, &before);
    if (!failed) {
        failed = pthread_create(&spill->thread, &attributes, serve_all, spill);
        (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    }
    (void)pthread_attr_destroy(&attributes);
    return failed;
}

/* ---- making and ending ------------------------------------------------------------------------------------ */

static fur_status check_room(fur_error *error, const char *folder, int64_t bytes)
{
    struct statvfs about;
    if (statvfs(folder, &about) != 0)
        return fur_io_error(error, folder, "use the folder for the store", errno);
    double room = (double)about.f_bavail * (double)about.f_frsize;
    if ((double)bytes > room)
        return fur_error_set(error, FUR_E_IO, "%s: the store takes up to %.0f MiB, %.0f MiB are free there", folder,
                             (double)bytes / 1048576, room / 1048576);
    return FUR_OK;
}

static fur_status make_file(fur_error *error, const char *folder, fur_spill *spill)
{
    FUR_TRY(fur_path_join(error, folder, "store-XXXXXX", &spill->path));
    int fault = fur_io_fault(FUR_IO_CREATE, spill->path);
    errno = fault;
    spill->fd = fault ? -1 : mkstemp(spill->path);
    if (spill->fd < 0)
        return fur_io_error(error, folder, "make the store's file", errno);
    (void)unlink(spill->path);
    (void)fcntl(spill->fd, F_SETFD, FD_CLOEXEC);
    return FUR_OK;
}

fur_status fur_spill_create(fur_error *error, const char *folder, int64_t bytes, fur_spill **out)
{
    *out = NULL;
    fur_spill *spill = fur_calloc(1, sizeof *spill);
    if (!spill)
        return fur_memory_error(error, (int64_t)sizeof *spill, "the store");
    spill->fd = -1;
    spill->bytes = bytes;
    pthread_mutex_init(&spill->mutex, NULL);
    pthread_cond_init(&spill->asked, NULL);
    pthread_cond_init(&spill->done, NULL);
    fur_status status = check_room(error, folder, bytes);
    if (status == FUR_OK)
        status = make_file(error, folder, spill);
    if (status == FUR_OK) {
        int failed = start_thread(spill);
        spill->running = failed == 0;
        if (failed)
            status = fur_io_error(error, folder, "start the store's thread", failed);
    }
    if (status != FUR_OK) {
        fur_spill_destroy(spill);
        return status;
    }
    *out = spill;
    return FUR_OK;
}

void fur_spill_destroy(fur_spill *spill)
{
    if (!spill)
        return;
    if (spill->running) {
        pthread_mutex_lock(&spill->mutex);
        spill->closing = true;
        pthread_cond_signal(&spill->asked);
        pthread_mutex_unlock(&spill->mutex);
        pthread_join(spill->thread, NULL);
    }
    if (spill->fd >= 0)
        close(spill->fd);
    pthread_cond_destroy(&spill->done);
    pthread_cond_destroy(&spill->asked);
    pthread_mutex_destroy(&spill->mutex);
    fur_free(spill->path);
    fur_free(spill);
}

/* ---- requests --------------------------------------------------------------------------------------------- */

static int64_t ask(fur_spill *spill, request r)
{
    pthread_mutex_lock(&spill->mutex);
    while (spill->issued - spill->finished == QUEUE)
        pthread_cond_wait(&spill->done, &spill->mutex);
    int64_t ticket = ++spill->issued;
    spill->queue[ticket % QUEUE] = r;
    pthread_cond_signal(&spill->asked);
    pthread_mutex_unlock(&spill->mutex);
    return ticket;
}

int64_t fur_spill_write(fur_spill *spill, int64_t offset, const void *data, int64_t bytes)
{
    /* one queue for both directions; a write only reads its data */
    return ask(spill, (request){REQUEST_WRITE, offset, bytes, (void *)(uintptr_t)data});
}

int64_t fur_spill_read(fur_spill *spill, int64_t offset, void *data, int64_t bytes)
{
    return ask(spill, (request){REQUEST_READ, offset, bytes, data});
}

int64_t fur_spill_forget(fur_spill *spill, int64_t offset, int64_t bytes)
{
    return ask(spill, (request){REQUEST_FORGET, offset, bytes, NULL});
}

fur_status fur_spill_wait(fur_error *error, fur_spill *spill, int64_t ticket)
{
    pthread_mutex_lock(&spill->mutex);
    while (spill->finished < ticket)
        pthread_cond_wait(&spill->done, &spill->mutex);
    fur_error failure = spill->failure;
    pthread_mutex_unlock(&spill->mutex);
    return failure.status == FUR_OK ? FUR_OK : fur_error_set(error, failure.status, "%s", failure.text);
}

void fur_spill_clear(fur_spill *spill)
{
    pthread_mutex_lock(&spill->mutex);
    while (spill->finished < spill->issued)
        pthread_cond_wait(&spill->done, &spill->mutex);
    spill->failure = (fur_error){FUR_OK, ""};
    pthread_mutex_unlock(&spill->mutex);
}
