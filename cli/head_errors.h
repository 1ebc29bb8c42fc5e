/* SPDX-License-Identifier: Apache-2.0 */
/* Errors of attention by head, in words, as a table, as JSON. */
#ifndef FUR_CLI_HEAD_ERRORS_H
#define FUR_CLI_HEAD_ERRORS_H

#include <stdio.h>

#include "furlong/furlong.h"
#include "text.h"

typedef struct cli_head_summary {
    int64_t exact;               /* heads */
    const fur_head_error *worst; /* by output, among those that are not exact; NULL: there are none */
    double median, dq, dk, dv;   /* of outputs; the others' largest that are known */
} cli_head_summary;

cli_head_summary cli_head_errors_summary(const fur_head_error *errors, int64_t count);
/* One line without its end. */
void cli_head_errors_line(cli_string *out, const fur_head_error *errors, int64_t count);
/* Copies of the errors, worst first; the caller frees. */
fur_head_error *cli_head_errors_sorted(const fur_head_error *errors, int64_t count);
/* "1.2e-03 (9.8e-04 to 1.4e-03)", "-" where not measured. */
void cli_sampled_error(char out[CLI_TWO_UNITS], const fur_sampled_error *error);
/* Table of the `most` worst heads; `fate`: the title of the column that says which are exact. */
void cli_head_errors_print(const fur_head_error *errors, int64_t count, int64_t most, const char *fate, FILE *file,
                           const cli_style *style);
json_t *cli_head_errors_json(const fur_head_error *errors, int64_t count);

#endif
