/* SPDX-License-Identifier: Apache-2.0 */
/* What tests of files share: a folder of their own, expectations on status and text, and the two loops that make every
 * allocation and every file operation of a call fail in turn. */
#ifndef FUR_TESTS_KIT_FILES_H
#define FUR_TESTS_KIT_FILES_H

#include "kit/kit.h"

typedef struct kit_folder {
    char path[512];
} kit_folder;

/* A fresh folder under $TMPDIR or /tmp; removed by kit_folder_clear. */
void kit_folder_init(kit_folder *folder);
void kit_folder_clear(kit_folder *folder);
/* folder/name in one of eight buffers used in turn; good until eight calls later. */
const char *kit_path(const kit_folder *folder, const char *name);
/* Writes a file; `bytes` -1: up to the NUL. Returns its path as kit_path does. */
const char *kit_write(const kit_folder *folder, const char *name, const void *data, int64_t bytes);
/* The same as one zstd frame, whose last `cut` bytes are left out. */
const char *kit_write_zst(const kit_folder *folder, const char *name, const void *data, int64_t bytes, int64_t cut);
/* A .npy file, format 1.0: `header` is the dictionary, `data` what follows. */
const char *kit_write_npy(const kit_folder *folder, const char *name, const char *header, const void *data,
                          int64_t bytes);
/* Entries of the folder, without . and .. */
int kit_entries(const char *path);
/* Fails unless the file holds exactly this. */
void kit_expect_content(const char *path, const void *data, int64_t bytes);

/* Fails unless status is `wanted` and the error's text holds `part`; prints the text. */
void kit_expect(const fur_error *error, fur_status status, fur_status wanted, const char *part);
void kit_expect_ok(const fur_error *error, fur_status status);

/* Runs the call with the k-th allocation failing, k = 1, 2, ..., until it gets through. Each time it must return
 * FUR_E_MEMORY and leave no allocation behind. The call releases what it made. Returns the number of allocations. */
typedef fur_status (*kit_call)(void *user, fur_error *error);
int64_t kit_each_allocation_fails(kit_call call, void *user);
/* The same for operations that change files, failing with `error_number`: FUR_E_IO each time, and `check` (may be NULL)
 * is called after each to look at what is left. Returns the number of operations. */
int64_t kit_each_write_fails(kit_call call, void *user, int error_number, void (*check)(void *user, int64_t k));

#endif
