/* SPDX-License-Identifier: Apache-2.0 */
/* The walk of io/folder.h: a stack of open listings, no recursion, so that depth is a checked number. */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "io/fault.h"
#include "io/folder.h"

#define MAX_LEVELS 64

typedef struct listing {
    char *path;
    char **names; /* sorted */
    int64_t count, next;
    dev_t device; /* device and inode tell a link back to this folder */
    ino_t inode;
} listing;

struct fur_walk {
    char *current; /* path last returned */
    int levels;
    listing stack[MAX_LEVELS];
};

static void listing_clear(listing *list)
{
    for (int64_t i = 0; i < list->count; i++)
        fur_free(list->names[i]);
    fur_free(list->names);
    fur_free(list->path);
    memset(list, 0, sizeof *list);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static fur_status read_names(fur_error *error, DIR *folder, listing *list)
{
    int64_t capacity = 0;
    for (;;) {
        errno = 0;
        struct dirent *entry = readdir(folder);
        if (!entry)
            return errno ? fur_io_error(error, list->path, "read the folder", errno) : FUR_OK;
        if (entry->d_name[0] == '.') /* also . and .. */
            continue;
        if (list->count == capacity) {
            int64_t larger = capacity ? 2 * capacity : 64;
            char **names = fur_realloc(list->names, (size_t)larger * sizeof *names);
            if (!names)
                return fur_memory_error(error, larger * (int64_t)sizeof *names, list->path);
            list->names = names;
            capacity = larger;
        }
        char *name = fur_strdup(entry->d_name);
        if (!name)
            return fur_memory_error(error, (int64_t)strlen(entry->d_name), list->path);
        list->names[list->count++] = name;
    }
}

/* Pushes the folder's listing; takes `path`. */
static fur_status enter(fur_error *error, fur_walk *walk, char *path, const struct stat *about)
{
    if (walk->levels == MAX_LEVELS) {
        fur_status status = fur_error_set(error, FUR_E_IO, "%s: folders nested deeper than %d", path, MAX_LEVELS);
        fur_free(path);
        return status;
    }
    listing *list = &walk->stack[walk->levels++];
    *list = (listing){.path = path, .device = about->st_dev, .inode = about->st_ino};
    int fault = fur_io_fault(FUR_IO_OPEN, path);
    errno = fault;
    DIR *folder = fault ? NULL : opendir(path);
    if (!folder)
        return fur_io_error(error, path, "open the folder", errno);
    fur_status status = read_names(error, folder, list);
    closedir(folder);
    if (status == FUR_OK && list->count > 1)
        qsort(list->names, (size_t)list->count, sizeof *list->names, by_name);
    return status;
}

static bool is_being_walked(const fur_walk *walk, const struct stat *about)
{
    for (int i = 0; i < walk->levels; i++)
        if (walk->stack[i].device == about->st_dev && walk->stack[i].inode == about->st_ino)
            return true;
    return false;
}

fur_status fur_walk_open(fur_error *error, const char *folder, fur_walk **out)
{
    struct stat about;
    if (stat(folder, &about) != 0)
        return fur_io_error(error, folder, "open", errno);
    fur_walk *walk = fur_calloc(1, sizeof *walk);
    char *path = fur_strdup(folder);
    fur_status status = FUR_OK;
    if (!walk || !path) {
        status = fur_memory_error(error, (int64_t)sizeof *walk, folder);
        fur_free(path);
    } else {
        status = enter(error, walk, path, &about);
    }
    if (status != FUR_OK) {
        fur_walk_close(walk);
        return status;
    }
    *out = walk;
    return FUR_OK;
}

fur_status fur_walk_next(fur_error *error, fur_walk *walk, const char **path)
{
    fur_free(walk->current);
    walk->current = NULL;
    *path = NULL;
    while (walk->levels > 0) {
        listing *list = &walk->stack[walk->levels - 1];
        if (list->next == list->count) {
            listing_clear(list);
            walk->levels--;
            continue;
        }
        char *next;
        FUR_TRY(fur_path_join(error, list->path, list->names[list->next++], &next));
        struct stat about;
        if (stat(next, &about) != 0) {
            fur_status status = fur_io_error(error, next, "open", errno);
            fur_free(next);
            return status;
        }
        if (S_ISREG(about.st_mode)) {
            *path = walk->current = next;
            return FUR_OK;
        }
        if (!S_ISDIR(about.st_mode)) {
            fur_status status = fur_error_set(error, FUR_E_IO, "%s: neither a file nor a folder", next);
            fur_free(next);
            return status;
        }
        if (is_being_walked(walk, &about))
            fur_free(next);
        else
            FUR_TRY(enter(error, walk, next, &about));
    }
    return FUR_OK;
}

void fur_walk_close(fur_walk *walk)
{
    if (!walk)
        return;
    for (int i = 0; i < walk->levels; i++)
        listing_clear(&walk->stack[i]);
    fur_free(walk->current);
    fur_free(walk);
}
