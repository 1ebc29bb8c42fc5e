/* SPDX-License-Identifier: Apache-2.0 */
/* Help, man pages and shell completion, all made from the verb and option tables. */
#ifndef FUR_CLI_HELP_H
#define FUR_CLI_HELP_H

#include "options.h"
#include "text.h"

/* verb == CLI_VERBS: of the program itself. Appends to `out`; `width` is in columns. */
void cli_help(cli_string *out, cli_verb verb, int width, const cli_style *style);
void cli_man(cli_string *out, cli_verb verb);
/* False for a shell other than bash, zsh and fish. */
bool cli_completion(cli_string *out, const char *shell);

#endif
