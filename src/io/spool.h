/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes appended once and then read anywhere: in RAM up to a limit, beyond it in an unlinked temporary file under
 * $TMPDIR or /tmp, which is gone when the process is. */
#ifndef FUR_IO_SPOOL_H
#define FUR_IO_SPOOL_H

#include <stdint.h>

#include "base/error.h"

typedef struct fur_spool fur_spool;

fur_status fur_spool_create(fur_error *error, int64_t ram_limit, fur_spool **out);
void fur_spool_destroy(fur_spool *spool); /* NULL allowed */
fur_status fur_spool_append(fur_error *error, fur_spool *spool, const void *data, int64_t bytes);
/* The range must have been appended. Safe from several threads once appending is over. */
fur_status fur_spool_read(fur_error *error, const fur_spool *spool, int64_t offset, void *out, int64_t bytes);
/* Gives back RAM reserved for more; call when all is appended. */
fur_status fur_spool_trim(fur_error *error, fur_spool *spool);
/* Appended so far. */
int64_t fur_spool_bytes(const fur_spool *spool);
/* RAM it holds. */
int64_t fur_spool_ram_bytes(const fur_spool *spool);

#endif
