/* SPDX-License-Identifier: Apache-2.0 */
/* The text beside a status. Fallible functions return fur_error_set(...) so that code and text are set together. */
#ifndef FUR_BASE_ERROR_H
#define FUR_BASE_ERROR_H

#include "base/compiler.h"
#include "furlong/status.h"

typedef struct fur_error {
    fur_status status;
    char text[512];
} fur_error;

/* Formats the text (cut at 511 bytes, control characters replaced by '?') and returns `status`. error may be NULL. */
fur_status fur_error_set(fur_error *error, fur_status status, const char *format, ...) FUR_PRINTF(3, 4);
/* Puts "prefix: " before the present text, and returns its status. error NULL: FUR_OK. */
fur_status fur_error_prefix(fur_error *error, const char *format, ...) FUR_PRINTF(2, 3);

#ifdef __clang_analyzer__
/* It looks at one file at a time: tell it that the status given is the one returned, so never FUR_OK. */
#    define fur_error_set(error, status, ...) ((void)fur_error_set(error, status, __VA_ARGS__), (status))
#endif

#define FUR_TRY(expression)                                                                                            \
    do {                                                                                                               \
        fur_status try_status_ = (expression);                                                                         \
        if (try_status_ != FUR_OK)                                                                                     \
            return try_status_;                                                                                        \
    } while (0)

#endif
