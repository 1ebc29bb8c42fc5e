/* SPDX-License-Identifier: Apache-2.0 */
#include "fit_model.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

static int capture(cli_session *session, fur_model *model)
{
    const cli_options *o = session->options;
    const fur_model_config *config = fur_model_config_of(model);
    char a[CLI_UNIT], b[CLI_UNIT];
    fur_fit_capture_settings settings;
    fur_corpus *corpus = NULL;
    fur_fit_data *data = NULL;
    fur_fit_capture_defaults(&settings);
    settings.layer = o->layer;
    settings.head = o->head;
    settings.context_tokens = o->context > 0                              ? o->context
                              : settings.context_tokens < config->context ? settings.context_tokens
                                                                          : config->context;
    if (o->max_tokens > 0)
        settings.sequences = o->max_tokens / settings.context_tokens > 0 ? o->max_tokens / settings.context_tokens : 1;
    int code = cli_memory_limit(session, &settings.memory_bytes, NULL);
    if (code == CLI_OK)
        code = cli_corpus_open(session, &o->files, config->vocabulary, &corpus);
    if (code != CLI_OK)
        return code;
    fur_status status = fur_fit_capture(session->context, model, corpus, &settings, &data);
    fur_corpus_close(corpus);
    if (status != FUR_OK)
        return cli_fail_data(session, status);
    fur_fit_info info = fur_fit_data_info(data);
    status = fur_fit_data_save(session->context, data, o->output);
    fur_fit_data_close(data);
    if (status != FUR_OK)
        return cli_fail(session, status);
    if (o->json) {
        json_t *object = json_object();
        cli_json_text(object, "output", o->output);
        cli_json_int(object, "layer", o->layer);
        cli_json_int(object, "head", o->head);
        cli_json_int(object, "sequences", info.sequences);
        cli_json_int(object, "rows", info.queries);
        cli_json_int(object, "a1_width", info.a1_width);
        cli_json_int(object, "b_width", info.b_width);
        cli_json_print(stdout, object);
    } else {
        printf("%s: layer %" PRId64 ", head %" PRId64 ": %s rows of %s sequences\n", o->output, o->layer, o->head,
               cli_thousands(a, info.queries), cli_thousands(b, info.sequences));
    }
    return CLI_OK;
}

int cli_fit_capture(cli_session *session)
{
    const cli_options *o = session->options;
    if (o->model == NULL)
        return cli_refuse(session, CLI_USAGE, "--capture: expected the folder of a model, such as -m runs/book-1");
    if (o->files.count == 0)
        return cli_refuse(session, CLI_USAGE, "--capture: expected a text to record on, such as -f book.txt");
    if (o->output == NULL)
        return cli_refuse(session, CLI_USAGE, "--capture: expected a file to write, such as -o head.safetensors");
    return cli_with_model(session, capture);
}

int cli_fit_check_install(const cli_session *session)
{
    const cli_options *o = session->options;
    struct stat info;
    if (o->install == NULL)
        return CLI_OK;
    if (o->model == NULL)
        return cli_refuse(session, CLI_USAGE, "--install: expected the folder of a model, such as -m runs/book-1");
    if (lstat(o->install, &info) == 0)
        return cli_refuse(session, CLI_USAGE, "--install: %s exists already", o->install);
    return CLI_OK;
}

int cli_fit_install(const cli_session *session, const fur_fit_result *result)
{
    const cli_options *o = session->options;
    fur_model *model = NULL;
    if (o->install == NULL)
        return CLI_OK;
    char *folder = cli_model_folder(session, o->model);
    if (folder == NULL)
        return CLI_BAD_INPUT;
    fur_status status = fur_model_load(session->context, folder, &model);
    cli_free(folder);
    if (status != FUR_OK)
        return cli_fail_input(session, status);
    status = fur_fit_install(session->context, model, o->layer, o->head, result);
    if (status == FUR_OK && mkdir(o->install, 0777) != 0) {
        fur_model_destroy(model);
        return cli_refuse(session, CLI_FAILED, "--install: %s: %s", o->install, strerror(errno));
    }
    if (status == FUR_OK)
        status = fur_model_save(session->context, model, o->install);
    fur_model_destroy(model);
    if (status == FUR_E_SHAPE)
        return cli_refuse(session, CLI_USAGE, "--install: %s", fur_context_error(session->context));
    return status == FUR_OK ? CLI_OK : cli_fail(session, status);
}
