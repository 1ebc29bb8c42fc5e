/* SPDX-License-Identifier: Apache-2.0 */
/* A file without a name, and one thread that reads and writes it beside the computation.
 *
 *   caller   write(a) write(b) read(c) ......... wait(c)        requests run in the order in which they were made, so a
 *   thread         pwrite a | pwrite b | pread c                read sees every write before it
 *
 * No mapping: mapped pages would count as the process's memory, those of the page cache do not. The file is unlinked as
 * soon as it is made and gone when the process is, however that ends. The first failure stays: later requests do
 * nothing, and every wait returns it until fur_spill_clear. One caller at a time. */
#ifndef FUR_STORE_SPILL_H
#define FUR_STORE_SPILL_H

#include <stdint.h>

#include "base/error.h"

typedef struct fur_spill fur_spill;

/* A file in `folder` that will hold up to `bytes`. FUR_E_IO where the folder cannot be written or has less room. */
fur_status fur_spill_create(fur_error *error, const char *folder, int64_t bytes, fur_spill **out);
/* Lets the request in progress end and drops the others. NULL allowed. */
void fur_spill_destroy(fur_spill *spill);

/* Queues a request and returns its ticket (1, 2, ...); waits only where very many are queued already. The bytes at
 * `data` stay the thread's until the ticket was waited for. Ranges are within the file's size, or nothing is done and
 * the wait returns FUR_E_INTERNAL. */
int64_t fur_spill_write(fur_spill *spill, int64_t offset, const void *data, int64_t bytes);
int64_t fur_spill_read(fur_spill *spill, int64_t offset, void *data, int64_t bytes);
/* The range will not be read before it is written again: its pages in the system's cache may go. */
int64_t fur_spill_forget(fur_spill *spill, int64_t offset, int64_t bytes);
/* Until this request and all before it are done. Ticket 0 is always done. */
fur_status fur_spill_wait(fur_error *error, fur_spill *spill, int64_t ticket);
/* Waits for all requests and forgets a failure. */
void fur_spill_clear(fur_spill *spill);

#endif
