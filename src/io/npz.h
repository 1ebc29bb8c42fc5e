/* SPDX-License-Identifier: Apache-2.0 */
/* NumPy's .npz: a zip archive whose members are .npy files, stored or deflated, zip64 or not.
 *
 * The archive is known from its central directory, at its end; each member's sizes, checksum and place are checked
 * against the file before anything is read from it. Encrypted members, other methods and archives over several files
 * are refused. */
#ifndef FUR_IO_NPZ_H
#define FUR_IO_NPZ_H

#include "io/npy.h"

#define FUR_NPZ_MAX_MEMBERS 4096

typedef struct fur_npz fur_npz;

fur_status fur_npz_open(fur_error *error, const char *path, fur_npz **out);
void fur_npz_close(fur_npz *file); /* NULL allowed */
/* Index of the array of that name (the member NAME.npy, or NAME); -1: none. */
int64_t fur_npz_find(const fur_npz *file, const char *name);
int64_t fur_npz_count(const fur_npz *file);
/* Name of the array, without .npy. */
const char *fur_npz_name(const fur_npz *file, int64_t index);
/* Type and shape. */
fur_status fur_npz_array(fur_error *error, const fur_npz *file, int64_t index, fur_npy *out);
/* All numbers of the array as they are stored: rows * columns of them. The member's checksum is verified. */
fur_status fur_npz_read(fur_error *error, const fur_npz *file, int64_t index, void *out);

#endif
