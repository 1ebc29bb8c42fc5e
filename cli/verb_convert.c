/* SPDX-License-Identifier: Apache-2.0 */
/* furlong convert: a model's files, to and from GGUF, or with look-up tables stored as another type. */
#include <inttypes.h>
#include <string.h>

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

/* ---- into GGUF -------------------------------------------------------------------------------------------------- */

static bool ends_in_gguf(const char *name)
{
    size_t length = strlen(name);
    return length > 5 && strcmp(name + length - 5, ".gguf") == 0;
}

static void print_gguf_json(const cli_session *session, const char *from, const fur_gguf_written *done)
{
    json_t *object = json_object();
    cli_json_text(object, "folder", from);
    cli_json_text(object, "output", session->options->output_dir);
    cli_json_text(object, "architecture", done->architecture);
    cli_json_text(object, "type", session->options->type);
    cli_json_int(object, "tensors", done->tensors);
    cli_json_int(object, "kept_f32", done->kept);
    cli_json_int(object, "bytes_after", done->bytes);
    cli_json_bool(object, "vocabulary", done->vocabulary);
    if (!done->vocabulary)
        cli_json_text(object, "no_vocabulary", done->no_vocabulary);
    cli_json_print(stdout, object);
}

static int into_gguf(cli_session *session, const char *from)
{
    const cli_options *options = session->options;
    fur_gguf_written done;
    char size[CLI_UNIT];
    if (options->table_type != NULL)
        return cli_refuse(session, CLI_USAGE, "--table-type: GGUF has no look-up tables");
    fur_status status = fur_model_write_gguf(session->context, from, options->output_dir, options->type, &done);
    if (status != FUR_OK)
        return cli_fail_input(session, status);
    if (options->json) {
        print_gguf_json(session, from, &done);
        return CLI_OK;
    }
    printf("%s -> %s: architecture %s, %" PRId64 " tensors as %s, %s\n", from, options->output_dir, done.architecture,
           done.tensors, options->type, cli_bytes(size, done.bytes));
    if (done.kept > 0)
        printf("%" PRId64 " matrices stayed f32: their rows are no whole blocks of 32\n", done.kept);
    if (!done.vocabulary)
        printf("it has no vocabulary: %s\n", done.no_vocabulary);
    return CLI_OK;
}

/* ---- into a folder ---------------------------------------------------------------------------------------------- */

static int into_folder(cli_session *session, const char *from)
{
    const cli_options *options = session->options;
    int code = CLI_OK;
    if (cli_source_of(options, "type") == CLI_FROM_COMMAND)
        return cli_refuse(session, CLI_USAGE, "--type: of a GGUF file, such as -o %s.gguf", options->output_dir);
    conversion c = {.list = json_array()};
    fur_conversion done;
    cli_table_init(&c.table, "lrrrrr", "table", "shape", "before", "after", "off by at most", "in the mean");
    fur_status status =
        fur_model_convert(session->context, from, options->output_dir, options->table_type, on_table, &c, &done);
    if (status != FUR_OK)
        code = cli_fail_input(session, status);
    else if (options->json)
        print_json(session, from, &c, &done);
    else
        print_text(session, from, &c, &done);
    cli_table_clear(&c.table);
    json_decref(c.list);
    return code;
}

int verb_convert(cli_session *session)
{
    const cli_options *options = session->options;
    if (options->model == NULL)
        return cli_refuse(session, CLI_USAGE,
                          "--model: expected the folder of a model, such as -m runs/book-1, or a GGUF file");
    if (options->output_dir == NULL)
        return cli_refuse(session, CLI_USAGE,
                          "--output-dir: expected the folder to write, such as -o book-int8, or book.gguf");
    int code = cli_session_open(session);
    char *folder = code == CLI_OK ? cli_model_folder(session, options->model) : NULL;
    if (folder == NULL)
        return code != CLI_OK ? code : CLI_BAD_INPUT;
    code = ends_in_gguf(options->output_dir) ? into_gguf(session, folder) : into_folder(session, folder);
    cli_free(folder);
    return code;
}
