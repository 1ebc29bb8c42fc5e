/* SPDX-License-Identifier: Apache-2.0 */
/* Text that comes in pieces, up to the first of some stop strings: what may be the beginning of one waits. */
#ifndef FUR_CLI_STOP_H
#define FUR_CLI_STOP_H

#include "options.h"
#include "text.h"

typedef struct cli_stop {
    const cli_list *words; /* none of them empty */
    cli_string waiting;    /* may be the beginning of a word */
    bool found;
} cli_stop;

/* Appends to `out` what is certain now not to be part of a stop string; nothing any more once one was found, which is
 * left out. */
void cli_stop_add(cli_stop *stop, const char *text, size_t bytes, cli_string *out);
/* At the end: what waited for more. */
void cli_stop_end(cli_stop *stop, cli_string *out);
void cli_stop_clear(cli_stop *stop);

#endif
