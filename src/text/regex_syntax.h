/* SPDX-License-Identifier: Apache-2.0 */
/* Oniguruma's syntax (its Ruby flavour, the default) into that of PCRE2. */
#ifndef FUR_TEXT_REGEX_SYNTAX_H
#define FUR_TEXT_REGEX_SYNTAX_H

#include <stdbool.h>

#include "text/buffer.h"

/* Appends the translation. *looks_behind: it has look-behinds or anchors. */
fur_status fur_regex_translate(fur_error *error, const char *where, const char *pattern, int64_t bytes,
                               bool names_scripts, fur_string *out, bool *looks_behind);

#endif
