/* SPDX-License-Identifier: Apache-2.0 */
/* A context carries what a call needs and a model does not own: threads, instruction set, log, and the text of
 * the last error. One context serves one calling thread at a time; contexts are independent of each other. */
#ifndef FURLONG_CONTEXT_H
#define FURLONG_CONTEXT_H

#include <stddef.h>
#include <stdint.h>

#include "furlong/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct fur_context fur_context;

typedef enum fur_log_level { FUR_LOG_INFO = 0, FUR_LOG_WARNING = 1 } fur_log_level;

/* Receives one line without a newline. Called on the thread that called the library. */
typedef void (*fur_log_fn)(void *user, fur_log_level level, const char *line);

typedef struct fur_context_settings {
    size_t struct_size; /* sizeof(fur_context_settings), set by the defaults function */
    int threads;        /* 0: physical cores within affinity mask and control-group quota */
    const char
        *isa; /* "ref", "avx2", "avx512", "avx512bf16", "amx"; NULL: FURLONG_ISA, else the best the machine has */
    const char
        *dtype; /* operands of matrix products and attention: "f32", "bf16"; NULL: f32, or in a resumed run its own */
    fur_log_fn log; /* NULL: silent */
    void *log_user;
} fur_context_settings;

FUR_API void fur_context_settings_defaults(fur_context_settings *settings);

/* Creates a context. On failure *out is NULL and, since there is no context to hold a text, `error_text`
 * (error_bytes long; may be NULL) receives it. The caller destroys the context after everything made with it. */
FUR_API fur_status fur_context_create(const fur_context_settings *settings, fur_context **out, char *error_text,
                                      size_t error_bytes);
FUR_API void fur_context_destroy(fur_context *context);

/* Text of the last failure on this context: one line, at most 511 bytes, "" if none. Owned by the context. */
FUR_API const char *fur_context_error(const fur_context *context);

/* Asks a running fur_train_run, fur_generate, fur_evaluate or fur_score_choices to end at its next safe point (a
 * training run saves a checkpoint first). Safe to call from a signal handler or another thread. */
FUR_API void fur_context_stop(fur_context *context);

FUR_API int fur_context_threads(const fur_context *context);
FUR_API const char *fur_context_isa(const fur_context *context);
/* "f32" or "bf16": type of the operands of products. Weights, gradients, sums and statistics are f32 in both. */
FUR_API const char *fur_context_dtype(const fur_context *context);

/* What the machine is. Bytes; text is constant or in the struct. */
typedef struct fur_machine {
    char cpu_name[96];
    char isa_available[64];   /* every variant this machine can run, "ref avx2 avx512 avx512bf16" */
    char isa_missing[64];     /* variants of this build it cannot run */
    const char *isa;          /* the one in use on this context */
    int cores;                /* physical cores within affinity and quota */
    int64_t memory_total;     /* RAM of the machine */
    int64_t memory_available; /* available now, or what the control group still allows if that is less */
    int64_t l2_bytes, l3_bytes;
} fur_machine;
FUR_API fur_status fur_machine_read(fur_context *context, fur_machine *out);

/* Default of --memory: 80 % of the smaller of available memory and the control group's limit. */
FUR_API int64_t fur_machine_default_memory(const fur_machine *machine);

/* Resident memory of this process: now (VmRSS) and at most so far (VmHWM). 0 where unknown. */
FUR_API int64_t fur_process_rss_bytes(void);
FUR_API int64_t fur_process_peak_rss_bytes(void);

#ifdef __cplusplus
}
#endif
#endif
