/* SPDX-License-Identifier: Apache-2.0 */
/* furlong convert: a model's files, with look-up tables stored as another type. */
#include <inttypes.h>

#include "verb.h"

typedef struct conversion {
    cli_table table; /* for people */
    json_t *list;    /* for programs */
} conversion;

static void on_table(void *user, const fur_converted_table *table)
{
    conversion *c = user;
    char shape[CLI_TWO_UNITS], before[CLI_UNIT], after[CLI_UNIT], error[CLI_UNIT], norm[CLI_UNIT];
    (void)snprintf(shape, sizeof shape, "%" PRId64 " x %" PRId64, table->rows, table->columns);
    (void)snprintf(error, sizeof error, "%.2g %%", 100 * table->largest_error);
    (void)snprintf(norm, sizeof norm, "%.2g %%", 100 * table->error_norm);
    cli_table_row(&c->table, table->name, shape, cli_bytes(before, table->bytes_before),
                  cli_bytes(after, table->bytes_after), error, norm);
    json_t *item = json_object();
    cli_json_text(item, "name", table->name);
    cli_json_int(item, "rows", table->rows);
    cli_json_int(item, "columns", table->columns);
    cli_json_int(item, "bytes_before", table->bytes_before);
    cli_json_int(item, "bytes_after", table->bytes_after);
    cli_json_real(item, "largest_error", table->largest_error);
    cli_json_real(item, "error_norm", table->error_norm);
    (void)json_array_append_new(c->list, item);
}

static void print_json(const cli_session *session, const char *from, conversion *c, const fur_conversion *done)
{
    json_t *object = json_object();
    cli_json_text(object, "folder", from);
    cli_json_text(object, "output_dir", session->options->output_dir);
    cli_json_text(object, "table_type", fur_table_type_name((int)done->table_type));
    cli_json_int(object, "bytes_before", done->bytes_before);
    cli_json_int(object, "bytes_after", done->bytes_after);
    cli_json_real(object, "largest_error", done->largest_error);
    (void)json_object_set(object, "tables", c->list);
    cli_json_print(stdout, object);
}

static void print_text(const cli_session *session, const char *from, conversion *c, const fur_conversion *done)
{
    char before[CLI_UNIT], after[CLI_UNIT];
    if (done->tables > 0)
        cli_table_print(&c->table, stdout, &session->out);
    printf("%s -> %s: %s before, %s after", from, session->options->output_dir, cli_bytes(before, done->bytes_before),
           cli_bytes(after, done->bytes_after));
    if (done->tables > 0)
        printf("; %" PRId64 " tables as %s, off by at most %.2g %% of the largest number in a row", done->tables,
               fur_table_type_name((int)done->table_type), 100 * done->largest_error);
    putchar('\n');
}

int verb_convert(cli_session *session)
{
    const cli_options *options = session->options;
    if (options->model == NULL)
        return cli_refuse(session, CLI_USAGE, "--model: expected the folder of a model, such as -m runs/book-1");
    if (options->output_dir == NULL)
        return cli_refuse(session, CLI_USAGE, "--output-dir: expected the folder to write, such as -o book-int8");
    int code = cli_session_open(session);
    char *folder = code == CLI_OK ? cli_model_folder(session, options->model) : NULL;
    if (folder == NULL)
        return code != CLI_OK ? code : CLI_BAD_INPUT;
    conversion c = {.list = json_array()};
    fur_conversion done;
    cli_table_init(&c.table, "lrrrrr", "table", "shape", "before", "after", "off by at most", "in the mean");
    fur_status status =
        fur_model_convert(session->context, folder, options->output_dir, options->table_type, on_table, &c, &done);
    if (status != FUR_OK)
        code = cli_fail_input(session, status);
    else if (options->json)
        print_json(session, folder, &c, &done);
    else
        print_text(session, folder, &c, &done);
    cli_table_clear(&c.table);
    json_decref(c.list);
    cli_free(folder);
    return code;
}
