/* SPDX-License-Identifier: Apache-2.0 */
#include "kit/files.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <zstd.h>

#include "base/alloc.h"
#include "io/fault.h"
#include "io/folder.h"

void kit_folder_init(kit_folder *folder)
{
    const char *base = getenv("TMPDIR");
    snprintf(folder->path, sizeof folder->path, "%s/furlong-test-XXXXXX", base && *base ? base : "/tmp");
    if (!mkdtemp(folder->path))
        fail_msg("cannot make %s", folder->path);
}

void kit_folder_clear(kit_folder *folder)
{
    fur_folder_remove(folder->path);
}

const char *kit_path(const kit_folder *folder, const char *name)
{
    static char paths[8][1024];
    static int next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", folder->path, name);
    return path;
}

const char *kit_write(const kit_folder *folder, const char *name, const void *data, int64_t bytes)
{
    const char *path = kit_path(folder, name);
    FILE *file = fopen(path, "wb");
    if (!file)
        fail_msg("cannot write %s", path);
    size_t count = bytes < 0 ? strlen(data) : (size_t)bytes;
    assert_int_equal(fwrite(data, 1, count, file), count);
    fclose(file);
    return path;
}

const char *kit_write_zst(const kit_folder *folder, const char *name, const void *data, int64_t bytes, int64_t cut)
{
    size_t room = ZSTD_compressBound((size_t)bytes);
    unsigned char *packed = malloc(room);
    size_t length = ZSTD_compress(packed, room, data, (size_t)bytes, 3);
    assert_false(ZSTD_isError(length));
    const char *path = kit_write(folder, name, packed, (int64_t)length - cut);
    free(packed);
    return path;
}

const char *kit_write_npy(const kit_folder *folder, const char *name, const char *header, const void *data,
                          int64_t bytes)
{
    size_t length = strlen(header);
    unsigned char *file = malloc(10 + length + (size_t)bytes);
    memcpy(file, "\x93NUMPY\1\0", 8);
    file[8] = (unsigned char)length;
    file[9] = (unsigned char)(length >> 8);
    memcpy(file + 10, header, length);
    if (bytes > 0)
        memcpy(file + 10 + length, data, (size_t)bytes);
    const char *path = kit_write(folder, name, file, (int64_t)(10 + length) + bytes);
    free(file);
    return path;
}

int kit_entries(const char *path)
{
    DIR *folder = opendir(path);
    if (!folder)
        fail_msg("cannot list %s", path);
    int count = 0;
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;)
        count += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    closedir(folder);
    return count;
}

void kit_expect_content(const char *path, const void *data, int64_t bytes)
{
    FILE *file = fopen(path, "rb");
    if (!file)
        fail_msg("cannot read %s", path);
    size_t count = (size_t)bytes;
    unsigned char *got = malloc(count + 1);
    size_t length = fread(got, 1, count + 1, file);
    fclose(file);
    int same = length == count && memcmp(got, data, count) == 0;
    free(got);
    if (!same)
        fail_msg("%s does not hold the %zu bytes expected (%zu read)", path, count, length);
}

void kit_expect(const fur_error *error, fur_status status, fur_status wanted, const char *part)
{
    if (status != wanted || !strstr(error->text, part))
        fail_msg("status \"%s\", text \"%s\"; wanted \"%s\" with \"%s\"", fur_status_name(status),
                 status == FUR_OK ? "" : error->text, fur_status_name(wanted), part);
    if (strchr(error->text, '\n') || error->status != status)
        fail_msg("error is not one line of its status: \"%s\"", error->text);
}

void kit_expect_ok(const fur_error *error, fur_status status)
{
    if (status != FUR_OK)
        fail_msg("status \"%s\": %s", fur_status_name(status), error->text);
}

/* Whether the countdown set to k has not run out yet; turns it off. */
static int countdown_left(int64_t k)
{
    for (int64_t i = 0; i < k; i++) {
        void *probe = fur_malloc(1);
        if (!probe)
            return 1;
        fur_free(probe);
    }
    return 0;
}

int64_t kit_each_allocation_fails(kit_call call, void *user)
{
    int64_t live = fur_alloc_live();
    for (int64_t k = 1;; k++) {
        fur_error error = {0};
        fur_alloc_fail_at(k);
        fur_status status = call(user, &error);
        int left = status == FUR_OK ? countdown_left(k) : 0;
        fur_alloc_fail_at(0);
        if (fur_alloc_live() != live)
            fail_msg("allocation %lld failing: %lld allocations left behind", (long long)k,
                     (long long)(fur_alloc_live() - live));
        if (left)
            return k - 1;
        if (status != FUR_E_MEMORY)
            fail_msg("allocation %lld failing: status \"%s\", text \"%s\"", (long long)k, fur_status_name(status),
                     error.text);
        if (!strstr(error.text, "out of memory"))
            fail_msg("allocation %lld failing: text \"%s\"", (long long)k, error.text);
    }
}

int64_t kit_each_write_fails(kit_call call, void *user, int error_number, void (*check)(void *user, int64_t k))
{
    int64_t live = fur_alloc_live();
    for (int64_t k = 1;; k++) {
        fur_error error = {0};
        fur_io_fail_at(k, error_number);
        fur_status status = call(user, &error);
        fur_io_fail_at(0, 0);
        if (fur_alloc_live() != live)
            fail_msg("operation %lld failing: %lld allocations left behind", (long long)k,
                     (long long)(fur_alloc_live() - live));
        if (check)
            check(user, k);
        if (status == FUR_OK) /* all operations came before the k-th; failures stay on, so none is passed over */
            return k - 1;
        if (status != FUR_E_IO || !strstr(error.text, strerror(error_number)))
            fail_msg("operation %lld failing: status \"%s\", text \"%s\"", (long long)k, fur_status_name(status),
                     error.text);
    }
}
