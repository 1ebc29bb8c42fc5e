/* SPDX-License-Identifier: Apache-2.0 */
/* furlong eval: loss of a model on a text, by position; or its accuracy on multiple-choice items. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "report.h"
#include "verb.h"

static json_t *positions_json(const fur_eval_result *result)
{
    json_t *list = json_array();
    for (int i = 0; i < result->buckets; i++) {
        json_t *object = json_object();
        cli_json_int(object, "first", result->bucket_first[i]);
        cli_json_int(object, "tokens", result->bucket_tokens[i]);
        cli_json_real(object, "loss", result->bucket_tokens[i] > 0 ? result->bucket_loss[i] : (double)NAN);
        (void)json_array_append_new(list, object);
    }
    return list;
}

static void print_result(const cli_session *session, const fur_eval_result *result)
{
    char a[CLI_UNIT], b[CLI_UNIT], loss[CLI_UNIT], bits[CLI_UNIT] = "", name[CLI_TWO_UNITS];
    const cli_style *style = &session->out;
    bool bytes = isfinite(result->bits_per_byte);
    int bucket;
    printf("%sloss %.4f%s nats per token, perplexity %.4g", style->bold, result->loss, style->off, exp(result->loss));
    if (bytes)
        printf(", %s%.4f bits per byte%s", style->bold, result->bits_per_byte, style->off);
    printf(", over %s tokens\n", cli_thousands(a, result->tokens));
    cli_table table;
    cli_table_init(&table, "lrrr", "position", "tokens", "loss", bytes ? "bits per byte" : "");
    for (int i = 0; i < result->buckets; i++) {
        if (result->bucket_tokens[i] == 0)
            continue;
        cli_bucket_name(name, result, i);
        (void)snprintf(loss, sizeof loss, "%.4f", result->bucket_loss[i]);
        if (bytes)
            (void)snprintf(bits, sizeof bits, "%.4f", result->bucket_loss[i] / log(2.0));
        cli_table_row(&table, name, cli_thousands(a, result->bucket_tokens[i]), loss, bits);
    }
    cli_table_print(&table, stdout, style);
    cli_table_clear(&table);
    if (cli_loss_rises(result, &bucket)) {
        cli_bucket_name(name, result, bucket);
        printf("the loss rises with distance at %s: a longer context does not help there\n", name);
    }
    cli_say(session, "%s; peak memory %s, planned %s", cli_seconds(a, result->seconds),
            cli_bytes(b, result->peak_rss_bytes), cli_bytes((char[CLI_UNIT]){0}, result->planned_peak_bytes));
}

static int evaluate(cli_session *session, fur_model *model)
{
    const cli_options *options = session->options;
    const fur_model_config *config = fur_model_config_of(model);
    fur_corpus *corpus = NULL;
    fur_corpus_info info;
    fur_eval_result result;
    int64_t memory;
    int code = cli_memory_limit(session, &memory, NULL);
    if (code == CLI_OK)
        code = cli_corpus_open(session, &options->files, config->vocabulary, &corpus);
    if (code != CLI_OK)
        return code;
    fur_corpus_info_read(corpus, &info);
    int64_t context = options->context;
    if (context == 0)
        context = config->context < 2048 ? config->context : 2048;
    if (context > config->context)
        code = cli_refuse(session, CLI_USAGE, "--ctx-size: the model has positions up to %" PRId64 ", got %" PRId64,
                          config->context, context);
    if (code == CLI_OK && options->stride > context)
        code = cli_refuse(session, CLI_USAGE, "--stride: %" PRId64 ", expected at most the context of %" PRId64,
                          options->stride, context);
    if (code == CLI_OK) {
        fur_eval_settings settings;
        fur_eval_settings_defaults(&settings);
        settings.context_tokens = context;
        settings.stride = options->stride;
        settings.max_tokens = options->max_tokens;
        settings.memory_bytes = memory;
        fur_status status = fur_evaluate(session->context, model, corpus, &settings, &result);
        if (status != FUR_OK)
            code = cli_fail_data(session, status);
    }
    if (code == CLI_OK && options->json) {
        json_t *object = json_object();
        cli_json_real(object, "loss", result.loss);
        cli_json_real(object, "perplexity", exp(result.loss));
        cli_json_real(object, "bits_per_byte", result.bits_per_byte);
        cli_json_int(object, "tokens", result.tokens);
        cli_json_int(object, "context", context);
        if (options->stride > 0)
            cli_json_int(object, "stride", options->stride);
        (void)json_object_set_new(object, "by_position", positions_json(&result));
        cli_json_real(object, "seconds", result.seconds);
        cli_json_int(object, "peak_rss_bytes", result.peak_rss_bytes);
        cli_json_int(object, "planned_peak_bytes", result.planned_peak_bytes);
        cli_json_print(stdout, object);
    } else if (code == CLI_OK) {
        print_result(session, &result);
    }
    fur_corpus_close(corpus);
    return code;
}

/* ---- multiple choice -------------------------------------------------------------------------------------------- */

static void print_accuracy(const cli_session *session, const fur_choices_info *info, const fur_choices_result *result)
{
    char a[CLI_UNIT], b[CLI_UNIT];
    const cli_style *style = &session->out;
    cli_table table;
    printf("%s items of %.3g choices, chance %.4f\n", cli_thousands(a, result->items),
           (double)info->choices / (double)info->items, info->chance);
    cli_table_init(&table, "lrr", "score", "accuracy", "standard error");
    const struct {
        const char *name;
        double accuracy, error;
    } rows[] = {{"log-likelihood", result->accuracy, result->accuracy_error},
                {"log-likelihood per byte", result->byte_accuracy, result->byte_accuracy_error}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char accuracy[CLI_UNIT], error[CLI_UNIT] = "";
        (void)snprintf(accuracy, sizeof accuracy, "%.4f", rows[i].accuracy);
        if (isfinite(rows[i].error))
            (void)snprintf(error, sizeof error, "%.4f", rows[i].error);
        cli_table_row(&table, rows[i].name, accuracy, error);
    }
    cli_table_print(&table, stdout, style);
    cli_table_clear(&table);
    cli_say(session, "%s; peak memory %s, planned %s", cli_seconds(a, result->seconds),
            cli_bytes(b, result->peak_rss_bytes), cli_bytes((char[CLI_UNIT]){0}, result->planned_peak_bytes));
}

static void print_accuracy_json(const fur_choices_info *info, const fur_choices_result *result)
{
    json_t *object = json_object();
    cli_json_real(object, "accuracy", result->accuracy);
    cli_json_real(object, "accuracy_stderr", result->accuracy_error);
    cli_json_real(object, "accuracy_per_byte", result->byte_accuracy);
    cli_json_real(object, "accuracy_per_byte_stderr", result->byte_accuracy_error);
    cli_json_real(object, "chance", info->chance);
    cli_json_int(object, "items", result->items);
    cli_json_int(object, "choices", info->choices);
    cli_json_int(object, "skipped_lines", info->skipped_lines);
    cli_json_int(object, "tokens", info->tokens);
    cli_json_int(object, "row_tokens", result->row_tokens);
    cli_json_real(object, "seconds", result->seconds);
    cli_json_int(object, "peak_rss_bytes", result->peak_rss_bytes);
    cli_json_int(object, "planned_peak_bytes", result->planned_peak_bytes);
    cli_json_print(stdout, object);
}

static int score(cli_session *session, fur_model *model)
{
    const cli_options *options = session->options;
    fur_choices_settings settings;
    fur_choices *choices;
    fur_choices_info info;
    fur_choices_result result;
    int64_t memory;
    int code = cli_memory_limit(session, &memory, NULL);
    if (code == CLI_OK && fur_model_config_of(model)->features > 0)
        code = cli_refuse(session, CLI_BAD_INPUT, "%s: the model reads real vectors, expected one that reads tokens",
                          options->model);
    if (code != CLI_OK)
        return code;
    fur_choices_settings_defaults(&settings);
    settings.path = options->task;
    settings.skip_bad = options->skip_bad;
    char *tokenizer = cli_tokenizer_name(session);
    if (tokenizer == NULL)
        return CLI_BAD_INPUT;
    settings.tokenizer = tokenizer;
    fur_status status = fur_choices_open(session->context, &settings, &choices);
    cli_free(tokenizer);
    if (status != FUR_OK)
        return cli_fail_input(session, status);
    fur_choices_info_read(choices, &info);
    status = fur_score_choices(session->context, model, choices, 0, memory, NULL, &result);
    if (status == FUR_E_SHAPE)
        code = cli_fail_input(session, status); /* an item, which the text names, does not fit the model */
    else if (status != FUR_OK)
        code = cli_fail(session, status);
    else if (options->json)
        print_accuracy_json(&info, &result);
    else
        print_accuracy(session, &info, &result);
    fur_choices_close(choices);
    return code;
}

static int verb_eval_task(cli_session *session)
{
    static const char *const others[] = {"file", "ctx-size", "stride", "max-tokens"};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        if (cli_source_of(session->options, others[i]) == CLI_FROM_COMMAND)
            return cli_refuse(session, CLI_USAGE, "--task and --%s: expected one of them, since items are read whole",
                              others[i]);
    return cli_with_used_model(session, score);
}

int verb_eval(cli_session *session)
{
    const cli_options *options = session->options;
    if (options->model == NULL)
        return cli_refuse(session, CLI_USAGE, "--model: expected the folder of a model, such as -m runs/book-1");
    if (options->task != NULL)
        return verb_eval_task(session);
    if (options->files.count == 0)
        return cli_refuse(session, CLI_USAGE, "--file: expected a text to evaluate on, such as -f book.txt, or --task");
    return cli_with_used_model(session, evaluate);
}
