/* SPDX-License-Identifier: Apache-2.0 */
/* Archives for tests, as NumPy writes them: members stored or deflated, with 64-bit sizes or without. */
#ifndef FUR_TESTS_KIT_ZIP_H
#define FUR_TESTS_KIT_ZIP_H

#include <stdbool.h>

#include "kit/files.h"

typedef struct kit_zip {
    unsigned char *bytes, *directory;
    int64_t count, size, directory_size;
    bool wide; /* zip64 */
} kit_zip;

void kit_zip_begin(kit_zip *zip, bool wide);
void kit_zip_add(kit_zip *zip, const char *name, const void *data, int64_t bytes, bool deflated);
/* A .npy member: `header` is the dictionary. */
void kit_zip_npy(kit_zip *zip, const char *name, const char *header, const void *data, int64_t bytes, bool deflated);
/* Directory and end; the archive is then bytes[0 .. size). Free with kit_zip_clear. */
void kit_zip_end(kit_zip *zip);
void kit_zip_clear(kit_zip *zip);

#endif
