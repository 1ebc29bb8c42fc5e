/* SPDX-License-Identifier: Apache-2.0 */
#include "stop.h"

#include <string.h>

/* Whether the waiting text from `at` on begins with the word, or, where it is shorter, is a beginning of it. */
static bool agrees(const cli_stop *stop, size_t at, const char *word, bool *whole)
{
    size_t left = stop->waiting.length - at, length = strlen(word);
    *whole = left >= length;
    return memcmp(stop->waiting.text + at, word, *whole ? length : left) == 0;
}

/* The first place where a word is or, with `partly`, may come to be; the end of the text where there is none. */
static size_t first_agreement(cli_stop *stop, bool partly)
{
    for (size_t at = 0; at < stop->waiting.length; at++)
        for (int64_t i = 0; i < stop->words->count; i++) {
            bool whole;
            if (!agrees(stop, at, stop->words->items[i], &whole) || (!whole && !partly))
                continue;
            stop->found = whole;
            return at;
        }
    return stop->waiting.length;
}

void cli_stop_add(cli_stop *stop, const char *text, size_t bytes, cli_string *out)
{
    if (stop->found)
        return;
    cli_append_bytes(&stop->waiting, text, bytes);
    size_t certain = first_agreement(stop, true);
    cli_append_bytes(out, stop->waiting.text, certain);
    stop->waiting.length -= certain;
    memmove(stop->waiting.text, stop->waiting.text + certain, stop->waiting.length);
}

void cli_stop_end(cli_stop *stop, cli_string *out)
{
    if (!stop->found && stop->waiting.length > 0) /* a word may be there, behind the beginning of another one */
        cli_append_bytes(out, stop->waiting.text, first_agreement(stop, false));
    stop->waiting.length = 0;
}

void cli_stop_clear(cli_stop *stop)
{
    cli_string_clear(&stop->waiting);
}
