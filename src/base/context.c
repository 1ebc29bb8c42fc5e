/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/context.h"

/* Resident growth after the context was made that no arena holds: code of the libraries once it runs and stdio (9 MB
 * measured with AVX-512, 4 with AVX2), generated kernels (18 KB for each shape of product, at most 384 of them at
 * once), and for each thread its stack and the tiles that oneDNN packs there (1 to 2 MB; 1 with AVX2). Held to by
 * bench/show/memory.sh. */
static int64_t growth_bytes(const fur_context *context)
{
    int64_t avx2 = context->exec.isa == FUR_ISA_AVX2;
    return ((avx2 ? 11 : 16) + context->exec.threads * (avx2 ? 1 : 2)) * ((int64_t)1 << 20);
}

static const char *const compute_names[] = {"f32", "bf16"};

const char *fur_compute_name(fur_compute compute)
{
    return compute_names[compute];
}

int fur_compute_from_name(const char *name)
{
    for (int i = 0; i < 2; i++)
        if (strcmp(name, compute_names[i]) == 0)
            return i;
    return -1;
}

int64_t fur_context_process_bytes(const fur_context *context)
{
    return context->base_rss_bytes + growth_bytes(context);
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
