/* SPDX-License-Identifier: Apache-2.0 */
/* furlong long-step, used by demo: one optimizer step over one document, in a process that cannot allocate more than
 * --memory besides what its libraries set aside, and that says at its end how much it had at most. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "verb.h"

typedef struct long_step {
    double seconds, loss, planned_seconds;
    int64_t planned_peak_bytes;
} long_step;

static void on_event(void *user, const fur_train_event *event)
{
    long_step *step = user;
    if (event->type == FUR_EVENT_PLAN && event->plan != NULL) {
        step->planned_seconds = event->plan->seconds;
        step->planned_peak_bytes = event->plan->peak_bytes;
    } else if (event->type == FUR_EVENT_STEP) {
        step->seconds = event->step_seconds;
        step->loss = event->loss;
        step->planned_peak_bytes = event->planned_peak_bytes;
    } else if (event->type == FUR_EVENT_PROGRESS) {
        json_t *object = json_object();
        cli_json_real(object, "progress", event->progress);
        cli_json_real(object, "seconds_left", event->seconds_left);
        cli_json_print(stdout, object);
    }
}

static int run(cli_session *session, const fur_corpus *corpus, const char *folder)
{
    const cli_options *options = session->options;
    fur_train_settings settings;
    fur_train_result result;
    long_step step = {0};
    fur_train_settings_defaults(&settings);
    settings.init_from = folder;
    settings.output_dir = options->output_dir;
    settings.row_tokens = options->context;
    settings.phases[0].context = options->context;
    settings.phase_count = 1;
    settings.max_steps = 1;
    settings.grad_accum = 1;
    settings.lr = settings.min_lr = 1e-4;
    settings.grad_clip = 1.0;
    settings.log_steps = 1;
    settings.held_out = 0.0;
    settings.memory_bytes = options->memory;
    fur_status status = fur_train_run(session->context, &settings, corpus, NULL, on_event, &step, &result);
    if (status != FUR_OK)
        return cli_fail(session, status);
    json_t *object = json_object();
    cli_json_int(object, "tokens", options->context);
    cli_json_real(object, "seconds", step.seconds);
    cli_json_real(object, "planned_seconds", step.planned_seconds);
    cli_json_real(object, "loss", step.loss);
    cli_json_int(object, "planned_peak_bytes", step.planned_peak_bytes);
    cli_json_int(object, "peak_rss_bytes", fur_process_peak_rss_bytes());
    cli_json_int(object, "limit_bytes", options->memory);
    cli_json_print(stdout, object);
    return CLI_OK;
}

/* Bytes of a line such as "VmData:    1234 kB" of the process's status; 0 where there is none. */
static rlim_t status_bytes(const char *name)
{
    char line[128];
    unsigned long long kilobytes = 0;
    FILE *file = fopen("/proc/self/status", "re");
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        if (strncmp(line, name, strlen(name)) == 0)
            kilobytes = strtoull(line + strlen(name), NULL, 10);
    if (file != NULL)
        (void)fclose(file);
    return (rlim_t)kilobytes << 10;
}

/* What libraries mapped for themselves when they were loaded and have not touched: OpenBLAS 128 MiB a thread. */
static rlim_t untouched_bytes(void)
{
    rlim_t data = status_bytes("VmData:"), resident = status_bytes("RssAnon:");
    return data > resident ? data - resident : 0;
}

int verb_long_step(cli_session *session)
{
    const cli_options *options = session->options;
    fur_corpus *corpus = NULL;
    if (options->model == NULL || options->files.count == 0 || options->context == 0 || options->memory == 0 ||
        options->output_dir == NULL)
        return cli_refuse(session, CLI_USAGE, "expected %s", cli_verbs[CLI_LONG_STEP].usage);
    /* the limit counts everything private and writable: heap, mapped memory, thread stacks */
    rlim_t bytes = (rlim_t)options->memory + untouched_bytes();
    struct rlimit limit = {bytes, bytes};
    if (setrlimit(RLIMIT_DATA, &limit) != 0)
        return cli_refuse(session, CLI_FAILED, "limit of data: %s", strerror(errno));
    int code = cli_session_open(session);
    if (code != CLI_OK)
        return code;
    cli_signals_remove(); /* nothing here is worth finishing: a signal ends it at once */
    char *folder = cli_model_folder(session, options->model);
    code = folder != NULL ? cli_corpus_open(session, &options->files, 0, &corpus) : CLI_BAD_INPUT;
    if (code == CLI_OK)
        code = run(session, corpus, folder);
    if (corpus != NULL)
        fur_corpus_close(corpus);
    cli_free(folder);
    return code;
}
