/* SPDX-License-Identifier: Apache-2.0 */
/* Plans for people and programs: one plan item by item, and a table over contexts. */
#ifndef FUR_CLI_PLAN_VIEW_H
#define FUR_CLI_PLAN_VIEW_H

#include "session.h"

/* One line of the table over contexts. */
typedef struct cli_plan_row {
    int64_t tokens;
    fur_plan plan;
    int64_t least_bytes;        /* of the smallest plan: nothing kept that can be computed again */
    int64_t plain_bytes;        /* plain attention, everything saved */
    int64_t checkpointed_bytes; /* attention kernel, per-layer checkpoints, full logits */
} cli_plan_row;

#define CLI_PLAN_ROWS 9 /* 4K, 8K, ..., 1M */

/* Plans of one document of 4K to 1M tokens; request->row_tokens is replaced. Longer ones than the model's positions are
 * planned as if it had them. */
int cli_plan_rows_make(const cli_session *session, const fur_model_config *config, const fur_plan_request *request,
                       cli_plan_row rows[CLI_PLAN_ROWS]);
void cli_plan_rows_print(const cli_plan_row *rows, int count, int64_t memory_bytes, FILE *file, const cli_style *style);
json_t *cli_plan_rows_json(const cli_plan_row *rows, int count);

/* "4 layers x 128, 4 heads x 32, exact, dense: 0.98 M parameters" */
void cli_config_line(cli_string *out, const fur_model_config *config);
/* Of a model with look-up tables: a line more that says both sides of the trade; and its members. */
void cli_tables_line(cli_string *out, const fur_model_config *config);
void cli_tables_json(json_t *object, const fur_model_config *config);
void cli_plan_print(const fur_plan *plan, fur_purpose purpose, int64_t tokens, int64_t memory_bytes, FILE *file,
                    const cli_style *style);
/* fits, peak_bytes, disk_bytes, flops, seconds, items, and what the plan chose. */
json_t *cli_plan_json(const fur_plan *plan);

/* "kept in memory: ...", "kept on disk: ... (up to 3 GiB)", "computed again: ...": those that there are. */
void cli_plan_places(cli_string *out, const fur_plan *plan, const char *between);

#endif
