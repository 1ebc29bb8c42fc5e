/* SPDX-License-Identifier: Apache-2.0 */
/* What the public handle fur_context holds. Filled by src/api/context.c. */
#ifndef FUR_BASE_CONTEXT_H
#define FUR_BASE_CONTEXT_H

#include <stdatomic.h>
#include <stdbool.h>

#include "base/exec.h"
#include "furlong/context.h"

struct fur_context {
    fur_error error;
    fur_exec exec; /* exec.error == &error; workspace set by whoever runs operators */
    fur_log_fn log;
    void *log_user;
    bool dtype_is_given;    /* exec.compute was asked for, not a default that a checkpoint may replace */
    atomic_int stop;        /* set by fur_context_stop */
    bool yarn_is_told;      /* that a file's YaRN is read as transformers 5 reads it: once, not at each reading */
    double gflops;          /* matrix product rate measured by the plan, 0 before */
    int64_t base_rss_bytes; /* resident memory of the process when the context was made */
};

/* Resident bytes of the process that no arena, model or corpus holds: its start, and what libraries add once they run.
 */
int64_t fur_context_process_bytes(const fur_context *context);
/* Resident beyond what the process had when the context was made: what its owner holds now, such as corpora, and what
 * the allocator keeps of what tokenizers were read from. */
int64_t fur_context_held_bytes(const fur_context *context);

/* Sends one line to the caller's log; silent where there is none. */
void fur_log(const fur_context *context, fur_log_level level, const char *format, ...) FUR_PRINTF(3, 4);

#endif
