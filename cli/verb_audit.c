/* SPDX-License-Identifier: Apache-2.0 */
/* furlong audit: what almost-linear attention would cost a model, head by head. */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "head_errors.h"
#include "verb.h"

enum { MOST_ROWS = 40 };

static int64_t exact_heads(const fur_audit_result *result)
{
    int64_t count = 0;
    for (int64_t i = 0; i < result->error_count; i++)
        count += result->errors[i].exact;
    return count;
}

static void print_json(const fur_audit_settings *settings, const fur_audit_result *result, const char *saved)
{
    json_t *object = json_object();
    cli_json_real(object, "max_error", settings->max_error);
    cli_json_int(object, "context", settings->context_tokens);
    cli_json_int(object, "heads", result->error_count);
    cli_json_int(object, "exact_heads", exact_heads(result));
    (void)json_object_set_new(object, "head_errors", cli_head_errors_json(result->errors, result->error_count));
    cli_json_bool(object, "fitted_on_the_same_row", result->same_row);
    cli_json_real(object, "exact_loss", result->exact_loss);
    cli_json_real(object, "mixed_loss", result->mixed_loss);
    cli_json_int(object, "tokens", result->tokens);
    cli_json_real(object, "seconds", result->seconds);
    cli_json_int(object, "planned_peak_bytes", result->planned_peak_bytes);
    cli_json_int(object, "peak_rss_bytes", result->peak_rss_bytes);
    if (saved != NULL)
        cli_json_text(object, "output_dir", saved);
    cli_json_print(stdout, object);
}

static void print_text(const cli_session *session, const fur_audit_settings *settings, const fur_audit_result *result,
                       bool almost_linear)
{
    char a[CLI_UNIT], b[CLI_UNIT], c[CLI_UNIT];
    const cli_style *style = &session->out;
    int64_t exact = exact_heads(result), count = result->error_count;
    cli_head_errors_print(result->errors, count, MOST_ROWS, almost_linear ? "is" : "becomes", stdout, style);
    if (result->same_row)
        printf("the text has one row of this context: fitted and measured on the same, which flatters\n");
    if (almost_linear) {
        printf("loss %.6f nats per token over %s tokens\n", result->exact_loss, cli_thousands(a, result->tokens));
    } else if (exact == count) {
        printf("%sall %" PRId64
               " heads stay exact%s: the output of each, or of one that shares its keys, would be off by "
               "more than %.1e\n",
               style->bold, count, style->off, settings->max_error);
        printf("loss %.6f nats per token over %s tokens, unchanged\n", result->exact_loss,
               cli_thousands(a, result->tokens));
    } else {
        printf("%s%" PRId64 " of %" PRId64 " heads can be almost-linear%s; the others stay exact\n", style->bold,
               count - exact, count, style->off);
        printf("loss %.6f exact, %.6f so, %+.1e, over %s tokens\n", result->exact_loss, result->mixed_loss,
               result->mixed_loss - result->exact_loss, cli_thousands(a, result->tokens));
    }
    cli_say(session, "%s; peak memory %s, planned %s", cli_seconds(a, result->seconds),
            cli_bytes(b, result->peak_rss_bytes), cli_bytes(c, result->planned_peak_bytes));
}

/* The model with almost-linear heads, into the folder that was made before all work. */
static int save(const cli_session *session, const fur_model *mixed, const char *folder)
{
    if (mixed == NULL) {
        (void)rmdir(folder);
        cli_say(session, "--output-dir: nothing saved, since no head changes");
        return CLI_OK;
    }
    fur_status status = fur_model_save(session->context, mixed, folder);
    return status == FUR_OK ? CLI_OK : cli_fail(session, status);
}

static int audit(cli_session *session, fur_model *model)
{
    const cli_options *options = session->options;
    const fur_model_config *config = fur_model_config_of(model);
    fur_corpus *corpus = NULL;
    fur_model *mixed = NULL;
    fur_audit_settings settings;
    fur_audit_result result;
    fur_audit_settings_defaults(&settings);
    bool almost_linear = cli_almost_linear_layers(config) > 0;
    static const char *const shaping[] = {"degree", "chunk", "max-features", "max-error", "output-dir"};
    for (size_t i = 0; i < sizeof shaping / sizeof shaping[0] && almost_linear; i++)
        if (cli_given(options, shaping[i]))
            return cli_refuse(session, CLI_USAGE,
                              "--%s: the model has almost-linear layers, which are measured as they are", shaping[i]);
    settings.context_tokens = options->context > 0 ? options->context : config->context < 2048 ? config->context : 2048;
    if (settings.context_tokens > config->context)
        return cli_refuse(session, CLI_USAGE, "--ctx-size: the model has positions up to %" PRId64 ", got %" PRId64,
                          config->context, settings.context_tokens);
    settings.max_error = cli_given(options, "max-error") ? options->max_error : settings.max_error;
    settings.degree = cli_given(options, "degree") ? options->degree : settings.degree;
    settings.chunk = cli_given(options, "chunk") ? options->chunk : settings.chunk;
    settings.max_features = cli_given(options, "max-features") ? options->max_features : settings.max_features;
    settings.max_tokens = options->max_tokens;
    settings.seed = (uint64_t)options->seed;
    int code = cli_memory_limit(session, &settings.memory_bytes, NULL);
    if (code == CLI_OK)
        code = cli_corpus_open(session, &options->files, config->vocabulary, &corpus);
    if (code != CLI_OK)
        return code;
    if (options->output_dir != NULL && mkdir(options->output_dir, 0777) != 0)
        code = cli_refuse(session, CLI_FAILED, "--output-dir: %s: %s", options->output_dir, strerror(errno));
    fur_status status =
        code == CLI_OK ? fur_audit(session->context, model, corpus, &settings, &result, &mixed) : FUR_E_IO;
    fur_corpus_close(corpus);
    if (code != CLI_OK)
        return code;
    if (status != FUR_OK) {
        if (options->output_dir != NULL)
            (void)rmdir(options->output_dir);
        return cli_fail_data(session, status);
    }
    if (options->output_dir != NULL)
        code = save(session, mixed, options->output_dir);
    if (options->json)
        print_json(&settings, &result, mixed != NULL ? options->output_dir : NULL);
    else
        print_text(session, &settings, &result, almost_linear);
    fur_audit_result_clear(&result);
    if (mixed != NULL)
        fur_model_destroy(mixed);
    return code;
}

int verb_audit(cli_session *session)
{
    const cli_options *options = session->options;
    struct stat info;
    if (options->model == NULL)
        return cli_refuse(session, CLI_USAGE, "--model: expected the folder of a model, such as -m runs/book-1");
    if (options->files.count == 0)
        return cli_refuse(session, CLI_USAGE, "--file: expected a text to measure on, such as -f book.txt");
    if (options->output_dir != NULL && lstat(options->output_dir, &info) == 0)
        return cli_refuse(session, CLI_USAGE, "--output-dir: %s exists already", options->output_dir);
    return cli_with_model(session, audit);
}
