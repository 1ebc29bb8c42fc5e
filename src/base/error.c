/* SPDX-License-Identifier: Apache-2.0 */
#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *fur_status_name(fur_status status)
{
    static const char *const names[] = {
        "ok",         "bad argument", "bad shape",  "out of memory", "does not fit", "input/output error",
        "bad format", "unsupported",  "not finite", "interrupted",   "busy",         "internal error",
    };
    size_t index = (size_t)status;
    return index < sizeof names / sizeof names[0] ? names[index] : "unknown status";
}

/* File names and keys from outside end up in the text: keep it one printable line. */
static void make_printable(char *text)
{
    for (char *c = text; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            *c = '?';
}

fur_status(fur_error_set)(fur_error *error, fur_status status, const char *format, ...)
{
    if (!error)
        return status;
    char text[sizeof error->text]; /* arguments may point into error->text */
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    make_printable(text);
    memcpy(error->text, text, sizeof text);
    error->status = status;
    return status;
}

fur_status fur_error_prefix(fur_error *error, const char *format, ...)
{
    if (!error)
        return FUR_OK;
    char prefix[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(prefix, sizeof prefix, format, arguments);
    va_end(arguments);
    return fur_error_set(error, error->status, "%s: %s", prefix, error->text);
}
