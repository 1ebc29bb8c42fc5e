/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stdio.h>

#include "base/context.h"

/* Resident growth after the context was made that no arena holds: code of the libraries once it runs, thread stacks,
 * generated kernels, stdio. Measured as peak RSS less start and arena on runs of 30 to 900 MB. */
#define LIBRARY_BYTES ((int64_t)12 << 20)

int64_t fur_context_process_bytes(const fur_context *context)
{
    return context->base_rss_bytes + LIBRARY_BYTES;
}

void fur_log(const fur_context *context, fur_log_level level, const char *format, ...)
{
    if (!context->log)
        return;
    char line[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    context->log(context->log_user, level, line);
}
