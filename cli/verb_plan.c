/* SPDX-License-Identifier: Apache-2.0 */
/* furlong plan: bytes and seconds before the run. */
#include <inttypes.h>
#include <string.h>

#include "plan_view.h"
#include "verb.h"

static int plan_longest(cli_session *session, const fur_model_config *config, const fur_plan_request *request)
{
    int64_t tokens = 0;
    char a[CLI_UNIT], b[CLI_UNIT];
    fur_plan plan;
    fur_plan_request one = *request;
    fur_status status = fur_plan_longest(session->context, config, request, &tokens);
    if (status != FUR_OK)
        return cli_fail(session, status);
    one.row_tokens = one.document_tokens = tokens > 0 ? tokens : 1;
    status = fur_plan_make(session->context, config, &one, &plan);
    if (status != FUR_OK)
        return cli_fail(session, status);
    if (session->options->json) {
        json_t *object = cli_plan_json(&plan);
        cli_json_int(object, "longest", tokens);
        cli_json_int(object, "memory_bytes", request->memory_bytes);
        cli_json_print(stdout, object);
    } else if (tokens > 0) {
        printf("longest document in %s: %s tokens\n", cli_bytes(a, request->memory_bytes), cli_thousands(b, tokens));
        cli_plan_print(&plan, request->purpose, tokens, request->memory_bytes, stdout, &session->out);
    }
    if (tokens == 0)
        return cli_refuse(session, CLI_DOES_NOT_FIT, "no document fits %s: even one token needs %s",
                          cli_bytes(a, request->memory_bytes), cli_bytes(b, plan.peak_bytes));
    return CLI_OK;
}

static int plan_one(cli_session *session, const fur_model_config *config, const fur_plan_request *request)
{
    fur_plan plan;
    char a[CLI_UNIT], b[CLI_UNIT], c[CLI_UNIT];
    fur_status status = fur_plan_make(session->context, config, request, &plan);
    if (status != FUR_OK)
        return cli_fail(session, status);
    if (session->options->json) {
        json_t *object = cli_plan_json(&plan);
        cli_tables_json(object, config);
        cli_json_int(object, "tokens", request->row_tokens);
        cli_json_int(object, "memory_bytes", request->memory_bytes);
        cli_json_print(stdout, object);
    } else {
        cli_plan_print(&plan, request->purpose, request->row_tokens, request->memory_bytes, stdout, &session->out);
    }
    if (plan.fits)
        return CLI_OK;
    if (plan.disk_bytes > request->disk_bytes)
        return cli_refuse(session, CLI_DOES_NOT_FIT, "puts %s on disk, more than %s", cli_bytes(a, plan.disk_bytes),
                          cli_bytes(b, request->disk_bytes));
    int64_t longest = 0;
    status = fur_plan_longest(session->context, config, request, &longest);
    if (status != FUR_OK)
        return cli_fail(session, status);
    return cli_refuse(session, CLI_DOES_NOT_FIT, "needs %s, more than %s; the longest document that fits has %s tokens",
                      cli_bytes(a, plan.peak_bytes), cli_bytes(b, request->memory_bytes), cli_thousands(c, longest));
}

/* Only training stores anything. */
static int check_options(const cli_session *session)
{
    static const char *const stores[] = {"disk", "disk-dir", "store", "store-dtype", "keep"};
    for (size_t i = 0; i < sizeof stores / sizeof stores[0]; i++)
        if (strcmp(session->options->purpose, "train") != 0 &&
            cli_source_of(session->options, stores[i]) == CLI_FROM_COMMAND)
            return cli_refuse(session, CLI_USAGE, "--%s: an option of plan --for train, not --for %s", stores[i],
                              session->options->purpose);
    return CLI_OK;
}

/* Weights beside adapters stay as their file has them. */
static int frozen_bytes(cli_session *session, const fur_model_config *adapted, int64_t *bytes)
{
    fur_model_config plain = *adapted;
    char *folder = cli_model_folder(session, session->options->model);
    if (folder == NULL)
        return CLI_BAD_INPUT;
    fur_status status = fur_model_open_bytes(session->context, folder, bytes);
    cli_free(folder);
    if (status == FUR_OK)
        status = fur_config_set_lora(session->context, &plain, 0, 0, "");
    if (status != FUR_OK)
        return cli_fail_input(session, status);
    *bytes += (fur_config_parameter_count(adapted) - fur_config_parameter_count(&plain)) * (int64_t)sizeof(float);
    return CLI_OK;
}

int verb_plan(cli_session *session)
{
    const cli_options *options = session->options;
    fur_model_config config;
    fur_plan_request request;
    bool bytes = options->tokenizer != NULL && strcmp(options->tokenizer, "bytes") == 0;
    int code = check_options(session);
    if (code == CLI_OK)
        code = cli_session_open(session);
    if (code == CLI_OK)
        code = cli_config_open(session, "bytes-1m", options->context, bytes, &config);
    if (code == CLI_OK && options->tokenizer != NULL && !bytes && options->model == NULL)
        code = cli_tokenizer_vocabulary(session, options->tokenizer, &config.vocabulary);
    if (code != CLI_OK)
        return code;
    if (options->lora_rank > 0) {
        double alpha = 2.0 * (double)options->lora_rank; /* of no meaning to bytes and seconds */
        fur_status status =
            fur_config_set_lora(session->context, &config, options->lora_rank, alpha, options->lora_targets);
        if (status != FUR_OK)
            return cli_fail(session, status);
    }
    fur_plan_request_defaults(&request);
    if (options->lora_rank > 0 && options->model != NULL)
        code = frozen_bytes(session, &config, &request.weight_bytes);
    if (code != CLI_OK)
        return code;
    code = cli_memory_limit(session, &request.memory_bytes, NULL);
    if (code != CLI_OK)
        return code;
    request.purpose = strcmp(options->purpose, "eval") == 0       ? FUR_FOR_EVAL
                      : strcmp(options->purpose, "generate") == 0 ? FUR_FOR_GENERATE
                                                                  : FUR_FOR_TRAIN;
    request.keep = cli_keep_of(options);
    request.row_updates = request.purpose == FUR_FOR_TRAIN;
    request.row_adam = strcmp(options->table_optimizer, "adam") == 0;
    request.superblock = options->superblock;
    cli_disk disk;
    code = cli_disk_limit(session, ".", &disk);
    if (code != CLI_OK)
        return code;
    request.disk_bytes = disk.bytes;
    request.inputs = disk.inputs;
    request.attention = disk.attention;
    request.optimizer = disk.optimizer;
    request.keys = disk.keys;
    request.stored = disk.stored;
    request.document_tokens = options->context;
    request.row_tokens = options->row_tokens > options->context ? options->row_tokens : options->context;
    if (!options->json) {
        cli_string line = {NULL, 0, 0};
        cli_config_line(&line, &config);
        cli_tables_line(&line, &config);
        printf("%s\n", line.text);
        cli_string_clear(&line);
    }
    if (options->longest)
        return plan_longest(session, &config, &request);
    if (options->context > 0)
        return plan_one(session, &config, &request);
    cli_plan_row rows[CLI_PLAN_ROWS];
    code = cli_plan_rows_make(session, &config, &request, rows);
    if (code != CLI_OK)
        return code;
    if (options->json) {
        json_t *object = json_object();
        cli_json_int(object, "memory_bytes", request.memory_bytes);
        (void)json_object_set_new(object, "contexts", cli_plan_rows_json(rows, CLI_PLAN_ROWS));
        cli_json_print(stdout, object);
    } else {
        cli_plan_rows_print(rows, CLI_PLAN_ROWS, request.memory_bytes, stdout, &session->out);
    }
    return CLI_OK;
}
